//! What stays of a reply when everything particular is taken out (pure).
//!
//! Replies that differ only in addresses, hosts, ids and numbers have one shape, so that
//! unknown ones can be counted together, and shown without telling who was written to.

/// Most characters of a shape.
const LONGEST: usize = 200;

/// The shape of a reply's text: `<address>`, `<ip>`, `<url>`, `<host>`, `<id>` and `<n>` in
/// place of what they stand for.
pub fn of(text: &str) -> String {
    shape(text, word)
}

/// The text with addresses taken out and nothing else, cut to so many characters.
pub fn redacted(text: &str, longest: usize) -> String {
    let all = text.split_whitespace().map(|one| if one.contains('@') { "<address>" } else { one });
    all.collect::<Vec<_>>().join(" ").chars().take(longest).collect()
}

fn shape(text: &str, word: impl Fn(&str) -> String) -> String {
    let mut shape = String::with_capacity(text.len().min(LONGEST));
    for one in text.split_whitespace() {
        if shape.chars().count() >= LONGEST {
            break;
        }
        if !shape.is_empty() {
            shape.push(' ');
        }
        shape.push_str(&word(one));
    }
    shape.chars().take(LONGEST).collect()
}

fn word(word: &str) -> String {
    const AROUND: [char; 14] =
        ['<', '>', '(', ')', '[', ']', '{', '}', '"', '\'', ',', ';', ':', '.'];
    let inner = word.trim_matches(AROUND);
    if inner.is_empty() {
        return word.to_owned();
    }
    let Some(kind) = kind(inner) else { return word.to_ascii_lowercase() };
    // What stands around it is part of the sentence, but for the brackets of an address.
    let end = word.chars().next_back().filter(|c| matches!(c, ',' | ';' | ':' | '.'));
    let mut out = kind.to_owned();
    out.extend(end);
    out
}

/// What a word stands for; `None`: itself.
fn kind(word: &str) -> Option<&'static str> {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    if word.contains('@') {
        return Some("<address>");
    }
    if word.contains("://") || word.starts_with("www.") {
        return Some("<url>");
    }
    if word.parse::<std::net::IpAddr>().is_ok() {
        return Some("<ip>");
    }
    if digits > 0
        && word.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b':' | b'/'))
    {
        return Some("<n>");
    }
    let is_host = word.contains('.')
        && word.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
        && word
            .rsplit('.')
            .next()
            .is_some_and(|last| last.len() >= 2 && last.bytes().all(|b| b.is_ascii_alphabetic()));
    if is_host {
        return Some("<host>");
    }
    // Long words with digits among the letters are ids; short ones (S3150, TSS04) are the point.
    if word.len() >= 9 && digits > 0 {
        return Some("<id>");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_particular_is_taken_out() {
        for (text, shape) in [
            ("<ann@example.org>: refused", "<address>: refused"),
            ("Message from [192.0.2.1] refused (S3150)", "message from <ip> refused (s3150)"),
            ("see https://help.example/x?a=1 now", "see <url> now"),
            ("mx1.example.com said no, 17 times", "<host> said no, <n> times"),
            ("id 4bXy7w2Fzk9 kept", "id <id> kept"),
            ("from 2001:db8::1 at 10:15:00.", "from <ip> at <n>."),
        ] {
            assert_eq!(of(text), shape, "{text}");
        }
        assert_eq!(redacted("no <ann@example.org> here 12", 99), "no <address> here 12");
    }

    proptest! {
        #[test]
        fn no_address_survives_and_a_shape_is_its_own_shape(text in "[ -~]{0,400}") {
            let shape = of(&text);
            prop_assert!(!shape.contains('@'), "{}", shape);
            prop_assert!(!redacted(&text, 300).contains('@'));
            prop_assert!(shape.chars().count() <= 200);
        }
    }
}
