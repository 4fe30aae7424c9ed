//! Promises: everything that becomes of a listening tenant's mail is told, in the transaction
//! that made it so; a reader passes over nothing, in whatever order transactions commit; and
//! who dies between an endpoint's answer and the cursor tells again, under the same ids.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::support::builders;
use crate::support::hook::Hook;
use crate::support::installation::Installation;
use crate::support::postgres::{Role, TestDb};
use postrider::domain::ids::TenantId;
use postrider::domain::outcome::Outcome;
use postrider::domain::receipt::Trail;
use postrider::event::cursor::Place;
use postrider::event::log::{self, Page};
use postrider::event::{days, switch};
use postrider::queue::settle::{DeadReason, Ending, Settlement, settle};
use postrider::queue::upkeep;
use sqlx::{Connection, PgConnection, PgPool};

/// Only a broken program reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

async fn read(pool: &PgPool, tenant: i64, after: Place) -> Page {
    let mut connection = pool.acquire().await.expect("connect");
    log::read(&mut connection, TenantId::new(tenant), after, None, 1_000).await.expect("read")
}

/// Reads until there are `n` events: transactions of others on this server may hold them back.
async fn events(pool: &PgPool, tenant: i64, n: usize) -> Page {
    let started = Instant::now();
    loop {
        let page = read(pool, tenant, Place::START).await;
        if page.events.len() >= n {
            return page;
        }
        assert!(started.elapsed() < PATIENCE, "{} of {n}: {page:#?}", page.events.len());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn kinds(page: &Page) -> Vec<&'static str> {
    let mut kinds: Vec<_> = page.events.iter().map(|entry| entry.event.kind).collect();
    kinds.sort_unstable();
    kinds
}

/// Lines of the history that are not told in their own transaction, or told twice.
const UNTOLD: &str = "select count(*) from postrider.attempt a where 1 <> (
    select count(*) from postrider.event e
    where e.xid = a.xmin::text::bigint and e.job_id = a.job_id and e.attempt = a.attempt
      and e.kind = case a.kind when 8 then 7 else a.kind end)";

async fn count(pool: &PgPool, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(pool).await.expect("count")
}

#[tokio::test]
async fn everything_that_ends_is_told_in_the_transaction_of_its_cause() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let tenant = builders::tenant(&owner, "acme").await;
    switch::on(&owner, TenantId::new(tenant)).await.expect("switch on");
    let to = builders::recipients(7, "example.org");
    builders::submit(&api, tenant, "acme", "bulk", &to).await;
    let session = builders::session(&worker, Duration::from_secs(60)).await;
    let jobs = builders::claim_all(&worker, session.id(), 7).await;
    let endings = [
        Ending::Delivered,
        Ending::Bounced { condemned: true },
        Ending::Deferred { delay: Duration::ZERO, in_doubt: false },
        Ending::Suppressed,
        Ending::Dead(DeadReason::Malformed),
    ];
    for (job, ending) in jobs.iter().zip(endings) {
        let settlement = Settlement::new(job, ending, &Outcome::Expired, &Trail::default());
        settle(&worker, session.id(), job.generation, &[&settlement]).await.expect("settle");
    }
    // Two are in hand when their worker dies; what comes back expires or is called back.
    builders::intend(&worker, session.id(), 1, &jobs[5..6]).await;
    builders::fence_all(&owner).await;
    upkeep::rescue(&worker, 100, Duration::ZERO, 5).await.expect("rescue");
    let message = jobs[0].message;
    sqlx::query(
        "update postrider.deferred set expires_at = now(), due_at = now() where job_id = $1",
    )
    .bind(jobs[5].id.get())
    .execute(&owner)
    .await
    .expect("age one");
    upkeep::promote(&worker, 100).await.expect("promote");
    let called = "select postrider.cancel_message($1, $2)";
    sqlx::query(called).bind(tenant).bind(message.get()).execute(&api).await.expect("cancel");
    upkeep::cancel(&worker, message, 100).await.expect("sweep");
    let left: bool = sqlx::query_scalar("select postrider.unsubscribe($1)")
        .bind(jobs[0].id.get())
        .fetch_one(&api)
        .await
        .expect("unsubscribe");
    assert!(left);
    sqlx::query(
        "insert into postrider.suppression(tenant_id, address, reason, source)
         values ($1, 'angry@example.org', 'complaint', 'report'), ($1, 'own@example.org', 'x', 'api')",
    )
    .bind(tenant)
    .execute(&owner)
    .await
    .expect("a complaint");

    assert_eq!(count(&worker, UNTOLD).await, 0);
    let told = "select count(*) from postrider.event where attempt is not null";
    assert_eq!(count(&worker, told).await, builders::rows(&owner, "attempt").await, "and no more");
    let page = events(&worker, tenant, 14).await;
    assert_eq!(
        kinds(&page),
        [
            "accepted",
            "bounced",
            "cancelled",
            "cancelled",
            "complained",
            "dead_lettered",
            "deferred",
            "deferred",
            "deferred",
            "delivered",
            "expired",
            "suppressed",
            "suppressed",
            "unsubscribed",
        ]
    );
    let of = |kind: &str| page.events.iter().find(|entry| entry.event.kind == kind).expect("one");
    let accepted = &of("accepted").event.data;
    assert_eq!(accepted.more["recipients"], 7);
    assert_eq!(accepted.message_id, Some(message));
    let bounced = &of("bounced").event.data;
    let recipient: String =
        sqlx::query_scalar("select recipient from postrider.job where job_id = $1")
            .bind(jobs[1].id.get())
            .fetch_one(&owner)
            .await
            .expect("its delivery");
    assert_eq!(bounced.to, Some(recipient));
    assert_eq!(bounced.stream.as_deref(), Some("bulk"));
    let complained = &of("complained").event.data;
    assert_eq!(complained.to.as_deref(), Some("angry@example.org"));
    assert_eq!(complained.more["reason"], "complaint");
}

