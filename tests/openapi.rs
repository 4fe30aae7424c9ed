//! Promise: the API's document for machines lists every route, and what the API says and takes
//! is what the document says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::api::{TestApi, message, request};
use crate::support::hook::Hook;
use axum::body::Body;
use axum::http::{Method, Request};
use postrider::tenant::key::ApiKey;
use serde_json::{Value, json};

/// `GET /v1/messages/{id}` of every `.route(…)` in the router.
fn routes() -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/router.rs");
    let text = fs::read_to_string(file).expect("read");
    let mut found = BTreeSet::new();
    for route in text.split(".route(").skip(1) {
        let path = route.split('"').nth(1).expect("a path");
        let handlers = route.split('"').nth(2).expect("handlers").split('\n').next().expect("one");
        for method in ["get", "post", "put", "patch", "delete"] {
            let called = |before: &str| handlers.contains(&format!("{before}{method}("));
            if called(" ") || called(".") {
                found.insert(format!("{method} {path}"));
            }
        }
    }
    found
}

/// What of `value` is not as `schema` says.
fn faults(document: &Value, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let inner = document.pointer(name.trim_start_matches('#')).expect("a schema");
        return faults(document, inner, value, at, wrong);
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return,
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !kinds.contains(&kind) {
        wrong.push(format!("{at}: expected {kinds:?}, found {value}"));
        return;
    }
    if let Some(words) = schema["enum"].as_array()
        && value.is_string()
        && !words.contains(value)
    {
        wrong.push(format!("{at}: {value} is none of {words:?}"));
    }
    for item in value.as_array().into_iter().flatten() {
        faults(document, &schema["items"], item, &format!("{at}[]"), wrong);
    }
    let Some(fields) = value.as_object() else { return };
    for field in schema["required"].as_array().into_iter().flatten() {
        if !fields.contains_key(field.as_str().expect("a name")) {
            wrong.push(format!("{at}: {field} is missing"));
        }
    }
    for (name, inner) in fields {
        match schema["properties"].get(name) {
            Some(known) => faults(document, known, inner, &format!("{at}.{name}"), wrong),
            None if schema["additionalProperties"] == json!(false) => {
                wrong.push(format!("{at}: {name} is not in the document"));
            }
            None => {}
        }
    }
}

struct Checked {
    api: TestApi,
    document: Value,
    wrong: Vec<String>,
    seen: BTreeSet<String>,
}

impl Checked {
    /// Makes a call and holds the answer against the document.
    async fn call(&mut self, route: &str, call: Request<Body>) -> Value {
        let (method, path) = route.split_once(' ').expect("method and path");
        let operation = self.document["paths"][path][method].clone();
        let answer = self.api.send(call).await;
        let status = answer.status.as_u16().to_string();
        let described = &operation["responses"][&status];
        if described.is_null() {
            self.wrong.push(format!("{route}: {status} is not in the document: {}", answer.body));
            return answer.body;
        }
        let kind = answer.headers["content-type"].to_str().expect("text");
        let kind = kind.split(';').next().expect("one");
        let schema = &described["content"][kind]["schema"];
        if schema.is_null() {
            self.wrong.push(format!("{route}: {status} as {kind} is not in the document"));
        }
        let at = format!("{route} {status}");
        faults(&self.document, schema, &answer.body, &at, &mut self.wrong);
        self.seen.insert(route.to_owned());
        answer.body
    }
}

