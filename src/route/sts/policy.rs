//! A policy as a domain publishes it (RFC 8461 3.2); pure.

use std::time::Duration;

/// What a domain asks of whoever sends to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StsPolicy {
    /// How strict it is.
    pub mode: Mode,
    /// Names of its hosts in lower case; `*.` stands for one label.
    pub mx: Vec<String>,
    /// How long it may be kept (at most a year).
    pub max_age: Duration,
}

/// How strict a policy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Mail goes only to its hosts, under verified TLS.
    Enforce,
    /// Mail goes as ever; what would have failed is reported.
    Testing,
    /// There is no policy any more.
    None,
}

/// Why a text is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("MTA-STS policy: expected {expected}, found {found:?}")]
pub struct NoPolicy {
    expected: &'static str,
    found: String,
}

/// Longest life that a policy may claim, in seconds.
const LONGEST: u64 = 31_557_600;

/// Most hosts that are kept of one policy.
const MAX_HOSTS: usize = 1000;

impl StsPolicy {
    /// Reads a policy. Unknown fields are skipped, and of a field that may stand once, all
    /// but the first.
    pub fn read(text: &str) -> Result<Self, NoPolicy> {
        let (mut version, mut mode, mut max_age, mut mx) = (None, None, None, Vec::new());
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (key, value) = line
                .split_once(':')
                .ok_or_else(|| wrong("lines of the form \"key: value\"", line))?;
            let value = value.trim();
            match key.trim_end() {
                "version" => version = version.or(Some(value)),
                "mode" => mode = mode.or(Some(value)),
                "max_age" => max_age = max_age.or(Some(value)),
                "mx" if mx.len() < MAX_HOSTS => mx.push(pattern(value)?),
                _ => {}
            }
        }
        if version != Some("STSv1") {
            return Err(wrong("version: STSv1", version.unwrap_or_default()));
        }
        let mode = match mode.unwrap_or_default() {
            "enforce" => Mode::Enforce,
            "testing" => Mode::Testing,
            "none" => Mode::None,
            other => return Err(wrong("mode: enforce, testing or none", other)),
        };
        let age = max_age.unwrap_or_default();
        let digits = (1..=10).contains(&age.len()) && age.bytes().all(|b| b.is_ascii_digit());
        let seconds = age.parse::<u64>().ok().filter(|_| digits);
        let seconds = seconds.ok_or_else(|| wrong("max_age: a number of seconds", age))?;
        if mx.is_empty() && mode != Mode::None {
            return Err(wrong("at least one mx", ""));
        }
        Ok(Self { mode, mx, max_age: Duration::from_secs(seconds.min(LONGEST)) })
    }

    /// The policy in lines, as reports show it (RFC 8460 4.4).
    pub fn text(&self) -> String {
        let mode = match self.mode {
            Mode::Enforce => "enforce",
            Mode::Testing => "testing",
            Mode::None => "none",
        };
        let mut lines = vec!["version: STSv1".to_owned(), format!("mode: {mode}")];
        lines.extend(self.mx.iter().map(|mx| format!("mx: {mx}")));
        lines.push(format!("max_age: {}", self.max_age.as_secs()));
        lines.join("\n")
    }

    /// Whether a host is one of the domain's, by this policy.
    pub fn allows(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.mx.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(parent) => host.split_once('.').is_some_and(|(_, rest)| rest == parent),
            None => *pattern == host,
        })
    }
}

fn pattern(value: &str) -> Result<String, NoPolicy> {
    let name = value.strip_prefix("*.").unwrap_or(value).trim_end_matches('.');
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(wrong("mx: a host name, or *. before one", value));
    }
    Ok(value.trim_end_matches('.').to_ascii_lowercase())
}

fn wrong(expected: &'static str, found: &str) -> NoPolicy {
    NoPolicy { expected, found: found.chars().take(80).collect() }
}

/// Whether a policy may come under this media type (RFC 8461 3.2).
pub(super) fn is_plain_text(content_type: &str) -> bool {
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/plain")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_policy_is_read_with_every_line_end() {
        let text = "version: STSv1 \nmode: enforce\nmx: mail.example.com\r\nmx:\t*.Example.net\n\
                    later: x\nmode: none\nmax_age: 604800";
        let policy = StsPolicy::read(text).expect("a policy");
        assert_eq!(policy.mode, Mode::Enforce);
        assert_eq!(policy.mx, ["mail.example.com", "*.example.net"]);
        assert_eq!(policy.max_age, Duration::from_secs(604_800));
        let none = StsPolicy::read("version: STSv1\nmode: none\nmax_age: 9999999999\n");
        assert_eq!(none.expect("a policy").max_age, Duration::from_secs(LONGEST));
    }

    #[test]
    fn what_is_no_policy_is_told() {
        for text in [
            "",
            "<html>",
            "version: STSv2\nmode: none\nmax_age: 1",
            "mode: none\nmax_age: 1",
            "version: STSv1\nmax_age: 1\nmx: a.b",
            "version: STSv1\nmode: strict\nmax_age: 1\nmx: a.b",
            "version: STSv1\nmode: enforce\nmax_age: 1",
            "version: STSv1\nmode: enforce\nmx: a.b",
            "version: STSv1\nmode: enforce\nmax_age: -1\nmx: a.b",
            "version: STSv1\nmode: enforce\nmax_age: 1\nmx: a..b",
            "version: STSv1\nmode: enforce\nmax_age: 1\nmx: *",
            "version: STSv1\nmode: enforce\nmax_age: 1\nmx: a.*.b",
        ] {
            assert!(StsPolicy::read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_star_stands_for_one_label() {
        let policy = |mx: &str| {
            StsPolicy::read(&format!("version: STSv1\nmode: enforce\nmax_age: 1\nmx: {mx}"))
                .expect("a policy")
        };
        for (host, mx, allowed) in [
            ("foo.com", "foo.com", true),
            ("foo.com.", "foo.com", true),
            ("FOO.com", "foo.COM", true),
            ("bar.com", "foo.com", false),
            ("foo.com", "*.com", true),
            ("mx.example.com", "*.example.com", true),
            ("not.mx.example.com", "*.example.com", false),
            ("example.com", "*.example.com", false),
        ] {
            assert_eq!(policy(mx).allows(host), allowed, "{host} {mx}");
        }
    }

    #[test]
    fn media_types_are_told_apart() {
        for good in ["text/plain", "TeXT/PlAiN", "text/plain;charset=utf-8", "text/plain ; a=b"] {
            assert!(is_plain_text(good), "{good}");
        }
        for bad in ["", "text/plain+", "application/json+text/plain", "text/html"] {
            assert!(!is_plain_text(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_the_reader_stumble(text in "\\PC{0,200}") {
            let _ = StsPolicy::read(&text);
        }
    }
}
