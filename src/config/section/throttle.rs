//! `[[throttle]]`: how fast, for whom.

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
