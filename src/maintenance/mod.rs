//! What must happen now and then so that every delivery comes to its end.
//!
//! Two kinds of work: *steady* steps that any number of processes may take at once
//! (each takes different rows), and *ticks* that must run exactly once per cluster
//! (the row in `cron_fire` is the right to run). Each step is bounded, so that a
//! backlog after an outage is worked off in paces and not in one statement.

pub mod alarm;
mod apply;
mod callback;
mod effect;
pub mod gauges;
pub mod health;
pub mod reports;
pub mod scale;
pub mod steady;
pub mod ticks;
pub mod tls_report;