#[tokio::test]
async fn what_is_rolled_back_is_not_told_and_who_did_not_ask_is_told_nothing() {
    let db = TestDb::new().await;
    let (owner, api) = (db.pool(Role::Owner).await, db.pool(Role::Api).await);
    let (listens, other) =
        (builders::tenant(&owner, "acme").await, builders::tenant(&owner, "other").await);
    switch::on(&owner, TenantId::new(listens)).await.expect("switch on");
    let to = builders::recipients(2, "example.org");
    builders::submit(&api, other, "other", "bulk", &to).await;
    assert_eq!(builders::rows(&owner, "event").await, 0);

    let mut conn = PgConnection::connect(&db.url()).await.expect("connect");
    let mut tx = conn.begin().await.expect("begin");
    sqlx::query(
        "insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind) values ($1, 1, 1, 1, 1)",
    )
    .bind(listens)
    .execute(&mut *tx)
    .await
    .expect("write");
    tx.rollback().await.expect("roll back");
    assert_eq!(builders::rows(&owner, "event").await, 0);

    builders::submit(&api, listens, "acme", "bulk", &to).await;
    assert_eq!(builders::rows(&owner, "event").await, 1);
    assert!(switch::off(&owner, TenantId::new(listens)).await.expect("switch off"));
    builders::submit(&api, listens, "acme", "bulk", &to).await;
    assert_eq!(builders::rows(&owner, "event").await, 1);
}

#[tokio::test]
async fn a_reader_waits_for_what_commits_late_and_passes_over_nothing() {
    let db = TestDb::new().await;
    let (owner, worker) = (db.pool(Role::Owner).await, db.pool(Role::Worker).await);
    let tenant = builders::tenant(&owner, "acme").await;
    switch::on(&owner, TenantId::new(tenant)).await.expect("switch on");
    let insert = "insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind)
                  values ($1, 1, $2, 1, 1)";
    let mut late = PgConnection::connect(&db.url()).await.expect("connect");
    let mut tx = late.begin().await.expect("begin");
    sqlx::query(insert).bind(tenant).bind(1_i64).execute(&mut *tx).await.expect("write");
    for job in 2..=5_i64 {
        sqlx::query(insert).bind(tenant).bind(job).execute(&worker).await.expect("write");
    }
    assert_eq!(builders::rows(&owner, "event").await, 4, "they are committed");
    let before = read(&worker, tenant, Place::START).await;
    assert!(before.events.is_empty(), "and are not told before the one that began earlier");
    tx.commit().await.expect("commit");
    let page = events(&worker, tenant, 5).await;
    let jobs: Vec<i64> =
        page.events.iter().map(|entry| entry.event.delivery.expect("one").get()).collect();
    assert_eq!(jobs, [1, 2, 3, 4, 5], "in the order of the transactions");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_every_event_once_while_many_write() {
    const WRITERS: i64 = 6;
    const EACH: i64 = 40;
    let db = TestDb::new().await;
    let (owner, worker) = (db.pool(Role::Owner).await, db.pool(Role::Worker).await);
    let tenant = builders::tenant(&owner, "acme").await;
    switch::on(&owner, TenantId::new(tenant)).await.expect("switch on");
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let url = db.url();
            tokio::spawn(async move {
                let mut conn = PgConnection::connect(&url).await.expect("connect");
                for n in 0..EACH {
                    let mut tx = conn.begin().await.expect("begin");
                    for part in 0..2 {
                        sqlx::query(
                            "insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind)
                             values ($1, 1, $2, $3, 7)",
                        )
                        .bind(tenant)
                        .bind(writer)
                        .bind((n * 2 + part) as i16)
                        .execute(&mut *tx)
                        .await
                        .expect("write");
                        tokio::task::yield_now().await;
                    }
                    tx.commit().await.expect("commit");
                }
            })
        })
        .collect();
    let started = Instant::now();
    let (mut at, mut seen) = (Place::START, Vec::new());
    while seen.len() < (WRITERS * EACH * 2) as usize {
        let page = log::read(
            &mut worker.acquire().await.expect("connect"),
            TenantId::new(tenant),
            at,
            None,
            7,
        )
        .await
        .expect("read");
        at = page.end;
        seen.extend(page.events.into_iter().map(|entry| entry.event));
        assert!(started.elapsed() < PATIENCE, "{} seen", seen.len());
    }
    for writer in writers {
        writer.await.expect("a writer");
    }
    let ids: BTreeSet<_> = seen.iter().map(|event| event.id).collect();
    assert_eq!(ids.len(), seen.len(), "none twice");
    for writer in 0..WRITERS {
        let own: Vec<_> = seen
            .iter()
            .filter(|event| event.delivery.is_some_and(|delivery| delivery.get() == writer))
            .map(|event| event.data.attempt)
            .collect();
        assert!(own.is_sorted() && own.len() == (EACH * 2) as usize, "{writer}: in order");
    }
    assert!(read(&worker, tenant, at).await.events.is_empty());
}

