//! From a recipient's domain to the hops to try.
//!
//! Which way a lane goes (`route_for`) is decided from the settings alone;
//! where that leads for one domain (`plan`) may ask the DNS. A choice made
//! before a reload keeps the way it named, so deliveries in hand finish as
//! they began. A reload keeps what the DNS said unless `[dns]` itself changed.

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::RwLock;
use sqlx::PgPool;

use super::choice::RouteChoice;
use super::dns::ResolverError;
use super::https::NoClient;
use super::mx::Exchanger;
use super::own::Own;
use super::plan::{Hop, RoutePlan};
use super::policies::Lasting;
use super::table::Table;
pub use super::table::routes_by_rule;
use super::tls_policy::TlsPolicy;
use super::tls_result::Tally;
use super::way::{Lead, Lookups, Place};
use crate::config::{Settings, Source};
use crate::domain::ids::MailboxProvider;
use crate::domain::verdict::{Cause, Class, Finality, Reach, Stage, Verdict};

/// Hops of one plan: an attempt tries no more.
const MAX_HOPS: usize = 10;
/// Addresses of one host in a plan, so that the next host has a chance.
const MAX_HOPS_PER_HOST: usize = 4;

/// Knows every route.
#[derive(Debug)]
pub struct Planner {
    table: RwLock<Arc<Table>>,
}

/// Why no planner can be made of these settings.
#[derive(Debug, thiserror::Error)]
pub enum PlannerError {
    /// There is no way out at all.
    #[error("expected at least one [[route]], found none")]
    NoRoute,
    /// A rule leads nowhere.
    #[error("[[rule]]: expected the name of a [[route]], found {0:?}")]
    UnknownRoute(String),
    /// A rule names no pool.
    #[error("[[rule]]: expected the name of a [[pool]], found {0:?}")]
    UnknownPool(String),
    /// A route has nothing to send from.
    #[error("[[route]] {route:?}: expected the name of a [[source]], found {source_name:?}")]
    UnknownSource {
        /// The route's name.
        route: String,
        /// What is no source's name; empty when there is no source at all.
        source_name: String,
    },
    /// A route needs the DNS, and there is none.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// Policies cannot be fetched by HTTPS.
    #[error(transparent)]
    Https(#[from] NoClient),
}

impl Planner {
    /// Plans by these settings.
    pub fn new(settings: &Settings) -> Result<Self, PlannerError> {
        let table = Table::read(settings, &Lookups::default(), &[])?;
        table.lookups.lasting.tally.want(settings.tls_report.is_some());
        Ok(Self { table: RwLock::new(Arc::new(table)) })
    }

    /// Takes over changed settings. On an error everything stays as it was.
    pub fn apply(&self, settings: &Settings) -> Result<(), PlannerError> {
        let before = self.table();
        let same = before.dns == settings.dns
            && before.tls == settings.tls
            && before.lookups.own == Own::of(&settings.sources);
        let kept = if same { before.lookups.clone() } else { before.lookups.anew() };
        let table = Table::read(settings, &kept, &before.ways)?;
        table.lookups.lasting.tally.want(settings.tls_report.is_some());
        *self.table.write() = Arc::new(table);
        Ok(())
    }

    /// From now on MTA-STS policies are kept in the database at `pool`.
    pub fn keep_policies_in(&self, pool: PgPool) {
        self.lasting().store.keep_in(pool);
    }

    /// Where it is counted how TLS with receivers goes.
    pub fn tally(&self) -> Arc<Tally> {
        self.lasting().tally
    }

    /// Fetches again MTA-STS policies that have been kept for long, at most `most`; gives back
    /// how many there were.
    pub async fn refresh_policies(&self, most: i64) -> Result<u64, sqlx::Error> {
        match &self.table().lookups.policies {
            Some(policies) => policies.refresh(most).await,
            None => Ok(0),
        }
    }

    /// The way out for a lane: the first rule that matches decides, else the
    /// first route is taken; its sources have their turn call by call.
    pub fn route_for(
        &self,
        tenant: &str,
        stream: &str,
        mailbox_provider: &MailboxProvider,
    ) -> RouteChoice {
        RouteChoice::of(self.table().parts(tenant, stream, mailbox_provider))
    }

