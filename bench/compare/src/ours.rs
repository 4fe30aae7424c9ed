//! postrider: the functions of its queue, by which its API stores and its daemon works.

use anyhow::Context;
use postrider::domain::ids::{LaneId, MessageId};
use postrider::message::time_zone::TimeZone;
use postrider::queue::enqueue::{Chunk, Enqueue, Recipients, Submission, sha256};
use postrider::queue::{Generation, migrate};
use postrider::tenant::isolation::TenantScope;
use postrider::tenant::store;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinSet;

use crate::Args;
use crate::replica::Replica;
use crate::stand::{Measured, Stand, batches, payload};

/// One round.
pub(crate) async fn measure(stand: &Stand, args: &Args) -> anyhow::Result<Measured> {
    let mut round = stand.round("ours").await?;
    let pool = PgPoolOptions::new().max_connections(args.workers + 2).connect(&round.url).await?;
    migrate::up(&pool).await.context("cannot migrate")?;
    store::create(&pool, "bench", 100, TimeZone::default()).await?;
    let scope = store::scope(&pool, "bench").await?;
    sqlx::query("insert into postrider.sending_domain(tenant_id, domain, signed) values ($1, 'bench.example', false)")
        .bind(scope.tenant().get())
        .execute(&pool)
        .await?;
    let enqueue = Enqueue::new(pool.clone());
    let message = enqueue.submit(&scope, &submission()).await?.id;

    round.mark().await?;
    fill(args, &enqueue, scope, message).await?;
    round.mark().await?;

    let lanes: Vec<i32> =
        sqlx::query_scalar("select lane_id from postrider.lane").fetch_all(&pool).await?;
    let lanes: Vec<LaneId> = lanes.into_iter().map(LaneId::new).collect();
    let current = Generation::try_new(0).context("the first generation")?;
    let mut replicas = Vec::new();
    for _ in 0..args.workers {
        replicas.push(Replica::open(&pool, current).await?);
    }
    round.mark().await?;
    let mut running = JoinSet::new();
    for mut replica in replicas {
        let (lanes, batch) = (lanes.clone(), args.claim_batch);
        running.spawn(async move {
            let mut settled = 0;
            loop {
                match replica.turn(&lanes, batch).await? {
                    0 => break,
                    some => settled += some,
                }
            }
            replica.close().await?;
            anyhow::Ok(settled)
        });
    }
    let mut settled = 0;
    while let Some(ended) = running.join_next().await {
        settled += ended??;
    }
    round.mark().await?;
    anyhow::ensure!(
        settled == args.jobs as usize,
        "expected {} settlements, found {settled}",
        args.jobs
    );
    pool.close().await;
    round.end(args.jobs).await
}

async fn fill(
    args: &Args,
    enqueue: &Enqueue,
    scope: TenantScope,
    message: MessageId,
) -> anyhow::Result<()> {
    let mut running = JoinSet::new();
    for worker in 0..args.workers {
        let (batches, bytes) = (batches(args, worker), args.payload);
        let enqueue = enqueue.clone();
        running.spawn(async move {
            for batch in batches {
                let first = batch.start;
                let mut recipients = Recipients::default();
                for n in batch {
                    let json = serde_json::json!({"vars": {"text": payload(n, bytes)}}).to_string();
                    recipients.push(format!("reader{n}@example.org"), Some(json));
                }
                let digest = sha256(&first.to_be_bytes());
                let chunk = Chunk { upload: None, number: first as i32, digest, recipients };
                enqueue.append(&scope, message, &chunk).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

fn submission() -> Submission {
    Submission {
        from_domain: "bench.example".into(),
        stream: "bulk".into(),
        content: r#"{"from":"Bench <news@bench.example>","subject":"News","text":"{{ text }}"}"#
            .into(),
        send_at: None,
        expires_at: None,
        recipients: Recipients::default(),
        idempotency: None,
    }
}
