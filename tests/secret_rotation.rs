//! Promises: the installation's key is changed while daemons sign mail; a rotation that is
//! killed is gone on with; a key that is missing or wrong is named by its version and never by
//! what it holds; what operators do with keys is on record.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::builders;
use crate::support::command::{KEY, Ran, command, ran};
use crate::support::installation::{Daemon, Installation};
use serde_json::Value;

/// The new key.
const NEW: &str = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU=";

/// Only a broken program reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Domains with a DKIM key each.
const DOMAINS: usize = 10;

struct House {
    home: Installation,
    tenant: i64,
}

impl House {
    async fn new() -> Self {
        let home = Installation::new(None).await;
        let tenant = builders::tenant(&home.owner, "acme").await;
        let house = Self { home, tenant };
        for n in 0..DOMAINS {
            let domain = format!("d{n}.example");
            let args = ["domain", "add", "--tenant", "acme", "--algorithm", "ed25519", &domain];
            house.done(KEY, &args);
        }
        let create =
            ["webhook", "create", "--tenant", "acme", "https://hooks.acme.example/", "--json"];
        let made: Value = serde_json::from_str(&house.done(KEY, &create)).expect("JSON");
        // Nobody is to be told anything here.
        let id = made["id"].as_str().expect("an id");
        house.done(KEY, &["webhook", "disable", "--tenant", "acme", id]);
        house
    }

    /// Runs the tool with this key.
    fn run(&self, key: &str, args: &[&str]) -> Ran {
        let mut command = command(&self.home.database().url(), args);
        let ran = ran(&command.env("POSTRIDER_KEY", key).output().expect("run postrider"));
        for secret in [KEY, NEW] {
            assert!(!ran.out.contains(secret) && !ran.err.contains(secret), "a key was shown");
        }
        ran
    }

    fn done(&self, key: &str, args: &[&str]) -> String {
        let ran = self.run(key, args);
        assert_eq!(ran.code, 0, "{args:?}: {}{}", ran.out, ran.err);
        ran.out
    }

    fn status(&self, key: &str) -> Value {
        let ran = self.run(key, &["secret", "status", "--json"]);
        serde_json::from_str(&ran.out).expect("JSON")
    }

    /// DKIM keys and webhooks' secrets under a version.
    fn under(&self, version: i64) -> (i64, i64) {
        let status = self.status(&both());
        let of = status["versions"].as_array().expect("versions").iter();
        let of = of.filter(|of| of["version"] == version);
        let count = |of: &Value, what: &str| of[what].as_i64().expect("a number");
        of.map(|of| (count(of, "dkim_keys"), count(of, "webhook_secrets"))).next().unwrap_or((0, 0))
    }

    /// A rotation that takes its time.
    fn slow_rotation(&self) -> Child {
        let args = ["secret", "rotate", "--batch", "1", "--pause", "1000"];
        command(&self.home.database().url(), &args)
            .env("POSTRIDER_KEY", both())
            .stdout(Stdio::null())
            .spawn()
            .expect("start postrider")
    }

    /// A mail of this domain, and whether it came signed.
    async fn mails_signed(&self, domain: &str, daemon: &Daemon) {
        let before = self.home.sink.stats().accepted;
        let to = builders::recipients(3, "example.org");
        builders::submit(&self.home.api, self.tenant, domain, "transactional", &to).await;
        self.home.drained(daemon).await;
        self.home.sink_has(before + 3).await;
        let mails = self.home.sink.mails();
        let from = format!("@{domain}.example");
        let ours: Vec<_> = mails
            .iter()
            .filter(|mail| mail.header("From").is_some_and(|f| f.contains(&from)))
            .collect();
        assert!(ours.len() >= 3);
        for mail in ours {
            let signature = mail.header("DKIM-Signature").expect("signed");
            assert!(signature.contains(&format!("d={domain}.example")), "{signature}");
        }
    }
}

