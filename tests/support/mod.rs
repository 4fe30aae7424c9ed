//! What the behaviour tests share.

#![allow(
    unreachable_pub,
    clippy::disallowed_methods,
    reason = "other files use it all; cargo says by variables where it builds"
)]

pub mod accounts;
pub mod api;
pub mod authority;
pub mod bouncing;
pub mod builders;
pub mod callbacks;
pub mod cells;
pub mod certificate;
pub mod command;
pub mod companion;
pub mod dashboards;
pub mod hook;
pub mod http2_peer;
pub mod http_peer;
pub mod installation;
pub mod letters;
pub mod listening;
pub mod name_server;
pub mod odd_mails;
pub mod otlp;
pub mod policy_host;
pub mod ports;
pub mod postgres;
pub mod prometheus;
pub mod providers;
pub mod quota;
pub mod receivers;
pub mod shell;
pub mod signed_dns;
pub mod smtp_peer;
pub mod sns;
pub mod sns_version_1;
pub mod strict_peer;
pub mod verifiers;