#[tokio::test]
async fn days_of_events_are_made_ahead_and_dropped() {
    let db = TestDb::new().await;
    let (owner, worker) = (db.pool(Role::Owner).await, db.pool(Role::Worker).await);
    let days_of =
        "select count(*) from pg_class where relname ~ '^event_[0-9]{8}$' and relkind = 'r'";
    days::roll(&worker, Duration::from_secs(14 * 86_400)).await.expect("roll");
    assert_eq!(count(&owner, days_of).await, 9, "yesterday to a week ahead");
    sqlx::query("select postrider.ensure_event_days(now() - interval '20 days', 0, 100)")
        .execute(&owner)
        .await
        .expect("days of the past");
    let (_, dropped) = days::roll(&worker, Duration::from_secs(14 * 86_400)).await.expect("roll");
    assert!((5..=6).contains(&dropped), "{dropped}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_dies_before_the_cursor_moves_leaves_the_same_events_to_the_next() {
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let more =
        "[webhook]\nallow_http = true\nallow_private_addresses = true\npoll_interval = \"50ms\"\n";
    let config = home.configure(more);
    let hook = Hook::new().await;
    let made = home.postrider(&[
        "--config",
        config.to_str().expect("UTF-8"),
        "webhook",
        "create",
        "--tenant",
        "acme",
        &hook.url(),
    ]);
    assert_eq!(made.code, 0, "{}", made.err);
    let point = ("POSTRIDER_FAILPOINTS", "events-taken=die");
    let mut doomed = home.launch(&config, &[point]);
    home.submit(tenant, "bulk", &builders::recipients(30, "example.org")).await;
    doomed.ended().await;
    let before: BTreeSet<String> = hook.got().into_iter().map(|got| got.id).collect();
    assert!(!before.is_empty(), "some were told");

    let heir = home.daemon(&config).await;
    home.drained(&heir).await;
    let all = builders::rows(&home.owner, "event").await;
    // What was told before the death is told again under the same ids.
    hook.until("all of them, and the first ones twice", |hook| {
        let got: Vec<String> = hook.got().into_iter().map(|got| got.id).collect();
        let told: BTreeSet<&String> = got.iter().collect();
        let twice = |id: &String| got.iter().filter(|told| *told == id).count() >= 2;
        told.len() as i64 >= all && before.iter().all(twice)
    })
    .await;
    assert_eq!(count(&home.owner, UNTOLD).await, 0, "and none was lost");
    assert_eq!(heir.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_goes_out_beside_a_dead_endpoint_with_a_backlog() {
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let more = "[webhook]\nallow_http = true\nallow_private_addresses = true\ntimeout = \"30s\"\n";
    let config = home.configure(more);
    // Takes connections and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let url = format!("http://{}/", silent.local_addr().expect("an address"));
    let made = home.postrider(&[
        "--config",
        config.to_str().expect("UTF-8"),
        "webhook",
        "create",
        "--tenant",
        "acme",
        &url,
    ]);
    assert_eq!(made.code, 0, "{}", made.err);
    sqlx::query(
        "insert into postrider.attempt(tenant_id, message_id, job_id, attempt, kind)
         select $1, 1, n, 1, 1 from generate_series(1, 20000) n",
    )
    .bind(tenant)
    .execute(&home.owner)
    .await
    .expect("a backlog");
    let daemon = home.daemon(&config).await;
    home.submit(tenant, "bulk", &builders::recipients(500, "example.org")).await;
    home.sink_has(500).await;
    home.drained(&daemon).await;
    let untold = builders::rows(&home.owner, "webhook_retry").await;
    assert_eq!(untold, 0, "the backlog is one cursor");
    assert_eq!(daemon.terminate().await, Some(0));
}
