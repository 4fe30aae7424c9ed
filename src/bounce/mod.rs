//! What comes back, and what follows from it.

pub mod suppression;
