//! Promises: a link of a tracked mail leads where its tenant made it lead, over its own host and
//! no other, whatever becomes of us; nobody is sent anywhere else; the tenant is told, a bounded
//! number of times, and of no address of the one who looked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::support::api::{Answer, Tenant, TestApi, message};
use crate::support::command;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use postrider::api::{self, Api};
use postrider::config::Settings;
use postrider::config::secret::Secret;
use postrider::domain::clock::Clock;
use postrider::domain::ids::{DeliveryId, TenantId};
use postrider::event::switch;
use postrider::event::track::CLICKS_A_DAY;
use postrider::message::tracking::{Target, TrackingKey};
use postrider::message::unsubscribe::TokenKey;
use postrider::telemetry::metrics;
use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;
use tokio::sync::watch;
use tower::ServiceExt;

const HOST: &str = "link.one.example";

const PERSON: &str =
    "Mozilla/5.0 (X11; Linux x86_64; rv:115.0) Gecko/20100101 Thunderbird/115.12.0";

/// An API, and a tenant that listens.
struct House {
    api: TestApi,
    tenant: Tenant,
    key: TrackingKey,
    delivery: DeliveryId,
}

impl House {
    async fn new() -> Self {
        metrics::install().expect("a recorder");
        let api = TestApi::new().await;
        let tenant = api.tenant("one").await;
        switch::on(&api.owner, TenantId::new(tenant.id)).await.expect("listen");
        let key = TrackingKey::of(&api.settings.secrets).expect("a key");
        let delivery = mail(&api, &tenant, "one").await;
        Self { api, tenant, key, delivery }
    }

    fn link(&self, target: &str) -> String {
        path(&self.key.click_link(HOST, self.delivery, &Target::read(target).expect("a target")))
    }

    fn picture(&self) -> String {
        path(&self.key.open_link(HOST, self.delivery))
    }

    /// Asks as a person, and waits until what there is to tell is told.
    async fn ask(&self, method: Method, host: &str, path: &str) -> Answer {
        let answer = ask(&self.api, method, host, path).await;
        self.api.api.finish().await;
        answer
    }

    async fn events(&self) -> i64 {
        self.api.count("select count(*) from postrider.event where kind in (12, 13)").await
    }

    /// What the tenant reads, once there is so much.
    async fn told(&self, events: usize) -> Vec<Value> {
        let look = async {
            loop {
                let page = self.api.get(&self.tenant.key, "/v1/events?type=opened,clicked").await;
                let told = page.body["events"].as_array().cloned().unwrap_or_default();
                if told.len() >= events {
                    return told;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), look).await.expect("told")
    }
}

async fn mail(api: &TestApi, tenant: &Tenant, name: &str) -> DeliveryId {
    let id = api.submit(&tenant.key, &message(name, &["ann@x.example"])).await.id().to_owned();
    let page = api.get(&tenant.key, &format!("/v1/messages/{id}/deliveries")).await;
    page.body["deliveries"][0]["id"].as_str().expect("a delivery").parse().expect("an id")
}

async fn ask(api: &TestApi, method: Method, host: &str, path: &str) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", host)
        .header("user-agent", PERSON)
        .header("x-forwarded-for", "198.51.100.77")
        .body(Body::empty())
        .expect("a request");
    api.send(request).await
}

/// `/c/…` of a whole address.
fn path(link: &str) -> String {
    format!("/{}", link.splitn(4, '/').nth(3).expect("a path"))
}

fn location(headers: &HeaderMap) -> Option<&str> {
    headers.get("location").map(|value| value.to_str().expect("ASCII"))
}

