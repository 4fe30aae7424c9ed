//! [`DomainError`]: why a domain was not added, found or used.

use crate::message::dkim::{KeyRefused, UnknownAlgorithm};
use crate::tenant::seal::SealError;

/// Why a domain was not added, found or used.
#[derive(Debug, thiserror::Error)]
pub enum DomainError {
    /// Not a domain.
    #[error("expected a domain like shop.example, found {found:?}")]
    BadDomain {
        /// What was given.
        found: String,
    },
    /// Not a selector.
    #[error(
        "expected a selector of at most 63 lower-case letters, digits and hyphens, found {found:?}"
    )]
    BadSelector {
        /// What was given.
        found: String,
    },
    /// It is another tenant's.
    #[error("the domain {domain} belongs to another tenant: remove it there first")]
    Taken {
        /// Which.
        domain: String,
    },
    /// There are keys under these selectors.
    #[error(
        "the domain {domain} has a key under the selector {selector}: choose another one \
         (--selector) to add keys"
    )]
    SelectorTaken {
        /// Which domain.
        domain: String,
        /// Which selector.
        selector: String,
    },
    /// The tenant has no such domain.
    #[error("the tenant has no domain {domain}: see `postrider domain list`")]
    NoDomain {
        /// What was given.
        domain: String,
    },
    /// A tracking host that is not the domain's own.
    #[error("expected {domain} or a host below it, like link.{domain}, found {found:?}")]
    NotBelow {
        /// The sending domain.
        domain: String,
        /// What was given.
        found: String,
    },
    /// The domain has no key in use.
    #[error("the domain {domain} has no key to sign with: run: postrider domain add")]
    NoKey {
        /// Which.
        domain: String,
    },
    /// A key cannot be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A key cannot be made or used.
    #[error(transparent)]
    Dkim(#[from] KeyRefused),
    /// Stored by another version.
    #[error("the stored DKIM key: {0}")]
    Algorithm(#[from] UnknownAlgorithm),
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}
