//! One turn of an endpoint: read, tell, judge, give back.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use metrics::counter;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::arrange::arrange;
use super::lease::{Given, Lease, Report, Retry};
use super::outcome::Answer;
use super::secret::WebhookSecret;
use super::sender::Sender;
use super::standing::{Fate, Item, judge};
use super::trace;
use crate::domain::backoff::Backoff;
use crate::domain::clock::Clock;
use crate::domain::failpoint::{self, Point};
use crate::domain::ids::SessionId;
use crate::event::log::{self, Page};
use crate::event::payload::Event;
use crate::tenant::seal::Sealer;

/// No request begins later than this after the turn did.
pub(super) const LONGEST: Duration = Duration::from_secs(10);

/// Events looked at in one turn.
const MOST_EVENTS: usize = 1_000;

/// What every turn needs.
pub(super) struct Turns {
    pub(super) pool: PgPool,
    pub(super) session: SessionId,
    pub(super) sender: Arc<Sender>,
    pub(super) sealer: Arc<Sealer>,
    pub(super) backoff: Backoff,
    pub(super) stop: CancellationToken,
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// There may be more to tell at once.
    More,
    /// Nothing more for now.
    Idle,
}

impl Turns {
    /// Tells the endpoint what is next and gives it back.
    pub(super) async fn run(&self, lease: Lease) -> Result<Ended, sqlx::Error> {
        let until = Instant::now() + LONGEST;
        let page = self.page(&lease).await?;
        let jobs: Vec<i64> =
            page.events.iter().filter_map(|entry| Some(entry.event.delivery?.get())).collect();
        let (behind, full) = lease.behind(&self.pool, &jobs).await?;
        // Its list of retries is full: nothing new until some of them are over.
        let page =
            if full { Page { events: Vec::new(), end: lease.at, more: false } } else { page };
        let retries = if lease.failures == 0 || page.events.is_empty() {
            lease.retries(&self.pool, lease.in_flight as i64 * 4).await?
        } else {
            Vec::new()
        };
        let mut items = items(retries, &page, &behind);
        let (error, rest) = match self.secrets(&lease) {
            Ok(secrets) => {
                let told = self.tell(&lease, &secrets, &mut items, until).await;
                if items.iter().any(|item| item.fate == Fate::Taken) {
                    failpoint::reach(Point::EventsTaken, &lease.url);
                }
                told
            }
            Err(error) => {
                tracing::error!(webhook = %lease.webhook, %error, "an endpoint's secret cannot be used");
                items.iter_mut().filter(|item| item.fate == Fate::Unsent).for_each(|item| {
                    item.fate = Fate::Refused(None);
                });
                (Some("its secret cannot be opened: ask the operator".to_owned()), Duration::ZERO)
            }
        };
        let give_up = self.sender.settings().give_up_after;
        let mut report = judge(&lease, &page, &items, error, &self.backoff, give_up, full);
        report.wait = report.wait.max(rest);
        count(&report, &items);
        match lease.give_back(&self.pool, self.session, &report, give_up).await? {
            Given::Back => {}
            Given::Lost => {
                tracing::debug!(webhook = %lease.webhook, "lost an endpoint; it is told again");
                return Ok(Ended::Idle);
            }
            Given::Disabled(by) => {
                tracing::warn!(
                    webhook = %lease.webhook, tenant = lease.tenant.get(), by,
                    error = report.error.as_deref().unwrap_or_default(),
                    "an endpoint was disabled; its tenant is told by the log of events"
                );
                counter!("postrider_webhook_disabled_total", "reason" => by).increment(1);
                return Ok(Ended::Idle);
            }
        }
        Ok(if page.more && report.wait.is_zero() { Ended::More } else { Ended::Idle })
    }

    /// The next stretch of the log. A failing endpoint is only tried with as much as it takes at
    /// once.
    async fn page(&self, lease: &Lease) -> Result<Page, sqlx::Error> {
        let at_once = lease.batch * lease.in_flight;
        let mut most = if lease.failures > 0 { at_once } else { MOST_EVENTS.max(at_once) };
        if let Some(rate) = lease.per_second {
            most = most.min((rate as usize * LONGEST.as_secs() as usize).max(1) * lease.batch);
        }
        let mut connection = self.pool.acquire().await?;
        let kinds = lease.kinds.as_deref();
        log::read(&mut connection, lease.tenant, lease.at, kinds, most as i64).await
    }

    fn secrets(&self, lease: &Lease) -> Result<Vec<WebhookSecret>, crate::tenant::seal::SealError> {
        let open = |sealed: &Vec<u8>| {
            WebhookSecret::open(&self.sealer, lease.tenant, lease.webhook, sealed)
        };
        lease.secrets.iter().map(open).collect()
    }