fn both() -> String {
    format!("1:{KEY}\n2:{NEW}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_is_changed_while_a_daemon_signs() {
    let house = House::new().await;
    let config = house.home.configure("");
    let everything = (DOMAINS as i64, 1);
    assert_eq!(house.under(1), everything);
    let key = both();
    let daemon = house.home.launch(&config, &[("POSTRIDER_KEY", &key)]);
    house.mails_signed("d0", &daemon).await;

    // Killed in the middle: what is done is done.
    let mut rotation = house.slow_rotation();
    let started = Instant::now();
    while house.under(2).0 < 3 {
        assert!(started.elapsed() < PATIENCE && rotation.try_wait().expect("ask").is_none());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    rotation.kill().expect("kill -9");
    rotation.wait().expect("reap");
    let (old, new) = (house.under(1), house.under(2));
    assert!(old.0 > 0 && new.0 >= 3 && old.0 + new.0 == DOMAINS as i64, "{old:?} {new:?}");
    house.mails_signed("d1", &daemon).await;
    house.mails_signed("d9", &daemon).await;

    let words = house.done(&both(), &["secret", "rotate"]);
    println!("{words}");
    assert!(words.contains("sealed anew under version 2"), "{words}");
    assert!(words.contains("can be taken away from"), "{words}");
    assert_eq!((house.under(1), house.under(2)), ((0, 0), everything));
    house.mails_signed("d2", &daemon).await;
    assert!(house.done(&both(), &["secret", "rotate"]).starts_with("0 sealed anew"));
    assert_eq!(daemon.terminate().await, Some(0));

    // Whoever knows only the old key waits, and says which it lacks.
    let stale = house.home.launch(&config, &[("POSTRIDER_KEY", KEY)]);
    let to = builders::recipients(1, "example.org");
    builders::submit(&house.home.api, house.tenant, "d3", "transactional", &to).await;
    stale.metric_appears("postrider_claims_total").await;
    stale.metric_reaches("postrider_postponed_total{reason=\"not_ready\"}", 1.0).await;
    let said = stale.words();
    assert!(
        said.contains("sealed under key version 2") && said.contains("only version 1"),
        "{said}"
    );
    assert!(!said.contains(KEY) && !said.contains(NEW));
    assert_eq!(stale.terminate().await, Some(0));

    // The old key is away, and the mail that waited goes.
    let only_new = format!("2:{NEW}");
    sqlx::query("update postrider.deferred set due_at = now()")
        .execute(&house.home.owner)
        .await
        .expect("need not wait");
    let after = house.home.launch(&config, &[("POSTRIDER_KEY", &only_new)]);
    house.mails_signed("d4", &after).await;
    assert_eq!(builders::attempts(&house.home.owner, 1).await, 3 * 5 + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_missing_or_wrong_is_named_and_the_rest_goes_on() {
    let house = House::new().await;
    // One value lies under a version that nobody has, one was sealed by another key 1.
    house.done(
        &format!("1:{KEY} 7:{NEW}"),
        &["domain", "add", "--tenant", "acme", "--algorithm", "ed25519", "lost.example"],
    );
    house.done(
        NEW,
        &["domain", "add", "--tenant", "acme", "--algorithm", "ed25519", "other.example"],
    );
    let ran = house.run(&both(), &["secret", "rotate"]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(
        ran.out
            .contains("postrider-ed of lost.example: a private key was sealed under key version 7"),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains(
            "postrider-ed of other.example: a private key does not open under key version 1"
        ),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("version 7 is not configured here, and 1 lie under it"),
        "{}",
        ran.out
    );
    assert_eq!(house.under(2), (DOMAINS as i64, 1), "the others are done");

    // The fault of a key names its place and its version.
    let bad = house.run(&format!("1:{KEY} 2:hunter2"), &["secret", "status"]);
    assert_ne!(bad.code, 0);
    assert!(bad.err.contains("key version 2") && !bad.err.contains("hunter2"), "{}", bad.err);

    // Known everywhere before anything is sealed under it.
    let held = format!("1:{KEY} 2:open:{NEW}");
    assert_eq!(house.status(&held)["newest"], 1);

    house.done(KEY, &["key", "create", "--tenant", "acme", "--name", "checkout"]);
    let recorded: Vec<(String, String)> =
        sqlx::query_as("select action, target from postrider.operator_action order by action_id")
            .fetch_all(&house.home.owner)
            .await
            .expect("actions");
    let count = |action: &str| recorded.iter().filter(|(done, _)| done == action).count();
    assert_eq!(count("domain add"), DOMAINS + 2, "{recorded:?}");
    assert_eq!((count("webhook create"), count("key create")), (1, 1), "{recorded:?}");
    assert_eq!((count("secret rotate"), count("secret rotated")), (1, 1), "{recorded:?}");
    assert!(recorded.contains(&("secret rotate".into(), "key version 2".into())));
}
