//! What operators did, for whoever asks later: one row with each action, appended in
//! the action's own transaction. The operator's role can neither change nor delete it.

use serde::Serialize;
use sqlx::{FromRow, PgConnection, PgPool};

/// One thing an operator did.
#[derive(Debug, Clone)]
pub struct Action<'a> {
    /// Who says to have done it (the login is recorded beside it).
    pub actor: &'a str,
    /// What, in the words of the command line: `queue pause`, `throttle set`.
    pub action: &'a str,
    /// To what.
    pub target: &'a str,
    /// Why, as given.
    pub reason: Option<&'a str>,
    /// Everything else that was given; no secrets.
    pub detail: serde_json::Value,
}

/// One recorded action.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Recorded {
    /// When, in RFC 3339.
    pub at: String,
    /// The login of the database.
    pub login: String,
    /// Who said to have done it.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub target: String,
    /// Why.
    pub reason: Option<String>,
}

/// The same with everything its own, for a transaction that runs in a task.
#[derive(Debug, Clone)]
pub struct Deed {
    /// Who says to have done it.
    pub actor: String,
    /// What, in the words of the command line.
    pub action: &'static str,
    /// To what.
    pub target: String,
    /// Everything else that was given; no secrets.
    pub detail: serde_json::Value,
}

impl Deed {
    /// What `actor` did to `target`.
    pub fn new(actor: &str, action: &'static str, target: impl Into<String>) -> Self {
        let detail = serde_json::Value::Null;
        Self { actor: actor.to_owned(), action, target: target.into(), detail }
    }

    /// With everything else that was given.
    #[must_use]
    pub fn with(self, detail: serde_json::Value) -> Self {
        Self { detail, ..self }
    }

    /// Records it within the transaction of `conn`.
    pub async fn record(&self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        let Self { actor, action, target, detail } = self;
        let detail = detail.clone();
        record(conn, &Action { actor, action, target, reason: None, detail }).await
    }
}

/// Records `action` within the transaction of `conn`.
pub async fn record(conn: &mut PgConnection, action: &Action<'_>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into postrider.operator_action(actor, action, target, reason, detail)
         values ($1, $2, $3, $4, $5::text::json)",
    )
    .bind(action.actor)
    .bind(action.action)
    .bind(action.target)
    .bind(action.reason)
    .bind(action.detail.to_string())
    .execute(conn)
    .await
    .map(drop)
}

/// The latest `most` actions, newest first.
pub async fn latest(pool: &PgPool, most: i64) -> Result<Vec<Recorded>, sqlx::Error> {
    sqlx::query_as(
        "select to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as at,
                login::text as login, actor, action, target, reason
         from postrider.operator_action order by action_id desc limit $1",
    )
    .bind(most)
    .fetch_all(pool)
    .await
}
