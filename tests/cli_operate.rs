//! The operator's tool as a process: what it does, what it shows, and how it ends.

use std::time::Duration;

use crate::support::builders;
use crate::support::command::{KEY, bare, command, facts, postrider, ran};
use crate::support::postgres::{Role, TestDb};
use postrider::config::Secrets;
use postrider::config::secret::Secret;
use postrider::domain::ids::{DeliveryId, MessageId, TenantId};
use postrider::queue::admin::audit::{Extent, audit};
use postrider::queue::job::Job;
use postrider::queue::lane::{self, Blocks};
use postrider::tenant::auth::authenticate;
use postrider::tenant::domain::DomainError;
use postrider::tenant::key::ApiKey;
use postrider::tenant::seal::{SealError, Sealer};
use postrider::tenant::signers::DomainKeys;
use sqlx::PgPool;

/// Two tenants with a domain each.
struct House {
    db: TestDb,
    owner: PgPool,
    shop: i64,
    bank: i64,
}

impl House {
    async fn new() -> Self {
        let db = TestDb::new().await;
        let owner = db.pool(Role::Owner).await;
        let shop = builders::tenant(&owner, "shop").await;
        let bank = builders::tenant(&owner, "bank").await;
        Self { db, owner, shop, bank }
    }

    async fn mail(&self, tenant: &str, recipients: usize) -> MessageId {
        let api = self.db.pool(Role::Api).await;
        let id = if tenant == "shop" { self.shop } else { self.bank };
        let to = builders::recipients(recipients, "example.org");
        builders::submit(&api, id, tenant, "transactional", &to).await
    }

    /// Claims everything and makes dead letters of it.
    async fn bury(&self, reason: &str) -> Vec<Job> {
        let worker = self.db.pool(Role::Worker).await;
        let session = builders::session(&worker, Duration::from_secs(60)).await;
        let jobs = builders::claim_all(&worker, session.id(), 100).await;
        sqlx::query(
            "with l as (delete from postrider.lease returning *)
             insert into postrider.dead_letter
               (tenant_id, job_id, message_id, lane_id, attempts, hold, reason, detail, recipient, payload)
             select l.tenant_id, l.job_id, j.message_id, l.lane_id, l.attempt, l.hold, $1,
               E'undefined value: \\x1b[31mname', j.recipient, j.payload
             from l join postrider.job j using (job_id)",
        )
        .bind(reason)
        .execute(&self.owner)
        .await
        .expect("bury");
        jobs
    }

