//! Whole mails: rendered, read back by an independent parser, and attacked.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mail_parser::{HeaderValue, Message, MessageParser, MimeHeaders};
use postrider::domain::ids::DeliveryId;
use postrider::message::address::Address;
use postrider::message::content::MessageContent;
use postrider::message::dkim::{Algorithm, KeyPair, Signer};
use postrider::message::letter::Letter;
use postrider::message::render::{RenderError, RenderInput, Renderer};
use postrider::message::template::Compiled;
use proptest::prelude::*;
use serde_json::{Value, json};

fn compile(content: Value) -> Compiled {
    let content: MessageContent = serde_json::from_value(content).expect("content");
    Compiled::compile(&content).unwrap_or_else(|error| panic!("{error}"))
}

fn render_to(recipient: &str, compiled: &Compiled, payload: &Value) -> Result<Letter, RenderError> {
    let input = RenderInput {
        delivery: DeliveryId::new(4_711),
        recipient: &Address::try_new(recipient).expect("an address"),
        payload: Some(&payload.to_string()),
        date: SystemTime::UNIX_EPOCH + Duration::from_secs(1_768_435_200),
        bulk: true,
        unsubscribe: Some("https://mail.shop.example/u/AAAA"),
        unsubscribe_mail: None,
        return_path: None,
        tracking: None,
    };
    Renderer::default().render(compiled, &input, &[])
}

fn render(compiled: &Compiled, payload: &Value) -> Result<Letter, RenderError> {
    render_to("jane@recipient.example", compiled, payload)
}

fn parse(letter: &Letter) -> Message<'_> {
    MessageParser::new().parse(letter.bytes()).expect("a mail")
}

/// What must hold for every mail that leaves.
fn assert_legal(letter: &Letter) {
    let bytes = letter.bytes();
    assert!(bytes.ends_with(b"\r\n"));
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\r' => assert_eq!(bytes.get(at + 1), Some(&b'\n'), "a bare CR at {at}"),
            b'\n' => assert_eq!(bytes[at - 1], b'\r', "a bare LF at {at}"),
            0 => panic!("a NUL at {at}"),
            _ => {}
        }
    }
    assert!(bytes.split(|byte| *byte == b'\n').all(|line| line.len() <= 999), "a long line");
    let header_end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a body");
    assert!(bytes[header_end..].is_ascii(), "an 8-bit body");
    assert!(bytes[..header_end].is_ascii() || letter.needs_smtputf8());
}

/// The names of the header fields, in order.
fn field_names(letter: &Letter) -> Vec<String> {
    let text = String::from_utf8_lossy(letter.bytes());
    let (header, _) = text.split_once("\r\n\r\n").expect("a body");
    header
        .split("\r\n")
        .filter(|line| !line.starts_with([' ', '\t']))
        .map(|line| line.split(':').next().unwrap_or_default().to_owned())
        .collect()
}

fn campaign() -> Value {
    json!({
        "from": "Sch\u{f6}n & Gut <orders@shop.example>",
        "subject": "Your order {{ order.number }}, {{ name }}",
        "html": "<h1>Hello {{ name }}</h1><p>{{ order.total }} \u{20ac}</p><img src=\"cid:logo\">",
        "reply_to": "help@shop.example",
        "headers": {"X-Campaign": "spring-{{ order.number }}", "List-Id": "<news.shop.example>", "X-Empty": "{{ none }}"},
        "vars": {"none": ""},
        "attachments": [
            {"filename": "logo.png", "content_type": "image/png", "content": "iVBORw0KGgo=", "content_id": "logo"},
            {"filename": "Rechnung M\u{e4}rz.pdf", "content_type": "application/pdf", "content": "JVBERi0xLjcK"},
        ],
    })
}

