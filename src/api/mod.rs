//! The HTTP companion: submit, look up, call back.
//!
//! A 202 is sent after the commit and never before it. Everything a caller sends
//! is bounded and checked here; what is stored is legal. Nothing here knows how
//! mail is delivered.

pub mod access;
mod agent;
pub mod auth;
pub mod body;
pub mod callbacks;
pub mod cells;
pub mod error;
pub mod events;
pub mod health;
pub mod limit;
pub mod lines;
pub mod lookup;
pub mod message;
pub mod openapi;
mod page;
pub mod recipient;
pub mod recipients;
pub mod router;
mod seats;
pub mod serve;
pub mod stream;
pub mod submission;
pub mod suppression_body;
pub mod suppression_file;
pub mod suppressions;
mod tenant_health;
pub mod timekeeper;
pub mod trace;
pub mod tracking;
pub mod unsubscribe;
pub mod webhook_body;
pub mod webhooks;
pub mod why;

use std::sync::Arc;

use sqlx::PgPool;
use tokio::sync::watch;

use self::auth::Authenticator;
use self::body::Budget;
use self::callbacks::Desk;
use self::cells::{ApiCell, Cells};
use self::limit::Limits;
use self::submission::Terms;
use self::tracking::Tracker;
use self::webhooks::Hooks;
use crate::cell::Cell;
use crate::config::Settings;
use crate::domain::clock::Clock;
use crate::message::unsubscribe::TokenKey;
use crate::tenant::suppression::Keeper;

pub use self::router::router;
pub use self::serve::serve;

/// What all requests share.
#[derive(Debug)]
pub struct Api {
    settings: watch::Receiver<Arc<Settings>>,
    cells: Arc<Cells>,
    authenticator: Authenticator,
    limits: Arc<Limits>,
    budget: Budget,
    unsubscribe: Option<TokenKey>,
    tracker: Option<Arc<Tracker>>,
    hooks: Option<Hooks>,
    callbacks: Option<Desk>,
    clock: Clock,
}

impl Api {
    /// An API on the home cell alone: see [`over`](Self::over).
    pub fn start(
        settings: watch::Receiver<Arc<Settings>>,
        pool: PgPool,
        clock: Clock,
    ) -> Arc<Self> {
        let home = Cell::new(&settings.borrow().database, pool);
        Self::over(settings, &[home], clock)
    }

    /// An API over cells whose pools act as the API's role, the home cell first. Call it inside
    /// the runtime: tasks of its own sweep the limits and wake the daemons.
    pub fn over(
        settings: watch::Receiver<Arc<Settings>>,
        cells: &[Cell],
        clock: Clock,
    ) -> Arc<Self> {
        let now = Arc::clone(&settings.borrow());
        let keeper = Keeper::new(&now.suppression);
        let cells =
            Arc::new(Cells::new(cells.iter().map(|cell| ApiCell::new(cell, &keeper)).collect()));
        let limits = Arc::new(Limits::new(&now.api));
        limits.sweep_in_background();
        Arc::new(Self {
            settings,
            authenticator: Authenticator::new(Arc::clone(&cells), Arc::clone(&limits)),
            tracker: Tracker::new(&now.secrets, Arc::clone(&cells)),
            cells,
            limits,
            budget: Budget::new(now.api.max_body_bytes),
            unsubscribe: TokenKey::of(&now.secrets),
            hooks: Hooks::new(&now),
            callbacks: Desk::new(&now.callbacks),
            clock,
        })
    }

    /// Waits until what was seen of tracked mail is told. Call it before the pools close.
    pub async fn finish(&self) {
        if let Some(tracker) = &self.tracker {
            tracker.finish().await;
        }
    }

    /// What a submission is held against now.
    fn terms(&self) -> Terms {
        Terms {
            settings: Arc::clone(&self.settings.borrow()),
            now: self.clock.now().into(),
            caller: None,
        }
    }
}
