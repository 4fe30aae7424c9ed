//! Tenant health: how receivers take the mail of a tenant's streams, and what follows from it.
//!
//! ```text
//!  settlements, reports ──► health_tally ──(roll_up)──► health_bucket ──(figures)──► judge ──► warn, stop
//!   one row per statement     insert only                by minute, hour              pure       set-wise
//! ```
//!
//! Counted are mails by the time they were sent: those that a receiver took or refused for good,
//! recipients that are lost (hard bounces, at once or by a report), refusals for other
//! reasons, and complaints. Only hard bounces and complaints are judged: a block or a full
//! mailbox says nothing about the tenant's list. docs/health.md, docs/adr/0032.

pub mod figures;
pub mod judge;
pub mod standing;
pub mod store;
