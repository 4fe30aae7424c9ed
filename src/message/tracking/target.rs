//! [`Target`]: where a link leads.

use std::cell::RefCell;
use std::fmt;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::{
    BufferQueue, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts,
};
use reqwest::Url;

/// An absolute http or https address, written as a browser asks for it: ASCII, nothing that
/// could end a header line. Only this is signed, and only this is ever redirected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(String);

impl Target {
    /// Reads an address. `None` for everything that is not http or https with a host: relative
    /// addresses, fragments, `mailto:`, `tel:`, `javascript:` and the others.
    pub fn read(text: &str) -> Option<Self> {
        let bare = text.trim_start_matches(|c: char| c <= ' ');
        let (scheme, rest) = bare.split_once(':')?;
        let is_web = ["http", "https"].iter().any(|web| scheme.eq_ignore_ascii_case(web));
        // Without the slashes it would be relative to a page of the same scheme.
        if !is_web || !rest.starts_with("//") {
            return None;
        }
        let url = Url::parse(bare).ok().filter(Url::has_host)?;
        let text = String::from(url);
        text.bytes().all(|b| b.is_ascii_graphic()).then_some(Self(text))
    }

    /// The same, of an attribute as it stands in the source of a page.
    pub(super) fn of_attribute(raw: &str) -> Option<Self> {
        if raw.contains('&') { Self::read(&unescaped(raw)?) } else { Self::read(raw) }
    }

    /// As it is asked for.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value of an attribute without character references, as a browser understands it:
/// `&amp;` and `&#x2f;` are undone, the `&copy` of `?a=1&copy=2` is left.
fn unescaped(raw: &str) -> Option<String> {
    let input = BufferQueue::default();
    input.push_back(StrTendril::from(format!("<a b=\"{}\">", raw.replace('"', "&quot;"))));
    let tokenizer = Tokenizer::new(FirstValue::default(), TokenizerOpts::default());
    let _ = tokenizer.feed(&input);
    tokenizer.sink.0.into_inner()
}

/// Keeps the first attribute of the first tag.
#[derive(Default)]
struct FirstValue(RefCell<Option<String>>);

impl TokenSink for FirstValue {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        if let Token::TagToken(tag) = token {
            let value = tag.attrs.first().map(|attribute| attribute.value.to_string());
            *self.0.borrow_mut() = value;
        }
        TokenSinkResult::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_target_is_what_a_browser_would_ask_for() {
        for (raw, target) in [
            ("https://shop.example", "https://shop.example/"),
            (" HTTPS://Shop.Example/A?b#c", "https://shop.example/A?b#c"),
            ("https://shop.example/?a=1&amp;b=2", "https://shop.example/?a=1&b=2"),
            ("https://shop.example/?a=1&b=2", "https://shop.example/?a=1&b=2"),
            (
                "https://shop.example/?a=1&copy=2&utm_source=x",
                "https://shop.example/?a=1&copy=2&utm_source=x",
            ),
            ("https://shop.example/?a&copy;", "https://shop.example/?a%C2%A9"),
            ("https:&#x2f;&#47;shop.example&#x2f;x", "https://shop.example/x"),
            ("https://bücher.example/ä b", "https://xn--bcher-kva.example/%C3%A4%20b"),
            ("https://shop.example/a\n  b", "https://shop.example/a%20%20b"),
            ("https://shop.example/\"'<>", "https://shop.example/%22'%3C%3E"),
            ("http://10.0.0.1:8080/x", "http://10.0.0.1:8080/x"),
        ] {
            let read = Target::of_attribute(raw).map(|target| target.0);
            assert_eq!(read.as_deref(), Some(target), "{raw:?}");
        }
    }

    #[test]
    fn what_is_no_web_address_is_none() {
        for raw in [
            "",
            "#top",
            "/a",
            "a.html",
            "//shop.example/a",
            "?a",
            "mailto:a@shop.example",
            "tel:+49301",
            "javascript:alert(1)",
            "java&#115;cript://x/",
            "data:text/html,x",
            "cid:logo",
            "ftp://shop.example",
            "https:",
            "https://",
            "https:/shop.example",
            "http:shop.example",
            "https://[",
            "https://a b/",
            "{{ link }}",
            "file:///etc/passwd",
        ] {
            assert_eq!(Target::of_attribute(raw), None, "{raw:?}");
        }
    }

    proptest! {
        #[test]
        fn a_target_stays_one_line_and_itself(text in "(https?://)?.{0,60}") {
            if let Some(target) = Target::of_attribute(&text) {
                prop_assert!(target.0.starts_with("http://") || target.0.starts_with("https://"));
                prop_assert!(target.0.bytes().all(|b| b.is_ascii_graphic()));
                prop_assert_eq!(Target::read(&target.0), Some(target));
            }
        }
    }
}
