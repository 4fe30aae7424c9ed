//! The job's life in Postgres.

pub mod admin;
pub mod migrate;
