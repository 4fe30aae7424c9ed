//! What is sent: from data to signed bytes. Pure, no I/O.
//!
//! A submission's stored JSON ([`content`]) becomes a [`template::Compiled`]
//! once per message; [`render`] fills it for one recipient, leads its links over the
//! tenant's host where that is wanted ([`tracking`]), builds the MIME form ([`mime`]) and signs it
//! ([`dkim`]). The result is a [`letter::Letter`],
//! the only thing that carriers accept.
//!
//! Everything that reaches a header line is a type of its own ([`address`],
//! [`mailbox`], [`header`]) which cannot hold a line break.

pub mod address;
pub mod attachment;
pub mod content;
pub mod dkim;
pub mod fault;
pub mod header;
mod keyring;
pub mod letter;
pub mod mailbox;
mod mime;
pub mod payload;
mod plain_text;
pub mod render;
pub mod return_path;
pub mod template;
pub mod time_zone;
pub mod tracking;
pub mod unsubscribe;
