//! What a command may fail with: said so that the operator knows what to do.

use std::fmt;

use crate::cell::identity::IdentityError;
use crate::cell::moving::MoveError;
use crate::config::fault::ConfigError;
use crate::queue::admin::pause::PauseError;
use crate::queue::admin::relocate::RelocateError;
use crate::queue::admin::target::TargetError;
use crate::queue::migrate::SchemaError;
use crate::tenant::domain::DomainError;
use crate::tenant::login::LoginError;
use crate::tenant::store::StoreError;

/// Why a command did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CliError {
    /// The command line does not make sense: code 2.
    Usage(String),
    /// It was tried and did not work: code 1.
    Failed(String),
}

impl CliError {
    /// The operation did not work.
    pub fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }

    /// The arguments do not make sense together.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    /// The exit code of the process.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Failed(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for CliError {}

impl From<sqlx::Error> for CliError {
    fn from(error: sqlx::Error) -> Self {
        let advice = match &error {
            sqlx::Error::Database(refused) => match refused.code().as_deref() {
                // undefined_table, undefined_function, invalid_schema_name, undefined_column
                Some("42P01" | "42883" | "3F000" | "42703") => {
                    "the schema does not fit this program; run: postrider migrate"
                }
                Some("42501") => {
                    "the login may not act for postrider; grant it the role that [database] names \
                     (grant postrider_operator to LOGIN)"
                }
                // invalid_parameter_value at connection: the role does not exist
                Some("22023") => {
                    "if a role is missing, the cluster was never migrated; run: postrider migrate"
                }
                Some("28P01" | "28000") => {
                    "check the user and the password in [database] (password_file) or \
                     POSTRIDER_DATABASE_PASSWORD"
                }
                Some("3D000") => "create it first: createdb NAME",
                Some("PRMOV") => "try again when the move is over: postrider cell list",
                Some("57014") => "it took longer than statement_timeout in [database]",
                _ => "",
            },
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => {
                "is Postgres running? Check [database] url or --database-url"
            }
            sqlx::Error::Configuration(_) => {
                "expected an address like postgres://user@host/database in [database] url or \
                 --database-url"
            }
            _ => "",
        };
        let what = format!("the database did not do it: {error}");
        Self::Failed(if advice.is_empty() { what } else { format!("{what}\n  {advice}") })
    }
}

/// Errors that say for themselves what to do, but for those of the database.
macro_rules! failures {
    ($($error:ident),+) => {$(
        impl From<$error> for CliError {
            fn from(error: $error) -> Self {
                match error {
                    $error::Database(error) => error.into(),
                    other => Self::Failed(other.to_string()),
                }
            }
        }
    )+};
}
failures!(StoreError, LoginError, DomainError, TargetError, SchemaError, MoveError, IdentityError);

impl From<PauseError> for CliError {
    fn from(error: PauseError) -> Self {
        match error {
            PauseError::Database(error) => error.into(),
            PauseError::Target(error) => error.into(),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<RelocateError> for CliError {
    fn from(error: RelocateError) -> Self {
        match error {
            RelocateError::Database(error) => error.into(),
            RelocateError::Target(error) => error.into(),
            other @ RelocateError::CalledBack { .. } => Self::Failed(other.to_string()),
        }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::Failed(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_server_is_said_with_advice() {
        let error = CliError::from(sqlx::Error::PoolTimedOut);
        assert!(error.to_string().contains("--database-url"), "{error}");
        assert_eq!((error.code(), CliError::usage("x").code()), (1, 2));
    }
}