    /// The tool must end with code 1 and say this.
    fn refused(&self, args: &[&str], says: &str) {
        let ran = postrider(&self.db, args);
        assert_eq!(ran.code, 1, "{args:?}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains(says), "{args:?}: expected {says:?} in {}", ran.err);
        assert_eq!(ran.out, "", "{args:?}: errors go to standard error");
    }

    /// The tool must end with code 0; what it said.
    fn done(&self, args: &[&str]) -> String {
        let ran = postrider(&self.db, args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        ran.out
    }

    async fn adds_up(&self) {
        let operator = self.db.pool(Role::Operator).await;
        let sums = audit(&operator, Extent { most: 10, ..Extent::default() }).await.expect("audit");
        assert!(sums.adds_up(), "{sums:?}");
    }

    async fn count(&self, table: &str) -> i64 {
        builders::rows(&self.owner, table).await
    }
}

#[tokio::test]
async fn tenants_are_made_listed_suspended_and_activated() {
    let house = House::new().await;
    let made = facts(&house.db, &["tenant", "create", "club", "--weight", "200"]);
    assert_eq!((&made["name"], &made["state"]), (&"club".into(), &"active".into()));
    house.refused(&["tenant", "create", "club"], "already a tenant");
    house.refused(&["tenant", "create", "Club!"], "lower-case letters");
    house.refused(&["tenant", "suspend", "pub"], "no tenant \"pub\"");

    house.mail("shop", 1).await;
    let status = facts(&house.db, &["queue", "status"]);
    assert_eq!(status["lanes"][0]["next_due_seconds"], serde_json::Value::Null);
    house.done(&["tenant", "suspend", "shop"]);
    let names = facts(&house.db, &["tenant", "list"]);
    let states: Vec<_> = names.as_array().expect("a list").iter().map(|t| &t["state"]).collect();
    assert_eq!(states, ["active", "active", "suspended"]);
    let status = facts(&house.db, &["queue", "status"]);
    assert_eq!(status["lanes"][0]["held_back"], "suspended");
    // A pause does not hide the suspension, and its end does not lift it.
    house.refused(&["queue", "pause", "--tenant", "shop", "--reason", "x"], "suspended");
    house.refused(&["queue", "resume", "--tenant", "shop"], "tenant activate");
    house.done(&["tenant", "activate", "shop"]);
    assert_eq!(house.count("block").await, 0);
}

#[tokio::test]
async fn a_key_is_shown_once_works_and_is_refused_when_revoked() {
    let house = House::new().await;
    let made = facts(&house.db, &["key", "create", "--tenant", "shop", "--name", "till"]);
    let (key, prefix) =
        (made["key"].as_str().expect("a key"), made["prefix"].as_str().expect("a prefix"));
    let api = house.db.pool(Role::Api).await;
    let key = ApiKey::parse(key).expect("a key");
    let caller = authenticate(&api, &key).await.expect("ask").expect("known");
    assert_eq!(caller.tenant_name, "shop");

    let list = house.done(&["key", "list", "--tenant", "shop"]);
    assert!(list.contains(prefix) && list.contains("till"), "{list}");
    assert!(!list.contains(&key.reveal()[12..]), "the secret part is not kept");
    let list = facts(&house.db, &["key", "list", "--tenant", "bank"]);
    assert_eq!(list, serde_json::json!([]), "another tenant's keys are not shown");
    house.refused(&["key", "revoke", "--tenant", "bank", prefix], "has no key");
    assert!(authenticate(&api, &key).await.expect("ask").is_some(), "still good");

    house.done(&["key", "revoke", "--tenant", "shop", prefix]);
    house.done(&["key", "revoke", "--tenant", "shop", prefix]);
    assert!(authenticate(&api, &key).await.expect("ask").is_none());
}

#[tokio::test]
async fn a_domain_gets_sealed_keys_and_prints_what_to_publish() {
    let house = House::new().await;
    let words = house.done(&["domain", "add", "--tenant", "shop", "Mail.Shop.Example"]);
    for part in [
        "postrider-rsa._domainkey.mail.shop.example.  TXT",
        "postrider-ed._domainkey.mail.shop.example.  TXT",
        "v=DKIM1; k=rsa;",
        "v=DKIM1; k=ed25519;",
        "v=spf1 ",
        "_dmarc.mail.shop.example.  TXT",
        "return path",
    ] {
        assert!(words.contains(part), "expected {part:?} in\n{words}");
    }
    house.refused(&["domain", "add", "--tenant", "shop", "mail.shop.example"], "--selector");
    house.refused(&["domain", "add", "--tenant", "bank", "mail.shop.example"], "another tenant");
    house.refused(
        &["domain", "add", "--tenant", "shop", "x", "--algorithm", "ed25519"],
        "like shop.example",
    );
    house.refused(&["domain", "show", "--tenant", "bank", "mail.shop.example"], "has no domain");
    house.refused(&["domain", "remove", "--tenant", "bank", "mail.shop.example"], "has no domain");
    let args = [
        "domain",
        "add",
        "--tenant",
        "shop",
        "mail.shop.example",
        "--selector",
        "y2",
        "--algorithm",
        "ed25519",
    ];
    let shown = facts(&house.db, &args);
    assert_eq!(shown["domain"]["keys"].as_array().expect("keys").len(), 3);
    assert_eq!(
        shown,
        facts(&house.db, &["domain", "show", "--tenant", "shop", "mail.shop.example"])
    );

    let stored: Vec<Vec<u8>> = sqlx::query_scalar("select sealed from postrider.dkim_key")
        .fetch_all(&house.owner)
        .await
        .expect("keys");
    assert!(stored.iter().all(|sealed| sealed[0] == 1), "sealed, not plain PKCS#8");
    let worker = || house.db.pool(Role::Worker);
    let sealer =
        |key: &str| Sealer::new(&Secrets { key: Some(Secret::new(key)) }).expect("a sealer");
    let shop = TenantId::new(house.shop);
    let keys = DomainKeys::new(worker().await, sealer(KEY));
    assert_eq!(keys.signers(shop, "mail.shop.example").await.expect("signers").len(), 3);
    let bank = keys.signers(TenantId::new(house.bank), "mail.shop.example").await;
    assert!(matches!(bank, Err(DomainError::NoKey { .. })), "not the bank's");
    let other =
        DomainKeys::new(worker().await, sealer("YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU="));
    let refused = other.signers(shop, "mail.shop.example").await.expect_err("another key");
    assert!(matches!(refused, DomainError::Seal(SealError::Refused { version: 1 })), "{refused}");

    // A row moved to another selector does not open.
    sqlx::query("update postrider.dkim_key set selector = 'moved' where selector = 'y2-ed'")
        .execute(&house.owner)
        .await
        .expect("move");
    let moved = DomainKeys::new(worker().await, sealer(KEY));
    assert!(moved.signers(shop, "mail.shop.example").await.is_err());

    house.done(&["domain", "remove", "--tenant", "shop", "mail.shop.example"]);
    let gone = DomainKeys::new(worker().await, sealer(KEY));
    let none = gone.signers(shop, "mail.shop.example").await;
    assert!(matches!(none, Err(DomainError::NoKey { .. })), "never none in silence");
}

#[tokio::test]
async fn without_the_installations_key_no_domain_is_added() {
    let house = House::new().await;
    let mut add = command(&house.db.url(), &["domain", "add", "--tenant", "shop", "a.example"]);
    let ran = ran(&add.env_remove("POSTRIDER_KEY").output().expect("run"));
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("POSTRIDER_KEY") && ran.err.contains("openssl rand"), "{}", ran.err);
    assert_eq!(house.count("dkim_key").await, 0);
}

#[tokio::test]
async fn the_queue_is_shown_held_back_and_let_go() {
    let house = House::new().await;
    let message = house.mail("shop", 3).await;
    let theirs = house.mail("bank", 2).await;
    let status = facts(&house.db, &["queue", "status"]);
    let ready: Vec<_> =
        status["lanes"].as_array().expect("lanes").iter().map(|l| &l["ready"]).collect();
    assert_eq!(ready, [2, 3]);
    let words = house.done(&["queue", "status", "--tenant", "shop"]);
    assert!(words.contains("shop") && !words.contains("bank"), "{words}");
    assert!(words.contains("start postriderd"), "{words}");

    let pause = [
        "queue",
        "pause",
        "--tenant",
        "shop",
        "--stream",
        "transactional",
        "--reason",
        "wrong prices",
    ];
    house.done(&[&pause[..], &["--for", "2h"]].concat());
    let worker = house.db.pool(Role::Worker).await;
    let blocked = lane::look(&worker, 60.0).await.expect("look").orders.blocks;
    assert_ne!(blocked, Blocks::default(), "the claimers see it");
    let status = facts(&house.db, &["queue", "status"]);
    assert_eq!(status["held_back"][0]["name"], "shop/transactional");
    assert_eq!(status["held_back"][0]["reason"], "wrong prices");
    assert!(status["held_back"][0]["seconds_left"].as_f64().is_some_and(|left| left > 7_100.0));
    assert_eq!(status["lanes"][1]["held_back"], "wrong prices");
    let resumed =
        facts(&house.db, &["queue", "resume", "--tenant", "shop", "--stream", "transactional"]);
    assert_eq!(resumed["was_paused"], true);
    assert_eq!(house.count("block").await, 0);

    house.done(&["queue", "pause", "--mailbox-provider", "other", "--reason", "blocked us"]);
    let status = house.done(&["queue", "status"]);
    assert!(status.contains("until resumed"), "{status}");
    house.refused(
        &["queue", "pause", "--mailbox-provider", "gogle", "--reason", "x"],
        "known are other",
    );
    house.refused(
        &["queue", "pause", "--tenant", "bank", "--stream", "spring", "--reason", "x"],
        "known are transactional",
    );

    let words = house.done(&["queue", "show", &message.to_string()]);
    assert!(words.contains("3 accepted") && words.contains("queued"), "{words}");
    house.refused(&["queue", "show", &theirs.to_string(), "--tenant", "shop"], "has no message");
    house.refused(&["queue", "cancel", &theirs.to_string(), "--tenant", "shop"], "no such message");
    house.refused(&["queue", "show", "msg_0000000000001"], "there is no msg_0000000000001");
    let delivery: i64 =
        sqlx::query_scalar("select min(job_id) from postrider.job where message_id = $1")
            .bind(theirs.get())
            .fetch_one(&house.owner)
            .await
            .expect("a delivery");
    let delivery = DeliveryId::new(delivery).to_string();
    let shown = facts(&house.db, &["queue", "show", &delivery]);
    assert_eq!(shown["to"], "user0@example.org");
    house.refused(&["queue", "show", &delivery, "--tenant", "shop"], "has no delivery");

    house.done(&["queue", "cancel", &message.to_string()]);
    assert_eq!(house.count("cancellation").await, 1);
}

#[tokio::test]
async fn dead_letters_are_shown_replayed_and_discarded() {
    let house = House::new().await;
    let message = house.mail("shop", 5).await;
    house.mail("bank", 2).await;
    let jobs = house.bury("malformed").await;
    assert_eq!(jobs.len(), 7);
    house.adds_up().await;

    let list = facts(&house.db, &["dead-letter", "list", "--tenant", "shop", "--limit", "3"]);
    let page = list.as_array().expect("a list");
    assert_eq!((page.len(), &page[0]["tenant"]), (3, &"shop".into()));
    let last = page[2]["delivery"].as_str().expect("an id").to_owned();
    let rest = facts(&house.db, &["dead-letter", "list", "--tenant", "shop", "--after", &last]);
    assert_eq!(rest.as_array().expect("a list").len(), 2);
    let shown = house.done(&["dead-letter", "show", &last]);
    assert!(shown.contains("malformed") && !shown.contains('\u{1b}'), "{shown}");
    house.refused(&["dead-letter", "show", &last, "--tenant", "bank"], "is not a dead letter");
    house.refused(&["dead-letter", "replay", &last, "--tenant", "bank"], "0 of 1 replayed");
    assert_eq!(house.count("dead_letter").await, 7, "nothing of the shop's was touched");

    // One by id: a first attempt again, under the hold it had, from a job row that is made anew.
    sqlx::query("delete from postrider.job where job_id = $1")
        .bind(last.parse::<DeliveryId>().expect("an id").get())
        .execute(&house.owner)
        .await
        .expect("drop the job row");
    house.done(&["dead-letter", "replay", &last]);
    let (attempt, hold): (i16, i32) = sqlx::query_as("select attempt, hold from postrider.ready")
        .fetch_one(&house.owner)
        .await
        .expect("ready again");
    assert_eq!((attempt, hold), (0, 1));
    house.adds_up().await;
    let worker = house.db.pool(Role::Worker).await;
    let session = builders::session(&worker, Duration::from_secs(60)).await;
    let again = builders::claim_all(&worker, session.id(), 10).await;
    assert_eq!((again.len(), again[0].attempt, again[0].hold.get()), (1, 1, 2));

    // All of one message, in batches of three.
    let args = ["dead-letter", "replay", "--message", &message.to_string(), "--per-second", "3"];
    assert_eq!(facts(&house.db, &args)["replayed"], 4);
    assert_eq!(house.count("dead_letter").await, 2);

    let usage = postrider(&house.db, &["dead-letter", "discard", "--why", "x"]);
    assert_eq!(usage.code, 2, "nothing named is not everything: {}", usage.err);
    let gone =
        facts(&house.db, &["dead-letter", "discard", "--all", "--why", "template was wrong"]);
    assert_eq!(gone["discarded"], 2);
    assert_eq!(builders::attempts(&house.owner, 5).await, 2);
    house.adds_up().await;
}

#[tokio::test]
async fn dead_letters_of_a_cancelled_message_stay() {
    let house = House::new().await;
    let message = house.mail("shop", 2).await;
    house.bury("doubt").await;
    house.done(&["queue", "cancel", &message.to_string()]);
    let replayed = facts(&house.db, &["dead-letter", "replay", "--all"]);
    assert_eq!((&replayed["replayed"], &replayed["kept"]), (&0.into(), &2.into()));
    house.adds_up().await;
}

#[tokio::test]
async fn suppressions_are_a_tenants_own() {
    let house = House::new().await;
    let add = ["suppression", "add", "--tenant", "shop", "Ann@EXAMPLE.org", "bob@example.org"];
    assert_eq!(facts(&house.db, &add)["added"], 2);
    assert_eq!(facts(&house.db, &add)["added"], 0);
    let list = facts(&house.db, &["suppression", "list", "--tenant", "shop", "--limit", "1"]);
    assert_eq!(list[0]["address"], "ann@example.org");
    let list = facts(&house.db, &["suppression", "list", "--tenant", "bank"]);
    assert_eq!(list, serde_json::json!([]));
    let remove = ["suppression", "remove", "--tenant", "bank", "bob@example.org"];
    house.refused(&remove, "is not on the list");
    house.done(&["suppression", "remove", "--tenant", "shop", "bob@example.org"]);
    let bad = postrider(&house.db, &["suppression", "add", "--tenant", "shop", "a@b.example\r\nx"]);
    assert_eq!(bad.code, 2, "{}", bad.err);
    assert_eq!(house.count("suppression").await, 1);
}

#[tokio::test]
async fn the_operators_role_sees_one_tenant_when_it_acts_for_one() {
    let house = House::new().await;
    let operator = house.db.pool(Role::Operator).await;
    let mut one = operator.begin().await.expect("begin");
    sqlx::query("select set_config('postrider.tenant', $1, true)")
        .bind(house.shop.to_string())
        .execute(&mut *one)
        .await
        .expect("act for the shop");
    let seen: Vec<String> = sqlx::query_scalar("select name from postrider.tenant")
        .fetch_all(&mut *one)
        .await
        .expect("ask");
    assert_eq!(seen, ["shop"]);
    let foreign = sqlx::query("insert into postrider.stream(tenant_id, name) values ($1, 'x')")
        .bind(house.bank)
        .execute(&mut *one)
        .await;
    assert!(foreign.is_err(), "nor can it write another's rows");
}

#[test]
fn wrong_command_lines_end_with_code_2_and_teach() {
    for args in [
        &["frobnicate"][..],
        &["tenant"],
        &["queue", "show", "dlv_1"],
        &["queue", "pause", "--reason", "x"],
        &["queue", "pause", "--stream", "bulk", "--reason", "x"],
        &["queue", "pause", "--tenant", "a", "--reason", "x", "--for", "soon"],
        &["dead-letter", "list", "--reason", "boredom"],
        &["key", "create"],
        &["send", "--key-file", "/dev/null"],
    ] {
        let ran = ran(&bare(args).output().expect("run"));
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.err);
        assert!(!ran.err.is_empty(), "{args:?}");
    }
}

