//! An API that listens to providers, a daemon's reader of what it stores, and mails that
//! providers took.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postrider::api::{self, Api};
use postrider::cell::Cell;
use postrider::config::secret::Secret;
use postrider::config::{Callbacks, MailgunCallbacks, SendGridCallbacks, Settings};
use postrider::domain::clock::Clock;
use postrider::domain::ids::{CellNumber, DeliveryId, TenantId};
use postrider::domain::outcome::Outcome;
use postrider::domain::receipt::Trail;
use postrider::event::switch;
use postrider::maintenance::reports::Reports;
use postrider::queue::settle::{Ending, Settlement, settle};
use postrider::queue::upkeep;
use postrider::telemetry::metrics;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::sync::watch;

use super::api::{Answer, TestApi};
use super::builders;
use super::postgres::Role;

/// All of it, on a database of its own.
pub struct Room {
    pub api: TestApi,
    pub tenant: i64,
    pub worker: PgPool,
    submits: PgPool,
    reports: Reports,
    _settings: watch::Sender<Arc<Settings>>,
}

impl Room {
    /// Listens as configured; its tenant `acme` is told of events.
    pub async fn open(callbacks: Callbacks) -> Self {
        Self::beside(callbacks, Vec::new()).await
    }

    /// The same beside other cells.
    pub async fn beside(callbacks: Callbacks, others: Vec<Cell>) -> Self {
        let settings = Settings { callbacks, ..Settings::for_testing() };
        let api = TestApi::with(settings.clone()).await;
        let tenant = builders::tenant(&api.owner, "acme").await;
        switch::on(&api.owner, TenantId::new(tenant)).await.expect("switch on");
        let worker = api.db.pool(Role::Worker).await;
        let (sender, watching) = watch::channel(Arc::new(settings));
        let cell = Cell { name: "main".into(), number: CellNumber::new(0), pool: worker.clone() };
        let reports = Reports::new(cell, others, watching, Arc::default());
        let submits = api.db.pool(Role::Api).await;
        Self { api, tenant, worker, submits, reports, _settings: sender }
    }

    /// Its database as a cell of that number.
    pub fn cell(&self, number: u8) -> Cell {
        let pool = self.worker.clone();
        Cell { name: "other".into(), number: CellNumber::new(number), pool }
    }

    /// Its clock, in seconds since 1970.
    pub fn now(&self) -> u64 {
        self.api.now.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Moves its clock.
    pub fn set_clock(&self, now: u64) {
        self.api.now.store(now, std::sync::atomic::Ordering::Relaxed);
    }

    /// A delivery to `to` that nobody tried yet.
    pub async fn delivery(&self, to: &str) -> DeliveryId {
        builders::submit(&self.submits, self.tenant, "acme", "bulk", &[to.to_owned()]).await;
        let id: i64 =
            sqlx::query_scalar("select max(job_id) from postrider.job where recipient = $1")
                .bind(to)
                .fetch_one(&self.api.owner)
                .await
                .expect("its delivery");
        DeliveryId::new(id)
    }

    /// One that a provider took under this id.
    pub async fn taken(&self, to: &str, provider_id: &str) -> DeliveryId {
        let id = self.delivery(to).await;
        let session = builders::session(&self.worker, Duration::from_secs(60)).await;
        for job in builders::claim_all(&self.worker, session.id(), 10).await {
            let trail = Trail { provider_id: Some(provider_id.into()), ..Trail::default() };
            let done = Settlement::new(&job, Ending::Delivered, &Outcome::Expired, &trail);
            settle(&self.worker, session.id(), job.generation, &[&done]).await.expect("settle");
        }
        id
    }

    /// One whose provider said nothing, so that it is held for an operator.
    pub async fn doubtful(&self, to: &str) -> DeliveryId {
        sqlx::query("update postrider.stream_policy set on_doubt = 'hold'")
            .execute(&self.api.owner)
            .await
            .expect("hold");
        let id = self.delivery(to).await;
        let session = builders::session(&self.worker, Duration::from_secs(20)).await;
        let jobs = builders::claim_all(&self.worker, session.id(), 10).await;
        builders::intend(&self.worker, session.id(), 1, &jobs).await;
        builders::fence_all(&self.api.owner).await;
        upkeep::rescue(&self.worker, 100, Duration::from_secs(60), 5).await.expect("rescue");
        id
    }

    /// A daemon reads what waits.
    pub async fn read(&self) {
        while self.reports.step(Clock::System).await.expect("a step") > 0 {}
    }

    /// Posts a callback.
    pub async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        self.api.send(callback(path, headers, body)).await
    }

    /// Routes of another replica, or of this one after a restart.
    pub fn another(&self) -> Router {
        let (_, watched) = watch::channel(Arc::clone(&self.api.settings));
        let clock = Clock::Fixed(Arc::clone(&self.api.now));
        api::router(Api::start(watched, self.submits.clone(), clock))
    }

    /// Routes over a database that is away.
    pub async fn without_database(&self) -> Router {
        let pool = self.api.db.pool(Role::Api).await;
        let (_, watched) = watch::channel(Arc::clone(&self.api.settings));
        let clock = Clock::Fixed(Arc::clone(&self.api.now));
        let router = api::router(Api::start(watched, pool.clone(), clock));
        pool.close().await;
        router
    }

