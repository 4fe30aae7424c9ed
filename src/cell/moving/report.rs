//! What a move tells of itself.

use std::fmt;

use serde::Serialize;
use sqlx::PgPool;

use super::lanes;
use super::tables::COUNTED;
use crate::domain::ids::TenantId;

/// How far a move is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Nothing new is accepted and claimed.
    Leaving,
    /// It waits for this.
    Waiting(String),
    /// So many deliveries were taken out of the queue.
    Taken(i64),
    /// Nothing of it is in the queue any more.
    Frozen,
    /// The tenant exists in the new cell, and nothing of it can be claimed there.
    Arriving,
    /// Rows of this table were copied.
    Copied(&'static str, usize),
    /// Both cells agree.
    Compared,
    /// The old cell gave it up for good.
    Left,
    /// It lives in the new cell.
    Arrived,
    /// So many deliveries are in the queue again.
    Settled(i64),
    /// Database logins that may submit for it from now on.
    Logins(usize),
    /// So many rows of this table were removed.
    Removed(&'static str, u64),
    /// The move was undone: it stays.
    Stays,
    /// There is nothing left to do.
    Done,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaving => f.write_str("held: nothing new is accepted and claimed"),
            Self::Waiting(what) => write!(f, "waits for {what}"),
            Self::Taken(n) => write!(f, "{n} deliveries taken out of the queue"),
            Self::Frozen => f.write_str("frozen: nothing of it is in the queue"),
            Self::Arriving => f.write_str("the new cell is prepared"),
            Self::Copied(table, n) => write!(f, "{n} rows of {table} copied"),
            Self::Compared => f.write_str("both cells agree"),
            Self::Left => f.write_str("left: the old cell has given it up"),
            Self::Arrived => f.write_str("arrived: the new cell accepts for it"),
            Self::Settled(n) => write!(f, "{n} deliveries back in the queue"),
            Self::Logins(n) => write!(f, "{n} database logins bound"),
            Self::Removed(table, n) => write!(f, "{n} rows of {table} removed"),
            Self::Stays => f.write_str("the tenant stays"),
            Self::Done => f.write_str("done"),
        }
    }
}

/// What a tenant has in its cell: what a move would copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holdings {
    /// Rows by table.
    pub rows: Vec<(&'static str, i64)>,
    /// Deliveries in ready, deferred and dead letters that would move.
    pub waiting: i64,
    /// Deliveries in hand that it would wait for.
    pub leased: i64,
}

impl Holdings {
    /// Counts; reads what the tenant has.
    pub(super) async fn count(pool: &PgPool, tenant: TenantId) -> Result<Self, sqlx::Error> {
        let mut rows = Vec::new();
        for table in COUNTED {
            rows.push((table.name, table.count(pool, tenant).await?));
        }
        let ids = lanes::ids(pool, tenant).await?;
        let (waiting, leased) = sqlx::query_as(
            "select (select count(*) from postrider.ready where lane_id = any ($2))
                  + (select count(*) from postrider.deferred where tenant_id = $1)
                  + (select count(*) from postrider.dead_letter where tenant_id = $1),
                    (select count(*) from postrider.lease where tenant_id = $1)",
        )
        .bind(tenant.get())
        .bind(ids)
        .fetch_one(pool)
        .await?;
        Ok(Self { rows, waiting, leased })
    }
}
