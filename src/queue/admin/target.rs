//! What an operator's verb is about, by the names an operator knows.

use sqlx::PgConnection;

use crate::config::Settings;
use crate::domain::ids::{LaneId, PoolId, StreamId};
use crate::queue::selector::Selector;
use crate::tenant::isolation::TenantScope;

/// Lanes by name. All that is named must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Of this tenant.
    pub tenant: Option<TenantScope>,
    /// Of this stream of the tenant.
    pub stream: Option<String>,
    /// To this mailbox provider.
    pub mailbox_provider: Option<String>,
    /// That leave by this route.
    pub route: Option<String>,
    /// This one.
    pub lane: Option<i32>,
}

/// Why nothing is meant.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The tenant has no such stream.
    #[error("the tenant has no stream {name:?}{}", said(.known))]
    NoStream {
        /// What was given.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No such mailbox provider.
    #[error("there is no mailbox provider {name:?}{}", said(.known))]
    NoMailboxProvider {
        /// What was given.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The configuration has no such route.
    #[error("the configuration has no [[route]] {name:?}{}", said(.known))]
    NoRoute {
        /// What was given.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No such lane.
    #[error("there is no lane {lane}: see `postrider queue status`")]
    NoLane {
        /// What was given.
        lane: i32,
    },
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl Target {
    /// The numbers of all that is named. `conn` acts as the operator, or as the API in the
    /// tenant's scope.
    pub async fn selector(&self, conn: &mut PgConnection) -> Result<Selector, TargetError> {
        let mut selector = Selector {
            tenant: self.tenant.map(TenantScope::tenant),
            route: self.route.as_deref().map(Into::into),
            ..Selector::default()
        };
        if let (Some(tenant), Some(name)) = (selector.tenant, &self.stream) {
            let streams: Vec<(String, i32)> = sqlx::query_as(
                "select name, stream_id from postrider.stream where tenant_id = $1 order by 1",
            )
            .bind(tenant.get())
            .fetch_all(&mut *conn)
            .await?;
            let id = find(streams, name)
                .map_err(|known| TargetError::NoStream { name: name.clone(), known })?;
            selector.stream = Some(StreamId::new(id));
        }
        if let Some(name) = &self.mailbox_provider {
            let pools: Vec<(String, i16)> =
                sqlx::query_as("select name, pool_id from postrider.pool order by 1")
                    .fetch_all(&mut *conn)
                    .await?;
            let id = find(pools, name)
                .map_err(|known| TargetError::NoMailboxProvider { name: name.clone(), known })?;
            selector.pool = Some(PoolId::new(id));
        }
        if let Some(lane) = self.lane {
            let known: bool = sqlx::query_scalar(
                "select exists (select 1 from postrider.lane where lane_id = $1)",
            )
            .bind(lane)
            .fetch_one(conn)
            .await?;
            if !known {
                return Err(TargetError::NoLane { lane });
            }
            selector.lane = Some(LaneId::new(lane));
        }
        Ok(selector)
    }
}

/// Whether the configuration has a route of this name.
pub fn known_route(settings: &Settings, name: &str) -> Result<(), TargetError> {
    if settings.routes.iter().any(|route| route.name == name) {
        return Ok(());
    }
    let known = settings.routes.iter().map(|route| route.name.clone()).collect();
    Err(TargetError::NoRoute { name: name.to_owned(), known })
}

fn find<T: Copy>(there: Vec<(String, T)>, name: &str) -> Result<T, Vec<String>> {
    match there.iter().find(|(known, _)| known == name) {
        Some((_, id)) => Ok(*id),
        None => Err(there.into_iter().map(|(known, _)| known).collect()),
    }
}

fn said(names: &[String]) -> String {
    if names.is_empty() {
        ": it has none yet".into()
    } else {
        format!(": known are {}", names.join(", "))
    }
}
