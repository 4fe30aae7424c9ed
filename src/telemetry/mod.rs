//! What an operator sees of a process: numbers, log lines, health.
//!
//! Features count and log through the `metrics` and `tracing` crates; this folder decides
//! what becomes of it, keeps the list of all metric names, serves the probes, and tells spans
//! to a receiver.

pub mod catalogue;
pub mod exemplars;
pub mod health;
pub mod manager;
pub mod metrics;
pub mod pages;
pub mod pool;
pub mod server;
pub mod traces;
pub mod tracing;
mod usage;
