//! What reports and callbacks say, written: the ends of doubts, evidence in the history, and
//! suppressions.

use std::collections::HashMap;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::effect::Effect;
use crate::callback::Origin;
use crate::domain::ids::DeliveryId;
use crate::queue::doubt::{self, Doubts, Grounds, Resolution};
use crate::tenant::suppression::Keeper;

/// Doubts ended by one statement; more than a batch of reports can have recipients.
const MOST_DOUBTS: i64 = 32_768;

/// What was done about an effect.
pub(super) struct Applied {
    pub(super) report: i64,
    /// The delivery is here, and so is its tenant.
    pub(super) here: bool,
    pub(super) suppressed: bool,
}

/// Ends doubts, and writes evidence and suppressions.
pub(super) async fn apply(
    conn: &mut PgConnection,
    keeper: &Keeper,
    effects: &[&Effect],
) -> Result<Vec<Applied>, sqlx::Error> {
    if effects.is_empty() {
        return Ok(Vec::new());
    }
    // First, so that a tenant is told that it was delivered, and then what came back.
    end_doubts(conn, effects).await?;
    let listed = listed(conn, keeper, effects).await?;
    let rows = sqlx::query(include_str!("sql/apply_reports.sql"))
        .bind(effects.iter().map(|one| one.report).collect::<Vec<_>>())
        .bind(effects.iter().map(|one| one.delivery.get()).collect::<Vec<_>>())
        .bind(effects.iter().map(|one| one.code).collect::<Vec<_>>())
        .bind(effects.iter().map(|one| one.detail.as_str()).collect::<Vec<_>>())
        .bind(effects.iter().map(|one| one.recipient.as_deref()).collect::<Vec<_>>())
        .bind(effects.iter().map(|one| one.original.as_deref()).collect::<Vec<_>>())
        .bind(effects.iter().map(|one| one.suppress).collect::<Vec<_>>())
        .bind(effects.iter().map(|one| one.source).collect::<Vec<_>>())
        .bind(effects.iter().map(|one| listed.get(&one.delivery.get())).collect::<Vec<_>>())
        .bind(effects.iter().map(|one| one.soft).collect::<Vec<_>>())
        .fetch_all(&mut *conn)
        .await?;
    condemn(conn, &rows).await?;
    rows.iter()
        .map(|row| {
            Ok(Applied {
                report: row.try_get("report_id")?,
                here: row.try_get("here")?,
                suppressed: row.try_get::<bool, _>("condemned")? || row.try_get("failed_often")?,
            })
        })
        .collect()
}

/// Puts recipients on the list.
async fn condemn(conn: &mut PgConnection, rows: &[PgRow]) -> Result<(), sqlx::Error> {
    let (mut tenants, mut listed) = (Vec::<i64>::new(), Vec::<String>::new());
    let (mut streams, mut reasons) = (Vec::<String>::new(), Vec::<String>::new());
    let (mut sources, mut jobs) = (Vec::<String>::new(), Vec::<i64>::new());
    for row in rows {
        if row.try_get("condemned")? {
            tenants.push(row.try_get("tenant_id")?);
            listed.push(row.try_get("listed")?);
            streams.push(row.try_get("stream")?);
            reasons.push(row.try_get("suppress")?);
            sources.push(row.try_get("source")?);
            jobs.push(row.try_get("job_id")?);
        }
    }
    if tenants.is_empty() {
        return Ok(());
    }
    sqlx::query(include_str!("sql/condemn.sql"))
        .bind(tenants)
        .bind(listed)
        .bind(streams)
        .bind(reasons)
        .bind(sources)
        .bind(jobs)
        .execute(conn)
        .await
        .map(drop)
}

/// Ends doubts about deliveries that somebody on the other side had.
async fn end_doubts(conn: &mut PgConnection, effects: &[&Effect]) -> Result<(), sqlx::Error> {
    let by_mail =
        Grounds { source: "dsn", actor: "report", reason: "the receiving side reported on it" };
    let by_event = |origin: Origin| Grounds {
        source: "event",
        actor: origin.as_str(),
        reason: "the provider had it",
    };
    for origin in std::iter::once(None).chain(Origin::ALL.map(Some)) {
        let proof: Vec<DeliveryId> = effects
            .iter()
            .filter(|one| one.proves_acceptance && one.origin == origin)
            .map(|one| one.delivery)
            .collect();
        if proof.is_empty() {
            continue;
        }
        let which = Doubts { deliveries: Some(proof), ..Doubts::default() };
        let grounds = origin.map_or(by_mail, by_event);
        doubt::resolve(conn, &which, None, MOST_DOUBTS, Resolution::Delivered, grounds).await?;
    }
    Ok(())
}

/// Under which text the list would have the recipient of each delivery that is here.
async fn listed(
    conn: &mut PgConnection,
    keeper: &Keeper,
    effects: &[&Effect],
) -> Result<HashMap<i64, String>, sqlx::Error> {
    let recipients: Vec<(i64, String)> =
        sqlx::query_as("select job_id, recipient from postrider.job where job_id = any ($1)")
            .bind(effects.iter().map(|one| one.delivery.get()).collect::<Vec<_>>())
            .fetch_all(conn)
            .await?;
    Ok(recipients.into_iter().map(|(job, to)| (job, keeper.recipient(&to))).collect())
}
