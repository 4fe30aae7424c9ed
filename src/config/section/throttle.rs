//! `[[throttle]]`: how fast, for whom.

use crate::config::reader::Reader;
use crate::config::unit;

/// One limit. Every limit that applies to a delivery must leave room for it.
#[derive(Debug, Clone, PartialEq)]
pub struct ThrottleRule {
    /// What is counted together.
    pub scope: ThrottleScope,
    /// Deliveries per second; `None`: no limit on the rate.
    /// Written `"50/s"`, `"600/min"`, `"10000/h"` or `"100000/d"`.
    pub rate: Option<f64>,
    /// Deliveries that may leave at once after a pause (a tenth of a second's worth, at least 1).
    pub burst: Option<u32>,
    /// Deliveries in hand at once; `None`: no limit.
    pub concurrency: Option<u32>,
}

/// What a limit counts together. A name of `None` means "each one for itself".
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are names of what the variant says")]
pub enum ThrottleScope {
    /// One tenant's mail (by name).
    Tenant { tenant: Option<String> },
    /// All mail to one mailbox provider.
    MailboxProvider { mailbox_provider: Option<String> },
    /// One tenant's mail to one mailbox provider.
    TenantMailboxProvider { tenant: Option<String>, mailbox_provider: Option<String> },
    /// All mail from one source.
    Source { source: Option<String> },
    /// All mail from one source to one mailbox provider.
    SourceMailboxProvider { source: Option<String>, mailbox_provider: Option<String> },
    /// All mail over one route.
    Route { route: Option<String> },
}

impl ThrottleScope {
    /// The name in the configuration and in metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Tenant { .. } => "tenant",
            Self::MailboxProvider { .. } => "mailbox_provider",
            Self::TenantMailboxProvider { .. } => "tenant_mailbox_provider",
            Self::Source { .. } => "source",
            Self::SourceMailboxProvider { .. } => "source_mailbox_provider",
            Self::Route { .. } => "route",
        }
    }
}

impl ThrottleRule {
    pub(in crate::config) fn read(section: Reader<'_>) -> Option<Self> {
        const KINDS: [&str; 6] = [
            "tenant",
            "mailbox_provider",
            "tenant_mailbox_provider",
            "source",
            "source_mailbox_provider",
            "route",
        ];
        let choices = KINDS.map(|kind| (kind, kind));
        if !section.has("scope") {
            section.fault("scope", format_args!("missing; expected one of {}", KINDS.join(", ")));
        }
        let kind = section.choice("scope", &choices);
        let name = |key: &'static str| {
            let name = section.text(key);
            if let Some(kind) = kind.filter(|kind| name.is_some() && !covers(kind, key)) {
                section.fault(key, format_args!("has no meaning with scope = \"{kind}\""));
            }
            name
        };
        let (tenant, mailbox_provider) = (name("tenant"), name("mailbox_provider"));
        let (source, route) = (name("source"), name("route"));

        let rate = section.value(
            "rate",
            "a rate like \"50/s\", \"600/min\", \"10000/h\" or \"100000/d\"",
            |node| node.text().and_then(unit::rate),
        );
        let burst = section.optional_integer("burst", 1..=10_000_000);
        let concurrency = section.optional_integer("concurrency", 1..=1_000_000);
        if !section.has("rate") && !section.has("concurrency") {
            section.fault("rate", "expected a rate, a concurrency, or both");
        } else if burst.is_some() && !section.has("rate") {
            section.fault("burst", "has no meaning without a rate");
        }
        section.end();

        let scope = match kind? {
            "tenant" => ThrottleScope::Tenant { tenant },
            "mailbox_provider" => ThrottleScope::MailboxProvider { mailbox_provider },
            "tenant_mailbox_provider" => {
                ThrottleScope::TenantMailboxProvider { tenant, mailbox_provider }
            }
            "source" => ThrottleScope::Source { source },
            "source_mailbox_provider" => {
                ThrottleScope::SourceMailboxProvider { source, mailbox_provider }
            }
            _ => ThrottleScope::Route { route },
        };
        Some(Self { scope, rate, burst, concurrency })
    }
}

/// Whether limits of this kind can be narrowed by this key.
fn covers(kind: &str, key: &str) -> bool {
    match key {
        "tenant" => kind.starts_with("tenant"),
        "mailbox_provider" => kind.ends_with("mailbox_provider"),
        "source" => kind.starts_with("source"),
        _ => kind == "route",
    }
}
