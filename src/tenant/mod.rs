//! Who is asking, and what is theirs.
//!
//! Every query on a tenant's rows needs a [`isolation::TenantScope`], and only
//! this folder makes one: from an API key, or for an operator who names the
//! tenant. Isolation is thus a matter of types here and of row-level security
//! in the database, not of memory.

pub mod action;
pub mod auth;
pub mod domain;
pub mod isolation;
pub mod key;
pub mod login;
pub mod own_names;
pub mod rewrap;
pub mod seal;
pub mod signers;
pub mod store;
pub mod suppression;
