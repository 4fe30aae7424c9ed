//! Reports to receivers on how TLS with them went (RFC 8460): what a daemon counts, and what is
//! sent of it, to whom, and how often.

use std::fs;
use std::io::Read as _;
use std::sync::Arc;
use std::time::SystemTime;

use crate::support::authority::{Authority, pem};
use crate::support::builders;
use crate::support::installation::Installation;
use crate::support::name_server::{NameServer, Zone};
use crate::support::policy_host::PolicyHost;
use crate::support::postgres::{Role, TestDb};
use crate::support::smtp_peer::Script;
use base64::Engine as _;
use postrider::config::{Settings, TlsReport};
use postrider::domain::ids::DeliveryId;
use postrider::maintenance::tls_report::{Reporter, results};
use postrider::message::address::Address;
use postrider::message::content::MessageContent;
use postrider::message::render::{RenderInput, Renderer};
use postrider::message::template::Compiled;
use postrider::route::tls_result::{Event, Failure, Tally};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::sync::watch;

const OK: &str = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
const BUSY: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";

struct World {
    db: TestDb,
    worker: PgPool,
    owner: PgPool,
    web: PolicyHost,
    settings: Settings,
    _dns: NameServer,
}

async fn world(record: &str) -> World {
    let db = TestDb::new().await;
    let (worker, owner) = (db.pool(Role::Worker).await, db.pool(Role::Owner).await);
    let ours = Authority::new("Ours");
    let web = PolicyHost::start(&ours.certify(&["collect.test".to_owned()]).shown()).await;
    let dns = Zone::new()
        .txt("_smtp._tls.one.test", record)
        .a("collect.test", [127, 0, 0, 1])
        .serve()
        .await;
    let mut settings = Settings::for_testing();
    settings.dns.servers = vec![dns.address];
    settings.tls.roots = vec![ours.certificate];
    settings.tls.https_port = web.address.port();
    settings.tls_report = Some(TlsReport {
        organization: "Us {{ and }} more".into(),
        contact: "tls@acme.example".into(),
        from: "tls@acme.example".into(),
        tenant: "acme".into(),
        stream: "tls-report".into(),
    });
    World { db, worker, owner, web, settings, _dns: dns }
}

impl World {
    fn reporter(&self) -> Reporter {
        let (_, settings) = watch::channel(Arc::new(self.settings.clone()));
        Reporter::new(settings)
    }

    /// Yesterday's sessions with `domain`.
    async fn yesterday(&self, domain: &str) {
        let tally = Tally::default();
        tally.want(true);
        let event = |failure| Event {
            domain: domain.into(),
            policy_type: "sts",
            policy: "version: STSv1\nmode: testing\nmx: mx.one.test\nmax_age: 86400".into(),
            host: "mx.one.test".into(),
            from: "192.0.2.9".parse().ok(),
            to: "192.0.2.1".parse().ok(),
            failure,
        };
        for _ in 0..3 {
            tally.count(event(None));
        }
        tally.count(event(Some(Failure::Expired)));
        results::store(&self.worker, &tally).await.expect("stored");
        // Another process counted as well.
        tally.count(event(Some(Failure::Expired)));
        results::store(&self.worker, &tally).await.expect("stored");
        let back = "update postrider.tls_result set day = day - 1 where day = (now() at time zone 'UTC')::date";
        sqlx::query(back).execute(&self.owner).await.expect("yesterday");
    }

    async fn state(&self) -> Option<String> {
        sqlx::query_scalar("select state from postrider.tls_report")
            .fetch_optional(&self.owner)
            .await
            .expect("read")
    }

    async fn later(&self) {
        let due = "update postrider.tls_report set next_at = now()";
        sqlx::query(due).execute(&self.owner).await.expect("due");
    }
}

/// The mail that a daemon makes of it.
fn rendered(content: Value) -> String {
    let content: MessageContent = serde_json::from_value(content).expect("content");
    let compiled = Compiled::compile(&content).unwrap_or_else(|error| panic!("{error}"));
    let input = RenderInput {
        delivery: DeliveryId::new(1),
        recipient: &Address::try_new("reports@collector.test").expect("an address"),
        payload: None,
        date: SystemTime::UNIX_EPOCH,
        bulk: false,
        unsubscribe: None,
        return_path: None,
        tracking: None,
        unsubscribe_mail: None,
    };
    let letter = Renderer::default().render(&compiled, &input, &[]).expect("a letter");
    String::from_utf8_lossy(letter.bytes()).into_owned()
}

