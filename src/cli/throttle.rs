//! `postrider throttle`: the limits, what stands in their place for a time, and what they
//! stand at.

use std::time::Duration;

use clap::Subcommand;
use serde_json::json;
use sqlx::PgPool;

use super::context::Context;
use super::error::CliError;
use super::print::Answer;
use super::throttle_show::{self, names};
use crate::config::{ThrottleRule, ThrottleScope, unit};
use crate::queue::admin::action::{self, Action};
use crate::throttle::overrides;

/// Limits: set, clear, show
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  postrider throttle show")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Put a limit in place of the configured one, for a time
    ///
    /// It stands before the configured limit of its scope, for what it names (without a name:
    /// for each), on all daemons within a second. A rate or a concurrency that is left out
    /// stays as configured.
    #[command(after_help = "\
Examples:
  postrider throttle set --scope mailbox_provider --mailbox-provider google --rate 10/s \\
                         --for 30m --reason 'they defer us'
  postrider throttle set --scope tenant --rate 50/s --rate 10000/h --for 1d --reason 'warming up'")]
    Set {
        #[command(flatten)]
        what: What,
        /// Rate like 10/s, 600/min, 10000/h or 50000/d; several hold together, shortest first
        #[arg(long, value_delimiter = ',')]
        rate: Vec<String>,
        /// Deliveries that may leave at once after a pause, of the first rate
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
        burst: Option<u32>,
        /// Deliveries in hand at once
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        concurrency: Option<u32>,
        /// How long, like 30m, 2h or 1d
        #[arg(long = "for", value_parser = duration)]
        time: Duration,
        /// Why: shown to whoever looks at the limits
        #[arg(long)]
        reason: String,
    },
    /// Go back to the configured limit
    #[command(
        after_help = "Example:\n  postrider throttle clear --scope mailbox_provider --mailbox-provider google"
    )]
    Clear {
        #[command(flatten)]
        what: What,
    },
    /// Show every limit in force, where it comes from, and what it stands at; the paces that
    /// receivers' replies ask for, and why; and what does not answer
    #[command(after_help = "\
Example:
  postrider throttle show --json | jq '.slots[] | select(.want > .allotted)'")]
    Show,
}

/// Scope and names, as in a `[[throttle]]` of the configuration.
#[derive(Debug, clap::Args)]
struct What {
    /// What is counted together
    #[arg(long, value_parser = ThrottleScope::KINDS)]
    scope: String,
    /// Of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// To this mailbox provider
    #[arg(long)]
    mailbox_provider: Option<String>,
    /// From this source
    #[arg(long)]
    source: Option<String>,
    /// Over this route
    #[arg(long)]
    route: Option<String>,
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    // Limits hold over all cells.
    let pool = context.home().await?;
    match args.verb {
        Verb::Set { what, rate, burst, concurrency, time, reason } => {
            let scope = what.scope(&pool, context).await?;
            let rule = rule(scope, &rate, burst, concurrency)?;
            set(&pool, context.actor(), &rule, &rate, time, &reason).await
        }
        Verb::Clear { what } => {
            let scope = what.scope(&pool, context).await?;
            clear(&pool, context.actor(), &scope).await
        }
        Verb::Show => throttle_show::show(&pool, &context.settings()?).await,
    }
}

async fn set(
    pool: &PgPool,
    actor: &str,
    rule: &ThrottleRule,
    rates: &[String],
    time: Duration,
    reason: &str,
) -> Result<Answer, CliError> {
    let target = named(&rule.scope);
    let detail = json!({
        "rates": rates, "burst": rule.burst, "concurrency": rule.concurrency,
        "seconds": time.as_secs_f64(),
    });
    let mut tx = pool.begin().await?;
    let until = overrides::set(&mut tx, rule, rates, time.as_secs_f64(), reason, actor).await?;
    let done = Action {
        actor,
        action: "throttle set",
        target: &target,
        reason: Some(reason),
        detail: detail.clone(),
    };
    action::record(&mut tx, &done).await?;
    tx.commit().await?;
    let words =
        format!("{target}: {} for {}, until {until}", said(rates, rule), unit::written(time));
    Answer::new(words, &json!({"limit": target, "until": until, "set": detail, "reason": reason}))
}

