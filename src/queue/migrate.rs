//! The schema: bring it up to date, and ask whether it fits this program.
//!
//! Promises: several processes may migrate one database at once (one works, the
//! others wait for it); each migration runs in a transaction and exactly once. A
//! program works on the schema it was built with and on the next one, so that a
//! database can be migrated before the last old process is gone.

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection, PgPool, Row};

/// How the schema in the database stands to the one this program was built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaState {
    /// The same.
    Current,
    /// One version newer: works.
    Newer {
        /// Version in the database.
        found: i64,
    },
    /// No schema yet, or an older one.
    Behind {
        /// Version in the database; 0 when there is none.
        found: i64,
    },
    /// More than one version newer: this program does not know what changed.
    TooNew {
        /// Version in the database.
        found: i64,
    },
}

/// Why a process must not start on this schema, or could not find out.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Migrations are missing.
    #[error(
        "the database schema is at version {found}, this program needs {}: run: postrider migrate",
        wanted()
    )]
    Behind {
        /// Version in the database; 0 when there is none.
        found: i64,
    },
    /// The database was migrated by a much newer program.
    #[error(
        "the database schema is at version {found}, this program knows {} and works with at most \
         one version more: install a newer postrider",
        wanted()
    )]
    TooNew {
        /// Version in the database.
        found: i64,
    },
    /// The database did not answer.
    #[error("cannot read the version of the database schema: {0}")]
    Database(#[from] sqlx::Error),
}

/// Brings the schema up to date; does nothing where it already is. `pool` connects
/// as the owner of the schema. Gives back the versions before and after.
pub async fn up(pool: &PgPool) -> Result<(i64, i64), MigrateError> {
    // A connection of its own, closed at the end: a migration may take longer than
    // any statement of the service, and whatever happens, its lock goes with it.
    let mut conn = pool.acquire().await?.detach();
    let before = found(pool).await?;
    let migrated = async {
        sqlx::query("set statement_timeout = 0").execute(&mut conn).await?;
        migrator().run_direct(None, &mut conn, false).await
    }
    .await;
    conn.close().await.ok();
    migrated?;
    Ok((before, found(pool).await?))
}

/// How the schema in the database stands to this program.
pub async fn state(pool: &PgPool) -> Result<SchemaState, sqlx::Error> {
    let found = found(pool).await?;
    Ok(match found - wanted() {
        0 => SchemaState::Current,
        1 => SchemaState::Newer { found },
        ahead if ahead > 1 => SchemaState::TooNew { found },
        _ => SchemaState::Behind { found },
    })
}

/// Refuses to go on where the schema does not fit: for the start of a process.
pub async fn schema_is_current(pool: &PgPool) -> Result<(), SchemaError> {
    match state(pool).await? {
        SchemaState::Current | SchemaState::Newer { .. } => Ok(()),
        SchemaState::Behind { found } => Err(SchemaError::Behind { found }),
        SchemaState::TooNew { found } => Err(SchemaError::TooNew { found }),
    }
}

/// The version this program was built with.
pub fn wanted() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

async fn found(pool: &PgPool) -> Result<i64, sqlx::Error> {
    let row = sqlx::query("select to_regclass('_sqlx_migrations') is not null as there")
        .fetch_one(pool)
        .await?;
    if !row.try_get::<bool, _>("there")? {
        return Ok(0);
    }
    sqlx::query_scalar("select coalesce(max(version), 0) from _sqlx_migrations where success")
        .fetch_one(pool)
        .await
}

fn migrator() -> Migrator {
    let mut migrator = Migrator::with_migrations(MIGRATIONS.iter().cloned().collect());
    // What a newer program applied is not ours to judge.
    migrator.set_ignore_missing(true);
    migrator
}

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
