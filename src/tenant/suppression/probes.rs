//! [`Probes`]: under which texts the list may have the recipients of a submission (pure).

use super::keeper::Keeper;

/// Pairs of a recipient's place and a text, side by side as the statements take them.
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
        let mut probes = Self::default();
        for (n, recipient) in (1..).zip(recipients) {
            let domain = keeper.forms_of_domain(recipient);
            for form in keeper.forms_of_address(recipient).into_iter().chain(domain) {
                probes.of.push(n);
                probes.forms.push(form);
            }
        }
        probes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_recipient_is_looked_for_by_address_and_by_domain() {
        let to = ["Ann@x.example".to_owned(), "bob@y.example".to_owned()];
        let probes = Probes::new(&Keeper::default(), &to);
        assert_eq!(probes.of, [1, 1, 2, 2]);
        assert_eq!(probes.forms, ["ann@x.example", "@x.example", "bob@y.example", "@y.example"]);
    }
}
