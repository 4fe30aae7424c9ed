//! What cannot be accepted is refused with a clear 4xx that names the field, and
//! nothing of it is stored.

use std::sync::Arc;

use crate::support::api::{Answer, TestApi, in_hours, message, request};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use postrider::config::Settings;
use postrider::tenant::key::ApiKey;
use serde_json::{Value, json};

/// What could end a line or a string somewhere on the way.
const CONTROLS: [&str; 6] = ["\r\n", "\n", "\r", "\0", "\u{2028}", "\u{85}"];

/// A message whose every field is used.
fn full() -> Value {
    json!({
        "from": "Shop <orders@shop.example>",
        "subject": "Hello {{ name }}",
        "html": "<p>Hi {{ name }}</p>",
        "text": "Hi {{ name }}",
        "reply_to": "Help <help@shop.example>",
        "headers": {"X-Campaign": "spring {{ name }}"},
        "vars": {"name": "friend"},
        "stream": "bulk",
        "recipients": [{"to": "Ann <ann@x.example>", "vars": {"name": "Ann"}, "cc": ["bob@x.example"]}],
        "send_at": in_hours(1),
        "expires_at": in_hours(2),
        "attachments": [{
            "filename": "a.txt", "content_type": "text/plain", "content": "aGk=", "content_id": "one",
        }],
        "metadata": {"order": "7"},
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut body = full();
    if let Some(place) = body.pointer_mut(pointer) {
        *place = value;
    } else {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        body.pointer_mut(parent).expect("a parent")[key] = value;
    }
    body
}

fn without(key: &str) -> Value {
    let mut body = full();
    body.as_object_mut().expect("an object").remove(key);
    body
}

/// The API with a tenant, and what was stored before.
struct Case {
    api: TestApi,
    key: ApiKey,
}

impl Case {
    async fn new() -> Self {
        let api = TestApi::new().await;
        let key = api.tenant("shop").await.key;
        Self { api, key }
    }

    /// The body is refused with this status for this field.
    async fn refused(&self, body: &Value, status: StatusCode, field: &str, what: &str) {
        let answer = self.api.submit(&self.key, body).await;
        self.was_refused(&answer, status, what).await;
        assert!(answer.fields().contains(&field), "{what}: expected {field}, found {answer:?}");
    }

    async fn was_refused(&self, answer: &Answer, status: StatusCode, what: &str) {
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{what}");
        assert_eq!(answer.body["status"], status.as_u16(), "{what}");
        for part in ["type", "title", "detail"] {
            let text = answer.body[part].as_str().unwrap_or_default();
            assert!(!text.is_empty() && !text.contains(['\r', '\n', '\0']), "{what}: {answer:?}");
        }
        for table in
            ["select count(*) from postrider.message", "select count(*) from postrider.job"]
        {
            assert_eq!(self.api.count(table).await, 0, "{what}: something was stored");
        }
    }
}

#[tokio::test]
async fn the_full_message_is_fine() {
    let case = Case::new().await;
    let answer = case.api.submit(&case.key, &full()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
}

#[tokio::test]
async fn no_string_can_smuggle_a_line_break() {
    let case = Case::new().await;
    // Pointer, and the field that the answer names.
    let fields = [
        ("/from", "from"),
        ("/subject", "subject"),
        ("/reply_to", "reply_to"),
        ("/headers/X-Campaign", "headers.X-Campaign"),
        ("/stream", "stream"),
        ("/send_at", "send_at"),
        ("/expires_at", "expires_at"),
        ("/recipients/0/to", "recipients[0].to"),
        ("/recipients/0/cc/0", "recipients[0].cc[0]"),
        ("/attachments/0/filename", "attachments[0].filename"),
        ("/attachments/0/content_type", "attachments[0].content_type"),
        ("/attachments/0/content_id", "attachments[0].content_id"),
        ("/attachments/0/content", "attachments[0].content"),
        ("/metadata/order", "metadata.order"),
    ];
    for control in CONTROLS {
        for (pointer, field) in fields {
            for text in [format!("a{control}Bcc: eve@evil.example"), format!("x{control}")] {
                let what = format!("{pointer} = {text:?}");
                let body = with(pointer, json!(text));
                case.refused(&body, StatusCode::UNPROCESSABLE_ENTITY, field, &what).await;
            }
        }
        // In an address and a display name that would be fine without it.
        for (pointer, field) in [("/from", "from"), ("/recipients/0/to", "recipients[0].to")] {
            for text in [
                format!("Shop{control} <orders@shop.example>"),
                format!("orders{control}@shop.example"),
                format!("orders@shop.example{control}"),
                format!("{control}orders@shop.example"),
            ] {
                let body = with(pointer, json!(text));
                let what = format!("{pointer} = {text:?}");
                case.refused(&body, StatusCode::UNPROCESSABLE_ENTITY, field, &what).await;
            }
        }
        // By way of a variable that stands in the subject and in a header.
        for text in [format!("x{control}Bcc: eve@evil.example"), format!("x{control}y")] {
            let body = with("/recipients/0/vars/name", json!(text));
            let answer = case.api.submit(&case.key, &body).await;
            let what = format!("vars.name = {text:?}");
            case.was_refused(&answer, StatusCode::UNPROCESSABLE_ENTITY, &what).await;
        }
        // As a name.
        for pointer in ["/headers", "/metadata"] {
            let body = with(pointer, json!({format!("X-A{control}B"): "1"}));
            let answer = case.api.submit(&case.key, &body).await;
            let what = format!("a name in {pointer} with {control:?}");
            case.was_refused(&answer, StatusCode::UNPROCESSABLE_ENTITY, &what).await;
        }
    }
    // Bodies have lines; but no mail may hold NUL.
    for pointer in ["/html", "/text", "/vars/name", "/recipients/0/vars/name"] {
        let answer = case.api.submit(&case.key, &with(pointer, json!("a\0b"))).await;
        case.was_refused(&answer, StatusCode::UNPROCESSABLE_ENTITY, pointer).await;
    }
}

#[tokio::test]
async fn every_bad_field_is_named() {
    let case = Case::new().await;
    let loops = "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}";
    let far = in_hours(31 * 24);
    let past = in_hours(-24);
    let many: Vec<Value> = (0..11_000).map(|n| json!({"to": format!("u{n}@x.example")})).collect();
    let cases: Vec<(&str, Value, &str)> = vec![
        ("no from", without("from"), "from"),
        ("no subject", without("subject"), "subject"),
        ("no recipients", without("recipients"), "recipients"),
        ("an unknown field", with("/colour", json!("red")), "colour"),
        (
            "an unknown field of a recipient",
            with("/recipients/0/name", json!("x")),
            "recipients[0].name",
        ),
        (
            "an unknown field of an attachment",
            with("/attachments/0/size", json!(1)),
            "attachments[0].size",
        ),
        ("a number for a string", with("/subject", json!(7)), "subject"),
        ("a string for a list", with("/recipients", json!("a@x.example")), "recipients"),
        ("a number for an address", with("/recipients/0/to", json!(7)), "recipients[0].to"),
        ("no address in from", with("/from", json!("the shop")), "from"),
        ("two addresses in from", with("/from", json!("a@shop.example, b@shop.example")), "from"),
        ("another's domain", with("/from", json!("a@other.example")), "from"),
        ("a subdomain", with("/from", json!("a@mail.shop.example")), "from"),
        ("no address", with("/recipients/0/to", json!("ann")), "recipients[0].to"),
        ("a local host", with("/recipients/0/to", json!("ann@localhost")), "recipients[0].to"),
        (
            "an address literal",
            with("/recipients/0/to", json!("ann@[127.0.0.1]")),
            "recipients[0].to",
        ),
        ("no address in cc", with("/recipients/0/cc/0", json!("bob")), "recipients[0].cc[0]"),
        (
            "the same in cc",
            with("/recipients/0/cc/0", json!("ann@X.example")),
            "recipients[0].cc[0]",
        ),
        ("51 in cc", with("/recipients/0/cc", json!(vec!["b@x.example"; 51])), "recipients[0].cc"),
        ("no address in reply_to", with("/reply_to", json!("help")), "reply_to"),
        ("11,000 recipients", with("/recipients", json!(many)), "recipients"),
        ("vars that are no object", with("/recipients/0/vars", json!([1])), "recipients[0].vars"),
        ("a header of ours", with("/headers", json!({"Bcc": "x"})), "headers.Bcc"),
        ("a header with a space", with("/headers", json!({"X Y": "x"})), "headers.X Y"),
        ("a header with a colon", with("/headers", json!({"X:Y": "x"})), "headers.X:Y"),
        ("an unclosed tag", with("/subject", json!("{{ name")), "subject"),
        ("an unknown filter", with("/text", json!("{{ name|shout }}")), "text"),
        ("a looping subject", with("/subject", json!(loops)), "recipients[0].subject"),
        ("a looping text", with("/text", json!(loops)), "recipients[0].text"),
        ("a looping html", with("/html", json!(loops)), "recipients[0].html"),
        (
            "a missing variable",
            with("/text", json!("{{ order.number }}")),
            "recipients[0].vars.order",
        ),
        (
            "a missing variable in the subject",
            with("/subject", json!("{{ nick }}")),
            "recipients[0].vars.nick",
        ),
        ("bad base64", with("/attachments/0/content", json!("a*b")), "attachments[0].content"),
        (
            "a path as file name",
            with("/attachments/0/filename", json!("../a")),
            "attachments[0].filename",
        ),
        (
            "no media type",
            with("/attachments/0/content_type", json!("text")),
            "attachments[0].content_type",
        ),
        ("a stream in capitals", with("/stream", json!("Bulk")), "stream"),
        ("a stream of 64", with("/stream", json!("s".repeat(64))), "stream"),
        ("no time", with("/send_at", json!("tomorrow")), "send_at"),
        ("31 days ahead", with("/send_at", json!(far)), "send_at"),
        ("expired before it is sent", with("/expires_at", json!(past)), "expires_at"),
        ("a deep value", with("/vars/name", deep(200)), "vars"),
    ];
    for (what, body, field) in cases {
        let answer = case.api.submit(&case.key, &body).await;
        case.was_refused(&answer, answer.status, what).await;
        if what == "a deep value" {
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
            continue;
        }
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{what}: {answer:?}");
        let named = answer.fields().iter().any(|found| {
            *found == field || found.strip_prefix(field).is_some_and(|rest| rest.starts_with('.'))
        });
        assert!(named, "{what}: expected {field}, found {answer:?}");
    }
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let case = Case::new().await;
    let post = |body: Body| {
        request(Method::POST, "/v1/messages", &case.key)
            .header("content-type", "application/json")
            .body(body)
            .expect("a request")
    };
    for text in ["", "{", "hello", "{\"from\": \"a@shop.example\",\n}"] {
        let answer = case.api.send(post(text.into())).await;
        case.was_refused(&answer, StatusCode::BAD_REQUEST, text).await;
        let detail = answer.body["detail"].as_str().expect("detail");
        assert!(detail.contains("line ") && detail.contains("column "), "{detail}");
    }
    let answer = case.api.send(post(Body::from(vec![0xff, 0xfe]))).await;
    case.was_refused(&answer, StatusCode::BAD_REQUEST, "not UTF-8").await;
    let answer = case.api.send(post("[]".into())).await;
    case.was_refused(&answer, StatusCode::UNPROCESSABLE_ENTITY, "a list").await;

    let large = with("/text", json!("x".repeat(30 << 20))).to_string();
    let answer = case.api.send(post(large.clone().into())).await;
    case.was_refused(&answer, StatusCode::PAYLOAD_TOO_LARGE, "30 MB").await;
    let pieces: Vec<Result<bytes::Bytes, std::io::Error>> =
        large.as_bytes().chunks(1 << 16).map(|p| Ok(bytes::Bytes::copy_from_slice(p))).collect();
    let stream = Body::from_stream(futures_util::stream::iter(pieces));
    let answer = case.api.send(post(stream)).await;
    case.was_refused(&answer, StatusCode::PAYLOAD_TOO_LARGE, "30 MB without a length").await;

    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        let mut typed = request(Method::POST, "/v1/messages", &case.key);
        if let Some(kind) = kind {
            typed = typed.header("content-type", kind);
        }
        let answer = case.api.send(typed.body(full().to_string().into()).expect("a request")).await;
        case.was_refused(&answer, StatusCode::UNSUPPORTED_MEDIA_TYPE, "a type").await;
    }
    for once in ["", &"k".repeat(256)] {
        let answer = case.api.submit_once(&case.key, &full(), once).await;
        case.was_refused(&answer, StatusCode::BAD_REQUEST, "an idempotency key").await;
        assert_eq!(answer.fields(), ["Idempotency-Key"]);
    }
    for (method, path, status) in [
        (Method::GET, "/v1/message", StatusCode::NOT_FOUND),
        (Method::DELETE, "/v1/messages", StatusCode::METHOD_NOT_ALLOWED),
        (Method::GET, "/v1/messages/msg_1", StatusCode::NOT_FOUND),
        (Method::GET, "/v1/deliveries/%00", StatusCode::NOT_FOUND),
    ] {
        let answer =
            case.api.send(request(method, path, &case.key).body(Body::empty()).expect("r")).await;
        case.was_refused(&answer, status, path).await;
    }
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_too_many_are_slowed_down() {
    let case = Case::new().await;
    let send = |authorization: Option<String>| {
        let mut request = Request::builder().method(Method::POST).uri("/v1/messages");
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let request = request.header("content-type", "application/json");
        case.api.send(request.body(full().to_string().into()).expect("a request"))
    };
    let right = case.key.reveal();
    let altered =
        format!("{}{}", &right[..right.len() - 1], if right.ends_with('A') { 'B' } else { 'A' });
    for wrong in [
        None,
        Some(String::new()),
        Some("Bearer".into()),
        Some(right.to_owned()),
        Some(format!("Basic {right}")),
        Some("Bearer nonsense".into()),
        Some(format!("Bearer {altered}")),
        Some(format!("Bearer {}", ApiKey::generate().reveal())),
    ] {
        let what = format!("{wrong:?}");
        let answer = send(wrong).await;
        case.was_refused(&answer, StatusCode::UNAUTHORIZED, &what).await;
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        assert!(!answer.body.to_string().contains(right));
    }
    // Known before the flood, so not shut out by it.
    assert_eq!(send(Some(format!("bearer {right}"))).await.status, StatusCode::ACCEPTED);
    let mut limited = false;
    for _ in 0..60 {
        let answer = send(Some(format!("Bearer {}", ApiKey::generate().reveal()))).await;
        let slowed = answer.status == StatusCode::TOO_MANY_REQUESTS;
        assert!(!slowed || answer.headers.contains_key("retry-after"));
        limited |= slowed;
    }
    assert!(limited, "wrong keys are not tried without end");
    assert_eq!(send(Some(format!("Bearer {right}"))).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn one_key_calls_only_so_often() {
    let mut settings = Settings::for_testing();
    (settings.api.calls_per_second, settings.api.calls_burst) = (1, 3);
    let api = Arc::new(TestApi::with(settings).await);
    let (one, two) = (api.tenant("one").await, api.tenant("two").await);
    let mut statuses = Vec::new();
    for _ in 0..6 {
        let answer = api.submit(&one.key, &message("one", &["ann@x.example"])).await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            let wait = answer.headers["retry-after"].to_str().expect("text");
            assert!((1..=4).contains(&wait.parse::<u32>().expect("seconds")), "{wait}");
        }
        statuses.push(answer.status);
    }
    assert!(statuses.contains(&StatusCode::TOO_MANY_REQUESTS), "{statuses:?}");
    let other = api.submit(&two.key, &message("two", &["ann@x.example"])).await;
    assert_eq!(other.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_suspended_tenant_and_a_revoked_key_are_unknown() {
    let api = TestApi::new().await;
    let (one, two) = (api.tenant("one").await, api.tenant("two").await);
    for statement in [
        "update postrider.tenant set state = 'suspended' where name = 'one'",
        "update postrider.api_key set revoked_at = now() where tenant_id = (select tenant_id from postrider.tenant where name = 'two')",
    ] {
        sqlx::query(statement).execute(&api.owner).await.expect("change");
    }
    for tenant in [&one, &two] {
        let answer = api.submit(&tenant.key, &message("one", &["ann@x.example"])).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{answer:?}");
    }
    assert_eq!(api.jobs().await, 0);
}

fn deep(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}
