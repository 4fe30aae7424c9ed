//! An endpoint of our own: answers as a test says and writes down all it gets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde_json::Value;
use tokio::net::TcpListener;

/// Only a broken program reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Got {
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`.
    pub timestamp: String,
    /// `webhook-signature`.
    pub signature: String,
    /// The body.
    pub raw: Vec<u8>,
    /// The same as JSON.
    pub body: Value,
    /// What was answered.
    pub status: u16,
}

impl Got {
    /// Its events: one, or those of the array.
    pub fn events(&self) -> Vec<Value> {
        match &self.body {
            Value::Array(events) => events.clone(),
            one => vec![one.clone()],
        }
    }

    /// Whether it was taken.
    pub fn taken(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Decides the status by the request's events and how many requests came before.
type Script = Box<dyn Fn(&[Value], usize) -> u16 + Send + Sync>;

/// Runs until the test ends.
pub struct Hook {
    pub address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    script: Arc<Mutex<Script>>,
}

impl Hook {
    /// Answers with 204.
    pub async fn new() -> Self {
        Self::answering(|_, _| 204).await
    }

    /// Answers with what `script` says.
    pub async fn answering(
        script: impl Fn(&[Value], usize) -> u16 + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let got = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let (noted, asked) = (Arc::clone(&got), Arc::clone(&script));
        let route = any(move |headers: HeaderMap, body: Bytes| {
            let (noted, asked) = (Arc::clone(&noted), Arc::clone(&asked));
            async move { note(&noted, &asked, &headers, &body) }
        });
        let router = Router::new().fallback_service(route);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, got, script }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Answers otherwise from now on.
    pub fn answer(&self, script: impl Fn(&[Value], usize) -> u16 + Send + Sync + 'static) {
        *self.script.lock().expect("lock") = Box::new(script);
    }

    /// All requests so far.
    pub fn got(&self) -> Vec<Got> {
        self.got.lock().expect("lock").clone()
    }

    /// The events it took, in order.
    pub fn taken(&self) -> Vec<Value> {
        self.got().iter().filter(|got| got.taken()).flat_map(Got::events).collect()
    }

    /// Waits until what came is as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !wanted(self) {
            assert!(started.elapsed() < PATIENCE, "never {what}: {:#?}", self.got());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn note(
    noted: &Mutex<Vec<Got>>,
    script: &Mutex<Script>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Response {
    let header = |name: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let mut got = Got {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
        raw: body.to_vec(),
        body: serde_json::from_slice(body).unwrap_or_default(),
        status: 0,
    };
    let mut noted = noted.lock().expect("lock");
    got.status = (script.lock().expect("lock"))(&got.events(), noted.len());
    let status = StatusCode::from_u16(got.status).expect("a status");
    noted.push(got);
    match status {
        StatusCode::FOUND => (status, [("location", "http://127.0.0.1:1/")]).into_response(),
        _ => status.into_response(),
    }
}
