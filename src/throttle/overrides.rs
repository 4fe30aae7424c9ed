//! What operators put in place of configured limits, for a time.
//!
//! An override stands before the configured rule of its scope, for the keys it names; what
//! it leaves out stays as configured. It ends by the database's clock. Every daemon looks
//! at the overrides in force a few times a second, so that a change holds everywhere within
//! one. When the database cannot be asked, those last seen stay in force.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use sqlx::{FromRow, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use super::limiter::Limiter;
use crate::config::{ThrottleRule, ThrottleScope};

/// How often a daemon looks.
const LOOK: Duration = Duration::from_millis(400);

/// An override as the limiter uses it.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// What it says; without a rate or a concurrency that side stays as configured.
    pub rule: ThrottleRule,
}

/// An override as it is stored. Of the names those are empty that the scope does not have,
/// and those that stand for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct Stored {
    /// As in the configuration.
    pub scope: String,
    /// Whose mail.
    pub tenant: String,
    /// To whom.
    pub mailbox_provider: String,
    /// From which source.
    pub source: String,
    /// Over which route.
    pub route: String,
    /// Rates as in the configuration; none: as configured.
    pub rates: Vec<String>,
    /// Burst of the first rate.
    pub burst: Option<i32>,
    /// Deliveries at once; none: as configured.
    pub concurrency: Option<i32>,
    /// Why.
    pub reason: String,
    /// Who says to have set it.
    pub actor: String,
    /// When it ends, in RFC 3339.
    pub until: String,
    /// When it was set, in RFC 3339.
    pub set_at: String,
}

/// The overrides in force.
pub async fn in_force(pool: &PgPool) -> Result<Vec<Stored>, sqlx::Error> {
    sqlx::query_as(include_str!("sql/overrides.sql")).fetch_all(pool).await
}

/// Puts `rule` in force for `seconds`, with `rates` as they were written; one of the same
/// scope and names is replaced. When it ends, in RFC 3339.
pub async fn set(
    conn: &mut PgConnection,
    rule: &ThrottleRule,
    rates: &[String],
    seconds: f64,
    reason: &str,
    actor: &str,
) -> Result<String, sqlx::Error> {
    let [tenant, mailbox_provider, source, route] = names(&rule.scope);
    sqlx::query_scalar(include_str!("sql/set_override.sql"))
        .bind(rule.scope.as_str())
        .bind(tenant)
        .bind(mailbox_provider)
        .bind(source)
        .bind(route)
        .bind(rates)
        .bind(rule.burst.map(|burst| burst as i32))
        .bind(rule.concurrency.map(|concurrency| concurrency as i32))
        .bind(seconds)
        .bind(reason)
        .bind(actor)
        .fetch_one(conn)
        .await
}

/// Ends the override of this scope and these names. Whether it was in force.
pub async fn clear(conn: &mut PgConnection, scope: &ThrottleScope) -> Result<bool, sqlx::Error> {
    let [tenant, mailbox_provider, source, route] = names(scope);
    let was: Option<bool> = sqlx::query_scalar(include_str!("sql/clear_override.sql"))
        .bind(scope.as_str())
        .bind(tenant)
        .bind(mailbox_provider)
        .bind(source)
        .bind(route)
        .fetch_optional(conn)
        .await?;
    Ok(was.unwrap_or(false))
}

/// Puts the overrides in force now.
pub async fn look(pool: &PgPool, limiter: &Limiter) -> Result<(), sqlx::Error> {
    let stored = in_force(pool).await?;
    let overrides: Vec<Override> = stored.iter().filter_map(Stored::read).collect();
    metrics::gauge!("postrider_throttle_overrides").set(overrides.len() as f64);
    if limiter.set_overrides(overrides) {
        tracing::info!(in_force = stored.len(), "the overrides of the limits changed");
    }
    Ok(())
}

/// Looks until `stop`.
pub async fn follow(pool: PgPool, limiter: Arc<Limiter>, stop: CancellationToken) {
    let mut failed = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        match look(&pool, &limiter).await {
            Ok(()) => failed = false,
            // Said once: the pump says the rest.
            Err(error) if !failed => {
                tracing::warn!(%error, "cannot look for overrides; those last seen stay in force");
                failed = true;
            }
            Err(_) => {}
        }
    }
}

impl Stored {
    /// The rule it stands for; `None` when this program does not understand it.
    pub fn read(&self) -> Option<Override> {
        let name = |name: &String| (!name.is_empty()).then(|| name.clone());
        let scope = ThrottleScope::named(
            &self.scope,
            name(&self.tenant),
            name(&self.mailbox_provider),
            name(&self.source),
            name(&self.route),
        )?;
        let rates = ThrottleRule::rates(self.rates.iter().map(|text| &**text));
        let (rate, further) = match rates {
            _ if self.rates.is_empty() => (None, Vec::new()),
            Ok((rate, further)) => (Some(rate), further),
            Err(wrong) => {
                tracing::error!(scope = self.scope, wrong, "an override cannot be read");
                return None;
            }
        };
        let whole = |number: Option<i32>| number.and_then(|number| u32::try_from(number).ok());
        let (burst, concurrency) = (whole(self.burst), whole(self.concurrency));
        Some(Override { rule: ThrottleRule { scope, rate, burst, further, concurrency } })
    }
}

/// Tenant, mailbox provider, source and route as stored.
fn names(scope: &ThrottleScope) -> [&str; 4] {
    let (tenant, mailbox_provider, source, route) = scope.names();
    [tenant, mailbox_provider, source, route].map(Option::unwrap_or_default)
}
