//! What receivers' replies mean: rules that are data, and the replies that no rule knows.
//!
//! [`rulebook::Rulebook`] finds the rule that decides a reply; [`in_force`] is the one that
//! this process goes by, so that every carrier and every report judges alike. [`lint`] holds
//! rules to their samples. docs/replies.md explains the file.

pub mod lint;
pub mod read;
pub mod rulebook;
pub mod shape;
pub mod unknown;

use std::sync::{Arc, LazyLock};

use parking_lot::RwLock;

use self::rulebook::Rulebook;
use crate::config::Replies;

/// One for the process, as the log level is: what a reply means does not depend on who read it.
static IN_FORCE: LazyLock<RwLock<Arc<Rulebook>>> =
    LazyLock::new(|| RwLock::new(Arc::new(Rulebook::shipped())));

/// The rules that this process goes by; the shipped ones until [`apply`] was called.
pub fn in_force() -> Arc<Rulebook> {
    Arc::clone(&IN_FORCE.read())
}

/// Goes by these rules from now on. On an error everything stays as it was.
pub fn apply(replies: &Replies) -> Result<(), regex::Error> {
    let book = Arc::new(Rulebook::new(&replies.rules)?);
    *IN_FORCE.write() = book;
    Ok(())
}
