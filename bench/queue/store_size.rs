//! What the store weighs: sizes of the tables whose rows come and go, dead rows, log written.

use sqlx::PgConnection;

/// The store at one time.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct StoreSize {
    /// Bytes of the hot tables (rows come and go), without their indexes.
    pub(crate) hot_tables: f64,
    /// Bytes of their indexes.
    pub(crate) hot_indexes: f64,
    /// Dead rows in them.
    pub(crate) dead: f64,
    /// Bytes of what is appended and dropped by the day: messages, jobs, attempts.
    pub(crate) kept: f64,
    /// Bytes of log written so far.
    pub(crate) wal: f64,
}

impl StoreSize {
    /// Asks the database.
    pub(crate) async fn read(database: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let (hot_tables, hot_indexes, dead, kept, wal): (f64, f64, f64, f64, f64) =
            sqlx::query_as(include_str!("store_size.sql")).fetch_one(database).await?;
        Ok(Self { hot_tables, hot_indexes, dead, kept, wal })
    }
}
