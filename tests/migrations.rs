//! Migrations: by several at once, twice, and beside programs of another version.

use crate::support::command::{command, ran};
use crate::support::postgres::{Role, TestDb};
use postrider::queue::migrate::{self, SchemaError, SchemaState};
use sqlx::PgPool;

/// A database as an operator finds it.
async fn empty() -> (TestDb, PgPool) {
    let db = TestDb::new().await;
    let owner = db.pool(Role::Owner).await;
    sqlx::raw_sql("drop schema postrider cascade; drop table _sqlx_migrations")
        .execute(&owner)
        .await
        .expect("empty the database");
    (db, owner)
}

async fn pretend(owner: &PgPool, version: i64) {
    sqlx::query(
        "insert into _sqlx_migrations(version, description, success, checksum, execution_time)
         values ($1, 'of the future', true, '\\x00', 0)",
    )
    .bind(version)
    .execute(owner)
    .await
    .expect("pretend a migration");
}

#[tokio::test]
async fn five_at_once_migrate_an_empty_database() {
    let (_db, owner) = empty().await;
    assert_eq!(migrate::state(&owner).await.expect("state"), SchemaState::Behind { found: 0 });
    let all = futures_util::future::join_all((0..5).map(|_| migrate::up(&owner))).await;
    for one in all {
        assert_eq!(one.expect("migrated").1, migrate::wanted());
    }
    assert_eq!(migrate::state(&owner).await.expect("state"), SchemaState::Current);
    assert_eq!(migrate::up(&owner).await.expect("again"), (migrate::wanted(), migrate::wanted()));
}

#[tokio::test]
async fn five_processes_migrate_an_empty_database_and_then_there_is_nothing_to_do() {
    let (db, _owner) = empty().await;
    let before = ran(&command(&db.url(), &["migrate", "status"]).output().expect("run"));
    assert_eq!(before.code, 1, "{}", before.out);
    assert!(before.out.contains("run: postrider migrate"), "{}", before.out);
    let refused = ran(&command(&db.url(), &["tenant", "list"]).output().expect("run"));
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("run: postrider migrate"), "{}", refused.err);

    let started: Vec<_> = (0..5)
        .map(|_| {
            let mut one = command(&db.url(), &["migrate"]);
            one.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            one.spawn().expect("start")
        })
        .collect();
    for one in started {
        let one = ran(&one.wait_with_output().expect("wait"));
        assert_eq!(one.code, 0, "{}", one.err);
    }
    let after = ran(&command(&db.url(), &["migrate", "up"]).output().expect("run"));
    assert!(after.code == 0 && after.out.contains("nothing to do"), "{} {}", after.out, after.err);
    let status = ran(&command(&db.url(), &["migrate", "status"]).output().expect("run"));
    assert!(status.code == 0 && status.out.contains("current"), "{}", status.out);
}

#[tokio::test]
async fn every_role_can_ask_and_a_program_works_on_one_version_more_but_not_on_two() {
    let db = TestDb::new().await;
    let owner = db.pool(Role::Owner).await;
    for role in [Role::Worker, Role::Api, Role::Operator] {
        migrate::schema_is_current(&db.pool(role).await).await.expect("current");
    }
    let worker = db.pool(Role::Worker).await;
    let known = migrate::wanted();

    pretend(&owner, known + 1).await;
    migrate::schema_is_current(&worker).await.expect("one version newer works");
    migrate::up(&owner).await.expect("what is newer is left alone");

    pretend(&owner, known + 2).await;
    let refused = migrate::schema_is_current(&worker).await.expect_err("two are too many");
    assert!(matches!(refused, SchemaError::TooNew { .. }), "{refused}");

    sqlx::query("delete from _sqlx_migrations where version >= $1")
        .bind(known)
        .execute(&owner)
        .await
        .expect("pretend an old schema");
    let refused = migrate::schema_is_current(&worker).await.expect_err("behind");
    assert!(refused.to_string().contains("run: postrider migrate"), "{refused}");
}

#[tokio::test]
async fn every_tenant_table_has_forced_row_level_security_and_no_run_time_role_owns_one() {
    let db = TestDb::new().await;
    let owner = db.pool(Role::Owner).await;
    let open: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c
         join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
         where c.relnamespace = 'postrider'::regnamespace and c.relkind in ('r', 'p')
           and not (c.relrowsecurity and c.relforcerowsecurity)",
    )
    .fetch_all(&owner)
    .await
    .expect("ask");
    assert_eq!(open, Vec::<String>::new());
    let owned: i64 = sqlx::query_scalar(
        "select count(*) from pg_class c join pg_roles r on r.oid = c.relowner
         where c.relnamespace = 'postrider'::regnamespace and r.rolname like 'postrider\\_%'",
    )
    .fetch_one(&owner)
    .await
    .expect("ask");
    assert_eq!(owned, 0);
}
