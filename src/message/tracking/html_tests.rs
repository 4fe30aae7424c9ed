//! What changes in a page, and that nothing else does.

use std::fmt::Write;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::message::tracking::TrackingKey;

const HOST: &str = "link.shop.example";

const LED: &str = "https://link.shop.example/c/";

fn tracking(opens: bool, clicks: bool) -> Tracking {
    Tracking { host: Arc::from(HOST), key: TrackingKey::derive(&[7; 32]), opens, clicks }
}

fn sent(html: &str, tracking: &Tracking) -> Result<String, Unreadable> {
    let unsubscribe = Some("https://mail.example.com/u/AAAA");
    rewrite(html, &Mail { delivery: DeliveryId::new(42), unsubscribe, tracking })
}

fn clicks(html: &str) -> String {
    sent(html, &tracking(false, true)).unwrap_or_else(|error| panic!("{html}: {error}"))
}

/// Each address of ours as `[where it leads]`.
fn readable(html: &str) -> String {
    let mut out = String::new();
    let mut parts = html.split(LED);
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let is_token = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let end = part.find(|c| !is_token(c)).unwrap_or(part.len());
        let clicked = TrackingKey::derive(&[7; 32]).read_click(HOST, &part[..end]);
        let clicked = clicked.expect("a link of ours");
        assert_eq!(clicked.delivery, DeliveryId::new(42));
        let _ = write!(out, "[{}]{}", clicked.target, &part[end..]);
    }
    out
}

#[test]
fn links_are_led_over_the_host() {
    for (html, expected) in [
        ("<a href=\"https://x.example/\">x</a>", "<a href=\"[https://x.example/]\">x</a>"),
        (
            "<A\n  HREF = 'http://x.example/a?b=1&amp;c=2' title=x >",
            "<A\n  HREF = '[http://x.example/a?b=1&c=2]' title=x >",
        ),
        ("<a href=https://x.example/>x", "<a href=[https://x.example/]>x"),
        (
            "<map><area shape=rect href='https://x.example/m'></map>",
            "<map><area shape=rect href='[https://x.example/m]'></map>",
        ),
        ("<a href=\"https:&#x2f;&#x2f;x.example\">", "<a href=\"[https://x.example/]\">"),
        (
            "<table><tr><td><a href='https://x.example/ä'>",
            "<table><tr><td><a href='[https://x.example/%C3%A4]'>",
        ),
        (
            "<a href='https://x.example/1' href='https://x.example/2'>",
            "<a href='[https://x.example/1]' href='https://x.example/2'>",
        ),
        ("ü<a href='https://x.example/'>ü</a>ü", "ü<a href='[https://x.example/]'>ü</a>ü"),
    ] {
        assert_eq!(readable(&clicks(html)), expected);
    }
}

#[test]
fn what_is_no_web_link_stays() {
    for html in [
        "",
        "no html at all & <",
        "<a>x</a> <a href>x</a> <a href=''>x</a> <a name=https://x.example/>",
        "<a href=\"#top\">x</a> <a href=\"/a\">x</a> <a href=\"//x.example/\">x</a>",
        "<a href=\"mailto:a@x.example\">x</a> <a href=\"tel:+4930\">x</a> <a href=javascript:x()>x</a>",
        "<a href=\"https://mail.example.com/u/AAAA\">leave</a>",
        "<a href=\"https:&#x2f;&#x2f;mail.example.com&#x2f;u&#x2f;AAAA\">leave</a>",
        "<link href=\"https://x.example/\"><img src=\"https://x.example/\"><form action=\"https://x.example/\">",
        "<!-- <a href=\"https://x.example/\">x</a> -->",
        "<!--[if mso]><v:roundrect href=\"https://x.example/\"></v:roundrect><![endif]-->",
        "<style>a[href=\"https://x.example/\"]{}</style><title><a href=\"https://x.example/\"></title>",
        "<textarea><a href=\"https://x.example/\"></textarea>",
        "https://x.example/ &lt;a href=\"https://x.example/\"&gt;",
        "<a title='<a href=\"https://x.example/\">'>",
        "<a href=\"https://x.example/",
        "<a href=\"{{ later }}\">",
        "<a href=\"https://[\">",
    ] {
        assert_eq!(clicks(html), html);
    }
}

#[test]
fn a_marked_link_stays_and_loses_its_mark() {
    for (html, expected) in [
        ("<a data-track=\"off\" href=\"https://x.example/\">x", "<a href=\"https://x.example/\">x"),
        ("<a href=\"https://x.example/\" data-track=off>x", "<a href=\"https://x.example/\">x"),
        ("<a href=\"https://x.example/\"data-track='off'>x", "<a href=\"https://x.example/\">x"),
        ("<a DATA-TRACK='OFF'href=\"https://x.example/\">x", "<a href=\"https://x.example/\">x"),
        (
            "<a\n data-track = \"off\"\n href=\"https://x.example/\">x",
            "<a\n href=\"https://x.example/\">x",
        ),
        ("<a data-track=\"off\" href=\"#top\">x", "<a href=\"#top\">x"),
        ("<p data-track=\"off\">x", "<p data-track=\"off\">x"),
        ("<a data-track=\"on\" href=\"#top\">x", "<a data-track=\"on\" href=\"#top\">x"),
    ] {
        assert_eq!(clicks(html), expected);
    }
}

