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

use super::choice::{Part, Parts, RouteChoice};
use super::dns::ResolverError;
use super::https::NoClient;
use super::mailbox_provider::MailboxProviders;
use super::mx::Exchanger;
use super::own::Own;
use super::plan::{Hop, RoutePlan};
use super::policies::Lasting;
use super::tls_policy::TlsPolicy;
use super::tls_result::Tally;
use super::way::{Lead, Lookups, Place, Way};
use crate::config::{Dns, Route, RouteRule, Settings, Source, TlsPolicies};
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
        let table = self.table();
        let matching =
            table.rules.iter().find(|(rule, _)| matches(rule, tenant, stream, mailbox_provider));
        RouteChoice::of(matching.map_or(&table.default_parts, |(_, parts)| parts))
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
            match part(&table.ways, to, 1) {
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

    fn table(&self) -> Arc<Table> {
        self.table.read().clone()
    }
}

/// Everything that one set of settings says.
#[derive(Debug)]
struct Table {
    rules: Vec<(RouteRule, Parts)>,
    ways: Vec<Arc<Way>>,
    default_parts: Parts,
    providers: MailboxProviders,
    lookups: Lookups,
    dns: Dns,
    tls: TlsPolicies,
}

impl Table {
    /// `before`: the ways of the old settings; what is known of a route outlives a reload that
    /// does not change it.
    fn read(
        settings: &Settings,
        kept: &Lookups,
        before: &[Arc<Way>],
    ) -> Result<Self, PlannerError> {
        let mut lookups = Lookups { own: Own::of(&settings.sources), ..kept.clone() };
        let sources: Vec<Arc<Source>> = settings.sources.iter().cloned().map(Arc::new).collect();
        let mut read = |route: &Route| {
            let mut way = Way::read(route, &sources, settings, &mut lookups)?;
            if let Some(old) = before.iter().find(|old| old.route == *route) {
                way.health.clone_from(&old.health);
            }
            Ok::<_, PlannerError>(Arc::new(way))
        };
        let ways = settings.routes.iter().map(&mut read).collect::<Result<Vec<_>, _>>()?;
        let known = |name: &str, weight| {
            part(&ways, name, weight).ok_or_else(|| PlannerError::UnknownRoute(name.to_owned()))
        };
        let parts = |shares: Vec<Part>| Parts::try_new(shares).ok_or(PlannerError::NoRoute);
        let first = settings.routes.first().ok_or(PlannerError::NoRoute)?;
        let default_parts = parts(vec![known(&first.name, 1)?])?;
        let lead = |rule: &RouteRule| {
            let shares = rule.split.iter().map(|share| known(&share.route, share.weight));
            let mut shares = shares.collect::<Result<Vec<_>, _>>()?;
            if let Some(name) = &rule.pool {
                let pool = settings.pools.iter().find(|pool| pool.name == *name);
                let pool = pool.ok_or_else(|| PlannerError::UnknownPool(name.clone()))?;
                for share in &mut shares {
                    share.take_pool(&pool.sources, &sources)?;
                }
            }
            Ok::<_, PlannerError>((rule.clone(), parts(shares)?))
        };
        let rules = settings.rules.iter().map(lead).collect::<Result<_, PlannerError>>()?;
        for fallback in settings.routes.iter().filter_map(|route| route.fallback.as_deref()) {
            known(fallback, 1)?;
        }
        let providers = MailboxProviders::new(&settings.mailbox_providers);
        let (dns, tls) = (settings.dns.clone(), settings.tls.clone());
        Ok(Self { rules, ways, default_parts, providers, lookups, dns, tls })
    }
}

/// A route with its fallback.
fn part(ways: &[Arc<Way>], name: &str, weight: u32) -> Option<Part> {
    let find = |name: &str| ways.iter().find(|way| *way.name == *name).cloned();
    let way = find(name)?;
    let fallback = way.route.fallback.as_deref().and_then(find);
    Some(Part { way, weight, fallback, held: false })
}

/// The names of the routes that these settings choose for a lane; none when there is no route.
pub fn routes_by_rule<'s>(
    settings: &'s Settings,
    tenant: &str,
    stream: &str,
    mailbox_provider: &MailboxProvider,
) -> Vec<&'s str> {
    let rule = settings.rules.iter().find(|rule| matches(rule, tenant, stream, mailbox_provider));
    match rule {
        Some(rule) => rule.split.iter().map(|share| &*share.route).collect(),
        None => settings.routes.first().map(|route| &*route.name).into_iter().collect(),
    }
}