#[test]
fn a_database_that_is_not_there_is_said_with_advice() {
    let gone = command("postgres://nobody@127.0.0.1:1/none", &["tenant", "list"]).output();
    let gone = ran(&gone.expect("run"));
    assert_eq!(gone.code, 1);
    assert!(gone.err.contains("is Postgres running?"), "{}", gone.err);
    let bad = ran(&command("mysql://x", &["tenant", "list"]).output().expect("run"));
    assert_eq!(bad.code, 1, "{}", bad.err);
}

#[test]
fn every_command_teaches_by_an_example() {
    let mut open = vec![Vec::<String>::new()];
    let mut seen = 0;
    while let Some(path) = open.pop() {
        let args: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let help = ran(&bare(&args).output().expect("run"));
        assert_eq!(help.code, 0, "{path:?}: {}", help.err);
        seen += 1;
        let ours = !path.first().is_some_and(|first| first == "dev" || first == "sink");
        assert!(!ours || help.out.contains("postrider "), "{path:?} has no example");
        assert!(!ours || help.out.contains("Example") || path.is_empty(), "{path:?}\n{}", help.out);
        assert!(help.out.contains("--json"), "{path:?}");
        let below = help.out.lines().skip_while(|line| *line != "Commands:").skip(1);
        for line in below.take_while(|line| !line.is_empty()) {
            // A command's name stands two columns in; its words wrap further to the right.
            let Some(name) = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')) else {
                continue;
            };
            let name = name.split_whitespace().next().expect("a name");
            if name != "help" {
                open.push([&path[..], &[name.to_owned()]].concat());
            }
        }
    }
    assert!(seen > 35, "only {seen} commands were found");
}

