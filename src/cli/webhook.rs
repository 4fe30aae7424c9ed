//! `postrider webhook`: the endpoints that are told of a tenant's mail.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use clap::Subcommand;

use super::context::Context;
use super::error::CliError;
use super::print::{self, Answer, Table, Verdict};
use crate::cell::Cell;
use crate::config::Settings;
use crate::domain::ids::WebhookId;
use crate::tenant::seal::Sealer;
use crate::webhook::desk::{Desk, DeskError, Hand, WithSecret};
use crate::webhook::endpoint::Endpoint;
use crate::webhook::sender::Sender;
use crate::webhook::spec::{self, MOST_BATCH, MOST_IN_FLIGHT, MOST_PER_SECOND, SpecFault};
use crate::webhook::{Change, Spec};

/// Endpoints that are told what becomes of a tenant's mail: make, list, try, replay
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  postrider webhook create --tenant shop https://hooks.shop.example/mail")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make an endpoint; its secret is shown this once
    #[command(after_help = "\
Examples:
  postrider webhook create --tenant shop https://hooks.shop.example/mail
  postrider webhook create --tenant shop https://hooks.shop.example/mail \\
    --type bounced,complained --batch 100 --per-second 5")]
    Create {
        /// The tenant
        #[arg(long)]
        tenant: String,
        /// Where it is told
        url: String,
        /// Only these types of events, with commas between
        #[arg(long = "type", value_delimiter = ',')]
        types: Vec<String>,
        /// Events of one request; above 1 the body is an array
        #[arg(long, default_value_t = 1)]
        batch: u64,
        /// Requests at once [default: webhook.in_flight]
        #[arg(long)]
        in_flight: Option<u64>,
        /// Most requests a second
        #[arg(long)]
        per_second: Option<u64>,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
    },
    /// List a tenant's endpoints and how they stand
    #[command(after_help = "Example:\n  postrider webhook list --tenant shop")]
    List {
        /// The tenant
        #[arg(long)]
        tenant: String,
    },
    /// Send an event of the type test now, and show what the endpoint answers
    #[command(after_help = "Example:\n  postrider webhook test --tenant shop whk_0S9NJSNNG001N")]
    Test(One),
    /// Tell an endpoint again everything since a moment, under the same ids
    #[command(after_help = "\
Example:
  postrider webhook replay --tenant shop whk_0S9NJSNNG001N --since 2026-03-01T10:00:00Z")]
    Replay {
        #[command(flatten)]
        one: One,
        /// From then on
        #[arg(long)]
        since: DateTime<Utc>,
    },
    /// Tell an endpoint again, from where it was
    #[command(after_help = "Example:\n  postrider webhook enable --tenant shop whk_0S9NJSNNG001N")]
    Enable(One),
    /// Tell an endpoint nothing more until an operator enables it
    #[command(after_help = "\
Example:
  postrider webhook disable --tenant shop whk_0S9NJSNNG001N --reason 'asked by phone'")]
    Disable(One),
    /// Give an endpoint a new secret; the one before signs beside it for a while
    #[command(after_help = "Example:\n  postrider webhook rotate --tenant shop whk_0S9NJSNNG001N")]
    Rotate(One),
    /// Delete an endpoint
    #[command(after_help = "Example:\n  postrider webhook delete --tenant shop whk_0S9NJSNNG001N")]
    Delete(One),
}

