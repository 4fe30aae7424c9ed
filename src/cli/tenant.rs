//! `postrider tenant`: the customers of this installation.

use clap::Subcommand;

use super::context::Context;
use super::error::CliError;
use super::print::{self, Answer, Table};
use crate::message::time_zone::TimeZone;
use crate::tenant::login;
use crate::tenant::store::{self, Tenant, TenantState};

/// Tenants: make, list, suspend, and bind database logins to them
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
    let pool = context.operator().await?;
    match args.verb {
        Verb::Set { name, weight, time_zone } => {
            let tenant = store::change(&pool, &name, weight, time_zone).await?;
            let words = format!(
                "tenant {name} has weight {} and time zone {}",
                tenant.weight, tenant.time_zone
            );
            Answer::new(words, &tenant)
        }
        Verb::Create { name, weight, time_zone } => {
            let tenant = store::create(&pool, &name, weight, time_zone).await?;
            Answer::new(
                format!(
                    "tenant {name} is made; next:\n  postrider domain add --tenant {name} DOMAIN\n  \
                     postrider key create --tenant {name}"
                ),
                &tenant,
            )
        }
        Verb::List => {
            let tenants = store::list(&pool).await?;
            Answer::new(table(&tenants).text(), &tenants)
        }
        Verb::Suspend { name } => {
            let tenant = store::set_state(&pool, &name, TenantState::Suspended).await?;
            let words = format!("tenant {name} is suspended; what it has queued waits");
            Answer::new(words, &tenant)
        }
        Verb::Activate { name } => {
            let tenant = store::set_state(&pool, &name, TenantState::Active).await?;
            Answer::new(format!("tenant {name} is active"), &tenant)
        }
        Verb::Login { name: Some(name), login: Some(login), unbind } => {
            let scope = store::scope(&pool, &name).await?;
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
            let logins = login::list(&pool).await?;
            let mut table = Table::new(&["login", "tenant"], "no logins are bound");
            for bound in &logins {
                table.row([bound.login.clone(), bound.tenant.clone()]);
            }
            Answer::new(table.text(), &logins)
        }
    }
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
