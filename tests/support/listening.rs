//! A tenant that listens: couriers in this process, endpoints, and a history to tell.

use std::sync::Arc;
use std::time::{Duration, Instant};

use postrider::config::Settings;
use postrider::domain::ids::WebhookId;
use postrider::queue::session::Session;
use postrider::tenant::isolation::TenantScope;
use postrider::tenant::seal::Sealer;
use postrider::tenant::store;
use postrider::webhook::Spec;
use postrider::webhook::courier::Gear;
use postrider::webhook::desk::{Desk, Hand, WithSecret};
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::builders;
use super::postgres::{Role, TestDb};

/// Only a broken program reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A database with the tenant `acme`, which listens.
pub struct Listening {
    _db: TestDb,
    pub owner: PgPool,
    pub worker: PgPool,
    pub settings: Settings,
    pub tenant: i64,
    pub desk: Desk,
    pub sealer: Arc<Sealer>,
}

/// Couriers at work; they stop when told.
pub struct Couriers {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Couriers {
    /// Waits for their end.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("the couriers");
    }
}

impl Listening {
    /// With the settings for tests.
    pub async fn new() -> Self {
        Self::with(Settings::for_testing()).await
    }

    /// With these settings.
    pub async fn with(settings: Settings) -> Self {
        let db = TestDb::new().await;
        let (owner, worker) = (db.pool(Role::Owner).await, db.pool(Role::Worker).await);
        let operator = db.pool(Role::Operator).await;
        let tenant = builders::tenant(&owner, "acme").await;
        let scope: TenantScope = store::scope(&operator, "acme").await.expect("the tenant");
        let desk = Desk {
            pool: operator,
            scope,
            tenant: "acme".into(),
            hand: Hand::Operator,
            actor: "test".into(),
            reason: None,
        };
        let sealer = Arc::new(Sealer::new(&settings.secrets).expect("a key"));
        Self { _db: db, owner, worker, settings, tenant, desk, sealer }
    }

    /// An endpoint for one event a request.
    pub async fn endpoint(&self, url: &str) -> WithSecret {
        self.endpoint_as(Spec { url: url.into(), batch: 1, in_flight: 4, ..Spec::default() }).await
    }

    /// An endpoint.
    pub async fn endpoint_as(&self, spec: Spec) -> WithSecret {
        self.desk
            .create(spec, &self.settings.webhook, &self.sealer)
            .await
            .expect("make an endpoint")
    }

    /// Starts couriers with a session of their own.
    pub async fn couriers(&self) -> Couriers {
        let session = Session::open(&self.worker, "couriers", Duration::from_secs(3_600))
            .await
            .expect("open a session");
        let stop = CancellationToken::new();
        let gear = Gear::new(&self.settings).expect("couriers");
        let task = tokio::spawn(gear.run(self.worker.clone(), session.id(), stop.clone()));
        Couriers { stop, task }
    }

    /// A line of the history of a delivery, in a transaction of its own: an event.
    pub async fn happens(&self, delivery: i64, attempt: i16, kind: i16) {
        sqlx::query(
            "insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, detail)
             values ($1, 1, $2, $3, $4, '{\"reply\": \"250 ok\", \"source\": \"ours\"}')",
        )
        .bind(self.tenant)
        .bind(delivery)
        .bind(attempt)
        .bind(kind)
        .execute(&self.worker)
        .await
        .expect("write an attempt");
    }

    /// Waits until an endpoint's row satisfies a condition in SQL.
    pub async fn row_is(&self, id: WebhookId, condition: &str) {
        let statement = format!(
            "select exists (select 1 from postrider.webhook where webhook_id = {} and {condition})",
            id.get()
        );
        let started = Instant::now();
        loop {
            let is: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(statement.clone()))
                .fetch_one(&self.owner)
                .await
                .expect("ask");
            if is {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "never {condition}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
