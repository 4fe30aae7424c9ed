//! Groups of fields as in `message/delivery-status` (RFC 3464 2.1) and
//! `message/feedback-report` (RFC 5965 3).
//!
//! Forgiving where senders are: a folded line without its space belongs to the field before it,
//! and recipients that are not parted by a blank line are parted all the same.

/// One group.
#[derive(Debug, Default)]
pub(super) struct Group(Vec<(String, String)>);

/// Recipients of one report that are read.
const MAX_GROUPS: usize = 128;
/// Fields of a group that are read.
const MAX_FIELDS: usize = 64;
/// Longest value that is kept.
const MAX_VALUE: usize = 4 << 10;

/// All groups in their order.
pub(super) fn groups(text: &str) -> Vec<Group> {
    let mut found = vec![Group::default()];
    for line in text.lines() {
        let line = line.trim_end();
        let full = found.len() > MAX_GROUPS;
        let Some(last) = found.last_mut() else { break };
        if line.is_empty() {
            if !last.0.is_empty() {
                if full {
                    break;
                }
                found.push(Group::default());
            }
            continue;
        }
        match field(line) {
            Some((name, value)) if last.starts_another(&name) => {
                if full {
                    break;
                }
                found.push(Group(vec![(name, value)]));
            }
            Some(field) if last.0.len() < MAX_FIELDS => last.0.push(field),
            Some(_) => {}
            None => last.continue_with(line.trim()),
        }
    }
    found.retain(|group| !group.0.is_empty());
    found
}

/// `Name: value`, if the line begins a field.
fn field(line: &str) -> Option<(String, String)> {
    if line.starts_with([' ', '\t']) {
        return None;
    }
    let (name, value) = line.split_once(':')?;
    let is_name = name.len() <= 60
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    is_name.then(|| (name.to_ascii_lowercase(), clip(value.trim(), MAX_VALUE).to_owned()))
}

/// The beginning of a text, cut at a character.
pub(super) fn clip(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

impl Group {
    /// The value of a field (lower-case name).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The value of a field without its type: `rfc822; a@b` → `a@b`.
    pub(super) fn untyped(&self, name: &str) -> Option<&str> {
        let value = self.get(name)?;
        let text = value.split_once(';').map_or(value, |(_, text)| text).trim();
        (!text.is_empty()).then_some(text)
    }

    /// Whether it is about a recipient.
    pub(super) fn is_recipient(&self) -> bool {
        ["final-recipient", "original-recipient", "action"]
            .iter()
            .any(|name| self.get(name).is_some())
    }

    fn starts_another(&self, name: &str) -> bool {
        matches!(name, "final-recipient" | "original-recipient")
            && self.get(name).is_some()
            && self.get("final-recipient").is_some()
    }

    fn continue_with(&mut self, more: &str) {
        if let Some((_, value)) = self.0.last_mut()
            && value.len() + more.len() < MAX_VALUE
        {
            value.push(' ');
            value.push_str(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_parted_by_blank_lines_and_by_recipients() {
        let text = "Reporting-MTA: dns; a\n\nFinal-Recipient: rfc822; x@y.z\nDiagnostic-Code: smtp; 550-one\n 550 two\n550 three\n\
            Final-Recipient: rfc822;q@y.z\nAction: failed\n\n\nFinal-Recipient: LOCAL; |/bin/x\n";
        let found = groups(text);
        assert_eq!(found.len(), 4);
        assert!(!found[0].is_recipient());
        assert_eq!(found[1].untyped("diagnostic-code"), Some("550-one 550 two 550 three"));
        assert_eq!(found[2].untyped("final-recipient"), Some("q@y.z"));
        assert_eq!(found[3].untyped("final-recipient"), Some("|/bin/x"));
    }

    #[test]
    fn endless_groups_and_values_are_cut() {
        assert!(groups(&"Action: failed\n\n".repeat(100_000)).len() <= MAX_GROUPS + 1);
        let long = format!("Action: {}\n{}", "é".repeat(100_000), " more\n".repeat(100_000));
        assert!(groups(&long)[0].get("action").is_some_and(|value| value.len() <= MAX_VALUE));
    }
}
