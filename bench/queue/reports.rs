//! Reports that come back by mail: how many a second are stored and worked off.
//!
//! Clients hand mails to a real daemon's listener over loopback as mail servers do, each
//! sending the next one when the last is acknowledged. Measured is from the first connection until
//! the last report is worked off: evidence written, addresses suppressed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use postrider::domain::ids::DeliveryId;
use postrider::message::return_path::Purpose;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::fill::{Layout, fill};
use crate::program::Program;
use crate::returned::{Kind, mail};
use crate::sink::Sink;
use crate::stand::{CONNECTIONS, Database, Stand, Wanted, free_address, relay, return_key};
use crate::table::{Cell, Table};
use crate::{say, usage, verdict};

/// Reports a second that must be stored and worked off.
const TARGET: f64 = 2_000.0;

/// Longest time without progress.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// How many, from how many.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Reports in all.
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    reports: u64,
    /// Connections at once.
    #[arg(long, default_value_t = 32, value_name = "N")]
    connections: u64,
    /// Mails over one connection before it is closed.
    #[arg(long, default_value_t = 20, value_name = "N")]
    per_connection: u64,
    /// By LMTP, as from a mail server in front.
    #[arg(long)]
    lmtp: bool,
    /// 200,000 reports.
    #[arg(long)]
    full: bool,
}

/// A mail with its recipient.
type Letter = (String, Vec<u8>);

/// Measures, prints, judges.
pub(crate) async fn run(stand: &Stand, args: &Args) -> anyhow::Result<()> {
    let reports = if args.full { 200_000 } else { args.reports.max(1) };
    let database = stand.database("reports").await?;
    fill(stand, &database, Layout { tenants: 4, streams: 1, rows: reports }).await?;
    let letters = delivered(&database).await?;
    database.settle_down().await?;
    let expected = (0..letters.len() as u64).filter(|n| Kind::of(*n).suppresses()).count();
    let (sink, metrics, listen) = (Sink::start().await?, free_address()?, free_address()?);
    let door = if args.lmtp { "lmtp_listen" } else { "smtp_listen" };
    let more = format!(
        "[feedback]\nreturn_path_domain = \"bounces.bench.example\"\n[inbound]\n{door} = \"{listen}\"\n\
         max_connections = 1000\nmax_connections_per_address = 1000\nmails_per_minute = 10000000\n"
    );
    let wanted = Wanted {
        database: &database,
        route: relay(sink.address(), CONNECTIONS),
        api: free_address()?,
        metrics,
        queue: "",
        more: &more,
    };
    let config = stand.configure("reports", &wanted)?;
    let mut daemon = Program::daemon(&config, metrics).await?;
    let postmaster = stand.postmaster()?;
    let before = (
        usage::cpu(daemon.pid()),
        usage::cpu_of_family(postmaster),
        usage::cpu(std::process::id()),
    );
    let (count, bytes) = (letters.len(), letters.iter().map(|(_, mail)| mail.len()).sum::<usize>());
    let began = Instant::now();
    let mut waits = hand_over(listen, letters, args).await?;
    let stored = began.elapsed();
    worked_off(&database, &mut daemon, count as u64).await?;
    let took = began.elapsed();

    let micros =
        |now: Duration, then: Duration| now.saturating_sub(then).as_secs_f64() * 1e6 / count as f64;
    waits.sort();
    let percentile = |percent: usize| {
        waits
            .get((waits.len() * percent / 100).min(waits.len() - 1))
            .map_or(0.0, |wait| wait.as_secs_f64() * 1e3)
    };
    let rate = count as f64 / took.as_secs_f64();
    let mut table = Table::new(
        "reports",
        &[
            "reports",
            "bytes each",
            "connections",
            "stored/s",
            "stored and worked off/s",
            "p50 ms",
            "p99 ms",
            "daemon us",
            "Postgres us",
            "clients us",
        ],
    );
    table.row(vec![
        Cell::whole(count as f64),
        Cell::whole(bytes as f64 / count as f64),
        Cell::whole(args.connections as f64),
        Cell::whole(count as f64 / stored.as_secs_f64()),
        Cell::whole(rate),
        Cell::tenth(percentile(50)),
        Cell::tenth(percentile(99)),
        Cell::whole(micros(usage::cpu(daemon.pid()), before.0)),
        Cell::whole(micros(usage::cpu_of_family(postmaster), before.1)),
        Cell::whole(micros(usage::cpu(std::process::id()), before.2)),
    ]);
    say(&table.to_string());
    let (suppressed, evidence): (i64, i64) = sqlx::query_as(
        "select (select count(*) from postrider.suppression),
                (select count(*) from postrider.attempt where kind = 9)",
    )
    .fetch_one(&database.pool)
    .await?;
    ensure!(
        suppressed as usize == expected,
        "expected {expected} suppressed addresses, found {suppressed}"
    );
    say(&format!(
        "{evidence} lines of evidence, {suppressed} addresses suppressed: as many as there should be"
    ));
    verdict(
        rate >= TARGET,
        &format!(
            "{rate:.0} reports/s from the first connection to the last effect (target: at least 2000)"
        ),
    );
    daemon.stop().await?;
    database.pool.close().await;
    stand.drop("reports").await
}

