//! What replies lead to, without a network.

use std::sync::Arc;

use super::hearing::Hearing;
use crate::config::{Settings, Source, TlsMode};
use crate::domain::ids::MailboxProvider;
use crate::domain::outcome::{Outcome, WaitReason};
use crate::domain::receipt::Trail;
use crate::domain::verdict::{Cause, Stage};
use crate::reply::read::reply;
use crate::route::plan::{Hop, RoutePlan};
use crate::route::tls_policy::TlsPolicy;
use crate::smtp::classify::classify;
use crate::throttle::breaker::Breakers;
use crate::throttle::key::Plan;

fn plan(provider: &'static str) -> RoutePlan {
    let hop = |n: u8| Hop {
        host: format!("mx{n}.example").into(),
        address: ([192, 0, 2, n], 25).into(),
        tls: TlsMode::Opportunistic,
        policy: TlsPolicy::default(),
        auth: None,
        certificate: None,
        max_connections: 10,
        messages_per_connection: 100,
    };
    RoutePlan {
        route: "direct".into(),
        mailbox_provider: MailboxProvider::new(provider),
        source: Arc::new(Source::default()),
        hops: vec![hop(1), hop(2)],
        provider: None,
    }
}

fn heard(hearing: &Hearing, provider: &'static str, stage: Stage, line: &str) {
    let keys = Plan {
        tenant: "acme".into(),
        mailbox_provider: MailboxProvider::new(provider),
        source: "default".into(),
        route: "direct".into(),
    };
    let trail = Trail {
        host: Some("mx1.example".into()),
        peer: Some([192, 0, 2, 1].into()),
        ..Trail::default()
    };
    let verdict = classify(stage, Cause::Reply(reply(line).expect("a reply")));
    hearing.refused(&plan(provider), &keys, &trail, &verdict);
}

#[tokio::test]
async fn what_does_not_answer_is_taken_out_and_mail_without_a_host_is_put_back() {
    let settings = Settings::for_testing();
    let hearing = Hearing::new(&settings, Breakers::new(&settings.adaptive));
    let slow = "421 4.7.0 You are sending too fast, slow down";
    heard(&hearing, "other", Stage::Mail, slow);
    let mut left = plan("other");
    hearing.clear(&mut left, "a.example").expect("the other host is left");
    assert_eq!(left.hops.len(), 1);
    let second = plan("other").hops[1].address;
    (0..5).for_each(|_| hearing.breakers.failed(second, "refused"));
    let put_back = hearing.clear(&mut plan("other"), "a.example").expect_err("none is left");
    assert!(
        matches!(put_back, Outcome::Postponed { reason: WaitReason::Breaker, .. }),
        "{put_back:?}"
    );
    let told: Vec<String> =
        hearing.breakers.seen().iter().flat_map(|one| hearing.behind(one.host).domains).collect();
    assert_eq!(told, ["a.example"]);

    heard(&hearing, "google", Stage::Mail, slow);
    assert_eq!(hearing.breakers.seen().len(), 2, "with a name it is a matter of the pace");
}

#[tokio::test]
async fn a_host_that_counts_mails_for_each_connection_is_obeyed() {
    let settings = Settings::for_testing();
    let hearing = Hearing::new(&settings, Breakers::new(&settings.adaptive));
    heard(
        &hearing,
        "google",
        Stage::Mail,
        "421 exceeded maximum number of messages per connection",
    );
    let mut capped = plan("google");
    hearing.clear(&mut capped, "a.example").expect("it answers");
    let caps = capped.hops.iter().map(|hop| hop.messages_per_connection);
    assert_eq!(caps.collect::<Vec<_>>(), [2, 100]);
}
