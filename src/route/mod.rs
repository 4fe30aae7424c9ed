//! Where to, and how safely.
//!
//! The [`Planner`](planner::Planner) turns a recipient's domain into a
//! [`RoutePlan`](plan::RoutePlan): the hops to try, in order, and what is asked
//! of each. What the DNS says is believed for as long as it says so, within
//! bounds, and asked for once however many deliveries want it; what it does not
//! say is a [`Verdict`](crate::domain::verdict::Verdict), final only where no
//! later answer could help (no such domain, null MX). Where
//! a receiver publishes how it wants TLS (`dane`, `sts`), the plan says so. Nothing here opens
//! a connection to a mail host.

pub mod authentic;
mod cache;
pub mod choice;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod choice_tests;
pub mod collector;
pub mod dane;
mod dns;
pub mod health;
pub mod https;
pub mod mailbox_provider;
mod mx;
pub mod outside;
mod own;
mod part;
pub mod plan;
pub mod planner;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod planner_tests;
mod policies;
mod reachable;
mod relay;
mod source;
pub mod sts;
mod table;
pub mod tls_policy;
pub mod tls_result;
mod way;
