//! Promises: tenants in several databases are served by one daemon and one API; a tenant moves
//! from one to another under load, with the mover killed at any step, and nothing is lost,
//! doubled, or alive in both; a database that is away stops nobody else.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::support::builders;
use crate::support::cells::{Tenant, TwoCells, ask};
use crate::support::postgres::{Role, TestDb};
use axum::Router;
use axum::http::{Method, StatusCode};
use postrider::cell::moving::{CARRIED, Event, Move, MoveError, Plan, plan};
use postrider::cell::{Cell, identity};
use postrider::cli::dev::cluster::Stop;
use postrider::domain::ids::{CellNumber, MessageId};
use postrider::queue::admin::audit::{Extent, audit};
use serde_json::{Value, json};
use sqlx::PgPool;

fn message(tenant: &str, to: &[String]) -> Value {
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    crate::support::api::message(tenant, &to)
}

/// Submits until it is accepted; how often it was told to come again because of a move.
async fn insist(api: &Router, tenant: &Tenant, body: &Value, once: &str) -> (String, u64) {
    let mut moving = 0;
    loop {
        let (status, said) =
            ask(api, Method::POST, "/v1/messages", &tenant.key, once, Some(body)).await;
        match status {
            StatusCode::ACCEPTED => return (said["id"].as_str().expect("an id").into(), moving),
            StatusCode::SERVICE_UNAVAILABLE => {
                assert_eq!(said["type"], "urn:postrider:problem:tenant-moving", "{said}");
                moving += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            other => panic!("{other}: {said}"),
        }
    }
}

/// Keeps submitting one message of two recipients after the other until told to stop.
async fn load_of(
    api: Router,
    name: &'static str,
    tenant: Tenant,
    stop: Arc<AtomicBool>,
) -> (u64, u64) {
    let (mut recipients, mut refused) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let to = [0, 1].map(|n| format!("{name}-load{}@example.org", recipients + n));
        let once = format!("load {recipients}");
        let (_, moving) = insist(&api, &tenant, &message(name, &to), &once).await;
        recipients += 2;
        refused += moving;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (recipients, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_moves_under_load_although_its_mover_is_killed() {
    let two = TwoCells::new().await;
    let shop = two.tenant("shop", "main");
    let bank = two.tenant("bank", "b");
    assert!(shop.id < 1 << 40 && bank.id > 1 << 40, "numbers of their cells");
    let api = two.api();
    let daemon = two.home.daemon(&two.config).await;

    let (first, _) = insist(&api, &shop, &message("shop", &["a@example.org".into()]), "1").await;
    let (second, _) = insist(&api, &bank, &message("bank", &["b@example.org".into()]), "1").await;
    let minted = |id: &str| id.parse::<MessageId>().expect("an id").minted_in();
    assert_eq!(minted(&first), CellNumber::new(0));
    assert_eq!(minted(&second), CellNumber::new(1));
    two.home.sink_has(2).await;

    // Work of every kind that waits: ready and paused, scheduled, a dead letter.
    two.facts(&[
        "queue",
        "pause",
        "--tenant",
        "shop",
        "--stream",
        "transactional",
        "--reason",
        "test",
    ]);
    let waiting = builders::recipients(500, "waits.example");
    let (paused, _) = insist(&api, &shop, &message("shop", &waiting), "2").await;
    let mut later = message("shop", &builders::recipients(40, "later.example"));
    later["send_at"] = json!(crate::support::api::in_hours(1));
    insist(&api, &shop, &later, "3").await;
    make_dead_letters(&two.main, 3).await;

    let stop = Arc::new(AtomicBool::new(false));
    let shop_load = tokio::spawn(bulk_load(api.clone(), shop.clone(), Arc::clone(&stop)));
    let bank_load = tokio::spawn(load_of(api.clone(), "bank", bank.clone(), Arc::clone(&stop)));
    two.home.sink_has(50).await;

    let moved = ["tenant", "move", "shop", "--to-cell", "b"];
    let dry = two.facts(&[&moved[..], &["--dry-run"]].concat());
    assert_eq!(dry["obstacle"], Value::Null, "{dry}");
    for step in
        ["held:", "frozen:", "the new cell is prepared", "both cells agree", "left:", "arrived:"]
    {
        two.kill_at(&moved, step);
        assert_not_alive_twice(&two.main, &two.b).await;
    }
    two.facts(&moved);
    stop.store(true, Ordering::Relaxed);
    let (shop_sent, shop_refused) = shop_load.await.expect("no panic");
    let (bank_sent, bank_refused) = bank_load.await.expect("no panic");
    assert!(shop_refused > 0, "it was told to come again meanwhile");
    assert_eq!(bank_refused, 0, "the other tenant noticed nothing");

    // Everything of the tenant is in the new cell, the pause too; the rest is found as before.
    assert_eq!(builders::rows(&two.main, "message").await, 0);
    assert_eq!(
        builders::rows(&two.main, "job").await + builders::rows(&two.main, "attempt").await,
        0
    );
    for id in [&first, &paused] {
        let path = format!("/v1/messages/{id}");
        let (status, said) = ask(&api, Method::GET, &path, &shop.key, "", None).await;
        assert_eq!(status, StatusCode::OK, "{said}");
    }
    let (again, _) = insist(&api, &shop, &message("shop", &["a@example.org".into()]), "1").await;
    assert_eq!(again, first, "its idempotency keys are known there");
    assert_eq!(two.facts(&["queue", "show", &first])["id"], json!(first));
    assert_eq!(builders::rows(&two.b, "block where scope = 'TS'").await, 1);

    two.facts(&["queue", "resume", "--tenant", "shop", "--stream", "transactional"]);
    assert!(builders::rows(&two.b, "lane_wake").await > 0, "what is scheduled wakes its lane");
    sqlx::raw_sql(
        "update postrider.lane_wake set at = now();
         update postrider.ready set run_at = now() where run_at > now()",
    )
    .execute(&two.b)
    .await
    .expect("due");
    assert_eq!(two.facts(&["dead-letter", "replay", "--tenant", "shop"])["replayed"], 3);
    two.drained().await;
    let expected = 2 + 500 + 40 + shop_sent + bank_sent;
    let stats = two.home.sink.stats();
    assert_eq!(stats.distinct_recipients, expected, "nothing was lost:\n{}", daemon.words());
    assert_eq!(stats.duplicates, 0, "nothing was doubled");
    let sums = two.facts(&["audit"]);
    assert_eq!(sums["accepted"], json!(expected), "{sums}");
    assert_eq!(sums["ended"], json!(expected), "{sums}");
    let said = two.run(&["actions"]).out;
    assert!(said.contains("tenant move") && said.contains("tenant arrived"), "{said}");
}

/// Like [`load_of`], in a stream that is not paused.
async fn bulk_load(api: Router, tenant: Tenant, stop: Arc<AtomicBool>) -> (u64, u64) {
    let (mut recipients, mut refused) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let to = [0, 1].map(|n| format!("shop-load{}@example.org", recipients + n));
        let mut body = message("shop", &to);
        body["stream"] = json!("bulk");
        let (_, moving) = insist(&api, &tenant, &body, &format!("load {recipients}")).await;
        recipients += 2;
        refused += moving;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (recipients, refused)
}

/// Turns some of what waits into dead letters.
async fn make_dead_letters(owner: &PgPool, n: i64) {
    let made = sqlx::query(
        "with few as (select * from postrider.ready limit $1),
              gone as (delete from postrider.ready r using few s
                       where r.gen = s.gen and r.lane_id = s.lane_id and r.job_id = s.job_id returning r.*)
         insert into postrider.dead_letter(tenant_id, job_id, message_id, lane_id, attempts, hold, reason, recipient, payload)
         select g.tenant_id, g.job_id, j.message_id, g.lane_id, 0, g.hold, 'malformed', j.recipient, j.payload
         from gone g join postrider.job j using (job_id)",
    )
    .bind(n)
    .execute(owner)
    .await
    .expect("make dead letters");
    assert_eq!(made.rows_affected() as i64, n);
}

/// No delivery can be claimed in both cells, and the tenant lives in one at most.
async fn assert_not_alive_twice(main: &PgPool, b: &PgPool) {
    let mut seen = BTreeSet::new();
    let mut homes = 0;
    // The new cell first: what leaves the old one in between is not there yet.
    for pool in [b, main] {
        let jobs: Vec<i64> = sqlx::query_scalar(
            "select job_id from postrider.ready union all select job_id from postrider.lease
             union all select job_id from postrider.deferred union all select job_id from postrider.dead_letter",
        )
        .fetch_all(pool)
        .await
        .expect("look");
        for job in jobs {
            assert!(seen.insert(job), "delivery {job} can be claimed in both cells");
        }
        homes +=
            builders::rows(pool, "tenant where name = 'shop' and residence in ('here', 'leaving')")
                .await;
    }
    assert!(homes <= 1, "the tenant lives in both cells");
}

// --- every step ------------------------------------------------------------------

/// Two cells as two databases of one server, which is enough without daemons.
struct Pair {
    _dbs: [TestDb; 2],
    cells: Vec<Cell>,
    owners: [PgPool; 2],
}

impl Pair {
    async fn new() -> Self {
        let dbs = [TestDb::new().await, TestDb::new().await];
        let (mut cells, mut owners) = (Vec::new(), Vec::new());
        for (number, db) in dbs.iter().enumerate() {
            let owner = db.pool(Role::Owner).await;
            let name = ["main", "b"][number];
            identity::init(&owner, number as u8, name).await.expect("fresh");
            let pool = db.pool(Role::Operator).await;
            cells.push(Cell { name: name.into(), number: CellNumber::new(number as u8), pool });
            owners.push(owner);
        }
        Self { _dbs: dbs, cells, owners: owners.try_into().expect("two") }
    }

    async fn plan(&self, to: usize) -> Result<Plan, MoveError> {
        plan(&self.cells, "shop", &self.cells[to], "test", Duration::from_secs(5)).await
    }

    async fn go(&self, to: usize) -> Move {
        match self.plan(to).await.expect("a plan") {
            Plan::Go(mut one) => {
                one.grace = Duration::ZERO;
                one
            }
            Plan::Undo(_) => panic!("expected a move"),
        }
    }

    /// A tenant in `main` with something of everything; how many deliveries wait.
    async fn shop(&self) -> i64 {
        let owner = &self.owners[0];
        let id = builders::tenant(owner, "shop").await;
        for (stream, n) in [("transactional", 7), ("bulk", 1_200), ("news", 3)] {
            builders::submit(
                owner,
                id,
                "shop",
                stream,
                &builders::recipients(n, stream_domain(stream)),
            )
            .await;
        }
        make_dead_letters(owner, 2).await;
        sqlx::raw_sql(
            "with few as (select * from postrider.ready limit 4),
                  gone as (delete from postrider.ready r using few s
                           where r.gen = s.gen and r.lane_id = s.lane_id and r.job_id = s.job_id returning r.*)
             insert into postrider.deferred(due_at, job_id, lane_id, tenant_id, expires_at, attempt, hold)
             select now() + interval '1 hour', job_id, lane_id, tenant_id, expires_at, 1, 1 from gone;
             insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind, code, detail)
             select d.tenant_id, j.message_id, d.job_id, 1, 7, 450, '{\"b\": 1.50, \"a\": \"ü\"}'
             from postrider.deferred d join postrider.job j using (job_id);
             with few as (select * from postrider.ready limit 5),
                  gone as (delete from postrider.ready r using few s
                           where r.gen = s.gen and r.lane_id = s.lane_id and r.job_id = s.job_id returning r.*)
             insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind)
             select g.tenant_id, j.message_id, g.job_id, 1, 1 from gone g join postrider.job j using (job_id);
             insert into postrider.suppression(tenant_id, address, reason, source)
             select tenant_id, 'no@example.org', 'asked', 'operator' from postrider.tenant;
             insert into postrider.api_key(tenant_id, prefix, hash) select tenant_id, 'pr_00000000', '\\x00' from postrider.tenant;
             insert into postrider.upload_chunk(tenant_id, message_id, upload, chunk, digest, accepted, suppressed)
             select tenant_id, message_id, '\\x01', 0, '\\x02', 1, 0 from postrider.message;
             with scheduled as (
               select * from postrider.ready order by job_id desc limit 3
             ), gone as (
               delete from postrider.ready r using scheduled s
               where r.gen = s.gen and r.lane_id = s.lane_id and r.job_id = s.job_id returning r.*
             )
             insert into postrider.ready(gen, lane_id, run_at, job_id, tenant_id, expires_at)
             select 4, lane_id, now() + interval '1 hour', job_id, tenant_id, expires_at from gone;
             insert into postrider.block(scope, key, until, reason, holder, actor)
             select 'TS', tenant_id || '/' || stream_id, now() + interval '1 day', 'paused', 'tenant', 'key'
             from postrider.stream where name = 'news';
             insert into postrider.pool(name) values ('first'), ('google');
             insert into postrider.block(scope, key, until, reason)
             select 'TP', tenant_id || '/' || pool_id, now() + interval '1 day', 'not there'
             from postrider.tenant, postrider.pool where pool.name = 'google';
             insert into postrider.route_override(scope, key, route, until, reason, actor)
             select 'TSR', tenant_id || '/' || stream_id || '/direct', 'smarthost', now() + interval '1 day', 'listed', 'me'
             from postrider.stream where name = 'bulk';
             insert into postrider.route_override(scope, key, route, until, reason, actor)
             select 'L', lane_id, 'smarthost', now() + interval '1 day', 'listed', 'me'
             from postrider.lane join postrider.stream using (stream_id) where name = 'news';
             insert into postrider.lane_cancellation(lane_id, tenant_id, before_id, reason, actor)
             select lane_id, lane.tenant_id, postrider.mint_id(), 'wrong', 'me'
             from postrider.lane join postrider.stream using (stream_id) where name = 'news';
             insert into postrider.late_outcome(tenant_id, job_id, hold, kind, detail)
             select tenant_id, job_id, 1, 1, '{\"b\": 1.50}' from postrider.dead_letter",
        )
        .execute(owner)
        .await
        .expect("something of everything");
        builders::rows(owner, "ready").await + 4 + 2
    }

    /// What the tenant has, wherever it lives, but for numbers that belong to a cell.
    async fn contents(&self, cell: usize) -> Vec<String> {
        sqlx::query_scalar(
            "select x from (
               select 'message ' || (to_jsonb(m) - 'stream_id')::text || m.content::text || s.name as x
                 from postrider.message m join postrider.stream s using (stream_id)
               union all select 'job ' || (to_jsonb(j) - 'lane_id')::text || p.name || l.prio || s.name
                 from postrider.job j join postrider.lane l using (lane_id) join postrider.pool p using (pool_id)
                 join postrider.stream s using (stream_id)
               union all select 'attempt ' || to_jsonb(a)::text || coalesce(a.detail::text, '') from postrider.attempt a
               union all select 'ready ' || (to_jsonb(r) - '{gen,lane_id}'::text[])::text || s.name
                 from postrider.ready r join postrider.lane l using (lane_id) join postrider.stream s using (stream_id)
               union all select 'deferred ' || (to_jsonb(d) - 'lane_id')::text from postrider.deferred d
               union all select 'dead ' || (to_jsonb(d) - 'lane_id')::text from postrider.dead_letter d
               union all select 'suppression ' || to_jsonb(d)::text from postrider.suppression d
               union all select 'key ' || (to_jsonb(k) - 'key_id')::text from postrider.api_key k
               union all select 'domain ' || to_jsonb(d)::text from postrider.sending_domain d
               union all select 'chunk ' || to_jsonb(u)::text from postrider.upload_chunk u
               union all select 'block ' || b.scope || postrider.scope_name(b.scope, b.key)
                 || (to_jsonb(b) - 'key')::text from postrider.block b
               union all select 'detour ' || postrider.scope_name(o.scope, o.key) || (to_jsonb(o) - 'key')::text
                 from postrider.route_override o where o.scope <> 'L'
               union all select 'detour of a lane ' || s.name || (to_jsonb(o) - 'key')::text
                 from postrider.route_override o join postrider.lane l on l.lane_id::text = o.key
                 join postrider.stream s using (stream_id) where o.scope = 'L'
               union all select 'recall ' || s.name || (to_jsonb(c) - 'lane_id')::text
                 from postrider.lane_cancellation c join postrider.lane l using (lane_id)
                 join postrider.stream s using (stream_id)
               union all select 'late ' || to_jsonb(o)::text || o.detail::text from postrider.late_outcome o) y
             order by 1",
        )
        .fetch_all(&self.owners[cell])
        .await
        .expect("read everything")
    }
}

