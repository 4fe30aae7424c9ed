//! Case 5: the machine of the primary is gone; its synchronous standby takes over.

use std::time::Duration;

use sqlx::{Connection, PgConnection};

use super::{Ran, Run, end};
use crate::proof::auditor::Duplicates;
use crate::proof::stage::{Setup, Stage};

/// The primary is killed, the standby promoted, and the address moved to it, as an operator
/// or a cluster manager does. What was acknowledged was on both, so nothing is lost.
pub(super) async fn synchronous(run: Run<'_>) -> anyhow::Result<Ran> {
    let mut stage = Stage::open(run.template, Setup::default(), run.seed).await?;
    let standby = stage.server.standby(&stage.place("standby"))?;
    standby.start()?;
    stage.server.configure("synchronous_standby_names = '*'")?;
    stage.server.reload()?;
    let mut admin = PgConnection::connect(&stage.server.url("postgres")).await?;
    let follows = "select exists (select 1 from pg_stat_replication where sync_state = 'sync')";
    while !sqlx::query_scalar::<_, bool>(follows).fetch_one(&mut admin).await? {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let load = stage.load("m");
    stage.receives(50).await?;
    stage.while_away(0, 1_500).await;
    let since = stage.now().await?;
    stage.server.kill()?;
    stage.while_away(0, 1_000).await;
    standby.promote()?;
    stage.proxy.point_at(&standby.socket());
    stage.server = standby;
    stage.recovery(since).await?;
    end(stage, load, Duplicates::Never).await
}