    /// Who is suppressed, why, and who says so.
    pub async fn suppressed(&self) -> Vec<(String, String, String)> {
        sqlx::query_as("select address, reason, source from postrider.suppression order by address")
            .fetch_all(&self.api.owner)
            .await
            .expect("the list")
    }

    /// Events that were stored.
    pub async fn stored(&self) -> i64 {
        builders::rows(&self.api.owner, "inbound_report").await
    }

    /// What became of them.
    pub async fn outcomes(&self) -> Vec<String> {
        sqlx::query_scalar(
            "select coalesce(outcome, 'waits') from postrider.inbound_report order by report_id",
        )
        .fetch_all(&self.api.owner)
        .await
        .expect("outcomes")
    }

    /// The evidence about a delivery: action, class, hardness and rule.
    pub async fn evidence(&self, delivery: DeliveryId) -> Vec<[String; 4]> {
        let rows: Vec<(String, String, String, String)> = sqlx::query_as(
            "select coalesce(detail ->> 'action', ''), coalesce(detail ->> 'class', ''),
                    coalesce(detail ->> 'hardness', ''), coalesce(detail ->> 'rule', '')
             from postrider.attempt where job_id = $1 and kind = 9 order by 1, 2, 4",
        )
        .bind(delivery.get())
        .fetch_all(&self.api.owner)
        .await
        .expect("evidence");
        rows.into_iter().map(|(a, b, c, d)| [a, b, c, d]).collect()
    }

    /// How a delivery ended: kinds of its ends.
    pub async fn ends(&self, delivery: DeliveryId) -> Vec<i16> {
        sqlx::query_scalar(
            "select kind from postrider.attempt where job_id = $1 and kind <= 5 order by kind",
        )
        .bind(delivery.get())
        .fetch_all(&self.api.owner)
        .await
        .expect("ends")
    }

    /// What the tenant was told of a delivery, in order: kinds of events.
    pub async fn told(&self, delivery: DeliveryId) -> Vec<i16> {
        sqlx::query_scalar(
            // That an address was put on the list is told beside it.
            "select kind from postrider.event where job_id = $1 and kind <> 4 order by xid, event_id",
        )
        .bind(delivery.get())
        .fetch_all(&self.api.owner)
        .await
        .expect("events")
    }

    /// Nothing was stored and nobody was suppressed.
    pub async fn is_untouched(&self) -> bool {
        self.stored().await == 0
            && self.suppressed().await.is_empty()
            && builders::attempts(&self.api.owner, 9).await == 0
            && builders::rows(&self.api.owner, "callback_token").await == 0
    }
}

/// A request as a provider makes it.
pub fn callback(path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::post(path).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).expect("a request")
}

/// Whether this process counted something under these labels.
pub fn counted(name: &str, labels: &[&str]) -> bool {
    let handle = metrics::install().expect("a recorder");
    handle.render().lines().any(|line| {
        line.starts_with(name)
            && labels.iter().all(|label| line.contains(label))
            && !line.ends_with(" 0")
    })
}

/// An account at SendGrid.
pub struct SendGrid(EcdsaKeyPair);

impl SendGrid {
    pub fn new() -> Self {
        // Before anything is counted.
        metrics::install().expect("a recorder");
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key"))
    }

    /// Listens to this account.
    pub fn settings(&self) -> Callbacks {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().expect("a public key");
        let sendgrid = Some(SendGridCallbacks { public_keys: vec![der.as_ref().to_vec()] });
        Callbacks { sendgrid, max_events: 100, ..Callbacks::default() }
    }

    pub fn sign(&self, timestamp: u64, body: &str) -> String {
        let signed = format!("{timestamp}{body}");
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).expect("sign");
        STANDARD.encode(signature)
    }

    /// Tells these events now.
    pub async fn tells(&self, room: &Room, events: &Value) -> Answer {
        self.tells_at(room, room.now(), events).await
    }

    /// Tells them with a signature of another time.
    pub async fn tells_at(&self, room: &Room, at: u64, events: &Value) -> Answer {
        let body = events.to_string();
        let headers = self.headers(at, &body);
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        room.post("/v1/callbacks/sendgrid", &headers, body).await
    }

    pub fn headers(&self, at: u64, body: &str) -> [(&'static str, String); 2] {
        [
            ("X-Twilio-Email-Event-Webhook-Timestamp", at.to_string()),
            ("X-Twilio-Email-Event-Webhook-Signature", self.sign(at, body)),
        ]
    }
}

/// An account at Mailgun.
pub struct Mailgun;

impl Mailgun {
    const KEY: &'static str = "the-signing-key";

    pub fn settings() -> Callbacks {
        metrics::install().expect("a recorder");
        let mailgun = Some(MailgunCallbacks { key: Secret::new(Self::KEY) });
        Callbacks { mailgun, ..Callbacks::default() }
    }

    /// A body with a signature of that time and token.
    pub fn body(at: u64, token: &str, event: &Value) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, Self::KEY.as_bytes());
        let tag = hmac::sign(&key, format!("{at}{token}").as_bytes());
        let hex = tag.as_ref().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let signature = json!({"timestamp": at.to_string(), "token": token, "signature": hex});
        json!({"signature": signature, "event-data": event}).to_string()
    }
}
