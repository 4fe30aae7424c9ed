//! What receivers publish about TLS, put together: DANE before MTA-STS (RFC 8461 2).

use std::sync::Arc;

use futures_util::future::join_all;

use super::dane::DaneLookup;
use super::dns::Resolver;
use super::https::{Https, NoClient};
use super::mx::Exchanger;
use super::sts::{Known, Mode, StsLookup, StsStore};
use super::tls_policy::{Published, TlsPolicy};
use super::tls_result::{Event, Failure, Tally};
use crate::config::{Dns, TlsPolicies};
use crate::domain::verdict::{Cause, Class, Finality, Reach, Stage, Verdict};

/// Finds policies.
#[derive(Debug)]
pub(super) struct Policies {
    sts: Option<StsLookup>,
    dane: Option<DaneLookup>,
    tally: Arc<Tally>,
}

/// What outlives every change of settings.
#[derive(Debug, Clone, Default)]
pub(super) struct Lasting {
    pub(super) store: Arc<StsStore>,
    pub(super) tally: Arc<Tally>,
}

impl Policies {
    pub(super) fn new(
        resolver: &Arc<Resolver>,
        dns: &Dns,
        tls: &TlsPolicies,
        lasting: &Lasting,
    ) -> Result<Self, NoClient> {
        let sts = if tls.mta_sts {
            let https = Https::with(Arc::clone(resolver), dns, tls)?;
            Some(StsLookup::new(Arc::clone(resolver), https, Arc::clone(&lasting.store)))
        } else {
            None
        };
        let dane = tls.dane.then(|| DaneLookup::new(Arc::clone(resolver)));
        Ok(Self { sts, dane, tally: Arc::clone(&lasting.tally) })
    }

    /// The policy for each of a domain's hosts, in their order. `Err`: it must not be sent to,
    /// now or at all.
    pub(super) async fn find(
        &self,
        domain: &str,
        hosts: &[&Exchanger],
        port: u16,
    ) -> Vec<Result<TlsPolicy, Verdict>> {
        let sts = match &self.sts {
            Some(sts) => sts.find(domain).await,
            None => Ok(Known::default()),
        };
        let domain: Arc<str> = domain.into();
        join_all(hosts.iter().map(|host| self.of_host(&domain, sts.as_ref(), host, port))).await
    }

    /// Has policies that are kept for long fetched again, so that none runs out.
    pub(super) async fn refresh(&self, most: i64) -> Result<u64, sqlx::Error> {
        match &self.sts {
            Some(sts) => sts.refresh(most).await,
            None => Ok(0),
        }
    }

    async fn of_host(
        &self,
        domain: &Arc<str>,
        sts: Result<&Known, &Verdict>,
        host: &Exchanger,
        port: u16,
    ) -> Result<TlsPolicy, Verdict> {
        let pins = match &self.dane {
            Some(dane) if host.authentic => dane.find(&host.host, port).await,
            _ => Ok(None),
        };
        let pins = pins.inspect_err(|_| {
            let trouble = Some(Failure::DnssecInvalid);
            let policy =
                TlsPolicy { domain: Some(domain.clone()), trouble, ..TlsPolicy::default() };
            self.count(&policy, host, Failure::DnssecInvalid);
        })?;
        let mut policy = TlsPolicy { domain: Some(domain.clone()), ..TlsPolicy::default() };
        if let Some(pins) = pins {
            policy.published = Published::Dane(pins);
            return Ok(policy);
        }
        let known = sts.map_err(Clone::clone)?;
        policy.trouble = known.trouble;
        let Some(sts) = &known.policy else { return Ok(policy) };
        policy.published = Published::Sts(Arc::clone(sts));
        if sts.allows(&host.host) {
            return Ok(policy);
        }
        match sts.mode {
            Mode::Enforce => {
                self.count(&policy, host, Failure::Validation);
                Err(not_allowed(domain, &host.host))
            }
            Mode::Testing | Mode::None => {
                policy.trouble = Some(Failure::Validation);
                Ok(policy)
            }
        }
    }

    fn count(&self, policy: &TlsPolicy, host: &Exchanger, failure: Failure) {
        let Some(domain) = policy.domain.clone().filter(|_| self.tally.is_wanted()) else { return };
        self.tally.count(Event {
            domain,
            policy_type: policy.kind(),
            policy: policy.text().into(),
            host: Arc::clone(&host.host),
            from: None,
            to: None,
            failure: Some(failure),
        });
    }
}

fn not_allowed(domain: &str, host: &str) -> Verdict {
    let text = format!(
        "the MTA-STS policy of {domain} does not allow its mail host {host} (RFC 8461 4.1)"
    );
    Verdict {
        stage: Stage::Resolve,
        cause: Cause::Tls(text),
        class: Class::Configuration,
        finality: Finality::Passing,
        reach: Reach::Destination,
        retry_after: None,
        ruling: None,
    }
}
