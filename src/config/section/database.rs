//! `[database]`: where the queue lives.

use std::time::Duration;

use crate::config::secret::Secret;

/// The database and how the three binaries use it.
#[derive(Debug, Clone, PartialEq)]
pub struct Database {
    /// `postgres://…` without a password in it where possible.
    pub url: Secret,
    /// The password, from `password_file`.
    pub password: Option<Secret>,
    /// Role the daemon acts as (`postrider_worker`); empty: as the login itself.
    pub worker_role: String,
    /// Role the API acts as (`postrider_api`).
    pub api_role: String,
    /// Role the command line acts as (`postrider_operator`).
    pub operator_role: String,
    /// Connections each process may hold (10).
    pub pool_size: u32,
    /// Longest wait for a free connection (5 s).
    pub acquire_timeout: Duration,
    /// Longest time for one statement (30 s).
    pub statement_timeout: Duration,
    /// False behind a pooler in transaction mode, where prepared statements do not last (true).
    pub prepared_statements: bool,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: Secret::new("postgres:///postrider"),
            password: None,
            worker_role: "postrider_worker".into(),
            api_role: "postrider_api".into(),
            operator_role: "postrider_operator".into(),
            pool_size: 10,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            prepared_statements: true,
        }
    }
}
