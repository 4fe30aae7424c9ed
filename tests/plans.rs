//! Promise: the cost of the hot statements does not grow with what waits and cannot go.
//!
//! Costs are counted in pages that a statement touches, and in rows that it reads to no
//! purpose; time says nothing on a machine that others use too.

use crate::support::builders;
use crate::support::postgres::{Role, TestDb};
use postrider::queue::Generation;
use postrider::tenant::suppression::{Keeper, Probes};
use serde_json::Value;
use sqlx::{PgPool, Row};

/// Pages that ten times as many rows may add to a statement that touches few: an index or two
/// grows by a level.
const TOLERANCE: i64 = 12;

/// Tables that are never to be read from end to end.
const HOT: [&str; 5] = ["ready_", "lease_", "deferred_", "job_", "attempt_"];

/// Whether a statement may read tables from end to end.
#[derive(Clone, Copy, PartialEq)]
enum Scans {
    None,
    AsPlanned,
}

struct Queue {
    _db: TestDb,
    owner: PgPool,
    worker: PgPool,
    session: i64,
    /// The lane that may go.
    free: i32,
}

impl Queue {
    /// Forty rows that may go in each of two generations, and nothing else.
    async fn new() -> Self {
        let db = TestDb::new().await;
        let (owner, api, worker) =
            (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
        let tenant = builders::tenant(&owner, "acme").await;
        builders::submit(&api, tenant, "acme", "bulk", &builders::recipients(80, "a.org")).await;
        let free = builders::lanes(&worker).await[0].get();
        sqlx::raw_sql(
            "with taken as (delete from postrider.ready_g0 where job_id in
               (select job_id from postrider.ready_g0 order by job_id limit 40) returning *)
             insert into postrider.ready_g4 select 4, lane_id, run_at, job_id, tenant_id, expires_at from taken;
             insert into postrider.stream(tenant_id, name) select 1, 'blocked' || n from generate_series(1, 20) n;
             insert into postrider.lane(tenant_id, pool_id, prio, stream_id)
             select tenant_id, 0, 3, stream_id from postrider.stream where name like 'blocked%'",
        )
        .execute(&owner)
        .await
        .expect("arrange");
        let session = builders::session(&worker, std::time::Duration::from_secs(20)).await;
        Self { _db: db, owner, worker, session: session.id().get(), free }
    }

    /// Adds rows in twenty blocked lanes: most parked, some in the current generation, some
    /// deferred, some scheduled in the lane that may go.
    async fn add(&self, rows: i64) {
        let each = rows / 20;
        let statement = format!(
            "insert into postrider.job(job_id, tenant_id, message_id, lane_id, expires_at, recipient)
             select postrider.mint_id(), 1, 1, l.lane_id, now() + interval '2 days', 'a@b.org'
             from postrider.lane l, generate_series(1, {each}) n where l.lane_id <> {free};
             with fresh as (select * from postrider.job where message_id = 1)
             insert into postrider.ready(gen, lane_id, run_at, job_id, tenant_id, expires_at)
             select case when job_id % 10 = 0 then 0 else 4 end, case when job_id % 50 = 1 then {free} else lane_id end,
                    case when job_id % 50 = 1 then now() + interval '1 day' else now() - interval '1 hour' end,
                    job_id, 1, expires_at
             from fresh where job_id % 100 <> 0;
             insert into postrider.deferred(due_at, job_id, lane_id, tenant_id, expires_at, attempt)
             select now() + job_id % 1000 * interval '1 second' + interval '1 minute', job_id, lane_id, 1, expires_at, 1
             from postrider.job where message_id = 1 and job_id % 100 = 0;
             update postrider.job set message_id = 2 where message_id = 1;
             vacuum analyze",
            free = self.free,
        );
        for one in statement.split(';') {
            sqlx::query(sqlx::AssertSqlSafe(one)).execute(&self.owner).await.expect("add rows");
        }
    }

