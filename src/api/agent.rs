//! What asks for an address of ours, by its own words.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use axum::http::HeaderMap;
use axum::http::header::USER_AGENT;

/// Most bytes of it that are told.
const MAX_LEN: usize = 200;

/// Machines by a part of their User-Agent.
const MACHINES: &str = include_str!("machines.txt");

static KNOWN: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let parts = MACHINES.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    AhoCorasick::builder().ascii_case_insensitive(true).build(parts).ok()
});

/// The words as they are told: visible ASCII and spaces, and not many. `None` when there are none.
pub(super) fn told(headers: &HeaderMap) -> Option<String> {
    let mut told: String = words(headers)
        .iter()
        .map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { ' ' })
        .take(MAX_LEN)
        .collect();
    told.truncate(told.trim_end().len());
    (!told.is_empty()).then_some(told)
}

/// Whether it is a machine: it says nothing of itself, something that only machines say, or that it
/// fetches ahead.
pub(super) fn is_machine(headers: &HeaderMap) -> bool {
    let words = words(headers);
    let known = KNOWN.as_ref().is_some_and(|known| known.is_match(words));
    words.trim_ascii().is_empty() || known || is_ahead(headers)
}

/// Browsers say so when nobody has asked yet.
fn is_ahead(headers: &HeaderMap) -> bool {
    ["sec-purpose", "purpose", "x-purpose", "x-moz"].iter().any(|name| {
        headers.get(*name).is_some_and(|value| {
            value.as_bytes().to_ascii_lowercase().starts_with(b"prefetch")
                || value.as_bytes().eq_ignore_ascii_case(b"preview")
        })
    })
}

fn words(headers: &HeaderMap) -> &[u8] {
    headers.get(USER_AGENT).map_or(b"", |value| value.as_bytes())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn of(agent: &[u8]) -> HeaderMap {
        let value = HeaderValue::from_bytes(agent).expect("a value");
        HeaderMap::from_iter([(USER_AGENT, value)])
    }

    #[test]
    fn machines_are_told_from_people() {
        for machine in [
            &b""[..],
            b"Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
            b"YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
            b"Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
            b"python-requests/2.31.0",
            b"Go-http-client/1.1",
        ] {
            assert!(is_machine(&of(machine)), "{}", machine.escape_ascii());
        }
        for person in [
            &b"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"[..],
            b"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
            b"Mozilla/5.0 (X11; Linux x86_64; rv:115.0) Gecko/20100101 Thunderbird/115.12.0",
        ] {
            assert!(!is_machine(&of(person)), "{}", person.escape_ascii());
            let mut ahead = of(person);
            ahead.insert("sec-purpose", HeaderValue::from_static("prefetch;prerender"));
            assert!(is_machine(&ahead));
        }
        assert!(is_machine(&HeaderMap::new()));
    }

    #[test]
    fn what_is_told_is_short_and_clean() {
        assert_eq!(told(&HeaderMap::new()), None);
        assert_eq!(told(&of(b"  ")), None);
        assert_eq!(told(&of(b"a\tb \xff\xfe ")).as_deref(), Some("a b"));
        assert_eq!(told(&of(&[b'x'; 5_000])).map(|told| told.len()), Some(MAX_LEN));
    }
}
