//! Holds rules to their samples.
//!
//! A rule that no sample proves may be dead without anybody knowing: a pattern that was
//! escaped twice never matches, and a rule behind a wider one is never asked.

use crate::config::{Fault, ReplyRule};

use super::read::reply;
use super::rulebook::{Fit, Rulebook};

/// Everything that is wrong with rules whose syntax is right; each with its place, its name
/// and what to do.
pub fn lint(rules: &[ReplyRule]) -> Vec<Fault> {
    let Ok(book) = Rulebook::new(rules) else {
        let place = rules.first().map(|rule| rule.place.clone());
        let message = "the patterns are too large together; make them shorter".to_owned();
        return place.map(|place| Fault { place, message }).into_iter().collect();
    };
    rules.iter().flat_map(|rule| Check { book: &book, rule }.faults()).collect()
}

struct Check<'r> {
    book: &'r Rulebook,
    rule: &'r ReplyRule,
}

impl Check<'_> {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        faults.extend(self.double_escaped());
        if self.rule.matches.is_empty() {
            faults.push(self.fault("untested: give it in `matches` a reply that it must decide"));
        }
        if self.rule.differs.is_empty() {
            faults
                .push(self.fault("untested: give it in `differs` a reply that it must not decide"));
        }
        let mut fits = 0;
        for sample in &self.rule.matches {
            match self.sample(sample) {
                Ok(()) => fits += 1,
                Err(message) => faults.push(self.fault(&message)),
            }
        }
        if fits == 0 && self.rule.matches.len() > 1 {
            faults.push(self.fault("dead: none of its samples reaches it; mend it or delete it"));
        }
        for sample in &self.rule.differs {
            let Some(reply) = reply(sample) else {
                faults.push(self.fault(&not_a_reply(sample)));
                continue;
            };
            let stage = self.rule.sample_stage();
            if self.book.find(stage, &reply).is_some_and(|found| self.is(found)) {
                faults.push(self.fault(&format!(
                    "too wide: it decides {sample:?}, which it must not; narrow it"
                )));
            }
        }
        faults
    }

    /// Whether a sample that the rule must decide is decided by it; else why not.
    fn sample(&self, sample: &str) -> Result<(), String> {
        let Some(reply) = reply(sample) else { return Err(not_a_reply(sample)) };
        let stage = self.rule.sample_stage();
        if self.book.find(stage, &reply).is_some_and(|found| self.is(found)) {
            return Ok(());
        }
        let explained = self.book.explain(stage, &reply);
        let own = explained.iter().find(|(rule, _)| self.is(rule)).map(|(_, fit)| *fit);
        Err(match own {
            Some(Fit::Fits) => {
                let earlier = explained.iter().find(|(_, fit)| *fit == Fit::Fits);
                let (name, place) = earlier.map_or(("?", String::new()), |(rule, _)| {
                    (&*rule.name, rule.place.to_string())
                });
                format!(
                    "shadowed: rule {name:?} ({place}) decides {sample:?} first; move this one \
                     before it, or narrow that one"
                )
            }
            Some(fit) => format!(
                "dead: {} does not fit {sample:?} at {stage}; mend it or the sample",
                match fit {
                    Fit::Code => "codes",
                    Fit::Enhanced => "enhanced",
                    Fit::Stage => "stages",
                    Fit::Pattern | Fit::Fits => "pattern",
                }
            ),
            None => "dead: it is not among the rules".to_owned(),
        })
    }

    /// `\\.` in single quotes looks for a backslash, which no reply has.
    fn double_escaped(&self) -> Option<Fault> {
        let pattern = self.rule.pattern.as_deref()?;
        let at = pattern.find("\\\\")?;
        let rest: String = pattern.get(at..)?.chars().take(3).collect();
        Some(self.fault(&format!(
            "double-escaped: {rest:?} looks for a backslash; in 'single quotes' write one \
             backslash, not two"
        )))
    }

    /// Rules of two files may have one name.
    fn is(&self, other: &ReplyRule) -> bool {
        other.name == self.rule.name && other.place == self.rule.place
    }

    fn fault(&self, message: &str) -> Fault {
        let message = format!("rule {:?}: {message}", self.rule.name);
        Fault { place: self.rule.place.clone(), message }
    }
}

fn not_a_reply(sample: &str) -> String {
    format!("the sample {sample:?} is no reply: it must begin with a code from 400 to 599")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Replies;

    #[test]
    fn the_shipped_rules_hold() {
        let faults = lint(&Replies::default().rules);
        assert!(faults.is_empty(), "{faults:#?}");
    }

    fn found(text: &str) -> String {
        let (rules, faults) = Replies::parse("own.toml", text);
        assert!(faults.is_empty(), "{faults:?}");
        lint(&rules).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    fn rule(name: &str, rest: &str) -> String {
        format!("[[rule]]\nname = {name:?}\nclass = \"policy\"\n{rest}\n")
    }

    #[test]
    fn each_kind_of_fault_is_named_with_file_rule_and_remedy() {
        let good = "pattern = 'go away'\nmatches = ['550 go away']\ndiffers = ['550 stay']";
        assert_eq!(found(&rule("good", good)), "");
        for (rest, words) in [
            ("pattern = 'x'", "own.toml:1: rule \"x\": untested: give it in `matches`"),
            (
                "pattern = 'a'\nmatches = ['550 b']\ndiffers = ['550 c']",
                "rule \"x\": dead: pattern does not fit \"550 b\" at rcpt",
            ),
            (
                "codes = ['4xx']\nmatches = ['550 b']\ndiffers = ['550 c']",
                "rule \"x\": dead: codes does not fit",
            ),
            (
                r"pattern = 'mx\\.example'
matches = ['550 mx.example']
differs = ['550 c']",
                "rule \"x\": double-escaped",
            ),
            (
                "pattern = 'a'\nmatches = ['550 a']\ndiffers = ['550 ab']",
                "rule \"x\": too wide: it decides \"550 ab\"",
            ),
            ("pattern = 'a'\nmatches = ['hello a']\ndiffers = ['550 c']", "is no reply"),
        ] {
            let words_found = found(&rule("x", rest));
            assert!(words_found.contains(words), "{rest}: {words_found}");
        }
        let narrow = "pattern = 'go away now'\nmatches = ['550 go away now']\ndiffers = ['550 b']";
        let both = format!("{}{}", rule("wide", good), rule("narrow", narrow));
        let words = found(&both);
        assert!(
            words.contains("own.toml:7: rule \"narrow\": shadowed: rule \"wide\" (own.toml:1)"),
            "{words}"
        );
    }
}
