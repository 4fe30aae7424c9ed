//! One message, from claim to settlement. Read this file first.
//!
//! ```text
//!     claim ─► screen ─► choose ─► render ─► plan ─► admit ─► intend ─► deliver ─► hear ─► decide ─► settle
//!                 └─────────┴─────────┴────────┴───────┴─────────┴─────────┘
//!                     any of these may end the journey with an Outcome
//! ```
//!
//! A step hands on its result or ends the journey; there is no third way, so `?` is
//! the whole control flow. Each step needs what the step before returned.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;

use super::admit::Admission;
use super::choose;
use super::deliver::Carrier;
use super::hearing::Hearing;
use super::intend::Intending;
use super::plan::Planning;
use super::policy::Policies;
use super::quiet::QuietTimes;
use super::render::Rendering;
use super::screen;
use super::slots::Slot;
use crate::domain::outcome::Outcome;
use crate::domain::receipt::{Receipt, Trail};
use crate::domain::trace::Notes;
use crate::queue::job::Job;
use crate::queue::lane::Lane;
use crate::queue::retry;
use crate::queue::settle::Settlement;
use crate::route::choice::RouteChoice;
use crate::telemetry::traces;
use crate::throttle::gate::Permit;

/// A job in hand, with the room and the leave it was claimed with.
#[derive(Debug)]
pub struct Claim {
    /// The job.
    pub job: Job,
    /// Where it waited.
    pub lane: Arc<Lane>,
    /// The ways out of its lane.
    pub choice: Arc<RouteChoice>,
    /// Leave to send; given back unless a peer was asked.
    pub permit: Permit,
    /// Room in this process.
    pub slot: Slot,
}

/// The steps, each with what it needs.
pub struct Pipeline {
    /// Step: is it night?
    pub quiet: Arc<QuietTimes>,
    /// Step: job → letter.
    pub rendering: Rendering,
    /// Step: letter → route plan.
    pub planning: Planning,
    /// Step: may it start now?
    pub admission: Admission,
    /// Step: say durably that it is about to be sent.
    pub intending: Intending,
    /// Step: try the hops.
    pub carrier: Carrier,
    /// Step: what the reply means for what comes next.
    pub hearing: Arc<Hearing>,
    /// What the streams want.
    pub policies: Policies,
}

impl Pipeline {
    /// Carries one claimed message to its settlement. It always has one.
    pub async fn carry(&self, claim: &mut Claim) -> Settlement {
        let started = Instant::now();
        let notes = Notes::new(traces::are_on());
        let mut trail = Trail { notes, ..Trail::default() };
        let attempt = AssertUnwindSafe(self.attempt(claim, &mut trail)).catch_unwind();
        let outcome = match attempt.await {
            Ok(Ok(receipt)) => Outcome::Delivered(receipt),
            Ok(Err(ending)) => ending,
            Err(panic) => Outcome::Crashed { reason: panic_text(panic.as_ref()) },
        };
        trail.took = started.elapsed();
        super::metrics::attempt(&claim.lane, &claim.job, &outcome, &trail);
        trail.notes.kept = super::trace::attempt(&claim.lane, &claim.job, &outcome, &trail);
        super::metrics::traced(&claim.lane, &outcome, &trail);
        super::report::attempt(&claim.lane, &claim.job, &outcome, &trail);
        let policy = self.policies.of(&claim.lane.stream_name);
        let settlement = retry::decide(&claim.job, &outcome, &trail, &policy, rand::random());
        super::metrics::ending(&claim.lane, settlement.ending);
        settlement
    }

    async fn attempt(&self, claim: &mut Claim, trail: &mut Trail) -> Result<Receipt, Outcome> {
        let job = screen::pass(&claim.job)?;
        self.quiet.pass(job, &claim.lane)?;
        let doubt_wait = self.policies.of(&claim.lane.stream_name).doubt_wait;
        let way = choose::choose(claim, &self.admission.aside, doubt_wait)?;
        let result = self.by(&way, claim, trail).await;
        choose::learn(claim, &way, doubt_wait, result)
    }

    /// By one way.
    async fn by(
        &self,
        way: &RouteChoice,
        claim: &mut Claim,
        trail: &mut Trail,
    ) -> Result<Receipt, Outcome> {
        let (job, lane) = (&claim.job, &claim.lane);
        self.admission.change_over(lane, &claim.choice, way, &mut claim.permit).await?;
        let rendered = self.rendering.render(job, lane, way).await?;
        (trail.notes.caller, trail.notes.many) = (rendered.caller, rendered.many);
        trail.notes.mark("rendered");
        let letter = &rendered.letter;
        let mut plan = self.planning.plan(way, lane, letter).await?;
        trail.notes.mark("planned");
        let cleared = self.hearing.clear(&mut plan, letter.recipient().domain())?;
        self.admission.admit(lane, &plan, &mut claim.permit).await?;
        trail.notes.mark("admitted");
        let turn = self.intending.intend(job, &plan).await?;
        trail.notes.mark("intended");
        self.admission.freshen(&mut claim.permit).await?;
        let carrier = &self.carrier;
        let ended = carrier.deliver(job.id, letter, &plan, turn, &mut claim.permit, trail).await;
        self.hearing.heard(lane, &plan, &cleared, trail, ended)
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}