    /// Sends what is to be sent, and notes what became of each. What the endpoint said when it
    /// did not take something, and how long its rate wants it left alone.
    async fn tell(
        &self,
        lease: &Lease,
        secrets: &[WebhookSecret],
        items: &mut [Item],
        until: Instant,
    ) -> (Option<String>, Duration) {
        let open: Vec<usize> =
            (0..items.len()).filter(|at| items.get(*at).is_some_and(Item::is_open)).collect();
        let keys: Vec<Option<i64>> =
            open.iter().map(|at| items.get(*at).and_then(|item| item.job)).collect();
        let mut run = Run {
            lease,
            until,
            failed: HashSet::new(),
            taken: 0,
            refused: 0,
            error: None,
            next: Instant::now(),
        };
        for wave in arrange(&keys, lease.batch) {
            let mut queue: VecDeque<Vec<usize>> = wave
                .into_iter()
                .map(|request| request.iter().filter_map(|at| open.get(*at).copied()).collect())
                .collect();
            let mut going = FuturesUnordered::new();
            loop {
                while going.len() < lease.in_flight && !run.is_over(&self.stop) {
                    let Some(mut request) = queue.pop_front() else { break };
                    // What follows something that was refused waits behind it.
                    request.retain(|at| {
                        let job = items.get(*at).and_then(|item| item.job);
                        job.is_none_or(|job| !run.failed.contains(&job))
                    });
                    let events: Vec<&Event> =
                        request.iter().filter_map(|at| items.get(*at)?.event.as_ref()).collect();
                    let Some((id, body)) = message(&events, lease.batch) else { continue };
                    run.pace().await;
                    going.push(self.send(lease, secrets, id, body, request, until));
                }
                let Some((request, sent)) = going.next().await else { break };
                if let Some(sent) = &sent {
                    sent.tell(lease, items, &request);
                }
                run.note(items, &request, sent.map(|sent| sent.answer));
            }
        }
        let rest = run.next.saturating_duration_since(Instant::now());
        (run.error, rest)
    }

    async fn send(
        &self,
        lease: &Lease,
        secrets: &[WebhookSecret],
        id: String,
        body: Vec<u8>,
        request: Vec<usize>,
        until: Instant,
    ) -> (Vec<usize>, Option<Sent>) {
        let Some(_place) = self.sender.place(until).await else { return (request, None) };
        let began = Clock::System.now();
        let answer = self.sender.post(&lease.url, secrets, &id, body).await;
        (request, Some(Sent { answer, began, ended: Clock::System.now() }))
    }
}

/// A request that was made.
struct Sent {
    answer: Answer,
    began: SystemTime,
    ended: SystemTime,
}

impl Sent {
    /// Tells of it in the traces of what it told; `request` are places in `items`.
    fn tell(&self, lease: &Lease, items: &[Item], request: &[usize]) {
        let item =
            |at: &usize| items.get(*at).and_then(|item| Some((item.event.as_ref()?, item.tries)));
        trace::told(&trace::Request {
            lease,
            events: request.iter().filter_map(item).collect(),
            answer: &self.answer,
            began: self.began,
            ended: self.ended,
        });
    }
}

fn count(report: &Report, items: &[Item]) {
    let taken = items.iter().filter(|item| item.fate == Fate::Taken).count();
    let dropped = report.over.len().saturating_sub(
        items.iter().filter(|item| item.tries > 0 && item.fate == Fate::Taken).count(),
    );
    for (outcome, number) in
        [("taken", taken), ("retried", report.again.len()), ("dropped", dropped)]
    {
        counter!("postrider_webhook_events_total", "outcome" => outcome).increment(number as u64);
    }
}

/// How a turn gets on.
struct Run<'l> {
    lease: &'l Lease,
    until: Instant,
    /// Deliveries of which something was refused.
    failed: HashSet<i64>,
    taken: usize,
    refused: usize,
    error: Option<String>,
    /// When the next request may begin.
    next: Instant,
}

impl Run<'_> {
    /// Whether no further request begins: the time is over, or it takes nothing.
    fn is_over(&self, stop: &CancellationToken) -> bool {
        stop.is_cancelled()
            || self.next.max(Instant::now()) >= self.until
            || (self.taken == 0 && self.refused >= self.lease.in_flight)
    }

    async fn pace(&mut self) {
        let Some(rate) = self.lease.per_second else { return };
        tokio::time::sleep_until(self.next.into()).await;
        self.next = self.next.max(Instant::now()) + Duration::from_secs(1) / rate;
    }

    fn note(&mut self, items: &mut [Item], request: &[usize], answer: Option<Answer>) {
        // Without an answer there was no place for it: nothing was sent.
        let Some(answer) = answer else { return };
        let fate = match &answer {
            Answer::Taken { .. } => {
                self.taken += 1;
                Fate::Taken
            }
            other => {
                self.refused += 1;
                self.error = Some(other.to_string());
                if *other == Answer::Gone { Fate::Gone } else { Fate::Refused(other.retry_after()) }
            }
        };
        for at in request {
            let Some(item) = items.get_mut(*at) else { continue };
            item.fate = fate;
            if fate != Fate::Taken {
                self.failed.extend(item.job);
            }
        }
    }
}

/// Retries first, then what is new; of deliveries that have retries nothing new yet.
fn items(retries: Vec<Retry>, page: &Page, behind: &[i64]) -> Vec<Item> {
    let behind: HashSet<i64> = behind.iter().copied().collect();
    let mut items: Vec<Item> = retries.into_iter().map(Item::again).collect();
    items.extend(page.events.iter().map(|entry| {
        let mut item = Item::new(entry);
        if item.job.is_some_and(|job| behind.contains(&job)) {
            item.fate = Fate::Behind;
        }
        item
    }));
    items
}

/// Id and body of a request; an endpoint that takes batches gets an array always.
pub(super) fn message(events: &[&Event], batch: usize) -> Option<(String, Vec<u8>)> {
    let [first, ..] = events else { return None };
    let (id, body) = if batch == 1 {
        (first.id.to_string(), serde_json::to_vec(first))
    } else {
        // The same events make the same id.
        (format!("{}_{}", first.id, events.len()), serde_json::to_vec(events))
    };
    Some((id, body.ok()?))
}
