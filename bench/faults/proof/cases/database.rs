//! The database goes away, comes back, and loses its voice.

use std::time::{Duration, Instant};

use anyhow::Context;
use rand::RngExt;
use sqlx::PgConnection;

use super::{Ran, Run, end};
use crate::proof::auditor::Duplicates;
use crate::proof::proxy::Weather;
use crate::proof::receiver::Point;
use crate::proof::server::Stop;
use crate::proof::stage::{Setup, Stage};

/// Deliveries that must have gone before a fault.
const WARM: usize = 50;

/// Case 4, as in a crash.
pub(super) async fn restart_immediate(run: Run<'_>) -> anyhow::Result<Ran> {
    restart(run, Stop::Immediate).await
}

/// Case 4, by an operator.
pub(super) async fn restart_fast(run: Run<'_>) -> anyhow::Result<Ran> {
    restart(run, Stop::Fast).await
}

async fn restart(run: Run<'_>, how: Stop) -> anyhow::Result<Ran> {
    let mut stage = Stage::open(run.template, Setup::default(), run.seed).await?;
    let load = stage.load("m");
    stage.receives(WARM).await?;
    for _ in 0..2 {
        stage.while_away(0, 1_000).await;
        let since = stage.now().await?;
        stage.server.stop(how)?;
        quiet_without_database(&mut stage).await;
        stage.server.start()?;
        stage.recovery(since).await?;
    }
    end(stage, load, Duplicates::Never).await
}

/// Lets an outage last, and looks that sends come to a stop in it: nothing may be begun
/// while its outcome cannot be written.
async fn quiet_without_database(stage: &mut Stage) {
    // What was in hand when the database went is sent and waits to be written.
    stage.while_away(1_500, 2_000).await;
    let before = stage.receiver.count();
    stage.while_away(500, 2_000).await;
    let begun = stage.receiver.count() - before;
    if begun > 0 {
        let text = format!("{begun} mails were sent while no outcome could be written");
        stage.violations.push(text);
    }
}

/// Case 6: the statement commits and its answer is lost with the connection, at random.
pub(super) async fn lost_answers(run: Run<'_>) -> anyhow::Result<Ran> {
    let mut stage = Stage::open(run.template, Setup::default(), run.seed).await?;
    let load = stage.load("m");
    stage.receives(WARM).await?;
    let since = stage.now().await?;
    stage.proxy.set(Weather::Cutting(0.02));
    stage.while_away(4_000, 6_000).await;
    stage.proxy.set(Weather::Fair);
    if stage.proxy.cuts() == 0 {
        stage.violations.push("no connection was cut: nothing was proven".into());
    }
    stage.recovery(since).await?;
    end(stage, load, Duplicates::Never).await
}

/// The other half of case 6: nothing is closed, nothing answers. Only a deadline of the
/// client's own ends that.
pub(super) async fn silence(run: Run<'_>) -> anyhow::Result<Ran> {
    let setup = Setup { database: "statement_timeout = \"2s\"".into(), ..Setup::default() };
    let mut stage = Stage::open(run.template, setup, run.seed).await?;
    let load = stage.load("m");
    stage.receives(WARM).await?;
    let since = stage.now().await?;
    stage.proxy.set(Weather::Silent);
    stage.while_away(3_000, 6_000).await;
    // The connections of before never speak again, as after a failover of a whole machine.
    stage.proxy.forsake();
    stage.proxy.set(Weather::Fair);
    stage.recovery(since).await?;
    end(stage, load, Duplicates::InDoubt).await
}

/// Case 8: two connections for everyone, and locks taken against the order of ours, so
/// that the database ends statements with 40P01; and 40001 for those that ask for it.
pub(super) async fn exhausted(run: Run<'_>) -> anyhow::Result<Ran> {
    let database = "pool_size = 2\nacquire_timeout = \"500ms\"".to_owned();
    let mut stage =
        Stage::open(run.template, Setup { database, ..Setup::default() }, run.seed).await?;
    let load = stage.load("m");
    stage.receives(WARM).await?;
    let since = stage.now().await?;
    let mut rival = stage.connect().await?;
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until {
        deadlock(&mut rival).await;
        stage.while_away(20, 200).await;
    }
    drop(rival);
    stage.recovery(since).await?;
    end(stage, load, Duplicates::Never).await
}

/// Takes rows of the hot tables one after the other, newest first, and holds each for a
/// while: against statements that take several this closes a circle.
async fn deadlock(rival: &mut PgConnection) {
    // Whoever is chosen to give way, we or they: both are what the case is about.
    let _ = sqlx::raw_sql(
        "begin; set local deadlock_timeout = '1s';
         select 1 from postrider.lease order by job_id desc limit 3 for update;
         select pg_sleep(0.05);
         select 1 from postrider.lane_hint order by lane_id desc for update;
         select pg_sleep(0.05);
         select 1 from postrider.lease order by job_id limit 20 for update; rollback",
    )
    .execute(&mut *rival)
    .await;
    let _ = sqlx::raw_sql("rollback").execute(rival).await;
}

/// Case 9: wake-ups are lost; polling finds the work.
pub(super) async fn deaf(run: Run<'_>) -> anyhow::Result<Ran> {
    let mut stage = Stage::open(run.template, Setup::default(), run.seed).await?;
    let load = stage.load("m");
    stage.receives(WARM).await?;
    let since = stage.now().await?;
    let mut admin = stage.connect().await?;
    for _ in 0..20 {
        sqlx::query(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where query ilike 'listen%' and pid <> pg_backend_pid()",
        )
        .execute(&mut admin)
        .await?;
        stage.while_away(50, 400).await;
    }
    stage.recovery(since).await?;
    end(stage, load, Duplicates::Never).await
}

/// Case 42: the database crashes while a daemon is told to stop in the middle of a mail.
pub(super) async fn restart_during_terminate(run: Run<'_>) -> anyhow::Result<Ran> {
    let mut stage = Stage::open(run.template, Setup::default(), run.seed).await?;
    let load = stage.load("m");
    stage.receives(WARM).await?;
    let after = stage.rng.random_range(0..20);
    let caught = stage.receiver.trap(Point::InData, after);
    let caught = tokio::time::timeout(Duration::from_secs(30), caught)
        .await
        .context("no sender came by")??;
    let since = stage.now().await?;
    let n = Stage::number_of(&caught.sender)?;
    stage.daemon(n)?.signal("TERM")?;
    stage.while_away(0, 100).await;
    stage.server.stop(Stop::Immediate)?;
    caught.hold.cancel();
    stage.while_away(0, 1_000).await;
    stage.server.start()?;
    stage.daemon(n)?.end().await?;
    stage.start_daemon(n)?;
    stage.recovery(since).await?;
    // Should it not have been able to write in time, the rescue says so.
    end(stage, load, Duplicates::InDoubt).await
}
