//! The judge: what the API acknowledged, what the receiver took, what the database says.
//!
//! It trusts no word of the daemon: the first list is the clients', the second the
//! receiver's, the third is read from the tables with plain SQL. Every difference between
//! them that a promise does not allow is a violation with a name.

use std::collections::{HashMap, HashSet};

use sqlx::{Connection, PgConnection, Row};

use super::client::Entry;
use super::receiver::Taken;

/// Whether mail may arrive twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duplicates {
    /// Nothing crashed: never.
    Never,
    /// Where the database says that an attempt was in doubt, once for each such attempt.
    InDoubt,
}

/// What an audit found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Deliveries that were acknowledged.
    pub(crate) accepted: usize,
    /// Those among them that never arrived and have no other end.
    pub(crate) lost: usize,
    /// Mails that arrived once more.
    pub(crate) duplicated: usize,
    /// Deliveries with an attempt in doubt.
    pub(crate) in_doubt: usize,
    /// Broken promises.
    pub(crate) violations: Vec<String>,
}

/// One delivery as the tables have it.
struct Delivery {
    message: String,
    tenant: String,
    ends: i64,
    dead: bool,
    delivered: bool,
    doubts: i64,
    waits: bool,
}

/// Compares the three. `url` leads straight to the server.
pub(crate) async fn audit(
    url: &str,
    ledger: &[Entry],
    taken: &[Taken],
    allowed: Duplicates,
) -> anyhow::Result<Findings> {
    let mut database = PgConnection::connect(url).await?;
    let mut findings = Findings::default();
    let mut say = Sayings::default();
    let (rows, copies) = deliveries(&mut database).await?;
    for (recipient, n) in copies {
        say.fault("I1", &format!("{recipient} has {n} deliveries: a repeat was stored twice"));
    }

    let mut arrivals: HashMap<&str, Vec<&Taken>> = HashMap::new();
    for mail in taken {
        arrivals.entry(&mail.recipient).or_default().push(mail);
    }
    for entry in ledger {
        if entry.ids.len() > 1 {
            say.fault("I1", &format!("one key, several ids: {:?}", entry.ids));
        }
        for refusal in &entry.refusals {
            say.fault("I1", &format!("a sound submission was refused with {refusal}"));
        }
        let Some(id) = entry.ids.first() else { continue };
        if entry.accepted != entry.recipients.len() {
            say.fault("I1", &format!("{id} accepted {} recipients", entry.accepted));
        }
        for recipient in &entry.recipients {
            findings.accepted += 1;
            let arrived = arrivals.contains_key(recipient.as_str());
            let known = rows.get(recipient).filter(|row| row.message == *id);
            let ended_otherwise = known.is_some_and(|row| row.ends > 0 && !row.delivered);
            if known.is_none() {
                say.fault("I1", &format!("{recipient} of {id} is not in the database"));
            }
            if !arrived && !ended_otherwise && !known.is_some_and(|row| row.dead || row.waits) {
                findings.lost += 1;
                say.fault("I1", &format!("{recipient} of {id} was accepted and is nowhere"));
            }
            if known.is_some_and(|row| row.tenant != entry.tenant) {
                say.fault("I5", &format!("{recipient} belongs to another tenant"));
            }
        }
    }
    for (recipient, row) in &rows {
        let arrived = arrivals.get(recipient.as_str()).map_or(0, Vec::len);
        findings.in_doubt += usize::from(row.doubts > 0);
        if row.ends > 1 {
            say.fault("I4", &format!("{recipient} has {} ends", row.ends));
        }
        if row.waits {
            say.fault("I1", &format!("{recipient} never came to an end"));
        } else if row.ends + i64::from(row.dead) == 0 {
            findings.lost += usize::from(arrived == 0);
            say.fault("I1", &format!("{recipient} neither waits nor has an end"));
        }
        if row.delivered && arrived == 0 {
            findings.lost += 1;
            say.fault("I1", &format!("{recipient} is called delivered and never arrived"));
        }
    }
    for (recipient, mails) in &arrivals {
        let again = mails.len() - 1;
        findings.duplicated += again;
        let Some(row) = rows.get(*recipient) else {
            say.fault("I1", &format!("{recipient} got a mail that nobody submitted"));
            continue;
        };
        let excused = match allowed {
            Duplicates::Never => 0,
            Duplicates::InDoubt => usize::try_from(row.doubts).unwrap_or(0),
        };
        if again > excused {
            let senders: Vec<_> = mails.iter().map(|mail| (&mail.sender, mail.at)).collect();
            say.fault(
                "I2",
                &format!("{recipient} got {} mails, {excused} in doubt: {senders:?}", again + 1),
            );
        }
        let ids: HashSet<&str> = mails.iter().map(|mail| mail.message_id.as_str()).collect();
        if ids.len() > 1 || ids.contains("") {
            say.fault("I2", &format!("{recipient} got different Message-IDs: {ids:?}"));
        }
        if mails.iter().any(|mail| !mail.from.ends_with(&format!("@{}.example", row.tenant))) {
            say.fault("I5", &format!("{recipient} got mail in another tenant's name"));
        }
    }
    findings.violations = say.told;
    let _ = database.close().await;
    Ok(findings)
}

