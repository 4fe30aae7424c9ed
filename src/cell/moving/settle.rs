//! Deliveries out of transit into the queue of the cell where the tenant lives, and its logins.

use super::{BATCH, Event, Move, MoveError, Told, say};
use crate::cell::Cell;
use crate::tenant::login;

impl Move {
    /// Batch by batch; each is one statement, so a delivery is in transit or in the queue.
    pub(super) async fn settle_in(&self, cell: &Cell, told: Told<'_>) -> Result<(), MoveError> {
        loop {
            let settled: i64 = sqlx::query_scalar(include_str!("../sql/settle_in.sql"))
                .bind(self.tenant.get())
                .bind(BATCH)
                .fetch_one(&cell.pool)
                .await?;
            if settled == 0 {
                return Ok(());
            }
            say(told, &Event::Settled(settled))?;
        }
    }

    /// Database logins act for the tenant in the new cell, and no longer in the old one.
    pub(super) async fn take_logins(&self, told: Told<'_>) -> Result<(), MoveError> {
        let logins = login::carry_over(&self.from.pool, &self.to.pool, self.tenant).await?;
        if logins > 0 {
            say(told, &Event::Logins(logins))?;
        }
        Ok(())
    }
}
