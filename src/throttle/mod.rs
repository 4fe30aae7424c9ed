//! How fast, for whom.
//!
//! A delivery leaves only with a [`Permit`](gate::Permit). A
//! [`Gate`](gate::Gate) hands permits out for one [`Plan`](key::Plan) (tenant,
//! mailbox provider, source, route) when every limit that applies has room;
//! the [`Limiter`](limiter::Limiter) holds the limits and makes the gates.
//!
//! Promises: over any span of time a key is granted at most
//! `rate x span + burst` permits, however many gates and processes share it
//! (docs/throttling.md has the arithmetic); a reload changes the numbers at once and keeps the counts; a permit that goes unused costs
//! nothing. A limited taker is never refused for good: it is told when, or
//! after what, to ask again. What receivers answer can make a key slower than
//! configured, never faster ([`pacing`], [`sharing`], [`law`]), and a host that does
//! not answer is left alone ([`breaker`]).

mod account;
pub mod breaker;
#[cfg(test)]
mod breaker_tests;
pub mod bucket;
pub mod deal;
pub mod exchange;
pub mod gate;
pub mod key;
pub mod law;
#[cfg(test)]
mod law_tests;
pub mod limiter;
pub mod metrics;
mod offset;
pub mod overrides;
pub mod pace;
pub mod pacing;
pub mod rules;
mod seat;
pub mod sharing;
pub mod slots;
pub mod state;
mod stock;
mod terms;
pub mod warm_up;
