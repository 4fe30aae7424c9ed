//! Promises about tenant health: what was sent, bounced and complained about is counted once,
//! with the mail that it is about; a stream with too much of it is warned of, then held back with
//! an event and an explanation; an operator lets it go, and the old figures do not stop it again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::api::{Tenant, TestApi};
use crate::support::builders;
use crate::support::command::{facts, postrider};
use crate::support::installation::Installation;
use crate::support::postgres::Role;
use axum::http::StatusCode;
use postrider::cell::Cell;
use postrider::config::{HealthLimits, HealthRule, Settings};
use postrider::domain::clock::Clock;
use postrider::domain::ids::{CellNumber, DeliveryId};
use postrider::domain::outcome::Outcome;
use postrider::domain::receipt::{Receipt, Trail};
use postrider::domain::verdict::{Cause, Class, Finality, PeerReply, Reach, Stage, Verdict};
use postrider::inbound::door::Destination;
use postrider::inbound::store::{self, Incoming};
use postrider::maintenance::health;
use postrider::maintenance::reports::Reports;
use postrider::queue::settle::{Ending, Settlement, settle};
use postrider::sink::FaultMix;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::sync::watch;

/// Longest wait for anything; only a broken program reaches it.
const PATIENCE: Duration = Duration::from_secs(90);

/// An API, with what a daemon does to its database done by hand.
struct Ward {
    api: TestApi,
    worker: PgPool,
    reports: Reports,
    shop: Tenant,
}

impl Ward {
    async fn open() -> Self {
        let mut settings = Settings::for_testing();
        settings.health.limits.minimum = 100;
        let api = TestApi::with(settings.clone()).await;
        let worker = api.db.pool(Role::Worker).await;
        let (_, watched) = watch::channel(Arc::new(settings));
        let cell = Cell { name: "main".into(), number: CellNumber::new(0), pool: worker.clone() };
        let reports = Reports::new(cell, Vec::new(), watched, Arc::default());
        let shop = api.tenant("shop").await;
        for statement in [
            "insert into postrider.event_tenant(tenant_id) select tenant_id from postrider.tenant",
            "insert into postrider.pool(name) values ('google')",
            "insert into postrider.domain_pool(domain, pool_id, origin)
             select 'g.example', pool_id, 'config' from postrider.pool where name = 'google'",
        ] {
            sqlx::query(statement).execute(&api.owner).await.expect(statement);
        }
        Self { api, worker, reports, shop }
    }

    /// Sends to `n` recipients: the first ones are refused as unknown, the next for policy.
    async fn send(&self, n: usize, to: &str, unknown: usize, policy: usize) -> Vec<DeliveryId> {
        let pool = self.api.db.pool(Role::Api).await;
        let to = builders::recipients(n, to);
        let message = builders::submit(&pool, self.shop.id, "shop", "bulk", &to).await;
        let session = builders::session(&self.worker, Duration::from_secs(60)).await;
        let mut jobs = builders::claim_all(&self.worker, session.id(), n as u32).await;
        jobs.retain(|job| job.message == message);
        assert_eq!(jobs.len(), n);
        let settlements: Vec<Settlement> = jobs
            .iter()
            .enumerate()
            .map(|(at, job)| {
                let (ending, outcome) = match at {
                    at if at < unknown => refused(Class::AddressBad),
                    at if at < unknown + policy => refused(Class::Policy),
                    _ => (Ending::Delivered, Outcome::Delivered(Receipt { reply: reply(250) })),
                };
                Settlement::new(job, ending, &outcome, &Trail::default())
            })
            .collect();
        let refs: Vec<&Settlement> = settlements.iter().collect();
        let done = settle(&self.worker, session.id(), jobs[0].generation, &refs).await;
        assert_eq!(done.expect("settle").len(), n);
        jobs.iter().map(|job| job.id).collect()
    }

    /// A report on its recipient comes back for a delivery.
    async fn bounces(&self, delivery: DeliveryId, status: &str) {
        let query = "select recipient from postrider.job where job_id = $1";
        let recipient: String = sqlx::query_scalar(query)
            .bind(delivery.get())
            .fetch_one(&self.api.owner)
            .await
            .expect("its recipient");
        self.comes_back(Destination::Return(delivery), &bounce(&recipient, status)).await;
    }

