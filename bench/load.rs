//! A full queue: N deliveries, submitted by the statements that the API uses.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use postrider::cli::dev::cluster::Cluster;
use postrider::config::Secrets;
use postrider::config::secret::Secret;
use postrider::message::dkim::Algorithm;
use postrider::message::time_zone::TimeZone;
use postrider::queue::enqueue::{Chunk, Enqueue, Recipients, Submission, sha256};
use postrider::queue::migrate;
use postrider::tenant::seal::Sealer;
use postrider::tenant::{domain, store};
use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection, PgPool};

use crate::{Args, Dkim, Size};

/// Recipients stored by one statement, as in an upload.
const CHUNK: u32 = 5_000;

/// The key that seals private keys: worth nothing, the database is thrown away.
const KEY: &str = "YmVuY2ggYmVuY2ggYmVuY2ggYmVuY2ggYmVuY2ggYiE=";

/// A database with a full queue.
pub(crate) struct Load {
    /// Its address.
    pub(crate) url: String,
    /// How long the submission took.
    pub(crate) took: Duration,
}

impl Load {
    /// Makes the database anew and fills the queue.
    pub(crate) async fn submit(
        cluster: &Cluster,
        folder: &Path,
        args: &Args,
    ) -> anyhow::Result<Self> {
        let mut admin = PgConnection::connect(&cluster.url("postgres")).await?;
        for statement in ["drop database if exists bench with (force)", "create database bench"] {
            sqlx::raw_sql(statement).execute(&mut admin).await.context(statement)?;
        }
        fs::write(folder.join("key"), KEY)?;

        let url = cluster.url("bench");
        let pool = PgPoolOptions::new().max_connections(4).connect(&url).await?;
        migrate::up(&pool).await.context("cannot migrate")?;
        let started = Instant::now();
        fill(&pool, args).await?;
        let took = started.elapsed();
        pool.close().await;
        // What the load left to write is not the run's to pay.
        sqlx::raw_sql("checkpoint").execute(&mut admin).await?;
        Ok(Self { url, took })
    }
}

async fn fill(pool: &PgPool, args: &Args) -> anyhow::Result<()> {
    store::create(pool, "bench", 100, TimeZone::default()).await?;
    let scope = store::scope(pool, "bench").await?;
    let sealer = Sealer::new(&Secrets { key: Some(Secret::new(KEY)) })?;
    let algorithms: &[Algorithm] = match args.dkim {
        Dkim::None => &[],
        Dkim::Ed25519 => &[Algorithm::Ed25519Sha256],
        Dkim::Rsa => &[Algorithm::RsaSha256],
        Dkim::Both => &[Algorithm::RsaSha256, Algorithm::Ed25519Sha256],
    };
    domain::add(pool, scope, &sealer, "bench.example", "bench", algorithms, "bench").await?;

    let enqueue = Enqueue::new(pool.clone());
    let submission = Submission {
        from_domain: "bench.example".into(),
        stream: "bulk".into(),
        content: content(args.size).to_string(),
        send_at: None,
        expires_at: None,
        recipients: Recipients::default(),
        idempotency: None,
    };
    let message = enqueue.submit(&scope, &submission).await?.id;
    for (number, first) in (0..args.count).step_by(CHUNK as usize).enumerate() {
        let mut recipients = Recipients::default();
        for n in first..args.count.min(first + CHUNK) {
            let payload = json!({"vars": {"name": format!("Reader {n}"), "n": n}});
            recipients
                .push(format!("reader{n}@{}", DOMAINS[n as usize % 8]), Some(payload.to_string()));
        }
        let digest = sha256(&first.to_be_bytes());
        let number = i32::try_from(number)?;
        enqueue
            .append(&scope, message, &Chunk { upload: None, number, digest, recipients })
            .await?;
    }
    Ok(())
}

const DOMAINS: [&str; 8] = [
    "gmail.com",
    "gmail.com",
    "gmail.com",
    "outlook.com",
    "outlook.com",
    "yahoo.com",
    "example.org",
    "example.net",
];

/// A message whose mails are about as large as asked for, headers included.
fn content(size: Size) -> Value {
    let line = "Lorem ipsum dolor sit amet, {{ name }}, consectetur adipiscing elit.\n";
    let mut message = json!({
        "from": "Bench <news@bench.example>",
        "subject": "News for {{ name }}, number {{ n }}",
    });
    match size {
        Size::Small => message["text"] = line.repeat(6).into(),
        Size::Large => {
            let paragraph = format!("<p style=\"margin: 0 0 1em\">{}</p>\n", line.trim_end());
            message["html"] =
                format!("<html><body>\n{}</body></html>\n", paragraph.repeat(80)).into();
            message["text"] = line.repeat(12).into();
        }
    }
    message
}
