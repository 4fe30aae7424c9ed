//! Which cell a database is: a number that its ids carry, kept in the database itself.
//!
//! The configuration says it too, and both must agree before a process touches the rows: two
//! databases that mint under one number would give two things the same id.

use serde::Serialize;
use sqlx::{FromRow, PgPool};

use super::Cell;

/// What a database says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct Identity {
    /// The number in its ids.
    pub number: i16,
    /// Its name when it was set up; the configured one counts.
    pub name: String,
    /// Tenants that live here.
    pub tenants: i64,
    /// Tenants on their way out or in.
    pub moving: i64,
}

/// Why a cell cannot be used, or not be set up.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The database carries another number.
    #[error(
        "the database of cell {name:?} is number {found}, the configuration says {expected}: \
         correct its number there, or run on an empty database: postrider cell init --cell {name}"
    )]
    OtherNumber {
        /// The cell as configured.
        name: String,
        /// Its configured number.
        expected: u8,
        /// That of the database.
        found: i16,
    },
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// What the database of a cell says of itself. `pool` acts as the operator's role.
pub async fn of(pool: &PgPool) -> Result<Identity, sqlx::Error> {
    sqlx::query_as(include_str!("sql/identity.sql")).fetch_one(pool).await
}

/// Refuses a database that is another cell than the configuration says.
pub async fn verify(cell: &Cell) -> Result<(), IdentityError> {
    let found: i16 =
        sqlx::query_scalar("select number from postrider.cell").fetch_one(&cell.pool).await?;
    if found == i16::from(cell.number.get()) {
        return Ok(());
    }
    Err(IdentityError::OtherNumber {
        name: cell.name.to_string(),
        expected: cell.number.get(),
        found,
    })
}

/// Gives a database its number and name. Saying the same again changes nothing; another
/// number is refused once ids were given out. The pool's login owns the schema.
pub async fn init(owner: &PgPool, number: u8, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query("select postrider.init_cell($1, $2)")
        .bind(i32::from(number))
        .bind(name)
        .execute(owner)
        .await
        .map(drop)
}
