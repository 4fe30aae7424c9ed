//! The words that more than one feature speaks: ids, outcomes, verdicts, time.
//!
//! Bottom shelf: imports nothing of ours, and of others only the standard
//! library and serde. A type that a single feature uses belongs to that feature.

pub mod backoff;
pub mod bounce_class;
pub mod clock;
pub mod failpoint;
pub mod ids;
pub mod outcome;
pub mod receipt;
pub mod ruling;
pub mod trace;
pub mod verdict;
