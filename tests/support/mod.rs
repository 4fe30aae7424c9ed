//! What the behaviour tests share.

#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![allow(unreachable_pub, reason = "a module of a test binary has no outside")]

pub mod letters;
pub mod smtp_peer;
