//! The judge of what came back and of what tenants were told. It compares the ledgers of the
//! reporter and of the consumer with the tables, in plain SQL, and believes no daemon.

use std::collections::{HashMap, HashSet};

use sqlx::{PgConnection, Row};

use super::consumer::Told;
use super::reporter::Says;

/// What was counted, for people.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// Reports that were acknowledged.
    pub(crate) reports: usize,
    /// Addresses that are suppressed.
    pub(crate) suppressed: usize,
    /// Events in the log.
    pub(crate) events: usize,
    /// Times that an event came once more.
    pub(crate) repeated: usize,
}

/// Broken promises about reports and events.
pub(crate) async fn judge(
    database: &mut PgConnection,
    acknowledged: &HashMap<String, usize>,
    told: &[Told],
) -> anyhow::Result<(Counted, Vec<String>)> {
    let mut wrong = Vec::new();
    let mut counted = Counted { reports: acknowledged.values().sum(), ..Counted::default() };
    reports(database, acknowledged, &mut counted, &mut wrong).await?;
    log(database, &mut wrong).await?;
    events(database, told, &mut counted, &mut wrong).await?;
    let more = wrong.len().saturating_sub(12);
    wrong.truncate(12);
    if more > 0 {
        wrong.push(format!("I7: and {more} more of it"));
    }
    Ok((counted, wrong))
}

/// Every acknowledged report is there and was worked off once; whom it condemns is suppressed,
/// and nobody else is.
async fn reports(
    database: &mut PgConnection,
    acknowledged: &HashMap<String, usize>,
    counted: &mut Counted,
    wrong: &mut Vec<String>,
) -> Result<(), sqlx::Error> {
    let rows = sqlx::query(
        "select j.recipient, count(*) as stored,
                count(*) filter (where r.done_at is not null and r.outcome in ('applied', 'evidence')) as done,
                (select count(*) from postrider.attempt a where a.job_id = j.job_id and a.kind = 9) as evidence,
                (select count(distinct a.detail ->> 'report') from postrider.attempt a
                 where a.job_id = j.job_id and a.kind = 9) as proven,
                (select max(s.reason) from postrider.suppression s
                 where s.tenant_id = j.tenant_id and s.address = j.recipient) as reason
         from postrider.job j join postrider.inbound_report r using (job_id)
         group by j.job_id, j.recipient, j.tenant_id",
    )
    .fetch_all(&mut *database)
    .await?;
    let mut known = HashSet::new();
    for row in rows {
        let recipient: String = row.try_get("recipient")?;
        let number =
            |name: &str| row.try_get::<i64, _>(name).map(|n| usize::try_from(n).unwrap_or(0));
        let (stored, done) = (number("stored")?, number("done")?);
        let acked = acknowledged.get(&recipient).copied().unwrap_or(0);
        if stored < acked {
            wrong.push(format!(
                "I7: {acked} reports on {recipient} were acknowledged, {stored} are stored"
            ));
        }
        if done != stored || number("evidence")? != stored || number("proven")? != stored {
            wrong.push(format!(
                "I7: of {stored} reports on {recipient} {done} are worked off, with {} lines of evidence",
                number("evidence")?
            ));
        }
        let (reason, expected) =
            (row.try_get::<Option<String>, _>("reason")?, Says::of(&recipient).suppresses());
        if reason.as_deref() != expected {
            wrong.push(format!(
                "I7: {recipient} is suppressed for {reason:?}, expected {expected:?}"
            ));
        }
        known.insert(recipient);
    }
    for recipient in acknowledged.keys().filter(|recipient| !known.contains(*recipient)) {
        wrong.push(format!("I7: an acknowledged report on {recipient} is nowhere"));
    }
    let suppressed: Vec<String> =
        sqlx::query_scalar("select address from postrider.suppression").fetch_all(database).await?;
    counted.suppressed = suppressed.len();
    for address in suppressed.iter().filter(|address| !known.contains(*address)) {
        wrong.push(format!("I7: {address} is suppressed and nobody reported on it"));
    }
    Ok(())
}

