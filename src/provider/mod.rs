//! Carrier: one letter through an HTTP service that sends for us.
//!
//! Read [`deliver`] first: it takes a letter and a plan whose route leads to a provider, makes
//! the one request that submits it, and ends in a receipt or an outcome. What it promises:
//!
//! - One request for each attempt; nothing is repeated here. Once the whole request may have
//!   left, a lost answer, a timeout and an answer of 5xx are `Doubtful`.
//! - What a provider cannot carry is refused before anything is sent, and said; nothing is
//!   left out in silence.
//! - Every answer is bounded in bytes and time, and free of control characters before it is
//!   shown to anyone. A success is what its status says, whatever follows.
//! - A trouble of the account (login, allowance, pace) blames the route and never a recipient.
//! - Keys are in no log, error or metric, and travel under TLS but for this machine.
//!
//! [`classify`], [`sigv4`], [`sendgrid`] and [`mailgun`] are pure; [`http`], [`link`] and
//! [`aws`] talk to the network. Retry, pace, fail-over and suppression are decided by others.

mod aws;
mod classify;
pub mod deliver;
mod http;
mod link;
mod mailgun;
mod metrics;
mod outgoing;
mod parts;
mod sendgrid;
mod ses;
pub mod sigv4;