fn unpacked(gzip: &[u8]) -> Value {
    let mut text = String::new();
    flate2::read::GzDecoder::new(gzip).read_to_string(&mut text).expect("gzip");
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test]
async fn each_collector_gets_a_days_report_once() {
    let world =
        world("v=TLSRPTv1; rua=mailto:reports@collector.test,https://collect.test/v1").await;
    builders::tenant(&world.owner, "acme").await;
    world.web.put("collect.test/v1", BUSY);
    world.yesterday("one.test").await;
    let (one, another) = (world.reporter(), world.reporter());
    one.report(&world.worker).await.expect("reported");
    assert_eq!(world.state().await.as_deref(), Some("open"), "one collector is busy");
    another.report(&world.worker).await.expect("nothing is due");
    assert_eq!(world.web.posted().len(), 1);
    world.web.put("collect.test/v1", OK);
    world.later().await;
    another.report(&world.worker).await.expect("reported");
    assert_eq!(world.state().await.as_deref(), Some("sent"));
    world.later().await;
    one.report(&world.worker).await.expect("nothing is left");

    let posted = world.web.posted();
    assert_eq!(posted.len(), 2, "once in vain, once taken");
    assert_eq!(
        (&*posted[1].to, &*posted[1].content_type),
        ("collect.test/v1", "application/tlsrpt+gzip")
    );
    let report = unpacked(&posted[1].body);
    assert_eq!(report["policies"].as_array().map(Vec::len), Some(1));
    let policy = &report["policies"][0];
    assert_eq!(policy["policy"]["policy-domain"], "one.test");
    assert_eq!(
        policy["summary"],
        json!({"total-successful-session-count": 3, "total-failure-session-count": 2})
    );
    assert_eq!(policy["failure-details"][0]["result-type"], "certificate-expired");
    assert_eq!(policy["failure-details"][0]["sending-mta-ip"], "192.0.2.9");

    let rows = sqlx::query_as::<_, (String, String)>(
        "select j.recipient, m.content::text from postrider.message m join postrider.job j using (message_id)",
    )
    .fetch_all(&world.owner)
    .await
    .expect("read");
    let [(recipient, content)] = &rows[..] else { panic!("one mail, found {}", rows.len()) };
    assert_eq!(recipient, "reports@collector.test");
    let content: Value = serde_json::from_str(content).expect("JSON");
    assert!(content["subject"].as_str().is_some_and(|s| {
        s.starts_with("Report Domain: one.test Submitter: acme.example Report-ID: <")
    }));
    assert_eq!(content["headers"]["TLS-Report-Domain"], "one.test");
    let attached = content["attachments"][0]["content"].as_str().expect("attached");
    let attached = base64::engine::general_purpose::STANDARD.decode(attached).expect("Base64");
    assert_eq!(unpacked(&attached), report);
    let mail = rendered(content);
    assert!(mail.contains("Content-Type: multipart/report"), "{mail}");
    assert!(mail.contains("report-type=\"tlsrpt\""), "{mail}");
    drop(world.db);
}

#[tokio::test]
async fn who_wants_no_report_gets_none_and_a_missing_tenant_is_tried_again() {
    let world = world("v=TLSRPTv1; rua=mailto:reports@collector.test").await;
    world.yesterday("two.test").await;
    world.reporter().report(&world.worker).await.expect("reported");
    assert_eq!(world.state().await.as_deref(), Some("unwanted"));
    sqlx::query("truncate postrider.tls_report, postrider.tls_result")
        .execute(&world.owner)
        .await
        .expect("clean");
    world.yesterday("one.test").await;
    world.reporter().report(&world.worker).await.expect("reported");
    assert_eq!(world.state().await.as_deref(), Some("open"), "there is no tenant to send it");
    builders::tenant(&world.owner, "acme").await;
    world.later().await;
    world.reporter().report(&world.worker).await.expect("reported");
    assert_eq!(world.state().await.as_deref(), Some("sent"));
    assert_eq!(builders::rows(&world.owner, "message").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_keeps_policies_and_stores_how_its_sessions_went() {
    let ours = Authority::new("Ours");
    let names = ["mx.one.test", "mta-sts.one.test"].map(ToOwned::to_owned);
    let shown = ours.certify(&names).shown();
    let web = PolicyHost::start(&shown).await;
    web.publish("one.test", "version: STSv1\nmode: enforce\nmx: mx.one.test\nmax_age: 86400\n");
    let peer = Script::with_tls(&shown).start().await;
    let dns = Zone::new()
        .mx("one.test", 300, 10, "mx.one.test")
        .a("mx.one.test", [127, 0, 0, 1])
        .a("mta-sts.one.test", [127, 0, 0, 1])
        .txt("_mta-sts.one.test", "v=STSv1; id=1;")
        .serve()
        .await;
    let installation = Installation::new(None).await;
    let roots = tempfile::NamedTempFile::new().expect("a file");
    fs::write(roots.path(), pem(&ours.certificate)).expect("write");
    let config = installation.configure(&format!(
        "[[route]]\nname = \"exchangers\"\nkind = \"mx\"\nport = {port}\n\
         [[rule]]\nroute = \"exchangers\"\n\
         [dns]\nservers = [\"{dns}\"]\nallow_private_addresses = true\n\
         [tls]\nroots_file = \"{roots}\"\nhttps_port = {https}\n\
         [tls_report]\norganization = \"Us\"\ncontact = \"tls@acme.example\"\nfrom = \"tls@acme.example\"\ntenant = \"acme\"\n",
        port = peer.address.port(),
        dns = dns.address,
        roots = roots.path().display(),
        https = web.address.port(),
    ));
    let tenant = builders::tenant(&installation.owner, "acme").await;
    let daemon = installation.daemon(&config).await;
    installation.submit(tenant, "bulk", &builders::recipients(2, "one.test")).await;
    installation.drained(&daemon).await;
    let metrics = daemon.metrics().await;
    assert!(
        metrics.contains("postrider_tls_results_total{policy=\"sts\",result=\"ok\"}"),
        "{metrics}"
    );
    assert_eq!(daemon.terminate().await, Some(0));
    assert!(peer.accepted().len() == 2 && peer.accepted().iter().all(|body| body.encrypted));
    let rows = sqlx::query_as::<_, (String, String, String, String, i64)>(
        "select domain, policy_type, host, failure, sessions from postrider.tls_result",
    )
    .fetch_all(&installation.owner)
    .await
    .expect("read");
    let [(domain, kind, host, failure, sessions)] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((&**domain, &**kind, &**host, &**failure), ("one.test", "sts", "mx.one.test", ""));
    assert_eq!(*sessions as usize, peer.record().connections);
    assert_eq!(builders::rows(&installation.owner, "sts_policy").await, 1);
}