#[test]
fn a_full_mail_reads_back() {
    let compiled = compile(campaign());
    let payload = json!({
        "vars": {"name": "J\u{f6}rg <&>", "order": {"number": 7, "total": "12.50"}},
        "to": "J\u{f6}rg M. <jane@recipient.example>", "cc": ["Bob <bob@recipient.example>", "eve@recipient.example"],
    });
    let letter = render(&compiled, &payload).expect("rendered");
    assert_legal(&letter);
    assert!(!letter.needs_smtputf8());
    let expected = [
        "From",
        "To",
        "Cc",
        "Reply-To",
        "Subject",
        "Date",
        "Message-ID",
        "List-Id",
        "X-Campaign",
        "List-Unsubscribe",
        "List-Unsubscribe-Post",
        "MIME-Version",
        "Content-Type",
    ];
    assert_eq!(field_names(&letter), expected);

    let mail = parse(&letter);
    let from = mail.from().and_then(|from| from.first()).expect("From");
    assert_eq!(from.name(), Some("Sch\u{f6}n & Gut"));
    assert_eq!(from.address(), Some("orders@shop.example"));
    let to = mail.to().and_then(|to| to.first()).expect("To");
    assert_eq!((to.name(), to.address()), (Some("J\u{f6}rg M."), Some("jane@recipient.example")));
    assert_eq!(mail.cc().map(|cc| cc.iter().count()), Some(2));
    assert_eq!(mail.subject(), Some("Your order 7, J\u{f6}rg <&>"));
    assert!(
        mail.message_id()
            .is_some_and(|id| id == format!("{}@shop.example", DeliveryId::new(4_711)))
    );
    assert_eq!(mail.date().map(mail_parser::DateTime::to_timestamp), Some(1_768_435_200));
    assert_eq!(
        mail.header_raw("List-Unsubscribe").map(str::trim),
        Some("<https://mail.shop.example/u/AAAA>")
    );
    assert_eq!(
        mail.header_raw("List-Unsubscribe-Post").map(str::trim),
        Some("List-Unsubscribe=One-Click")
    );
    assert_eq!(mail.header_raw("X-Campaign").map(str::trim), Some("spring-7"));

    let html = mail.body_html(0).expect("html");
    assert!(html.contains("<h1>Hello J\u{f6}rg &lt;&amp;&gt;</h1><p>12.50 \u{20ac}</p>"), "{html}");
    let text = mail.body_text(0).expect("text");
    assert!(text.contains("Hello J\u{f6}rg <&>") && text.contains("12.50 \u{20ac}"), "{text}");
    let files: Vec<_> =
        mail.attachments().map(|part| (part.attachment_name(), part.contents())).collect();
    assert_eq!(
        files,
        [
            (Some("logo.png"), b"\x89PNG\r\n\x1a\n".as_slice()),
            (Some("Rechnung M\u{e4}rz.pdf"), b"%PDF-1.7\n".as_slice()),
        ]
    );
    assert_eq!(mail.attachment(0).and_then(|part| part.content_id()), Some("logo"));

    let kinds: Vec<String> = mail
        .parts
        .iter()
        .filter_map(|part| part.content_type())
        .map(|kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or_default()))
        .collect();
    assert_eq!(
        kinds,
        [
            "multipart/mixed",
            "multipart/related",
            "multipart/alternative",
            "text/plain",
            "text/html",
            "image/png",
            "application/pdf",
        ]
    );
}

#[test]
fn a_second_attempt_sends_the_same_bytes() {
    let compiled = compile(campaign());
    let payload = json!({"vars": {"name": "Jane", "order": {"number": 7, "total": 1}}});
    let first = render(&compiled, &payload).expect("rendered");
    let second = render(&compiled, &payload).expect("rendered");
    assert_eq!(first.bytes(), second.bytes());
}

#[test]
fn a_small_mail_is_one_part() {
    let compiled =
        compile(json!({"from": "a@shop.example", "subject": "Hi", "text": "Hello {{ n }}"}));
    let letter = render(&compiled, &json!({"vars": {"n": 1}})).expect("rendered");
    let text = String::from_utf8(letter.bytes().to_vec()).expect("ascii");
    assert!(text.ends_with("\r\nContent-Type: text/plain; charset=\"utf-8\"\r\nContent-Transfer-Encoding: 7bit\r\n\r\nHello 1\r\n"), "{text}");
    assert!(
        text.starts_with("From: <a@shop.example>\r\nTo: <jane@recipient.example>\r\n"),
        "{text}"
    );
}

#[test]
fn an_international_address_needs_smtputf8() {
    let compiled = compile(json!({"from": "a@shop.example", "subject": "Hi", "text": "x"}));
    let letter =
        render_to("j\u{f6}rg@b\u{fc}cher.example", &compiled, &json!({})).expect("rendered");
    assert!(letter.needs_smtputf8());
    assert_legal(&letter);
    assert_eq!(letter.recipient().domain(), "xn--bcher-kva.example");
    let payload = json!({"cc": ["\u{7528}@x.example"]});
    assert!(render(&compiled, &payload).expect("rendered").needs_smtputf8());
}

