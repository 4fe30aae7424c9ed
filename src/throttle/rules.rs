//! Which limit applies to a key (pure).
//!
//! Rules of different scopes apply together. Within one scope the most exactly
//! named rule alone applies, and of equally exact ones the first. An operator's
//! overrides stand before the rules of their scope; what an override leaves out stays
//! as configured. A pace that was learned can only make that narrower.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::bucket::Quota;
use super::key::Key;
use super::overrides::Override;
use crate::config::{ThrottleRule, ThrottleScope};
use crate::domain::outcome::WaitReason;

/// The rules in force.
#[derive(Debug)]
pub(super) struct Rules {
    /// Grows with every change; gates compare it with what they have seen.
    pub(super) generation: u64,
    pub(super) list: Vec<ThrottleRule>,
    pub(super) overrides: Vec<Override>,
    /// What receivers' answers ask for.
    pub(super) paces: HashMap<Key, Held>,
}

/// What a receiver's answers ask for of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// Deliveries a second; `None`: any.
    pub rate: Option<f64>,
    /// Deliveries in hand at once; `None`: any.
    pub slots: Option<u32>,
    /// Nothing at all for a while.
    pub closed: Option<Closed>,
    /// Why, for people: the rule and the reply, without addresses.
    pub why: Arc<str>,
}

/// A time in which nothing is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// Its end, on the limiter's clock.
    pub until: u64,
    /// What mail is told that waits for it.
    pub reason: WaitReason,
}

/// What limits a key.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Bounds {
    /// All hold together; none: any rate.
    pub(super) quotas: SmallVec<[Quota; 1]>,
    /// Permits held at once; `None`: any.
    pub(super) slots: Option<u32>,
    /// None before this.
    pub(super) closed: Option<Closed>,
}

impl Rules {
    /// The bounds of a key; `None` when nothing limits it.
    pub(super) fn bounds(&self, key: &Key) -> Option<Bounds> {
        let [rated, counted] = self.parts(key);
        let held = self.paces.get(key);
        if rated.is_none() && counted.is_none() && held.is_none() {
            return None;
        }
        let quotas = rated.map(quotas).unwrap_or_default();
        let slots = counted.and_then(|rule| rule.concurrency);
        let bounds = Bounds { quotas, slots, closed: None };
        Some(match held {
            Some(held) => bounds.narrowed(held),
            None => bounds,
        })
    }

    /// What applies to a key, as one rule: the rates of one and the concurrency of another
    /// where an operator has changed only one of them.
    pub(super) fn rule(&self, key: &Key) -> Option<ThrottleRule> {
        let [rated, counted] = self.parts(key);
        let mut rule = rated.or(counted)?.clone();
        rule.concurrency = counted.and_then(|rule| rule.concurrency);
        Some(rule)
    }

    /// The rule that gives the rates and the one that gives the concurrency.
    fn parts(&self, key: &Key) -> [Option<&ThrottleRule>; 2] {
        let configured = most_exact(&self.list, key, |rule| &rule.scope);
        let overridden = most_exact(&self.overrides, key, |one| &one.rule.scope);
        let rules = [overridden.map(|one| &one.rule), configured];
        let first =
            |has: fn(&ThrottleRule) -> bool| rules.into_iter().flatten().find(|rule| has(rule));
        [first(|rule| rule.rate.is_some()), first(|rule| rule.concurrency.is_some())]
    }
}

impl Bounds {
    /// Whether it lets less through than `before`.
    pub(super) fn is_narrower_than(&self, before: &Self) -> bool {
        let rate = |bounds: &Self| {
            bounds.quotas.iter().map(|quota| quota.rate).fold(f64::INFINITY, f64::min)
        };
        let slots = |bounds: &Self| bounds.slots.unwrap_or(u32::MAX);
        self.closed.is_some() || rate(self) < rate(before) || slots(self) < slots(before)
    }

    /// Never wider than configured: a slower rate stands in place of the first.
    fn narrowed(mut self, held: &Held) -> Self {
        if let Some(rate) = held.rate {
            // Next to no burst: the receiver has told what it thinks of more at once.
            let paced = Quota { rate, burst: (rate * 0.02).max(1.0) };
            match self.quotas.first_mut() {
                None => self.quotas.push(paced),
                Some(first) if first.rate > rate => {
                    *first = Quota { burst: paced.burst.min(first.burst), ..paced };
                }
                Some(_) => {}
            }
        }
        self.slots = [self.slots, held.slots].into_iter().flatten().min();
        self.closed = held.closed;
        self
    }
}

/// The rule that names most of the key's names, of equals the first.
fn most_exact<'r, T>(
    rules: &'r [T],
    key: &Key,
    scope: impl Fn(&T) -> &ThrottleScope,
) -> Option<&'r T> {
    let mut best: Option<(u8, &T)> = None;
    for rule in rules {
        if let Some(exactness) = exactness(scope(rule), key)
            && best.is_none_or(|(so_far, _)| exactness > so_far)
        {
            best = Some((exactness, rule));
        }
    }
    best.map(|(_, rule)| rule)
}

/// The rates of a rule. The burst of the first is the rule's, or a tenth of a second's
/// worth; that of the others a tenth of their unit's (else the slowest would pace all).
fn quotas(rule: &ThrottleRule) -> SmallVec<[Quota; 1]> {
    let first = rule.rate.map(|rate| whole_quota(rate, rule.burst));
    let further = rule.further.iter().map(|rate| Quota {
        rate: rate.per_second,
        burst: (rate.per_second * rate.unit / 10.0).max(1.0),
    });
    first.into_iter().chain(further).collect()
}

