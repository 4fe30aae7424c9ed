//! Step: hand the letter to the carrier of its route.

use std::sync::Arc;

use super::intend::Turn;
use crate::domain::ids::DeliveryId;
use crate::domain::outcome::Outcome;
use crate::domain::receipt::{Receipt, Trail};
use crate::message::letter::Letter;
use crate::provider::deliver::{Mail, Providers};
use crate::route::plan::RoutePlan;
use crate::smtp::deliver::Smtp;
use crate::throttle::gate::Permit;

/// The carriers.
pub struct Carrier {
    /// One letter over one SMTP session.
    pub smtp: Arc<Smtp>,
    /// One letter through a provider's API.
    pub providers: Arc<Providers>,
}

impl Carrier {
    /// Tries the plan's hops, or asks its provider; `turn` says that the intent to is durable.
    /// The permit is spent when a peer was asked; a delivery that only waited for a connection
    /// gives it back.
    pub async fn deliver(
        &self,
        delivery: DeliveryId,
        letter: &Letter,
        plan: &RoutePlan,
        turn: Turn,
        permit: &mut Permit,
        trail: &mut Trail,
    ) -> Result<Receipt, Outcome> {
        let may_begin = || turn.still_stands();
        let mut notes = std::mem::take(&mut trail.notes);
        let result = if let Some(provider) = &plan.provider {
            let mail = Mail { delivery, letter };
            let done = self.providers.deliver_while(&may_begin, mail, plan, provider).await;
            *trail = done.trail;
            done.result
        } else {
            let done = self.smtp.deliver_while(&may_begin, letter, plan).await;
            if done.takes_next {
                turn.could_be_followed();
            }
            *trail = done.trail;
            done.result
        };
        notes.take_from(&mut trail.notes);
        trail.notes = notes;
        drop(turn);
        if !matches!(result, Err(Outcome::Postponed { .. })) {
            permit.spend();
        }
        result
    }
}
