//! Opens and clicks: links that lead over the tenant's own host, and a picture that is asked
//! for when a mail is shown (docs/tracking.md, docs/adr/0035).
//!
//! An address of ours holds all that is needed to answer it ([`TrackingKey`]), so nothing is
//! stored for a mail that is tracked.

mod html;
mod key;
mod target;

pub use html::Unreadable;
pub(super) use html::{Mail, rewrite};
pub use key::{Clicked, InvalidLink, TrackingKey};
pub use target::Target;

/// What of a mail is tracked, and by which host.
#[derive(Debug, Clone)]
pub struct Tracking {
    /// The host that links lead over: lower-case A-labels.
    pub host: std::sync::Arc<str>,
    /// Signs their addresses.
    pub key: TrackingKey,
    /// Whether a picture is added.
    pub opens: bool,
    /// Whether links are led over the host.
    pub clicks: bool,
}
