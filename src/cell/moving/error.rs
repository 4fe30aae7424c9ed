//! Why a move did not begin or did not come to its end.

use crate::cell::identity::IdentityError;
use crate::queue::migrate::SchemaError;

/// Why a tenant was not moved. Unless it says otherwise, the same command goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// No cell has it.
    #[error("there is no tenant {tenant:?} in any cell: see `postrider tenant list`")]
    NoTenant {
        /// Its name.
        tenant: String,
    },
    /// It lives there and no move is under way.
    #[error("the tenant {tenant:?} lives in cell {cell:?} already")]
    AlreadyThere {
        /// Its name.
        tenant: String,
        /// The cell.
        cell: String,
    },
    /// Another move of it is under way.
    #[error(
        "the tenant {tenant:?} is on its way to cell {bound_for}: finish that first, or undo it \
         with --to-cell {here}"
    )]
    OnItsWay {
        /// Its name.
        tenant: String,
        /// Where it is going.
        bound_for: String,
        /// Where it still is.
        here: String,
    },
    /// It cannot be kept any more.
    #[error(
        "the tenant {tenant:?} has left for cell {cell:?} already: let that finish, then move it back"
    )]
    Left {
        /// Its name.
        tenant: String,
        /// Where it lives now.
        cell: String,
    },
    /// Somebody undid the move meanwhile.
    #[error("the move of {tenant:?} was undone by another command meanwhile")]
    Undone {
        /// Its name.
        tenant: String,
    },
    /// The new cell cannot take it.
    #[error("cell {cell:?} cannot take the tenant: {why}")]
    Unfit {
        /// The new cell.
        cell: String,
        /// What stands in the way and what to do.
        why: String,
    },
    /// What is in hand did not end in time.
    #[error(
        "after {seconds} s it still waits for {what}; the tenant stays held. Run the command \
         again (with a longer --wait), or undo it with --to-cell {here}"
    )]
    Patience {
        /// What for.
        what: String,
        /// How long it waited.
        seconds: u64,
        /// Where the tenant still is.
        here: String,
    },
    /// Something was not copied.
    #[error(
        "the copy does not agree: {table} has {here} rows in the old cell and {there} in the new one; \
         nothing was given up. Run the command again, or undo it"
    )]
    Disagrees {
        /// Which table.
        table: &'static str,
        /// Rows in the old cell.
        here: i64,
        /// Rows in the new cell.
        there: i64,
    },
    /// A row that cannot be read.
    #[error("a row cannot be copied: {0}")]
    Row(String),
    /// The listener wanted it.
    #[error("stopped as asked; run the command again to finish the move")]
    Stopped,
    /// A database is another cell than configured.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A schema does not fit.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A database did not do it.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<serde_json::Error> for MoveError {
    fn from(error: serde_json::Error) -> Self {
        Self::Row(error.to_string())
    }
}
