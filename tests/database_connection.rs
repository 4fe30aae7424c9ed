//! A cancelled `begin()` loses nothing on a pool of ours.
//!
//! sqlx 0.9.0 puts such a connection back while it is inside a transaction; what is
//! written on it later is acknowledged, and gone when the connection closes.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::support::postgres::TestDb;
use postrider::boot::{self, Role};
use postrider::config::Settings;
use postrider::config::secret::Secret;
use sqlx::{Connection, PgConnection, PgPool};

/// Rows written after each cancelled `begin()`: enough to meet every connection of the pool.
const WRITES: i32 = 8;

#[tokio::test]
async fn what_is_acknowledged_after_a_cancelled_begin_stays() {
    let db = TestDb::new().await;
    let pool = connect(&db, Role::Owner).await;
    sqlx::query("create table note(n int primary key)").execute(&pool).await.expect("create");

    let mut acknowledged = 0;
    for round in 0..60 {
        cancel_begin(&pool, 1 + round % 4).await;
        for _ in 0..WRITES {
            acknowledged += 1;
            sqlx::query("insert into note values ($1)")
                .bind(acknowledged)
                .execute(&pool)
                .await
                .expect("acknowledged");
        }
    }

    let mut witness = PgConnection::connect(&db.url()).await.expect("connect");
    let kept: i64 = sqlx::query_scalar("select count(*) from note")
        .fetch_one(&mut witness)
        .await
        .expect("count");
    assert_eq!(kept, i64::from(acknowledged), "acknowledged rows that nobody else can see");
    let open: i64 = sqlx::query_scalar(
        "select count(*) from pg_stat_activity \
         where datname = current_database() and state like 'idle in transaction%'",
    )
    .fetch_one(&mut witness)
    .await
    .expect("look at the sessions");
    assert_eq!(open, 0, "connections of the pool inside a transaction");
}

#[tokio::test]
async fn a_connection_acts_as_its_role_within_limits() {
    let db = TestDb::new().await;
    for (role, name, plans) in [
        (Role::Worker, "postrider_worker", "force_generic_plan"),
        (Role::Api, "postrider_api", "auto"),
        (Role::Operator, "postrider_operator", "auto"),
    ] {
        let pool = connect(&db, role).await;
        let said: Vec<String> = sqlx::query_scalar(
            "select array[current_user::text, current_setting('statement_timeout'), \
             current_setting('idle_in_transaction_session_timeout'), current_setting('plan_cache_mode')]",
        )
        .fetch_one(&pool)
        .await
        .expect("ask");
        assert_eq!(said, [name, "30s", "10s", plans]);
    }
}

async fn connect(db: &TestDb, role: Role) -> PgPool {
    let mut database = Settings::for_testing().database;
    database.url = Secret::new(db.url());
    boot::connect(&database, role).await.expect("connect")
}

/// Polls `begin()` `polls` times, the socket being ready in between, and drops it unfinished
/// (or finished and unused, which is a rollback).
async fn cancel_begin(pool: &PgPool, polls: usize) {
    let mut begin = pin!(pool.begin());
    for _ in 0..polls {
        if let Poll::Ready(transaction) =
            begin.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            drop(transaction);
            break;
        }
        tokio::task::yield_now().await;
    }
}
