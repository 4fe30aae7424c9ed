//! Where to, and how safely.

pub mod plan;
