//! Moving a tenant from one cell to another, with everything it has.
//!
//! ```text
//!  old cell   here ──► leaving ────────────────────► left ───────────► gone
//!                        │ freeze: deliveries wait    ▲                ▲
//!                        │ in transit, none leased    │ the step that  │ remove
//!                        ▼                            │ counts         │
//!  new cell            arriving ── copy, compare ─────┘ ──► here ── settle in
//! ```
//!
//! Promises: a delivery can be claimed in at most one cell at any moment; before the tenant
//! has left nothing is deleted, after it nothing is claimed in the old cell. The state of the
//! move is in the two databases and nowhere else, and every step may be repeated, so a move
//! whose process was killed anywhere is finished by starting it again, and one that has not
//! reached `left` is undone by moving the tenant to where it is. Meanwhile submissions are
//! refused for now (the triggers of the schema see to it) and what is in hand is finished.
//!
//! `pool`s act as the operator's role; only the databases' clocks are asked.

mod copy;
mod error;
mod freeze;
mod lanes;
mod plan;
mod remove;
mod report;
mod settle;
mod tables;

use std::ops::ControlFlow;
use std::time::Duration;

use serde_json::json;
use sqlx::PgPool;

use super::{Cell, directory};
use crate::domain::ids::{CellNumber, TenantId};
use crate::queue::admin::action::{self, Action};

pub use self::error::MoveError;
pub use self::plan::{Plan, plan};
pub use self::report::{Event, Holdings};
pub use self::tables::CARRIED;

/// Rows one statement moves.
pub(super) const BATCH: i64 = 2_000;

/// Longer than the API believes what it knows of a key.
const GRACE: Duration = Duration::from_secs(5);

/// Hears how a move gets on; `Break` stops it before its next step, to be finished later.
pub type Told<'t> = &'t mut dyn FnMut(&Event) -> ControlFlow<()>;

/// One move of one tenant. Made by [`plan()`].
#[derive(Debug, Clone)]
pub struct Move {
    /// Its number, the same in both cells.
    pub tenant: TenantId,
    /// Its name.
    pub name: String,
    /// Where its rows come from.
    pub from: Cell,
    /// Where they go.
    pub to: Cell,
    /// Connections to the home cell, for the directory.
    pub home: PgPool,
    /// Who moves it, for the record.
    pub actor: String,
    /// Longest wait for what is in hand, and for transactions that began before.
    pub patience: Duration,
    /// Time between leaving and removal: for as long an answer about the tenant's keys may be
    /// believed elsewhere, so that nobody is told "there is no such message" meanwhile.
    pub grace: Duration,
}

/// How far a move has come, as the old cell has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Here,
    Leaving,
    Left,
    Gone,
}

impl Move {
    /// Moves, or finishes a move that was begun.
    pub async fn run(&self, told: Told<'_>) -> Result<(), MoveError> {
        if matches!(self.stage().await?, Stage::Here | Stage::Leaving) {
            self.check().await?;
            self.leave(told).await?;
            self.freeze(told).await?;
            self.copy(told).await?;
            self.compare(told).await?;
            self.leave_for_good(told).await?;
        }
        self.arrive(told).await?;
        self.settle_in(&self.to, told).await?;
        if self.stage().await? == Stage::Left {
            self.take_logins(told).await?;
            tokio::time::sleep(self.grace).await;
            self.remove(&self.from, &self.to, told).await?;
        }
        say(told, &Event::Done)
    }

    /// Keeps the tenant where it is: what had been taken out of its queue goes back, what was
    /// copied is removed. Only before it has left.
    pub async fn undo(&self, told: Told<'_>) -> Result<(), MoveError> {
        let stays =
            self.step(&self.from, &self.to, "tenant stay", include_str!("../sql/stay.sql")).await?;
        if !stays && self.stage().await? != Stage::Here {
            return Err(MoveError::Left {
                tenant: self.name.clone(),
                cell: self.to.name.to_string(),
            });
        }
        say(told, &Event::Stays)?;
        self.settle_in(&self.from, told).await?;
        self.remove(&self.to, &self.from, told).await?;
        say(told, &Event::Done)
    }

    async fn leave(&self, told: Told<'_>) -> Result<(), MoveError> {
        self.step(&self.from, &self.to, "tenant move", include_str!("../sql/leave.sql")).await?;
        say(told, &Event::Leaving)
    }

    /// From here on the old cell has no part in it; a second mover finds nothing to do.
    async fn leave_for_good(&self, told: Told<'_>) -> Result<(), MoveError> {
        let statement = include_str!("../sql/leave_for_good.sql");
        let left = self.step(&self.from, &self.to, "tenant left", statement).await?;
        if !left && !matches!(self.stage().await?, Stage::Left | Stage::Gone) {
            return Err(MoveError::Undone { tenant: self.name.clone() });
        }
        say(told, &Event::Left)
    }

    async fn arrive(&self, told: Told<'_>) -> Result<(), MoveError> {
        let statement = include_str!("../sql/arrive.sql");
        self.step(&self.to, &self.from, "tenant arrived", statement).await?;
        directory::put(&self.home, &self.name, self.to.number).await?;
        say(told, &Event::Arrived)
    }

    async fn stage(&self) -> Result<Stage, MoveError> {
        let residence: Option<String> =
            sqlx::query_scalar("select residence from postrider.tenant where tenant_id = $1")
                .bind(self.tenant.get())
                .fetch_optional(&self.from.pool)
                .await?;
        match residence.as_deref() {
            Some("here") => Ok(Stage::Here),
            Some("leaving") => Ok(Stage::Leaving),
            Some("left") => Ok(Stage::Left),
            Some("gone") => Ok(Stage::Gone),
            _ => Err(MoveError::NoTenant { tenant: self.name.clone() }),
        }
    }

    /// One statement that changes the tenant's residence in `cell`, and its record, in one
    /// transaction. Whether it changed anything.
    async fn step(
        &self,
        cell: &Cell,
        other: &Cell,
        action: &'static str,
        statement: &'static str,
    ) -> Result<bool, MoveError> {
        let (pool, tenant, other_number) = (cell.pool.clone(), self.tenant, other.number);
        let (actor, target) = (self.actor.clone(), format!("tenant {}", self.name));
        let detail = json!({ "from": &*self.from.name, "to": &*self.to.name });
        // In a task of its own: a caller that goes away leaves no open transaction (docs/adr/0005).
        let step = tokio::spawn(async move {
            let mut tx = pool.begin().await?;
            let changed: i64 = sqlx::query_scalar(statement)
                .bind(tenant.get())
                .bind(number(other_number))
                .fetch_one(&mut *tx)
                .await?;
            if changed > 0 {
                let action =
                    Action { actor: &actor, action, target: &target, reason: None, detail };
                action::record(&mut tx, &action).await?;
            }
            tx.commit().await?;
            Ok::<_, sqlx::Error>(changed > 0)
        });
        Ok(step.await.map_err(|error| sqlx::Error::Protocol(error.to_string()))??)
    }
}

/// The number as the database has it.
fn number(cell: CellNumber) -> i16 {
    i16::from(cell.get())
}

/// Tells, and stops where the listener wants it.
fn say(told: Told<'_>, event: &Event) -> Result<(), MoveError> {
    match told(event) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(MoveError::Stopped),
    }
}
