//! `[[throttle]]`: how fast, for whom.

use crate::config::document::{Node, Value};
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
    /// Rates that hold beside the first, over longer units: `["50/s", "2000/min"]`.
    pub further: Vec<FurtherRate>,
    /// Deliveries in hand at once; `None`: no limit.
    pub concurrency: Option<u32>,
}

/// A rate beside the first of a limit. Its burst is a tenth of its unit's worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FurtherRate {
    /// Deliveries per second.
    pub per_second: f64,
    /// Seconds of the unit it was written in.
    pub unit: f64,
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
    /// The names of all scopes.
    pub const KINDS: [&str; 6] = [
        "tenant",
        "mailbox_provider",
        "tenant_mailbox_provider",
        "source",
        "source_mailbox_provider",
        "route",
    ];

    /// The scope of this kind, with the names that it has; `None` for an unknown kind.
    pub fn named(
        kind: &str,
        tenant: Option<String>,
        mailbox_provider: Option<String>,
        source: Option<String>,
        route: Option<String>,
    ) -> Option<Self> {
        Some(match kind {
            "tenant" => Self::Tenant { tenant },
            "mailbox_provider" => Self::MailboxProvider { mailbox_provider },
            "tenant_mailbox_provider" => Self::TenantMailboxProvider { tenant, mailbox_provider },
            "source" => Self::Source { source },
            "source_mailbox_provider" => Self::SourceMailboxProvider { source, mailbox_provider },
            "route" => Self::Route { route },
            _ => return None,
        })
    }

    /// Whether limits of this kind can be narrowed by this key.
    pub fn has(kind: &str, key: &str) -> bool {
        match key {
            "tenant" => kind.starts_with("tenant"),
            "mailbox_provider" => kind.ends_with("mailbox_provider"),
            "source" => kind.starts_with("source"),
            _ => kind == "route",
        }
    }

    /// Names of the tenant, the mailbox provider, the source and the route, where it has them.
    pub fn names(&self) -> (Option<&str>, Option<&str>, Option<&str>, Option<&str>) {
        match self {
            Self::Tenant { tenant } => (tenant.as_deref(), None, None, None),
            Self::MailboxProvider { mailbox_provider } => {
                (None, mailbox_provider.as_deref(), None, None)
            }
            Self::TenantMailboxProvider { tenant, mailbox_provider } => {
                (tenant.as_deref(), mailbox_provider.as_deref(), None, None)
            }
            Self::Source { source } => (None, None, source.as_deref(), None),
            Self::SourceMailboxProvider { source, mailbox_provider } => {
                (None, mailbox_provider.as_deref(), source.as_deref(), None)
            }
            Self::Route { route } => (None, None, None, route.as_deref()),
        }
    }

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
    /// Most rates of one limit: one for each unit.
    pub const MOST_RATES: usize = 4;

    /// The first rate and those beside it, from their texts; the error says what is wrong.
    pub fn rates<'t>(
        texts: impl IntoIterator<Item = &'t str>,
    ) -> Result<(f64, Vec<FurtherRate>), String> {
        let mut rates: Vec<FurtherRate> = Vec::new();
        for text in texts {
            let (per_second, unit) = unit::rate_and_unit(text)
                .ok_or_else(|| format!("expected {RATE}, found {text:?}"))?;
            if rates.last().is_some_and(|last| last.unit >= unit) {
                return Err(format!(
                    "expected each rate over a longer unit than the one before, found {text:?}"
                ));
            }
            rates.push(FurtherRate { per_second, unit });
        }
        if rates.is_empty() {
            return Err(format!("expected {RATE}, found none"));
        }
        Ok((rates.remove(0).per_second, rates))
    }

    pub(in crate::config) fn read(section: Reader<'_>) -> Option<Self> {
        const KINDS: [&str; 6] = ThrottleScope::KINDS;
        let choices = KINDS.map(|kind| (kind, kind));
        if !section.has("scope") {
            section.fault("scope", format_args!("missing; expected one of {}", KINDS.join(", ")));
        }
        let kind = section.choice("scope", &choices);
        let name = |key: &'static str| {
            let name = section.text(key);
            if let Some(kind) = kind.filter(|kind| name.is_some() && !ThrottleScope::has(kind, key))
            {
                section.fault(key, format_args!("has no meaning with scope = \"{kind}\""));
            }
            name
        };
        let (tenant, mailbox_provider) = (name("tenant"), name("mailbox_provider"));
        let (source, route) = (name("source"), name("route"));

        let texts = section.value("rate", RATE, texts);
        let (rate, further) = match texts.map(|texts| Self::rates(texts.iter().map(|t| &**t))) {
            Some(Ok((rate, further))) => (Some(rate), further),
            Some(Err(wrong)) => {
                section.fault("rate", wrong);
                (None, Vec::new())
            }
            None => (None, Vec::new()),
        };
        let burst = section.optional_integer("burst", 1..=10_000_000);
        let concurrency = section.optional_integer("concurrency", 1..=1_000_000);
        if !section.has("rate") && !section.has("concurrency") {
            section.fault("rate", "expected a rate, a concurrency, or both");
        } else if burst.is_some() && !section.has("rate") {
            section.fault("burst", "has no meaning without a rate");
        }
        section.end();

        let scope = ThrottleScope::named(kind?, tenant, mailbox_provider, source, route)?;
        Some(Self { scope, rate, burst, further, concurrency })
    }
}

/// How a rate is written.
const RATE: &str = "a rate like \"50/s\", \"600/min\", \"10000/h\" or \"100000/d\"";

/// One text, or a list of them; a variable holds a list with commas.
fn texts(node: &Node) -> Option<Vec<String>> {
    match &node.value {
        Value::List(items) => items.iter().map(|item| item.text().map(Into::into)).collect(),
        _ => Some(node.text()?.split(',').map(|text| text.trim().to_owned()).collect()),
    }
}