#[tokio::test]
async fn every_route_is_in_the_document_and_answers_as_it_says() {
    let api = TestApi::new().await;
    let tenant = api.tenant("shop").await;
    let key = &tenant.key;
    let get = |path: &str| request(Method::GET, path, key).body(Body::empty()).expect("a request");
    let document = api.send(get("/v1/openapi.json")).await.body;
    let mut listed = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            listed.insert(format!("{method} {path}"));
        }
    }
    assert_eq!(listed, routes(), "the document and the router");

    let mut checked = Checked { api, document, wrong: Vec::new(), seen: BTreeSet::new() };
    let post = |path: &str, body: &Value| {
        request(Method::POST, path, key)
            .header("content-type", "application/json")
            .body(body.to_string().into())
            .expect("a request")
    };
    checked.api.suppress(tenant.id, "never@example.org").await;
    let mut full = message("shop", &["ann@example.org", "nonsense", "never@example.org"]);
    full["metadata"] = json!({"order": 7});
    full["stream"] = json!("bulk");
    let accepted = checked.call("post /v1/messages", post("/v1/messages", &full)).await;
    let id = accepted["id"].as_str().expect("an id").to_owned();
    checked.call("post /v1/messages", post("/v1/messages", &json!({"from": 1}))).await;
    checked
        .call("post /v1/messages", post("/v1/messages", &message("other", &["a@example.org"])))
        .await;
    let nobody = Request::post("/v1/messages").body(Body::empty()).expect("a request");
    checked.call("post /v1/messages", nobody).await;

    let lines = request(Method::POST, &format!("/v1/messages/{id}/recipients"), key)
        .header("content-type", "application/x-ndjson")
        .body("{\"to\":\"bob@example.org\"}\n{\"to\":\"x\"}\n".into())
        .expect("a request");
    checked.call("post /v1/messages/{id}/recipients", lines).await;
    checked.call("get /v1/messages/{id}", get(&format!("/v1/messages/{id}"))).await;
    checked.call("get /v1/messages/{id}", get("/v1/messages/msg_nothing")).await;
    let page = format!("/v1/messages/{id}/deliveries");
    let deliveries = checked.call("get /v1/messages/{id}/deliveries", get(&page)).await;
    checked.call("get /v1/messages/{id}/deliveries", get(&format!("{page}?limit=0"))).await;
    let delivery = deliveries["deliveries"][0]["id"].as_str().expect("an id").to_owned();
    checked.call("get /v1/deliveries/{id}", get(&format!("/v1/deliveries/{delivery}"))).await;
    checked
        .call("get /v1/deliveries/{id}/why", get(&format!("/v1/deliveries/{delivery}/why")))
        .await;
    checked.call("get /v1/messages/{id}/why", get(&format!("/v1/messages/{id}/why"))).await;
    let reason = json!({"reason": "wrong prices"});
    for verb in ["pause", "resume", "cancel"] {
        let path = format!("/v1/streams/bulk/{verb}");
        let call = if verb == "resume" {
            request(Method::POST, &path, key).body(Body::empty()).expect("a request")
        } else {
            post(&path, &reason)
        };
        checked.call(&format!("post /v1/streams/{{stream}}/{verb}"), call).await;
        let missing = format!("/v1/streams/nothing/{verb}");
        checked.call(&format!("post /v1/streams/{{stream}}/{verb}"), post(&missing, &reason)).await;
    }
    let cancel = request(Method::POST, &format!("/v1/messages/{id}/cancel"), key);
    checked
        .call("post /v1/messages/{id}/cancel", cancel.body(Body::empty()).expect("a request"))
        .await;
    told(&mut checked, key).await;
    listed_there(&mut checked, key).await;
    checked.call("get /v1/health", get("/v1/health")).await;
    for open in ["/v1/openapi.json", "/livez", "/readyz"] {
        checked.call(&format!("get {open}"), get(open)).await;
    }
    for provider in ["ses", "sendgrid", "mailgun"] {
        let path = format!("/v1/callbacks/{provider}");
        let call = Request::post(&path).body("{}".into()).expect("a request");
        checked.call(&format!("post {path}"), call).await;
    }
    for method in [Method::GET, Method::POST] {
        let route = format!("{} /u/{{token}}", method.as_str().to_lowercase());
        let call = Request::builder().method(method).uri("/u/nonsense").body(Body::empty());
        checked.call(&route, call.expect("a request")).await;
    }
    for kind in ["c", "o"] {
        let call = Request::get(format!("/{kind}/nonsense")).body(Body::empty());
        checked.call(&format!("get /{kind}/{{token}}"), call.expect("a request")).await;
    }
    assert!(checked.wrong.is_empty(), "{:#?}", checked.wrong);
    let untried: Vec<_> = listed.difference(&checked.seen).collect();
    assert!(untried.is_empty(), "no call was held against {untried:?}");
}

