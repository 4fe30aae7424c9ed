//! The pace of an account at a provider is learned from its throttling answers.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;
use support::builders;
use support::command::facts;
use support::http_peer::{Act, HttpPeer};
use support::installation::Installation;

/// Longest wait for anything; only a broken program reaches it.
const PATIENCE: Duration = Duration::from_secs(90);

/// An API that takes so many requests in each second of its clock.
#[derive(Default)]
struct Counts {
    limit: AtomicU64,
    taken: AtomicU64,
    refused: AtomicU64,
    second: Mutex<(u64, u64)>,
}

impl Counts {
    fn answer(&self, began: Instant) -> Act {
        let now = began.elapsed().as_secs();
        let mut second = self.second.lock();
        if second.0 != now {
            *second = (now, 0);
        }
        if second.1 >= self.limit.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            let body = r#"{"message":"Maximum sending rate exceeded."}"#;
            return Act::json(429, body).with("x-amzn-errortype", "TooManyRequestsException");
        }
        second.1 += 1;
        self.taken.fetch_add(1, Ordering::SeqCst);
        Act::json(200, r#"{"MessageId":"0100-x"}"#)
    }

    fn read(&self) -> (u64, u64) {
        (self.taken.load(Ordering::SeqCst), self.refused.load(Ordering::SeqCst))
    }
}

fn pace(shown: &Value) -> Option<f64> {
    let paces = shown["paces"].as_array()?;
    paces.iter().find(|one| one["key"] == "route/ses")?["rate"].as_f64()
}

/// Asks for what limits stand at until it is as wanted.
async fn shown(home: &Installation, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let shown = facts(home.database(), &["throttle", "show"]);
        if wanted(&shown) {
            return shown;
        }
        assert!(started.elapsed() < PATIENCE, "never {what}: {shown:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn has_taken(counts: &Counts, n: u64) {
    let started = Instant::now();
    while counts.read().0 < n {
        assert!(started.elapsed() < PATIENCE, "{:?} of {n}", counts.read());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pace_settles_below_what_the_account_may_and_follows_when_it_may_more() {
    let counts = Arc::new(Counts { limit: AtomicU64::new(20), ..Counts::default() });
    let (of_peer, began) = (Arc::clone(&counts), Instant::now());
    let peer = HttpPeer::start(move |_, _| of_peer.answer(began)).await;
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("key");
    std::fs::write(&key, "secret").expect("write");
    let more = format!(
        "[[route]]\nname = \"ses\"\nkind = \"ses\"\nregion = \"eu-west-1\"\n\
         access_key_id = \"AKIDEXAMPLE0000000\"\nkey_file = \"{}\"\nendpoint = \"{}\"\n\
         [[rule]]\nroute = \"ses\"\n[adaptive]\nwindow = \"1s\"\nprobe = \"4s\"\n",
        key.display(),
        peer.url()
    );
    let daemon = home.daemon(&home.configure(&more)).await;
    home.submit(tenant, "bulk", &builders::recipients(3_000, "example.org")).await;

    let in_force = shown(&home, "paced", |shown| pace(shown).is_some()).await;
    let one = &in_force["paces"][0];
    assert_eq!(one["rule"], "provider-throttled", "{one:#}");
    assert!(one["reply"].as_str().is_some_and(|reply| reply.contains("sending rate")), "{one:#}");
    has_taken(&counts, 150).await;
    shown(&home, "settled", |shown| pace(shown).is_some_and(|rate| rate <= 22.0)).await;
    let before = counts.read();
    has_taken(&counts, before.0 + 300).await;
    let (taken, refused) = counts.read();
    let (taken, refused) = (taken - before.0, refused - before.1);
    assert!(refused * 20 < taken, "{refused} refused beside {taken} taken");
    let settled = pace(&shown(&home, "paced", |_| true).await).expect("paced");
    assert!((12.0..=25.0).contains(&settled), "{settled}");

    counts.limit.store(2_000, Ordering::SeqCst);
    shown(&home, "faster", |shown| pace(shown).is_some_and(|rate| rate > 60.0)).await;
    assert_eq!(builders::attempts(&home.owner, 2).await, 0, "nobody bounced");
    drop(daemon);
}
