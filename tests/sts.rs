//! MTA-STS over time: what is fetched holds until its time is over, whatever becomes of the record,
//! the policy host and the process; what is not a policy never counts.

use crate::support::authority::Authority;
use crate::support::name_server::{NameServer, Zone};
use crate::support::policy_host::PolicyHost;
use crate::support::postgres::{Role, TestDb};
use postrider::config::{Settings, TlsMode};
use postrider::domain::ids::MailboxProvider;
use postrider::domain::verdict::{Finality, Verdict};
use postrider::route::plan::RoutePlan;
use postrider::route::planner::Planner;
use postrider::route::tls_result::Failure;
use sqlx::PgPool;

const ENFORCE: &str = "version: STSv1\r\nmode: enforce\r\nmx: mx.one.test\r\nmax_age: 86400\r\n";
const NONE: &str = "version: STSv1\nmode: none\nmax_age: 86400\n";

struct World {
    settings: Settings,
    web: PolicyHost,
}

fn zone() -> Zone {
    Zone::new()
        .mx("one.test", 300, 10, "mx.one.test")
        .a("mx.one.test", [127, 0, 0, 1])
        .a("mta-sts.one.test", [127, 0, 0, 1])
}

async fn announcing(id: &str) -> NameServer {
    zone().txt("_mta-sts.one.test", &format!("v=STSv1; id={id};")).serve().await
}

async fn world() -> World {
    let ours = Authority::new("Ours");
    let web = PolicyHost::start(&ours.certify(&["mta-sts.one.test".to_owned()]).shown()).await;
    let mut settings = Settings::for_testing();
    settings.tls.roots = vec![ours.certificate];
    settings.tls.https_port = web.address.port();
    World { settings, web }
}

impl World {
    /// A process that has just started, with these name servers and this database.
    fn process(&self, dns: &NameServer, pool: Option<&PgPool>) -> Planner {
        let mut settings = self.settings.clone();
        settings.dns.servers = vec![dns.address];
        let planner = Planner::new(&settings).expect("a planner");
        if let Some(pool) = pool {
            planner.keep_policies_in(pool.clone());
        }
        planner
    }
}

async fn plan(planner: &Planner) -> Result<RoutePlan, Verdict> {
    let other = MailboxProvider::other();
    planner.plan(&planner.route_for("acme", "bulk", &other), "one.test", &other).await
}

async fn mode(planner: &Planner) -> TlsMode {
    plan(planner).await.expect("a plan").hops[0].tls
}

#[tokio::test]
async fn a_policy_outlives_the_process_the_record_and_the_policy_host() {
    let (db, world) = (TestDb::new().await, world().await);
    let pool = db.pool(Role::Worker).await;
    world.web.publish("one.test", ENFORCE);
    let dns = announcing("1").await;
    let first = world.process(&dns, Some(&pool));
    for _ in 0..3 {
        assert_eq!(mode(&first).await, TlsMode::Verified);
    }
    assert_eq!(world.web.times("one.test"), 1);
    // Another process knows it without asking.
    assert_eq!(mode(&world.process(&dns, Some(&pool))).await, TlsMode::Verified);
    assert_eq!(world.web.times("one.test"), 1);

    // The policy host is gone, the record is changed, gone, or doubled: no downgrade.
    world.web.withdraw("one.test");
    let changed = announcing("2").await;
    assert_eq!(mode(&world.process(&changed, Some(&pool))).await, TlsMode::Verified);
    assert_eq!(world.web.times("one.test"), 2, "it was asked, in vain");
    let gone = zone().serve().await;
    assert_eq!(mode(&world.process(&gone, Some(&pool))).await, TlsMode::Verified);
    let doubled = zone()
        .txt("_mta-sts.one.test", "v=STSv1; id=3")
        .txt("_mta-sts.one.test", "v=STSv1; id=4")
        .serve()
        .await;
    assert_eq!(mode(&world.process(&doubled, Some(&pool))).await, TlsMode::Verified);

    // Somebody who sends the mail elsewhere finds the policy against him.
    let stolen = Zone::new()
        .mx("one.test", 300, 10, "mx.thief.test")
        .a("mx.thief.test", [127, 0, 0, 1])
        .serve()
        .await;
    let verdict = plan(&world.process(&stolen, Some(&pool))).await.expect_err("not allowed");
    assert_eq!(verdict.finality, Finality::Passing);
    assert!(verdict.to_string().contains("mx.thief.test"), "{verdict}");

    // A database that does not tell is no leave to go on without.
    let closed = db.pool(Role::Worker).await;
    closed.close().await;
    let verdict = plan(&world.process(&gone, Some(&closed))).await.expect_err("nobody knows");
    assert_eq!(verdict.finality, Finality::Passing);

    // When its time is over, it is over.
    let end = "update postrider.sts_policy set expires_at = now()";
    sqlx::query(end).execute(&pool).await.expect("expire");
    assert_eq!(mode(&world.process(&gone, Some(&pool))).await, TlsMode::Opportunistic);
}

