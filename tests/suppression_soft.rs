//! Promise: failures that pass by themselves and do not add up to a suppression that ends, by
//! days and not by attempts; a mail that is taken begins anew; policy, reputation and content
//! never count.

use std::time::Duration;

use crate::support::builders;
use crate::support::postgres::{Role, TestDb};
use postrider::config::Settings;
use postrider::domain::outcome::Outcome;
use postrider::domain::receipt::{Receipt, Trail};
use postrider::domain::verdict::{Cause, Class, Finality, PeerReply, Reach, Stage, Verdict};
use postrider::queue::settle::{Ending, Settlement, settle};
use postrider::queue::upkeep;
use sqlx::PgPool;

struct Mailbox {
    _db: TestDb,
    owner: PgPool,
    api: PgPool,
    worker: PgPool,
    tenant: i64,
}

impl Mailbox {
    async fn new() -> Self {
        let db = TestDb::new().await;
        let (owner, api, worker) =
            (db.pool(Role::Owner).await, db.pool(Role::Api).await, db.pool(Role::Worker).await);
        let tenant = builders::tenant(&owner, "shop").await;
        Self { _db: db, owner, api, worker, tenant }
    }

    /// One mail to the mailbox ends so.
    async fn gets(&self, ending: Ending, outcome: &Outcome) {
        builders::submit(&self.api, self.tenant, "shop", "bulk", &["Ann@x.example".into()]).await;
        let session = builders::session(&self.worker, Duration::from_secs(60)).await;
        let job = builders::claim_all(&self.worker, session.id(), 1).await.remove(0);
        let settlement = Settlement::new(&job, ending, outcome, &Trail::default());
        let settled = settle(&self.worker, session.id(), job.generation, &[&settlement]).await;
        assert_eq!(settled.expect("settle"), [job.id]);
    }

    async fn refuses(&self, class: Class) {
        self.gets(Ending::Bounced { condemned: false }, &refused(class, Reach::Recipient)).await;
    }

    /// So many days pass.
    async fn later(&self, days: i32) {
        sqlx::query(
            "update postrider.soft_bounce set first_at = first_at - make_interval(days => $1),
                    last_at = last_at - make_interval(days => $1)",
        )
        .bind(days)
        .execute(&self.owner)
        .await
        .expect("wait");
    }

    async fn days(&self) -> i32 {
        sqlx::query_scalar("select coalesce(max(days), 0) from postrider.soft_bounce")
            .fetch_one(&self.owner)
            .await
            .expect("count")
    }

    async fn listed(&self) -> Vec<(String, String, String, i32)> {
        sqlx::query_as(
            "select address, reason, source, round(extract(epoch from expires_at - now()) / 86400)::int
             from postrider.suppression",
        )
        .fetch_all(&self.owner)
        .await
        .expect("the list")
    }
}

fn refused(class: Class, reach: Reach) -> Outcome {
    Outcome::Refused(Verdict {
        stage: Stage::Rcpt,
        cause: Cause::Reply(PeerReply { code: 552, enhanced: None, text: "full".into() }),
        class,
        finality: Finality::Final,
        reach,
        retry_after: None,
        ruling: None,
    })
}

fn taken() -> Outcome {
    Outcome::Delivered(Receipt {
        reply: PeerReply { code: 250, enhanced: None, text: String::new() },
    })
}

#[tokio::test]
async fn five_days_over_a_week_suppress_for_ninety() {
    let mailbox = Mailbox::new().await;
    for day in 1..=5 {
        mailbox.refuses(Class::MailboxFull).await;
        if day < 5 {
            mailbox.refuses(Class::Transient).await;
            assert_eq!(mailbox.days().await, day, "a day counts once");
            assert_eq!(mailbox.listed().await, []);
            mailbox.later(2).await;
        }
    }
    let expected = ("ann@x.example".to_owned(), "mailbox_full".to_owned(), "reply".to_owned(), 90);
    assert_eq!(mailbox.listed().await, [expected]);
    assert_eq!(mailbox.days().await, 0, "what was counted has had its effect");
}

#[tokio::test]
async fn five_days_within_less_than_a_week_do_not() {
    let mailbox = Mailbox::new().await;
    for _ in 0..6 {
        mailbox.refuses(Class::MailboxFull).await;
        mailbox.later(1).await;
    }
    assert_eq!(mailbox.listed().await, [], "six days, from the first to the last five");
    mailbox.later(1).await;
    mailbox.refuses(Class::MailboxFull).await;
    assert_eq!(mailbox.listed().await.len(), 1, "the seventh day is a week after the first");
}

#[tokio::test]
async fn what_says_nothing_of_the_mailbox_never_counts() {
    let mailbox = Mailbox::new().await;
    for class in Class::ALL.into_iter().filter(|class| !class.is_soft_of_mailbox()) {
        mailbox.refuses(class).await;
    }
    let deferred = Ending::Deferred { delay: Duration::from_hours(100), in_doubt: false };
    mailbox.gets(deferred, &refused(Class::Transient, Reach::Recipient)).await;
    let bounced = Ending::Bounced { condemned: false };
    mailbox.gets(bounced, &refused(Class::Transient, Reach::Host)).await;
    assert_eq!(mailbox.days().await, 0);
    // A full mailbox counts although the mail is tried again.
    mailbox.gets(deferred, &refused(Class::MailboxFull, Reach::Recipient)).await;
    assert_eq!(mailbox.days().await, 1);
    assert_eq!(mailbox.listed().await, []);
}

#[tokio::test]
async fn a_mail_that_is_taken_begins_anew_unless_failures_come_back_later() {
    let mailbox = Mailbox::new().await;
    mailbox.refuses(Class::MailboxFull).await;
    assert_eq!(mailbox.days().await, 1);
    mailbox.gets(Ending::Delivered, &taken()).await;
    assert_eq!(mailbox.days().await, 0);

    mailbox.refuses(Class::MailboxFull).await;
    sqlx::query("update postrider.soft_bounce set by_report = true")
        .execute(&mailbox.owner)
        .await
        .expect("as if a report said so");
    mailbox.gets(Ending::Delivered, &taken()).await;
    assert_eq!(mailbox.days().await, 1, "such a mail is taken before it comes back");
    mailbox.later(31).await;
    mailbox.refuses(Class::MailboxFull).await;
    assert_eq!(mailbox.days().await, 1, "after a silence counting begins anew");
    mailbox.later(31).await;
    upkeep::expire_suppressions(&mailbox.worker, 10).await.expect("forget");
    assert_eq!(mailbox.days().await, 0, "and what nothing follows is forgotten");
}

#[tokio::test]
async fn the_policy_is_the_configurations() {
    let mailbox = Mailbox::new().await;
    let mut settings = Settings::for_testing();
    settings.suppression.soft_failures = 0;
    upkeep::publish_settings(&mailbox.worker, &settings).await.expect("tell the database");
    mailbox.refuses(Class::MailboxFull).await;
    assert_eq!((mailbox.days().await, mailbox.listed().await.len()), (0, 0));
    settings.suppression.soft_failures = 1;
    settings.suppression.soft_over = Duration::ZERO;
    settings.suppression.soft_lasts = Duration::from_hours(240);
    upkeep::publish_settings(&mailbox.worker, &settings).await.expect("tell the database");
    mailbox.refuses(Class::MailboxFull).await;
    assert_eq!(mailbox.listed().await.first().map(|one| one.3), Some(10));
}
