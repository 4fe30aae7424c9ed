//! Promises: a limit holds at the receiver and makes mail wait, others are not
//! affected; a reload takes effect and a bad one changes nothing.

use std::fs;

use crate::support::builders;
use crate::support::installation::Installation;
use postrider::sink::DomainStats;

const RATE: u32 = 50;
const BURST: u32 = 5;

fn limited(rate: u32) -> String {
    format!(
        r#"
[[mailbox_provider]]
name = "slow"
domains = ["slow.example"]

[[throttle]]
scope = "mailbox_provider"
mailbox_provider = "slow"
rate = "{rate}/s"
burst = {BURST}
"#
    )
}

/// The most that any `seconds` seconds in a row brought.
fn busiest(stats: &DomainStats, seconds: u64) -> u32 {
    let sum = |from: u64| stats.per_second.range(from..from + seconds).map(|(_, n)| n).sum();
    stats.per_second.keys().map(|from| sum(*from)).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_holds_for_its_provider_and_for_nobody_else() {
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let config = home.configure(&limited(RATE));
    let daemon = home.daemon(&config).await;
    home.submit(tenant, "bulk", &builders::recipients(400, "slow.example")).await;
    home.submit(tenant, "bulk", &builders::recipients(400, "fast.example")).await;
    home.sink_has(400 + 2 * u64::from(RATE)).await;
    let fast = &home.sink.stats().domains["fast.example"];
    assert_eq!(fast.accepted, 400, "unlimited mail does not wait for limited mail");
    home.drained(&daemon).await;

    let stats = home.sink.stats();
    let slow = &stats.domains["slow.example"];
    assert_eq!(slow.accepted, 400);
    // Seconds of the sink's clock cut the stream anywhere, so a window may hold one burst more.
    let five = busiest(slow, 5);
    assert!(five <= 5 * RATE + BURST, "{five} in five seconds: {:?}", slow.per_second);
    assert_eq!(
        builders::rows(&home.owner, "attempt where attempt > 1").await,
        0,
        "waiting spends no attempt"
    );
    assert_eq!(
        builders::rows(&home.owner, "attempt where kind <> 1").await,
        0,
        "and fails nothing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_changes_a_limit_and_a_bad_file_changes_nothing() {
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let config = home.configure(&limited(1));
    let daemon = home.daemon(&config).await;
    home.submit(tenant, "bulk", &builders::recipients(300, "slow.example")).await;
    home.sink_has(1).await;

    fs::write(
        &config,
        fs::read_to_string(&config).expect("read").replace("rate = \"1/s\"", "ratee = \"1000/s\""),
    )
    .expect("write");
    daemon.signal("HUP");
    daemon.metric_reaches("postrider_config_reloads_total{outcome=\"refused\"}", 1.0).await;
    let words = daemon.words();
    assert!(
        words.contains("ratee") && words.contains("\"rate\""),
        "names the key and the near one:\n{words}"
    );
    assert!(home.sink.stats().accepted < 100, "the old limit is in force");

    home.configure(&limited(1_000));
    daemon.signal("HUP");
    daemon.metric_reaches("postrider_config_reloads_total{outcome=\"applied\"}", 1.0).await;
    home.drained(&daemon).await;
    assert_eq!(home.sink.stats().accepted, 300);
}
