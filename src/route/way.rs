//! A route, ready to be taken: with its sources and whatever finds its hosts.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::health::{Health, Shut};
use super::mx::MxLookup;
use super::own::Own;
use super::plan::Hop;
use super::planner::PlannerError;
use super::policies::{Lasting, Policies};
use super::relay::{RelayLookup, literal};
use super::source::Sources;
use super::tls_policy::{Login, TlsPolicy, asked};
use crate::config::{
    Auth, ClientCertificate, Dns, Provider, Route, RouteKind, Service, Settings, Source, TlsMode,
};

/// A route.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) name: Arc<str>,
    pub(super) sources: Sources,
    pub(super) lead: Lead,
    /// Where one account stands behind all of it.
    pub(super) health: Option<Arc<Health>>,
    pub(super) route: Route,
    certificate: Option<Arc<ClientCertificate>>,
}

/// Where a route leads.
#[derive(Debug, Clone)]
pub(super) enum Lead {
    /// To the recipient's exchangers.
    Mx { lookup: Arc<MxLookup>, policies: Option<Arc<Policies>>, port: u16 },
    /// To one relay.
    Relay { host: Arc<str>, place: Place, port: u16, auth: Option<Arc<Auth>> },
    /// To a provider's API.
    Provider(Arc<Provider>),
}

/// Where a relay is.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Address(IpAddr),
    Name(Arc<RelayLookup>),
}

/// What routes ask; made when the first route needs it, so that a daemon
/// whose relays are written as addresses runs without any DNS.
#[derive(Debug, Clone, Default)]
pub(super) struct Lookups {
    pub(super) mx: Option<Arc<MxLookup>>,
    pub(super) relay: Option<Arc<RelayLookup>>,
    pub(super) policies: Option<Arc<Policies>>,
    pub(super) lasting: Lasting,
    /// By what names this host is known.
    pub(super) own: Own,
}

impl Way {
    /// Makes a route ready. `sources` are all that are configured.
    pub(super) fn read(
        route: &Route,
        sources: &[Arc<Source>],
        settings: &Settings,
        lookups: &mut Lookups,
    ) -> Result<Self, PlannerError> {
        let sources = match &route.kind {
            RouteKind::Provider(_) => Sources::of_a_provider(),
            _ => Sources::try_new(sources, &route.sources).map_err(|source_name| {
                PlannerError::UnknownSource { route: route.name.clone(), source_name }
            })?,
        };
        let dns = &settings.dns;
        let lead = match &route.kind {
            RouteKind::Mx { port } => {
                let heeded = route.tls_policies && route.tls != TlsMode::None;
                let policies = if heeded { Some(lookups.policies(settings)?) } else { None };
                Lead::Mx { lookup: lookups.mx(dns)?, policies, port: *port }
            }
            RouteKind::Relay { host, port, auth } => {
                let place = match literal(host) {
                    Some(ip) => Place::Address(ip),
                    None => Place::Name(lookups.relay(dns)?),
                };
                let auth = auth.clone().map(Arc::new);
                Lead::Relay { host: Arc::from(host.as_str()), place, port: *port, auth }
            }
            RouteKind::Provider(provider) => Lead::Provider(Arc::new((**provider).clone())),
        };
        let health = (!matches!(lead, Lead::Mx { .. })).then(Arc::default);
        let certificate = route.client_certificate.clone().map(Arc::new);
        let name = Arc::from(route.name.as_str());
        Ok(Self { name, sources, lead, health, route: route.clone(), certificate })
    }

    /// Whether it is out.
    pub(super) fn shut(&self) -> Option<Shut> {
        self.health.as_ref()?.shut()
    }

    /// Amazon SES writes these anew (its guide, "Manual DKIM signing").
    pub(super) fn rewritten_headers(&self) -> &'static [&'static str] {
        match &self.lead {
            Lead::Provider(provider) if matches!(provider.service, Service::Ses { .. }) => {
                &["Date", "Message-ID"]
            }
            _ => &[],
        }
    }

    /// The same route from other sources; a provider sends from its own.
    pub(super) fn from_pool(
        &self,
        names: &[String],
        sources: &[Arc<Source>],
    ) -> Result<Self, PlannerError> {
        let sources = match &self.lead {
            Lead::Provider(_) => Sources::of_a_provider(),
            _ => Sources::try_new(sources, names).map_err(|source_name| {
                PlannerError::UnknownSource { route: self.route.name.clone(), source_name }
            })?,
        };
        let (name, lead, route) = (self.name.clone(), self.lead.clone(), self.route.clone());
        let (health, certificate) = (self.health.clone(), self.certificate.clone());
        Ok(Self { name, sources, lead, health, route, certificate })
    }

    /// A hop of this route, to a host of which `policy` is known.
    pub(super) fn hop(&self, host: &Arc<str>, ip: IpAddr, policy: &TlsPolicy) -> Hop {
        let (port, auth) = match &self.lead {
            Lead::Mx { port, .. } => (*port, None),
            Lead::Relay { port, auth, .. } => (*port, auth.clone()),
            // A provider has no hops.
            Lead::Provider(_) => (0, None),
        };
        let login = if auth.is_some() { Login::Password } else { Login::None };
        Hop {
            host: host.clone(),
            address: SocketAddr::new(ip, port),
            tls: asked(policy.published.over(self.route.tls), login, ip),
            policy: policy.clone(),
            auth,
            certificate: self.certificate.clone(),
            max_connections: self.route.max_connections_per_host,
            messages_per_connection: self.route.messages_per_connection,
        }
    }
}

impl Lookups {
    /// Nothing found yet; what must outlive a change of settings stays.
    pub(super) fn anew(&self) -> Self {
        Self { lasting: self.lasting.clone(), ..Self::default() }
    }

    fn policies(&mut self, settings: &Settings) -> Result<Arc<Policies>, PlannerError> {
        if let Some(policies) = &self.policies {
            return Ok(policies.clone());
        }
        let mx = self.mx(&settings.dns)?;
        let policies = Policies::new(mx.resolver(), &settings.dns, &settings.tls, &self.lasting)?;
        Ok(self.policies.insert(Arc::new(policies)).clone())
    }

    fn mx(&mut self, dns: &Dns) -> Result<Arc<MxLookup>, PlannerError> {
        Ok(match &self.mx {
            Some(lookup) => lookup.clone(),
            None => self.mx.insert(Arc::new(MxLookup::new(dns, self.own.clone())?)).clone(),
        })
    }

    fn relay(&mut self, dns: &Dns) -> Result<Arc<RelayLookup>, PlannerError> {
        Ok(match &self.relay {
            Some(lookup) => lookup.clone(),
            None => self.relay.insert(Arc::new(RelayLookup::new(dns)?)).clone(),
        })
    }
}
