//! Submission over HTTP and delivery at the same time, both durable.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::ndjson::Caller;
use crate::program::Program;
use crate::sink::Sink;
use crate::stand::{CONNECTIONS, Database, Stand, Wanted, free_address, relay};
use crate::table::{Cell, Table};
use crate::{say, usage, verdict};

/// Mails a second that must pass through both.
const TARGET: f64 = 8_000.0;

/// Longest time without a mail.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// How much, in what pieces.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Mails in all.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    mails: u64,
    /// Recipients of each request.
    #[arg(long, default_value_t = 100, value_name = "N")]
    per_request: u64,
    /// Clients that each submit as soon as their last request is answered.
    #[arg(long, default_value_t = 8, value_name = "N")]
    clients: u64,
}

/// Measures, prints, judges.
pub(crate) async fn run(stand: &Stand, args: &Args) -> anyhow::Result<()> {
    let database = stand.database("together").await?;
    let scope = database.tenant("shop").await?;
    let key = database.key(scope).await?;
    let (sink, api, metrics) = (Sink::start().await?, free_address()?, free_address()?);
    let wanted = Wanted {
        database: &database,
        route: relay(sink.address(), CONNECTIONS),
        api,
        metrics,
        queue: "",
        more: "",
    };
    let config = stand.configure("together", &wanted)?;
    let mut daemon = Program::daemon(&config, metrics).await?;
    let server = Program::api(&config, api).await?;
    let postmaster = stand.postmaster()?;

    let (per_request, clients) = (args.per_request.max(1), args.clients.max(1));
    let requests = args.mails.div_ceil(per_request).div_ceil(clients);
    let mails = requests * clients * per_request;
    let before =
        (usage::cpu(server.pid()), usage::cpu(daemon.pid()), usage::cpu_of_family(postmaster));
    let began = Instant::now();
    let mut running = JoinSet::new();
    for client in 0..clients {
        let caller = Caller::new(api, key.clone())?;
        running.spawn(async move {
            for request in 0..requests {
                let first = (client * requests + request) * per_request;
                caller.submit(&mail(first, per_request)).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    let submitted = began.elapsed();
    let (mut seen, mut moved) = (0, Instant::now());
    loop {
        daemon.check()?;
        // Outcomes are counted once all has arrived: counting costs the database more than they.
        let arrived = sink.taken();
        if arrived >= mails && outcomes(&database).await? >= mails {
            break;
        }
        if arrived > seen {
            (seen, moved) = (arrived, Instant::now());
        }
        ensure!(moved.elapsed() < STUCK_AFTER, "stuck at {seen} of {mails} mails");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = began.elapsed();
    let micros =
        |now: Duration, then: Duration| now.saturating_sub(then).as_secs_f64() * 1e6 / mails as f64;
    let rate = mails as f64 / took.as_secs_f64();
    let mut table = Table::new(
        "together",
        &[
            "mails",
            "per request",
            "clients",
            "submitted/s",
            "submitted and delivered/s",
            "API us/mail",
            "daemon us/mail",
            "Postgres us/mail",
        ],
    );
    table.row(vec![
        Cell::whole(mails as f64),
        Cell::whole(per_request as f64),
        Cell::whole(clients as f64),
        Cell::whole(mails as f64 / submitted.as_secs_f64()),
        Cell::whole(rate),
        Cell::tenth(micros(usage::cpu(server.pid()), before.0)),
        Cell::tenth(micros(usage::cpu(daemon.pid()), before.1)),
        Cell::tenth(micros(usage::cpu_of_family(postmaster), before.2)),
    ]);
    say(&table.to_string());
    verdict(
        rate >= TARGET,
        &format!(
            "{rate:.0} mails/s from the first request to the last outcome (target: at least 8000)"
        ),
    );
    server.stop().await?;
    daemon.stop().await?;
    database.pool.close().await;
    stand.drop("together").await
}

/// Deliveries with an outcome.
async fn outcomes(database: &Database) -> anyhow::Result<u64> {
    let ended: i64 =
        sqlx::query_scalar("select count(*) from postrider.attempt where kind between 1 and 6")
            .fetch_one(&database.pool)
            .await?;
    Ok(u64::try_from(ended)?)
}

/// A message of 1 KB to as many people.
fn mail(first: u64, recipients: u64) -> Value {
    let to: Vec<Value> = (first..first + recipients)
        .map(|n| {
            let provider = n % 8;
            json!({"to": format!("reader{n}@provider{provider}.example"),
                   "vars": {"name": format!("Reader {n}"), "n": n}})
        })
        .collect();
    json!({
        "from": "Bench <news@shop.example>",
        "subject": "News for {{ name }}, number {{ n }}",
        "text": "Lorem ipsum dolor sit amet, {{ name }}, consectetur adipiscing elit.\n".repeat(6),
        "stream": "bulk",
        "recipients": to,
    })
}
