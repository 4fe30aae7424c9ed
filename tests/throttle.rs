//! Rates and concurrency as a worker meets them: by asking, waiting as told,
//! asking again. Time is paused, so a minute passes in no time.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use postrider::config::{FurtherRate, ThrottleRule, ThrottleScope};
use postrider::domain::ids::MailboxProvider;
use postrider::domain::outcome::WaitReason;
use postrider::throttle::gate::{Gate, Permit};
use postrider::throttle::key::{Key, Plan};
use postrider::throttle::limiter::Limiter;
use tokio::time::Instant;

const NO_LIMIT: ThrottleRule = ThrottleRule {
    scope: ThrottleScope::Tenant { tenant: None },
    rate: None,
    burst: None,
    further: Vec::new(),
    concurrency: None,
};

fn provider_rule(name: &str, rate: f64) -> ThrottleRule {
    let scope = ThrottleScope::MailboxProvider { mailbox_provider: Some(name.into()) };
    ThrottleRule { scope, rate: Some(rate), ..NO_LIMIT }
}

fn tenant_rule(rate: f64) -> ThrottleRule {
    ThrottleRule { rate: Some(rate), ..NO_LIMIT }
}

fn slots_rule(concurrency: u32) -> ThrottleRule {
    let scope = ThrottleScope::Route { route: None };
    ThrottleRule { scope, concurrency: Some(concurrency), ..NO_LIMIT }
}

fn plan(tenant: &str, mailbox_provider: &'static str) -> Plan {
    Plan {
        tenant: tenant.into(),
        mailbox_provider: MailboxProvider::new(mailbox_provider),
        source: "default".into(),
        route: "direct".into(),
    }
}

/// Sends all it may until `until`, and returns when each mail went.
async fn send_all(gate: Arc<Gate>, want: u32, until: Instant) -> Vec<Instant> {
    let mut sent = Vec::new();
    while Instant::now() < until {
        let taken = gate.take(want);
        for mut permit in taken.permits {
            permit.spend();
            sent.push(Instant::now());
        }
        tokio::time::sleep(taken.wait.unwrap_or(Duration::from_millis(1))).await;
    }
    sent
}

fn count(sent: &[Instant], from: Instant, span: Duration) -> usize {
    sent.iter().filter(|at| (from..from + span).contains(at)).count()
}

/// Checks every window of five seconds, at steps of 100 ms, once the burst is over.
fn assert_steady(sent: &[Instant], start: Instant, per_window: f64) {
    for step in 1..=540u64 {
        let from = start + Duration::from_millis(100 * step);
        let n = count(sent, from, Duration::from_secs(5)) as f64;
        assert!((n - per_window).abs() <= per_window * 0.02, "{n} in the window at {step}");
    }
}

#[tokio::test(start_paused = true)]
async fn fifty_per_second_stay_fifty_and_the_neighbour_feels_nothing() {
    let limiter = Limiter::new(&[provider_rule("google", 50.0)]);
    let (start, until) = (Instant::now(), Instant::now() + Duration::from_secs(60));
    let google = tokio::spawn(send_all(limiter.gate(&plan("acme", "google")), 64, until));
    let other = tokio::spawn(send_all(limiter.gate(&plan("acme", "other")), 2, until));
    let (google, other) = (google.await.unwrap(), other.await.unwrap());

    assert_steady(&google, start, 250.0);
    assert!(count(&google, start, Duration::from_secs(5)) <= 255, "the burst is 5");
    assert!(other.len() >= 2 * 29_000, "two a millisecond: {}", other.len());
}

#[tokio::test(start_paused = true)]
async fn gates_that_share_a_key_share_its_rate() {
    let limiter = Limiter::new(&[provider_rule("google", 50.0)]);
    let (start, until) = (Instant::now(), Instant::now() + Duration::from_secs(60));
    let tasks = ["acme", "bolt", "core"]
        .map(|tenant| tokio::spawn(send_all(limiter.gate(&plan(tenant, "google")), 64, until)));
    let mut sent = Vec::new();
    for task in tasks {
        sent.extend(task.await.unwrap());
    }
    assert_steady(&sent, start, 250.0);
}

#[tokio::test(start_paused = true)]
async fn every_limit_of_a_plan_holds_at_once() {
    let limiter = Limiter::new(&[
        tenant_rule(80.0),
        provider_rule("google", 50.0),
        provider_rule("yahoo", 60.0),
        slots_rule(1000),
    ]);
    let (start, until) = (Instant::now(), Instant::now() + Duration::from_secs(60));
    let google = tokio::spawn(send_all(limiter.gate(&plan("acme", "google")), 64, until));
    let yahoo = tokio::spawn(send_all(limiter.gate(&plan("acme", "yahoo")), 64, until));
    let (google, yahoo) = (google.await.unwrap(), yahoo.await.unwrap());

    let minute = Duration::from_secs(60);
    assert!(count(&google, start, minute) <= 50 * 60 + 5);
    assert!(count(&yahoo, start, minute) <= 60 * 60 + 6);
    let mut both = [google, yahoo].concat();
    both.sort();
    assert_steady(&both, start, 400.0);
}

