//! Finds the rule that decides a reply.
//!
//! The text is searched once for all patterns together; the rules are then asked in their
//! order, and the first that fits decides.

use std::sync::Arc;

use regex::bytes::{Regex, RegexSet, RegexSetBuilder};

use crate::config::{Replies, ReplyRule};
use crate::domain::ruling::Ruling;
use crate::domain::verdict::{PeerReply, Stage};

/// Bytes that the patterns together may take when compiled.
const MOST_BYTES: usize = 64 << 20;

/// Rules, ready to be asked.
#[derive(Debug)]
pub struct Rulebook {
    rules: Vec<Entry>,
    patterns: RegexSet,
}

#[derive(Debug)]
struct Entry {
    rule: ReplyRule,
    /// Its place among the patterns.
    pattern: Option<usize>,
    /// Its pattern, if that names an identity.
    naming: Option<Regex>,
}

/// Why a rule does not fit a reply; or that it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It does.
    Fits,
    /// It is for other stages.
    Stage,
    /// It is for other codes.
    Code,
    /// It is for other enhanced statuses.
    Enhanced,
    /// Its pattern is not in the text.
    Pattern,
}

impl Rulebook {
    /// These rules, in their order.
    pub fn new(rules: &[ReplyRule]) -> Result<Self, regex::Error> {
        let mut patterns = Vec::new();
        let mut entries = Vec::with_capacity(rules.len());
        for rule in rules {
            let pattern = rule.pattern.as_deref().map(|pattern| {
                patterns.push(pattern);
                patterns.len() - 1
            });
            let names = |pattern: &&str| pattern.contains("?<identity>");
            let naming =
                rule.pattern.as_deref().filter(names).map(ReplyRule::compile).transpose()?;
            entries.push(Entry { rule: rule.clone(), pattern, naming });
        }
        let patterns = RegexSetBuilder::new(&patterns)
            .case_insensitive(true)
            .unicode(false)
            .size_limit(MOST_BYTES)
            .build()?;
        Ok(Self { rules: entries, patterns })
    }

    /// The shipped rules; none should they not compile, which a test excludes.
    pub fn shipped() -> Self {
        Self::new(&Replies::default().rules)
            .unwrap_or_else(|_| Self { rules: Vec::new(), patterns: RegexSet::empty() })
    }

    /// The first rule that fits.
    pub fn find(&self, stage: Stage, reply: &PeerReply) -> Option<&ReplyRule> {
        self.entry(stage, reply).map(|entry| &entry.rule)
    }

    /// The same, with what it says of this reply.
    pub fn judge(&self, stage: Stage, reply: &PeerReply) -> Option<(&ReplyRule, Ruling)> {
        let entry = self.entry(stage, reply)?;
        let rule = &entry.rule;
        let named = entry.naming.as_ref().and_then(|naming| {
            let captures = naming.captures(reply.text.as_bytes())?;
            let domain = std::str::from_utf8(captures.name("identity")?.as_bytes()).ok()?;
            Some(Arc::from(domain.to_ascii_lowercase()))
        });
        let ruling = Ruling {
            rule: Arc::clone(&rule.name),
            blame: rule.blame,
            identity: named,
            orders: Arc::clone(&rule.orders),
        };
        Some((rule, ruling))
    }

    /// Every rule, and whether it would fit, in their order.
    pub fn explain(&self, stage: Stage, reply: &PeerReply) -> Vec<(&ReplyRule, Fit)> {
        let found = self.patterns.matches(reply.text.as_bytes());
        let fit = |entry: &Entry| {
            entry.fit(stage, reply, entry.pattern.is_none_or(|at| found.matched(at)))
        };
        self.rules.iter().map(|entry| (&entry.rule, fit(entry))).collect()
    }

    /// The rules, in their order.
    pub fn rules(&self) -> impl Iterator<Item = &ReplyRule> {
        self.rules.iter().map(|entry| &entry.rule)
    }

