//! `postrider why`: what mail waits for, since when, and when it is expected to go.

use super::context::Context;
use super::error::CliError;
use super::print::Answer;
use super::queue::Subject;
use super::trace;
use crate::cell::Cell;
use crate::queue::why::{Explain, Eyes};

/// Say why a delivery, a message or a tenant's mail waits, and when it is expected to go
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  postrider why dlv_0R8KQW3YD4X2N
  postrider why msg_0R8KQW3YD4X1M --json | jq '.lanes[].waits_for[0].kind'
  postrider why shop
  postrider why --provider-id 0100018f1a2b3c4d-5e6f7a8b-000000")]
pub struct Args {
    /// A delivery (dlv_…), a message (msg_…) or the name of a tenant
    #[arg(required_unless_present = "provider_id", conflicts_with = "provider_id")]
    what: Option<String>,
    /// Instead: the delivery that a provider's report speaks of by this id
    #[arg(long, value_name = "ID")]
    provider_id: Option<String>,
    /// Only if the delivery or message is this tenant's
    #[arg(long)]
    tenant: Option<String>,
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    let ttl = context.settings()?.queue.session_ttl;
    let explain = |cell: Cell| Explain::new(cell.pool, Eyes::Operator, ttl);
    let what = match (args.what, &args.provider_id) {
        (None, Some(id)) => context.delivery_taken_under(id).await?.to_string(),
        (what, _) => what.unwrap_or_default(),
    };
    // A tenant's name has no underscore.
    let Ok(subject) = what.parse::<Subject>() else {
        if what.contains('_') {
            return Err(CliError::usage(format!(
                "expected a delivery (dlv_ and 13 characters), a message (msg_ and 13 characters) \
                 or the name of a tenant, found {what:?}"
            )));
        }
        let (cell, scope) = context.scope_of_tenant(&what).await?;
        let why = explain(cell).tenant(scope, &what).await?;
        return Answer::new(why.words.join("\n"), &why);
    };
    match subject {
        Subject::Message(id) => {
            let (cell, scope) = context.cell_of_message(id, args.tenant.as_deref()).await?;
            let why = explain(cell.clone()).message(scope, id).await?;
            let why = why.ok_or_else(|| CliError::failed(format!("there is no {id}")))?;
            trace::beside(context, &cell.pool, scope, id, why.words.join("\n"), &why).await
        }
        Subject::Delivery(id) => {
            let (cell, scope) = context.cell_of_delivery(id, args.tenant.as_deref()).await?;
            let why = explain(cell.clone()).delivery(scope, id).await?;
            let why = why.ok_or_else(|| CliError::failed(format!("there is no {id}")))?;
            let words = why.words.join("\n");
            trace::beside(context, &cell.pool, scope, why.message, words, &why).await
        }
    }
}
