//! What is counted together.

use std::fmt;
use std::sync::Arc;

use crate::domain::ids::MailboxProvider;

/// What a delivery is about to use. Everything that limits it follows from this.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Plan {
    /// The tenant's name.
    pub tenant: Arc<str>,
    /// Who receives.
    pub mailbox_provider: MailboxProvider,
    /// The source's name.
    pub source: Arc<str>,
    /// The route's name.
    pub route: Arc<str>,
}

/// One thing that has a rate and a number of deliveries in hand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// A tenant's mail.
    Tenant(Arc<str>),
    /// Mail to a mailbox provider.
    MailboxProvider(MailboxProvider),
    /// A tenant's mail to a mailbox provider.
    TenantMailboxProvider(Arc<str>, MailboxProvider),
    /// Mail from a source.
    Source(Arc<str>),
    /// Mail from a source to a mailbox provider.
    SourceMailboxProvider(Arc<str>, MailboxProvider),
    /// Mail over a route.
    Route(Arc<str>),
}

/// The kind of a key: a short fixed list, fit for a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// [`Key::Tenant`]
    Tenant,
    /// [`Key::MailboxProvider`]
    MailboxProvider,
    /// [`Key::TenantMailboxProvider`]
    TenantMailboxProvider,
    /// [`Key::Source`]
    Source,
    /// [`Key::SourceMailboxProvider`]
    SourceMailboxProvider,
    /// [`Key::Route`]
    Route,
}

impl Plan {
    /// The keys that count a delivery of this plan. The order is the same for
    /// every plan: the narrow ones, which refuse most often, come first.
    pub fn keys(&self) -> [Key; 6] {
        let Self { tenant, mailbox_provider, source, route } = self;
        [
            Key::TenantMailboxProvider(tenant.clone(), mailbox_provider.clone()),
            Key::SourceMailboxProvider(source.clone(), mailbox_provider.clone()),
            Key::MailboxProvider(mailbox_provider.clone()),
            Key::Tenant(tenant.clone()),
            Key::Source(source.clone()),
            Key::Route(route.clone()),
        ]
    }
}

impl Key {
    /// Its name in the database: the scope and the names, by slashes (no name has one).
    pub fn path(&self) -> String {
        let scope = self.scope().as_str();
        match self {
            Self::Tenant(name) | Self::Source(name) | Self::Route(name) => {
                format!("{scope}/{name}")
            }
            Self::MailboxProvider(name) => format!("{scope}/{name}"),
            Self::TenantMailboxProvider(one, name) | Self::SourceMailboxProvider(one, name) => {
                format!("{scope}/{one}/{name}")
            }
        }
    }

    /// The key of a [`path`](Self::path); `None` when it is none.
    pub fn from_path(path: &str) -> Option<Self> {
        let mut parts = path.split('/');
        let (scope, first, second) = (parts.next()?, parts.next()?, parts.next());
        let scope = Scope::ALL.into_iter().find(|known| known.as_str() == scope)?;
        let (one, provider) =
            (|| Arc::from(first), |name: &str| MailboxProvider::new(name.to_owned()));
        Some(match (scope, second) {
            (Scope::Tenant, None) => Self::Tenant(one()),
            (Scope::Source, None) => Self::Source(one()),
            (Scope::Route, None) => Self::Route(one()),
            (Scope::MailboxProvider, None) => Self::MailboxProvider(provider(first)),
            (Scope::TenantMailboxProvider, Some(name)) => {
                Self::TenantMailboxProvider(one(), provider(name))
            }
            (Scope::SourceMailboxProvider, Some(name)) => {
                Self::SourceMailboxProvider(one(), provider(name))
            }
            _ => return None,
        })
    }

    /// Its kind.
    pub const fn scope(&self) -> Scope {
        match self {
            Self::Tenant(_) => Scope::Tenant,
            Self::MailboxProvider(_) => Scope::MailboxProvider,
            Self::TenantMailboxProvider(..) => Scope::TenantMailboxProvider,
            Self::Source(_) => Scope::Source,
            Self::SourceMailboxProvider(..) => Scope::SourceMailboxProvider,
            Self::Route(_) => Scope::Route,
        }
    }
}

impl Scope {
    /// Every scope, in the order of [`Self::index`].
    pub const ALL: [Self; 6] = [
        Self::Tenant,
        Self::MailboxProvider,
        Self::TenantMailboxProvider,
        Self::Source,
        Self::SourceMailboxProvider,
        Self::Route,
    ];

    /// Its place in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name used in the configuration, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::MailboxProvider => "mailbox_provider",
            Self::TenantMailboxProvider => "tenant_mailbox_provider",
            Self::Source => "source",
            Self::SourceMailboxProvider => "source_mailbox_provider",
            Self::Route => "route",
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(name) => write!(f, "tenant {name}"),
            Self::MailboxProvider(name) => write!(f, "mailbox provider {name}"),
            Self::TenantMailboxProvider(tenant, name) => {
                write!(f, "tenant {tenant} at mailbox provider {name}")
            }
            Self::Source(name) => write!(f, "source {name}"),
            Self::SourceMailboxProvider(source, name) => {
                write!(f, "source {source} at mailbox provider {name}")
            }
            Self::Route(name) => write!(f, "route {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_stands_in_its_place() {
        for (index, scope) in Scope::ALL.into_iter().enumerate() {
            assert_eq!(scope.index(), index);
        }
    }

    #[test]
    fn a_path_leads_back_to_its_key() {
        let plan = Plan {
            tenant: "acme".into(),
            mailbox_provider: MailboxProvider::new("google"),
            source: "pool-1".into(),
            route: "direct".into(),
        };
        for key in plan.keys() {
            assert_eq!(Key::from_path(&key.path()), Some(key));
        }
        assert_eq!(Key::from_path("tenant/a/b"), None);
        assert_eq!(Key::from_path("nonsense"), None);
    }
}
