//! apalis-postgres: rows of one table, updated in place, with the settings of its examples
//! for throughput (large batches, no locks per task, handlers spawned).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use apalis_core::error::BoxDynError;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::data::Data;
use apalis_core::worker::builder::WorkerBuilder;
use apalis_core::worker::context::WorkerContext;
use apalis_core::worker::ext::parallelize::ParallelizeExt;
use apalis_postgres::queries::push_tasks;
use apalis_postgres::{Config, PostgresStorage};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinSet;

use crate::Args;
use crate::stand::{Measured, PATIENCE, Stand, batches, payload};

const QUEUE: &str = "bench";

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Job {
    to: String,
    text: String,
}

type Handled = Arc<AtomicU32>;

async fn handle(_: Job, handled: Data<Handled>) -> Result<(), BoxDynError> {
    handled.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// One round.
pub(crate) async fn measure(stand: &Stand, args: &Args) -> anyhow::Result<Measured> {
    let mut round = stand.round("apalis").await?;
    let pool =
        PgPoolOptions::new().max_connections(args.workers * 4 + 2).connect(&round.url).await?;
    PostgresStorage::setup(&pool).await.context("cannot migrate")?;

    round.mark().await?;
    let mut running = JoinSet::new();
    for worker in 0..args.workers {
        let (batches, bytes, pool) = (batches(args, worker), args.payload, pool.clone());
        running.spawn(async move {
            let mut connection = pool.acquire().await?;
            for batch in batches {
                let mut tasks = Vec::with_capacity(batch.len());
                for n in batch {
                    let job = Job { to: format!("reader{n}@example.org"), text: payload(n, bytes) };
                    tasks.push(TaskBuilder::new(serde_json::to_vec(&job)?).build());
                }
                push_tasks(&mut *connection, QUEUE, tasks).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    round.mark().await?;

    let handled = Handled::default();
    round.mark().await?;
    let mut workers = JoinSet::new();
    let mut contexts = Vec::new();
    for n in 0..args.workers {
        let config =
            Config::default().queue(QUEUE).batch_size(args.claim_batch as usize).lock_tasks(false);
        let backend = PostgresStorage::<Job>::new(&pool).with_config(config).with_pubsub();
        let context = WorkerContext::new(&format!("bench-{n}"));
        contexts.push(context.clone());
        let worker = WorkerBuilder::new(&context)
            .backend(backend)
            .data(Arc::clone(&handled))
            .parallelize(tokio::spawn)
            .build(handle);
        // A thread for each: its future cannot be shown to be Send once handlers are spawned.
        let runtime = tokio::runtime::Handle::current();
        workers.spawn_blocking(move || runtime.block_on(worker.run()));
    }
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
        done = sqlx::query_scalar("select count(*) from apalis.jobs where status = 'Done'")
            .fetch_one(&pool)
            .await?;
    }
    round.mark().await?;
    for context in contexts {
        let _ = context.stop();
    }
    // A worker that is idle may not hear of its end; what it did is measured.
    let _ = tokio::time::timeout(Duration::from_secs(2), workers.join_all()).await;
    let _ = tokio::time::timeout(Duration::from_secs(2), pool.close()).await;
    round.end(args.jobs).await
}
