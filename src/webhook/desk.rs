//! [`Desk`]: a tenant's endpoints, as the tenant by the API or an operator for it has them.
//!
//! Every verb is one transaction in the tenant's scope, with its record beside those of
//! operators' actions. One that changes where an endpoint is, what it wants or where it reads
//! takes it out of the hands of whoever tells it now: that turn's report is not written.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};
use zeroize::Zeroizing;

use super::endpoint::{self, Endpoint};
use super::secret::WebhookSecret;
use super::sender::Sender;
use super::spec::{Change, Spec};
use super::store;
use super::trial::{self, Target, Trial};
use crate::config::Webhook;
use crate::domain::ids::{TenantId, WebhookId};
use crate::event::{log, switch};
use crate::queue::admin::action::{self, Action};
use crate::tenant::isolation::TenantScope;
use crate::tenant::seal::{SealError, Sealer};

/// Whose hand it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hand {
    /// The tenant's; the pool acts as the API's role.
    Tenant,
    /// An operator's; the pool acts as the operator's role.
    Operator,
}

/// One tenant's endpoints.
#[derive(Debug, Clone)]
pub struct Desk {
    /// Connections.
    pub pool: PgPool,
    /// Whose endpoints.
    pub scope: TenantScope,
    /// The tenant's name, for the record.
    pub tenant: String,
    /// Who acts.
    pub hand: Hand,
    /// Who that is, for the record.
    pub actor: String,
    /// Why, where somebody said.
    pub reason: Option<String>,
}

