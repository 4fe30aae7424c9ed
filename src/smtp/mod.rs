//! Carrier: one letter over one SMTP session.
//!
//! Read [`deliver`] first: it takes a letter and a plan, tries the plan's hops
//! in order and ends in a receipt or an outcome. What it promises:
//!
//! - A letter is sent to at most one peer that may have taken it: once the
//!   final dot is out, a lost reply is `Doubtful` and no other hop is tried.
//! - Nothing but [`command`] writes to the wire, and it cannot write CR or LF
//!   in a parameter nor a line of a lone dot in a body.
//! - Everything a peer sends is bounded (bytes, lines, time per phase) and free
//!   of control characters before it is shown to anyone.
//! - A reply is only ever what was read from the peer.
//!
//! - Nobody waits for another's letter: an envelope that goes out behind a body belongs to
//!   the letter that waited longest, and costs neither of them anything if it fails.
//!
//! [`reply`], [`capability`], [`command`], [`transaction`] and [`classify`] are
//! pure; [`egress`], [`open`], [`connection`], [`session`] and [`pool`] talk to the network.
//! Retry, pace and suppression are decided by others.

pub mod auth;
pub mod capability;
mod certificate;
pub mod classify;
pub mod command;
pub mod connection;
pub mod deliver;
pub mod egress;
pub mod host_memory;
mod line;
pub mod metrics;
pub mod open;
pub mod pool;
pub mod reply;
pub mod session;
pub mod slots;
pub mod stream;
pub mod tls;
pub mod transaction;
