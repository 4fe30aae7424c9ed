//! `postrider audit`: does everything add up?

use super::context::{Context, scope_of};
use super::error::CliError;
use super::print::{self, Answer, Table, Verdict};
use crate::domain::ids::MessageId;
use crate::queue::admin::audit::{self, Audit, Extent};
use crate::tenant::isolation::TenantScope;

/// Prove that every accepted delivery is in exactly one place
///
/// For each message: accepted = job rows = ended + dead letters + ready + leased + deferred,
/// and no delivery is in two places. One statement on one snapshot of each cell, so it may run
/// beside working daemons. It reads everything: a million deliveries take seconds. Ends with code
/// 1 and names the messages if anything does not add up.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  postrider audit
  postrider audit --tenant shop --json
  postrider audit --message msg_0R8KQW3YD4X1M")]
pub struct Args {
    /// One tenant's messages only
    #[arg(long)]
    tenant: Option<String>,
    /// One message only
    #[arg(long)]
    message: Option<MessageId>,
    /// Most messages to name; all are counted
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    let cells = match &args.tenant {
        Some(tenant) => vec![context.cell_of_tenant(tenant).await?],
        None => context.cells().await?,
    };
    let mut sums: Option<Audit> = None;
    for cell in &cells {
        let tenant = scope_of(&cell.pool, args.tenant.as_deref()).await?.map(TenantScope::tenant);
        let extent = Extent { tenant, message: args.message, most: args.limit };
        let found = audit::audit(&cell.pool, extent).await?;
        sums = Some(match sums {
            Some(sums) => sums.plus(found, args.limit),
            None => found,
        });
    }
    let audit = sums.ok_or_else(|| CliError::usage("--cell: there is no such cell"))?;
    if audit.messages == 0 && audit.adds_up() && args.message.is_some() {
        return Err(CliError::failed("there is no such message"));
    }
    let verdict = if audit.adds_up() { Verdict::Fine } else { Verdict::Bad };
    Ok(Answer::new(words(&audit), &audit)?.with_verdict(verdict))
}

fn words(audit: &Audit) -> String {
    let Audit { messages, accepted, ended, dead, waiting, offenders, .. } = audit;
    let sums = format!(
        "{messages} messages: {accepted} deliveries accepted, {ended} ended, {dead} dead letters, \
         {waiting} waiting"
    );
    if audit.adds_up() {
        return format!("{sums}\neverything adds up");
    }
    let mut table = Table::new(&["message", "tenant", "example", "fault"], "");
    for offender in &audit.detail {
        table.row([
            print::or_dash(offender.message),
            print::or_dash(offender.tenant.as_ref()),
            print::or_dash(offender.example),
            offender.faults().join(", "),
        ]);
    }
    format!("{sums}\n{offenders} messages do not add up\n{}", table.text())
}
