//! Promise: what waits can be taken into another stream, all of it and once, and mail can be
//! sent by another route for a while.

use std::path::Path;

use crate::support::builders;
use crate::support::command::{bare, facts, postrider, ran};
use crate::support::installation::Installation;
use crate::support::postgres::{Role, TestDb};
use postrider::queue::{admin::audit::Extent, admin::audit::audit, upkeep};
use postrider::sink::{Options, Sink};
use sqlx::PgPool;

async fn in_stream(owner: &PgPool, table: &str, stream: &str) -> i64 {
    let query = format!(
        "select count(*) from postrider.{table} w join postrider.lane using (lane_id)
         join postrider.stream using (stream_id) where name = $1"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(query))
        .bind(stream)
        .fetch_one(owner)
        .await
        .expect("count")
}

#[tokio::test]
async fn what_waits_is_taken_to_another_stream_and_keeps_its_message() {
    let db = TestDb::new().await;
    let (owner, api, worker) =
        (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
    let shop = builders::tenant(&owner, "shop").await;
    let to = builders::recipients(6_000, "example.org");
    let first = builders::submit(&api, shop, "shop", "spring", &to).await;
    builders::submit(&api, shop, "shop", "spring", &to).await;
    sqlx::query(
        "with gone as (delete from postrider.ready where job_id in (
           select job_id from postrider.ready order by job_id limit 100) returning *)
         insert into postrider.deferred(due_at, job_id, lane_id, tenant_id, expires_at)
         select now() + interval '1 hour', job_id, lane_id, tenant_id, expires_at from gone",
    )
    .execute(&owner)
    .await
    .expect("defer");

    let base = ["queue", "move", "--tenant", "shop", "--stream", "spring"];
    let nowhere =
        postrider(&db, &[&base[..], &["--to-stream", "summer", "--reason", "x"]].concat());
    assert!(nowhere.code == 1 && nowhere.err.contains("known are spring"), "{}", nowhere.err);
    let told =
        facts(&db, &[&base[..], &["--to-stream", "bulk", "--reason", "not urgent"]].concat());
    assert_eq!(told["deliveries"], 12_000);
    assert_eq!(in_stream(&owner, "ready", "spring").await, 0);
    assert_eq!(in_stream(&owner, "ready", "bulk").await, 11_900);
    assert_eq!(in_stream(&owner, "deferred", "bulk").await, 100);
    let again = facts(&db, &[&base[..], &["--to-stream", "bulk", "--reason", "again"]].concat());
    assert_eq!(again["deliveries"], 0, "all of it was moved, once");

    // The message is still called back as a whole.
    facts(&db, &["queue", "cancel", &first.to_string()]);
    while upkeep::cancel(&worker, first, 5_000).await.expect("cancel") > 0 {}
    assert_eq!(builders::attempts(&owner, 5).await, 6_000);
    let operator = db.pool(Role::Operator).await;
    let sums = audit(&operator, Extent { most: 10, ..Extent::default() }).await.expect("audit");
    assert!(sums.adds_up(), "{sums:?}");

    // Nothing is moved to where it would end, and nothing out of what is called back.
    facts(&db, &["queue", "cancel", "--tenant", "shop", "--stream", "bulk", "--reason", "over"]);
    builders::submit(&api, shop, "shop", "spring", &to[..10]).await;
    let refused = postrider(&db, &[&base[..], &["--to-stream", "bulk", "--reason", "x"]].concat());
    assert!(refused.code == 1 && refused.err.contains("called back"), "{}", refused.err);
    let back = ["queue", "move", "--tenant", "shop", "--stream", "bulk", "--to-stream", "spring"];
    assert_eq!(facts(&db, &[&back[..], &["--reason", "x"]].concat())["deliveries"], 0);
}

#[tokio::test]
async fn mail_takes_another_route_for_a_while_and_goes_back() {
    let all = Installation::new(None).await;
    let second = Sink::start(Options::default()).await.expect("a second sink");
    let config = all.configure(&format!(
        "[[route]]\nname = \"second\"\nkind = \"relay\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n",
        second.smtp().port()
    ));
    let tenant = builders::tenant(&all.owner, "acme").await;
    let daemon = all.daemon(&config).await;
    let to = builders::recipients(5, "example.org");
    all.submit(tenant, "bulk", &to).await;
    all.drained(&daemon).await;
    assert_eq!((all.sink.stats().accepted, second.stats().accepted), (5, 0));

    let base = ["queue", "move", "--tenant", "acme"];
    let wrong = run(
        &config,
        &[&base[..], &["--to-route", "thrid", "--for", "1h", "--reason", "x"]].concat(),
    );
    assert!(wrong.code == 1 && wrong.err.contains("known are sink, second"), "{}", wrong.err);
    let done = run(
        &config,
        &[&base[..], &["--to-route", "second", "--for", "1h", "--reason", "listed"]].concat(),
    );
    assert_eq!(done.code, 0, "{}", done.err);
    let status = run(&config, &["queue", "status"]);
    assert!(status.out.contains("second") && status.out.contains("listed"), "{}", status.out);
    all.submit(tenant, "bulk", &to).await;
    all.drained(&daemon).await;
    assert_eq!((all.sink.stats().accepted, second.stats().accepted), (5, 5));

    let done = run(&config, &[&base[..], &["--back"]].concat());
    assert!(done.code == 0 && done.out.contains("again"), "{}{}", done.out, done.err);
    all.submit(tenant, "bulk", &to).await;
    all.drained(&daemon).await;
    assert_eq!((all.sink.stats().accepted, second.stats().accepted), (10, 5));
}

fn run(config: &Path, args: &[&str]) -> crate::support::command::Ran {
    let path = config.to_str().expect("a path");
    ran(&bare(&[args, &["--config", path]].concat()).output().expect("run"))
}
