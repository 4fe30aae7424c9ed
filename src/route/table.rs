//! What one set of settings says of routes (no I/O).

use std::sync::Arc;

use super::mailbox_provider::MailboxProviders;
use super::own::Own;
use super::part::{Held, Part, Parts};
use super::planner::PlannerError;
use super::way::{Lookups, Way};
use crate::config::{Dns, Route, RouteRule, Settings, Source, TlsPolicies};
use crate::domain::ids::MailboxProvider;

/// Everything that one set of settings says.
#[derive(Debug)]
pub(super) struct Table {
    rules: Vec<(RouteRule, Parts)>,
    pub(super) ways: Vec<Arc<Way>>,
    default_parts: Parts,
    pub(super) providers: MailboxProviders,
    pub(super) lookups: Lookups,
    pub(super) dns: Dns,
    pub(super) tls: TlsPolicies,
}

impl Table {
    /// `before`: the ways of the old settings; what is known of a route outlives a reload that
    /// does not change it.
    pub(super) fn read(
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

    /// The ways of a lane: the first rule that matches decides, else the first route.
    pub(super) fn parts(
        &self,
        tenant: &str,
        stream: &str,
        mailbox_provider: &MailboxProvider,
    ) -> &Parts {
        let matching =
            self.rules.iter().find(|(rule, _)| matches(rule, tenant, stream, mailbox_provider));
        matching.map_or(&self.default_parts, |(_, parts)| parts)
    }

    /// The route of this name as a share of a lane, with its fallback.
    pub(super) fn part(&self, name: &str, weight: u32) -> Option<Part> {
        part(&self.ways, name, weight)
    }
}

/// A route with its fallback.
fn part(ways: &[Arc<Way>], name: &str, weight: u32) -> Option<Part> {
    let find = |name: &str| ways.iter().find(|way| *way.name == *name).cloned();
    let way = find(name)?;
    let fallback = way.route.fallback.as_deref().and_then(find);
    Some(Part { way, weight, fallback, held: Held::default() })
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