fn counted(kind: &str, outcome: &str) -> u64 {
    let text = metrics::install().expect("a recorder").render();
    let name =
        format!("postrider_tracking_requests_total{{kind=\"{kind}\",outcome=\"{outcome}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&*name)?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_link_leads_where_it_was_made_to_lead_and_is_told() {
    let house = House::new().await;
    let target = "https://shop.example/tea?a=1&b=%C3%A4#top";
    let answer = house.ask(Method::GET, HOST, &house.link(target)).await;
    assert_eq!((answer.status, location(&answer.headers)), (StatusCode::FOUND, Some(target)));
    for (name, value) in [("cache-control", "no-store"), ("referrer-policy", "no-referrer")] {
        assert_eq!(answer.headers[name], value);
    }
    let dot = house.ask(Method::GET, "Link.One.Example:8443", &house.picture()).await;
    assert_eq!(
        (dot.status, &dot.headers["content-type"]),
        (StatusCode::OK, &"image/gif".parse().expect("a value"))
    );
    assert_eq!(dot.headers["cache-control"], "no-store");

    let told = house.told(2).await;
    assert_eq!((&told[0]["type"], &told[1]["type"]), (&json!("clicked"), &json!("opened")));
    let data = &told[0]["data"];
    assert_eq!((&data["url"], &data["user_agent"]), (&json!(target), &json!(PERSON)));
    assert_eq!((&data["machine"], &data["to"]), (&json!(false), &json!("ann@x.example")));
    assert_eq!(data["delivery_id"], house.delivery.to_string());
    assert_eq!(data["stream"], "transactional");
    assert!(data["message_id"].is_string());
    assert!(told[1]["data"].get("url").is_none(), "{told:?}");
    let said = serde_json::to_string(&told).expect("JSON");
    assert!(!said.contains("198.51.100"), "no address of who looked: {said}");
}

#[tokio::test]
async fn nobody_is_sent_where_we_did_not_sign() {
    let house = House::new().await;
    let link = house.link("https://shop.example/");
    let token = link.strip_prefix("/c/").expect("a link").to_owned();
    let secret = house.api.settings.secrets.key_bytes().expect("a key");
    let evil = Target::read("https://evil.example/").expect("a target");
    let foreign = path(&TrackingKey::derive(&[9; 32]).click_link(HOST, house.delivery, &evil));
    let elsewhere = path(&house.key.click_link("link.two.example", house.delivery, &evil));
    let unsubscribe = TokenKey::derive(&secret).token(house.delivery);
    let forged = [
        (HOST, foreign),
        (HOST, elsewhere),
        ("link.two.example", link.clone()),
        ("one.example", link.clone()),
        ("", link.clone()),
        (HOST, format!("/c/{}", unsubscribe.as_str())),
        (HOST, house.picture().replacen("/o/", "/c/", 1)),
        (HOST, format!("/c/z{}", &token[1..])),
    ];
    let malformed = [
        (HOST, format!("/c/{}", &token[..20])),
        (HOST, "/c/https:%2F%2Fevil.example%2F".into()),
        (HOST, "/c/..%2f..".into()),
        (HOST, format!("/c/{}", "A".repeat(6_000))),
        (HOST, "/o/x".into()),
    ];
    let before = [counted("click", "forged"), counted("click", "malformed")];
    for (host, path) in forged.iter().chain(&malformed) {
        for method in [Method::GET, Method::HEAD] {
            let answer = house.ask(method, host, path).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{host} {path}");
            assert_eq!(location(&answer.headers), None, "{host} {path}");
            assert!(!answer.body.to_string().contains("evil"), "nothing of it is repeated");
        }
    }
    let after = [counted("click", "forged"), counted("click", "malformed")];
    assert!(after[0] - before[0] >= 16 && after[1] - before[1] >= 8, "{before:?} {after:?}");
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        let answer = house.ask(method, HOST, &link).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    }
    // What stands behind the token is not part of it.
    let answer = house.ask(Method::GET, HOST, &format!("{link}?to=https://evil.example/")).await;
    assert_eq!(location(&answer.headers), Some("https://shop.example/"));
    assert_eq!(house.events().await, 1);
}

#[tokio::test]
async fn looking_tells_nothing() {
    let house = House::new().await;
    for path in [house.link("https://shop.example/"), house.picture()] {
        let answer = house.ask(Method::HEAD, HOST, &path).await;
        assert!(answer.status == StatusCode::FOUND || answer.status == StatusCode::OK);
    }
    assert_eq!(house.events().await, 0);
    assert_eq!(house.api.count("select count(*) from postrider.tracked").await, 0);
}

