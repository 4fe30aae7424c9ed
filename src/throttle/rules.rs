//! Which limit applies to a key (pure).
//!
//! Rules of different scopes apply together. Within one scope the most exactly
//! named rule alone applies, and of equally exact ones the first.

use super::bucket::Quota;
use super::key::Key;
use super::share::Share;
use crate::config::{ThrottleRule, ThrottleScope};

/// The rules in force, and this node's part of them.
#[derive(Debug)]
pub(super) struct Rules {
    /// Grows with every change; gates compare it with what they have seen.
    pub(super) generation: u64,
    pub(super) list: Vec<ThrottleRule>,
    pub(super) share: Share,
}

/// This node's part of one limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    /// Permits per second; `None`: any.
    pub(super) quota: Option<Quota>,
    /// Permits held at once; `None`: any.
    pub(super) slots: Option<u32>,
}

impl Rules {
    /// The bounds of a key; `None` when no rule speaks of it.
    pub(super) fn bounds(&self, key: &Key) -> Option<Bounds> {
        self.rule(key).map(|rule| Bounds {
            quota: rule.rate.map(|rate| self.share.quota(whole_quota(rate, rule.burst))),
            slots: rule.concurrency.map(|limit| self.share.slots(limit)),
        })
    }

    /// The rule that applies to a key.
    pub(super) fn rule(&self, key: &Key) -> Option<&ThrottleRule> {
        let mut best: Option<(u8, &ThrottleRule)> = None;
        for rule in &self.list {
            if let Some(exactness) = exactness(&rule.scope, key)
                && best.is_none_or(|(so_far, _)| exactness > so_far)
            {
                best = Some((exactness, rule));
            }
        }
        best.map(|(_, rule)| rule)
    }
}

/// A tenth of a second's worth unless the rule says otherwise.
fn whole_quota(rate: f64, burst: Option<u32>) -> Quota {
    Quota { rate, burst: burst.map_or(rate / 10.0, f64::from).max(1.0) }
}

/// How many names of the key a scope names; `None` when it is about other keys.
fn exactness(scope: &ThrottleScope, key: &Key) -> Option<u8> {
    match (scope, key) {
        (ThrottleScope::Tenant { tenant }, Key::Tenant(name)) => one(tenant.as_ref(), name),
        (ThrottleScope::MailboxProvider { mailbox_provider }, Key::MailboxProvider(name)) => {
            one(mailbox_provider.as_ref(), name.as_str())
        }
        (
            ThrottleScope::TenantMailboxProvider { tenant, mailbox_provider },
            Key::TenantMailboxProvider(tenant_name, name),
        ) => Some(
            one(tenant.as_ref(), tenant_name)? + one(mailbox_provider.as_ref(), name.as_str())?,
        ),
        (ThrottleScope::Source { source }, Key::Source(name)) => one(source.as_ref(), name),
        (
            ThrottleScope::SourceMailboxProvider { source, mailbox_provider },
            Key::SourceMailboxProvider(source_name, name),
        ) => Some(
            one(source.as_ref(), source_name)? + one(mailbox_provider.as_ref(), name.as_str())?,
        ),
        (ThrottleScope::Route { route }, Key::Route(name)) => one(route.as_ref(), name),
        _ => None,
    }
}

/// 1 for the same name, 0 for "each", `None` for another name.
fn one(wanted: Option<&String>, name: &str) -> Option<u8> {
    match wanted {
        None => Some(0),
        Some(wanted) if wanted == name => Some(1),
        Some(_) => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests, of numbers that are exact")]
mod tests {
    use super::*;
    use crate::domain::ids::MailboxProvider;

    fn pair(tenant: Option<&str>, mailbox_provider: Option<&str>, rate: f64) -> ThrottleRule {
        let (tenant, mailbox_provider) = (tenant.map(Into::into), mailbox_provider.map(Into::into));
        ThrottleRule {
            scope: ThrottleScope::TenantMailboxProvider { tenant, mailbox_provider },
            rate: Some(rate),
            burst: None,
            concurrency: Some(7),
        }
    }

    fn rate(rules: &Rules, tenant: &str, mailbox_provider: &'static str) -> f64 {
        let key = Key::TenantMailboxProvider(tenant.into(), MailboxProvider::new(mailbox_provider));
        rules.bounds(&key).and_then(|bounds| bounds.quota).unwrap().rate
    }

    #[test]
    fn the_most_exact_rule_of_a_scope_applies() {
        let list = vec![
            pair(None, None, 1.0),
            pair(Some("acme"), None, 2.0),
            pair(None, Some("google"), 3.0),
            pair(Some("acme"), Some("google"), 4.0),
            pair(Some("acme"), Some("google"), 5.0),
        ];
        let rules = Rules { generation: 0, list, share: Share::WHOLE };
        assert_eq!(rate(&rules, "bolt", "yahoo"), 1.0);
        assert_eq!(rate(&rules, "acme", "yahoo"), 2.0);
        assert_eq!(rate(&rules, "bolt", "google"), 3.0);
        assert_eq!(rate(&rules, "acme", "google"), 4.0, "the first of equals");
        assert_eq!(rules.bounds(&Key::Tenant("acme".into())), None);
    }

    #[test]
    fn the_shipped_burst_is_a_tenth_of_a_second_and_at_least_one() {
        assert_eq!(whole_quota(50.0, None).burst, 5.0);
        assert_eq!(whole_quota(1.0, None).burst, 1.0);
        assert_eq!(whole_quota(50.0, Some(0)).burst, 1.0);
        assert_eq!(whole_quota(50.0, Some(9)).burst, 9.0);
    }
}
