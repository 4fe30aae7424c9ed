//! Promise: a limit holds over all daemons together, is used while there is work, and is
//! dealt anew when a daemon dies.

mod support;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use postrider::sink::{Options, Sink};
use support::builders;
use support::command;
use support::installation::{Daemon, Installation};

const RATE: usize = 200;
/// Room for deliveries that take unevenly long on a busy machine.
const BURST: usize = 40;

fn rate_limit() -> String {
    format!(
        "[[mailbox_provider]]\nname = \"slow\"\ndomains = [\"slow.example\"]\n\
         [[throttle]]\nscope = \"mailbox_provider\"\nmailbox_provider = \"slow\"\n\
         rate = \"{RATE}/s\"\nburst = {BURST}\n"
    )
}

async fn three(home: &Installation, config: &PathBuf) -> Vec<Daemon> {
    let mut daemons = Vec::new();
    for _ in 0..3 {
        daemons.push(home.daemon(config).await);
    }
    daemons
}

/// When each mail came, in milliseconds since the first.
fn arrivals(sink: &Sink) -> Vec<i64> {
    let mut at: Vec<i64> = sink.mails().iter().map(|mail| mail.at.timestamp_millis()).collect();
    at.sort_unstable();
    let first = at.first().copied().unwrap_or(0);
    at.iter().map(|at| at - first).collect()
}

/// The most that came within any second.
fn busiest_second(arrivals: &[i64]) -> usize {
    let within = |from: &i64| arrivals.iter().filter(|at| (*from..from + 1000).contains(*at)).count();
    arrivals.iter().map(within).max().unwrap_or(0)
}

/// Part of the rate that was used from `from` to `to`, in milliseconds.
fn used(arrivals: &[i64], from: i64, to: i64) -> f64 {
    let n = arrivals.iter().filter(|at| (from..to).contains(*at)).count();
    n as f64 / (RATE as f64 * (to - from) as f64 / 1000.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_holds_over_three_daemons_and_survives_one() {
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let config = home.configure(&rate_limit());
    let mut daemons = three(&home, &config).await;
    home.submit(tenant, "bulk", &builders::recipients(6_000, "slow.example")).await;
    home.sink_has(8 * RATE as u64).await;
    let before = home.sink.stats().accepted;
    daemons.remove(0).kill();
    let killed = *arrivals(&home.sink).last().expect("some came");
    // Five seconds to notice, and eight that count.
    home.sink_has(before + 13 * RATE as u64).await;

    let came = arrivals(&home.sink);
    let busiest = busiest_second(&came);
    assert!(busiest <= RATE + BURST, "{busiest} in one second");
    let whole = used(&came, 1_000, 7_000);
    assert!(whole >= 0.97, "{whole} of the rate with three daemons");
    let after = used(&came, killed + 5_000, killed + 11_000);
    assert!(after >= 0.97, "{after} of the rate once one is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_daemon_with_work_uses_the_whole_rate_while_others_idle() {
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    // The other two have no place for work of this tenant: paused lanes are not looked at by
    // anyone, so these have another database's view: they are simply not there for it.
    let config = home.configure(&rate_limit());
    let _daemons = three(&home, &config).await;
    home.submit(tenant, "bulk", &builders::recipients(1_500, "slow.example")).await;
    home.sink_has(7 * RATE as u64).await;
    let came = arrivals(&home.sink);
    assert!(used(&came, 1_000, 6_000) >= 0.97, "{:?}", used(&came, 1_000, 6_000));
}
