//! An API in this process, on a database of its own, with tenants and keys.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use chrono::{DateTime, TimeDelta, Utc};
use postrider::api::{self, Api};
use postrider::config::Settings;
use postrider::domain::clock::Clock;
use postrider::tenant::key::ApiKey;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::sync::watch;
use tower::ServiceExt;

use super::builders;
use super::postgres::{Role, TestDb};

/// The API under test.
pub struct TestApi {
    /// What its routes share.
    pub api: Arc<Api>,
    /// Its routes.
    pub router: Router,
    /// A pool that may do everything.
    pub owner: PgPool,
    /// Its settings.
    pub settings: Arc<Settings>,
    /// Its clock, in seconds since 1970.
    pub now: Arc<AtomicU64>,
    /// Kept for as long as the API.
    pub db: TestDb,
}

/// A tenant with a key.
pub struct Tenant {
    /// Its number.
    pub id: i64,
    /// Its key.
    pub key: ApiKey,
}

/// What the API said.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as JSON, or as a string where it is none.
    pub body: Value,
}

impl TestApi {
    /// With the settings for tests.
    pub async fn new() -> Self {
        Self::with(Settings::for_testing()).await
    }

    /// With these settings.
    pub async fn with(settings: Settings) -> Self {
        let db = TestDb::new().await;
        let owner = db.pool(Role::Owner).await;
        let now = Arc::new(AtomicU64::new(Clock::System.unix_seconds()));
        let settings = Arc::new(settings);
        let (_, watched) = watch::channel(Arc::clone(&settings));
        let clock = Clock::Fixed(Arc::clone(&now));
        let api = Api::start(watched, db.pool(Role::Api).await, clock);
        let router = api::router(Arc::clone(&api));
        Self { api, router, owner, settings, now, db }
    }

    /// A tenant with the domain `NAME.example` and a key.
    pub async fn tenant(&self, name: &str) -> Tenant {
        let id = builders::tenant(&self.owner, name).await;
        let key = ApiKey::generate();
        sqlx::query("insert into postrider.api_key(tenant_id, prefix, hash) values ($1, $2, $3)")
            .bind(id)
            .bind(key.prefix())
            .bind(key.hash().as_slice())
            .execute(&self.owner)
            .await
            .expect("add its key");
        Tenant { id, key }
    }

    /// Sends a request as it is.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 64 << 20).await.expect("a body");
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// Asks for something.
    pub async fn get(&self, key: &ApiKey, path: &str) -> Answer {
        self.send(request(Method::GET, path, key).body(Body::empty()).expect("a request")).await
    }

    /// Submits a message.
    pub async fn submit(&self, key: &ApiKey, message: &Value) -> Answer {
        self.post_json(key, "/v1/messages", message).await
    }

    /// Submits a message under an idempotency key.
    pub async fn submit_once(&self, key: &ApiKey, message: &Value, once: &str) -> Answer {
        let request = request(Method::POST, "/v1/messages", key)
            .header("content-type", "application/json")
            .header("idempotency-key", once)
            .body(message.to_string().into())
            .expect("a request");
        self.send(request).await
    }

    /// Posts JSON.
    pub async fn post_json(&self, key: &ApiKey, path: &str, body: &Value) -> Answer {
        let request = request(Method::POST, path, key)
            .header("content-type", "application/json")
            .body(body.to_string().into())
            .expect("a request");
        self.send(request).await
    }

    /// Uploads recipients.
    pub async fn upload(
        &self,
        key: &ApiKey,
        message: &str,
        once: Option<&str>,
        lines: impl Into<Body>,
    ) -> Answer {
        let mut request = request(Method::POST, &format!("/v1/messages/{message}/recipients"), key)
            .header("content-type", "application/x-ndjson");
        if let Some(once) = once {
            request = request.header("idempotency-key", once);
        }
        self.send(request.body(lines.into()).expect("a request")).await
    }

    /// A number from the database, seen by all.
    pub async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.owner).await.expect("count")
    }

    /// Jobs stored.
    pub async fn jobs(&self) -> i64 {
        self.count("select count(*) from postrider.job").await
    }

    /// Puts an address on a tenant's list.
    pub async fn suppress(&self, tenant: i64, address: &str) {
        sqlx::query(
            "insert into postrider.suppression(tenant_id, address, reason, source)
             values ($1, $2, 'bounced', 'reply')",
        )
        .bind(tenant)
        .bind(address)
        .execute(&self.owner)
        .await
        .expect("suppress");
    }
}

impl Answer {
    /// The id of a submitted message.
    pub fn id(&self) -> &str {
        assert_eq!(self.status, StatusCode::ACCEPTED, "{self:?}");
        self.body["id"].as_str().expect("an id")
    }

    /// The fields named by a problem document.
    pub fn fields(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array();
        errors.into_iter().flatten().filter_map(|error| error["field"].as_str()).collect()
    }
}

/// A request with a key.
pub fn request(method: Method, path: &str, key: &ApiKey) -> axum::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {}", key.reveal()))
}

/// A message of `tenant` to `recipients`.
pub fn message(tenant: &str, recipients: &[&str]) -> Value {
    let recipients: Vec<Value> = recipients.iter().map(|to| json!({"to": to})).collect();
    json!({
        "from": format!("Shop <orders@{tenant}.example>"),
        "subject": "Your order",
        "text": "Thank you.",
        "recipients": recipients,
    })
}

/// Lines of JSON.
pub fn lines(values: impl IntoIterator<Item = Value>) -> String {
    values.into_iter().fold(String::new(), |mut text, value| {
        text.push_str(&value.to_string());
        text.push('\n');
        text
    })
}

/// A moment so many hours ahead, or ago where negative.
pub fn in_hours(hours: i64) -> DateTime<Utc> {
    DateTime::<Utc>::from(Clock::System.now()) + TimeDelta::hours(hours)
}