/// A tenth of a second's worth unless the rule says otherwise.
fn whole_quota(rate: f64, burst: Option<u32>) -> Quota {
    Quota { rate, burst: burst.map_or(rate / 10.0, f64::from).max(1.0) }
}

/// How many names of the key a scope names; `None` when it is about other keys.
fn exactness(scope: &ThrottleScope, key: &Key) -> Option<u8> {
    match (scope, key) {
        // A provider sends from what it has: there is no source to count.
        (_, Key::Source(name) | Key::SourceMailboxProvider(name, _)) if name.is_empty() => None,
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
    use crate::config::FurtherRate;
    use crate::domain::ids::MailboxProvider;

    fn pair(tenant: Option<&str>, mailbox_provider: Option<&str>, rate: f64) -> ThrottleRule {
        let (tenant, mailbox_provider) = (tenant.map(Into::into), mailbox_provider.map(Into::into));
        ThrottleRule {
            scope: ThrottleScope::TenantMailboxProvider { tenant, mailbox_provider },
            rate: Some(rate),
            burst: None,
            further: Vec::new(),
            concurrency: Some(7),
        }
    }

    fn rate(rules: &Rules, tenant: &str, mailbox_provider: &'static str) -> f64 {
        let key = Key::TenantMailboxProvider(tenant.into(), MailboxProvider::new(mailbox_provider));
        rules.bounds(&key).unwrap().quotas[0].rate
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
        let rules = Rules { generation: 0, list, overrides: Vec::new(), paces: HashMap::new() };
        assert_eq!(rate(&rules, "bolt", "yahoo"), 1.0);
        assert_eq!(rate(&rules, "acme", "yahoo"), 2.0);
        assert_eq!(rate(&rules, "bolt", "google"), 3.0);
        assert_eq!(rate(&rules, "acme", "google"), 4.0, "the first of equals");
        assert_eq!(rules.bounds(&Key::Tenant("acme".into())), None);
    }

    #[test]
    fn an_override_stands_before_its_rule_and_leaves_what_it_does_not_name() {
        let slow = ThrottleRule { concurrency: None, ..pair(None, Some("google"), 9.0) };
        let narrow = ThrottleRule { rate: None, concurrency: Some(1), ..slow.clone() };
        let mut rules = Rules {
            generation: 0,
            list: vec![pair(Some("acme"), Some("google"), 4.0)],
            overrides: vec![Override { rule: slow.clone() }],
            paces: HashMap::new(),
        };
        let key = Key::TenantMailboxProvider("acme".into(), MailboxProvider::new("google"));
        let bounds = rules.bounds(&key).unwrap();
        assert_eq!((bounds.quotas[0].rate, bounds.slots), (9.0, Some(7)));
        assert_eq!(rate(&rules, "bolt", "google"), 9.0, "without a tenant's name: each");
        rules.overrides[0].rule = narrow;
        let bounds = rules.bounds(&key).unwrap();
        assert_eq!((bounds.quotas[0].rate, bounds.slots), (4.0, Some(1)));
    }

    #[test]
    fn a_learned_pace_only_narrows_and_needs_no_configured_limit() {
        let held = |rate: f64, slots| Held {
            rate: Some(rate),
            slots: Some(slots),
            closed: None,
            why: "421 slow down".into(),
        };
        let key = |name| Key::TenantMailboxProvider("acme".into(), MailboxProvider::new(name));
        let mut rules = Rules {
            generation: 0,
            list: vec![pair(Some("acme"), Some("google"), 4.0)],
            overrides: Vec::new(),
            paces: HashMap::from([(key("google"), held(50.0, 20)), (key("yahoo"), held(50.0, 20))]),
        };
        let bounds = rules.bounds(&key("google")).unwrap();
        assert_eq!((bounds.quotas[0].rate, bounds.slots), (4.0, Some(7)), "never above");
        let bounds = rules.bounds(&key("yahoo")).unwrap();
        assert_eq!((bounds.quotas[0].rate, bounds.slots), (50.0, Some(20)));
        rules.paces.insert(key("google"), held(1.0, 2));
        let bounds = rules.bounds(&key("google")).unwrap();
        assert_eq!((bounds.quotas.len(), bounds.quotas[0].rate, bounds.slots), (1, 1.0, Some(2)));
    }

    #[test]
    fn several_rates_hold_together_each_with_its_burst() {
        let further = vec![FurtherRate { per_second: 20.0, unit: 60.0 }];
        let rule = ThrottleRule { further, burst: Some(7), ..pair(None, None, 50.0) };
        let all = quotas(&rule);
        assert_eq!((all[0].burst, all[1].rate, all[1].burst), (7.0, 20.0, 120.0));
    }

    #[test]
    fn the_shipped_burst_is_a_tenth_of_a_second_and_at_least_one() {
        assert_eq!(whole_quota(50.0, None).burst, 5.0);
        assert_eq!(whole_quota(1.0, None).burst, 1.0);
        assert_eq!(whole_quota(50.0, Some(0)).burst, 1.0);
        assert_eq!(whole_quota(50.0, Some(9)).burst, 9.0);
    }
}
