//! MTA-STS (RFC 8461): domains that say, by HTTPS, which hosts are theirs and that mail to them
//! wants verified TLS.
//!
//! Promises: a policy that was fetched holds until its time is over, whatever the DNS, the
//! policy host or this process do meanwhile (it is kept in the database); a record with
//! another id, and age, have it fetched again; while nothing is known and nothing can be
//! fetched, mail goes as if there were no policy, as the RFC has it.

mod fetch;
mod policy;
mod record;
mod store;

use std::sync::Arc;
use std::time::Duration;

pub use policy::{Mode, NoPolicy, StsPolicy};
pub use store::StsStore;
use store::{Kept, is_ageing};

use super::cache::Cache;
use super::dns::{LONGEST, Miss, Resolver};
use super::https::Https;
use super::tls_result::Failure;
use crate::domain::verdict::{Cause, Class, Finality, Reach, Stage, Verdict};

/// Domains remembered.
const MAX_DOMAINS: usize = 50_000;
/// Shortest time until a domain's record is looked at again; also RFC 8461 3.3's wait after a
/// policy could not be fetched.
const SHORTEST: Duration = Duration::from_secs(300);
/// Time between two looks at a policy that is hardly to be kept.
const FLOOR: Duration = Duration::from_secs(60);
/// Wait after the store could not be read.
const TROUBLE: Duration = Duration::from_secs(5);

/// What is known of a domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// The policy in force; never one of mode `none`.
    pub(super) policy: Option<Arc<StsPolicy>>,
    /// Why there is none, or no newer one, although the domain announces it.
    pub(super) trouble: Option<Failure>,
}

/// Finds policies and remembers them.
#[derive(Debug)]
pub(super) struct StsLookup {
    resolver: Arc<Resolver>,
    https: Https,
    store: Arc<StsStore>,
    known: Cache<Result<Known, Verdict>>,
}

impl StsLookup {
    pub(super) fn new(resolver: Arc<Resolver>, https: Https, store: Arc<StsStore>) -> Self {
        Self { resolver, https, store, known: Cache::new(MAX_DOMAINS) }
    }

    /// What a domain asks for. `Err` only where a policy may be in force that we cannot read.
    pub(super) async fn find(&self, domain: &str) -> Result<Known, Verdict> {
        self.known
            .get(domain, async || match self.look(domain).await {
                Ok((known, lifetime)) => (Ok(known), lifetime),
                Err(error) => (Err(unreadable(&error)), TROUBLE),
            })
            .await
    }

    /// Fetches again what has been kept for long, so that no policy in use runs out between
    /// two mails; at most `most`. Gives back how many were looked at.
    pub(super) async fn refresh(&self, most: i64) -> Result<u64, sqlx::Error> {
        let ageing = self.store.ageing(most).await?;
        for domain in &ageing {
            let (_, _) = self.look(domain).await?;
        }
        Ok(ageing.len() as u64)
    }

    async fn look(&self, domain: &str) -> Result<(Known, Duration), sqlx::Error> {
        let kept = self.store.load(domain).await?;
        let record = self.resolver.txt(&format!("_mta-sts.{domain}")).await;
        let (id, ttl) = match record {
            Ok(found) => (record::id(&found.records), found.lifetime),
            // A record that is gone, or is kept from us, revokes nothing.
            Err(miss) => (None, miss.lifetime()),
        };
        let again = ttl.clamp(SHORTEST, LONGEST);
        let Some(id) = id else { return Ok((in_force(kept, None), again)) };
        if let Some(kept) = &kept
            && kept.id == id
            && !is_ageing(kept.age, kept.left)
        {
            let again = again.min(kept.left).max(FLOOR);
            return Ok((in_force(Some(kept.clone()), None), again));
        }
        match fetch::policy(&self.https, domain).await {
            Ok((text, policy)) => {
                metrics::counter!("postrider_sts_fetches_total", "result" => "fetched")
                    .increment(1);
                self.store.save(domain, &id, &text, policy.max_age).await;
                let again = again.min(policy.max_age).max(FLOOR);
                Ok((Known { policy: active(policy), trouble: None }, again))
            }
            Err(not) => {
                metrics::counter!("postrider_sts_fetches_total", "result" => not.failure.as_str())
                    .increment(1);
                let kept_one = kept.is_some();
                tracing::info!(domain, why = not.why, kept_one, "no MTA-STS policy was fetched");
                let left = kept.as_ref().map_or(SHORTEST, |kept| kept.left);
                Ok((in_force(kept, Some(not.failure)), SHORTEST.min(left).max(FLOOR)))
            }
        }
    }
}

/// What a domain publishes now, past everything that is kept: for those who look after a domain of
/// their own. `None` where no record announces a policy; `Err` says what is wrong with it.
pub async fn published(https: &Https, domain: &str) -> Result<Option<StsPolicy>, String> {
    let records = match https.resolver().txt(&format!("_mta-sts.{domain}")).await {
        Ok(found) => found.records,
        Err(Miss::NoName(_) | Miss::NoRecord(_)) => return Ok(None),
        Err(Miss::Timeout) => return Err("the name servers did not answer in time".into()),
        Err(Miss::Failed(text)) => return Err(text),
    };
    if record::id(&records).is_none() {
        return Err(format!("expected one record like \"v=STSv1; id=1;\", found {records:?}"));
    }
    let fetched = fetch::policy(https, domain).await;
    fetched.map(|(_, policy)| Some(policy)).map_err(|fault| fault.why)
}

fn in_force(kept: Option<Kept>, trouble: Option<Failure>) -> Known {
    // What was stored was read before.
    let policy = kept.and_then(|kept| StsPolicy::read(&kept.text).ok()).and_then(active);
    Known { policy, trouble }
}

fn active(policy: StsPolicy) -> Option<Arc<StsPolicy>> {
    (policy.mode != Mode::None).then(|| Arc::new(policy))
}

fn unreadable(error: &sqlx::Error) -> Verdict {
    let text = format!("whether an MTA-STS policy is in force cannot be read: {error}");
    Verdict {
        stage: Stage::Resolve,
        cause: Cause::Tls(text),
        class: Class::Transient,
        finality: Finality::Passing,
        reach: Reach::Destination,
        retry_after: None,
        ruling: None,
    }
}
