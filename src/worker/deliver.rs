//! Step: hand the letter to the carrier of its route.

use std::sync::Arc;

use super::intend::Turn;
use crate::domain::outcome::Outcome;
use crate::domain::receipt::{Receipt, Trail};
use crate::message::letter::Letter;
use crate::route::plan::RoutePlan;
use crate::smtp::deliver::Smtp;
use crate::throttle::gate::Permit;

/// The carriers. Provider APIs will stand beside SMTP here.
pub struct Carrier {
    /// One letter over one SMTP session.
    pub smtp: Arc<Smtp>,
}

impl Carrier {
    /// Tries the plan's hops; `turn` says that the intent to is durable. The permit is spent
    /// when a peer was asked; a delivery that only waited for a connection gives it back.
    pub async fn deliver(
        &self,
        letter: &Letter,
        plan: &RoutePlan,
        turn: Turn,
        permit: &mut Permit,
        trail: &mut Trail,
    ) -> Result<Receipt, Outcome> {
        let delivery = self.smtp.deliver_while(&|| turn.still_stands(), letter, plan).await;
        if delivery.takes_next {
            turn.could_be_followed();
        }
        drop(turn);
        *trail = delivery.trail;
        if !matches!(delivery.result, Err(Outcome::Postponed { .. })) {
            permit.spend();
        }
        delivery.result
    }
}
