//! `[database]` and `[[cell]]`: where the queue lives.
//!
//! Each is one cell: the whole schema in one database. `[database]` is the home cell, which
//! also holds the directory of tenants; `[[cell]]` are further ones.

use std::net::IpAddr;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use crate::config::reader::Reader;
use crate::config::secret::Secret;
use crate::config::word::{NAME, is_name};

/// Highest number of a cell: an id has six bits for it.
const LAST_CELL: u8 = 63;

/// A database and how the three binaries use it.
#[derive(Debug, Clone, PartialEq)]
pub struct Database {
    /// The cell's name: `database.cell` (`main`), or `name` of a `[[cell]]`.
    pub cell: String,
    /// The number that ids minted there carry, 0 to 63: `database.cell_number` (0), or
    /// `number` of a `[[cell]]`. The database keeps it for good.
    pub number: u8,
    /// `postgres://…` without a password in it where possible.
    pub url: Secret,
    /// The password: `POSTRIDER_DATABASE_PASSWORD`, else from `password_file`, else the
    /// systemd credential `postrider.database-password`.
    pub password: Option<Secret>,
    /// Role the daemon acts as (`postrider_worker`); empty: as the login itself.
    pub worker_role: String,
    /// Role the API acts as (`postrider_api`).
    pub api_role: String,
    /// Role the command line acts as (`postrider_operator`).
    pub operator_role: String,
    /// Connections each process may hold (10). At least 2: one may be held by a transaction.
    pub pool_size: u32,
    /// Longest wait for a free connection (5 s).
    pub acquire_timeout: Duration,
    /// Longest time for one statement (30 s).
    pub statement_timeout: Duration,
    /// Whether a pooler in transaction mode stands before the database, where no setting of a
    /// session lasts (false).
    pub transaction_pooler: bool,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            cell: "main".into(),
            number: 0,
            url: Secret::new("postgres:///postrider"),
            password: None,
            worker_role: "postrider_worker".into(),
            api_role: "postrider_api".into(),
            operator_role: "postrider_operator".into(),
            pool_size: 10,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            transaction_pooler: false,
        }
    }
}

impl Database {
    /// Longest wait for the answer to a statement, a connection for it included: beyond it the
    /// server is taken to be gone, since it would have ended the statement itself.
    pub fn answer_deadline(&self) -> Duration {
        self.acquire_timeout + self.statement_timeout + Duration::from_secs(1)
    }

    /// Whether these options lead to this machine: by a socket or the loopback.
    pub fn is_on_this_machine(options: &PgConnectOptions) -> bool {
        let host = options.get_host();
        options.get_socket().is_some()
            || host.starts_with('/')
            || host == "localhost"
            || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// The home cell.
    pub(in crate::config) fn read(section: Reader<'_>, outside: Option<Secret>) -> Self {
        let default = Self::default();
        let cell = section.checked("cell", NAME, is_name).unwrap_or_else(|| default.cell.clone());
        let number = section.integer("cell_number", default.number, 0..=LAST_CELL);
        Self { cell, number, ..Self::read_rest(section, outside, default) }
    }

    /// A further cell; what it leaves out is as in the home cell.
    pub(in crate::config) fn read_cell(section: Reader<'_>, home: &Self) -> Self {
        let cell = section.required("name", NAME, is_name).unwrap_or_default();
        let number = section.optional_integer("number", 0..=LAST_CELL);
        if number.is_none() && !section.has("number") {
            section
                .fault("number", "missing; expected a number from 0 to 63 that no other cell has");
        }
        if !section.has("url") {
            section.fault("url", "missing; expected a URL like postgres://user@host:5432/name");
        }
        let default = Self { password: None, ..home.clone() };
        Self { cell, number: number.unwrap_or(0), ..Self::read_rest(section, None, default) }
    }

    fn read_rest(section: Reader<'_>, outside: Option<Secret>, default: Self) -> Self {
        let second = Duration::from_secs(1);
        let url = section
            .concealed("url", "a URL like postgres://user@host:5432/name", is_postgres_url)
            .filter(|url| {
                let exposed = holds_password(url) && !section.is_from_variable("url");
                if exposed {
                    section.fault(
                        "url",
                        "a password does not belong in this file; write it to a file with mode 0600 \
                         and name that in password_file",
                    );
                }
                !exposed
            });
        let role = |key, default| {
            let expected = "a role's name of letters, digits and _, or an empty text";
            section.checked(key, expected, is_role).unwrap_or(default)
        };
        let database = Self {
            cell: default.cell,
            number: default.number,
            url: url.map_or(default.url, Secret::new),
            password: section.secret("password", "password_file").or(outside),
            worker_role: role("worker_role", default.worker_role),
            api_role: role("api_role", default.api_role),
            operator_role: role("operator_role", default.operator_role),
            pool_size: section.integer("pool_size", default.pool_size, 2..=1_000),
            acquire_timeout: section.duration(
                "acquire_timeout",
                default.acquire_timeout,
                Duration::from_millis(100)..=second * 60,
            ),
            statement_timeout: section.duration(
                "statement_timeout",
                default.statement_timeout,
                second..=second * 3_600,
            ),
            transaction_pooler: section.switch("transaction_pooler", default.transaction_pooler),
        };
        section.end();
        database
    }
}

fn is_postgres_url(url: &str) -> bool {
    let known = url.starts_with("postgres://") || url.starts_with("postgresql://");
    known && url.parse::<PgConnectOptions>().is_ok()
}

/// Whether a URL carries a password, as `user:password@` or as a parameter.
fn holds_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    let parameters = rest.split_once('?').map_or("", |(_, parameters)| parameters);
    user.split_once(':').is_some_and(|(_, password)| !password.is_empty())
        || parameters.split('&').any(|pair| pair.starts_with("password="))
}

/// The name goes into a startup packet; plain identifiers need no quoting there.
fn is_role(text: &str) -> bool {
    text.len() <= 63 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_seen() {
        for with in
            ["postgres://a:b@h/d", "postgres://h/d?password=x", "postgres://h/d?a=b&password="]
        {
            assert!(holds_password(with), "{with}");
        }
        for without in [
            "postgres:///d",
            "postgres://a@h:5432/d",
            "postgres://a:@h/d",
            "postgres://h:1/d?sslmode=require",
        ] {
            assert!(!holds_password(without), "{without}");
        }
    }
}
