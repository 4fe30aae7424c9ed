//! Millions of waiting deliveries, quickly: rows as a submission leaves them, by large
//! statements instead of by uploads.
//!
//! The rows are spread as campaigns are: each tenant's stream holds one message, and its
//! recipients are mixed over the mailbox providers. So a lane is a tenant's stream at one
//! provider, and neighbours in the table belong to different lanes.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use postrider::domain::ids::LaneId;
use postrider::queue::enqueue::{Enqueue, Recipients, Submission};
use sqlx::PgPool;
use tokio::task::JoinSet;

use crate::stand::{Database, PROVIDERS, Stand};

/// Destination pools: the providers and everyone else.
const POOLS: usize = PROVIDERS + 1;

/// Connections that fill.
const FILLERS: usize = 2;

/// Bytes on disk for a waiting delivery with its log, to know beforehand whether it fits.
const BYTES_PER_ROW: u64 = 700;

/// What is to wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Tenants.
    pub(crate) tenants: usize,
    /// Streams of each.
    pub(crate) streams: usize,
    /// Deliveries of all together.
    pub(crate) rows: u64,
}

/// One tenant's stream.
#[derive(Debug, Clone, Copy)]
struct Campaign {
    tenant: i64,
    stream: i32,
    message: i64,
}

/// A filled database.
pub(crate) struct Filled {
    campaigns: Vec<Campaign>,
    /// Streams of each tenant.
    streams: usize,
}

/// The name of the tenant of this number.
pub(crate) fn tenant_name(n: usize) -> String {
    format!("t{n}")
}

/// The name of a tenant's stream of this number.
pub(crate) fn stream_name(n: usize) -> String {
    format!("campaign{n}")
}

/// Refuses what would not fit on the disk.
pub(crate) fn check_room(stand: &Stand, rows: u64) -> anyhow::Result<()> {
    let out = std::process::Command::new("df")
        .args(["--output=avail", "-B1"])
        .arg(stand.folder())
        .output()
        .context("cannot run df")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let free: u64 = text.lines().nth(1).and_then(|line| line.trim().parse().ok()).unwrap_or(0);
    let wanted = rows * BYTES_PER_ROW;
    if free < wanted + wanted / 2 {
        bail!(
            "expected room for {rows} rows ({} MB), found {} MB free in {}",
            wanted >> 20,
            free >> 20,
            stand.folder().display()
        );
    }
    Ok(())
}

/// Makes tenants, streams and lanes, and fills them; how long the rows took.
pub(crate) async fn fill(
    stand: &Stand,
    database: &Database,
    layout: Layout,
) -> anyhow::Result<(Filled, Duration)> {
    // Checkpoints in the middle of it would double its log, which is not what is measured.
    stand.admin("alter system set max_wal_size = '8GB'").await?;
    stand.admin("select pg_reload_conf()").await?;
    let filled = fill_tables(database, layout).await;
    stand.admin("alter system reset max_wal_size").await?;
    stand.admin("select pg_reload_conf()").await?;
    filled
}

async fn fill_tables(database: &Database, layout: Layout) -> anyhow::Result<(Filled, Duration)> {
    for n in 0..PROVIDERS {
        sqlx::query(
            "with made as (insert into postrider.pool(name) values ($1) returning pool_id)
             insert into postrider.domain_pool(domain, pool_id, origin)
             select $1 || '.example', pool_id, 'config' from made",
        )
        .bind(format!("provider{n}"))
        .execute(&database.pool)
        .await?;
    }
    let enqueue = Enqueue::new(database.pool.clone());
    let mut campaigns = Vec::new();
    for tenant in 0..layout.tenants {
        let name = tenant_name(tenant);
        let scope = database.tenant(&name).await?;
        for stream in 0..layout.streams {
            let submission = submission(&name, &stream_name(stream));
            let message = enqueue.submit(&scope, &submission).await?.id;
            let stream: i32 =
                sqlx::query_scalar("select stream_id from postrider.message where message_id = $1")
                    .bind(message.get())
                    .fetch_one(&database.pool)
                    .await?;
            campaigns.push(Campaign {
                tenant: scope.tenant().get(),
                stream,
                message: message.get(),
            });
        }
    }
    sqlx::query(
        "with made as (
           insert into postrider.lane(tenant_id, pool_id, prio, stream_id)
           select s.tenant_id, p.pool_id, 3, s.stream_id
           from postrider.stream s cross join postrider.pool p returning lane_id)
         insert into postrider.lane_hint(lane_id) select lane_id from made",
    )
    .execute(&database.pool)
    .await?;
    let filled = Filled { campaigns, streams: layout.streams };
    let started = Instant::now();
    // A stream after the other, so that tenants lie mixed.
    let order: Vec<Campaign> = (0..layout.streams)
        .flat_map(|stream| filled.campaigns.iter().skip(stream).step_by(layout.streams))
        .copied()
        .collect();
    store(&database.pool, &order, layout.rows).await?;
    Ok((filled, started.elapsed()))
}

impl Filled {
    /// Lanes of the first `tenants` tenants, those of one provider after those of another.
    pub(crate) async fn lanes(
        &self,
        database: &Database,
        tenants: usize,
    ) -> anyhow::Result<Vec<LaneId>> {
        let last = self.campaigns[..tenants * self.streams].last().context("no tenants")?.tenant;
        let lanes: Vec<i32> = sqlx::query_scalar(
            "select lane_id from postrider.lane where tenant_id <= $1
             order by pool_id, stream_id, tenant_id",
        )
        .bind(last)
        .fetch_all(&database.pool)
        .await?;
        Ok(lanes.into_iter().map(LaneId::new).collect())
    }

    /// Adds `rows` behind what waits for the first `tenants` tenants.
    pub(crate) async fn top_up(
        &self,
        database: &Database,
        tenants: usize,
        rows: u64,
    ) -> anyhow::Result<()> {
        store(&database.pool, &self.campaigns[..tenants * self.streams], rows).await
    }
}

/// Divides `rows` among campaigns and stores them, a statement for each.
async fn store(pool: &PgPool, campaigns: &[Campaign], rows: u64) -> anyhow::Result<()> {
    let each = rows / campaigns.len() as u64;
    let mut running = JoinSet::new();
    for filler in 0..FILLERS {
        let mine: Vec<Campaign> = campaigns.iter().skip(filler).step_by(FILLERS).copied().collect();
        let pool = pool.clone();
        running.spawn(async move {
            let mut connection = pool.acquire().await?;
            // The rows are there when the run begins; nobody was told that they are durable.
            sqlx::query("set synchronous_commit = off").execute(&mut *connection).await?;
            for campaign in mine {
                sqlx::query(include_str!("fill.sql"))
                    .bind(campaign.tenant)
                    .bind(campaign.message)
                    .bind(campaign.stream)
                    .bind(each as i64)
                    .bind(POOLS as i64)
                    .execute(&mut *connection)
                    .await?;
            }
            sqlx::query("reset synchronous_commit").execute(&mut *connection).await?;
            anyhow::Ok(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

/// A message of 1 KB to nobody yet.
pub(crate) fn submission(tenant: &str, stream: &str) -> Submission {
    Submission {
        from_domain: format!("{tenant}.example"),
        stream: stream.into(),
        content: serde_json::json!({
            "from": format!("Bench <news@{tenant}.example>"),
            "subject": "News for {{ name }}, number {{ n }}",
            "text": "Lorem ipsum dolor sit amet, {{ name }}, consectetur adipiscing elit.\n".repeat(6),
        })
        .to_string(),
        send_at: None,
        expires_at: None,
        recipients: Recipients::default(),
        idempotency: None,
    }
}
