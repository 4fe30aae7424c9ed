//! postrider: high-throughput email delivery for many tenants.
//!
//! The modules by shelf, from the bottom; imports go down only
//! (`tests/layers.rs` checks). To understand the program, start with
//! `worker::pipeline`.

pub mod domain;

pub mod config;

pub mod telemetry;

pub mod feedback;
pub mod message;
pub mod reply;
pub mod tenant;

pub mod event;
pub mod health;
pub mod queue;
pub mod route;
pub mod throttle;

pub mod callback;
pub mod cell;
pub mod inbound;
pub mod provider;
pub mod sink;
pub mod smtp;
pub mod webhook;

pub mod api;
pub mod cli;
pub mod maintenance;
pub mod worker;

pub mod boot;