fn matches(rule: &RouteRule, tenant: &str, stream: &str, provider: &MailboxProvider) -> bool {
    let fits = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|w| w == name);
    fits(&rule.tenant, tenant)
        && fits(&rule.stream, stream)
        && fits(&rule.mailbox_provider, provider.as_str())
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::config::secret::Secret;
    use crate::config::{Auth, Pool, Proof, Ramp, RouteKind, Share, TlsMode, WarmUp};
    use crate::domain::clock::Clock;

    fn relay(name: &str, host: &str) -> Route {
        let kind = RouteKind::Relay { host: host.into(), port: 2525, auth: None };
        Route { name: name.into(), kind, ..Route::default() }
    }

    fn rule(tenant: &str, stream: &str, provider: &str, route: &str) -> RouteRule {
        let name = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        RouteRule {
            tenant: name(tenant),
            stream: name(stream),
            mailbox_provider: name(provider),
            split: vec![Share { route: route.into(), weight: 1 }],
            pool: None,
        }
    }

    fn settings() -> Settings {
        let mut settings = Settings::for_testing();
        settings.routes = ["first", "second", "third"].map(|name| relay(name, "127.0.0.1")).into();
        settings
    }

    fn other() -> MailboxProvider {
        MailboxProvider::other()
    }

    #[test]
    fn the_first_rule_that_matches_decides_else_the_first_route() {
        let mut settings = settings();
        settings.rules = vec![
            rule("acme", "bulk", "", "second"),
            rule("", "", "google", "third"),
            rule("acme", "", "", "first"),
        ];
        let planner = Planner::new(&settings).unwrap();
        let route = |tenant: &str, stream: &str, provider: &'static str| {
            planner.route_for(tenant, stream, &MailboxProvider::new(provider)).route
        };
        assert_eq!(&*route("acme", "bulk", "google"), "second");
        assert_eq!(&*route("acme", "transactional", "google"), "third");
        assert_eq!(&*route("acme", "transactional", "other"), "first");
        assert_eq!(&*route("bolt", "bulk", "other"), "first");
    }

    #[test]
    fn a_rule_chooses_the_pool_and_a_warming_source_overflows_to_a_warm_one() {
        let mut settings = settings();
        let starts = chrono::DateTime::from_timestamp(Clock::System.unix_seconds() as i64, 0);
        let starts = starts.unwrap().date_naive();
        let warm_up = Some(WarmUp { starts, ramp: Ramp::Days(vec![5, 5, 5]) });
        settings.sources = ["old", "new", "bulk"].map(|name| source(name, None)).into();
        settings.sources[1].warm_up = warm_up;
        settings.pools =
            vec![Pool { name: "main".into(), sources: vec!["old".into(), "new".into()] }];
        settings.rules =
            vec![RouteRule { pool: Some("main".into()), ..rule("acme", "", "", "first") }];
        let planner = Planner::new(&settings).unwrap();
        for _ in 0..4 {
            let choice = planner.route_for("acme", "bulk", &other());
            assert_eq!((&*choice.source, &*choice.route), ("new", "first"), "the new one first");
            assert_eq!(&*choice.overflow().unwrap().source, "old");
            assert!(choice.overflow().unwrap().overflow().is_none());
        }
        settings.rules[0].pool = Some("mian".into());
        assert!(Planner::new(&settings).unwrap_err().to_string().contains("\"mian\""));
    }

    fn source(name: &str, warm_up: Option<WarmUp>) -> Source {
        Source { name: name.into(), warm_up, ..Source::default() }
    }

    #[test]
    fn names_that_lead_nowhere_are_told() {
        let mut wrong = settings();
        wrong.rules = vec![rule("", "", "", "frist")];
        let text = Planner::new(&wrong).unwrap_err().to_string();
        assert!(text.contains("\"frist\""), "{text}");
        let mut wrong = settings();
        wrong.routes[1].sources = vec!["nowhere".into()];
        let text = Planner::new(&wrong).unwrap_err().to_string();
        assert!(text.contains("\"second\"") && text.contains("\"nowhere\""), "{text}");
    }

    #[tokio::test]
    async fn a_relay_by_address_needs_no_dns() {
        let mut settings = settings();
        let auth = Auth { username: "me".into(), proof: Proof::Password(Secret::new("x")) };
        settings.routes = vec![Route {
            kind: RouteKind::Relay { host: "[192.0.2.9]".into(), port: 587, auth: Some(auth) },
            tls: TlsMode::Opportunistic,
            ..Route::default()
        }];
        let planner = Planner::new(&settings).unwrap();
        assert!(planner.table().lookups.relay.is_none());
        let choice = planner.route_for("acme", "bulk", &other());
        let plan = planner.plan(&choice, "example.com", &other()).await.unwrap();
        assert_eq!(plan.hops.len(), 1);
        assert_eq!(plan.hops[0].address, "192.0.2.9:587".parse().unwrap());
        assert_eq!(plan.hops[0].tls, TlsMode::Required, "a password is sent");
        assert_eq!(plan.mailbox_provider, other());
    }

    #[tokio::test]
    async fn a_source_reaches_only_its_own_family() {
        let mut settings = settings();
        settings.routes = vec![relay("relay", "127.0.0.1")];
        settings.sources[0].addresses = vec!["::1".parse().unwrap()];
        let planner = Planner::new(&settings).unwrap();
        let choice = planner.route_for("acme", "bulk", &other());
        let verdict = planner.plan(&choice, "example.com", &other()).await.unwrap_err();
        assert_eq!((verdict.class, verdict.finality), (Class::Configuration, Finality::Passing));
    }

    #[tokio::test]
    async fn a_choice_outlives_a_reload_and_a_bad_reload_changes_nothing() {
        let mut settings = settings();
        let planner = Planner::new(&settings).unwrap();
        let choice = planner.route_for("acme", "bulk", &other());

        settings.routes = vec![relay("new", "127.0.0.2")];
        planner.apply(&settings).unwrap();
        let plan = planner.plan(&choice, "example.com", &other()).await.unwrap();
        assert_eq!(plan.hops[0].address.ip(), IpAddr::from([127, 0, 0, 1]));
        assert_eq!(&*planner.route_for("acme", "bulk", &other()).route, "new");

        settings.routes.clear();
        assert!(planner.apply(&settings).is_err());
        assert_eq!(&*planner.route_for("acme", "bulk", &other()).route, "new");
    }
}