/// Which endpoint, and why.
#[derive(Debug, clap::Args)]
struct One {
    /// The tenant
    #[arg(long)]
    tenant: String,
    /// The endpoint, as `webhook list` shows it
    id: WebhookId,
    /// Why, for the record
    #[arg(long)]
    reason: Option<String>,
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    match args.verb {
        Verb::Create { tenant, url, types, batch, in_flight, per_second, description } => {
            let settings = context.settings()?;
            let most = settings.webhook.in_flight;
            let spec = Spec {
                url: sender(&settings)?
                    .check(&url)
                    .map_err(|e| CliError::usage(e.to_string()))?
                    .into(),
                description: spec::description(&description)?,
                kinds: spec::kinds(Some(&types))?,
                batch: spec::bounded("--batch", batch, MOST_BATCH)?,
                in_flight: match in_flight {
                    Some(number) => spec::bounded("--in-flight", number, MOST_IN_FLIGHT)?,
                    None => most,
                },
                per_second: per_second
                    .map(|number| spec::bounded("--per-second", number, MOST_PER_SECOND))
                    .transpose()?,
            };
            let sealer = Arc::new(sealer(&settings)?);
            let desk = desk(context, &tenant, None).await?;
            shown(&desk.create(spec, &settings.webhook, &sealer).await?)
        }
        Verb::List { tenant } => {
            let endpoints = desk(context, &tenant, None).await?.list().await?;
            Answer::new(table(&endpoints).text(), &endpoints)
        }
        Verb::Test(one) => {
            let settings = context.settings()?;
            let (sender, sealer) = (sender(&settings)?, sealer(&settings)?);
            let trial = one.desk(context).await?.test(one.id, &sender, &sealer).await?;
            let verdict = if trial.taken { Verdict::Fine } else { Verdict::Bad };
            let words = format!("{} after {} ms", trial.answer, trial.took_ms);
            Ok(Answer::new(words, &trial)?.with_verdict(verdict))
        }
        Verb::Replay { one, since } => {
            let endpoint = one.desk(context).await?.replay(one.id, since).await?;
            let words = format!("{} is told again what happened since {since}", one.id);
            Answer::new(words, &endpoint)
        }
        Verb::Enable(one) => one.switch(context, true).await,
        Verb::Disable(one) => one.switch(context, false).await,
        Verb::Rotate(one) => {
            let settings = context.settings()?;
            let sealer = sealer(&settings)?;
            let desk = one.desk(context).await?;
            shown(&desk.rotate(one.id, &settings.webhook, &sealer).await?)
        }
        Verb::Delete(one) => {
            one.desk(context).await?.remove(one.id).await?;
            Answer::new(format!("{} is deleted", one.id), &serde_json::json!({"deleted": one.id}))
        }
    }
}

impl One {
    async fn desk(&self, context: &Context) -> Result<Desk, CliError> {
        desk(context, &self.tenant, self.reason.clone()).await
    }

    async fn switch(&self, context: &Context, enabled: bool) -> Result<Answer, CliError> {
        let change = Change { enabled: Some(enabled), ..Change::default() };
        let endpoint = self.desk(context).await?.change(self.id, change).await?;
        Answer::new(format!("{} is {}", self.id, endpoint.state), &endpoint)
    }
}

async fn desk(context: &Context, tenant: &str, reason: Option<String>) -> Result<Desk, CliError> {
    let (Cell { pool, .. }, scope) = context.scope_of_tenant(tenant).await?;
    Ok(Desk {
        pool,
        scope,
        tenant: tenant.to_owned(),
        hand: Hand::Operator,
        actor: context.actor().to_owned(),
        reason,
    })
}

fn sender(settings: &Settings) -> Result<Sender, CliError> {
    Sender::new(settings).map_err(|error| CliError::failed(error.to_string()))
}

fn sealer(settings: &Settings) -> Result<Sealer, CliError> {
    Sealer::new(&settings.secrets).map_err(|error| CliError::failed(error.to_string()))
}

fn shown(made: &WithSecret) -> Result<Answer, CliError> {
    let words = format!(
        "{}\n{}\nKeep the secret now: it is not shown again.",
        made.endpoint.id, &*made.secret
    );
    let mut facts = serde_json::json!(made.endpoint);
    facts["secret"] = made.secret.as_str().into();
    Answer::new(words, &facts)
}

fn table(endpoints: &[Endpoint]) -> Table {
    let titles = ["endpoint", "url", "types", "state", "behind", "failing since", "last error"];
    let mut table = Table::new(
        &titles,
        "the tenant has no endpoints: postrider webhook create --tenant NAME URL",
    );
    for endpoint in endpoints {
        table.row([
            endpoint.id.to_string(),
            endpoint.url.clone(),
            endpoint.types.as_ref().map_or_else(|| "all".to_owned(), |types| types.join(",")),
            match &endpoint.disabled_by {
                Some(by) => format!("disabled ({by})"),
                None => endpoint.state.clone(),
            },
            (endpoint.pending + endpoint.retries).to_string(),
            print::or_dash(endpoint.failing_since.map(print::time)),
            print::or_dash(endpoint.last_error.as_ref()),
        ]);
    }
    table
}

impl From<SpecFault> for CliError {
    fn from(fault: SpecFault) -> Self {
        Self::usage(fault.to_string())
    }
}

impl From<DeskError> for CliError {
    fn from(error: DeskError) -> Self {
        match error {
            DeskError::Database(error) => error.into(),
            DeskError::Missing => {
                Self::failed("the tenant has no such endpoint: see `postrider webhook list`")
            }
            other => Self::failed(other.to_string()),
        }
    }
}
