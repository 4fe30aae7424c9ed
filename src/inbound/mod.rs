//! The listener for what comes back by mail: SMTP, and LMTP for those who put another server
//! in front.
//!
//! It takes mail for the addresses that postrider itself made, and for nothing else: return
//! paths and unsubscribing addresses whose HMAC is right, and the one address for complaints.
//! It relays nothing, answers no mail with a mail, and acknowledges only what is stored
//! ([`store`]); what a mail means is found out later (`maintenance/reports.rs`). [`session`] is
//! the dialogue without a socket, [`door`] says who is let in, [`server`] holds the limits, [`keeper`] shares
//! commits among connections.

pub mod door;
mod keeper;
pub mod limits;
pub mod server;
mod session;
pub mod store;
pub mod tls;
