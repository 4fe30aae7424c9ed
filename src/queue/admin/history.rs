//! A day's attempts, read page by page before they are dropped.
//!
//! Memory is that of one step, whatever the size of the day, and no snapshot is held
//! between the steps, so a long export keeps nothing from being cleaned.

use chrono::NaiveDate;
use sqlx::{PgPool, Row};

/// Pages of the table that one step reads: some ten thousand attempts.
const PAGES: i64 = 256;

/// The attempts of one day (UTC), in the order in which they were written.
#[derive(Debug)]
pub struct DayOfAttempts {
    day: NaiveDate,
    part: String,
    pages: i64,
    next: i64,
}

impl DayOfAttempts {
    /// Finds where they are. `pool` acts as the operator's role.
    pub async fn open(pool: &PgPool, day: NaiveDate) -> Result<Self, sqlx::Error> {
        let row =
            sqlx::query(include_str!("sql/history_place.sql")).bind(day).fetch_one(pool).await?;
        Ok(Self { day, part: row.try_get("part")?, pages: row.try_get("pages")?, next: 0 })
    }

    /// The next of them, one line of JSON each; `None` at the end. Lines may be none in
    /// between.
    pub async fn step(&mut self, pool: &PgPool) -> Result<Option<Vec<String>>, sqlx::Error> {
        if self.next >= self.pages {
            return Ok(None);
        }
        let until = self.next + PAGES;
        let lines = sqlx::query_scalar(include_str!("sql/history_page.sql"))
            .bind(self.day)
            .bind(&self.part)
            .bind(self.next)
            .bind(until)
            .fetch_all(pool)
            .await?;
        self.next = until;
        Ok(Some(lines))
    }
}
