//! What the behaviour tests share.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

pub mod api;
pub mod builders;
pub mod installation;
pub mod postgres;
