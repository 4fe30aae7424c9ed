//! apalis runs the workers; the queue is ours. This file is the whole adapter.
//!
//! The pump owns SQL, fairness and limits and pushes claims into a bounded channel;
//! [`ClaimedJobs`] only hands them to apalis. It never surfaces an error (apalis 1.0
//! drops every handler in flight on a backend error), and outcomes are not acks of an
//! apalis layer (those would be lost with the handler): the handler itself hands its
//! settlement over (docs/adr/0004).

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::layers::Identity;
use apalis_core::monitor::Monitor;
use apalis_core::task::Task;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::data::Data;
use apalis_core::worker::builder::WorkerBuilder;
use apalis_core::worker::context::WorkerContext;
use apalis_core::worker::ext::parallelize::ParallelizeExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::pipeline::{Claim, Pipeline};
use super::settle::Settlements;
use crate::domain::failpoint::{self, Point};

/// A claim on its way to its handler. apalis wants its arguments to be cloneable; the
/// claim itself must not be doubled, so the clones share one and the first takes it.
#[derive(Clone, Debug)]
pub struct Parcel(Arc<Mutex<Option<Claim>>>);

impl Parcel {
    /// Wraps a claim for the way.
    pub fn new(claim: Claim) -> Self {
        Self(Arc::new(Mutex::new(Some(claim))))
    }
}

/// The claims, as apalis sees them.
#[derive(Debug)]
pub struct ClaimedJobs {
    inbox: mpsc::Receiver<Parcel>,
    /// Told when the pump is gone and all it sent was taken.
    ended: Arc<Notify>,
}

impl Backend for ClaimedJobs {
    type Task = Task<Parcel>;
    type Error = Infallible;

    fn poll_ready(
        &mut self,
        _: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Self::Task, Infallible>>> {
        let polled = self.inbox.poll_recv(cx);
        if matches!(polled, Poll::Ready(None)) {
            self.ended.notify_one();
        }
        polled.map(|parcel| parcel.map(|parcel| Ok(TaskBuilder::new(parcel).build())))
    }

    fn poll_close(
        &mut self,
        _: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for ClaimedJobs {
    type Args = Parcel;
    type Id = u64;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}

/// Runs handlers until the channel's sender is gone and every handler is done.
pub async fn run(inbox: mpsc::Receiver<Parcel>, pipeline: Arc<Pipeline>, settlements: Settlements) {
    let ended = Arc::new(Notify::new());
    let hands = Hands { pipeline, settlements };
    let backend = Mutex::new(Some(ClaimedJobs { inbox, ended: Arc::clone(&ended) }));
    let monitor = Monitor::new().register(move |_restart| {
        // A worker restarts only after an error of its backend, and ours has none; should
        // it happen all the same, the new one finds an empty inbox and ends.
        let backend = backend.lock().take().unwrap_or_else(|| ClaimedJobs {
            inbox: mpsc::channel(1).1,
            ended: Arc::new(Notify::new()),
        });
        WorkerBuilder::new("postrider-deliver")
            .backend(backend)
            .data(hands.clone())
            .parallelize(tokio::spawn)
            .build(deliver)
    });
    // A worker whose backend has ended waits for the monitor to be told; the monitor then
    // waits for the handlers in flight.
    let all_taken = async move {
        ended.notified().await;
        Ok(())
    };
    if let Err(error) = monitor.run_with_signal(all_taken).await {
        tracing::error!(%error, "the delivery workers ended in disorder");
    }
}

#[derive(Clone)]
struct Hands {
    pipeline: Arc<Pipeline>,
    settlements: Settlements,
}

async fn deliver(parcel: Parcel, hands: Data<Hands>) {
    let claim = parcel.0.lock().take();
    if let Some(mut claim) = claim {
        let settlement = hands.pipeline.carry(&mut claim).await;
        failpoint::reach(Point::BeforeSettle, &claim.job.recipient);
        // The slot is held until the settlement has a place: backpressure.
        if hands.settlements.send(settlement).await.is_err() {
            tracing::error!(delivery = %claim.job.id, "the settler is gone; the outcome will be in doubt");
        }
    }
}
