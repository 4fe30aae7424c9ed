//! Everything behind PgBouncer in transaction mode.

use super::{Ran, Run, end};
use crate::proof::auditor::Duplicates;
use crate::proof::bouncer::Bouncer;
use crate::proof::stage::{Setup, Stage};

/// Case 9, second half: daemons and API share few server connections, a transaction each.
pub(super) async fn transaction_mode(run: Run<'_>) -> anyhow::Result<Ran> {
    let (mut stage, bouncer) = match open(run).await? {
        Ok(behind) => behind,
        Err(why) => return Ok(Ran::NotRun(why)),
    };
    let load = stage.load("m");
    stage.receives(200).await?;
    let since = stage.now().await?;
    stage.recovery(since).await?;
    let ran = end(stage, load, Duplicates::Never).await;
    drop(bouncer);
    ran
}

/// Case 8, last part: the pooler dies and comes back.
pub(super) async fn restarted(run: Run<'_>) -> anyhow::Result<Ran> {
    let (mut stage, mut bouncer) = match open(run).await? {
        Ok(behind) => behind,
        Err(why) => return Ok(Ran::NotRun(why)),
    };
    let load = stage.load("m");
    stage.receives(100).await?;
    for _ in 0..3 {
        stage.while_away(200, 1_000).await;
        let since = stage.now().await?;
        bouncer.kill()?;
        stage.while_away(100, 1_000).await;
        bouncer.start().await?;
        stage.recovery(since).await?;
    }
    let ran = end(stage, load, Duplicates::Never).await;
    drop(bouncer);
    ran
}

/// A stage whose processes reach Postgres through PgBouncer alone; or why there is none.
async fn open(run: Run<'_>) -> anyhow::Result<Result<(Stage, Bouncer), String>> {
    let program = match Bouncer::find() {
        Ok(program) => program,
        Err(why) => return Ok(Err(why)),
    };
    let setup = Setup { replicas: 0, ..Setup::default() };
    let mut stage = Stage::open(run.template, setup, run.seed).await?;
    stage.setup.database = "transaction_pooler = true".into();
    let mut bouncer = Bouncer::new(program, &stage.place("bouncer"), &stage.server)?;
    bouncer.start().await?;
    stage.proxy.point_at(&bouncer.socket());
    // Each program has a login whose role is set on the login itself: a pooler hands on no
    // setting of a session.
    let mut admin = stage.connect().await?;
    for role in ["worker", "api"] {
        let statement = format!(
            "create role bouncer_{role} login in role postrider_{role};
             alter role bouncer_{role} set role = 'postrider_{role}';"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut admin).await?;
    }
    let url = stage.proxy.url("mail");
    stage.set_url(url.replace("user=postgres", "user=bouncer_api"));
    stage.restart_api().await?;
    stage.set_url(url.replace("user=postgres", "user=bouncer_worker"));
    for n in 0..2 {
        stage.start_daemon(n)?;
    }
    stage.all_ready().await?;
    Ok(Ok((stage, bouncer)))
}
