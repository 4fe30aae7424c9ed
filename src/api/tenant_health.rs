//! `GET /v1/health`: how receivers take the tenant's mail, by stream.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::Api;
use super::auth::Authenticated;
use super::error::Problem;
use crate::health::figures::Acting;
use crate::health::standing::{self, TenantHealth};

/// `GET /v1/health`
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    caller: Authenticated,
) -> Result<Json<TenantHealth>, Problem> {
    let limits = api.settings.borrow().health.clone();
    let pool = &caller.cell().pool;
    let health =
        standing::of(pool, *caller.scope(), Acting::Tenant, caller.tenant_name(), &limits).await?;
    Ok(Json(health))
}