fn stream_domain(stream: &str) -> &'static str {
    if stream == "bulk" { "gmail.com" } else { "example.org" }
}

#[tokio::test]
async fn a_move_that_dies_after_any_step_is_finished_by_the_next() {
    let pair = Pair::new().await;
    let waiting = pair.shop().await;
    let before = pair.contents(0).await;
    let (mut here, mut there) = (0, 1);
    for dies_after in 1.. {
        let mut heard = 0;
        let mut told = |_: &Event| {
            heard += 1;
            if heard == dies_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let ended = pair.go(there).await.run(&mut told).await;
        assert_not_alive_twice(&pair.owners[0], &pair.owners[1]).await;
        let died = match ended {
            Ok(()) => false,
            Err(MoveError::Stopped) => true,
            Err(error) => panic!("after {dies_after}: {error}"),
        };
        // `Done` is the last step: nothing is left to go on with.
        match pair.plan(there).await {
            Ok(Plan::Go(mut one)) => {
                one.grace = Duration::ZERO;
                one.run(&mut |_| ControlFlow::Continue(())).await.expect("finished");
            }
            Err(MoveError::AlreadyThere { .. }) => {}
            other => panic!("after {dies_after}: {other:?}"),
        }
        assert_eq!(pair.contents(there).await, before, "after {dies_after}");
        assert_eq!(pair.contents(here).await, Vec::<String>::new(), "after {dies_after}");
        for owner in &pair.owners {
            let sums = audit(owner, Extent { most: 5, ..Extent::default() }).await.expect("audit");
            assert!(sums.adds_up(), "after {dies_after}: {:?}", sums.detail);
        }
        let left = builders::rows(&pair.owners[here], "lane").await;
        assert_eq!(left, 0, "lanes are left");
        let left = builders::rows(&pair.owners[here], "lane_wake").await;
        assert_eq!(left, 0, "seconds of lanes are left");
        assert!(builders::rows(&pair.owners[there], "lane_wake").await > 0, "its hour comes");
        std::mem::swap(&mut here, &mut there);
        if !died {
            assert!(dies_after > 15, "{dies_after} steps only");
            break;
        }
    }
    let rows = builders::rows(&pair.owners[here], "ready").await;
    assert_eq!(rows + 4 + 2, waiting);
}

#[tokio::test]
async fn a_move_is_undone_before_the_tenant_has_left() {
    let pair = Pair::new().await;
    pair.shop().await;
    let before = pair.contents(0).await;
    let steps = AtomicU64::new(0);
    for dies_after in [1, 3, 6, 12, 20] {
        steps.store(0, Ordering::Relaxed);
        let mut told = |event: &Event| {
            let n = steps.fetch_add(1, Ordering::Relaxed) + 1;
            if n == dies_after || *event == Event::Compared {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let stopped = pair.go(1).await.run(&mut told).await;
        assert!(matches!(stopped, Err(MoveError::Stopped)), "{stopped:?}");
        let elsewhere = plan(&pair.cells, "shop", &pair.cells[0], "test", Duration::ZERO).await;
        let Ok(Plan::Undo(undo)) = elsewhere else { panic!("{elsewhere:?}") };
        undo.undo(&mut |_| ControlFlow::Continue(())).await.expect("undone");
        assert_eq!(pair.contents(0).await, before, "after {dies_after}");
        assert_eq!(pair.contents(1).await, Vec::<String>::new(), "after {dies_after}");
        assert_eq!(builders::rows(&pair.owners[0], "block where scope = 'T'").await, 0);
    }
    // It can be moved all the same.
    pair.go(1).await.run(&mut |_| ControlFlow::Continue(())).await.expect("moved");
    assert_eq!(pair.contents(1).await, before);
}

#[tokio::test]
async fn what_is_in_hand_and_older_transactions_are_waited_for_but_not_forever() {
    let pair = Pair::new().await;
    let owner = &pair.owners[0];
    let id = builders::tenant(owner, "shop").await;
    builders::submit(owner, id, "shop", "bulk", &builders::recipients(3, "example.org")).await;
    let session = builders::session(owner, Duration::from_secs(60)).await;
    assert_eq!(builders::claim_all(owner, session.id(), 1).await.len(), 1);
    let mut one = pair.go(1).await;
    one.patience = Duration::from_millis(300);
    let ended = one.run(&mut |_| ControlFlow::Continue(())).await.expect_err("it waits");
    assert!(ended.to_string().contains("1 deliveries in hand of test (session"), "{ended}");
    assert_eq!(builders::rows(&pair.owners[1], "job").await, 0, "nothing was copied");

    // A submission of an application's own transaction that began before.
    sqlx::query("delete from postrider.lease").execute(owner).await.expect("settle");
    let mut tx = owner.begin().await.expect("begin");
    sqlx::query("select 1").execute(&mut *tx).await.expect("a snapshot");
    let ended = one.run(&mut |_| ControlFlow::Continue(())).await.expect_err("it waits");
    assert!(ended.to_string().contains("transactions that began before"), "{ended}");
    tx.commit().await.expect("commit");
}

#[tokio::test]
async fn a_moving_tenant_is_refused_in_sql_with_a_hint() {
    let pair = Pair::new().await;
    let owner = &pair.owners[0];
    let id = builders::tenant(owner, "shop").await;
    for (residence, code) in [("leaving", "PRMOV"), ("left", "PRGON")] {
        sqlx::query("update postrider.tenant set residence = $1")
            .bind(residence)
            .execute(owner)
            .await
            .expect("set");
        let refused = sqlx::query(
            "select * from postrider.submit($1, 'shop.example', 'bulk', '{}'::json, null, null, '{a@example.org}', '{null}')",
        )
        .bind(id)
        .execute(owner)
        .await
        .expect_err("refused");
        let refused = refused.into_database_error().expect("by the database");
        assert_eq!(refused.code().as_deref(), Some(code));
        let refused = refused.downcast::<sqlx::postgres::PgDatabaseError>();
        assert!(refused.hint().is_some_and(|hint| hint.starts_with("Nothing was stored")));
    }
    assert_eq!(builders::rows(owner, "job").await, 0);
}

#[tokio::test]
async fn every_table_of_a_tenant_moves_with_it() {
    let db = TestDb::new().await;
    let owner = db.pool(Role::Owner).await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c
         join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
         where c.relnamespace = 'postrider'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition",
    )
    .fetch_all(&owner)
    .await
    .expect("the catalogue");
    // A lease never moves: a move waits until there is none. Why lanes wait is told anew.
    let known: BTreeSet<&str> = CARRIED.into_iter().chain(["lease", "lane_wait"]).collect();
    let found: BTreeSet<&str> = tables.iter().map(String::as_str).collect();
    assert_eq!(found, known, "say in src/cell/moving what becomes of it");
}

// --- which cell is which -----------------------------------------------------------

#[tokio::test]
async fn a_database_keeps_its_number_once_ids_carry_it() {
    let pair = Pair::new().await;
    let [main, b] = &pair.owners;
    let ids = |pool: PgPool| async move {
        sqlx::query_scalar::<_, i64>("select postrider.mint_id() from generate_series(1, 70000)")
            .fetch_all(&pool)
            .await
            .expect("mint")
    };
    let (here, there) = (ids(main.clone()).await, ids(b.clone()).await);
    let all: BTreeSet<i64> = here.iter().chain(&there).copied().collect();
    assert_eq!(all.len(), 140_000, "no id twice");
    assert!(here.iter().all(|id| MessageId::new(*id).minted_in() == CellNumber::new(0)));
    assert!(there.iter().all(|id| MessageId::new(*id).minted_in() == CellNumber::new(1)));
    identity::init(b, 1, "b2").await.expect("the same number, another name");
    let refused = identity::init(b, 2, "b").await.expect_err("refused");
    assert!(refused.to_string().contains("has given out ids under that number"), "{refused}");
    let wrong = Cell { number: CellNumber::new(2), ..pair.cells[1].clone() };
    let refused = identity::verify(&wrong).await.expect_err("another cell");
    assert!(refused.to_string().contains("is number 1, the configuration says 2"), "{refused}");
}

// --- several and one ---------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_serves_the_cells_it_is_told_to_and_counts_in_the_home_cell() {
    let two = TwoCells::new().await;
    let shop = two.tenant("shop", "main");
    let bank = two.tenant("bank", "b");
    let api = two.api();
    let text = std::fs::read_to_string(&two.config).expect("read");
    let only_b = two.config.with_file_name("only-b.toml");
    std::fs::write(&only_b, text.replace("[worker]\n", "[worker]\ncells = [\"b\"]\n"))
        .expect("write");
    let daemon = two.home.daemon(&only_b).await;
    insist(&api, &shop, &message("shop", &["a@example.org".into()]), "1").await;
    insist(&api, &bank, &message("bank", &["b@example.org".into()]), "1").await;
    two.home.sink_has(1).await;
    while builders::rows(&two.main, "worker_session where state = 'alive'").await == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(builders::rows(&two.main, "ready").await, 1, "the home cell is left alone");
    assert_eq!(daemon.terminate().await, Some(0));
    assert_eq!(builders::rows(&two.main, "worker_session where state = 'alive'").await, 0);

    let taken = two.run(&["tenant", "create", "bank", "--cell", "main"]);
    assert_eq!(taken.code, 1, "a name is one tenant's in all cells");
    let foreign = ["domain", "add", "--tenant", "shop", "bank.example", "--algorithm", "none"];
    assert_eq!(two.run(&foreign).code, 1, "a domain is one tenant's in all cells");
    let cells = two.facts(&["cell", "list"]);
    assert_eq!((&cells[0]["name"], &cells[0]["tenants"]), (&json!("main"), &json!(1)), "{cells}");
    assert_eq!((&cells[1]["name"], &cells[1]["tenants"]), (&json!("b"), &json!(1)), "{cells}");
    assert_eq!(two.run(&["cell", "status"]).code, 0);
    let listed = two.facts(&["tenant", "list"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
}

// --- one is away -----------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_that_is_away_stops_nobody_else_and_joins_when_it_comes() {
    let mut two = TwoCells::new().await;
    let shop = two.tenant("shop", "main");
    let bank = two.tenant("bank", "b");
    let api = two.api();
    insist(&api, &bank, &message("bank", &["b0@example.org".into()]), "0").await;
    two.b_cluster.take().expect("runs").stop(Stop::Fast).expect("stop");

    // At the start.
    let daemon = two.home.start(&two.config);
    insist(&api, &shop, &message("shop", &["a1@example.org".into()]), "1").await;
    two.home.sink_has(1).await;
    let said = daemon.readiness().await;
    assert!(said.contains(r#""cell main":{"ready":true"#), "{said}");
    assert!(
        said.contains(r#""cell b":{"ready":false,"reason":"the database does not answer"#),
        "{said}"
    );
    let body = message("bank", &["b1@example.org".into()]);
    let (status, said) = ask(&api, Method::POST, "/v1/messages", &bank.key, "1", Some(&body)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "never that the key is wrong: {said}");

    two.start_b();
    two.home.sink_has(2).await;
    // While it works.
    two.b_cluster.take().expect("runs").stop(Stop::Fast).expect("stop");
    let to = builders::recipients(200, "example.org");
    insist(&api, &shop, &message("shop", &to), "2").await;
    two.home.sink_has(202).await;
    two.start_b();
    daemon.metric_reaches("postrider_cell_up{cell=\"b\"}", 1.0).await;
    assert_eq!(daemon.terminate().await, Some(0));
    assert_eq!(two.home.sink.stats().duplicates, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_holds_over_all_cells_and_is_changed_for_all_at_once() {
    let two = TwoCells::new().await;
    let (shop, bank) = (two.tenant("shop", "main"), two.tenant("bank", "b"));
    let api = two.api();
    let text = std::fs::read_to_string(&two.config).expect("read");
    let limit = "[[throttle]]\nscope = \"route\"\nroute = \"sink\"\nrate = \"10/d\"\nburst = 10\n";
    std::fs::write(&two.config, format!("{text}\n{limit}")).expect("write");
    let only_b = two.config.with_file_name("only-b.toml");
    let one = text.replace("[worker]\n", "[worker]\ncells = [\"b\"]\n");
    std::fs::write(&only_b, format!("{one}\n{limit}")).expect("write");
    let daemons = [two.home.daemon(&two.config).await, two.home.daemon(&only_b).await];
    let to = |domain| builders::recipients(30, domain);
    insist(&api, &shop, &message("shop", &to("one.example")), "1").await;
    insist(&api, &bank, &message("bank", &to("two.example")), "1").await;
    // Everybody waits for the limit, the daemon without a part in the home cell too.
    for (pool, sessions) in [(&two.main, 1), (&two.b, 2)] {
        let waiting = "(select distinct session_id from postrider.lane_wait where reason = 'rate')";
        let count = format!("worker_session where session_id in {waiting}");
        while builders::rows(pool, &count).await < sessions {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    while builders::rows(&two.main, "lease").await + builders::rows(&two.b, "lease").await > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let sent = two.home.sink.stats().distinct_recipients;
    assert!((1..=10).contains(&sent), "ten together, not each: {sent}");
    let limit = ["throttle", "set", "--scope", "route", "--route", "sink", "--rate", "1000/s"];
    two.facts(&[&limit[..], &["--for", "1h", "--reason", "test", "--cell", "b"]].concat());
    two.drained().await;
    assert_eq!(two.home.sink.stats().distinct_recipients, 60);
    for daemon in daemons {
        assert_eq!(daemon.terminate().await, Some(0));
    }
    assert_eq!(builders::rows(&two.main, "throttle_slot").await, 0);
}