/// Events and endpoints.
async fn told(checked: &mut Checked, key: &ApiKey) {
    let hook = Hook::new().await;
    let bare = |method: Method, path: &str| {
        request(method, path, key).body(Body::empty()).expect("a request")
    };
    let with = |method: Method, path: &str, body: Value| {
        request(method, path, key)
            .header("content-type", "application/json")
            .body(body.to_string().into())
            .expect("a request")
    };
    let on = with(Method::PUT, "/v1/events", json!({"enabled": true}));
    checked.call("put /v1/events", on).await;
    let submitted = with(Method::POST, "/v1/messages", message("shop", &["ann@example.org"]));
    checked.call("post /v1/messages", submitted).await;
    checked.call("get /v1/events", bare(Method::GET, "/v1/events")).await;
    checked.call("get /v1/events", bare(Method::GET, "/v1/events?limit=0")).await;
    let asked = json!({"url": hook.url(), "types": ["bounced"], "per_second": 5});
    let made = checked.call("post /v1/webhooks", with(Method::POST, "/v1/webhooks", asked)).await;
    checked
        .call("post /v1/webhooks", with(Method::POST, "/v1/webhooks", json!({"url": "x"})))
        .await;
    checked.call("get /v1/webhooks", bare(Method::GET, "/v1/webhooks")).await;
    let off = with(Method::PUT, "/v1/events", json!({"enabled": false}));
    checked.call("put /v1/events", off).await;
    let path = format!("/v1/webhooks/{}", made["id"].as_str().expect("an id"));
    let id = "/v1/webhooks/{id}";
    checked.call(&format!("get {id}"), bare(Method::GET, &path)).await;
    let change = with(Method::PATCH, &path, json!({"types": null, "enabled": true}));
    checked.call(&format!("patch {id}"), change).await;
    for verb in ["rotate-secret", "test"] {
        let call = bare(Method::POST, &format!("{path}/{verb}"));
        checked.call(&format!("post {id}/{verb}"), call).await;
    }
    let since = json!({"since": "2026-01-01T00:00:00Z"});
    let replay = with(Method::POST, &format!("{path}/replay"), since);
    checked.call(&format!("post {id}/replay"), replay).await;
    for _ in 0..2 {
        checked.call(&format!("delete {id}"), bare(Method::DELETE, &path)).await;
    }
}

/// The list of suppressions.
async fn listed_there(checked: &mut Checked, key: &ApiKey) {
    let path = "/v1/suppressions";
    let bare = |method: Method, path: &str| {
        request(method, path, key).body(Body::empty()).expect("a request")
    };
    let post = |path: &str, kind: &str, body: &str| {
        request(Method::POST, path, key)
            .header("content-type", kind)
            .body(body.to_owned().into())
            .expect("a request")
    };
    for body in
        [r#"{"address":"ann@x.example"}"#, r#"{"address":"ann@x.example"}"#, r#"{"address":"x"}"#]
    {
        checked.call("post /v1/suppressions", post(path, "application/json", body)).await;
    }
    let import = format!("{path}/import");
    for (query, body) in
        [("", "email\nbob@x.example\nx\n"), ("?mode=whole", "email\nx\n"), ("?mode=x", "")]
    {
        let call = post(&format!("{import}{query}"), "text/csv", body);
        checked.call("post /v1/suppressions/import", call).await;
    }
    for query in ["", "?limit=0"] {
        checked.call("get /v1/suppressions", bare(Method::GET, &format!("{path}{query}"))).await;
    }
    for accept in ["text/csv", "application/x-ndjson"] {
        let file = request(Method::GET, path, key).header("accept", accept).body(Body::empty());
        checked.call("get /v1/suppressions", file.expect("a request")).await;
    }
    let one = "/v1/suppressions/{address}";
    let entry = format!("{path}/ann@x.example");
    for _ in 0..2 {
        checked.call(&format!("delete {one}"), bare(Method::DELETE, &entry)).await;
        checked.call(&format!("get {one}"), bare(Method::GET, &entry)).await;
    }
    checked.call(&format!("get {one}"), bare(Method::GET, &format!("{path}/x"))).await;
}

#[test]
fn references_lead_somewhere() {
    let document = postrider::api::openapi::document();
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().expect("one");
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}
