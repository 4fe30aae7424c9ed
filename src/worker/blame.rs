//! From what a reply blames to the key whose pace it is about (pure).

use std::sync::Arc;

use crate::domain::ids::MailboxProvider;
use crate::domain::ruling::{Blame, Orders};
use crate::throttle::key::{Key, Plan};
use crate::throttle::pace::Asked;

/// The keys whose pace a delivery says something about.
pub(super) fn paced(keys: &Plan) -> Vec<Key> {
    let blames = [Blame::Source, Blame::MailboxProvider, Blame::Identity, Blame::Route];
    blames.into_iter().filter_map(|blame| blamed(blame, keys)).collect()
}

/// The key that a reply names. A tenant's domains share its lane, so an identity is the
/// tenant's mail to that mailbox provider. Destinations that no rule names have no key in
/// common.
pub(super) fn blamed(blame: Blame, keys: &Plan) -> Option<Key> {
    let Plan { tenant, mailbox_provider, source, route } = keys;
    let provider =
        (mailbox_provider.as_str() != MailboxProvider::OTHER).then(|| mailbox_provider.clone());
    match blame {
        Blame::Source => provider.map(|name| Key::SourceMailboxProvider(Arc::clone(source), name)),
        Blame::MailboxProvider => provider.map(Key::MailboxProvider),
        Blame::Identity | Blame::Url | Blame::Content => {
            provider.map(|name| Key::TenantMailboxProvider(Arc::clone(tenant), name))
        }
        Blame::Route => Some(Key::Route(Arc::clone(route))),
        Blame::Session | Blame::Host | Blame::Recipient | Blame::Mailbox => None,
    }
}

/// What a rule orders, for the law.
pub(super) fn asked(orders: &Orders, rule: &str, reply: &str) -> Asked {
    let lasts = orders.lasts.as_secs_f64();
    Asked {
        slow: orders.slow,
        fewer: orders.fewer_connections,
        suspend: orders.suspend.map(|time| time.as_secs_f64()),
        rate: orders.rate_per_hour.map(|hourly| (f64::from(hourly) / 3_600.0, lasts)),
        slots: orders.connections.map(|slots| (slots, lasts)),
        rule: rule.to_owned(),
        reply: reply.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn plan(provider: &'static str) -> Plan {
        Plan {
            tenant: "acme".into(),
            mailbox_provider: MailboxProvider::new(provider),
            source: "pool-1".into(),
            route: "direct".into(),
        }
    }

    #[test]
    fn each_blame_has_its_key_and_strangers_share_none() {
        let paths =
            |provider| Blame::ALL.map(|blame| blamed(blame, &plan(provider)).map(|key| key.path()));
        let at_google = |path: &str| Some(path.to_owned());
        assert_eq!(
            paths("google"),
            [
                None,
                None,
                at_google("source_mailbox_provider/pool-1/google"),
                at_google("mailbox_provider/google"),
                at_google("route/direct"),
                at_google("tenant_mailbox_provider/acme/google"),
                at_google("tenant_mailbox_provider/acme/google"),
                at_google("tenant_mailbox_provider/acme/google"),
                None,
                None,
            ]
        );
        assert_eq!(paths("other").into_iter().flatten().collect::<Vec<_>>(), ["route/direct"]);
        assert_eq!(paced(&plan("google")).len(), 4);
    }

    #[test]
    fn orders_become_seconds() {
        let orders = Orders {
            rate_per_hour: Some(60),
            connections: Some(1),
            lasts: Duration::from_secs(5_400),
            suspend: Some(Duration::from_secs(900)),
            ..Orders::default()
        };
        let asked = asked(&orders, "x", "421 slow");
        assert_eq!(asked.rate, Some((1.0 / 60.0, 5_400.0)));
        assert_eq!((asked.slots, asked.suspend), (Some((1, 5_400.0)), Some(900.0)));
    }
}