/// Why a verb was not done.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The tenant has no such endpoint.
    #[error("the tenant has no such endpoint")]
    Missing,
    /// It has as many as it may.
    #[error("the tenant has {0} endpoints, as many as it may: delete one first")]
    TooMany(u16),
    /// An operator disabled it, and only an operator enables it.
    #[error("an operator disabled this endpoint")]
    HeldByOperator,
    /// No secret can be sealed or opened.
    #[error(transparent)]
    Key(#[from] SealError),
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// An endpoint whose secret was just made.
#[derive(Debug)]
pub struct WithSecret {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Shown this once.
    pub secret: Zeroizing<String>,
}

type Work<'c, T> = BoxFuture<'c, Result<T, DeskError>>;

impl Desk {
    /// Makes an endpoint, which is told what happens from now on, and switches events on.
    pub async fn create(
        &self,
        spec: Spec,
        settings: &Webhook,
        sealer: &Arc<Sealer>,
    ) -> Result<WithSecret, DeskError> {
        let most = settings.max_per_tenant;
        let secret = WebhookSecret::generate()?;
        let (desk, shown) = (self.clone(), secret.reveal());
        let key = Arc::clone(sealer);
        let endpoint = self
            .within(move |conn| {
                async move {
                    let tenant = desk.tenant_id();
                    switch::on(&mut *conn, tenant).await?;
                    let end = switch::end(&mut *conn).await?;
                    let made = store::insert(conn, tenant, &spec, end, most).await?;
                    let id = made.ok_or(DeskError::TooMany(most))?;
                    let sealed = secret.seal(&key, tenant, id)?;
                    store::insert_secret(conn, tenant, id, sealed).await?;
                    desk.record(conn, "webhook create", id, json!({"url": spec.url})).await?;
                    store::one(conn, tenant, id).await
                }
                .boxed()
            })
            .await?;
        Ok(WithSecret { endpoint, secret: shown })
    }

    /// All endpoints.
    pub async fn list(&self) -> Result<Vec<Endpoint>, DeskError> {
        let tenant = self.tenant_id();
        self.within(move |conn| {
            async move { Ok(endpoint::show(conn, tenant, None).await?) }.boxed()
        })
        .await
    }

    /// One of them.
    pub async fn show(&self, id: WebhookId) -> Result<Endpoint, DeskError> {
        let tenant = self.tenant_id();
        self.within(move |conn| store::one(conn, tenant, id).boxed()).await
    }

    /// Changes what is given.
    pub async fn change(&self, id: WebhookId, change: Change) -> Result<Endpoint, DeskError> {
        let desk = self.clone();
        self.within(move |conn| {
            async move {
                let tenant = desk.tenant_id();
                let disabled_by = store::disabled_by(conn, tenant, id).await?;
                let held = disabled_by.as_deref() == Some("operator");
                if held && desk.hand == Hand::Tenant && change.enabled.is_some() {
                    return Err(DeskError::HeldByOperator);
                }
                store::change(conn, tenant, id, &change, desk.hand).await?;
                let action = match change.enabled {
                    Some(true) => "webhook enable",
                    Some(false) => "webhook disable",
                    None => "webhook change",
                };
                desk.record(conn, action, id, json!({"url": change.url})).await?;
                store::one(conn, tenant, id).await
            }
            .boxed()
        })
        .await
    }

    /// Deletes it; what it was not told stays in the log.
    pub async fn remove(&self, id: WebhookId) -> Result<(), DeskError> {
        let desk = self.clone();
        self.within(move |conn| {
            async move {
                if !store::remove(conn, desk.tenant_id(), id).await? {
                    return Err(DeskError::Missing);
                }
                desk.record(conn, "webhook delete", id, Value::Null).await
            }
            .boxed()
        })
        .await
    }

    /// A new secret; the ones before sign beside it for the configured time.
    pub async fn rotate(
        &self,
        id: WebhookId,
        settings: &Webhook,
        sealer: &Sealer,
    ) -> Result<WithSecret, DeskError> {
        let secret = WebhookSecret::generate()?;
        let sealed = secret.seal(sealer, self.tenant_id(), id)?;
        let (desk, overlap) = (self.clone(), settings.rotation_overlap);
        let endpoint = self
            .within(move |conn| {
                async move {
                    let endpoint = store::one(conn, desk.tenant_id(), id).await?;
                    store::retire_secrets(conn, id, overlap).await?;
                    store::insert_secret(conn, desk.tenant_id(), id, sealed).await?;
                    desk.record(conn, "webhook rotate", id, Value::Null).await?;
                    Ok(endpoint)
                }
                .boxed()
            })
            .await?;
        Ok(WithSecret { endpoint, secret: secret.reveal() })
    }

    /// Tells it again everything that happened since then, under the same ids.
    pub async fn replay(
        &self,
        id: WebhookId,
        since: chrono::DateTime<chrono::Utc>,
    ) -> Result<Endpoint, DeskError> {
        let desk = self.clone();
        self.within(move |conn| {
            async move {
                let tenant = desk.tenant_id();
                let place = log::place_since(&mut *conn, tenant, since).await?;
                store::set_back(conn, tenant, id, place).await?;
                let endpoint = store::one(conn, tenant, id).await?;
                desk.record(conn, "webhook replay", id, json!({"since": since})).await?;
                Ok(endpoint)
            }
            .boxed()
        })
        .await
    }

    /// Sends it an event of the type `test` now.
    pub async fn test(
        &self,
        id: WebhookId,
        sender: &Sender,
        sealer: &Sealer,
    ) -> Result<Trial, DeskError> {
        let desk = self.clone();
        let target: Option<Target> = self
            .within(move |conn| {
                async move {
                    let target = trial::target(conn, desk.tenant_id(), id).await?;
                    if target.is_some() {
                        // Its secret is opened to sign with.
                        desk.record(conn, "webhook test", id, Value::Null).await?;
                    }
                    Ok(target)
                }
                .boxed()
            })
            .await?;
        let target = target.ok_or(DeskError::Missing)?;
        Ok(trial::try_target(sender, sealer, &target).await?)
    }

    const fn tenant_id(&self) -> TenantId {
        self.scope.tenant()
    }

    async fn record(
        &self,
        conn: &mut PgConnection,
        action: &'static str,
        id: WebhookId,
        detail: Value,
    ) -> Result<(), DeskError> {
        let target = format!("endpoint {id} of tenant {}", self.tenant);
        let reason = self.reason.as_deref().filter(|reason| !reason.is_empty());
        let action = Action { actor: &self.actor, action, target: &target, reason, detail };
        Ok(action::record(conn, &action).await?)
    }

    /// Runs `work` in a transaction of the scope. It writes nothing before it refuses.
    async fn within<T, F>(&self, work: F) -> Result<T, DeskError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> Work<'c, T> + Send + 'static,
    {
        match self.hand {
            Hand::Tenant => self.scope.run(&self.pool, lifted(work)).await?,
            Hand::Operator => self.scope.operate(&self.pool, lifted(work)).await?,
        }
    }
}

/// What a scope runs: an error of the database undoes the transaction.
fn lifted<T, F>(
    work: F,
) -> impl for<'c> FnOnce(
    &'c mut PgConnection,
) -> BoxFuture<'c, Result<Result<T, DeskError>, sqlx::Error>>
+ Send
+ 'static
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut PgConnection) -> Work<'c, T> + Send + 'static,
{
    move |conn| {
        async move {
            match work(conn).await {
                Err(DeskError::Database(error)) => Err(error),
                other => Ok(other),
            }
        }
        .boxed()
    }
}
