//! One process dies, is told to stop, or stands still.

use std::time::Duration;

use anyhow::Context;
use rand::RngExt;

use super::{Ran, Run, end};
use crate::proof::auditor::Duplicates;
use crate::proof::client::Pace;
use crate::proof::receiver::{Manners, Point};
use crate::proof::stage::{Setup, Stage};

/// Longest wait for a sender to walk into a trap.
const TRAP: Duration = Duration::from_secs(30);

/// Deliveries that must have gone before a fault: the installation is warm.
const WARM: usize = 50;

/// Case 1: the receiver has taken the mail and said so; the outcome is not yet written.
pub(super) async fn after_the_reply(run: Run<'_>) -> anyhow::Result<Ran> {
    kill_at(run, Point::AfterReply).await
}

/// Case 3: the body is under way.
pub(super) async fn inside_data(run: Run<'_>) -> anyhow::Result<Ran> {
    kill_at(run, Point::InData).await
}

async fn kill_at(run: Run<'_>, point: Point) -> anyhow::Result<Ran> {
    let setup = Setup { session_ttl: 2, ..Setup::default() };
    let mut stage = Stage::open(run.template, setup, run.seed).await?;
    let load = stage.load("m");
    stage.receives(WARM).await?;
    let after = stage.rng.random_range(0..20);
    let caught = stage.receiver.trap(point, after);
    let caught = tokio::time::timeout(TRAP, caught).await.context("no sender came by")??;
    let since = stage.now().await?;
    let n = Stage::number_of(&caught.sender)?;
    stage.daemon(n)?.kill()?;
    caught.hold.cancel();
    stage.start_daemon(n)?;
    stage.recovery(since).await?;
    end(stage, load, Duplicates::InDoubt).await
}

