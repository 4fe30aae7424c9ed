//! Where to, and how safely.
//!
//! The [`Planner`](planner::Planner) turns a recipient's domain into a
//! [`RoutePlan`](plan::RoutePlan): the hops to try, in order, and what is asked
//! of each. What the DNS says is believed for as long as it says so, within
//! bounds, and asked for once however many deliveries want it; what it does not
//! say is a [`Verdict`](crate::domain::verdict::Verdict), final only where no
//! later answer could help (no such domain, null MX). Nothing here opens a
//! connection to a mail host.

mod cache;
pub mod choice;
mod dns;
pub mod health;
pub mod mailbox_provider;
mod mx;
mod own;
pub mod plan;
pub mod planner;
mod reachable;
mod relay;
mod source;
mod tls_policy;
mod way;
