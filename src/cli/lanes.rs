//! Which lanes a verb of `postrider queue` is about.

use std::sync::Arc;

use sqlx::PgPool;

use super::context::Context;
use super::error::CliError;
use super::print::{Answer, Table};
use crate::cell::Cell;
use crate::config::Settings;
use crate::domain::ids::LaneId;
use crate::queue::admin::preview::{Touched, preview};
use crate::queue::admin::target::{Target, known_route};
use crate::queue::lane;
use crate::route::planner::routes_by_rule;
use crate::tenant::store;

/// What all must fit.
#[derive(Debug, Clone, clap::Args)]
pub struct Lanes {
    /// Everything of a tenant, as far as no other option narrows it
    #[arg(long)]
    tenant: Option<String>,
    /// One stream of the tenant
    #[arg(long, requires = "tenant")]
    stream: Option<String>,
    /// Mail to a mailbox provider: of all tenants, or of --tenant
    #[arg(long)]
    mailbox_provider: Option<String>,
    /// Mail that leaves by a route
    #[arg(long)]
    route: Option<String>,
    /// One lane, by its number in `queue status`
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["stream", "mailbox_provider", "route"])]
    lane: Option<i32>,
}

impl Lanes {
    /// Whether nothing is named.
    const fn is_empty(&self) -> bool {
        self.tenant.is_none()
            && self.mailbox_provider.is_none()
            && self.route.is_none()
            && self.lane.is_none()
    }

    /// Whether more than a tenant is named.
    pub const fn is_narrow(&self) -> bool {
        self.stream.is_some()
            || self.mailbox_provider.is_some()
            || self.route.is_some()
            || self.lane.is_some()
    }

    /// The tenant's name.
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// Nothing is not everything.
    pub fn check(&self) -> Result<(), CliError> {
        if self.is_empty() {
            return Err(CliError::usage(
                "say what: --tenant, --tenant with --stream, --mailbox-provider, --route, or --lane",
            ));
        }
        Ok(())
    }

    /// The route's name.
    pub fn route(&self) -> Option<&str> {
        self.route.as_deref()
    }

    /// The cells with such lanes: a tenant's own, else all.
    pub async fn cells(&self, context: &Context) -> Result<Vec<Cell>, CliError> {
        if let Some(tenant) = &self.tenant {
            return Ok(vec![context.cell_of_tenant(tenant).await?]);
        }
        let cells = context.cells().await?;
        if self.lane.is_some() && cells.len() > 1 {
            return Err(CliError::usage(
                "--lane: each cell numbers its lanes: say which with --cell or --tenant",
            ));
        }
        Ok(cells)
    }

    /// All that is named. A route must be configured, and a lane must be the tenant's.
    pub async fn target(&self, pool: &PgPool, context: &Context) -> Result<Target, CliError> {
        if let Some(route) = &self.route {
            known_route(&context.settings()?, route)?;
        }
        let tenant = match &self.tenant {
            Some(name) => Some(store::scope(pool, name).await?),
            None => None,
        };
        if let (Some(lane), Some(name)) = (self.lane, &self.tenant) {
            let known = lane::directory(pool, &[LaneId::new(lane)]).await?;
            if known.iter().any(|lane| *lane.tenant_name != **name) {
                return Err(CliError::failed(format!("lane {lane} is not tenant {name}'s")));
            }
        }
        Ok(Target {
            // A lane says whose it is.
            tenant: tenant.filter(|_| self.lane.is_none()),
            stream: self.stream.clone(),
            mailbox_provider: self.mailbox_provider.clone(),
            route: self.route.clone(),
            lane: self.lane,
        })
    }

    /// In words.
    pub fn name(&self) -> String {
        let whose = match (&self.tenant, &self.stream) {
            (Some(tenant), Some(stream)) => Some(format!("stream {tenant}/{stream}")),
            (Some(tenant), None) if self.lane.is_none() => Some(format!("tenant {tenant}")),
            _ => None,
        };
        let parts = [
            whose,
            self.mailbox_provider.as_ref().map(|name| format!("mail to {name}")),
            self.route.as_ref().map(|name| format!("mail by route {name}")),
            self.lane.map(|lane| format!("lane {lane}")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// What would be touched, with nothing changed.
    pub async fn dry_run(&self, context: &Context, verb: &str) -> Result<Answer, CliError> {
        let cells = self.cells(context).await?;
        let (mut tables, mut facts) = (Vec::new(), Vec::new());
        let (mut waiting, mut more) = (0, false);
        for cell in &cells {
            let touched = self.touched(&cell.pool, context).await?;
            waiting += touched.iter().map(|lane| lane.ready + lane.deferred).sum::<i64>();
            more |= touched.iter().any(|lane| lane.more_ready || lane.more_deferred);
            let text = table(&touched).text();
            tables.push(match cells.len() {
                1 => text,
                _ => format!("cell {}\n\n{text}", cell.name),
            });
            for lane in touched {
                let mut lane = serde_json::json!(lane);
                if cells.len() > 1 {
                    lane["cell"] = (*cell.name).into();
                }
                facts.push(lane);
            }
        }
        let words = format!(
            "{}\n\n{verb} would touch {waiting}{} waiting deliveries in {} lanes of {}; nothing was changed",
            tables.join("\n\n"),
            if more { "+" } else { "" },
            facts.len(),
            self.name(),
        );
        let facts = serde_json::json!({
            "dry_run": true, "would": verb, "of": self.name(), "lanes": facts, "waiting": waiting,
            "at_least": more,
        });
        Answer::new(words, &facts)
    }

    async fn touched(&self, pool: &PgPool, context: &Context) -> Result<Vec<Touched>, CliError> {
        let target = self.target(pool, context).await?;
        let touched = preview(pool, &target).await?;
        match &self.route {
            Some(route) => leaving_by(pool, &context.settings()?, route, touched).await,
            None => Ok(touched),
        }
    }
}

/// Those of `touched` that leave by this route now, by the rules and what was moved.
async fn leaving_by(
    pool: &PgPool,
    settings: &Settings,
    route: &str,
    touched: Vec<Touched>,
) -> Result<Vec<Touched>, CliError> {
    let ids: Vec<LaneId> = touched.iter().map(|lane| LaneId::new(lane.lane)).collect();
    let detours = lane::orders(pool).await?.detours;
    let lanes = lane::directory(pool, &ids).await?;
    let leaves = |id: i32| {
        let Some(lane) = lanes.iter().find(|lane| lane.id.get() == id) else { return false };
        let (tenant, stream) = (&lane.tenant_name, &lane.stream_name);
        routes_by_rule(settings, tenant, stream, &lane.mailbox_provider).into_iter().any(|ruled| {
            let ruled: Arc<str> = ruled.into();
            **detours.find(lane, &ruled).unwrap_or(&ruled) == *route
        })
    };
    Ok(touched.into_iter().filter(|lane| leaves(lane.lane)).collect())
}

fn table(touched: &[Touched]) -> Table {
    let titles =
        ["lane", "tenant", "mailbox provider", "stream", "prio", "ready", "deferred", "in hand"];
    let mut table = Table::new(&titles, "nothing waits there");
    let counted = |n: i64, more: bool| format!("{n}{}", if more { "+" } else { "" });
    for lane in touched {
        table.row([
            lane.lane.to_string(),
            lane.tenant.clone(),
            lane.mailbox_provider.clone(),
            lane.stream.clone(),
            lane.priority.to_string(),
            counted(lane.ready, lane.more_ready),
            counted(lane.deferred, lane.more_deferred),
            lane.leased.to_string(),
        ]);
    }
    table
}