#[test]
fn a_link_that_would_be_too_long_stays() {
    let html = |n: usize| format!("<a href=\"https://x.example/{}\">", "x".repeat(n));
    let led = clicks(&html(1_400));
    assert!(led.contains(LED) && led.len() < MAX_LINK + 20, "{}", led.len());
    assert_eq!(clicks(&html(1_500)), html(1_500));
}

#[test]
fn a_page_of_links_stays_within_bounds() {
    let html = "<a href=http://x.example/>".repeat(MAX_LINKS + 5);
    assert_eq!(clicks(&html).matches(LED).count(), MAX_LINKS);
}

#[test]
fn the_picture_stands_at_the_end_of_the_body() {
    let picture = |html: &str| {
        let sent = sent(html, &tracking(true, false)).expect("readable");
        let (before, rest) = sent.split_once("<img src=\"https://link.shop.example/o/")?;
        let (token, after) =
            rest.split_once("\" width=\"1\" height=\"1\" border=\"0\" alt=\"\">")?;
        let delivery = TrackingKey::derive(&[7; 32]).read_open(HOST, token);
        assert_eq!(delivery, Ok(DeliveryId::new(42)));
        assert_eq!(format!("{before}{after}"), html, "nothing else changes");
        Some((before.to_owned(), after.to_owned()))
    };
    for (before, after) in [
        ("<html><body><p>Hi</p>", "</body></html>"),
        ("<BODY>Hi", "</BODY >\n</HTML>\n"),
        ("<p>Hi", ""),
        ("Hi", ""),
        ("", ""),
        ("<body>a</body><body>b", "</body>"),
        ("<body><!-- </body> -->", "</body>"),
        ("a</body></html>", ""),
    ] {
        let html = format!("{before}{after}");
        assert_eq!(picture(&html), Some((before.to_owned(), after.to_owned())), "{html}");
    }
    for inside in ["<p>Hi</p><a href=\"https://x.exam", "<p>Hi</p><!-- to be gone on with"] {
        assert_eq!(picture(inside), None, "it would stand inside: {inside}");
    }
}

#[test]
fn what_takes_too_much_memory_is_refused() {
    // A tag that never ends.
    let endless = format!("<a href=\"https://x.example/\"><a x=\"{}", "y".repeat(MEMORY + 1));
    assert_eq!(sent(&endless, &tracking(true, true)), Err(Unreadable));
}

/// Addresses as they stand in a page, and where they lead.
const ADDRESSES: [(&str, &str); 5] = [
    ("https://x.example/1", "https://x.example/1"),
    ("https://x.example/?a=1&amp;b=2", "https://x.example/?a=1&b=2"),
    ("HTTP://X.example", "http://x.example/"),
    ("https:&#x2f;&#x2f;x.example&#x2f;ü", "https://x.example/%C3%BC"),
    ("https://x.example/%20?&copy=1", "https://x.example/%20?&copy=1"),
];

fn piece() -> impl Strategy<Value = String> {
    let address = proptest::sample::select(&ADDRESSES[..]).prop_map(|(raw, _)| raw);
    let odd = proptest::sample::select(
        &[
            "<",
            ">",
            "</a>",
            "</",
            "<!--",
            "-->",
            "<p>",
            "</p>",
            "<body>",
            "</body>",
            "<table>",
            "<tr>",
            "<b",
            "\"",
            "'",
            "=",
            " ",
            "\r\n",
            "ä",
            "<a",
            "<a ",
            " href=",
            "<![CDATA[",
            "]]>",
            "<style>",
            "</style>",
            "<title>",
            "</title>",
            "<svg>",
            "</svg>",
            "<br/>",
            "\0",
            "<?php",
            "<!doctype html>",
            "&amp;",
            "&",
            "<select>",
            "</select>",
            "<template>",
        ][..],
    )
    .prop_map(str::to_owned);
    let link = (address, proptest::sample::select(&["\"", "'", ""][..]))
        .prop_map(|(raw, quote)| format!("<a class=x href={quote}{raw}{quote}>x</a>"));
    prop_oneof![4 => odd, 2 => link, 1 => "[ -~]{0,9}"]
}

proptest! {
    #[test]
    fn nothing_but_addresses_changes(pieces in proptest::collection::vec(piece(), 0..24)) {
        let html = pieces.concat();
        // A page that is refused goes out as it is.
        let Ok(sent) = sent(&html, &tracking(false, true)) else { return Ok(()) };
        let sent = readable(&sent);
        let mut given = html.as_str();
        let mut rest = sent.as_str();
        // Walks along both: what is no address of ours stands in both, and where one is, the
        // page had an address that leads there.
        while !rest.is_empty() {
            let led = ADDRESSES.iter().find(|(raw, target)| {
                rest.starts_with(&format!("[{target}]")) && given.starts_with(raw)
            });
            if let Some((raw, target)) = led {
                (given, rest) = (&given[raw.len()..], &rest[target.len() + 2..]);
                continue;
            }
            let next = rest.chars().next().expect("not empty");
            prop_assert!(given.starts_with(next), "{html:?} became {sent:?}");
            (given, rest) = (&given[next.len_utf8()..], &rest[next.len_utf8()..]);
        }
        prop_assert!(given.is_empty(), "{html:?} became {sent:?}");
    }

    #[test]
    fn no_page_makes_the_reader_panic(html in ".{0,200}") {
        let _ = sent(&html, &tracking(true, true));
    }
}
