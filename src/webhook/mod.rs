//! Events delivered to tenants' endpoints, as Standard Webhooks.
//!
//! An endpoint is a reader of its tenant's log (`event/`) with a cursor of its own. A
//! [courier] takes it for a turn, tells it what comes after the cursor, some requests
//! at once and the events of one delivery in order, and moves the cursor. So events are told at
//! least once, under the same ids, and an endpoint that is dead is one cursor that stands still:
//! what it misses costs nothing more than what is told to everybody else.
//!
//! Where an endpoint takes something, what it refuses goes to a list of its own and the cursor
//! goes on; where it takes nothing, the cursor stays and it is left alone for longer and longer,
//! and disabled in the end. Nothing here delays a mail: tasks, connections and limits are its own.

mod address;
mod arrange;
pub mod courier;
pub mod desk;
pub mod endpoint;
mod lease;
mod metrics;
mod outcome;
pub mod rewrap;
pub mod secret;
pub mod sender;
mod sign;
pub mod spec;
mod standing;
mod store;
mod trace;
mod trial;
mod turn;

pub use self::metrics::watch;
pub use self::spec::{Change, Spec};
pub use self::trial::Trial;
