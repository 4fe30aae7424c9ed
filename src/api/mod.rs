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
pub mod stream;
pub mod submission;
pub mod timekeeper;
pub mod unsubscribe;
pub mod why;

use std::sync::Arc;

use sqlx::PgPool;
use tokio::sync::watch;

use self::auth::Authenticator;
use self::body::Budget;
use self::health::Readiness;
use self::limit::Limits;
use self::submission::Terms;
use crate::config::Settings;
use crate::domain::clock::Clock;
use crate::message::unsubscribe::TokenKey;
use crate::queue::enqueue::Enqueue;
use crate::queue::lookup::Lookup;
use crate::queue::wake::Waker;

pub use self::router::router;
pub use self::serve::serve;

/// What all requests share.
#[derive(Debug)]
pub struct Api {
    settings: watch::Receiver<Arc<Settings>>,
    pool: PgPool,
    authenticator: Authenticator,
    limits: Arc<Limits>,
    budget: Budget,
    enqueue: Enqueue,
    lookup: Lookup,
    readiness: Readiness,
    waker: Waker,
    unsubscribe: Option<TokenKey>,
    clock: Clock,
}

impl Api {
    /// An API on a database pool that acts as the API's role. Call it inside the
    /// runtime: tasks of its own sweep the limits and wake the daemons.
    pub fn start(
        settings: watch::Receiver<Arc<Settings>>,
        pool: PgPool,
        clock: Clock,
    ) -> Arc<Self> {
        let now = Arc::clone(&settings.borrow());
        let limits = Arc::new(Limits::new(&now.api));
        limits.sweep_in_background();
        let key = now.secrets.key_bytes();
        Arc::new(Self {
            settings,
            authenticator: Authenticator::new(pool.clone(), Arc::clone(&limits)),
            limits,
            budget: Budget::new(now.api.max_body_bytes),
            enqueue: Enqueue::new(pool.clone()),
            lookup: Lookup::new(pool.clone()),
            readiness: Readiness::new(pool.clone()),
            waker: Waker::spawn(pool.clone()),
            unsubscribe: key.map(|key| TokenKey::derive(&key)),
            pool,
            clock,
        })
    }

    /// What a submission is held against now.
    fn terms(&self) -> Terms {
        Terms { settings: Arc::clone(&self.settings.borrow()), now: self.clock.now().into() }
    }
}
