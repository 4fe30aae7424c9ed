//! The HTTP companion: submit, look up, call back.
//!
//! A 202 is sent after the commit and never before it. Everything a caller sends
//! is bounded and checked here; what is stored is legal. Nothing here knows how
//! mail is delivered.

pub mod access;
pub mod auth;
pub mod body;
pub mod error;
pub mod health;
pub mod limit;
pub mod lines;
pub mod lookup;
pub mod message;
pub mod recipient;
pub mod recipients;
pub mod router;
pub mod serve;
pub mod submission;
pub mod unsubscribe;

use std::sync::Arc;

use sqlx::PgPool;

use self::auth::Authenticator;
use self::body::Budget;
use self::health::Readiness;
use self::limit::Limits;
use crate::bounce::suppression::Suppressions;
use crate::config::{self, Settings};
use crate::domain::clock::Clock;
use crate::message::unsubscribe::Key as UnsubscribeKey;
use crate::queue::enqueue::Enqueue;
use crate::queue::lookup::Lookup;
use crate::queue::wake::Waker;

pub use self::router::router;
pub use self::serve::serve;

/// What all requests share.
#[derive(Debug)]
pub struct Api {
    settings: config::Api,
    authenticator: Authenticator,
    limits: Arc<Limits>,
    budget: Budget,
    enqueue: Enqueue,
    lookup: Lookup,
    readiness: Readiness,
    waker: Waker,
    suppressions: Suppressions,
    unsubscribe: Option<UnsubscribeKey>,
    clock: Clock,
}

impl Api {
    /// An API on a database pool that acts as the API's role. Call it inside the
    /// runtime: tasks of its own sweep the limits and wake the daemons.
    ///
    /// # Errors
    ///
    /// When the installation's key is not one: unsubscribe links cannot be trusted then.
    pub fn start(settings: &Settings, pool: PgPool) -> Arc<Self> {
        let limits = Arc::new(Limits::new(&settings.api));
        limits.sweep_in_background();
        Arc::new(Self {
            authenticator: Authenticator::new(pool.clone(), Arc::clone(&limits)),
            limits,
            budget: Budget::new(settings.api.max_body_bytes),
            enqueue: Enqueue::new(pool.clone()),
            lookup: Lookup::new(pool.clone()),
            readiness: Readiness::new(pool.clone()),
            waker: Waker::spawn(pool.clone()),
            suppressions: Suppressions::new(pool),
            unsubscribe: None,
            clock: Clock::System,
            settings: settings.api.clone(),
        })
    }
}