    /// The same way out, but for the routes that `taken` leads elsewhere by name. `Err` is a name
    /// that no route has: then nothing changes.
    pub fn detoured<'n>(
        &self,
        choice: RouteChoice,
        taken: impl Fn(&Arc<str>) -> Option<&'n Arc<str>>,
    ) -> Result<RouteChoice, (RouteChoice, Arc<str>)> {
        let detours: Vec<_> =
            choice.routes().filter_map(|from| Some((Arc::clone(from), taken(from)?))).collect();
        if detours.is_empty() {
            return Ok(choice);
        }
        let table = self.table();
        let mut others = Vec::with_capacity(detours.len());
        for (from, to) in detours {
            match table.part(to, 1) {
                Some(part) => others.push((from, part)),
                None => return Err((choice, Arc::clone(to))),
            }
        }
        let replaced = |name: &Arc<str>| {
            others.iter().find(|(from, _)| from == name).map(|(_, part)| part.clone())
        };
        Ok(choice.with(replaced))
    }

    /// The hops for a recipient's domain (lower-case A-labels). `known` is the
    /// mailbox provider of the lane; if that is [`MailboxProvider::OTHER`], the
    /// domain and its MX are asked, and the plan says what they told.
    pub async fn plan(
        &self,
        choice: &RouteChoice,
        domain: &str,
        known: &MailboxProvider,
    ) -> Result<RoutePlan, Verdict> {
        let table = self.table();
        let providers = &table.providers;
        let way = &choice.way;
        let fits = |ip: &IpAddr| choice.from.reaches(*ip);
        let mut mailbox_provider = match known.as_str() {
            MailboxProvider::OTHER => providers.of_domain(domain),
            _ => Some(known),
        };
        let hops: Vec<Hop> = match &way.lead {
            Lead::Mx { lookup, policies, port } => {
                let exchangers = lookup.find(domain).await?;
                mailbox_provider = mailbox_provider
                    .or_else(|| exchangers.first_choice().find_map(|host| providers.of_mx(host)));
                let hosts = exchangers.in_turn();
                let known = match policies {
                    Some(policies) => policies.find(domain, &hosts, *port).await,
                    None => vec![Ok(TlsPolicy::default()); hosts.len()],
                };
                let hops = |(mx, policy): (&Exchanger, &TlsPolicy)| -> Vec<Hop> {
                    let addresses = mx.addresses.shuffled().filter(fits).take(MAX_HOPS_PER_HOST);
                    addresses.map(|ip| way.hop(&mx.host, ip, policy)).collect()
                };
                let open = hosts.into_iter().zip(&known);
                let open = open.filter_map(|(mx, known)| Some((mx, known.as_ref().ok()?)));
                let found: Vec<Hop> = open.flat_map(hops).take(MAX_HOPS).collect();
                // If no host may be sent to, the first of them says why.
                if found.is_empty()
                    && let Some(Err(verdict)) = known.into_iter().find(Result::is_err)
                {
                    return Err(verdict);
                }
                found
            }
            Lead::Relay { host, place: Place::Name(lookup), .. } => {
                let addresses = lookup.find(host).await?;
                let addresses = addresses.shuffled().filter(fits).take(MAX_HOPS);
                addresses.map(|ip| way.hop(host, ip, &TlsPolicy::default())).collect()
            }
            Lead::Relay { host, place: Place::Address(ip), .. } => {
                let hop = |ip| way.hop(host, ip, &TlsPolicy::default());
                Some(*ip).filter(fits).map(hop).into_iter().collect()
            }
            Lead::Provider(_) => Vec::new(),
        };
        let provider = match &way.lead {
            Lead::Provider(provider) => Some(Arc::clone(provider)),
            _ if hops.is_empty() => return Err(no_common_family(&choice.from)),
            _ => None,
        };
        Ok(RoutePlan {
            route: way.name.clone(),
            mailbox_provider: mailbox_provider.cloned().unwrap_or_else(MailboxProvider::other),
            source: choice.from.clone(),
            hops,
            provider,
        })
    }

    fn lasting(&self) -> Lasting {
        self.table().lookups.lasting.clone()
    }

    pub(super) fn table(&self) -> Arc<Table> {
        self.table.read().clone()
    }
}

fn no_common_family(source: &Source) -> Verdict {
    let text = format!("no host has an address of the family of source {:?}", source.name);
    Verdict {
        stage: Stage::Resolve,
        cause: Cause::Dns(text),
        class: Class::Configuration,
        finality: Finality::Passing,
        reach: Reach::Source,
        retry_after: None,
        ruling: None,
    }
}