    /// A report comes back for a delivery.
    async fn comes_back(&self, destination: Destination, raw: &str) {
        let raw = raw.replace('\n', "\r\n");
        let incoming =
            Incoming { destination, sender: "", peer: "198.51.100.1", raw: raw.as_bytes() };
        store::put(&self.worker, &[incoming]).await.expect("store");
        while self.reports.step(Clock::System).await.expect("a step") > 0 {}
    }

    async fn look(&self) {
        health::look(&self.worker, &self.api.settings.health).await.expect("look");
    }

    /// The health of the stream as its tenant sees it.
    async fn stream(&self) -> Value {
        let answer = self.api.get(&self.shop.key, "/v1/health").await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.body["streams"][0].clone()
    }

    /// Figures of the last hour: of all mailbox providers together, or of one.
    async fn figures(&self, to: Option<&str>) -> [u64; 4] {
        let stream = self.stream().await;
        let lines = stream["figures"].as_array().expect("figures").clone();
        let line = lines
            .iter()
            .find(|line| line["window"] == "1h" && line["mailbox_provider"] == json!(to));
        let line = line.unwrap_or_else(|| panic!("no figures to {to:?}: {stream}"));
        ["sent", "bounced", "refused", "complained"].map(|key| line[key].as_u64().expect(key))
    }

