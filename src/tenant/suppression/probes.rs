//! [`Probes`]: under which texts the list may have the recipients of a submission (pure).

use std::collections::HashMap;

use super::keeper::Keeper;

/// Pairs of a recipient's place and a text, side by side as the statements take them: if there are
/// hashes, they come first, and then the same people in the clear.
#[derive(Debug, Clone, Default)]
pub struct Probes {
    /// Places in the submission, from 1.
    pub of: Vec<i32>,
    /// Texts.
    pub forms: Vec<String>,
}

impl Probes {
    /// Those of these recipients and of their domains.
    pub fn new(keeper: &Keeper, recipients: &[String]) -> Self {
        let mut domains: HashMap<&str, Vec<String>> = HashMap::new();
        let (mut probes, mut clear) = (Self::default(), Vec::new());
        for (n, recipient) in (1..).zip(recipients) {
            let domain =
                recipient.rsplit_once('@').map_or(recipient.as_str(), |(_, domain)| domain);
            let domain = domains.entry(domain).or_insert_with(|| keeper.forms_of_domain(recipient));
            for mut forms in [keeper.forms_of_address(recipient), domain.clone()] {
                clear.extend(forms.pop());
                probes.of.push(n);
                probes.forms.append(&mut forms);
            }
        }
        if !probes.forms.is_empty() {
            probes.of.extend_from_within(..);
        }
        probes.forms.append(&mut clear);
        probes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Suppression;
    use crate::config::secret::Secret;

    #[test]
    fn each_recipient_is_looked_for_by_address_and_by_domain() {
        let to = ["Ann@x.example".to_owned(), "bob@y.example".to_owned()];
        let probes = Probes::new(&Keeper::default(), &to);
        assert_eq!(probes.of, [1, 1, 2, 2]);
        assert_eq!(probes.forms, ["ann@x.example", "@x.example", "bob@y.example", "@y.example"]);

        let key = Some(Secret::new("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="));
        let keeper = Keeper::new(&Suppression { key, ..Suppression::default() });
        let both = Probes::new(&keeper, &to);
        assert_eq!(both.of, [1, 1, 2, 2, 1, 1, 2, 2]);
        assert_eq!(both.forms[4..], probes.forms);
        assert!(both.forms[..4].iter().all(|form| Keeper::is_hash(form)), "{both:?}");
    }
}
