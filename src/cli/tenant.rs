//! `postrider tenant`: the customers of this installation.

use clap::Subcommand;

use super::context::Context;
use super::error::CliError;
use super::print::{self, Answer, Table};
use super::{tenant_health, tenant_move};
use crate::cell::{directory, find, identity};
use crate::message::time_zone::TimeZone;
use crate::tenant::login;
use crate::tenant::store::{self, StoreError, Tenant, TenantState};

/// Tenants: make, list, suspend, move, show their health, and bind database logins to them
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  postrider tenant create shop\n  postrider key create --tenant shop"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a tenant
    #[command(
        after_help = "Example:\n  postrider tenant create shop --weight 200 --time-zone Europe/Berlin"
    )]
    Create {
        /// Lower-case letters, digits and hyphens
        name: String,
        /// Its share of the capacity beside the others' when there is not enough for all
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=10_000))]
        weight: i32,
        /// By whose clock its quiet hours go
        #[arg(long, default_value_t, value_name = "NAME")]
        time_zone: TimeZone,
    },
    /// Change a tenant
    #[command(after_help = "Example:\n  postrider tenant set shop --time-zone Europe/Berlin")]
    #[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["weight", "time_zone"])))]
    Set {
        /// The tenant
        name: String,
        /// Its share of the capacity beside the others' when there is not enough for all
        #[arg(long, value_parser = clap::value_parser!(i32).range(1..=10_000))]
        weight: Option<i32>,
        /// By whose clock its quiet hours go
        #[arg(long, value_name = "NAME")]
        time_zone: Option<TimeZone>,
    },
    /// List all tenants
    #[command(after_help = "Example:\n  postrider tenant list --json")]
    List,
    /// Refuse its keys and logins, and hold back what it has queued
    #[command(after_help = "Example:\n  postrider tenant suspend shop")]
    Suspend {
        /// The tenant
        name: String,
    },
    /// Let a suspended tenant work again
    #[command(after_help = "Example:\n  postrider tenant activate shop")]
    Activate {
        /// The tenant
        name: String,
    },
    /// Show how receivers take its mail: bounces and complaints of each stream
    ///
    /// The exit code is 1 when a stream is held back for them.
    #[command(after_help = "Example:\n  postrider tenant health shop")]
    Health(tenant_health::Args),
    /// Move a tenant to another cell, with everything it has
    ///
    /// Nothing new is accepted for it meanwhile (503, to be tried again), what is in hand is
    /// finished, what waits is copied, and only then the old cell gives it up. Whatever stops
    /// the command, the same command goes on from there.
    #[command(after_help = "\
Examples:
  postrider tenant move shop --to-cell b --dry-run
  postrider tenant move shop --to-cell b
  postrider tenant move shop --to-cell a       # undo, as long as it has not left a")]
    Move(tenant_move::Args),
    /// Let a database login submit mail for a tenant by postrider.send(); without arguments, list them
    #[command(after_help = "\
The login gets the right to call postrider.send() and nothing else, and whatever it
does, its mail is this tenant's.

