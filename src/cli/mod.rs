//! The operator's commands, one file per noun.

mod console;
pub mod dev;
pub mod sink;