#[tokio::test(start_paused = true)]
async fn high_rates_are_paced_in_small_batches() {
    let limiter = Limiter::new(&[provider_rule("google", 10_000.0)]);
    let gate = limiter.gate(&plan("acme", "google"));
    let all: Vec<Permit> = gate.take(1000).permits;
    assert_eq!(all.len(), 1000, "a tenth of a second's worth");
    assert_eq!(gate.take(1000).wait, Some(Duration::from_millis(5)));
    assert_eq!(gate.take(1).wait, Some(Duration::from_micros(100)), "no more than wanted");
}

#[tokio::test(start_paused = true)]
async fn low_rates_wait_for_the_next_token_exactly() {
    let limiter = Limiter::new(&[provider_rule("google", 0.5)]);
    let gate = limiter.gate(&plan("acme", "google"));
    let mut first = gate.take(10);
    assert_eq!(first.permits.len(), 1);
    assert_eq!(first.wait, Some(Duration::from_secs(2)));
    assert_eq!(first.reason(), Some(WaitReason::Rate));
    assert_eq!(first.blocked_by, Some(Key::MailboxProvider(MailboxProvider::new("google"))));
    first.permits[0].spend();
    tokio::time::advance(Duration::from_millis(1999)).await;
    assert_eq!(gate.take(10).permits.len(), 0);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(gate.take(10).permits.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unused_permit_costs_nothing() {
    let limiter = Limiter::new(&[provider_rule("google", 1.0), tenant_rule(1.0)]);
    let gate = limiter.gate(&plan("acme", "google"));
    for _ in 0..100 {
        assert_eq!(gate.take(5).permits.len(), 1);
    }
    gate.take(1).permits[0].spend();
    assert!(gate.take(1).permits.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_one_limit_refuses_is_not_taken_from_another() {
    let limiter = Limiter::new(&[tenant_rule(10.0), provider_rule("google", 0.1)]);
    let google = limiter.gate(&plan("acme", "google"));
    google.take(1).permits[0].spend();
    tokio::time::advance(Duration::from_secs(1)).await;
    for _ in 0..100 {
        assert!(google.take(10).permits.is_empty());
    }
    assert_eq!(limiter.gate(&plan("acme", "yahoo")).take(10).permits.len(), 1, "the burst of 10/s");
}

#[tokio::test(start_paused = true)]
async fn a_reload_raises_the_rate_within_one_wait() {
    let limiter = Arc::new(Limiter::new(&[provider_rule("google", 50.0)]));
    let (start, until) = (Instant::now(), Instant::now() + Duration::from_secs(20));
    let sender = tokio::spawn(send_all(limiter.gate(&plan("acme", "google")), 64, until));
    tokio::time::sleep_until(start + Duration::from_secs(10)).await;
    limiter.apply(&[provider_rule("google", 500.0)]);
    let sent = sender.await.unwrap();

    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(count(&sent, at(5), Duration::from_secs(5)), 250);
    let first_second = count(&sent, at(10), Duration::from_secs(1));
    assert!((485..=510).contains(&first_second), "no new burst, no delay: {first_second}");
    assert!((2490..=2510).contains(&count(&sent, at(15), Duration::from_secs(5))));
}

#[tokio::test(start_paused = true)]
async fn a_reload_reaches_gates_that_had_no_limit_or_a_long_wait() {
    let limiter = Limiter::new(&[]);
    let gate = limiter.gate(&plan("acme", "google"));
    assert_eq!(gate.take(1000).permits.len(), 1000);

    limiter.apply(&[provider_rule("google", 1.0 / 3600.0)]);
    gate.take(1000).permits[0].spend();
    let eased = limiter.eased();
    let refused = gate.take(1000);
    assert_eq!(refused.wait, Some(Duration::from_secs(10)), "never longer: rules may change");

    limiter.apply(&[provider_rule("google", 10.0)]);
    eased.now_or_never().expect("a reload wakes who waits");
    let wait = gate.take(1000).wait.unwrap();
    assert!(wait <= Duration::from_millis(100), "{wait:?}");

    limiter.apply(&[]);
    assert_eq!(gate.take(1000).permits.len(), 1000);
}

#[tokio::test(start_paused = true)]
async fn a_lower_rate_grants_no_burst() {
    let limiter = Limiter::new(&[provider_rule("google", 100.0)]);
    let gate = limiter.gate(&plan("acme", "google"));
    gate.take(100).permits.iter_mut().for_each(Permit::spend);
    let rule = ThrottleRule { burst: Some(1000), ..provider_rule("google", 10.0) };
    limiter.apply(&[rule]);
    let taken = gate.take(100);
    assert_eq!((taken.permits.len(), taken.wait), (0, Some(Duration::from_millis(100))));
}

#[tokio::test(start_paused = true)]
async fn slots_hold_and_their_release_is_announced() {
    let limiter = Limiter::new(&[slots_rule(3)]);
    let acme = limiter.gate(&plan("acme", "google"));
    let bolt = limiter.gate(&plan("bolt", "yahoo"));
    let mut held = acme.take(2).permits;
    held.extend(bolt.take(2).permits);
    assert_eq!(held.len(), 3);

    let eased = limiter.eased();
    let refused = bolt.take(1);
    assert_eq!((refused.permits.len(), refused.wait), (0, None));
    assert_eq!(refused.blocked_by, Some(Key::Route("direct".into())));
    assert_eq!(refused.reason(), Some(WaitReason::Concurrency));

    // A spent permit gives its slot back too.
    let mut done = held.pop().unwrap();
    done.spend();
    drop(done);
    eased.now_or_never().expect("somebody had asked in vain");
    held.extend(bolt.take(1).permits);
    assert_eq!(held.len(), 3);

    let quiet = limiter.eased();
    held.pop();
    assert!(quiet.now_or_never().is_none(), "nobody had asked");
}

#[tokio::test(start_paused = true)]
async fn permits_of_old_rules_give_back_what_they_took() {
    let limiter = Limiter::new(&[slots_rule(3)]);
    let gate = limiter.gate(&plan("acme", "google"));
    let held = gate.take(3).permits;
    limiter.apply(&[]);
    let free = gate.take(10).permits;
    assert_eq!(free.len(), 10);
    limiter.apply(&[slots_rule(4)]);
    assert_eq!(gate.take(10).permits.len(), 1, "three are still in hand");
    drop(free);
    assert_eq!(gate.take(10).permits.len(), 1, "those were not counted");
    drop(held);
    assert_eq!(gate.take(10).permits.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn rates_over_several_units_hold_together() {
    let further = vec![FurtherRate { per_second: 10.0, unit: 60.0 }];
    let limiter = Limiter::new(&[ThrottleRule { further, ..provider_rule("google", 50.0) }]);
    let (start, until) = (Instant::now(), Instant::now() + Duration::from_secs(30));
    let sent = send_all(limiter.gate(&plan("acme", "google")), 64, until).await;
    let second = Duration::from_secs(1);
    assert!(
        (50..=56).contains(&count(&sent, start, second)),
        "the first rate while the minute lasts"
    );
    let late = count(&sent, start + 20 * second, 10 * second);
    assert!((99..=101).contains(&late), "then the minute's: {late}");
    assert!(sent.len() <= 30 * 10 + 60, "a tenth of a minute's worth at once: {}", sent.len());
}

#[tokio::test(start_paused = true)]
async fn a_shared_limiter_grants_nothing_by_itself_and_does_not_refuse_for_good() {
    let limiter = Limiter::shared(&[provider_rule("google", 50.0), slots_rule(5)]);
    let gate = limiter.gate(&plan("acme", "google"));
    let taken = gate.take(10);
    assert_eq!((taken.permits.len(), taken.wait), (0, None));
    assert!(taken.blocked_by.is_some());
    limiter.apply(&[]);
    assert_eq!(gate.take(10).permits.len(), 10, "what is not limited needs no exchange");
}

#[test]
fn gates_on_many_threads_never_overdraw_what_they_share() {
    // So slow that no token flows in while the test runs.
    let slow = |rule: ThrottleRule| ThrottleRule { rate: Some(1e-6), ..rule };
    let limiter = Limiter::new(&[
        ThrottleRule { burst: Some(1000), ..slow(provider_rule("google", 1.0)) },
        ThrottleRule { burst: Some(700), ..slow(tenant_rule(1.0)) },
        slots_rule(900),
    ]);
    let held: Vec<Permit> = std::thread::scope(|scope| {
        let threads: Vec<_> = ["acme", "acme", "bolt", "bolt"]
            .into_iter()
            .map(|tenant| {
                let gate = limiter.gate(&plan(tenant, "google"));
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for round in 0..2000u32 {
                        held.extend(gate.take(round % 7 + 1).permits);
                        if round % 3 == 0 {
                            held.pop();
                        }
                    }
                    held.extend(gate.take(1000).permits);
                    held
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(held.len(), 900, "the tightest limit, to the last permit");
    drop(held);
    assert_eq!(
        limiter.gate(&plan("acme", "google")).take(2000).permits.len(),
        700,
        "all came back"
    );
}
