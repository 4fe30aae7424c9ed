//! awa: its queue storage, with the settings of its own throughput benchmark.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use awa::model::insert::params_with;
use awa::{
    Client, InsertOpts, JobArgs, JobContext, JobError, JobResult, QueueConfig, QueueStorage,
    QueueStorageConfig, Worker,
};
use serde::{Deserialize, Serialize};
use sqlx_of_awa::PgPool;
use sqlx_of_awa::postgres::PgPoolOptions;
use tokio::task::JoinSet;

use crate::Args;
use crate::stand::{Measured, PATIENCE, Stand, batches, payload};

const QUEUE: &str = "bench";

#[derive(Debug, Serialize, Deserialize, JobArgs)]
struct BenchJob {
    to: String,
    text: String,
}

struct NoOp(Arc<AtomicU32>);

#[async_trait::async_trait]
impl Worker for NoOp {
    fn kind(&self) -> &'static str {
        BenchJob::kind()
    }

    async fn perform(&self, _: &JobContext) -> Result<JobResult, JobError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(JobResult::Completed)
    }
}

/// One round.
pub(crate) async fn measure(stand: &Stand, args: &Args) -> anyhow::Result<Measured> {
    let mut round = stand.round("awa").await?;
    let pool = PgPoolOptions::new().max_connections(20).connect(&round.url).await?;
    awa::migrations::run(&pool).await.context("cannot migrate")?;
    // The first runtime of a fresh database decides for the queue storage.
    let handled = Arc::new(AtomicU32::new(0));
    let first = client(&pool, args, &handled)?;
    first.start().await?;
    first.shutdown(Duration::from_secs(5)).await;

    round.mark().await?;
    let store = Arc::new(QueueStorage::new(QueueStorageConfig::default())?);
    let mut running = JoinSet::new();
    for worker in 0..args.workers {
        let (batches, bytes) = (batches(args, worker), args.payload);
        let (store, pool) = (Arc::clone(&store), pool.clone());
        running.spawn(async move {
            for batch in batches {
                let mut jobs = Vec::with_capacity(batch.len());
                for n in batch {
                    let job =
                        BenchJob { to: format!("reader{n}@example.org"), text: payload(n, bytes) };
                    let options = InsertOpts { queue: QUEUE.into(), ..Default::default() };
                    jobs.push(params_with(&job, options)?);
                }
                store.enqueue_params_copy(&pool, &jobs).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    round.mark().await?;

    let client = client(&pool, args, &handled)?;
    round.mark().await?;
    client.start().await?;
    let started = Instant::now();
    let mut done = 0;
    while done < i64::from(args.jobs) {
        if started.elapsed() > PATIENCE {
            bail!("stuck at {done} of {} jobs", args.jobs);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        if handled.load(Ordering::Relaxed) < args.jobs {
            continue;
        }
        done = store.queue_counts(&pool, QUEUE).await?.terminal;
    }
    round.mark().await?;
    client.shutdown(Duration::from_secs(5)).await;
    pool.close().await;
    round.end(args.jobs).await
}

fn client(pool: &PgPool, args: &Args, handled: &Arc<AtomicU32>) -> anyhow::Result<Client> {
    let queue = QueueConfig {
        max_workers: args.claim_batch * args.workers,
        claimers: args.workers as u16,
        claim_batch_size: args.claim_batch as usize,
        poll_interval: Duration::from_millis(50),
        deadline_duration: Duration::ZERO,
        ..QueueConfig::default()
    };
    Ok(Client::builder(pool.clone())
        .queue(QUEUE, queue)
        .register_worker(NoOp(Arc::clone(handled)))
        .build()?)
}
