//! The HTTP companion: submit, look up, call back.
//!
//! A 202 is sent after the commit and never before it. Everything a caller sends
//! is bounded and checked here; what is stored is legal. Nothing here knows how
//! mail is delivered.

mod access;
mod auth;
mod body;
mod error;
mod health;
mod limit;
mod lines;
mod lookup;
mod message;
mod recipient;
mod recipients;
mod router;
mod serve;
mod submission;
mod unsubscribe;

use std::sync::Arc;

use sqlx::PgPool;

use self::auth::Authenticator;
use self::body::Budget;
use self::health::Readiness;
use self::limit::Limits;
use crate::config;
use crate::queue::enqueue::Enqueue;
use crate::queue::lookup::Lookup;
use crate::queue::wake::Waker;

pub use self::access::describe_metrics;
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
}