    /// What a statement costs, by running it for nothing.
    async fn cost(&self, statement: &str, scans: Scans) -> Cost {
        let mut tx = self.worker.begin().await.expect("begin");
        // A table of a page or two may be read whole; that says nothing of a longer one.
        let prefer = if scans == Scans::None { "set local enable_seqscan = off" } else { "select" };
        sqlx::raw_sql(prefer).execute(&mut *tx).await.expect("prefer");
        let before = reads(&mut tx).await;
        let explain = format!("explain (analyze, buffers, format json) {statement}");
        let plan: Value = sqlx::query(sqlx::AssertSqlSafe(explain))
            .fetch_one(&mut *tx)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"))
            .get(0);
        let read_whole = reads(&mut tx).await - before;
        tx.rollback().await.expect("rollback");
        let top = &plan[0]["Plan"];
        let number = |node: &Value, key: &str| node[key].as_i64().unwrap_or(0);
        let mut cost = Cost {
            pages: number(top, "Shared Hit Blocks") + number(top, "Shared Read Blocks"),
            read_whole,
            removed: 0,
        };
        let mut nodes = vec![top];
        while let Some(node) = nodes.pop() {
            let table = node["Relation Name"].as_str().unwrap_or("");
            if HOT.iter().any(|hot| table.starts_with(hot)) {
                cost.removed += number(node, "Rows Removed by Filter");
                // A partition that is empty may be scanned.
                if node["Node Type"] == "Seq Scan" {
                    cost.read_whole += number(node, "Actual Rows");
                }
            }
            nodes.extend(node["Plans"].as_array().into_iter().flatten());
        }
        cost
    }

    async fn costs(&self, scans: Scans) -> Vec<(&'static str, Cost)> {
        let claim = |generation: Generation| {
            let number = generation.number();
            let (lease, lease_gen) = match generation {
                Generation::PARKED => {
                    ("lease".to_owned(), "(select cur from postrider.generation)".to_owned())
                }
                _ => (format!("lease_g{number}"), number.to_string()),
            };
            plain(include_str!("../src/queue/sql/claim.sql"))
                .replace("{g}", &number.to_string())
                .replace("{lease_gen}", &lease_gen)
                .replace("{lease}", &lease)
                .replace("$1", &self.session.to_string())
                .replace("$2", &format!("array[{}]", self.free))
                .replace("$3", "array[null]")
                .replace("$4", "array[20]")
        };
        let current = Generation::try_new(0).expect("zero");
        let waiting = |generation: i16| {
            plain(include_str!("../src/queue/sql/waiting_lanes.sql"))
                .replace("{g}", &generation.to_string())
        };
        let settle = plain(include_str!("../src/queue/sql/settle.sql"))
            .replace("{g}", "0")
            .replace("$14", "array[null]")
            .replace("$13", "array['a@b.org']")
            .replace("$12", "array[null]")
            .replace("$11", "array['x']")
            .replace("$10", "array[false]")
            .replace("$1", &self.session.to_string())
            .replace("$2", "array[1]")
            .replace("$3", "array[1]")
            .replace("$4", "array[1::smallint]")
            .replace("$5", "array[1]")
            .replace("$6", "array[null]")
            .replace("$7", "array[0]")
            .replace("$8", "array[null]")
            .replace("$9", "array[false]");
        let look = plain(include_str!("../src/queue/sql/look.sql")).replace("$1", "10");
        let mut costs = Vec::new();
        for (name, statement) in [
            ("claim, current", claim(current)),
            ("claim, parked", claim(Generation::PARKED)),
            ("settle", settle),
            ("look", look),
            ("waiting lanes, current", waiting(0)),
            ("waiting lanes, parked", waiting(4)),
            ("promote", "select * from postrider.promote(1000)".to_owned()),
            ("wake", "select postrider.wake_lanes(1000)".to_owned()),
        ] {
            costs.push((name, self.cost(&statement, scans).await));
        }
        costs
    }
}

#[derive(Debug)]
struct Cost {
    pages: i64,
    /// Rows that scans of whole hot tables gave, also inside functions.
    read_whole: i64,
    removed: i64,
}

