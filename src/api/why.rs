//! `GET /v1/messages/{id}/why` and `GET /v1/deliveries/{id}/why`: what it waits for, since
//! when, and when it is expected to go. Of others nothing is told: what is shared with them
//! is said without names and numbers.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};

use super::Api;
use super::auth::Authenticated;
use super::error::Problem;
use super::lookup::message_id;
use crate::queue::why::{Explain, Eyes, WhyDelivery, WhyMessage};

/// `GET /v1/messages/{id}/why`
pub async fn message(
    State(api): State<Arc<Api>>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<WhyMessage>, Problem> {
    let id = message_id(&id)?;
    let found = explain(&api, &caller).message(*caller.scope(), id).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("message"))
}

/// `GET /v1/deliveries/{id}/why`
pub async fn delivery(
    State(api): State<Arc<Api>>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<WhyDelivery>, Problem> {
    let id = id.parse().map_err(|_| Problem::not_found("delivery"))?;
    let found = explain(&api, &caller).delivery(*caller.scope(), id).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("delivery"))
}

fn explain(api: &Api, caller: &Authenticated) -> Explain {
    let ttl = api.settings.borrow().queue.session_ttl;
    Explain::new(caller.cell().pool.clone(), Eyes::Tenant, ttl)
}
