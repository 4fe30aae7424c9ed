//! Lanes, streams and pools have numbers of their own in each cell; by name they are the same.

use std::collections::HashMap;

use serde_json::value::RawValue;
use sqlx::{FromRow, PgPool};

use super::MoveError;
use crate::domain::ids::TenantId;

#[derive(Debug, FromRow)]
#[allow(clippy::struct_field_names, reason = "the names are the columns'")]
struct Lane {
    lane_id: i32,
    pool: String,
    prio: i16,
    stream_id: i32,
    stream: String,
}

/// From the old cell's numbers to the new one's.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    lanes: HashMap<i32, i32>,
    streams: HashMap<i32, i32>,
}

/// The lanes of a tenant.
pub(super) async fn ids(pool: &PgPool, tenant: TenantId) -> Result<Vec<i32>, sqlx::Error> {
    sqlx::query_scalar("select lane_id from postrider.lane where tenant_id = $1")
        .bind(tenant.get())
        .fetch_all(pool)
        .await
}

/// Makes in `to` what the tenant has in `from`, and says which number became which.
pub(super) async fn make(
    from: &PgPool,
    to: &PgPool,
    tenant: TenantId,
) -> Result<Numbers, sqlx::Error> {
    let (lanes, streams) = (lanes(from, tenant).await?, streams(from, tenant).await?);
    make_pools(to, lanes.iter().map(|lane| lane.pool.clone()).collect()).await?;
    sqlx::query(
        "insert into postrider.stream(tenant_id, name) select $1, n from unnest($2::text[]) n
         where not exists (select 1 from postrider.stream s where s.tenant_id = $1 and s.name = n)
         on conflict do nothing",
    )
    .bind(tenant.get())
    .bind(streams.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>())
    .execute(to)
    .await?;
    sqlx::query(include_str!("../sql/make_lanes.sql"))
        .bind(tenant.get())
        .bind(lanes.iter().map(|lane| lane.pool.clone()).collect::<Vec<_>>())
        .bind(lanes.iter().map(|lane| lane.prio).collect::<Vec<_>>())
        .bind(lanes.iter().map(|lane| lane.stream.clone()).collect::<Vec<_>>())
        .execute(to)
        .await?;

    let mut numbers = Numbers::default();
    let made = self::lanes(to, tenant).await?;
    for old in lanes {
        let same = made
            .iter()
            .find(|new| (&new.pool, new.prio, &new.stream) == (&old.pool, old.prio, &old.stream));
        if let Some(new) = same {
            numbers.lanes.insert(old.lane_id, new.lane_id);
            numbers.streams.insert(old.stream_id, new.stream_id);
        }
    }
    let made: HashMap<String, i32> =
        self::streams(to, tenant).await?.into_iter().map(|(id, name)| (name, id)).collect();
    for (old, name) in streams {
        if let Some(new) = made.get(&name) {
            numbers.streams.insert(old, *new);
        }
    }
    Ok(numbers)
}

/// The number of a pool, which is made if there is none of that name.
pub(super) async fn pool(to: &PgPool, name: &str) -> Result<i16, sqlx::Error> {
    make_pools(to, vec![name.to_owned()]).await?;
    sqlx::query_scalar("select pool_id from postrider.pool where name = $1")
        .bind(name)
        .fetch_one(to)
        .await
}

async fn make_pools(to: &PgPool, names: Vec<String>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into postrider.pool(name) select distinct n from unnest($1::text[]) n
         where not exists (select 1 from postrider.pool p where p.name = n) on conflict do nothing",
    )
    .bind(names)
    .execute(to)
    .await
    .map(drop)
}

async fn lanes(pool: &PgPool, tenant: TenantId) -> Result<Vec<Lane>, sqlx::Error> {
    sqlx::query_as(include_str!("../sql/lanes_of.sql")).bind(tenant.get()).fetch_all(pool).await
}

