//! `postrider throttle show`: what limits stand at, what receivers ask for, what does not answer.

use serde::Serialize;
use serde_json::json;
use sqlx::PgPool;

use super::error::CliError;
use super::print::{self, Answer, Table};
use crate::config::{Settings, ThrottleRule, ThrottleScope};
use crate::domain::clock::Clock;
use crate::queue::breaker::{self, Stored as Broken};
use crate::throttle::overrides::{self, Stored};
use crate::throttle::pace::Phase;
use crate::throttle::sharing::{self, Shown};
use crate::throttle::state::{self, RateState, SlotState};
use crate::throttle::warm_up;

/// A limit as shown.
#[derive(Debug, Serialize)]
struct Limit {
    scope: &'static str,
    name: String,
    rates: Vec<String>,
    burst: Option<u32>,
    concurrency: Option<u32>,
    /// `configuration` or `override`.
    from: &'static str,
    /// Of an override: who set it, why, and until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    set: Option<Stored>,
    /// Of a configured limit: an override stands before it.
    overridden: bool,
}

/// Everything about limits as it stands.
pub(super) async fn show(pool: &PgPool, settings: &Settings) -> Result<Answer, CliError> {
    let stored = overrides::in_force(pool).await?;
    let (rates, slots) = (state::rates(pool).await?, state::slots(pool).await?);
    let limits = limits(settings, &stored);
    let paces = sharing::shown(pool, &settings.adaptive).await?;
    let breakers = breaker::all(pool, None).await?;
    let mut text = limit_table(&limits).text();
    let more =
        [rate_table(&rates), slot_table(&slots), pace_table(&paces), breaker_table(&breakers)];
    for table in more {
        text.push_str("\n\n");
        text.push_str(&table.text());
    }
    let facts = json!({
        "limits": limits, "rates": rates, "slots": slots, "paces": paces, "breakers": breakers,
    });
    Answer::new(text, &facts)
}

/// Every override, then every configured limit.
fn limits(settings: &Settings, stored: &[Stored]) -> Vec<Limit> {
    let set: Vec<(ThrottleRule, &Stored)> =
        stored.iter().filter_map(|one| Some((one.read()?.rule, one))).collect();
    let overridden = |rule: &ThrottleRule| set.iter().any(|(by, _)| covers(&by.scope, &rule.scope));
    let ours = set.iter().map(|(rule, stored)| Limit {
        rates: stored.rates.clone(),
        from: "override",
        set: Some((*stored).clone()),
        ..Limit::of(rule)
    });
    let now = Clock::System.unix_seconds();
    let configured = warm_up::rules(&settings.throttles, &settings.sources, now);
    let configured =
        configured.iter().map(|rule| Limit { overridden: overridden(rule), ..Limit::of(rule) });
    ours.chain(configured).collect()
}

/// Whether an override of `by` stands before all of a rule for `scope`.
fn covers(by: &ThrottleScope, scope: &ThrottleScope) -> bool {
    let (a, b) = (by.names(), scope.names());
    by.as_str() == scope.as_str()
        && [(a.0, b.0), (a.1, b.1), (a.2, b.2), (a.3, b.3)]
            .into_iter()
            .all(|(wide, narrow)| wide.is_none() || wide == narrow)
}

impl Limit {
    fn of(rule: &ThrottleRule) -> Self {
        let further = rule.further.iter().map(|rate| rate.per_second);
        Self {
            scope: rule.scope.as_str(),
            name: names(&rule.scope),
            rates: rule.rate.into_iter().chain(further).map(per_second).collect(),
            burst: rule.burst,
            concurrency: rule.concurrency,
            from: "configuration",
            set: None,
            overridden: false,
        }
    }
}

fn limit_table(limits: &[Limit]) -> Table {
    let titles = ["scope", "name", "rates", "burst", "concurrency", "from", "until", "who", "why"];
    let mut table = Table::new(&titles, "nothing is limited");
    for limit in limits {
        let set = limit.set.as_ref();
        table.row([
            limit.scope.to_owned(),
            limit.name.clone(),
            print::or_dash((!limit.rates.is_empty()).then(|| limit.rates.join(", "))),
            print::or_dash(limit.burst),
            print::or_dash(limit.concurrency),
            if limit.overridden { "configuration (overridden)" } else { limit.from }.to_owned(),
            print::or_dash(set.map(|set| &set.until)),
            print::or_dash(set.map(|set| &set.actor)),
            print::or_dash(set.map(|set| &set.reason)),
        ]);
    }
    table
}

fn rate_table(rates: &[RateState]) -> Table {
    let titles = ["rate of", "rate", "burst", "gathered", "next token in"];
    let mut table = Table::new(&titles, "no rate was used lately");
    for one in rates {
        table.row([
            one.key.clone(),
            per_second(one.rate),
            format!("{:.0}", one.burst.floor()),
            format!("{:.0}", one.tokens),
            format!("{:.3}s", one.next_seconds),
        ]);
    }
    table
}

fn slot_table(slots: &[SlotState]) -> Table {
    let titles = ["slots of", "limit", "worker", "session", "allotted", "wants", ""];
    let mut table = Table::new(&titles, "no slot is dealt out");
    for one in slots {
        table.row([
            one.key.clone(),
            one.slots.to_string(),
            one.worker.clone(),
            one.session_id.to_string(),
            one.allotted.to_string(),
            one.want.to_string(),
            if one.want > one.allotted { "hungry" } else { "" }.to_owned(),
        ]);
    }
    table
}

fn pace_table(paces: &[Shown]) -> Table {
    let titles = ["pace of", "state", "rate", "at once", "it took", "ends in", "rule", "why"];
    let mut table = Table::new(&titles, "no receiver asks for a pace");
    for one in paces {
        let standing = &one.standing;
        let state = match standing.phase {
            Phase::Paced if one.probe_in > 0.0 => "resting",
            Phase::Paced => "climbing",
            Phase::Capped => "capped",
            Phase::Probing => "probing",
            Phase::Suspended => "suspended",
        };
        let left = standing.left.map(|left| format!("{left:.0}s"));
        let why = if one.rule.is_empty() { "many deferrals" } else { &*one.reply };
        table.row([
            one.key.clone(),
            state.to_owned(),
            print::or_dash(standing.rate.map(per_second)),
            print::or_dash(standing.slots),
            print::or_dash((one.taken > 0.0).then(|| per_second(one.taken))),
            print::or_dash(left),
            print::or_dash((!one.rule.is_empty()).then_some(&one.rule)),
            format!("{why} ({:.0}s ago)", one.refused_ago),
        ]);
    }
    table
}

fn breaker_table(breakers: &[Broken]) -> Table {
    let titles = ["does not answer", "host", "state", "worker", "since", "until", "why"];
    let mut table = Table::new(&titles, "everything that was tried lately answers");
    for one in breakers {
        table.row([
            one.spot.clone(),
            one.host.clone(),
            one.state.clone(),
            one.worker.clone(),
            print::time(one.since),
            print::or_dash(one.until.map(print::time)),
            one.why.clone(),
        ]);
    }
    table
}

pub(super) fn names(scope: &ThrottleScope) -> String {
    let (tenant, mailbox_provider, source, route) = scope.names();
    let all: Vec<&str> = [tenant, mailbox_provider, source, route].into_iter().flatten().collect();
    if all.is_empty() { "each".to_owned() } else { all.join("/") }
}

fn per_second(rate: f64) -> String {
    let text = format!("{rate:.4}");
    format!("{}/s", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_written_without_idle_noughts() {
        assert_eq!(per_second(2.5), "2.5/s");
    }
}