/// Makes everything that waits delivered, and a mail that comes back for each.
async fn delivered(database: &Database) -> anyhow::Result<Vec<Letter>> {
    for statement in [
        "insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, code, detail)
         select tenant_id, message_id, job_id, 1, 1, 250, '{\"reply\":\"250 2.0.0 Ok: queued\"}' from postrider.job",
        "delete from postrider.ready",
    ] {
        sqlx::query(statement).execute(&database.pool).await?;
    }
    let jobs: Vec<(i64, String)> =
        sqlx::query_as("select job_id, recipient from postrider.job order by md5(job_id::text)")
            .fetch_all(&database.pool)
            .await?;
    let key = return_key()?;
    jobs.into_iter()
        .enumerate()
        .map(|(n, (job, recipient))| {
            let back = key
                .address(Purpose::Return, DeliveryId::new(job), "bounces.bench.example")
                .context("no address")?
                .to_string();
            let n = n as u64;
            let mail = mail(Kind::of(n), n, &recipient, &back);
            Ok((back, mail))
        })
        .collect()
}

/// Hands everything over; how long each waited for its acknowledgement.
async fn hand_over(
    listen: SocketAddr,
    letters: Vec<Letter>,
    args: &Args,
) -> anyhow::Result<Vec<Duration>> {
    let each = letters.len().div_ceil(args.connections.max(1) as usize);
    let mut running = JoinSet::new();
    let mut letters = letters.into_iter();
    loop {
        let mine: Vec<Letter> = letters.by_ref().take(each).collect();
        if mine.is_empty() {
            break;
        }
        let (per_connection, hello) =
            (args.per_connection.max(1) as usize, if args.lmtp { "LHLO" } else { "EHLO" });
        running.spawn(async move {
            let mut waits = Vec::with_capacity(mine.len());
            for some in mine.chunks(per_connection) {
                converse(listen, hello, some, &mut waits).await?;
            }
            anyhow::Ok(waits)
        });
    }
    let mut waits = Vec::new();
    while let Some(ended) = running.join_next().await {
        waits.extend(ended??);
    }
    Ok(waits)
}

/// One connection.
async fn converse(
    listen: SocketAddr,
    hello: &str,
    letters: &[Letter],
    waits: &mut Vec<Duration>,
) -> anyhow::Result<()> {
    let stream = TcpStream::connect(listen).await?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    expect(&mut stream, "220").await?;
    stream.write_all(format!("{hello} mx.receiver.example\r\n").as_bytes()).await?;
    expect(&mut stream, "250").await?;
    for (to, mail) in letters {
        let began = Instant::now();
        let envelope = format!("MAIL FROM:<> SIZE={}\r\nRCPT TO:<{to}>\r\nDATA\r\n", mail.len());
        stream.write_all(envelope.as_bytes()).await?;
        for reply in ["250", "250", "354"] {
            expect(&mut stream, reply).await?;
        }
        stream.write_all(mail).await?;
        expect(&mut stream, "250").await?;
        waits.push(began.elapsed());
    }
    stream.write_all(b"QUIT\r\n").await?;
    expect(&mut stream, "221").await
}

/// Reads one reply, which must begin so.
async fn expect(stream: &mut BufReader<TcpStream>, code: &str) -> anyhow::Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        ensure!(line.starts_with(code), "expected {code}, found {line:?}");
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(());
        }
    }
}

/// Waits until so many reports are worked off.
async fn worked_off(database: &Database, daemon: &mut Program, count: u64) -> anyhow::Result<()> {
    let (mut seen, mut moved) = (0, Instant::now());
    loop {
        daemon.check()?;
        let done: i64 = sqlx::query_scalar(
            "select count(*) from postrider.inbound_report where done_at is not null",
        )
        .fetch_one(&database.pool)
        .await?;
        if done as u64 >= count {
            return Ok(());
        }
        if done > seen {
            (seen, moved) = (done, Instant::now());
        }
        ensure!(moved.elapsed() < STUCK_AFTER, "stuck at {seen} of {count} reports");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
