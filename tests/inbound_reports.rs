//! Promises about reports: what comes back finds its delivery, is written into its history
//! once, suppresses only who is lost and only whom we wrote to, and ends a doubt.

use std::sync::Arc;
use std::time::Duration;

use crate::support::builders;
use crate::support::postgres::{Role, TestDb};
use postrider::cell::Cell;
use postrider::config::Settings;
use postrider::domain::clock::Clock;
use postrider::domain::ids::{CellNumber, DeliveryId};
use postrider::inbound::door::{Destination, Door};
use postrider::inbound::store::{self, Incoming};
use postrider::maintenance::reports::Reports;
use postrider::message::return_path::{Purpose, ReturnKey};
use postrider::queue::upkeep;
use sqlx::PgPool;
use tokio::sync::watch;

struct Office {
    db: TestDb,
    owner: PgPool,
    worker: PgPool,
    settings: Settings,
    reports: Reports,
    _settings: watch::Sender<Arc<Settings>>,
}

impl Office {
    async fn open() -> Self {
        let db = TestDb::new().await;
        let (owner, worker) = (db.pool(Role::Owner).await, db.pool(Role::Worker).await);
        let settings = Settings::for_testing();
        let (sender, watching) = watch::channel(Arc::new(settings.clone()));
        let cell = Cell { name: "main".into(), number: CellNumber::new(0), pool: worker.clone() };
        let reports = Reports::new(cell, Vec::new(), watching, Arc::default());
        Self { db, owner, worker, settings, reports, _settings: sender }
    }

    /// One delivery of tenant `acme` to `to`.
    async fn delivery(&self, to: &str) -> DeliveryId {
        let api = self.db.pool(Role::Api).await;
        let tenant: Option<i64> =
            sqlx::query_scalar("select tenant_id from postrider.tenant where name = 'acme'")
                .fetch_optional(&self.owner)
                .await
                .expect("the tenant");
        let tenant = match tenant {
            Some(tenant) => tenant,
            None => builders::tenant(&self.owner, "acme").await,
        };
        builders::submit(&api, tenant, "acme", "bulk", &[to.to_owned()]).await;
        let id: i64 = sqlx::query_scalar("select job_id from postrider.job where recipient = $1")
            .bind(to)
            .fetch_one(&self.owner)
            .await
            .expect("its delivery");
        DeliveryId::new(id)
    }

    async fn comes_back(&self, destination: Destination, raw: &str) {
        let raw = raw.replace('\n', "\r\n");
        let incoming = Incoming { destination, sender: "", peer: "192.0.2.1", raw: raw.as_bytes() };
        store::put(&self.worker, &[incoming]).await.expect("store");
        while self.reports.step(Clock::System).await.expect("a step") > 0 {}
    }

    async fn suppressed(&self) -> Vec<(String, String, String)> {
        sqlx::query_as("select address, reason, source from postrider.suppression order by address")
            .fetch_all(&self.owner)
            .await
            .expect("the list")
    }

    async fn outcomes(&self) -> Vec<String> {
        sqlx::query_scalar("select outcome from postrider.inbound_report order by report_id")
            .fetch_all(&self.owner)
            .await
            .expect("outcomes")
    }
}

fn bounce(recipient: &str, words: &str) -> String {
    format!(
        "From: MAILER-DAEMON@mx.example\nSubject: Undelivered\nContent-Type: multipart/report; boundary=x\n\n--x\n\nsorry\n\
         --x\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example\n\n\
         Final-Recipient: rfc822; {recipient}\nAction: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; {words}\n\n--x--\n"
    )
}

#[tokio::test]
async fn a_dead_address_is_suppressed_and_others_are_not() {
    let office = Office::open().await;
    for (to, words, reported) in [
        ("gone@b.example", "550 5.1.1 User unknown", "Gone@B.example"),
        ("full@b.example", "552 5.2.2 mailbox full", "full@b.example"),
        (
            "blocked@b.example",
            "550 5.7.1 blocked using zen.spamhaus.org; user unknown",
            "blocked@b.example",
        ),
        ("later@b.example", "450 4.1.1 user unknown", "later@b.example"),
        ("list@b.example", "550 5.1.1 User unknown", "member@c.example"),
    ] {
        let delivery = office.delivery(to).await;
        office.comes_back(Destination::Return(delivery), &bounce(reported, words)).await;
    }
    let expected = ("gone@b.example".to_owned(), "address_bad".to_owned(), "report".to_owned());
    assert_eq!(office.suppressed().await, [expected]);
    assert_eq!(
        office.outcomes().await,
        ["applied", "evidence", "evidence", "evidence", "evidence"]
    );
    assert_eq!(builders::attempts(&office.owner, 9).await, 5);
    let counted = "soft_bounce where address = 'full@b.example' and by_report";
    assert_eq!(builders::rows(&office.owner, counted).await, 1, "it may come to suppress");
    assert_eq!(builders::rows(&office.owner, "soft_bounce").await, 1);
    let rule: String = sqlx::query_scalar(
        "select a.detail ->> 'rule' from postrider.attempt a join postrider.job j using (job_id)
         where a.kind = 9 and j.recipient = 'full@b.example'",
    )
    .fetch_one(&office.owner)
    .await
    .expect("evidence");
    assert_eq!(rule, "mailbox-full", "which rule decided stays visible");
}