/// The log has one event for each attempt, each suppression and each part of a message.
async fn log(database: &mut PgConnection, wrong: &mut Vec<String>) -> Result<(), sqlx::Error> {
    let differs: Vec<String> = sqlx::query_scalar(
        "with history as (
           select job_id, case kind when 8 then 7 else kind end as kind, count(*) as n
           from postrider.attempt where kind <> 9 group by 1, 2
         ), told as (
           select job_id, kind::int as kind, count(*) as n from postrider.event where job_id is not null group by 1, 2
         )
         select format('delivery %s: %s attempts of kind %s, %s events', coalesce(h.job_id, t.job_id), coalesce(h.n, 0),
                       coalesce(h.kind, t.kind), coalesce(t.n, 0))
         from history h full join told t on t.job_id = h.job_id and t.kind = h.kind
         -- A report may be told with its delivery, beside what its attempts are told by.
         where coalesce(t.n, 0) < coalesce(h.n, 0)
            or coalesce(t.n, 0) > coalesce(h.n, 0) and not exists (
              select 1 from postrider.attempt a where a.job_id = t.job_id and a.kind = 9)
         union all
         select format('the suppression of %s has no event', s.address)
         from postrider.suppression s
         where not exists (
           select 1 from postrider.event e left join postrider.job j using (job_id)
           where e.tenant_id = s.tenant_id and e.kind in (4, 9, 10) and s.address in (e.address, j.recipient))
         union all
         select format('message %s: %s accepted, %s in events', m.message_id, m.accepted, e.n)
         from postrider.message m
         cross join lateral (
           select coalesce(sum((e.detail ->> 'recipients')::bigint), 0) as n from postrider.event e
           where e.kind = 8 and e.message_id = m.message_id) e
         where m.accepted <> e.n",
    )
    .fetch_all(database)
    .await?;
    wrong.extend(differs.into_iter().map(|text| format!("I7: {text}")));
    Ok(())
}

/// The consumer has every event of the log and no other; a repeat is the same event; those of a
/// delivery came in order.
async fn events(
    database: &mut PgConnection,
    told: &[Told],
    counted: &mut Counted,
    wrong: &mut Vec<String>,
) -> Result<(), sqlx::Error> {
    let log: Vec<(String, Option<String>, String)> = sqlx::query_as(
        "select postrider.written_id('evt_', e.event_id), postrider.written_id('dlv_', e.job_id), t.name
         from postrider.event e join postrider.tenant t using (tenant_id)
         order by e.xid, e.event_id",
    )
    .fetch_all(database)
    .await?;
    counted.events = log.len();
    let place: HashMap<&str, usize> =
        log.iter().enumerate().map(|(n, (id, ..))| (id.as_str(), n)).collect();
    let mut first: HashMap<&str, &Told> = HashMap::new();
    let mut last: HashMap<&str, usize> = HashMap::new();
    for event in told {
        let Some(&at) = place.get(event.id.as_str()) else {
            wrong.push(format!("I7: {} was told and is not in the log", event.id));
            continue;
        };
        if log[at].2 != event.tenant {
            wrong.push(format!("I5: {} was told to another tenant", event.id));
        }
        if let Some(before) = first.get(event.id.as_str()) {
            counted.repeated += 1;
            if *before != event {
                wrong.push(format!("I7: {} came with two contents", event.id));
            }
            continue;
        }
        first.insert(&event.id, event);
        if log[at].1 != event.delivery {
            wrong.push(format!("I7: {} is about {:?}", event.id, event.delivery));
        }
        if let Some(delivery) = event.delivery.as_deref() {
            let before = last.insert(delivery, at);
            if before.is_some_and(|before| before > at) {
                wrong.push(format!("I7: events of {delivery} came out of order"));
            }
        }
    }
    for (id, ..) in log.iter().filter(|(id, ..)| !first.contains_key(id.as_str())) {
        wrong.push(format!("I7: {id} was never told"));
    }
    Ok(())
}
