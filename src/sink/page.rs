//! What the sink holds, over HTTP: a page for people, JSON for programs.
//!
//! Mails come from anybody, so nothing of them is ever shown as HTML: fields are
//! escaped, raw mails are plain text, and the page forbids scripts.

use std::fmt::Write;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::ledger::{KeptMail, Ledger, Stats};

type Shared = Arc<Mutex<Ledger>>;

/// Serves until told to stop.
pub(super) async fn serve(listener: TcpListener, ledger: Shared, shutdown: CancellationToken) {
    let router = Router::new()
        .route("/", get(page))
        .route("/mails", get(mails))
        .route("/mails/{n}", get(mail))
        .route("/stats", get(stats))
        .with_state(ledger);
    let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
    if let Err(error) = served.await {
        tracing::warn!(%error, "the sink's page ended");
    }
}

/// A kept mail with the headers people look for.
#[derive(Debug, Serialize)]
struct Entry {
    #[serde(flatten)]
    mail: KeptMail,
    subject: Option<String>,
    message_id: Option<String>,
}

impl Entry {
    fn of(mail: KeptMail) -> Self {
        Self { subject: mail.header("subject"), message_id: mail.header("message-id"), mail }
    }
}

async fn mails(State(ledger): State<Shared>) -> Json<Vec<Entry>> {
    let mails = ledger.lock().mails();
    Json(mails.into_iter().map(Entry::of).collect())
}

async fn mail(State(ledger): State<Shared>, Path(n): Path<u64>) -> Response {
    let Some(mail) = ledger.lock().mail(n) else {
        return (StatusCode::NOT_FOUND, "no such mail: it never came or is no longer kept\n")
            .into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, mail.raw()).into_response()
}

async fn stats(State(ledger): State<Shared>) -> Json<Stats> {
    Json(ledger.lock().stats())
}

async fn page(State(ledger): State<Shared>) -> Response {
    let (stats, mails) = {
        let ledger = ledger.lock();
        (ledger.stats(), ledger.mails())
    };
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
    let html = render(&stats, mails.into_iter().map(Entry::of));
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(html)).into_response()
}

fn render(stats: &Stats, mails: impl Iterator<Item = Entry>) -> String {
    let mut html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>postrider sink</title>\n\
         <style>body{{font:15px/1.5 system-ui,sans-serif;margin:2rem}}\
         table{{border-collapse:collapse}}td,th{{text-align:left;padding:.2rem 1rem .2rem 0;\
         border-bottom:1px solid #ddd}}</style>\n<h1>postrider sink</h1>\n\
         <p>{} accepted ({} not acknowledged), {} deferred, {} refused, {} connections dropped, \
         {} recipients, {} duplicates. <a href=/stats>all counts</a> · <a href=/mails>JSON</a></p>\n\
         <table><tr><th>mail<th>time<th>from<th>to<th>subject<th>bytes\n",
        stats.accepted,
        stats.unacknowledged,
        stats.deferred,
        stats.refused,
        stats.dropped,
        stats.distinct_recipients,
        stats.duplicates,
    );
    for Entry { mail, subject, .. } in mails {
        // Writing to a String cannot fail.
        let _ = writeln!(
            html,
            "<tr><td><a href=/mails/{0}>{0}</a><td>{1}<td>{2}<td>{3}<td>{4}<td>{5}",
            mail.n,
            mail.at.format("%H:%M:%S%.3f"),
            escape(&mail.from),
            escape(&mail.to.join(", ")),
            escape(subject.as_deref().unwrap_or_default()),
            mail.bytes,
        );
    }
    html.push_str("</table></html>\n");
    html
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::ledger::Received;

    #[test]
    fn nothing_of_a_mail_becomes_html() {
        let mut ledger = Ledger::new(1);
        let evil = "<script>alert('&\"')</script>";
        ledger.accepted(Received {
            from: evil.into(),
            to: vec![evil.into()],
            stuffed: format!("Subject: {evil}\r\n\r\n").into(),
            acknowledged: true,
        });
        let html = render(&ledger.stats(), ledger.mails().into_iter().map(Entry::of));
        assert!(!html.contains("<script"));
        assert_eq!(html.matches("&lt;script&gt;alert(&#39;&amp;&quot;&#39;)").count(), 3);
    }
}