#[tokio::test]
async fn whoever_has_a_mail_cannot_write_without_end() {
    let house = House::new().await;
    let ask = async |path: &str| {
        assert_ne!(house.ask(Method::GET, HOST, path).await.status, StatusCode::NOT_FOUND);
    };
    for _ in 0..3 {
        ask(&house.link("https://shop.example/1")).await;
        ask(&house.picture()).await;
    }
    assert_eq!(house.events().await, 2, "one of each in an hour");
    // As another process, which remembers nothing: the database does.
    let (_, watched) = watch::channel(Arc::clone(&house.api.settings));
    let pool = house.api.db.pool(crate::support::postgres::Role::Api).await;
    let other = Api::start(watched, pool, Clock::System);
    let before = counted("click", "repeated");
    let again = Request::get(house.link("https://shop.example/1")).header("host", HOST);
    let router = api::router(Arc::clone(&other));
    router.oneshot(again.body(Body::empty()).expect("a request")).await.expect("an answer");
    other.finish().await;
    assert!(counted("click", "repeated") > before);
    assert_eq!(house.events().await, 2);

    for n in 0..CLICKS_A_DAY + 5 {
        ask(&house.link(&format!("https://shop.example/more/{n}"))).await;
    }
    let clicked = "select count(*) from postrider.event where kind = 13";
    assert_eq!(house.api.count(clicked).await, i64::from(CLICKS_A_DAY));
    assert!(counted("click", "too_many") >= 5);

    // The next hour is told again, and what is old is forgotten.
    sqlx::query("update postrider.tracked set hour = hour - interval '2 days'")
        .execute(&house.api.owner)
        .await
        .expect("let time pass");
    let worker = house.api.db.pool(crate::support::postgres::Role::Worker).await;
    let gone = postrider::event::track::forget(&worker, 10_000).await.expect("forget");
    assert_eq!(gone, 1 + CLICKS_A_DAY as u64);
}

#[tokio::test]
async fn links_of_mail_that_is_forgotten_still_lead_there() {
    let house = House::new().await;
    for table in ["postrider.ready", "postrider.job"] {
        sqlx::query(sqlx::AssertSqlSafe(format!("delete from {table}")))
            .execute(&house.api.owner)
            .await
            .expect("forget");
    }
    let before = counted("click", "unknown");
    let answer = house.ask(Method::GET, HOST, &house.link("https://shop.example/")).await;
    assert_eq!(location(&answer.headers), Some("https://shop.example/"));
    assert!(counted("click", "unknown") > before);
    assert_eq!(house.events().await, 0);
}

#[tokio::test]
async fn a_tenant_that_does_not_listen_or_moves_is_told_nothing() {
    let house = House::new().await;
    let link = |n: u8| house.link(&format!("https://shop.example/{n}"));
    for (n, sql, outcome) in [
        (1, "update postrider.tenant set residence = 'leaving', bound_for = 1", "moving"),
        (2, "update postrider.tenant set residence = 'gone'", "unknown"),
        (3, "update postrider.tenant set residence = 'here', bound_for = null", "told"),
        (4, "update postrider.event_tenant set enabled = false", "unheard"),
    ] {
        sqlx::query(sql).execute(&house.api.owner).await.expect(sql);
        let before = counted("click", outcome);
        let answer = house.ask(Method::GET, HOST, &link(n)).await;
        assert_eq!(answer.status, StatusCode::FOUND);
        assert!(counted("click", outcome) > before, "{outcome}");
    }
    assert_eq!(house.events().await, 1);
    assert_eq!(house.api.count("select count(*) from postrider.tracked").await, 1);
}

#[tokio::test]
async fn an_event_is_the_tenants_whose_mail_it_is() {
    let house = House::new().await;
    let two = house.api.tenant("two").await;
    switch::on(&house.api.owner, TenantId::new(two.id)).await.expect("listen");
    let theirs = mail(&house.api, &two, "two").await;
    let target = Target::read("https://shop.example/").expect("a target");
    let link = path(&house.key.click_link("two.example", theirs, &target));
    house.ask(Method::GET, "two.example", &link).await;
    house.ask(Method::GET, HOST, &house.picture()).await;
    assert_eq!(house.told(1).await[0]["type"], "opened");
    assert_eq!(house.events().await, 2);
    let of = "select tenant_id from postrider.event where kind = 13";
    assert_eq!(house.api.count(of).await, two.id);
}