    /// Events of the stream, once there are so many. Transactions of others, which run beside this
    /// test, hold back the log.
    async fn events(&self, number: usize) -> Vec<Value> {
        let path = "/v1/events?type=stream_warned,stream_paused,stream_resumed";
        let started = Instant::now();
        loop {
            let answer = self.api.get(&self.shop.key, path).await;
            let events = answer.body["events"].as_array().expect("events").clone();
            if events.len() >= number {
                return events;
            }
            assert!(started.elapsed() < PATIENCE, "{} of {number} events", events.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// As if what happened had been minutes ago.
    async fn minutes_pass(&self) {
        for statement in [
            "update postrider.health_bucket set at = at - interval '10 minutes'",
            "update postrider.attempt set at = at - interval '10 minutes'",
            "update postrider.health_stream set counted_from = counted_from - interval '5 minutes'",
        ] {
            sqlx::query(statement).execute(&self.api.owner).await.expect(statement);
        }
    }
}

fn reply(code: u16) -> PeerReply {
    PeerReply { code, enhanced: None, text: "so it is".into() }
}

fn refused(class: Class) -> (Ending, Outcome) {
    let verdict = Verdict {
        stage: Stage::Rcpt,
        cause: Cause::Reply(reply(550)),
        class,
        finality: Finality::Final,
        reach: Reach::Recipient,
        retry_after: None,
        ruling: None,
    };
    (Ending::Bounced { condemned: class == Class::AddressBad }, Outcome::Refused(verdict))
}

fn bounce(recipient: &str, status: &str) -> String {
    format!(
        "From: MAILER-DAEMON@mx.example\nSubject: Undelivered\nContent-Type: multipart/report; boundary=x\n\n--x\n\nsorry\n\
         --x\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example\n\n\
         Final-Recipient: rfc822; {recipient}\nAction: failed\nStatus: {status}\nDiagnostic-Code: smtp; 550 {status} no\n\n--x--\n"
    )
}

const COMPLAINT: &str = "From: fbl@mx.example\nSubject: complaint\nContent-Type: multipart/report; boundary=x\n\n--x\n\nspam\n\
     --x\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nVersion: 1\n\n--x--\n";

#[tokio::test]
async fn what_comes_back_counts_once_and_with_the_mail_that_it_is_about() {
    let ward = Ward::open().await;
    let google = ward.send(100, "g.example", 1, 2).await;
    let other = ward.send(50, "b.example", 0, 0).await;
    ward.look().await;
    assert_eq!(ward.figures(None).await, [150, 1, 2, 0]);
    assert_eq!(ward.figures(Some("google")).await, [100, 1, 2, 0]);
    assert_eq!(ward.figures(Some("other")).await, [50, 0, 0, 0]);
    ward.minutes_pass().await;

    // Refused at once, and reported as well.
    ward.bounces(google[0], "5.1.1").await;
    // Twice by the same receiver, and a complaint twice.
    for _ in 0..2 {
        ward.bounces(other[7], "5.1.1").await;
        ward.comes_back(Destination::Return(other[8]), COMPLAINT).await;
    }
    // About somebody else; not proven; not for good; for another reason.
    ward.comes_back(Destination::Return(other[9]), &bounce("else@c.example", "5.1.1")).await;
    let said = COMPLAINT.replace(
        "\n--x--",
        &format!(
            "\n--x\nContent-Type: message/rfc822\n\nMessage-ID: <{}@shop.example>\n\n--x--",
            other[10]
        ),
    );
    ward.comes_back(Destination::Complaint, &said).await;
    let delayed = bounce("user11@b.example", "4.4.1").replace("failed", "delayed");
    ward.comes_back(Destination::Return(other[11]), &delayed).await;
    ward.bounces(other[12], "5.7.1").await;
    ward.look().await;
    assert_eq!(ward.figures(Some("google")).await, [100, 1, 2, 0]);
    assert_eq!(ward.figures(Some("other")).await, [50, 1, 1, 1]);
    let minutes = ward.api.count("select count(distinct at) from postrider.health_bucket").await;
    assert!(minutes <= 2, "counted when it came in: {minutes}");

    // Minutes become hours, and nothing of it is lost or counted twice.
    let back = "update postrider.health_bucket set at = at - interval '5 hours'";
    sqlx::query(back).execute(&ward.api.owner).await.expect("back");
    ward.look().await;
    ward.look().await;
    assert_eq!(
        ward.api.count("select count(*) from postrider.health_bucket where minutes = 1").await,
        0
    );
    let sums =
        "select sum(sent + bounced + refused + complained)::bigint from postrider.health_bucket";
    assert_eq!(ward.api.count(sums).await, 150 + 2 + 3 + 1);
    assert_eq!(ward.api.count("select count(*) from postrider.health_tally").await, 0);

    let stranger = ward.api.tenant("other").await;
    let answer = ward.api.get(&stranger.key, "/v1/health").await;
    assert_eq!(answer.body["streams"], json!([]), "another tenant's figures are seen");
}

#[tokio::test]
async fn too_many_bounces_warn_then_stop_until_an_operator_lets_go() {
    let ward = Ward::open().await;
    let sent = ward.send(200, "g.example", 8, 40).await;
    ward.look().await;
    ward.look().await;
    assert_eq!(ward.stream().await["level"], "warned");
    for at in [150, 151] {
        ward.bounces(sent[at], "5.1.1").await;
    }
    ward.look().await;
    ward.look().await;
    let stream = ward.stream().await;
    assert_eq!(stream["level"], "stopped", "{stream}");
    let reason = stream["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("5 % of 200 mails") && reason.contains("bounced (10)"), "{reason}");
    let kinds: Vec<_> = ward.events(2).await.iter().map(|event| event["type"].clone()).collect();
    assert_eq!(kinds, ["stream_warned", "stream_paused"], "each is told once");
    assert_eq!(ward.events(2).await[1]["data"]["stream"], "bulk");

    // What waits says why, to the tenant too, who cannot let it go.
    let answer = ward
        .api
        .submit(
            &ward.shop.key,
            &json!({
                "from": "me@shop.example", "subject": "Hi", "text": "Hello", "stream": "bulk",
                "recipients": [{"to": "late@g.example"}],
            }),
        )
        .await;
    let why = ward.api.get(&ward.shop.key, &format!("/v1/messages/{}/why", answer.id())).await;
    assert!(why.body.to_string().contains("5 % of 200 mails"), "{why:?}");
    let shown = postrider(&ward.api.db, &["why", answer.id()]);
    assert!(shown.out.contains("by health: 5 % of 200 mails"), "{}", shown.out);
    let denied = ward.api.post_json(&ward.shop.key, "/v1/streams/bulk/resume", &json!({})).await;
    assert_eq!(denied.status, StatusCode::CONFLICT, "{denied:?}");

    let shown = postrider(&ward.api.db, &["tenant", "health", "shop"]);
    assert_eq!(shown.code, 1, "{}", shown.err);
    assert!(shown.out.contains("stopped") && shown.out.contains("queue resume"), "{}", shown.out);
    let let_go = ["queue", "resume", "--tenant", "shop", "--stream", "bulk"];
    assert_eq!(postrider(&ward.api.db, &let_go).code, 0);
    let actions = facts(&ward.api.db, &["actions"]);
    assert_eq!(actions[0]["action"], "queue resume", "{actions}");
    assert_eq!(ward.events(3).await.last().expect("an event")["type"], "stream_resumed");

    // The old figures, and late reports on the old mail, do not stop it again.
    ward.minutes_pass().await;
    for one in &sent[160..180] {
        ward.bounces(*one, "5.1.1").await;
    }
    ward.send(100, "b.example", 4, 0).await;
    ward.look().await;
    let stream = ward.stream().await;
    assert_eq!(stream["level"], "warned", "{stream}");
    // New mail that is as bad does.
    ward.send(100, "c.example", 8, 0).await;
    ward.look().await;
    assert_eq!(ward.stream().await["level"], "stopped");
}

#[tokio::test]
async fn complaints_stop_by_rules_of_the_tenant_and_a_pause_of_others_stays_theirs() {
    let ward = Ward::open().await;
    let sent = ward.send(400, "g.example", 0, 0).await;
    ward.comes_back(Destination::Return(sent[3]), COMPLAINT).await;
    ward.comes_back(Destination::Return(sent[4]), COMPLAINT).await;
    let mut health = ward.api.settings.health.clone();
    let limits = HealthLimits { complaint_stop: 0.01, ..health.limits.clone() };
    let (tenant, stream) = (Some("shop".into()), Some("bulk".into()));
    health.rules.push(HealthRule { tenant, stream, limits });
    health::look(&ward.worker, &health).await.expect("look");
    assert_eq!(ward.stream().await["level"], "warned", "the rule allows more");

    let pause = ["queue", "pause", "--tenant", "shop", "--stream", "bulk", "--reason", "mine"];
    assert_eq!(postrider(&ward.api.db, &pause).code, 0);
    let touch = "insert into postrider.health_tally(lane_id) select lane_id from postrider.lane";
    for (what, expected) in [("held by an operator", "warned"), ("by nobody", "stopped")] {
        sqlx::query(touch).execute(&ward.api.owner).await.expect("touch");
        ward.look().await;
        assert_eq!(ward.stream().await["level"], expected, "{what}");
        sqlx::query("delete from postrider.block where holder = 'operator'")
            .execute(&ward.api.owner)
            .await
            .expect("end the pause");
    }
    // An operator who pauses over it makes it his own, and the count begins anew.
    assert_eq!(postrider(&ward.api.db, &pause).code, 0);
    let stream = ward.stream().await;
    assert!(stream["level"] == "well" && !stream["counted_from"].is_null(), "{stream}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_stops_a_stream_by_itself() {
    let faults: FaultMix = "rcpt-refuse=20,seed=7".parse().expect("a mix");
    let home = Installation::new(Some(faults)).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let config = home.configure("[[health.rule]]\ntenant = \"acme\"\nminimum = 100\n");
    let daemon = home.daemon(&config).await;
    // Too few to be stopped twice, should it be stopped on the way.
    home.submit(tenant, "bulk", &builders::recipients(120, "example.org")).await;
    daemon.metric_reaches("postrider_health_streams{cell=\"main\",level=\"stopped\"}", 1.0).await;
    let found = "postrider_health_findings_total{level=\"stopped\",measure=\"bounces\"}";
    daemon.metric_reaches(found, 1.0).await;

    home.submit(tenant, "bulk", &["late@example.org".to_owned()]).await;
    let held = home.postrider(&["why", "acme"]);
    assert!(held.out.contains("by health:"), "{}", held.out);
    let let_go = home.postrider(&["queue", "resume", "--tenant", "acme", "--stream", "bulk"]);
    assert_eq!(let_go.code, 0, "{}", let_go.err);
    home.drained(&daemon).await;
    let ticks = "postrider_maintenance_ticks_total{task=\"health\"}";
    let before = daemon.metric(ticks).await;
    daemon.metric_reaches(ticks, before + 1.0).await;
    assert_eq!(builders::rows(&home.owner, "block where holder = 'health'").await, 0);
    assert_eq!(daemon.terminate().await, Some(0));
}
