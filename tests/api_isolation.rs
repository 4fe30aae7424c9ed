//! A tenant sees and changes its own rows only: by the API, and by SQL as its role.

use crate::support::api::{TestApi, message, request};
use crate::support::postgres::{Role, TestDb};
use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool, Row};

#[tokio::test]
async fn anothers_ids_are_ids_of_nothing() {
    let api = TestApi::new().await;
    let (one, two) = (api.tenant("one").await, api.tenant("two").await);
    let id = api.submit(&one.key, &message("one", &["ann@x.example"])).await.id().to_owned();
    let page = api.get(&one.key, &format!("/v1/messages/{id}/deliveries")).await;
    let delivery = page.body["deliveries"][0]["id"].as_str().expect("an id").to_owned();
    let (no_message, no_delivery) = ("msg_0000000000001", "dlv_0000000000001");

    let routes = [
        (Method::GET, "/v1/messages/ID"),
        (Method::GET, "/v1/messages/ID/deliveries"),
        (Method::GET, "/v1/messages/ID/deliveries?state=delivered"),
        (Method::GET, "/v1/messages/ID/deliveries?state=dead_lettered"),
        (Method::GET, "/v1/messages/ID/deliveries?state=queued"),
        (Method::POST, "/v1/messages/ID/cancel"),
        (Method::POST, "/v1/messages/ID/recipients"),
        (Method::GET, "/v1/deliveries/ID"),
        (Method::GET, "/v1/messages/ID/why"),
        (Method::GET, "/v1/deliveries/ID/why"),
    ];
    for (method, route) in routes {
        let (theirs, nobodys) = if route.contains("deliveries/ID") {
            (delivery.as_str(), no_delivery)
        } else {
            (id.as_str(), no_message)
        };
        let ask = |id: &str| {
            let request = request(method.clone(), &route.replace("ID", id), &two.key)
                .header("content-type", "application/x-ndjson")
                .body(Body::from("{\"to\":\"eve@x.example\"}\n"))
                .expect("a request");
            api.send(request)
        };
        let (theirs, nobodys) = (ask(theirs).await, ask(nobodys).await);
        assert_eq!(theirs.status, StatusCode::NOT_FOUND, "{route}: {theirs:?}");
        assert_eq!(theirs.body, nobodys.body, "{route}: existence is not told");
    }
    let mine = api.get(&one.key, &format!("/v1/messages/{id}")).await;
    assert_eq!((&mine.body["cancelled_at"], &mine.body["accepted"]), (&json!(null), &json!(1)));
}

#[tokio::test]
async fn a_suppression_holds_for_its_tenant_only() {
    let api = TestApi::new().await;
    let (one, two) = (api.tenant("one").await, api.tenant("two").await);
    api.suppress(one.id, "ann@x.example").await;
    let held = api.submit(&one.key, &message("one", &["ann@x.example"])).await;
    assert_eq!((&held.body["accepted"], held.status), (&json!(0), StatusCode::ACCEPTED));
    let free = api.submit(&two.key, &message("two", &["ann@x.example"])).await;
    assert_eq!(free.body["accepted"], 1);
}

