//! DANE for SMTP (RFC 7672): hosts whose certificates are named in the signed DNS.
//!
//! Only what DNSSEC proves counts: the exchanger, its address and its TLSA records. Where a
//! signed host's TLSA records cannot be had, the host counts as not reachable, for whoever
//! can keep the records from us could else have the mail in clear.

mod pin;

use std::sync::Arc;

pub use pin::{Pin, Pins};

use super::cache::Cache;
use super::dns::{LONGEST, LONGEST_ABSENCE, Miss, Resolver};
use crate::domain::verdict::{Cause, Class, Finality, Reach, Stage, Verdict};

/// Hosts remembered.
const MAX_HOSTS: usize = 50_000;
/// Shortest belief in an answer.
const SHORTEST: std::time::Duration = std::time::Duration::from_secs(10);

type Answer = Result<Option<Arc<Pins>>, Verdict>;

/// Finds hosts' pins and remembers them.
#[derive(Debug)]
pub(super) struct DaneLookup {
    resolver: Arc<Resolver>,
    known: Cache<Answer>,
}

impl DaneLookup {
    pub(super) fn new(resolver: Arc<Resolver>) -> Self {
        Self { resolver, known: Cache::new(MAX_HOSTS) }
    }

    /// What a host's certificate must be, where its owner says so; `Err`: it may have been said
    /// and was not to be learned. To be asked only of hosts that are authentic.
    pub(super) async fn find(&self, host: &str, port: u16) -> Answer {
        let name = format!("_{port}._tcp.{host}");
        self.known
            .get(&name, async || match self.resolver.tlsa(&name).await {
                // A part of the tree that is not signed proves nothing, and need not.
                Ok(found) => {
                    let pins = found.authentic.then(|| Arc::new(Pins::usable(&found.records)));
                    (Ok(pins), found.lifetime.clamp(SHORTEST, LONGEST))
                }
                Err(miss @ (Miss::NoName(_) | Miss::NoRecord(_))) => {
                    (Ok(None), miss.lifetime().clamp(SHORTEST, LONGEST_ABSENCE))
                }
                Err(miss) => (Err(unknown(&miss, &name)), miss.lifetime().min(LONGEST_ABSENCE)),
            })
            .await
    }
}

fn unknown(miss: &Miss, name: &str) -> Verdict {
    let why = match miss {
        Miss::Failed(text) => text.as_str(),
        _ => "no answer in time",
    };
    Verdict {
        stage: Stage::Resolve,
        cause: Cause::Dns(format!("TLSA of {name} in a signed zone (DANE, RFC 7672 2.1): {why}")),
        class: Class::Transient,
        finality: Finality::Passing,
        reach: Reach::Host,
        retry_after: None,
        ruling: None,
    }
}