#[tokio::test]
async fn a_report_waits_for_a_tenant_on_the_move_however_long_that_takes() {
    let office = Office::open().await;
    let delivery = office.delivery("gone@b.example").await;
    let residence = async |residence: &str| {
        sqlx::query("update postrider.tenant set residence = $1")
            .bind(residence)
            .execute(&office.owner)
            .await
            .expect("move");
    };
    let time_passes = async || {
        sqlx::query("update postrider.inbound_report set taken_at = now() - interval '2 minutes'")
            .execute(&office.owner)
            .await
            .expect("wait");
    };
    residence("leaving").await;
    let raw = bounce("gone@b.example", "550 5.1.1 User unknown");
    office.comes_back(Destination::Return(delivery), &raw).await;
    for _ in 0..store::MAX_TRIES + 2 {
        time_passes().await;
        store::prune(&office.worker, Duration::from_secs(3_600), 10).await.expect("prune");
        assert_eq!(office.reports.step(Clock::System).await.expect("a step"), 1);
    }
    assert!(office.suppressed().await.is_empty());
    residence("here").await;
    time_passes().await;
    assert_eq!(office.reports.step(Clock::System).await.expect("a step"), 1);
    assert_eq!(office.outcomes().await, ["applied"]);
}

#[tokio::test]
async fn a_report_acts_once_however_often_it_is_read() {
    let office = Office::open().await;
    let delivery = office.delivery("gone@b.example").await;
    let raw = bounce("gone@b.example", "550 5.1.1 User unknown");
    office.comes_back(Destination::Return(delivery), &raw).await;
    // As if the note that it was dealt with had been lost.
    sqlx::query("update postrider.inbound_report set done_at = null, taken_at = null, tries = 0")
        .execute(&office.owner)
        .await
        .expect("forget");
    while office.reports.step(Clock::System).await.expect("a step") > 0 {}
    assert_eq!(builders::attempts(&office.owner, 9).await, 1);
    // Taken by somebody who died: nobody has it for 90 s, then another does.
    sqlx::query("update postrider.inbound_report set done_at = null, taken_at = now(), tries = 1")
        .execute(&office.owner)
        .await
        .expect("lend");
    assert_eq!(office.reports.step(Clock::System).await.expect("a step"), 0);
    sqlx::query("update postrider.inbound_report set taken_at = now() - interval '6 minutes'")
        .execute(&office.owner)
        .await
        .expect("wait");
    assert_eq!(office.reports.step(Clock::System).await.expect("a step"), 1);
    // Given up after three tries, and deleted after its time.
    sqlx::query("update postrider.inbound_report set done_at = null, taken_at = now() - interval '6 minutes', tries = 3")
        .execute(&office.owner)
        .await
        .expect("fail");
    store::prune(&office.worker, Duration::from_secs(3_600), 10).await.expect("prune");
    assert_eq!(office.outcomes().await, ["failed"]);
    assert_eq!(store::prune(&office.worker, Duration::ZERO, 10).await.expect("prune"), 1);
}

#[tokio::test]
async fn a_complaint_is_found_by_its_return_path_and_only_noted_by_its_message_id() {
    let office = Office::open().await;
    let key = ReturnKey::derive(&office.settings.secrets.key_bytes().expect("a key"));
    let arf = |enclosed: &str| {
        format!(
            "From: fbl@provider.example\nContent-Type: multipart/report; boundary=q\n\n--q\nContent-Type: message/feedback-report\n\n\
             Feedback-Type: abuse\nOriginal-Rcpt-To: <redacted@b.example>\n\n--q\nContent-Type: message/rfc822\n\n{enclosed}\n\nx\n--q--\n"
        )
    };
    let (angry, named, forged) = (
        office.delivery("angry@b.example").await,
        office.delivery("named@b.example").await,
        office.delivery("forged@b.example").await,
    );
    let path = key.local_part(Purpose::Return, angry);
    office
        .comes_back(Destination::Complaint, &arf(&format!("Return-Path: <{path}@bounces.example>")))
        .await;
    office
        .comes_back(Destination::Complaint, &arf(&format!("Message-ID: <{named}@acme.example>")))
        .await;
    let wrong = ReturnKey::derive(&[1; 32]).local_part(Purpose::Return, forged);
    office
        .comes_back(
            Destination::Complaint,
            &arf(&format!("Return-Path: <{wrong}@bounces.example>")),
        )
        .await;
    let expected = ("angry@b.example".to_owned(), "complaint".to_owned(), "report".to_owned());
    assert_eq!(office.suppressed().await, [expected]);
    assert_eq!(office.outcomes().await, ["applied", "evidence", "unmatched"]);
}

