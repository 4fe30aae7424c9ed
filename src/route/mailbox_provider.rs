//! Who receives: by the recipient's domain, else by the name of its mail host (pure).

use std::collections::HashMap;

use crate::config::MailboxProviderRule;
use crate::domain::ids::MailboxProvider;

/// The `[[mailbox_provider]]` rules, ready to be asked. Names are matched as
/// they are: lower case, without a dot at the end.
#[derive(Debug)]
pub struct MailboxProviders {
    by_domain: HashMap<String, MailboxProvider>,
    /// Keys without the leading dot.
    by_mx_suffix: HashMap<String, MailboxProvider>,
}

impl MailboxProviders {
    /// Reads the rules; of two that claim the same name the first one has it.
    pub fn new(rules: &[MailboxProviderRule]) -> Self {
        let (mut by_domain, mut by_mx_suffix) = (HashMap::new(), HashMap::new());
        for rule in rules {
            let provider = MailboxProvider::new(rule.name.as_str());
            for domain in &rule.domains {
                by_domain.entry(domain.to_ascii_lowercase()).or_insert_with(|| provider.clone());
            }
            for suffix in &rule.mx_suffixes {
                let suffix = suffix.trim_start_matches('.').to_ascii_lowercase();
                by_mx_suffix.entry(suffix).or_insert_with(|| provider.clone());
            }
        }
        Self { by_domain, by_mx_suffix }
    }

    /// Whose domain it is, if a rule says so.
    pub fn of_domain(&self, domain: &str) -> Option<&MailboxProvider> {
        self.by_domain.get(domain)
    }

    /// Whose mail host it is, if a rule says so. The longest suffix decides.
    pub fn of_mx(&self, host: &str) -> Option<&MailboxProvider> {
        if self.by_mx_suffix.is_empty() {
            return None;
        }
        std::iter::successors(Some(host), |name| name.split_once('.').map(|(_, rest)| rest))
            .find_map(|name| self.by_mx_suffix.get(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn providers() -> MailboxProviders {
        let rule = |name: &str, domains: &[&str], suffixes: &[&str]| MailboxProviderRule {
            name: name.into(),
            domains: domains.iter().map(|d| (*d).to_owned()).collect(),
            mx_suffixes: suffixes.iter().map(|s| (*s).to_owned()).collect(),
        };
        MailboxProviders::new(&[
            rule("google", &["gmail.com"], &[".google.com", ".googlemail.com"]),
            rule("postini", &[], &[".psmtp.google.com"]),
            rule("copycat", &["gmail.com"], &[".google.com"]),
        ])
    }

    #[test]
    fn domains_match_whole_and_hosts_by_their_end() {
        let providers = providers();
        let domain = |name| providers.of_domain(name).map(MailboxProvider::as_str);
        assert_eq!(domain("gmail.com"), Some("google"));
        assert_eq!(domain("mail.gmail.com"), None);
        let mx = |name| providers.of_mx(name).map(MailboxProvider::as_str);
        assert_eq!(mx("aspmx.l.google.com"), Some("google"));
        assert_eq!(mx("google.com"), Some("google"));
        assert_eq!(mx("a.psmtp.google.com"), Some("postini"));
        assert_eq!(mx("notgoogle.com"), None);
        assert_eq!(mx("google.com.evil.example"), None);
        assert_eq!(mx(""), None);
    }
}
