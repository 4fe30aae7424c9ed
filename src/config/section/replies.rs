//! `[replies]` and the rule files: what receivers' replies mean (docs/replies.md).

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use crate::config::document::Node;
use crate::config::fault::Place;
use crate::config::notes::Notes;
use crate::config::reader::Reader;
use crate::config::section::reply_rule::ReplyRule;

/// The rules in force, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Replies {
    /// A file of rules that stand before the shipped ones; none: only those.
    pub file: Option<PathBuf>,
    /// All rules: those of the file, then the shipped ones.
    pub rules: Arc<[ReplyRule]>,
}

/// The rules that are built in, as text.
const SHIPPED: &str = include_str!("../../../config/replies.toml");

/// How the shipped file is called in faults.
const SHIPPED_NAME: &str = "config/replies.toml (shipped)";

/// Read once: they are the same for every configuration.
static SHIPPED_RULES: LazyLock<Arc<[ReplyRule]>> = LazyLock::new(|| {
    // Whatever were wrong with a shipped rule is found by the test below.
    rules(SHIPPED_NAME, SHIPPED, &Notes::default()).into()
});

impl Default for Replies {
    fn default() -> Self {
        Self { file: None, rules: Arc::clone(&SHIPPED_RULES) }
    }
}

impl Replies {
    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let file = section.text("file").map(PathBuf::from);
        let own = file.as_ref().map(|file| {
            let notes = section.notes();
            let path = notes.folder.join(file);
            match std::fs::read_to_string(&path) {
                Ok(text) => {
                    let (rules, faults) = Self::parse(&path.display().to_string(), &text);
                    notes.faults.borrow_mut().extend(faults);
                    rules
                }
                Err(error) => {
                    section.fault("file", format_args!("cannot read {}: {error}", path.display()));
                    Vec::new()
                }
            }
        });
        section.end();
        let shipped = Self::default();
        match own {
            Some(mut own) => {
                own.extend(shipped.rules.iter().cloned());
                Self { file, rules: own.into() }
            }
            None => shipped,
        }
    }

    /// Rules of a file that is not the configured one, and what is wrong with it: for tests
    /// and for whoever tries a file out.
    pub fn parse(origin: &str, text: &str) -> (Vec<ReplyRule>, Vec<crate::config::Fault>) {
        let notes = Notes::default();
        let rules = rules(origin, text, &notes);
        (rules, notes.faults.into_inner())
    }
}

/// Reads a file of rules; what is wrong goes to `notes`.
fn rules(origin: &str, text: &str, notes: &Notes) -> Vec<ReplyRule> {
    let document = match Node::parse(origin, text) {
        Ok(document) => document,
        Err(faults) => {
            notes.faults.borrow_mut().extend(faults);
            return Vec::new();
        }
    };
    let root = Reader::new(&document, notes);
    let entries = root.entries("rule").unwrap_or_default();
    let place = |n: usize| document.place_of(&format!("rule[{n}]"));
    let mut rules: Vec<ReplyRule> = Vec::with_capacity(entries.len());
    for (n, entry) in entries.into_iter().enumerate() {
        let Some(rule) = ReplyRule::read(entry, place(n)) else { continue };
        if let Some(earlier) = rules.iter().find(|earlier| earlier.name == rule.name) {
            let message = format!(
                "rule {:?}: another rule has this name already ({}); choose another",
                rule.name, earlier.place
            );
            notes.fault(Place::clone(&rule.place), message);
        }
        rules.push(rule);
    }
    root.end();
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_rules_are_without_fault() {
        let (rules, faults) = Replies::parse(SHIPPED_NAME, SHIPPED);
        assert!(faults.is_empty(), "{faults:#?}");
        assert!(rules.len() > 70, "{}", rules.len());
    }

    #[test]
    fn a_fault_names_file_line_rule_and_remedy() {
        let faults = |text: &str| {
            let (_, faults) = Replies::parse("own.toml", text);
            faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        let of =
            |keys: &str| faults(&format!("[[rule]]\nname = \"x\"\nclass = \"policy\"\n{keys}"));
        assert_eq!(of("codes = [\"550\"]"), "");
        for (keys, words) in [
            (
                "patern = 'a'",
                "own.toml:4: rule \"x\".patern: unknown key; did you mean \"pattern\"?",
            ),
            ("pattern = '(a'", "own.toml:4: rule \"x\".pattern: not a regular expression"),
            ("codes = [\"55\"]", "rule \"x\".codes: expected a code like \"550\" or \"4xx\""),
            ("enhanced = [\"5.1\"]", "rule \"x\".enhanced: expected a status like"),
            ("stages = [\"rctp\"]", "rule \"x\".stages: expected one of"),
            ("codes = [\"550\"]\nblame = \"recipent\"", "did you mean \"recipient\"?"),
            ("codes = [\"550\"]\naction = { suppress = true }", "only an address that is bad"),
            ("codes = [\"550\"]\naction = { rate = \"1/min\" }", "for: missing"),
            ("codes = [\"550\"]\naction = { slow = true }", "blame: missing"),
            ("", "matches every reply"),
        ] {
            let found = of(keys);
            assert!(found.contains(words), "{keys}: {found}");
        }
        let twice = "[[rule]]\nname = \"x\"\nclass = \"policy\"\ncodes = [\"550\"]\n";
        assert!(faults(&format!("{twice}{twice}")).contains("has this name already (own.toml:1)"));
    }
}