#[test]
fn a_tenants_own_unsubscribe_header_yields_in_bulk_mail() {
    let compiled = compile(json!({
        "from": "a@shop.example", "subject": "Hi", "text": "x",
        "headers": {"List-Unsubscribe": "<mailto:out@shop.example>"},
    }));
    let letter = render(&compiled, &json!({})).expect("rendered");
    let count = field_names(&letter).iter().filter(|name| *name == "List-Unsubscribe").count();
    assert_eq!(count, 1);
    assert!(parse(&letter).header_raw("List-Unsubscribe").is_some_and(|v| v.contains("/u/AAAA")));
}

#[test]
fn what_cannot_be_rendered_says_why() {
    let compiled = compile(campaign());
    let error = |payload: &Value| render(&compiled, payload).expect_err("refused").to_string();
    let vars = json!({"name": "x", "order": {"number": 1}});
    assert_eq!(
        error(&json!({"vars": vars})),
        "template html line 1: the variable order.total has no value"
    );
    assert!(error(&json!({"vars": []})).starts_with("recipient vars: expected an object"));
    assert!(error(&json!({"to": "x"})).starts_with("recipient to: expected an address"));
    let vars = json!({"name": "a\nBcc: b@x.example", "order": {"number": 1, "total": 1}});
    assert!(
        error(&json!({"vars": vars}))
            .starts_with("template subject: holds the control character U+000A")
    );

    let small = compile(json!({"from": "a@shop.example", "subject": "", "text": "x".repeat(500)}));
    let input = RenderInput {
        delivery: DeliveryId::new(1),
        recipient: &Address::try_new("a@x.example").expect("an address"),
        payload: None,
        date: SystemTime::UNIX_EPOCH,
        bulk: false,
        unsubscribe: None,
        unsubscribe_mail: None,
        return_path: None,
        tracking: None,
    };
    assert!(matches!(
        Renderer::new(400).render(&small, &input, &[]),
        Err(RenderError::TooLarge { limit: 400, .. })
    ));
    let bulk = RenderInput { bulk: true, unsubscribe: Some("https://x/\r\nBcc: a"), ..input };
    assert!(Renderer::default().render(&small, &bulk, &[]).is_err());
}

#[test]
fn a_signed_letter_starts_with_its_signatures() {
    let compiled = compile(campaign());
    let signer = |selector, algorithm| {
        Arc::new(Signer::new(
            "shop.example",
            selector,
            KeyPair::generate(algorithm).expect("a key"),
        ))
    };
    let signers = [signer("r", Algorithm::RsaSha256), signer("e", Algorithm::Ed25519Sha256)];
    let payload = json!({"vars": {"name": "J", "order": {"number": 7, "total": 1}}}).to_string();
    let input = RenderInput {
        delivery: DeliveryId::new(4_711),
        recipient: &Address::try_new("jane@recipient.example").expect("an address"),
        payload: Some(&payload),
        date: SystemTime::UNIX_EPOCH,
        bulk: false,
        unsubscribe: None,
        unsubscribe_mail: None,
        return_path: Some(&Address::try_new("b+1@bounce.shop.example").expect("an address")),
        tracking: None,
    };
    let letter = Renderer::default().render(&compiled, &input, &signers).expect("rendered");
    assert_legal(&letter);
    assert_eq!(field_names(&letter)[..3], ["DKIM-Signature", "DKIM-Signature", "From"]);
    assert!(!field_names(&letter).contains(&"List-Unsubscribe".to_owned()), "not bulk");
    assert_eq!(letter.sender().map(Address::as_str), Some("b+1@bounce.shop.example"));
}

/// Texts that look for a way out of where they are put.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[ -~]{0,30}",
        2 => "\\PC{0,10}",
        1 => prop::sample::select(vec![
            "\r\n", "\n", "\r", "\r\r\n", "\n\r", "\0", "\u{b}", "\u{c}", "\u{85}", "\u{2028}",
            "\u{2029}", "\r\n.\r\n", "\n.\n", "\r.\r", "\r\n\r\n", "\r\nBcc: evil@x.example\r\n",
            "\r\n\tfolded", "=?utf-8?q?=0D=0ABcc:=20evil@x.example?=", "--=_dlv_00000000004K7_a", "\n--=_dlv_00000000004K7_a\n", "\n--=_dlv_00000000004K7+_a--\n",
            "<!--", "{{ x }}", "\u{FEFF}", "\"", "\\", "%0d%0a", "&#13;&#10;",
        ]).prop_map(str::to_owned),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

