//! What a tenant is told of its mail.
//!
//! The log of events is written by the schema, in the transaction that made the event true
//! (`migrations/0017_events.sql`): settling, expiry, cancellation, rescue and suppression
//! need not know of it. Here it is read: from a [`Cursor`](cursor::Cursor) on, in the order
//! of the transactions, up to the oldest one that still runs, so that nothing that commits
//! late is passed over. Readers keep their own place and cost the writers nothing.

pub mod cursor;
pub mod days;
pub mod kind;
pub mod log;
pub mod payload;
pub mod switch;
pub mod track;
