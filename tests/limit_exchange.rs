//! Promise: what is dealt out through the database is the whole limit and no more, whoever
//! asks for it.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use crate::support::postgres::{Role, TestDb};
use postrider::config::{ThrottleRule, ThrottleScope};
use postrider::domain::ids::MailboxProvider;
use postrider::throttle::bucket::Quota;
use postrider::throttle::deal::{AHEAD, Ask, deal};
use postrider::throttle::exchange::Exchange;
use postrider::throttle::gate::Permit;
use postrider::throttle::key::Plan;
use postrider::throttle::limiter::Limiter;
use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A daemon's limiter with its exchange.
struct Replica {
    limiter: Arc<Limiter>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Replica {
    fn start(pool: &PgPool, session: i64, rule: &ThrottleRule) -> Self {
        let limiter = Arc::new(Limiter::shared(std::slice::from_ref(rule)));
        let stop = CancellationToken::new();
        let exchange = Exchange::new(pool.clone(), Arc::new(AtomicI64::new(session)), &limiter);
        let task = tokio::spawn(exchange.run(stop.clone()));
        Self { limiter, stop, task }
    }

    /// As kill -9 does: nothing is given back.
    fn kill(&self) {
        self.task.abort();
    }

    /// Takes `n` permits, waiting for them as the claimer does; those it had at `until`.
    async fn take(&self, n: usize, until: Instant) -> Vec<Permit> {
        let gate = self.limiter.gate(&plan());
        let mut held = Vec::new();
        while held.len() < n && Instant::now() < until {
            let eased = self.limiter.eased();
            tokio::pin!(eased);
            eased.as_mut().enable();
            let taken = gate.take((n - held.len()).min(64) as u32);
            held.extend(taken.permits);
            if held.len() == n {
                break;
            }
            let wait = taken.wait.unwrap_or(Duration::from_millis(100));
            tokio::select! {
                () = &mut eased => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        held
    }
}

fn plan() -> Plan {
    Plan {
        tenant: "acme".into(),
        mailbox_provider: MailboxProvider::new("google"),
        source: "default".into(),
        route: "direct".into(),
    }
}

fn rule(rate: Option<f64>, concurrency: Option<u32>) -> ThrottleRule {
    let scope = ThrottleScope::MailboxProvider { mailbox_provider: None };
    ThrottleRule { scope, rate, burst: None, further: Vec::new(), concurrency }
}

#[tokio::test]
async fn the_database_deals_as_the_program_does() {
    let db = TestDb::new().await;
    let owner = db.pool(Role::Owner).await;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let base = 1_800_000_000_000_000_000_i64;
    for n in 0..1500 {
        let rate = [0.001, 0.3, 7.0, 50.0, 1234.5, 80_000.0][roll(6) as usize];
        let burst = [1.0, 1.5, 2.0, 5.5, 90.0, 4_000.0][roll(6) as usize];
        let now = base + roll(1_000_000_000_000) as i64;
        let tail = match roll(5) {
            0 => None,
            1 => Some(now - roll(10_000_000_000) as i64),
            2 => Some(now + roll(5_000_000_000) as i64),
            _ => Some(now + roll(300_000_000) as i64 - 150_000_000),
        };
        let back_tail = if roll(2) == 0 { tail.unwrap_or(0) } else { now };
        let ask = Ask { want: roll(3_000) as u32, back: roll(40) as u32, back_tail };
        let ours = deal(tail, now, Quota { rate, burst }, ask);
        let theirs: (i32, i64, i64) = sqlx::query_as(
            "select granted, start, tail from postrider.throttle_deal($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(tail)
        .bind(now)
        .bind(AHEAD)
        .bind(rate)
        .bind(burst)
        .bind(ask.want as i32)
        .bind(ask.back as i32)
        .bind(ask.back_tail)
        .fetch_one(&owner)
        .await
        .expect("deal");
        let ours = (ours.n as i32, ours.start, ours.tail);
        assert_eq!(ours, theirs, "case {n}: {rate}/s, burst {burst}, {tail:?} at {now}, {ask:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_with_demand_uses_the_whole_rate_while_others_idle() {
    let db = TestDb::new().await;
    let pool = db.pool(Role::Worker).await;
    let rule = rule(Some(200.0), None);
    let (busy, idle) = (Replica::start(&pool, 1, &rule), Replica::start(&pool, 2, &rule));
    // The other one had demand once.
    let soon = Instant::now() + Duration::from_secs(5);
    assert_eq!(idle.take(5, soon).await.len(), 5);
    let started = Instant::now();
    let permits = busy.take(1_600, started + Duration::from_secs(60)).await;
    let took = started.elapsed().as_secs_f64();
    assert_eq!(permits.len(), 1_600);
    assert!(took >= (1_600.0 - 20.0) / 200.0, "{took} s: more than the limit");
    assert!(took <= 1_600.0 / 200.0 / 0.95, "{took} s: the idle one keeps a part");
    drop(permits);
    for replica in [busy, idle] {
        replica.stop.cancel();
        replica.task.await.expect("ended");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_are_dealt_passed_on_and_never_more_than_the_limit() {
    let db = TestDb::new().await;
    let pool = db.pool(Role::Worker).await;
    let rule = rule(None, Some(5));
    let replicas: Vec<Replica> = (1..=3).map(|n| Replica::start(&pool, n, &rule)).collect();
    let soon = || Instant::now() + Duration::from_secs(10);

    let first = replicas[0].take(5, soon()).await;
    assert_eq!(first.len(), 5, "alone it has everything");
    // Another is hungry: nothing before something comes back.
    let blocked = replicas[1].take(1, Instant::now() + Duration::from_millis(700)).await;
    assert_eq!(blocked.len(), 0);
    let mut first = first;
    first.truncate(3);
    let second = replicas[1].take(2, soon()).await;
    assert_eq!(second.len(), 2, "what came back is passed on to the hungry");
    assert!(replicas[0].take(1, Instant::now() + Duration::from_millis(300)).await.is_empty());

    // Killed: its part is there for the others once it was silent for three seconds.
    replicas[0].kill();
    let third = replicas[2].take(2, soon()).await;
    assert_eq!(third.len(), 2, "the dead one's part");
    // Its own permits are worth nothing any more.
    drop(first);
    assert!(replicas[0].take(1, Instant::now() + Duration::from_millis(300)).await.is_empty());
    // Without demand everything is given up, and nothing is exchanged any more.
    drop((second, third));
    let given_up = async {
        let rows = "select count(*) from postrider.throttle_slot
                    where seen_at > now() - interval '3 seconds'";
        while sqlx::query_scalar::<_, i64>(rows).fetch_one(&pool).await.expect("ask") > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), given_up).await.expect("given up");
    for replica in &replicas[1..] {
        replica.stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_concurrency_of_one_goes_round_three() {
    let db = TestDb::new().await;
    let pool = db.pool(Role::Worker).await;
    let rule = rule(None, Some(1));
    let replicas: Vec<Replica> = (1..=3).map(|n| Replica::start(&pool, n, &rule)).collect();
    for replica in [&replicas[0], &replicas[2], &replicas[1], &replicas[0]] {
        let held = replica.take(1, Instant::now() + Duration::from_secs(20)).await;
        assert_eq!(held.len(), 1, "each can have it once the other has no use for it");
    }
    for replica in &replicas {
        replica.stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgetful_database_starts_with_one_burst_and_deals_no_slot_twice() {
    let db = TestDb::new().await;
    let (pool, owner) = (db.pool(Role::Worker).await, db.pool(Role::Owner).await);
    let rule = rule(Some(20.0), Some(2));
    let (one, two) = (Replica::start(&pool, 1, &rule), Replica::start(&pool, 2, &rule));
    let held = one.take(2, Instant::now() + Duration::from_secs(10)).await;
    assert_eq!(held.len(), 2);
    // What a crash does to unlogged tables.
    sqlx::query(
        "truncate postrider.throttle_bucket, postrider.throttle_slot, postrider.throttle_era",
    )
    .execute(&owner)
    .await
    .expect("forget");
    let stolen = two.take(1, Instant::now() + Duration::from_secs(2)).await;
    assert!(stolen.is_empty(), "the other one uses both");
    drop(held);
    let passed_on = two.take(1, Instant::now() + Duration::from_secs(20)).await;
    assert_eq!(passed_on.len(), 1);
    for replica in [one, two] {
        replica.stop.cancel();
    }
}