/// Every delivery by its recipient (each address is used once), and addresses that occur
/// more than once.
async fn deliveries(
    database: &mut PgConnection,
) -> Result<(HashMap<String, Delivery>, Vec<(String, usize)>), sqlx::Error> {
    let rows = sqlx::query(EVERYTHING).fetch_all(database).await?;
    let mut found = HashMap::with_capacity(rows.len());
    let mut copies: HashMap<String, usize> = HashMap::new();
    for row in rows {
        let recipient: String = row.try_get("recipient")?;
        let delivery = Delivery {
            message: row.try_get("message")?,
            tenant: row.try_get("tenant")?,
            ends: row.try_get("ends")?,
            dead: row.try_get("dead")?,
            delivered: row.try_get("delivered")?,
            doubts: row.try_get("doubts")?,
            waits: row.try_get("waits")?,
        };
        if found.insert(recipient.clone(), delivery).is_some() {
            *copies.entry(recipient).or_insert(1) += 1;
        }
    }
    Ok((found, copies.into_iter().collect()))
}

/// Kinds 1 to 5 are ends, 6 a dead letter, 7 deferred, 8 interrupted.
const EVERYTHING: &str = "
    with history as (
      select job_id, count(*) filter (where kind <= 5) as ends, bool_or(kind = 1) as delivered,
             count(*) filter (where in_doubt and kind in (6, 7, 8)) as doubts
      from postrider.attempt group by job_id
    ), waiting as (
      select job_id from postrider.ready union select job_id from postrider.lease
      union select job_id from postrider.deferred
    )
    select j.recipient, postrider.written_id('msg_', j.message_id) as message, t.name as tenant,
           coalesce(h.ends, 0) as ends, coalesce(h.delivered, false) as delivered,
           coalesce(h.doubts, 0) as doubts,
           exists (select 1 from postrider.dead_letter d where d.job_id = j.job_id) as dead,
           exists (select 1 from waiting w where w.job_id = j.job_id) as waits
    from postrider.job j join postrider.tenant t using (tenant_id)
    left join history h using (job_id)";

/// Faults, each invariant's cut off after a few.
#[derive(Default)]
struct Sayings {
    told: Vec<String>,
    counts: HashMap<&'static str, usize>,
}

impl Sayings {
    fn fault(&mut self, invariant: &'static str, text: &str) {
        let count = self.counts.entry(invariant).or_default();
        *count += 1;
        if *count <= 5 {
            self.told.push(format!("{invariant}: {text}"));
        } else if *count == 6 {
            self.told.push(format!("{invariant}: and more of it"));
        }
    }
}