Examples:
  postrider tenant login shop shop_app
  postrider tenant login shop shop_app --unbind
  psql -U shop_app -c \"select postrider.send('{\\\"from\\\": \\\"a@shop.example\\\", …}')\"")]
    Login {
        /// The tenant
        #[arg(requires = "login")]
        name: Option<String>,
        /// The role that the application connects as
        login: Option<String>,
        /// Take the right away again
        #[arg(long, requires = "login")]
        unbind: bool,
    },
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    match args.verb {
        Verb::Create { name, weight, time_zone } => create(context, &name, weight, time_zone).await,
        Verb::Set { name, weight, time_zone } => {
            let pool = context.operator_for(Some(&name)).await?;
            let tenant = store::change(&pool, &name, weight, time_zone).await?;
            let words = format!(
                "tenant {name} has weight {} and time zone {}",
                tenant.weight, tenant.time_zone
            );
            Answer::new(words, &tenant)
        }
        Verb::List => list(context).await,
        Verb::Suspend { name } => {
            let pool = context.operator_for(Some(&name)).await?;
            let tenant = store::set_state(&pool, &name, TenantState::Suspended).await?;
            let words = format!("tenant {name} is suspended; what it has queued waits");
            Answer::new(words, &tenant)
        }
        Verb::Activate { name } => {
            let pool = context.operator_for(Some(&name)).await?;
            let tenant = store::set_state(&pool, &name, TenantState::Active).await?;
            Answer::new(format!("tenant {name} is active"), &tenant)
        }
        Verb::Health(args) => tenant_health::run(args, context).await,
        Verb::Move(args) => tenant_move::run(args, context).await,
        Verb::Login { name: Some(name), login: Some(login), unbind } => {
            let (cell, scope) = context.scope_of_tenant(&name).await?;
            let pool = cell.pool;
            let words = if unbind {
                login::unbind(&pool, scope, &login).await?;
                format!("login {login} may no longer submit for {name}")
            } else {
                login::bind(&pool, scope, &login).await?;
                format!("login {login} may submit for {name} by postrider.send()")
            };
            let facts = serde_json::json!({"tenant": name, "login": login, "bound": !unbind});
            Answer::new(words, &facts)
        }
        Verb::Login { .. } => {
            let mut logins = Vec::new();
            for cell in context.cells().await? {
                logins.extend(login::list(&cell.pool).await?);
            }
            let mut table = Table::new(&["login", "tenant"], "no logins are bound");
            for bound in &logins {
                table.row([bound.login.clone(), bound.tenant.clone()]);
            }
            Answer::new(table.text(), &logins)
        }
    }
}

/// In the home cell, or the one named by `--cell`. A name is one tenant's in all cells.
async fn create(
    context: &Context,
    name: &str,
    weight: i32,
    time_zone: TimeZone,
) -> Result<Answer, CliError> {
    let chosen = context.cells().await?;
    let cell = chosen.first().ok_or_else(|| CliError::usage("--cell: there is no such cell"))?;
    let all = context.cells_with(None).await?;
    if let [home, _, ..] = &all[..] {
        if find::tenant(&all, name).await?.is_some() {
            return Err(StoreError::NameTaken { name: name.to_owned() }.into());
        }
        identity::verify(cell).await?;
        // Reserved by a command that makes it elsewhere, or that broke off.
        let reserved = directory::reserve(&home.pool, name, cell.number).await?;
        if let Some(other) = all.iter().find(|other| other.number == reserved)
            && other.number != cell.number
        {
            return Err(CliError::failed(format!(
                "the name {name:?} is reserved for cell {0}: make it there (--cell {0}), then move it",
                other.name
            )));
        }
    }
    let tenant = store::create(&cell.pool, name, weight, time_zone).await?;
    let words = format!(
        "tenant {name} is made; next:\n  postrider domain add --tenant {name} DOMAIN\n  \
         postrider key create --tenant {name}"
    );
    Answer::new(words, &tenant)
}

async fn list(context: &Context) -> Result<Answer, CliError> {
    let cells = context.cells().await?;
    if let [only] = &cells[..] {
        let tenants = store::list(&only.pool).await?;
        return Answer::new(table(&tenants).text(), &tenants);
    }
    let mut facts = Vec::new();
    let mut table = Table::new(
        &["name", "cell", "state", "weight", "time zone", "since"],
        "there are no tenants yet: postrider tenant create NAME",
    );
    for cell in &cells {
        for tenant in store::list(&cell.pool).await? {
            table.row([
                tenant.name.clone(),
                cell.name.to_string(),
                tenant.state.clone(),
                tenant.weight.to_string(),
                tenant.time_zone.clone(),
                print::time(tenant.created_at),
            ]);
            facts.push(serde_json::json!({
                "id": tenant.tenant_id, "name": tenant.name, "cell": &*cell.name, "state": tenant.state,
                "weight": tenant.weight, "time_zone": tenant.time_zone, "created_at": tenant.created_at,
            }));
        }
    }
    Answer::new(table.text(), &facts)
}

fn table(tenants: &[Tenant]) -> Table {
    let mut table = Table::new(
        &["name", "state", "weight", "time zone", "since"],
        "there are no tenants yet: postrider tenant create NAME",
    );
    for tenant in tenants {
        table.row([
            tenant.name.clone(),
            tenant.state.clone(),
            tenant.weight.to_string(),
            tenant.time_zone.clone(),
            print::time(tenant.created_at),
        ]);
    }
    table
}