    fn entry(&self, stage: Stage, reply: &PeerReply) -> Option<&Entry> {
        let found = self.patterns.matches(reply.text.as_bytes());
        self.rules.iter().find(|entry| {
            let matched = entry.pattern.is_none_or(|at| found.matched(at));
            matched && entry.fit(stage, reply, true) == Fit::Fits
        })
    }
}

impl Entry {
    fn fit(&self, stage: Stage, reply: &PeerReply, matched: bool) -> Fit {
        let rule = &self.rule;
        if !rule.stages.is_empty() && !rule.stages.contains(&stage) {
            Fit::Stage
        } else if !rule.codes.is_empty() && !rule.codes.iter().any(|code| code.fits(reply.code)) {
            Fit::Code
        } else if !rule.enhanced.is_empty()
            && !rule.enhanced.iter().any(|status| status.fits(reply.enhanced))
        {
            Fit::Enhanced
        } else if matched {
            Fit::Fits
        } else {
            Fit::Pattern
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::reply;
    use super::*;
    use crate::domain::ruling::Blame;
    use crate::domain::verdict::Class;

    fn judge(line: &str) -> (Arc<str>, Option<Arc<str>>, Option<Blame>) {
        let book = Rulebook::shipped();
        let (_, ruling) = book.judge(Stage::Dot, &reply(line).expect("a reply")).expect("known");
        (ruling.rule, ruling.identity, ruling.blame)
    }

    #[test]
    fn the_identity_that_a_reply_names_is_read() {
        let say = |what: &str| {
            format!(
                "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail {what}. To \
                 protect our users from spam, mail has been temporarily rate limited."
            )
        };
        let (rule, named, blame) =
            judge(&say("originating from your DKIM domain [News.Example.com 35]"));
        assert_eq!((&*rule, named.as_deref()), ("google-rate-dkim", Some("news.example.com")));
        assert_eq!(blame, Some(Blame::Identity));
        let (rule, named, _) = judge(&say("originating from your SPF domain [b.example.com 36]"));
        assert_eq!((&*rule, named.as_deref()), ("google-rate-spf", Some("b.example.com")));
        let (rule, named, blame) =
            judge(&say("containing one of your URL domains [links.example 14]"));
        assert_eq!((&*rule, named.as_deref()), ("google-rate-url", Some("links.example")));
        assert_eq!(blame, Some(Blame::Url));
        let (rule, named, blame) = judge(&say("originating from your IP address"));
        assert_eq!(
            (&*rule, named.as_deref(), blame),
            ("google-rate-ip", None, Some(Blame::Source))
        );
    }

    #[test]
    fn throttles_and_blocks_never_condemn_an_address() {
        let book = Rulebook::shipped();
        for line in [
            "550 Mail content denied: Ip frequency limited",
            "550 5.7.1 messages from [192.0.2.1] weren't sent. block list (S3150). user unknown",
            "553 5.7.1 [BL21] refused",
            "550 5.7.511 banned, mailbox not found",
            "550 5.1.1 <a@b.example> - 192.0.2.1 has sent to too many recipients this hour. IB607",
        ] {
            for stage in [Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Dot] {
                let (rule, ruling) =
                    book.judge(stage, &reply(line).expect("a reply")).expect("known");
                assert!(matches!(rule.class, Class::Throttled | Class::Policy), "{stage}: {line}");
                assert!(!ruling.orders.suppress, "{stage}: {line}");
            }
        }
    }

    #[test]
    fn only_rules_about_the_recipient_suppress() {
        for rule in Rulebook::shipped().rules().filter(|rule| rule.orders.suppress) {
            assert_eq!(rule.blame, Some(Blame::Recipient), "{}", rule.name);
            assert!(rule.stages.iter().all(|stage| *stage >= Stage::Rcpt), "{}", rule.name);
            assert!(!rule.stages.is_empty(), "{}", rule.name);
        }
    }
}
