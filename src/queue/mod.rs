//! The job's life in Postgres.

pub mod enqueue;
pub mod lookup;
pub mod wake;