#[tokio::test]
async fn what_is_proven_of_the_recipient_is_told_with_its_delivery_and_once() {
    let office = Office::open().await;
    let gone = office.delivery("gone@b.example").await;
    sqlx::query(
        "insert into postrider.event_tenant(tenant_id) select tenant_id from postrider.tenant",
    )
    .execute(&office.owner)
    .await
    .expect("listen");
    let list = office.delivery("list@b.example").await;
    let named = office.delivery("named@b.example").await;
    let ann = office.delivery("ann@b.example").await;
    let raw = bounce("gone@b.example", "550 5.1.1 User unknown");
    office.comes_back(Destination::Return(gone), &raw).await;
    // A member of a list, and a complaint that anybody could have written.
    let raw = bounce("member@c.example", "550 5.1.1 User unknown");
    office.comes_back(Destination::Return(list), &raw).await;
    let raw = format!(
        "From: fbl@p.example\nContent-Type: multipart/report; boundary=q\n\n--q\nContent-Type: message/feedback-report\n\n\
         Feedback-Type: abuse\n\n--q\nContent-Type: message/rfc822\n\nMessage-ID: <{named}@acme.example>\n\nx\n--q--\n"
    );
    office.comes_back(Destination::Complaint, &raw).await;
    office.comes_back(Destination::Unsubscribe(ann), "Subject: unsubscribe\n\n").await;
    let told: Vec<(i16, Option<i64>, Option<String>)> = sqlx::query_as(
        "select kind, job_id, detail ->> 'by' from postrider.event where kind in (2, 9, 10) order by kind",
    )
    .fetch_all(&office.owner)
    .await
    .expect("events");
    let by = || Some("report".to_owned());
    assert_eq!(told, [(2, Some(gone.get()), by()), (10, Some(ann.get()), by())]);
    assert_eq!(builders::attempts(&office.owner, 9).await, 4, "all is evidence");
}

#[tokio::test]
async fn a_mail_unsubscribes_and_answers_of_programs_do_nothing() {
    let office = Office::open().await;
    let ann = office.delivery("ann@b.example").await;
    let bob = office.delivery("bob@b.example").await;
    office.comes_back(Destination::Return(bob), "From: bob@b.example\nSubject: Out of office\nAuto-Submitted: auto-replied\n\nuser unknown\n").await;
    office
        .comes_back(
            Destination::Return(bob),
            "From: bob@b.example\nSubject: Re: Hi\n\n550 5.1.1 bob@b.example user unknown\n",
        )
        .await;
    office
        .comes_back(
            Destination::Unsubscribe(bob),
            &bounce("bob@b.example", "550 5.1.1 User unknown"),
        )
        .await;
    assert_eq!(office.suppressed().await, []);
    office
        .comes_back(Destination::Unsubscribe(ann), "From: ann@b.example\nSubject: unsubscribe\n\n")
        .await;
    let expected = ("ann@b.example".to_owned(), "unsubscribed".to_owned(), "recipient".to_owned());
    assert_eq!(office.suppressed().await, [expected]);
    assert_eq!(builders::rows(&office.owner, "suppression where stream = 'bulk'").await, 1);
    office
        .comes_back(
            Destination::Return(DeliveryId::new(1)),
            &bounce("x@b.example", "550 5.1.1 User unknown"),
        )
        .await;
    assert_eq!(office.outcomes().await, ["ignored", "ignored", "ignored", "applied", "unmatched"]);
}

#[tokio::test]
async fn a_report_ends_the_doubt_about_its_delivery() {
    let office = Office::open().await;
    sqlx::query("update postrider.stream_policy set on_doubt = 'hold'")
        .execute(&office.owner)
        .await
        .expect("hold");
    let delivery = office.delivery("ann@b.example").await;
    let session = builders::session(&office.worker, Duration::from_secs(20)).await;
    let jobs = builders::claim_all(&office.worker, session.id(), 10).await;
    builders::intend(&office.worker, session.id(), 1, &jobs).await;
    builders::fence_all(&office.owner).await;
    upkeep::rescue(&office.worker, 100, Duration::from_secs(60), 5).await.expect("rescue");
    assert_eq!(builders::rows(&office.owner, "dead_letter where reason = 'doubt'").await, 1);
    office
        .comes_back(
            Destination::Return(delivery),
            &bounce("ann@b.example", "552 5.2.2 mailbox full"),
        )
        .await;
    assert_eq!(builders::rows(&office.owner, "dead_letter").await, 0);
    assert_eq!(builders::attempts(&office.owner, 1).await, 1, "somebody took it");
    assert_eq!(
        builders::rows(&office.owner, "attempt where kind = 1 and detail ->> 'by' = 'dsn'").await,
        1
    );
}

#[tokio::test]
async fn the_door_knows_addresses_wherever_they_are_read() {
    let settings = Settings::for_testing();
    let door = Door::new(&settings, Clock::System).expect("a key");
    assert_eq!(door.delivery_of("someone@b.example"), None);
    let without = Settings::default();
    assert!(Door::new(&without, Clock::System).is_none());
}