/// Rows that this transaction read by scans of whole hot tables.
async fn reads(tx: &mut sqlx::PgTransaction<'_>) -> i64 {
    sqlx::query_scalar(
        "select coalesce(sum(seq_tup_read), 0)::bigint from pg_stat_xact_user_tables
         where schemaname = 'postrider' and relname ~ '^(ready|lease|deferred|job|attempt)_'",
    )
    .fetch_one(&mut **tx)
    .await
    .expect("ask for the statistics")
}

/// A statement without its comments.
fn plain(statement: &str) -> String {
    let lines = statement.lines().filter(|line| !line.trim_start().starts_with("--"));
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn ten_times_as_much_blocked_work_costs_the_hot_statements_nothing() {
    let queue = Queue::new().await;
    queue.add(20_000).await;
    let few = queue.costs(Scans::None).await;
    queue.add(180_000).await;
    let many = queue.costs(Scans::AsPlanned).await;
    for ((name, few), (_, many)) in few.iter().zip(&many) {
        let most = few.pages + few.pages / 2 + TOLERANCE;
        assert!(many.pages <= most, "{name}: {few:?} became {many:?}");
        assert_eq!((many.read_whole, many.removed), (0, 0), "{name}: {many:?}");
    }
}

/// Rows that a statement compared with others in vain, by running it for nothing.
async fn compared(queue: &Queue, statement: &str) -> i64 {
    let mut tx = queue.worker.begin().await.expect("begin");
    let explain = format!("explain (analyze, format json) {statement}");
    let plan: Value = sqlx::query(sqlx::AssertSqlSafe(explain))
        .fetch_one(&mut *tx)
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error}"))
        .get(0);
    tx.rollback().await.expect("rollback");
    let mut nodes = vec![&plan[0]["Plan"]];
    let mut compared = 0;
    while let Some(node) = nodes.pop() {
        let loops = node["Actual Loops"].as_i64().unwrap_or(1);
        for key in ["Rows Removed by Join Filter", "Rows Removed by Filter"] {
            compared += loops * node[key].as_i64().unwrap_or(0);
        }
        nodes.extend(node["Plans"].as_array().into_iter().flatten());
    }
    compared
}

#[tokio::test]
async fn a_settlement_looks_its_leases_up_whatever_the_planner_knows_of_them() {
    let queue = Queue::new().await;
    // What is known of the leases is from a minute in which there were none.
    sqlx::query("analyze postrider.lease_g0").execute(&queue.owner).await.expect("analyze");
    sqlx::query(
        "insert into postrider.lease(gen, session_id, job_id, lane_id, tenant_id, expires_at, attempt, hold)
         select 0, $1, n, $2, 1, now() + interval '1 day', 1, 1 from generate_series(1, 5000) n",
    )
    .bind(queue.session)
    .bind(queue.free)
    .execute(&queue.owner)
    .await
    .expect("leases");
    // Deferred, each; arrays of a length that the planner does not see, as in a prepared statement.
    let of = |value: &str| format!("array(select {value} from generate_series(1, 500) n)");
    let settle = plain(include_str!("../src/queue/sql/settle.sql"))
        .replace("{g}", "0")
        .replace("$14", &of("null::text"))
        .replace("$13", &of("'a@b.org'"))
        .replace("$12", &of("null::text"))
        .replace("$11", &of("null::text"))
        .replace("$10", &of("false"))
        .replace("$1", &queue.session.to_string())
        .replace("$2", &of("n::bigint"))
        .replace("$3", &of("1"))
        .replace("$4", &of("7::smallint"))
        .replace("$5", &of("1::bigint"))
        .replace("$6", &of("450::smallint"))
        .replace("$7", &of("60000::bigint"))
        .replace("$8", &of("'{}'::text"))
        .replace("$9", &of("false"));
    let compared = compared(&queue, &settle).await;
    assert!(compared < 5_000, "{compared} rows were compared in vain for 500");
}

