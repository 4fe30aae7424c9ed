//! What the behaviour tests share.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    reason = "each test binary uses a part of it; cargo says by variables where it builds"
)]

pub mod api;
pub mod builders;
pub mod callbacks;
pub mod cells;
pub mod certificate;
pub mod command;
pub mod companion;
pub mod dashboards;
pub mod hook;
pub mod http_peer;
pub mod installation;
pub mod letters;
pub mod listening;
pub mod otlp;
pub mod ports;
pub mod postgres;
pub mod prometheus;
pub mod providers;
pub mod quota;
pub mod smtp_peer;
pub mod strict_peer;
