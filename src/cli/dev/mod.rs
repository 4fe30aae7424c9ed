//! `postrider dev`: the whole of postrider on one machine, with nothing needed beforehand.

pub mod binaries;
pub mod cluster;
