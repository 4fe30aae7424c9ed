//! Promise: a limit holds over all daemons together, is used while there is work, and is
//! dealt anew when a daemon dies.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::builders;
use crate::support::installation::{Daemon, Installation};
use postrider::sink::Sink;
use serde_json::Value;

const RATE: usize = 200;
/// Room for deliveries that take unevenly long on a busy machine.
const BURST: usize = 40;

fn limited(limit: &str) -> String {
    format!(
        "[[mailbox_provider]]\nname = \"slow\"\ndomains = [\"slow.example\"]\n\
         [[throttle]]\nscope = \"mailbox_provider\"\nmailbox_provider = \"slow\"\n{limit}\n"
    )
}

fn rate_limited() -> String {
    limited(&format!("rate = \"{RATE}/s\"\nburst = {BURST}"))
}

/// One at a time: what is measured here is time, on few cores.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn three(home: &Installation, config: &PathBuf) -> Vec<Daemon> {
    let mut daemons = Vec::new();
    for _ in 0..3 {
        daemons.push(home.daemon(config).await);
    }
    daemons
}

/// When each mail came, in milliseconds since 1970.
fn arrivals(sink: &Sink) -> Vec<i64> {
    let mut at: Vec<i64> = sink.mails().iter().map(|mail| mail.at.timestamp_millis()).collect();
    at.sort_unstable();
    at
}

/// The most that came within any `window` milliseconds.
fn busiest(arrivals: &[i64], window: i64) -> usize {
    let end = |from: i64| arrivals.partition_point(|at| *at < from + window);
    arrivals.iter().enumerate().map(|(n, from)| end(*from) - n).max().unwrap_or(0)
}

/// How many came from `from` to `to`.
fn count(arrivals: &[i64], from: i64, to: i64) -> usize {
    arrivals.partition_point(|at| *at < to) - arrivals.partition_point(|at| *at < from)
}

/// Part of the rate that was used from `from` to `to`.
fn used(arrivals: &[i64], from: i64, to: i64) -> f64 {
    count(arrivals, from, to) as f64 / (RATE as f64 * (to - from) as f64 / 1000.0)
}

