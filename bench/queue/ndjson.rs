//! Recipients by the million over HTTP: a message without any, and then their lines, made
//! while they are sent.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures_util::stream;
use reqwest::{Body, Client, RequestBuilder};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Lines of a piece of the body.
const LINES: u64 = 500;

/// Someone who calls the API with a key.
#[derive(Clone)]
pub(crate) struct Caller {
    client: Client,
    base: String,
    key: String,
}

impl Caller {
    /// Calls the API at `api` with `key`.
    pub(crate) fn new(api: SocketAddr, key: String) -> anyhow::Result<Self> {
        let client = Client::builder().no_proxy().build()?;
        Ok(Self { client, base: format!("http://{api}/v1/messages"), key })
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.base)).bearer_auth(&self.key)
    }

    /// Submits a message; its id.
    pub(crate) async fn submit(&self, message: &Value) -> anyhow::Result<String> {
        let answer = self.post("").json(message).send().await?;
        let (status, body) = (answer.status(), answer.text().await?);
        ensure!(status.as_u16() == 202, "expected 202, found {status}: {body}");
        let answer: Value = serde_json::from_str(&body)?;
        Ok(answer["id"].as_str().context("an answer without an id")?.to_owned())
    }

    /// Adds `recipients` to a message by `parallel` uploads at once; how many were accepted.
    pub(crate) async fn upload(
        &self,
        message: &str,
        recipients: u64,
        parallel: u64,
    ) -> anyhow::Result<u64> {
        let mut running = JoinSet::new();
        for n in 0..parallel {
            let range = recipients * n / parallel..recipients * (n + 1) / parallel;
            let request = self
                .post(&format!("/{message}/recipients"))
                .header("content-type", "application/x-ndjson")
                .header("idempotency-key", format!("upload-{n}"))
                .body(lines(range));
            running.spawn(async move {
                let answer = request.send().await?;
                let (status, body) = (answer.status(), answer.text().await?);
                ensure!(status.as_u16() == 202, "expected 202, found {status}: {body}");
                let answer: Value = serde_json::from_str(&body)?;
                answer["accepted"].as_u64().context("an answer without a count")
            });
        }
        let mut accepted = 0;
        while let Some(ended) = running.join_next().await {
            accepted += ended??;
        }
        Ok(accepted)
    }
}

/// A message of 1 KB to nobody yet.
pub(crate) fn campaign(tenant: &str) -> Value {
    json!({
        "from": format!("Bench <news@{tenant}.example>"),
        "subject": "News for {{ name }}, number {{ n }}",
        "text": "Lorem ipsum dolor sit amet, {{ name }}, consectetur adipiscing elit.\n".repeat(6),
        "stream": "bulk",
        "recipients": [],
    })
}

/// A line for each number, some hundred in a piece.
fn lines(range: Range<u64>) -> Body {
    let end = range.end;
    let pieces = range.step_by(LINES as usize).map(move |first| {
        let mut piece = String::with_capacity(LINES as usize * 80);
        for n in first..end.min(first + LINES) {
            let provider = n % 8;
            // Writing to a String cannot fail.
            let _ = writeln!(
                piece,
                r#"{{"to":"reader{n}@provider{provider}.example","vars":{{"name":"Reader {n}","n":{n}}}}}"#
            );
        }
        Ok::<_, io::Error>(Bytes::from(piece))
    });
    Body::wrap_stream(stream::iter(pieces))
}