#[test]
fn a_configuration_is_checked_with_every_fault_and_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("postrider.toml");
    let path = file.to_str().expect("a path");
    std::fs::write(&file, "[queue]\nclaim_batch = 100\n").expect("write");
    let fine = ran(&bare(&["config", "check", path]).output().expect("run"));
    assert_eq!((fine.code, fine.err.as_str()), (0, ""));
    assert!(fine.out.contains("fine"), "{}", fine.out);
    std::fs::write(&file, "[queue]\nclaim_bach = 100\nsettle_batch = \"many\"\n").expect("write");
    let bad = ran(&bare(&["config", "check", path]).output().expect("run"));
    assert_eq!(bad.code, 1);
    for part in [":2", ":3", "claim_batch"] {
        assert!(bad.err.contains(part), "expected {part:?} in {}", bad.err);
    }
    let missing = ran(&bare(&["config", "check", "/nowhere.toml"]).output().expect("run"));
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("/nowhere.toml"), "{}", missing.err);
}

#[test]
fn the_version_names_the_schema() {
    let ran = ran(&bare(&["version", "--json"]).output().expect("run"));
    let facts: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(facts["version"], env!("CARGO_PKG_VERSION"));
    assert!(facts["schema"].as_i64().is_some_and(|schema| schema >= 2));
}
