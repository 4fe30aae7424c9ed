//! `postrider send`: what it says to the API, and what it makes of the answers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::support::command::{Ran, bare, ran};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::{Json, Router};
use serde_json::{Value, json};

/// A call as the API heard it.
#[derive(Debug, Clone)]
struct Call {
    path: String,
    authorization: String,
    idempotency_key: String,
    body: String,
}

/// Answers one call after the other, and remembers what was asked.
#[derive(Clone, Default)]
struct FakeApi {
    answers: Arc<Mutex<Vec<(StatusCode, Value)>>>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl FakeApi {
    async fn start(answers: Vec<(StatusCode, Value)>) -> (Self, SocketAddr) {
        let api = Self { answers: Arc::new(Mutex::new(answers)), ..Self::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().fallback(Self::hear).with_state(api.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (api, address)
    }

    #[allow(clippy::unused_async, reason = "handlers are async")]
    async fn hear(
        State(api): State<Self>,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> (StatusCode, Json<Value>) {
        let header = |name: &str| {
            headers.get(name).map_or(String::new(), |v| v.to_str().expect("text").to_owned())
        };
        api.calls.lock().expect("calls").push(Call {
            path: uri.path().to_owned(),
            authorization: header("authorization"),
            idempotency_key: header("idempotency-key"),
            body: String::from_utf8(body.to_vec()).expect("text"),
        });
        let (status, body) = api.answers.lock().expect("answers").remove(0);
        (status, Json(body))
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("calls").clone()
    }
}

/// Runs the tool beside the API, with a key file and these files in its folder.
async fn send(api: SocketAddr, files: &[(&str, &str)], args: &[&str]) -> Ran {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files.iter().chain([&("key", KEY)]) {
        std::fs::write(folder.path().join(name), text).expect("write");
    }
    let mut command = bare(&[&["send", "--key-file", "key"], args].concat());
    command.current_dir(folder.path()).args(["--api", &format!("http://{api}")]);
    let output = tokio::task::spawn_blocking(move || command.output().expect("run"));
    ran(&output.await.expect("wait"))
}

const KEY: &str = "pr_4f8k2m9x_0123456789012345678901234567890123456789012\n";
const ID: &str = "msg_0R8KQW3YD4X1M";

fn accepted(n: u64) -> (StatusCode, Value) {
    (StatusCode::ACCEPTED, json!({"id": ID, "accepted": n, "suppressed": [], "refused": []}))
}

#[tokio::test]
async fn options_win_over_the_file() {
    let (api, address) = FakeApi::start(vec![accepted(2)]).await;
    let message = r#"{"from": "a@shop.example", "subject": "Old", "vars": {"a": 1}, "recipients": [{"to": "x@example.org"}]}"#;
    let args = [
        "--message",
        "m.json",
        "--subject",
        "New",
        "--html",
        "b.html",
        "--to",
        "y@example.org",
        "--var",
        "b=2",
        "--idempotency-key",
        "k1",
    ];
    let ran = send(address, &[("m.json", message), ("b.html", "<p>Hi</p>")], &args).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.starts_with(ID) && ran.out.contains("2 accepted"), "{}", ran.out);
    let calls = api.calls();
    let body: Value = serde_json::from_str(&calls[0].body).expect("JSON");
    assert_eq!(
        body,
        json!({
            "from": "a@shop.example", "subject": "New", "html": "<p>Hi</p>", "vars": {"a": 1, "b": "2"},
            "recipients": [{"to": "x@example.org"}, {"to": "y@example.org"}],
        })
    );
    let call = &calls[0];
    assert_eq!((call.path.as_str(), call.idempotency_key.as_str()), ("/v1/messages", "k1"));
    assert_eq!(call.authorization, format!("Bearer {}", KEY.trim()));
}

#[tokio::test]
async fn a_file_of_recipients_follows_the_message() {
    let sums = json!({"id": ID, "lines": 3, "accepted": 2, "suppressed": 0, "refused": 1,
                      "refusals": [{"line": 3, "to": "bad", "reason": "expected an address"}]});
    let (api, address) = FakeApi::start(vec![accepted(0), (StatusCode::ACCEPTED, sums)]).await;
    let list = "ann@example.org\n\n{\"to\": \"bob@example.org\", \"vars\": {\"n\": 1}}\n  bad  \n";
    let args = ["--from", "a@shop.example", "--subject", "S", "--text", "T", "--recipients", "l"];
    let ran = send(address, &[("l", list)], &args).await;
    assert_eq!(ran.code, 1, "a refused recipient is not fine: {}", ran.out);
    assert!(ran.out.contains("2 accepted, 0 suppressed, 1 refused"), "{}", ran.out);
    assert!(ran.out.contains("bad: expected an address"), "{}", ran.out);
    let calls = api.calls();
    assert_eq!(calls[1].path, format!("/v1/messages/{ID}/recipients"));
    assert_eq!(calls[0].idempotency_key, calls[1].idempotency_key);
    assert!(!calls[0].idempotency_key.is_empty(), "a repeat by the network is harmless");
    let lines: Vec<Value> =
        calls[1].body.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(
        lines,
        [
            json!({"to": "ann@example.org"}),
            json!({"to": "bob@example.org", "vars": {"n": 1}}),
            json!({"to": "bad"}),
        ]
    );
}

#[tokio::test]
async fn a_refusal_names_the_fields() {
    let problem = json!({"title": "The request is not acceptable", "detail": "2 fields are wrong",
                         "errors": [{"field": "subject", "reason": "line 1: unknown filter"}]});
    let (_api, address) = FakeApi::start(vec![(StatusCode::UNPROCESSABLE_ENTITY, problem)]).await;
    let args = [
        "--from",
        "a@shop.example",
        "--to",
        "b@example.org",
        "--subject",
        "{{ a | b }}",
        "--text",
        "T",
    ];
    let ran = send(address, &[], &args).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    for part in ["(422)", "2 fields are wrong", "subject: line 1: unknown filter"] {
        assert!(ran.err.contains(part), "expected {part:?} in {}", ran.err);
    }
    assert!(!ran.err.contains(KEY.trim()), "the key is not shown");
}

#[tokio::test]
async fn a_list_that_broke_off_can_be_sent_again() {
    let down = json!({"title": "Not now", "detail": "the database is away"});
    let answers = vec![accepted(0), (StatusCode::SERVICE_UNAVAILABLE, down)];
    let (api, address) = FakeApi::start(answers).await;
    let args = ["--from", "a@shop.example", "--subject", "S", "--text", "T", "--recipients", "l"];
    let ran = send(address, &[("l", "ann@example.org")], &args).await;
    assert_eq!(ran.code, 1, "{}", ran.out);
    let key = &api.calls()[1].idempotency_key;
    assert!(
        ran.err.contains(ID) && ran.err.contains(&format!("--idempotency-key '{key}'")),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn what_cannot_be_sent_is_not_tried() {
    let (api, address) = FakeApi::start(vec![]).await;
    let nobody =
        send(address, &[], &["--from", "a@shop.example", "--subject", "S", "--text", "T"]).await;
    assert_eq!(nobody.code, 2, "{}", nobody.err);
    assert!(nobody.err.contains("--to"), "{}", nobody.err);
    let broken = send(address, &[("m", "{")], &["--message", "m", "--to", "b@example.org"]).await;
    assert_eq!(broken.code, 1, "{}", broken.err);
    let bad_key =
        send(address, &[("k2", "secret")], &["--to", "b@example.org", "--message", "k2"]).await;
    assert_eq!(bad_key.code, 1, "{}", bad_key.err);
    assert!(api.calls().is_empty());

    let port = SocketAddr::from(([127, 0, 0, 1], 1));
    let away = send(port, &[], &["--to", "b@example.org", "--subject", "S", "--text", "T"]).await;
    assert_eq!(away.code, 1);
    assert!(away.err.contains("is postrider-api running?"), "{}", away.err);
}
