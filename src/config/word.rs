//! What names and hosts may look like. Checked here once, so that they are fit
//! for SMTP commands, header fields and metric labels without a second look.

/// Whether `text` can name a route, source, mailbox provider or stream.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|b| plain(b) || b == b'-' || b == b'_')
}

/// What [`is_name`] takes, for messages.
pub(super) const NAME: &str = "a name of lower-case letters, digits, - and _";

/// Whether `text` is a host name in letters, digits and hyphens (RFC 5321 4.1.2).
pub(super) fn is_host(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Whether `text` is a host name with a domain.
pub(super) fn is_full_host(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or_default();
    is_host(text) && text.contains('.') && !last.bytes().all(|b| b.is_ascii_digit())
}

/// Whether `text` is a domain as recipients' domains are stored: lower case, A-labels.
pub(super) fn is_domain(text: &str) -> bool {
    is_full_host(text) && !text.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_hold_nothing_that_could_end_a_line() {
        for good in ["mail.example.com", "a.b", "MX1.example.org", "xn--bcher-kva.example"] {
            assert!(is_full_host(good), "{good}");
        }
        for bad in [
            "",
            "localhost",
            "a..b",
            ".a.b",
            "a.b.",
            "-a.b",
            "a_b.c",
            "a.b\r\nRSET",
            "192.0.2.1",
            "bücher.example",
        ] {
            assert!(!is_full_host(bad), "{bad}");
        }
    }

    #[test]
    fn names_fit_everywhere() {
        assert!(is_name("direct") && is_name("pool-2_a"));
        for bad in ["", "Direct", "-a", "a b", "a\n", "a.b", &"a".repeat(64)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
