//! From `Authorization: Bearer KEY` to a tenant.
//!
//! A key that was right a moment ago is not asked for again; a revoked one thus
//! stops working within [`FRESH`]. An address that shows wrong keys is slowed
//! down, but never those callers behind it whose key is known to be right.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use quick_cache::sync::Cache;

use super::Api;
use super::access::Seen;
use super::cells::{ApiCell, Cells};
use super::error::Problem;
use super::limit::Limits;
use crate::tenant::auth::Caller;
use crate::tenant::isolation::TenantScope;
use crate::tenant::key::ApiKey;

/// How long an answer of the database is believed.
const FRESH: Duration = Duration::from_secs(3);

/// Keys remembered.
const REMEMBERED: usize = 10_000;

/// The caller of this request: authenticated, and within its limits.
#[derive(Debug, Clone)]
pub struct Authenticated(Arc<Known>);

impl Authenticated {
    /// What the caller may touch.
    pub fn scope(&self) -> &TenantScope {
        &self.0.caller.scope
    }

    /// The cell where its tenant lives.
    pub fn cell(&self) -> &Arc<ApiCell> {
        &self.0.cell
    }

    /// The readable part of the key that was shown.
    pub fn prefix(&self) -> &str {
        &self.0.prefix
    }

    /// The tenant's name.
    pub fn tenant_name(&self) -> &str {
        &self.0.caller.tenant_name
    }
}

/// Tells whose key it is.
#[derive(Debug)]
pub struct Authenticator {
    cells: Arc<Cells>,
    limits: Arc<Limits>,
    known: Cache<[u8; 32], Arc<Known>>,
}

#[derive(Debug)]
struct Known {
    hash: [u8; 32],
    cell: Arc<ApiCell>,
    caller: Caller,
    prefix: String,
    asked_at: Instant,
}

impl Authenticator {
    /// Looks for keys in `cells`.
    pub fn new(cells: Arc<Cells>, limits: Arc<Limits>) -> Self {
        Self { cells, limits, known: Cache::new(REMEMBERED) }
    }

    /// Passes a problem on; where it says that the tenant moved, the caller is looked for anew
    /// the next time.
    pub fn note(&self, caller: &Authenticated, problem: Problem) -> Problem {
        if problem.is_moved() {
            self.known.remove(&caller.0.hash);
        }
        problem
    }

    async fn authenticate(&self, peer: IpAddr, shown: &str) -> Result<Arc<Known>, Problem> {
        let Ok(key) = ApiKey::parse(shown) else {
            self.limits.may_try(peer)?;
            self.limits.failed(peer);
            return Err(Problem::unauthorized());
        };
        let hash = key.hash();
        match self.known.get(&hash) {
            Some(known) if known.asked_at.elapsed() < FRESH => return Ok(known),
            Some(_) => {}
            None => self.limits.may_try(peer)?,
        }
        let asked_at = Instant::now();
        if let Some((cell, caller)) = self.cells.caller(&key).await? {
            let prefix = key.prefix().to_owned();
            let known = Arc::new(Known { hash, cell, caller, prefix, asked_at });
            self.known.insert(hash, Arc::clone(&known));
            Ok(known)
        } else {
            self.known.remove(&hash);
            self.limits.failed(peer);
            Err(Problem::unauthorized())
        }
    }
}

impl FromRequestParts<Arc<Api>> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        // The scheme's name is case-insensitive (RFC 9110 11.1).
        let shown = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, key)| key.trim())
            .ok_or_else(Problem::unauthorized)?;
        let known = api.authenticator.authenticate(peer(parts), shown).await?;
        if let Some(seen) = parts.extensions.get::<Seen>() {
            seen.caller(&known.caller.tenant_name, &known.prefix);
        }
        api.limits.call(known.caller.key_id)?;
        Ok(Self(known))
    }
}

/// Where the request came from.
fn peer(parts: &Parts) -> IpAddr {
    parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(Ipv4Addr::UNSPECIFIED.into(), |info| info.0.ip())
}
