//! Promise: in whatever order events of a provider come, and however often, none lowers what a
//! delivery has come to: an end stays the end it is, who is suppressed stays so, a doubt that
//! ended does not come back; and in the end the order made no difference.

use std::collections::BTreeSet;

use crate::support::callbacks::{Room, SendGrid};
use axum::http::StatusCode;
use postrider::domain::ids::DeliveryId;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

/// What a delivery has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Standing {
    ends: Vec<i16>,
    suppressed: bool,
    evidence: Vec<[String; 4]>,
}

/// Kinds of events, and which way each goes.
const EVENTS: [(&str, &str); 9] = [
    ("processed", ""),
    ("delivered", "250 OK"),
    ("deferred", "451 4.7.1 try again later"),
    ("bounce", "550 5.1.1 user unknown"),
    ("bounce", "552 5.2.2 mailbox full"),
    ("bounce", "550 5.7.1 blocked using zen.spamhaus.org"),
    ("dropped", "Bounced Address"),
    ("spamreport", ""),
    ("unsubscribe", ""),
];

struct Trial<'r> {
    room: &'r Room,
    account: &'r SendGrid,
    delivery: DeliveryId,
    to: String,
}

impl<'r> Trial<'r> {
    async fn begin(room: &'r Room, account: &'r SendGrid, name: &str, doubtful: bool) -> Self {
        let to = format!("{name}@b.example");
        let delivery = if doubtful {
            room.doubtful(&to).await
        } else {
            room.taken(&to, &format!("{name}.id")).await
        };
        Self { room, account, delivery, to }
    }

    fn event(&self, which: usize) -> Value {
        let (kind, words) = EVENTS[which];
        json!({
            "sg_event_id": format!("{}-{which}", self.to), "event": kind, "email": self.to,
            "type": "bounce", "reason": words, "response": words,
            "postrider_delivery": self.delivery.to_string(),
        })
    }

    async fn standing(&self) -> Standing {
        let suppressed = self.room.suppressed().await;
        Standing {
            ends: self.room.ends(self.delivery).await,
            suppressed: suppressed.iter().any(|(who, ..)| *who == self.to),
            evidence: self.room.evidence(self.delivery).await,
        }
    }

    /// Tells events one by one; what the delivery comes to.
    async fn run(&self, events: &[usize]) -> Standing {
        let mut before = self.standing().await;
        for which in events {
            let answer = self.account.tells(self.room, &json!([self.event(*which)])).await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            self.room.read().await;
            let now = self.standing().await;
            let told = format!("{:?} in {events:?}: {before:?} {now:?}", EVENTS[*which]);
            assert_eq!(now.ends, [1], "the provider had it: {told}");
            assert!(before.ends.is_empty() || before.ends == now.ends, "an end changed: {told}");
            assert!(now.suppressed || !before.suppressed, "a suppression went: {told}");
            assert!(before.evidence.iter().all(|one| now.evidence.contains(one)), "{told}");
            before = now;
        }
        before
    }
}

#[test]
fn no_order_lowers_what_a_delivery_has_come_to() {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let account = SendGrid::new();
    let room = runtime.block_on(Room::open(account.settings()));
    let events = prop::collection::vec(0..EVENTS.len(), 1..7);
    let mut runner = TestRunner::new(Config { cases: 16, ..Config::default() });
    let count = std::cell::Cell::new(0);
    let outcome = runner.run(&(events, any::<bool>()), |(events, doubtful)| {
        runtime.block_on(async {
            let n = count.replace(count.get() + 1);
            let mut other: Vec<usize> = events.iter().rev().copied().collect();
            // And one of them again.
            other.extend(events.first());
            let one = Trial::begin(&room, &account, &format!("one{n}"), doubtful).await;
            let two = Trial::begin(&room, &account, &format!("two{n}"), doubtful).await;
            let (first, second) = (one.run(&events).await, two.run(&other).await);
            assert_eq!(first, second, "the order made a difference: {events:?}");
            let distinct: BTreeSet<usize> = events.iter().copied().collect();
            assert_eq!(first.evidence.len(), distinct.len(), "each event once: {events:?}");
        });
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    // The room has a server's connections to give back inside the runtime.
    let _inside = runtime.enter();
    drop(room);
}
