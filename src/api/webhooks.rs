//! `/v1/webhooks`: a tenant's endpoints. Each change is recorded under the key it was made with.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::Api;
use super::auth::Authenticated;
use super::body::{parse_json, read, require_type};
use super::error::Problem;
use super::webhook_body::{ChangedEndpoint, NewEndpoint, Replayed};
use crate::config::Settings;
use crate::domain::ids::WebhookId;
use crate::tenant::seal::Sealer;
use crate::webhook::Trial;
use crate::webhook::desk::{Desk, DeskError, Hand, WithSecret};
use crate::webhook::endpoint::Endpoint;
use crate::webhook::sender::Sender;

/// Most bytes of a body.
const MAX_BODY: u64 = 16 << 10;

/// What endpoints need: the way outside, and the key of their secrets.
#[derive(Debug)]
pub(super) struct Hooks {
    sender: Sender,
    sealer: Arc<Sealer>,
}

impl Hooks {
    /// `None`, with a line in the log, where this installation can have no endpoints.
    pub(super) fn new(settings: &Settings) -> Option<Self> {
        let sender = Sender::new(settings).map_err(|error| error.to_string());
        let sealer = Sealer::new(&settings.secrets).map_err(|error| error.to_string());
        match (sender, sealer) {
            (Ok(sender), Ok(sealer)) => Some(Self { sender, sealer: Arc::new(sealer) }),
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(error, "no endpoints can be made or tried");
                None
            }
        }
    }
}

/// All endpoints.
#[derive(Debug, Serialize)]
pub struct Listed {
    webhooks: Vec<Endpoint>,
}

/// An endpoint that is no more.
#[derive(Debug, Serialize)]
pub struct Deleted {
    deleted: WebhookId,
}

/// An endpoint with its new secret.
#[derive(Debug, Serialize)]
pub struct Shown {
    #[serde(flatten)]
    endpoint: Endpoint,
    /// Shown this once.
    secret: String,
}

/// `POST /v1/webhooks`
pub async fn create(
    State(api): State<Arc<Api>>,
    caller: Authenticated,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Shown>), Problem> {
    let asked: NewEndpoint = asked(&api, &headers, body).await?;
    let hooks = hooks(&api)?;
    let settings = api.settings.borrow().webhook.clone();
    let spec = asked.checked(&hooks.sender, &settings)?;
    let made = desk(&caller).create(spec, &settings, &hooks.sealer).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// `GET /v1/webhooks`
pub async fn list(caller: Authenticated) -> Result<Json<Listed>, Problem> {
    Ok(Json(Listed { webhooks: desk(&caller).list().await? }))
}

/// `GET /v1/webhooks/{id}`
pub async fn show(
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Endpoint>, Problem> {
    Ok(Json(desk(&caller).show(endpoint_id(&id)?).await?))
}

/// `PATCH /v1/webhooks/{id}`
pub async fn change(
    State(api): State<Arc<Api>>,
    caller: Authenticated,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Endpoint>, Problem> {
    let id = endpoint_id(&id)?;
    let asked: ChangedEndpoint = asked(&api, &headers, body).await?;
    let change = asked.checked(&hooks(&api)?.sender)?;
    Ok(Json(desk(&caller).change(id, change).await?))
}

/// `DELETE /v1/webhooks/{id}`
pub async fn remove(
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Deleted>, Problem> {
    let deleted = endpoint_id(&id)?;
    desk(&caller).remove(deleted).await?;
    Ok(Json(Deleted { deleted }))
}

/// `POST /v1/webhooks/{id}/rotate-secret`
pub async fn rotate(
    State(api): State<Arc<Api>>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Shown>, Problem> {
    let settings = api.settings.borrow().webhook.clone();
    let sealer = &hooks(&api)?.sealer;
    Ok(Json(desk(&caller).rotate(endpoint_id(&id)?, &settings, sealer).await?.into()))
}

/// `POST /v1/webhooks/{id}/test`
pub async fn test(
    State(api): State<Arc<Api>>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Trial>, Problem> {
    let hooks = hooks(&api)?;
    Ok(Json(desk(&caller).test(endpoint_id(&id)?, &hooks.sender, &hooks.sealer).await?))
}

/// `POST /v1/webhooks/{id}/replay`
pub async fn replay(
    State(api): State<Arc<Api>>,
    caller: Authenticated,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Endpoint>, Problem> {
    let id = endpoint_id(&id)?;
    let Replayed { since } = asked(&api, &headers, body).await?;
    Ok(Json(desk(&caller).replay(id, since).await?))
}

fn hooks(api: &Api) -> Result<&Hooks, Problem> {
    api.hooks.as_ref().ok_or_else(Problem::unavailable)
}

fn desk(caller: &Authenticated) -> Desk {
    Desk {
        pool: caller.cell().pool.clone(),
        scope: *caller.scope(),
        tenant: caller.tenant_name().to_owned(),
        hand: Hand::Tenant,
        actor: format!("api:{}", caller.prefix()),
        reason: None,
    }
}

/// What cannot be an id is the id of nothing.
fn endpoint_id(text: &str) -> Result<WebhookId, Problem> {
    text.parse().map_err(|_| Problem::not_found("webhook"))
}

async fn asked<T>(api: &Api, headers: &HeaderMap, body: Body) -> Result<T, Problem>
where
    T: for<'de> Deserialize<'de>,
{
    require_type(headers, &["application/json"])?;
    let (bytes, _share) = read(&api.budget, headers, body, MAX_BODY).await?;
    parse_json(&bytes)
}

impl From<WithSecret> for Shown {
    fn from(made: WithSecret) -> Self {
        Self { endpoint: made.endpoint, secret: (*made.secret).clone() }
    }
}

impl From<DeskError> for Problem {
    fn from(error: DeskError) -> Self {
        match error {
            DeskError::Missing => Self::not_found("webhook"),
            DeskError::TooMany(_) => Self::conflict(error.to_string()),
            DeskError::HeldByOperator => Self::held(error.to_string()),
            DeskError::Database(error) => error.into(),
            DeskError::Key(error) => {
                tracing::error!(%error, "an endpoint's secret cannot be used");
                Self::internal()
            }
        }
    }
}