/// Case 2: claims are made, and the receiver's banners are late.
pub(super) async fn before_connecting(run: Run<'_>) -> anyhow::Result<Ran> {
    let late = Manners { banner: Duration::from_millis(400), dot: Duration::ZERO };
    let setup = Setup { replicas: 1, session_ttl: 2, manners: late, ..Setup::default() };
    let mut stage = Stage::open(run.template, setup, run.seed).await?;
    let load = stage.load("m");
    let mut database = stage.connect().await?;
    loop {
        let held: i64 = sqlx::query_scalar("select count(*) from postrider.lease")
            .fetch_one(&mut database)
            .await?;
        if held > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stage.while_away(0, 300).await;
    let (since, arrived) = (stage.now().await?, stage.receiver.count());
    stage.daemon(0)?.kill()?;
    if stage.receiver.count() > arrived {
        stage.violations.push("the kill came too late to prove anything".into());
    }
    stage.receiver.behave(Manners::default());
    stage.start_daemon(0)?;
    stage.recovery(since).await?;
    // Nobody had been reached, so nobody may get a mail twice.
    end(stage, load, Duplicates::Never).await
}

/// Case 10: SIGTERM while a mail is in DATA; it ends with 0, and nothing comes twice.
pub(super) async fn terminate(run: Run<'_>) -> anyhow::Result<Ran> {
    let mut stage = Stage::open(run.template, Setup::default(), run.seed).await?;
    let load = stage.load("m");
    stage.receives(WARM).await?;
    let after = stage.rng.random_range(0..20);
    let caught = stage.receiver.trap(Point::InData, after);
    let caught = tokio::time::timeout(TRAP, caught).await.context("no sender came by")??;
    let since = stage.now().await?;
    let n = Stage::number_of(&caught.sender)?;
    stage.daemon(n)?.signal("TERM")?;
    stage.while_away(0, 200).await;
    caught.hold.cancel();
    stops_well(&mut stage, n).await?;
    stage.start_daemon(n)?;
    stage.recovery(since).await?;
    end(stage, load, Duplicates::Never).await
}

/// Waits for the end of a daemon that was told to stop, which must be 0.
async fn stops_well(stage: &mut Stage, n: usize) -> anyhow::Result<()> {
    let code = stage.daemon(n)?.end().await?;
    if code != Some(0) {
        stage.violations.push(format!("r{n} ended with {code:?} when it was told to stop"));
    }
    stage.daemons[n] = None;
    Ok(())
}

/// Case 11: it stands still for longer than its lease lasts, and others take its work.
/// What it had sent is in doubt; when it wakes it may neither record nor begin anything.
pub(super) async fn frozen(run: Run<'_>) -> anyhow::Result<Ran> {
    let setup = Setup { session_ttl: 2, ..Setup::default() };
    let mut stage = Stage::open(run.template, setup, run.seed).await?;
    let load = stage.load("m");
    stage.receives(WARM).await?;
    stage.while_away(0, 500).await;
    let since = stage.now().await?;
    stage.daemon(0)?.signal("STOP")?;
    // Fenced after 2 s of silence, rescued within 2 s more.
    let mut database = stage.connect().await?;
    let fenced =
        "select count(*) from postrider.worker_session where worker = 'r0' and state = 'fenced'";
    let rescued = "select count(*) from postrider.lease l join postrider.worker_session s
                   using (session_id) where s.state = 'fenced'";
    loop {
        let fenced: i64 = sqlx::query_scalar(fenced).fetch_one(&mut database).await?;
        let held: i64 = sqlx::query_scalar(rescued).fetch_one(&mut database).await?;
        if fenced > 0 && held == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stage.while_away(0, 1_000).await;
    stage.daemon(0)?.signal("CONT")?;
    stage.recovery(since).await?;
    end(stage, load, Duplicates::InDoubt).await
}

/// The long series: every 1.5 to 2.5 s one of three daemons is killed and started again.
pub(super) async fn kills(run: Run<'_>) -> anyhow::Result<Ran> {
    let setup = Setup {
        replicas: 3,
        session_ttl: 2,
        concurrency: 32,
        pace: Pace { rate: 50.0, most: 4 },
        ..Setup::default()
    };
    let bound = (setup.connections + setup.settle_batch) as usize;
    let mut stage = Stage::open(run.template, setup, run.seed).await?;
    let load = stage.load("m");
    stage.receives(WARM).await?;
    for kill in 1..=run.kills {
        stage.while_away(1_500, 2_500).await;
        let n = stage.rng.random_range(0..stage.daemons.len());
        stage.daemon(n)?.kill()?;
        stage.start_daemon(n)?;
        if kill % 20 == 0 {
            let (kills, mails) = (run.kills, stage.receiver.count());
            crate::proof::say(&format!("    {kill} of {kills} kills, {mails} mails"));
        }
    }
    let since = stage.now().await?;
    stage.recovery(since).await?;
    let (mut findings, recoveries) = stage.finish(load, Duplicates::InDoubt).await?;
    if findings.duplicated > run.kills as usize * bound {
        let text = format!("I2: {} duplicates, more than {bound} a kill", findings.duplicated);
        findings.violations.push(text);
    }
    Ok(Ran::Done(findings, recoveries))
}

/// The same with SIGTERM: nothing may come twice, and each ends with 0.
pub(super) async fn terms(run: Run<'_>) -> anyhow::Result<Ran> {
    let setup = Setup { replicas: 3, concurrency: 32, ..Setup::default() };
    let mut stage = Stage::open(run.template, setup, run.seed).await?;
    let load = stage.load("m");
    stage.receives(WARM).await?;
    for _ in 0..(run.kills / 10).max(3) {
        stage.while_away(300, 1_200).await;
        let n = stage.rng.random_range(0..stage.daemons.len());
        stage.daemon(n)?.ready().await?;
        stage.daemon(n)?.signal("TERM")?;
        stops_well(&mut stage, n).await?;
        stage.start_daemon(n)?;
    }
    let since = stage.now().await?;
    stage.recovery(since).await?;
    end(stage, load, Duplicates::Never).await
}