/// The most that was used of the rate over six seconds that begin between `from` and `to`:
/// a moment in which this machine stood still is not the limit's.
fn best(arrivals: &[i64], from: i64, to: i64) -> f64 {
    (from..=to).step_by(100).map(|from| used(arrivals, from, from + 6_000)).fold(0.0, f64::max)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_holds_over_three_daemons_and_survives_one() {
    let _turn = TURN.lock().await;
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let config = home.configure(&rate_limited());
    let mut daemons = three(&home, &config).await;
    home.submit(tenant, "bulk", &builders::recipients(6_000, "slow.example")).await;
    home.sink_has(9 * RATE as u64).await;
    daemons.remove(0).kill();
    let before = home.sink.stats().accepted;
    let killed = *arrivals(&home.sink).last().expect("some came");
    // Five seconds to notice, and six that count.
    home.sink_has(before + 12 * RATE as u64).await;

    let came = arrivals(&home.sink);
    let (first, most) = (came[0], busiest(&came, 1_000));
    let whole = best(&came, first + 1_000, first + 3_000);
    let after = best(&came, killed, killed + 5_000);
    println!("busiest second {most}, used {whole:.3}, once one is gone {after:.3}");
    for daemon in &daemons {
        let void = daemon.metric("postrider_throttle_void_total").await;
        let taken = daemon.metric("postrider_throttle_taken_total").await;
        println!("a daemon used {taken} tokens and let {void} pass");
    }
    assert!(most <= RATE + BURST, "{most} in one second");
    assert!(whole >= 0.97, "{whole} of the rate with three daemons");
    assert!(after >= 0.97, "{after} of the rate once one is gone");
}

/// The sink answers every dot so late: a delivery takes no less.
const SLOW_MS: i64 = 250;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_concurrency_holds_over_three_daemons_and_is_dealt_anew() {
    let _turn = TURN.lock().await;
    let slow = format!("slow=100,delay={SLOW_MS}").parse().expect("a fault mix");
    let home = Installation::new(Some(slow)).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let config = home.configure(&limited("concurrency = 3"));
    let mut daemons = three(&home, &config).await;
    home.submit(tenant, "bulk", &builders::recipients(600, "slow.example")).await;
    home.sink_has(40).await;
    let dealt: i64 = sqlx::query_scalar(
        "select count(distinct session_id) from postrider.throttle_slot where allotted > 0",
    )
    .fetch_one(&home.owner)
    .await
    .expect("ask");
    assert_eq!(dealt, 3, "one slot for each daemon");
    daemons.remove(0).kill();
    let before = home.sink.stats().accepted;
    home.sink_has(before + 80).await;

    let came = arrivals(&home.sink);
    // Each stands for a slot from its arrival to the late answer; a part is left for the
    // way of the answer and of the next mail being shorter than the one before.
    let most = busiest(&came, SLOW_MS - 10);
    assert!(most <= 3, "{most} at once");
    let allotted: Vec<i32> = sqlx::query_scalar(
        "select allotted from postrider.throttle_slot where seen_at > now() - interval '3 seconds'
         order by 1",
    )
    .fetch_all(&home.owner)
    .await
    .expect("ask");
    assert_eq!(allotted, [1, 2], "the two that live have all of it");
    assert_eq!(busiest(&came[came.len() - 20..], SLOW_MS - 10), 3, "and use it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_override_holds_everywhere_within_a_second_and_ends() {
    let _turn = TURN.lock().await;
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let config = home.configure(&rate_limited());
    let _daemons = three(&home, &config).await;
    home.submit(tenant, "bulk", &builders::recipients(6_000, "slow.example")).await;
    home.sink_has(RATE as u64).await;
    let scope = ["--scope", "mailbox_provider", "--mailbox-provider", "slow"];
    let file = config.to_str().expect("a path");
    let run = |args: &[&str]| home.postrider(&[&["throttle", "--config", file], args].concat());

    let set = ["set", "--rate", "20/s", "--for", "30m", "--reason", "they defer us"];
    let ran = run(&[&set[..], &scope, &["--actor", "ada"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let set_at = now(&home).await + 1_000;
    until(&home, set_at + 3_000).await;
    let came = count(&arrivals(&home.sink), set_at, set_at + 3_000);
    assert!(came <= 3 * 20 + 4, "{came} in three seconds under 20/s");
    assert!(came >= 30, "{came} in three seconds: it does not stop everything");

    let shown: Value = serde_json::from_str(&run(&["show", "--json"]).out).expect("JSON");
    assert_eq!(shown["limits"][0]["from"], "override");
    assert_eq!(shown["limits"][0]["set"]["actor"], "ada");
    assert_eq!(shown["limits"][0]["set"]["reason"], "they defer us");
    assert_eq!(shown["limits"][1]["overridden"], true);
    assert_eq!(shown["rates"][0]["key"], "mailbox_provider/slow");
    assert_eq!(shown["rates"][0]["rate"], 20.0);

    assert_eq!(run(&[&["clear"][..], &scope].concat()).code, 0);
    let cleared = now(&home).await + 1_000;
    until(&home, cleared + 2_000).await;
    let came = count(&arrivals(&home.sink), cleared, cleared + 2_000);
    assert!(came >= RATE, "{came} in two seconds once it is cleared");

    // By the database's clock, without anybody's doing.
    let set = ["set", "--rate", "5/s", "--for", "1s", "--reason", "a moment"];
    assert_eq!(run(&[&set[..], &scope].concat()).code, 0);
    let over = now(&home).await + 2_000;
    until(&home, over + 2_000).await;
    let came = count(&arrivals(&home.sink), over, over + 2_000);
    assert!(came >= RATE, "{came} in two seconds once it is over");

    let recorded: Vec<(String, String, Option<String>)> = sqlx::query_as(
        "select action, target, reason from postrider.operator_action order by action_id",
    )
    .fetch_all(&home.owner)
    .await
    .expect("ask");
    let words: Vec<&str> = recorded.iter().map(|(action, ..)| &**action).collect();
    assert_eq!(words, ["throttle set", "throttle clear", "throttle set"]);
    assert_eq!(recorded[0].1, "mailbox_provider slow");

    let refused = |args: &[&str], word: &str| {
        let ran = run(args);
        assert!(ran.code != 0 && ran.err.contains(word), "{args:?}: {}", ran.err);
    };
    let rest = ["--for", "1m", "--reason", "x"];
    refused(&[&["set", "--rate", "10"], &scope[..], &rest].concat(), "--rate");
    refused(&[&["set"], &scope[..], &rest].concat(), "--concurrency");
    refused(
        &[&["set", "--rate", "1/s", "--tenant", "acme"], &scope[..], &rest].concat(),
        "--tenant",
    );
    refused(
        &[
            "set",
            "--rate",
            "1/s",
            "--scope",
            "mailbox_provider",
            "--mailbox-provider",
            "slwo",
            "--for",
            "1m",
            "--reason",
            "x",
        ],
        "known are",
    );
}

/// The time of the sink's clock, which is the machine's.
async fn now(home: &Installation) -> i64 {
    sqlx::query_scalar("select (extract(epoch from clock_timestamp()) * 1000)::bigint")
        .fetch_one(&home.owner)
        .await
        .expect("ask")
}

/// Waits until the clock says `at`.
async fn until(home: &Installation, at: i64) {
    let started = Instant::now();
    while now(home).await <= at {
        assert!(started.elapsed() < Duration::from_secs(90));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
