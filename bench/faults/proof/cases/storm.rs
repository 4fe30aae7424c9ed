//! A storm of bounces, complaints and events, while everything is killed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rand::seq::SliceRandom;
use sqlx::PgConnection;

use super::{Ran, Run};
use crate::proof::aftermath;
use crate::proof::auditor::Duplicates;
use crate::proof::client::Pace;
use crate::proof::consumer::Consumer;
use crate::proof::replica::Harness;
use crate::proof::reporter::Reporter;
use crate::proof::say;
use crate::proof::stage::{Setup, Stage};

/// Deliveries that must have gone before a fault.
const WARM: usize = 50;

/// Longest wait for what is left to be worked off and told: what a killed daemon had taken is
/// lent to it for 90 s.
const PATIENCE: Duration = Duration::from_secs(300);

/// Who is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Daemon(usize),
    Api,
    Postgres,
    Everything,
}

const VICTIMS: [Victim; 5] =
    [Victim::Daemon(0), Victim::Daemon(1), Victim::Api, Victim::Postgres, Victim::Everything];

/// Each is killed with -9 some times, at any moment: no acknowledged report, no suppression and no
/// event is lost; consumers see the ids of the log, and the events of a delivery in order.
pub(super) async fn of_bounces(run: Run<'_>) -> anyhow::Result<Ran> {
    let setup = Setup {
        replicas: 0,
        session_ttl: 2,
        pace: Pace { rate: 40.0, most: 4 },
        more: MORE.into(),
        api_more: WEBHOOK.into(),
        ..Setup::default()
    };
    let mut stage = Stage::open(run.template, setup, run.seed).await?;
    let mut database = stage.connect().await?;
    // Each tenant's own domain takes what comes back, so that a mail's author stays plain.
    sqlx::query("update postrider.sending_domain set return_path = domain")
        .execute(&mut database)
        .await?;
    drop(database);
    let doors = [free_address()?, free_address()?];
    for n in 0..doors.len() {
        start(&mut stage, n, &doors)?;
    }
    stage.all_ready().await?;
    let consumer = Consumer::start(run.seed).await?;
    for (n, tenant) in stage.tenants.iter().enumerate() {
        // One event a request, and many.
        consumer.subscribe(stage.api.address(), tenant, if n == 0 { 1 } else { 20 }).await?;
    }
    let reporter = Reporter::start(&stage.receiver, doors.to_vec());
    let load = stage.load("m");
    stage.receives(WARM).await?;

    let mut victims = VICTIMS.repeat((run.kills as usize / VICTIMS.len()).clamp(1, 4));
    victims.shuffle(&mut stage.rng);
    for victim in victims {
        stage.while_away(300, 2_000).await;
        let since = stage.now().await?;
        kill(&mut stage, victim, &doors).await?;
        stage.recovery(since).await?;
    }
    load.stop().await?;
    stage.drained().await?;
    let taken = stage.receiver.count();
    let started = Instant::now();
    while reporter.done() < taken {
        patience(started, "reports are acknowledged")?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let acknowledged = reporter.finish().await?;
    let (mut findings, recoveries) = settle(stage, &consumer, &acknowledged).await?;
    findings.violations.sort();
    Ok(Ran::Done(findings, recoveries))
}

/// Waits until all is worked off and told, and judges.
async fn settle(
    mut stage: Stage,
    consumer: &Consumer,
    acknowledged: &HashMap<String, usize>,
) -> anyhow::Result<(crate::proof::auditor::Findings, Vec<Duration>)> {
    let mut database = stage.connect().await?;
    let settled = async {
        let started = Instant::now();
        while count(
            &mut database,
            "select count(*) from postrider.inbound_report where done_at is null",
        )
        .await?
            > 0
        {
            patience(started, "reports wait")?;
        }
        let events = count(&mut database, "select count(*) from postrider.event").await?;
        loop {
            let told = consumer.told();
            let ids: std::collections::HashSet<&str> =
                told.iter().map(|event| event.id.as_str()).collect();
            if ids.len() as i64 >= events {
                return anyhow::Ok(());
            }
            patience(started, &format!("{} of {events} events were told", ids.len()))?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    .await;
    if let Err(error) = settled {
        stage.violations.push(format!("I7: {error}"));
    }
    let told = consumer.told();
    let (counted, mut wrong) = aftermath::judge(&mut database, acknowledged, &told).await?;
    stage.violations.append(&mut wrong);
    say(&format!(
        "    {} reports acknowledged, {} addresses suppressed, {} events, {} told once more",
        counted.reports, counted.suppressed, counted.events, counted.repeated
    ));
    stage.judge(Duplicates::InDoubt).await
}

async fn kill(stage: &mut Stage, victim: Victim, doors: &[SocketAddr]) -> anyhow::Result<()> {
    match victim {
        Victim::Daemon(n) => {
            stage.daemon(n)?.kill()?;
            start(stage, n, doors)?;
        }
        Victim::Api => {
            stage.api.kill()?;
            stage.revive_api().await?;
        }
        Victim::Postgres => {
            stage.server.kill()?;
            stage.while_away(0, 500).await;
            stage.start_killed_server().await?;
        }
        Victim::Everything => {
            stage.server.kill()?;
            stage.api.kill()?;
            for n in 0..doors.len() {
                stage.daemon(n)?.kill()?;
            }
            stage.start_killed_server().await?;
            for n in 0..doors.len() {
                start(stage, n, doors)?;
            }
            stage.revive_api().await?;
        }
    }
    Ok(())
}

/// A daemon that listens at its own door.
fn start(stage: &mut Stage, n: usize, doors: &[SocketAddr]) -> anyhow::Result<()> {
    let door = doors.get(n).context("no such door")?.to_string();
    let variables = vec![("POSTRIDER__INBOUND__SMTP_LISTEN".to_owned(), door)];
    stage.start_daemon_under(n, &Harness { wrapper: Vec::new(), variables })
}

async fn count(database: &mut PgConnection, query: &'static str) -> anyhow::Result<i64> {
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(sqlx::query_scalar(query).fetch_one(database).await?)
}

fn patience(since: Instant, what: &str) -> anyhow::Result<()> {
    if since.elapsed() > PATIENCE {
        bail!("not within {PATIENCE:?}: {what}");
    }
    Ok(())
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Everything bounces here, which is no reason to hold it back; repeats come soon.
const MORE: &str = "[health]\npause = false\n\n[inbound]\nmails_per_minute = 1000000\n\
    max_connections_per_address = 100\n\n[webhook]\nallow_http = true\nallow_private_addresses = true\n\
    poll_interval = \"100ms\"\nfirst_retry = \"200ms\"\nlongest_retry = \"1s\"\ntimeout = \"5s\"\n";

/// For the API, which takes endpoints here.
const WEBHOOK: &str = "[webhook]\nallow_http = true\nallow_private_addresses = true\n";
