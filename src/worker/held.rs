//! What this process has in hand, from the claim's answer until its settlement is written,
//! and which intents to send stand for it in the database.
//!
//! A claim can commit and its answer get lost with the connection. Then a lease stands in
//! the database that nobody here knows of; it would stay for as long as this process
//! lives, since only dead sessions are rescued. Knowing what *is* in hand tells those
//! strays apart. The pump looks for them after trouble, and a sweep now and then finds those
//! whose claim committed later than that. In the same way an intent may go once nothing of it is in hand any more.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::domain::ids::{DeliveryId, Hold};
use crate::queue::deadline;
use crate::queue::intent::Batch;
use crate::queue::session::Session;
use crate::queue::signal::Class;

/// How often strays are looked for.
const EVERY: Duration = Duration::from_secs(30);

/// Leases younger than this may belong to a claim under way.
const LEAST_AGE: Duration = Duration::from_secs(45);

/// One claim of a delivery.
pub type Claimed = (DeliveryId, Hold);

/// The claims in hand, and how many deliveries have left it for good.
#[derive(Debug, Default)]
pub struct Held {
    hand: Mutex<Hand>,
    /// By [`Class::index`].
    ended: [AtomicU64; 2],
}

#[derive(Debug, Default)]
struct Hand {
    claims: HashMap<Claimed, InHand>,
    /// Claims in hand of each intent.
    open: HashMap<Batch, usize>,
    /// Intents of which nothing is in hand any more.
    settled: Vec<Batch>,
}

#[derive(Debug)]
struct InHand {
    class: Class,
    /// The intent that was written for it.
    intent: Option<Batch>,
}

impl Held {
    /// A claim brought this.
    pub fn take(&self, claim: Claimed, class: Class) {
        self.hand.lock().claims.insert(claim, InHand { class, intent: None });
    }

    /// These came to an end, and it is written. Tell it before [`Self::settled`].
    pub fn end(&self, claims: impl IntoIterator<Item = Claimed>) {
        let hand = self.hand.lock();
        for one in claims.into_iter().filter_map(|claim| hand.claims.get(&claim)) {
            self.ended[one.class.index()].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many deliveries of a class came to an end here.
    pub fn ended(&self, class: Class) -> u64 {
        self.ended[class.index()].load(Ordering::Relaxed)
    }

    /// The intent to send these is durable as `batch`.
    pub fn intended(&self, batch: Batch, claims: &[Claimed]) {
        let mut hand = self.hand.lock();
        let mut open = 0;
        for claim in claims {
            if let Some(one) = hand.claims.get_mut(claim) {
                one.intent = Some(batch);
                open += 1;
            }
        }
        if open == 0 {
            hand.settled.push(batch);
        } else {
            hand.open.insert(batch, open);
        }
    }

    /// Their settlements are written, or were fenced.
    pub fn settled(&self, claims: impl IntoIterator<Item = Claimed>) {
        let mut hand = self.hand.lock();
        for claim in claims {
            let Some(batch) = hand.claims.remove(&claim).and_then(|one| one.intent) else {
                continue;
            };
            let Some(open) = hand.open.get_mut(&batch) else { continue };
            *open -= 1;
            if *open == 0 {
                hand.open.remove(&batch);
                hand.settled.push(batch);
            }
        }
    }

    /// Takes the intents that may go, `most` at most.
    pub fn take_settled(&self, most: usize) -> Vec<Batch> {
        let mut hand = self.hand.lock();
        let from = hand.settled.len().saturating_sub(most);
        hand.settled.split_off(from)
    }

    /// They could not be dropped: for the next time.
    pub fn give_back(&self, batches: Vec<Batch>) {
        self.hand.lock().settled.extend(batches);
    }

    /// Deliveries in hand for which an intent stands.
    pub fn under_intent(&self) -> usize {
        self.hand.lock().open.values().sum()
    }

    /// What is in hand.
    pub(super) fn ids(&self) -> Vec<i64> {
        self.hand.lock().claims.keys().map(|(job, _)| job.get()).collect()
    }
}

/// Gives strays back until `stop`.
pub async fn release_strays(
    pool: PgPool,
    session: Arc<Session>,
    held: Arc<Held>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let held = held.ids();
        let released = session.release_strays(&pool, &held, LEAST_AGE);
        match deadline::within(LEAST_AGE, released).await {
            Ok(0) => {}
            Ok(strays) => {
                tracing::warn!(strays, "gave back deliveries whose claim's answer was lost");
            }
            Err(error) => tracing::debug!(%error, "could not look for stray leases"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(job: i64, hold: i32) -> Claimed {
        (DeliveryId::new(job), Hold::new(hold))
    }

    #[test]
    fn an_intent_may_go_when_its_last_delivery_is_settled() {
        let held = Held::default();
        let (a, b, c) = (claim(1, 1), claim(2, 1), claim(3, 1));
        for one in [a, b, c] {
            held.take(one, Class::Bulk);
        }
        held.intended(Batch::new(7), &[a, b]);
        assert_eq!(held.under_intent(), 2);
        held.settled([a, c]);
        assert!(held.take_settled(10).is_empty());
        held.settled([b]);
        assert_eq!(held.take_settled(10), [Batch::new(7)]);
        assert!(held.take_settled(10).is_empty() && held.under_intent() == 0);
        assert!(held.ids().is_empty());
    }

    #[test]
    fn a_late_settlement_leaves_the_next_claim_of_the_delivery_in_hand() {
        let held = Held::default();
        held.take(claim(1, 1), Class::Bulk);
        held.take(claim(1, 2), Class::Bulk);
        held.settled([claim(1, 1)]);
        assert_eq!(held.ids(), [1]);
        held.intended(Batch::new(1), &[claim(1, 1)]);
        assert_eq!(held.take_settled(1), [Batch::new(1)], "nothing of it is in hand");
    }
}