async fn clear(pool: &PgPool, actor: &str, scope: &ThrottleScope) -> Result<Answer, CliError> {
    let target = named(scope);
    let mut tx = pool.begin().await?;
    let was = overrides::clear(&mut tx, scope).await?;
    let detail = json!({"was_in_force": was});
    let done = Action { actor, action: "throttle clear", target: &target, reason: None, detail };
    action::record(&mut tx, &done).await?;
    tx.commit().await?;
    let words = if was {
        format!("{target}: as configured again")
    } else {
        format!("{target}: there was no override; see `postrider throttle show`")
    };
    Answer::new(words, &json!({"cleared": target, "was_in_force": was}))
}

/// What was given as a rule; the error names the field.
fn rule(
    scope: ThrottleScope,
    rates: &[String],
    burst: Option<u32>,
    concurrency: Option<u32>,
) -> Result<ThrottleRule, CliError> {
    if rates.is_empty() && concurrency.is_none() {
        return Err(CliError::usage("expected --rate, --concurrency, or both"));
    }
    if rates.is_empty() && burst.is_some() {
        return Err(CliError::usage("--burst has no meaning without --rate"));
    }
    let (rate, further) = if rates.is_empty() {
        (None, Vec::new())
    } else {
        ThrottleRule::rates(rates.iter().map(|text| &**text))
            .map(|(rate, further)| (Some(rate), further))
            .map_err(|wrong| CliError::usage(format!("--rate: {wrong}")))?
    };
    Ok(ThrottleRule { scope, rate, burst, further, concurrency })
}

impl What {
    /// The scope, once all that is named is known to exist.
    async fn scope(self, pool: &PgPool, context: &Context) -> Result<ThrottleScope, CliError> {
        let given = [
            ("tenant", self.tenant.is_some()),
            ("mailbox_provider", self.mailbox_provider.is_some()),
            ("source", self.source.is_some()),
            ("route", self.route.is_some()),
        ];
        for (key, _) in given.into_iter().filter(|(_, given)| *given) {
            if !ThrottleScope::has(&self.scope, key) {
                let flag = key.replace('_', "-");
                return Err(CliError::usage(format!(
                    "--{flag} has no meaning with --scope {}",
                    self.scope
                )));
            }
        }
        let settings = context.settings()?;
        if let Some(tenant) = &self.tenant {
            context.cell_of_tenant(tenant).await?;
        }
        let pools: Vec<String> = sqlx::query_scalar("select name from postrider.pool order by 1")
            .fetch_all(pool)
            .await?;
        known("mailbox-provider", self.mailbox_provider.as_ref(), &pools)?;
        let names = settings.sources.iter().map(|source| source.name.clone()).collect::<Vec<_>>();
        known("source", self.source.as_ref(), &names)?;
        let names = settings.routes.iter().map(|route| route.name.clone()).collect::<Vec<_>>();
        known("route", self.route.as_ref(), &names)?;
        let Self { scope, tenant, mailbox_provider, source, route } = self;
        ThrottleScope::named(&scope, tenant, mailbox_provider, source, route)
            .ok_or_else(|| CliError::usage(format!("--scope: there is no {scope:?}")))
    }
}

fn known(flag: &str, name: Option<&String>, there: &[String]) -> Result<(), CliError> {
    match name {
        Some(name) if !there.contains(name) => Err(CliError::failed(format!(
            "--{flag}: there is no {name:?}: known are {}",
            there.join(", ")
        ))),
        _ => Ok(()),
    }
}

fn said(rates: &[String], rule: &ThrottleRule) -> String {
    let rate = (!rates.is_empty()).then(|| rates.join(", "));
    let slots = rule.concurrency.map(|slots| format!("{slots} at once"));
    rate.into_iter().chain(slots).collect::<Vec<_>>().join(", ")
}

fn named(scope: &ThrottleScope) -> String {
    format!("{} {}", scope.as_str(), names(scope))
}

fn duration(text: &str) -> Result<Duration, String> {
    unit::duration(text)
        .filter(|time| !time.is_zero() && *time <= Duration::from_secs(366 * 86_400))
        .ok_or_else(|| format!("expected a time like 30m, 2h or 1d, at most 366d, found {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_limit_is_refused_by_the_name_of_its_field() {
        let scope = || ThrottleScope::Tenant { tenant: None };
        let wrong = |rates: &[&str], burst, concurrency| {
            let rates: Vec<String> = rates.iter().map(ToString::to_string).collect();
            rule(scope(), &rates, burst, concurrency).expect_err("refused").to_string()
        };
        assert!(wrong(&["10"], None, None).starts_with("--rate: expected a rate like"));
        assert!(wrong(&["10/min", "5/s"], None, None).contains("longer unit"));
        assert!(wrong(&[], Some(5), Some(5)).starts_with("--burst"));
        assert!(wrong(&[], None, None).contains("--concurrency"));
    }
}