#[tokio::test]
async fn the_way_is_free_while_the_database_is_away() {
    metrics::install().expect("a recorder");
    let settings = Arc::new(Settings::for_testing());
    let (_, watched) = watch::channel(Arc::clone(&settings));
    let nowhere = PgPoolOptions::new()
        .acquire_timeout(Duration::from_millis(100))
        .connect_lazy("postgres://postrider@127.0.0.1:1/postrider")
        .expect("an address");
    let clock = Clock::Fixed(Arc::new(AtomicU64::new(1_800_000_000)));
    let api = Api::start(watched, nowhere, clock);
    let router = api::router(Arc::clone(&api));
    let key = TrackingKey::of(&settings.secrets).expect("a key");
    let before = counted("click", "database") + counted("open", "database");
    let target = Target::read("https://shop.example/").expect("a target");
    let links = [
        key.click_link(HOST, DeliveryId::new(1), &target),
        key.open_link(HOST, DeliveryId::new(1)),
    ];
    let statuses = AtomicU64::new(0);
    for link in links {
        let request = Request::get(path(&link)).header("host", HOST).body(Body::empty());
        let answer = router.clone().oneshot(request.expect("a request")).await.expect("an answer");
        statuses.fetch_add(u64::from(answer.status().as_u16()), Ordering::Relaxed);
        assert!(answer.status() == StatusCode::OK || location(answer.headers()).is_some());
    }
    assert_eq!(statuses.into_inner(), 200 + 302);
    api.finish().await;
    let after = counted("click", "database") + counted("open", "database");
    assert_eq!(after - before, 2, "lost, and counted");
}

#[tokio::test]
async fn links_of_an_older_key_work_until_it_is_retired() {
    let own = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let mut settings = Settings::for_testing();
    let old = TrackingKey::of(&settings.secrets).expect("a key");
    let first = settings.secrets.key.as_ref().expect("it has one").expose().to_owned();
    let target = Target::read("https://shop.example/").expect("a target");
    let link = path(&old.click_link(HOST, DeliveryId::new(42), &target));
    for (keys, status) in [
        (format!("1:{first}\n2:{own}\n"), StatusCode::FOUND),
        (format!("2:{own}\n"), StatusCode::NOT_FOUND),
    ] {
        settings.secrets.key = Some(Secret::new(keys));
        let api = TestApi::with(settings.clone()).await;
        assert_eq!(ask(&api, Method::GET, HOST, &link).await.status, status);
    }
}

#[tokio::test]
async fn an_operator_gives_a_domain_a_host_of_its_own_only() {
    let api = TestApi::new().await;
    api.tenant("one").await;
    let run = |args: &[&str]| {
        command::postrider(
            &api.db,
            &[&["domain", "tracking-host", "--tenant", "one"], args].concat(),
        )
    };
    for foreign in ["link.two.example", "eone.example", "example", "link.one.example/x", ""] {
        let refused = run(&["one.example", foreign]);
        assert_ne!(refused.code, 0, "{foreign}");
        assert!(refused.err.contains("expected"), "{foreign}: {}", refused.err);
    }
    let missing = run(&["three.example", "link.three.example"]);
    assert!(missing.err.contains("no domain three.example"), "{}", missing.err);
    let given = run(&["one.example", "Link.One.Example"]);
    assert_eq!(given.code, 0, "{}", given.err);
    assert!(given.out.contains("link.one.example"), "{}", given.out);
    let shown = command::facts(&api.db, &["domain", "show", "--tenant", "one", "one.example"]);
    assert_eq!(shown["domain"]["tracking_host"], "link.one.example");
    let foreign =
        sqlx::query("update postrider.sending_domain set tracking_host = 'a.two.example'");
    assert!(foreign.execute(&api.owner).await.is_err(), "nor does the database take one");
    assert_eq!(run(&["one.example", "--remove"]).code, 0);
    let shown = command::facts(&api.db, &["domain", "show", "--tenant", "one", "one.example"]);
    assert_eq!(shown["domain"]["tracking_host"], Value::Null);
    let recorded =
        "select count(*) from postrider.operator_action where action = 'domain tracking-host'";
    assert_eq!(api.count(recorded).await, 2);
}
