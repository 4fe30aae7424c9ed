//! `GET /v1/openapi.json`: the API described for machines (OpenAPI 3.1).
//!
//! Made of one table of operations and one of schemas. `tests/openapi.rs` holds the table
//! against the routes and the schemas against what the API really says and takes, so that neither
//! can be forgotten when a route is added.

mod callbacks;
mod events;
mod health;
mod schemas;
mod suppressions;
mod tracking;

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// Whoever has a key.
    Tenant,
    /// Anybody.
    Anybody,
}

/// What is sent with a request.
#[derive(Debug, Clone, Copy)]
enum Sent {
    Nothing,
    Json(&'static str),
    /// One object a line.
    Lines(&'static str),
    /// The same, or CSV with a header.
    File(&'static str),
}

/// What comes back.
#[derive(Debug, Clone, Copy)]
enum Back {
    Json(&'static str),
    Text,
    Page,
    Redirect,
    Picture,
}

struct Operation {
    method: &'static str,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    caller: Caller,
    sent: Sent,
    status: &'static str,
    back: Back,
    /// Beside 200 or 202, 401 and 429.
    problems: &'static [&'static str],
}

const fn of_tenant(
    method: &'static str,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
) -> Operation {
    Operation {
        method,
        path,
        id,
        summary,
        caller: Caller::Tenant,
        sent: Sent::Nothing,
        status: "200",
        back: Back::Text,
        problems: &["404", "503"],
    }
}

const fn of_anybody(
    method: &'static str,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    back: Back,
) -> Operation {
    Operation {
        caller: Caller::Anybody,
        back,
        problems: &[],
        ..of_tenant(method, path, id, summary)
    }
}

/// Every operation, in the order of docs/api.md.
const OPERATIONS: &[Operation] = &[
    Operation {
        sent: Sent::Json("Message"),
        status: "202",
        back: Back::Json("Accepted"),
        problems: &["400", "409", "413", "415", "422", "503"],
        ..of_tenant("post", "/v1/messages", "submit", "Submit a message; 202 after the commit")
    },
    Operation {
        sent: Sent::Lines("Recipient"),
        status: "202",
        back: Back::Json("Appended"),
        problems: &["400", "404", "409", "415", "422", "503"],
        ..of_tenant(
            "post",
            "/v1/messages/{id}/recipients",
            "appendRecipients",
            "Add recipients, one JSON object a line, of any length",
        )
    },
    Operation {
        back: Back::Json("MessageStatus"),
        ..of_tenant("get", "/v1/messages/{id}", "message", "A message with its counts by state")
    },
    Operation {
        back: Back::Json("DeliveryPage"),
        problems: &["400", "404", "503"],
        ..of_tenant("get", "/v1/messages/{id}/deliveries", "deliveries", "Its deliveries, by page")
    },
    Operation {
        back: Back::Json("MessageStatus"),
        problems: &["404", "409", "503"],
        ..of_tenant("post", "/v1/messages/{id}/cancel", "cancelMessage", "Call a message back")
    },
    Operation {
        back: Back::Json("Why"),
        ..of_tenant("get", "/v1/messages/{id}/why", "whyMessage", "What a message waits for")
    },
    Operation {
        back: Back::Json("Delivery"),
        ..of_tenant("get", "/v1/deliveries/{id}", "delivery", "One delivery with every attempt")
    },
    Operation {
        back: Back::Json("Why"),
        ..of_tenant("get", "/v1/deliveries/{id}/why", "whyDelivery", "What a delivery waits for")
    },
    Operation {
        sent: Sent::Json("StreamOrder"),
        back: Back::Json("StreamPaused"),
        problems: &["400", "404", "409", "415", "422", "503"],
        ..of_tenant("post", "/v1/streams/{stream}/pause", "pauseStream", "Hold a stream back")
    },
    Operation {
        back: Back::Json("StreamResumed"),
        problems: &["404", "409", "503"],
        ..of_tenant("post", "/v1/streams/{stream}/resume", "resumeStream", "Let a stream go again")
    },
    Operation {
        sent: Sent::Json("StreamOrder"),
        back: Back::Json("StreamCancelled"),
        problems: &["400", "404", "409", "415", "422", "503"],
        ..of_tenant(
            "post",
            "/v1/streams/{stream}/cancel",
            "cancelStream",
            "Call a stream's mail back",
        )
    },
    of_anybody(
        "get",
        "/u/{token}",
        "unsubscribeAsk",
        "The unsubscribe page; changes nothing",
        Back::Page,
    ),
    of_anybody("post", "/u/{token}", "unsubscribe", "Unsubscribe (RFC 8058)", Back::Page),
    of_anybody("get", "/v1/openapi.json", "openapi", "This document", Back::Json("OpenApi")),
    of_anybody("get", "/livez", "livez", "Whether the process answers", Back::Text),
    of_anybody("get", "/readyz", "readyz", "Whether submissions can be stored", Back::Text),
];

/// `GET /v1/openapi.json`
pub async fn show() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());
    ([(CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response()
}

/// The whole document.
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    let more = [
        events::OPERATIONS,
        callbacks::OPERATIONS,
        suppressions::OPERATIONS,
        health::OPERATIONS,
        tracking::OPERATIONS,
    ];
    for operation in OPERATIONS.iter().chain(more.into_iter().flatten()) {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = operation.described();
    }
    let mut schemas = schemas::schemas();
    let more =
        [events::schemas(), callbacks::schemas(), suppressions::schemas(), health::schemas()];
    for more in more {
        if let (Some(all), Value::Object(more)) = (schemas.as_object_mut(), more) {
            all.extend(more);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "postrider",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Takes messages in and tells what became of them. docs/api.md explains it for people.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas,
        },
    })
}

impl Operation {
    fn described(&self) -> Value {
        let mut responses = Map::new();
        let back = match self.back {
            Back::Json(schema) => json!({"application/json": {"schema": schemas::named(schema)}}),
            Back::Text => json!({"text/plain": {"schema": {"type": "string"}}}),
            Back::Page => json!({"text/html": {"schema": {"type": "string"}}}),
            Back::Redirect => json!({}),
            Back::Picture => json!({"image/gif": {"schema": {"type": "string"}}}),
        };
        responses.insert(self.status.into(), json!({"description": self.summary, "content": back}));
        if matches!(self.back, Back::Redirect) {
            let header = json!({"Location": {"schema": {"type": "string", "format": "uri"}}});
            responses[self.status]["headers"] = header;
        }
        let always: &[&str] = match self.caller {
            Caller::Tenant => &["401", "429"],
            Caller::Anybody => &[],
        };
        for status in self.problems.iter().chain(always) {
            responses.insert((*status).into(), problem(status));
        }
        if self.id == "suppress" {
            let content = responses.get(self.status).cloned().unwrap_or_default();
            responses.insert("200".into(), content);
        }
        if self.id == "suppressions" {
            let text = json!({"schema": {"type": "string"}});
            for kind in ["text/csv", "application/x-ndjson"] {
                responses[self.status]["content"][kind] = text.clone();
            }
        }
        if self.path == "/readyz" {
            let text = json!({"text/plain": {"schema": {"type": "string"}}});
            responses.insert("503".into(), json!({"description": "Not now", "content": text}));
        }
        if matches!(self.back, Back::Page | Back::Redirect | Back::Picture) {
            let page = json!({"text/html": {"schema": {"type": "string"}}});
            responses
                .insert("404".into(), json!({"description": "No such link", "content": &page}));
            if self.method == "post" {
                let what = "Neither the button nor a mail program sent this";
                responses.insert("400".into(), json!({"description": what, "content": page}));
            }
        }
        let mut described = json!({
            "operationId": self.id,
            "summary": self.summary,
            "parameters": self.parameters(),
            "responses": responses,
        });
        match self.sent {
            Sent::Nothing => {}
            Sent::Json(schema) => {
                described["requestBody"] = json!({"required": true,
                    "content": {"application/json": {"schema": schemas::named(schema)}}});
            }
            Sent::Lines(schema) => {
                described["requestBody"] = json!({"required": true, "content": {
                    "application/x-ndjson": {"schema": {"type": "string"},
                        "x-each-line": schemas::named(schema)}}});
            }
            Sent::File(schema) => {
                described["requestBody"] = json!({"required": true, "content": {
                    "text/csv": {"schema": {"type": "string"}},
                    "application/x-ndjson": {"schema": {"type": "string"},
                        "x-each-line": schemas::named(schema)}}});
            }
        }
        if self.caller == Caller::Tenant {
            described["security"] = json!([{"key": []}]);
        }
        described
    }

    fn parameters(&self) -> Vec<Value> {
        let text = |name: &str, place: &str, required: bool, what: &str| {
            json!({"name": name, "in": place, "required": required, "description": what,
                   "schema": {"type": "string"}})
        };
        let mut parameters: Vec<Value> = self
            .path
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split('}').next())
            .map(|name| text(name, "path", true, "From the submission's answer, or yours"))
            .collect();
        if matches!(self.sent, Sent::Lines(_)) || self.id == "submit" {
            parameters.push(text("Idempotency-Key", "header", false, "Makes a repeat harmless"));
            let what = "The trace that this call belongs to (W3C Trace Context)";
            parameters.push(text("traceparent", "header", false, what));
        }
        if self.id == "deliveries" {
            parameters.push(json!({"name": "state", "in": "query", "required": false,
                "schema": schemas::named("DeliveryState")}));
            parameters.push(json!({"name": "limit", "in": "query", "required": false,
                "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}}));
            parameters.push(text("cursor", "query", false, "next_cursor of the page before"));
        }
        if self.id == "events" {
            for (name, what) in [
                ("cursor", "next_cursor of the page before"),
                ("limit", "1 to 1000; 100"),
                ("type", "Only these types, with commas between"),
            ] {
                parameters.push(text(name, "query", false, what));
            }
        }
        for (name, what) in suppressions::parameters(self.id) {
            parameters.push(text(name, "query", false, what));
        }
        parameters
    }
}

fn problem(status: &str) -> Value {
    let what = match status {
        "400" => "The request cannot be read",
        "401" => "A valid API key is needed",
        "403" => "The signature is not that of a configured account",
        "404" => "There is no such thing for this tenant",
        "406" => "It was taken before",
        "409" => "Another use of the idempotency key, called back, or held back by the operator",
        "413" => "The body is too large",
        "415" => "Another content type is expected",
        "422" => "Some fields cannot be accepted; nothing was stored",
        "429" => "Too many calls of this key",
        _ => "Not now; repeat as Retry-After says",
    };
    let content = json!({"application/problem+json": {"schema": schemas::named("Problem")}});
    if matches!(status, "429" | "503") {
        let header = json!({"Retry-After": {"schema": {"type": "integer"}}});
        return json!({"description": what, "headers": header, "content": content});
    }
    json!({"description": what, "content": content})
}