#[tokio::test]
async fn the_api_role_sees_nothing_without_a_tenant_and_its_rows_with_one() {
    let api = TestApi::new().await;
    let (one, two) = (api.tenant("one").await, api.tenant("two").await);
    for (tenant, name) in [(&one, "one"), (&two, "two")] {
        let once = api.submit_once(&tenant.key, &message(name, &["ann@x.example"]), "k").await;
        assert_eq!(once.status, StatusCode::ACCEPTED, "{once:?}");
        api.suppress(tenant.id, "gone@x.example").await;
        sqlx::query(
            "with told as (
               insert into postrider.event_tenant(tenant_id) values ($1)
             ), endpoint as (
               insert into postrider.webhook(tenant_id, url, in_flight, at_xid, at_event) values ($1, 'x', 1, 0, 0)
             )
             insert into postrider.event(tenant_id, xid, kind) values ($1, 1, 1)",
        )
        .bind(tenant.id)
        .execute(&api.owner)
        .await
        .expect("an endpoint and an event");
    }
    let pool = api.db.pool(Role::Api).await;
    let mut connection = pool.acquire().await.expect("a connection");
    let tables = [
        "message",
        "job",
        "ready",
        "idempotency",
        "suppression",
        "event_tenant",
        "event",
        "webhook",
        "tenant",
        "sending_domain",
        "stream",
        "lane",
    ];
    for table in tables {
        for (tenant, expected) in [
            (String::new(), 0),
            (one.id.to_string(), 1),
            (two.id.to_string(), 1),
            ("999".into(), 0),
        ] {
            sqlx::query("select set_config('postrider.tenant', $1, false)")
                .bind(&tenant)
                .execute(&mut *connection)
                .await
                .expect("set");
            let seen =
                sqlx::query(AssertSqlSafe(format!("select tenant_id from postrider.{table}")))
                    .fetch_all(&mut *connection)
                    .await;
            let Ok(seen) = seen else {
                assert_eq!(table, "lane", "machinery may be out of its reach");
                continue;
            };
            assert_eq!(seen.len(), expected, "{table} as tenant {tenant:?}");
            assert!(seen.iter().all(|row| row.get::<i64, _>(0).to_string() == tenant), "{table}");
        }
    }
    // Nor can it write in another's name.
    sqlx::query("select set_config('postrider.tenant', $1, false)")
        .bind(one.id.to_string())
        .execute(&mut *connection)
        .await
        .expect("set");
    let forged = sqlx::query(
        "insert into postrider.suppression(tenant_id, address, reason, source) values ($1, 'a', 'b', 'api')",
    )
    .bind(two.id)
    .execute(&mut *connection)
    .await;
    assert!(forged.is_err(), "row-level security refuses it");
}

#[tokio::test]
async fn every_tenant_table_is_guarded_and_no_role_stands_above() {
    let db = TestDb::new().await;
    let owner = db.pool(Role::Owner).await;
    let unguarded = names(
        &owner,
        "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = 'postrider' and c.relkind in ('r', 'p')
           and exists (select 1 from pg_attribute a
                       where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
           and not (c.relrowsecurity and c.relforcerowsecurity
                    and exists (select 1 from pg_policy p where p.polrelid = c.oid))",
    )
    .await;
    assert_eq!(unguarded, [""; 0], "tables with tenant_id without forced row-level security");

    let guarded: i64 = sqlx::query_scalar(
        "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = 'postrider' and c.relkind in ('r', 'p') and c.relforcerowsecurity",
    )
    .fetch_one(&owner)
    .await
    .expect("count");
    assert!(guarded > 30, "the check above has looked at something: {guarded}");

    let above = names(
        &owner,
        "select rolname::text from pg_roles
         where rolname like 'postrider\\_%' and (rolbypassrls or rolsuper or rolcreaterole or rolcreatedb)",
    )
    .await;
    assert_eq!(above, [""; 0], "run-time roles that stand above row-level security");

    let owned = names(
        &owner,
        "select c.relname::text from pg_class c join pg_roles r on r.oid = c.relowner
         where r.rolname like 'postrider\\_%'",
    )
    .await;
    assert_eq!(owned, [""; 0], "tables owned by run-time roles");

    let definers = names(
        &owner,
        "select p.proname::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
         where n.nspname = 'postrider' and p.prosecdef
           and not exists (select 1 from unnest(p.proconfig) c where c like 'search_path=%')",
    )
    .await;
    assert_eq!(definers, [""; 0], "functions with their owner's rights and a caller's search path");
}

async fn names(pool: &PgPool, query: &'static str) -> Vec<String> {
    sqlx::query_scalar(query).fetch_all(pool).await.expect("look into the catalogue")
}