#[test]
fn the_attacks_know_the_boundary() {
    let compiled = compile(campaign());
    let payload = json!({"vars": {"name": "Jane", "order": {"number": 7, "total": 1}}});
    let letter = render(&compiled, &payload).expect("rendered");
    let text = String::from_utf8_lossy(letter.bytes()).into_owned();
    assert!(text.contains("--=_dlv_00000000004K7_a\r\n"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn no_variable_leaves_its_place(value in hostile(), where_to in 0..4) {
        let mut content = json!({
            "from": "a@shop.example", "subject": "s", "text": "t", "html": "<p>h</p>",
            "headers": {"X-A": "v"},
        });
        match where_to {
            0 => content["subject"] = json!("x {{ v }} y"),
            1 => content["headers"]["X-A"] = json!("x {{ v }} y"),
            2 => content["text"] = json!("x {{ v }} y"),
            _ => content["html"] = json!("<p>{{ v }}</p>"),
        }
        let compiled = compile(content);
        let Ok(letter) = render(&compiled, &json!({"vars": {"v": value}})) else {
            // Lines refuse controls; bodies take anything.
            prop_assert!(where_to < 2);
            return Ok(());
        };
        assert_legal(&letter);
        let expected = [
            "From", "To", "Subject", "Date", "Message-ID", "X-A", "List-Unsubscribe",
            "List-Unsubscribe-Post", "MIME-Version", "Content-Type",
        ];
        prop_assert_eq!(field_names(&letter), expected);
        let mail = parse(&letter);
        prop_assert!(mail.bcc().is_none());
        prop_assert_eq!(mail.parts.len(), 3);
        if where_to == 0 {
            let subject = format!("x {value} y");
            // Encoded words in the value are the tenant's own text and may be decoded.
            if !value.contains("=?") && !value.contains("  ") {
                prop_assert_eq!(mail.subject().map(squeeze), Some(squeeze(&subject)));
            }
        }
    }

    #[test]
    fn no_name_leaves_its_place(name in hostile()) {
        let compiled = compile(json!({"from": "a@shop.example", "subject": "s", "text": "t"}));
        let payload = json!({"to": format!("{name} <jane@recipient.example>")});
        if let Ok(letter) = render(&compiled, &payload) {
            assert_legal(&letter);
            let mail = parse(&letter);
            prop_assert_eq!(mail.to().map(|to| to.iter().count()), Some(1));
            let to = mail.to().and_then(|to| to.first()).and_then(|to| to.address());
            prop_assert_eq!(to, Some("jane@recipient.example"));
            prop_assert!(mail.bcc().is_none());
        }
    }

    #[test]
    fn bodies_arrive_as_they_were_written(text in "(\\PC|[\t\n]){0,200}", html in any::<bool>()) {
        let mut content = json!({"from": "a@shop.example", "subject": "s"});
        content[if html { "html" } else { "text" }] = json!("{{ v|safe }}");
        let compiled = compile(content);
        let letter = render(&compiled, &json!({"vars": {"v": text}})).expect("rendered");
        assert_legal(&letter);
        let mail = parse(&letter);
        let part = mail.parts.iter().find(|part| {
            part.content_type().and_then(|kind| kind.subtype()) == Some(if html { "html" } else { "plain" })
        });
        let arrived = part.and_then(|part| part.text_contents()).expect("a text").replace("\r\n", "\n");
        prop_assert_eq!(arrived.trim_end_matches('\n'), text.trim_end_matches('\n'));
    }
}

fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn header_values_of_the_parser_are_texts() {
    // Guards the tests above: a header that the parser cannot read counts as empty.
    let compiled = compile(campaign());
    let payload = json!({"vars": {"name": "Jane", "order": {"number": 7, "total": 1}}});
    let letter = render(&compiled, &payload).expect("rendered");
    let mail = parse(&letter);
    assert!(mail.headers().iter().all(|header| !matches!(header.value, HeaderValue::Empty)));
}