#[tokio::test]
async fn another_id_brings_another_policy_and_only_mode_none_takes_one_back() {
    let (db, world) = (TestDb::new().await, world().await);
    let pool = db.pool(Role::Worker).await;
    world.web.publish("one.test", ENFORCE);
    let dns = announcing("1").await;
    assert_eq!(mode(&world.process(&dns, Some(&pool))).await, TlsMode::Verified);
    world.web.publish("one.test", NONE);
    assert_eq!(mode(&world.process(&dns, Some(&pool))).await, TlsMode::Verified, "the same id");
    let again = announcing("2").await;
    assert_eq!(mode(&world.process(&again, Some(&pool))).await, TlsMode::Opportunistic);
    assert_eq!(world.web.times("one.test"), 2);
    let revoked = world.process(&again, Some(&pool));
    assert_eq!(mode(&revoked).await, TlsMode::Opportunistic);
    assert_eq!(world.web.times("one.test"), 2, "that there is none is kept as well");
}

#[tokio::test]
async fn what_is_no_policy_never_counts_and_mail_goes_as_if_there_were_none() {
    let world = world().await;
    let dns = announcing("1").await;
    let page = "mta-sts.one.test/.well-known/mta-sts.txt";
    let body = |kind: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let endless = format!("{ENFORCE}{}", "x: y\r\n".repeat(20_000));
    let elsewhere = "mta-sts.one.test/elsewhere";
    world.web.put(elsewhere, &body("text/plain", ENFORCE));
    for (response, why) in [
        (body("text/html", ENFORCE), "sts-policy-invalid"),
        (body("text/plain", "mode: enforce"), "sts-policy-invalid"),
        (body("text/plain", &endless), "sts-policy-invalid"),
        (
            "HTTP/1.1 301 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n".into(),
            "sts-policy-fetch-error",
        ),
        ("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".into(), "sts-policy-fetch-error"),
        ("nonsense".into(), "sts-policy-fetch-error"),
    ] {
        world.web.put(page, &response);
        let planner = world.process(&dns, None);
        let hop = plan(&planner).await.expect("a plan").hops.remove(0);
        assert_eq!(hop.tls, TlsMode::Opportunistic, "{why}");
        assert_eq!(hop.policy.trouble.map(Failure::as_str), Some(why), "{response:.60}");
    }
    // Another name's certificate, or nobody's: whoever answers is not the policy host.
    world.web.publish("one.test", ENFORCE);
    let mut foreign = world.settings.clone();
    foreign.tls.roots = vec![Authority::new("Another").certificate];
    foreign.dns.servers = vec![dns.address];
    let planner = Planner::new(&foreign).expect("a planner");
    let hop = plan(&planner).await.expect("a plan").hops.remove(0);
    assert_eq!(hop.policy.trouble.map(Failure::as_str), Some("sts-webpki-invalid"));
    assert_eq!(hop.tls, TlsMode::Opportunistic);
    // Without a database a policy is kept in memory.
    let planner = world.process(&dns, None);
    assert_eq!(mode(&planner).await, TlsMode::Verified);
}

#[tokio::test]
async fn a_policy_in_use_is_fetched_again_before_its_time_is_over() {
    let (db, world) = (TestDb::new().await, world().await);
    let pool = db.pool(Role::Worker).await;
    world.web.publish("one.test", ENFORCE);
    let dns = announcing("1").await;
    let planner = world.process(&dns, Some(&pool));
    assert_eq!(mode(&planner).await, TlsMode::Verified);
    assert_eq!(planner.refresh_policies(10).await.expect("looked"), 0, "it is young");
    let age = "update postrider.sts_policy set fetched_at = now() - interval '13 hours', \
               expires_at = now() + interval '11 hours'";
    sqlx::query(age).execute(&pool).await.expect("age it");
    assert_eq!(planner.refresh_policies(10).await.expect("looked"), 1);
    assert_eq!(world.web.times("one.test"), 2);
    let left: f64 = sqlx::query_scalar(
        "select extract(epoch from expires_at - now())::float8 from postrider.sts_policy",
    )
    .fetch_one(&pool)
    .await
    .expect("kept");
    assert!(left > 86_000.0, "{left}");
    assert_eq!(planner.refresh_policies(10).await.expect("looked"), 0);
}
