//! What is sent: from data to signed bytes. Pure, no I/O.

pub mod address;
pub mod letter;