async fn streams(pool: &PgPool, tenant: TenantId) -> Result<Vec<(i32, String)>, sqlx::Error> {
    sqlx::query_as("select stream_id, name from postrider.stream where tenant_id = $1")
        .bind(tenant.get())
        .fetch_all(pool)
        .await
}

impl Numbers {
    /// The new number of a lane.
    pub(super) fn lane(&self, old: i64) -> Option<i32> {
        self.lanes.get(&i32::try_from(old).ok()?).copied()
    }

    /// The new number of a stream.
    pub(super) fn stream(&self, old: i64) -> Option<i32> {
        self.streams.get(&i32::try_from(old).ok()?).copied()
    }

    /// The key of a scope (letters and numbers in one order) as the new cell numbers it, with
    /// the pool's number there; none where something is unknown there.
    pub(super) fn scope_key(&self, scope: &str, key: &str, pool: Option<i16>) -> Option<String> {
        let parts: Option<Vec<String>> = scope
            .chars()
            .zip(key.splitn(scope.len(), '/'))
            .map(|(letter, part)| match letter {
                'S' => Some(self.stream(part.parse().ok()?)?.to_string()),
                'L' => Some(self.lane(part.parse().ok()?)?.to_string()),
                'P' => pool.map(|pool| pool.to_string()),
                _ => Some(part.to_owned()),
            })
            .collect();
        Some(parts?.join("/"))
    }

    /// A row as JSON with its lane and stream as the new cell numbers them. All else stays as
    /// it is written, byte for byte.
    pub(super) fn translate(&self, line: &str) -> Result<String, MoveError> {
        let mut row: std::collections::BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(line)?;
        for (field, lookup) in
            [("lane_id", Self::lane as fn(&Self, i64) -> Option<i32>), ("stream_id", Self::stream)]
        {
            let Some(value) = row.get_mut(field) else { continue };
            let old: i64 = serde_json::from_str(value.get())?;
            let new = lookup(self, old).ok_or_else(|| {
                MoveError::Row(format!("{field} {old} is unknown in the new cell"))
            })?;
            *value = RawValue::from_string(new.to_string())?;
        }
        // What is on the move is a row within a row.
        if let Some(held) = row.get_mut("held") {
            let inner = self.translate(held.get())?;
            *held = RawValue::from_string(inner)?;
        }
        Ok(serde_json::to_string(&row)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_keeps_its_meaning() {
        let numbers =
            Numbers { lanes: HashMap::from([(7, 70)]), streams: HashMap::from([(3, 30)]) };
        let key = |scope, key, pool| numbers.scope_key(scope, key, pool);
        assert_eq!(key("T", "5", None).as_deref(), Some("5"));
        assert_eq!(key("TSPR", "5/3/2/smart/host", Some(9)).as_deref(), Some("5/30/9/smart/host"));
        assert_eq!(key("L", "7", None).as_deref(), Some("70"));
        assert_eq!(key("TS", "5/4", None), None, "a stream that is not there");
        assert_eq!(key("TP", "5/2", None), None, "a pool without a name");
    }

    #[test]
    fn only_the_numbers_change() {
        let numbers =
            Numbers { lanes: HashMap::from([(7, 70)]), streams: HashMap::from([(3, 30)]) };
        let line = r#"{"content":{"b":1.50, "a":"ü", "b":2},"lane_id":7,"stream_id":3}"#;
        assert_eq!(
            numbers.translate(line).expect("known"),
            r#"{"content":{"b":1.50, "a":"ü", "b":2},"lane_id":70,"stream_id":30}"#
        );
        let held = r#"{"held":{"lane_id": 7},"job_id":1}"#;
        assert_eq!(
            numbers.translate(held).expect("known"),
            r#"{"held":{"lane_id":70},"job_id":1}"#
        );
        assert!(numbers.translate(r#"{"lane_id":8}"#).is_err());
    }
}
