//! Cells: several databases that together are one installation.
//!
//! A cell is the whole schema in one database. A tenant lives in exactly one of them, so no
//! statement of the queue ever spans two. What is here: which cell a database is
//! ([`identity`]), which tenant lives where ([`directory`], [`find`]), and how one is moved
//! ([`moving`]). With one cell configured nothing here costs a statement.
//!
//! A cell that does not answer is an error of what was asked of it, and of nothing else.

pub mod directory;
pub mod find;
pub mod identity;
pub mod moving;

use std::sync::Arc;

use sqlx::PgPool;

use crate::config::Database;
use crate::domain::ids::CellNumber;

/// A configured cell and connections to it.
#[derive(Debug, Clone)]
pub struct Cell {
    /// As configured.
    pub name: Arc<str>,
    /// The number in the ids that it mints.
    pub number: CellNumber,
    /// Connections; they act as whatever role they were opened for.
    pub pool: PgPool,
}

impl Cell {
    /// The cell that `database` configures, over `pool`.
    pub fn new(database: &Database, pool: PgPool) -> Self {
        Self { name: Arc::from(&*database.cell), number: CellNumber::new(database.number), pool }
    }
}