#[tokio::test]
async fn a_stride_of_the_expiry_is_bounded_and_reads_no_table_from_end_to_end() {
    let queue = Queue::new().await;
    queue.add(20_000).await;
    let few = queue.cost("select postrider.expire_waiting('0 s')", Scans::None).await;
    queue.add(180_000).await;
    let many = queue.cost("select postrider.expire_waiting('0 s')", Scans::AsPlanned).await;
    assert_eq!(many.read_whole, 0);
    // 5,000 rows of each generation at most: those of the ring by their pages, and a look
    // at 21 heads.
    assert!(many.pages <= few.pages * 3 && many.pages < 20_000, "{few:?} became {many:?}");
}

/// Entries of a tenant's list, and that many of another's.
async fn list(queue: &Queue, entries: i64) {
    sqlx::query(
        "insert into postrider.suppression(tenant_id, address, reason, source)
         select t, 'u' || n || '@d' || n % 100 || '.example', 'asked', 'import'
         from generate_series(1, $1) n, unnest(array[1, 2]) t on conflict do nothing",
    )
    .bind(entries)
    .execute(&queue.owner)
    .await
    .expect("a list");
    sqlx::query("vacuum analyze postrider.suppression")
        .execute(&queue.owner)
        .await
        .expect("vacuum");
}

/// A check of 1,000 recipients, one in ten of them listed.
fn check() -> String {
    let forms: Vec<String> = (0..1_000)
        .map(|n| format!("'{}{n}@d{}.example'", if n % 10 == 0 { "u" } else { "free" }, n % 100))
        .chain((0..100).map(|n| format!("'@d{n}.example'")))
        .collect();
    plain(include_str!("../src/queue/sql/suppressed.sql"))
        .replace("$1", "array[1::bigint]")
        .replace("$2", &format!("array[{}]", forms.len()))
        .replace("$3", &format!("array[{}]", forms.join(",")))
}

#[tokio::test]
async fn a_check_of_suppressions_reads_no_table_and_few_pages_however_long_the_list_is() {
    let queue = Queue::new().await;
    list(&queue, 20_000).await;
    let statement = check();
    let few = queue.cost(&statement, Scans::None).await;
    list(&queue, 200_000).await;
    let many = queue.cost(&statement, Scans::AsPlanned).await;
    // A look for each text, of the depth of the index.
    assert!(many.pages <= few.pages * 2, "{few:?} became {many:?}");

    let mut tx = queue.worker.begin().await.expect("begin");
    sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *tx).await.expect("check");
    assert_eq!(whole_reads(&mut tx).await, 0);
    tx.rollback().await.expect("rollback");

    // The same inside of a submission, as the API's role.
    let mut tx = queue.owner.begin().await.expect("begin");
    sqlx::query("select set_config('role', 'postrider_api', true), set_config('postrider.tenant', '1', true)")
        .execute(&mut *tx)
        .await
        .expect("act");
    let to: Vec<String> = (0..1_000)
        .map(|n| format!("{}{n}@d{}.example", if n % 10 == 0 { "U" } else { "free" }, n % 100))
        .collect();
    let probes = Probes::new(&Keeper::default(), &to);
    for _ in 0..7 {
        let held: Vec<i32> =
            sqlx::query_scalar("select postrider.held_recipients(1, 'bulk', $1, $2, $3)")
                .bind(&to)
                .bind(&probes.of)
                .bind(&probes.forms)
                .fetch_one(&mut *tx)
                .await
                .expect("check");
        assert_eq!(held.len(), 99, "u0 is not on the list");
    }
    assert_eq!(whole_reads(&mut tx).await, 0);
}

/// How often this transaction read the list's table from end to end.
async fn whole_reads(conn: &mut sqlx::PgConnection) -> i64 {
    sqlx::query_scalar(
        "select coalesce(sum(seq_scan), 0)::bigint from pg_stat_xact_user_tables
         where schemaname = 'postrider' and relname = 'suppression'",
    )
    .fetch_one(conn)
    .await
    .expect("ask")
}
