//! What the behaviour tests share.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

pub mod builders;
pub mod command;
pub mod installation;
pub mod letters;
pub mod postgres;
pub mod smtp_peer;
