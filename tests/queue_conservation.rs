//! Promise: every accepted delivery is in exactly one place, and ends exactly once,
//! whatever claims, settles, crashes, is rescued and is moved between generations at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::builders;
use crate::support::postgres::{Role, TestDb};
use postrider::domain::ids::DeliveryId;
use postrider::domain::outcome::Outcome;
use postrider::domain::receipt::Trail;
use postrider::queue::Generation;
use postrider::queue::settle::{Ending, Settlement, settle};
use postrider::queue::upkeep;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::PgPool;

const JOBS: usize = 2_000;

/// One worker: claims, settles most, gives some back, defers some, and "crashes" now and
/// then by forgetting what it has and having its session fenced.
async fn work(worker: PgPool, owner: PgPool, seed: u64, done: Arc<AtomicBool>) -> Vec<DeliveryId> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut mine = Vec::new();
    let mut session = builders::session(&worker, Duration::from_secs(20)).await;
    while !done.load(Ordering::Relaxed) {
        let jobs = builders::claim_all(&worker, session.id(), 20).await;
        if rng.random_ratio(1, 12) {
            sqlx::query(
                "update postrider.worker_session set state = 'fenced' where session_id = $1",
            )
            .bind(session.id().get())
            .execute(&owner)
            .await
            .expect("fence");
            session = builders::session(&worker, Duration::from_secs(20)).await;
            continue;
        }
        let mut by_generation: HashMap<Generation, Vec<Settlement>> = HashMap::new();
        for job in &jobs {
            let ending = match rng.random_range(0..10) {
                0 => Ending::Released { delay: Duration::ZERO },
                1 => Ending::Deferred { delay: Duration::ZERO, in_doubt: false },
                _ => Ending::Delivered,
            };
            by_generation.entry(job.generation).or_default().push(Settlement::new(
                job,
                ending,
                &Outcome::Expired,
                &Trail::default(),
            ));
        }
        for (generation, batch) in by_generation {
            let refs: Vec<&Settlement> = batch.iter().collect();
            let settled = settle(&worker, session.id(), generation, &refs).await.expect("settle");
            let ended =
                refs.iter().filter(|s| s.ending == Ending::Delivered && settled.contains(&s.job));
            mine.extend(ended.map(|s| s.job));
        }
    }
    mine
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_ends_twice_under_crashes_and_turning_generations() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let tenant = builders::tenant(&owner, "acme").await;
    for domain in ["example.org", "gmail.com"] {
        builders::submit(&api, tenant, "acme", "bulk", &builders::recipients(JOBS / 2, domain))
            .await;
    }
    let done = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..4)
        .map(|seed| tokio::spawn(work(worker.clone(), owner.clone(), seed, Arc::clone(&done))))
        .collect();

    let mut turned = 0;
    let mut truncated = 0;
    loop {
        upkeep::promote(&worker, 500).await.expect("promote");
        upkeep::rescue(&worker, 500, Duration::ZERO, 1000).await.expect("rescue");
        turned +=
            u32::from(upkeep::switch_generation(&worker, Duration::ZERO).await.expect("switch"));
        let live = upkeep::live_generations(&worker).await.expect("live");
        for old in &live[..live.len() - 1] {
            upkeep::park(&worker, *old, 500).await.expect("park");
            truncated += u32::from(upkeep::retire_generation(&worker, *old).await.expect("retire"));
        }
        if builders::attempts(&owner, 1).await as usize >= JOBS {
            break;
        }
    }
    done.store(true, Ordering::Relaxed);
    let mut ended: Vec<DeliveryId> = Vec::new();
    for worker in workers {
        ended.extend(worker.await.expect("worker"));
    }
    ended.sort_unstable();
    let claims = ended.len();
    ended.dedup();
    assert_eq!((claims, ended.len()), (JOBS, JOBS), "each delivery ended once");
    for table in ["ready", "lease", "deferred", "dead_letter"] {
        assert_eq!(builders::rows(&owner, table).await, 0, "{table}");
    }
    assert!(turned > 4 && truncated > 0, "the ring turned {turned} times, truncated {truncated}");
}
