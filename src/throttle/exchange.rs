//! Deals the limits of the cluster out to this process, through Postgres.
//!
//! One statement carries everything that is wanted, given back and renewed at the moment,
//! about every 80 ms while there is demand, at once (but no more often than every 20 ms)
//! when somebody is dry and nothing is foretold, and never while nobody wants anything. It
//! has connections of its own, so that it waits for no other statement.
//!
//! When the database does not answer, nothing is granted: tokens at hand end with their
//! hold and allotments with their trust. Whatever an answer that was lost had granted is
//! lost too, which is at most one slab.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};
use parking_lot::Mutex;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, Row};
use tokio_util::sync::CancellationToken;

use super::account::Account;
use super::bucket::Quota;
use super::deal::{AHEAD, Ask, Slab, cost};
use super::limiter::{Core, Count, Dealer, Limiter};
use super::offset::Offset;
use super::seat::SeatAsk;
use super::stock::HURRY;

/// Longest wait for an answer: by then it could grant nothing that is of use.
const PATIENCE: Duration = Duration::from_secs(2);

/// Wait after a failure, doubled up to the longest.
const TROUBLE_FIRST: Duration = Duration::from_millis(100);
const TROUBLE_LONGEST: Duration = Duration::from_secs(1);

/// How often rows are swept that say nothing any more.
const SWEEP: Duration = Duration::from_secs(300);

/// Connections of the limits: one for the exchange, one for the overrides, one for the paces.
pub async fn connections(pool: &PgPool) -> Result<PgPool, sqlx::Error> {
    PgPoolOptions::new()
        .max_connections(3)
        .acquire_timeout(PATIENCE)
        .test_before_acquire(false)
        .connect_with((*pool.connect_options()).clone())
        .await
}

/// The exchange of one process.
#[derive(Debug)]
pub struct Exchange {
    pool: PgPool,
    session: Arc<AtomicI64>,
    core: Arc<Core>,
    offset: Mutex<Offset>,
    counted: Counted,
}

/// What goes out in one statement.
#[derive(Debug, Default)]
struct Batch {
    rates: Vec<RateAsk>,
    seats: Vec<(Arc<Count>, u32, SeatAsk)>,
}

#[derive(Debug)]
struct RateAsk {
    count: Arc<Count>,
    nth: usize,
    quota: Quota,
    ask: Ask,
}

#[derive(Debug)]
struct Answer {
    place: i32,
    slab: Option<(Slab, i64)>,
    seat: Option<(u32, u32)>,
}

impl Exchange {
    /// For a limiter that is [shared](Limiter::shared), over [`connections`], as whatever
    /// `session` says at the moment.
    pub fn new(pool: PgPool, session: Arc<AtomicI64>, limiter: &Limiter) -> Self {
        let core = Arc::clone(limiter.core());
        Self { pool, session, core, offset: Mutex::default(), counted: Counted::register() }
    }

    /// Exchanges until `stop`, and then gives all slots up.
    pub async fn run(self, stop: CancellationToken) {
        let Some(dealer) = &self.core.dealer else { return };
        let mut trouble = TROUBLE_FIRST;
        let mut last = 0;
        let mut swept = tokio::time::Instant::now();
        while !stop.is_cancelled() {
            let now = self.core.now();
            let due = next_due(dealer, now);
            let pause = due.map(|due| Duration::from_nanos(due.saturating_sub(now)));
            tokio::select! {
                () = stop.cancelled() => break,
                () = dealer.kick.notified() => {}
                () = tokio::time::sleep(pause.unwrap_or(SWEEP)) => {}
            }
            let early = (last + HURRY).saturating_sub(self.core.now());
            if early > 0 {
                tokio::time::sleep(Duration::from_nanos(early)).await;
            }
            if swept.elapsed() > SWEEP {
                swept = tokio::time::Instant::now();
                if let Err(error) =
                    sqlx::query(include_str!("sql/sweep.sql")).execute(&self.pool).await
                {
                    tracing::debug!(%error, "could not sweep the limits; the next time does");
                }
            }
            last = self.core.now();
            let batch = self.collect(dealer, last);
            if batch.rates.is_empty() && batch.seats.is_empty() {
                continue;
            }
            match self.exchange(&batch).await {
                Ok(()) => trouble = TROUBLE_FIRST,
                Err(error) => {
                    self.counted.failed.increment(1);
                    tracing::warn!(%error, "cannot exchange limits; limited mail waits");
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = tokio::time::sleep(trouble.mul_f64(0.5 + 0.5 * rand::random::<f64>())) => {}
                    }
                    trouble = (trouble * 2).min(TROUBLE_LONGEST);
                }
            }
        }
        let leave =
            sqlx::query(include_str!("sql/leave.sql")).bind(self.session.load(Ordering::Relaxed));
        if let Err(error) = leave.execute(&self.pool).await {
            tracing::debug!(%error, "could not give up the slots; they pass on in three seconds");
        }
    }

    /// What is to be exchanged now; takes those off the list that have nothing more.
    fn collect(&self, dealer: &Dealer, now: u64) -> Batch {
        let mut batch = Batch::default();
        let mut lost = 0;
        let rules = self.core.rules();
        dealer.listed.lock().retain(|count| {
            let Account::Dealt(dealt) = &count.account else { return false };
            let mut guard = dealt.lock();
            let dealt = &mut *guard;
            // Limits that are gone are asked for no more; those that changed, by their new terms.
            let bounds = rules.bounds(&count.key).unwrap_or_default();
            if dealt.bounds != bounds {
                dealt.bounds = bounds.clone();
            }
            let mut useful = false;
            for (nth, quota) in bounds.quotas.iter().enumerate() {
                let stock = &mut dealt.stocks[nth];
                let Some(due) = stock.due(now, *quota) else { continue };
                useful |= due < now + 1_000_000_000;
                if due <= now
                    && let Some(ask) = stock.ask(now, *quota)
                {
                    let count = Arc::clone(count);
                    batch.rates.push(RateAsk { count, nth, quota: *quota, ask });
                }
                lost += stock.take_lost();
            }
            let used = count.slots.used();
            if let Some(limit) = bounds.slots
                && let Some(due) = dealt.seat.due(now, used)
            {
                useful = true;
                if due <= now {
                    let ask = dealt.seat.ask(now, used, limit);
                    batch.seats.push((Arc::clone(count), limit, ask));
                }
            }
            dealt.listed = useful;
            useful
        });
        self.counted.void.increment(lost);
        batch
    }

    /// Asks, and hands out what came.
    async fn exchange(&self, batch: &Batch) -> Result<(), sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        let sent = self.core.now();
        let keys: Vec<String> = batch.rates.iter().map(|one| one.count.key.path()).collect();
        let seats: Vec<String> = batch.seats.iter().map(|(count, ..)| count.key.path()).collect();
        let of = |pick: fn(&RateAsk) -> i32| batch.rates.iter().map(pick).collect::<Vec<i32>>();
        let seat = |pick: fn(&(Arc<Count>, u32, SeatAsk)) -> u32| {
            batch.seats.iter().map(|one| pick(one) as i32).collect::<Vec<i32>>()
        };
        let query = sqlx::query(include_str!("sql/exchange.sql"))
            .bind(self.session.load(Ordering::Relaxed))
            .bind(AHEAD)
            .bind(keys)
            .bind(batch.rates.iter().map(|one| one.nth as i16).collect::<Vec<i16>>())
            .bind(batch.rates.iter().map(|one| one.quota.rate).collect::<Vec<f64>>())
            .bind(batch.rates.iter().map(|one| one.quota.burst).collect::<Vec<f64>>())
            .bind(of(|one| one.ask.want as i32))
            .bind(of(|one| one.ask.back as i32))
            .bind(batch.rates.iter().map(|one| one.ask.back_tail).collect::<Vec<i64>>())
            .bind(seats)
            .bind(seat(|(_, limit, _)| *limit))
            .bind(seat(|(_, _, ask)| ask.keep))
            .bind(seat(|(_, _, ask)| ask.want))
            .fetch_all(&mut *connection);
        let rows = tokio::time::timeout(PATIENCE, query)
            .await
            .unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut))?;
        let now = self.core.now();
        self.counted.exchanged.increment(1);
        self.counted.took.record(Duration::from_nanos(now - sent));
        let mut awaited = false;
        for row in rows {
            let answer = Answer::read(&row)?;
            awaited |= self.hand_out(batch, &answer, sent, now);
        }
        if awaited {
            self.core.eased.notify_waiters();
        }
        Ok(())
    }

    /// Puts one answer where it belongs. Whether somebody waits for it.
    fn hand_out(&self, batch: &Batch, answer: &Answer, sent: u64, now: u64) -> bool {
        let at = (answer.place.unsigned_abs() as usize).wrapping_sub(1);
        if let (Some((slab, ahead)), Some(one)) = (answer.slab, batch.rates.get(at)) {
            let Account::Dealt(dealt) = &one.count.account else { return false };
            let mut dealt = dealt.lock();
            let theirs = slab.tail - cost(one.quota, slab.n) - ahead;
            let (earliest, latest) = self.offset.lock().place(sent, now, theirs);
            dealt.stocks[one.nth].receive(earliest, latest, one.quota, slab, ahead);
            self.counted.granted.increment(u64::from(slab.n));
            self.counted.returned.increment(u64::from(one.ask.back));
            return std::mem::take(&mut dealt.awaited);
        }
        if let (Some((allotted, target)), Some((count, ..))) = (answer.seat, batch.seats.get(at)) {
            let Account::Dealt(dealt) = &count.account else { return false };
            let mut dealt = dealt.lock();
            let more = dealt.seat.receive(sent, allotted, target);
            dealt.awaited &= !more;
            return more;
        }
        false
    }
}

impl Answer {
    fn read(row: &sqlx::postgres::PgRow) -> Result<Self, sqlx::Error> {
        let granted: Option<i32> = row.try_get("granted")?;
        let slab = match granted {
            Some(n) => {
                let (start, tail): (i64, i64) = (row.try_get("start")?, row.try_get("tail")?);
                Some((Slab { n: n.max(0) as u32, start, tail }, start))
            }
            None => None,
        };
        let allotted: Option<i32> = row.try_get("allotted")?;
        let target: Option<i32> = row.try_get("target")?;
        let seat = allotted.zip(target).map(|(a, t)| (a.max(0) as u32, t.max(0) as u32));
        Ok(Self { place: row.try_get("place")?, slab, seat })
    }
}

/// When somebody next has a reason to exchange.
fn next_due(dealer: &Dealer, now: u64) -> Option<u64> {
    let listed = dealer.listed.lock();
    listed.iter().filter_map(|count| due_of(count, now)).min()
}

fn due_of(count: &Count, now: u64) -> Option<u64> {
    let Account::Dealt(dealt) = &count.account else { return None };
    let dealt = dealt.lock();
    let rates = dealt.stocks.iter().zip(&dealt.bounds.quotas);
    let seat = dealt.bounds.slots.and_then(|_| dealt.seat.due(now, count.slots.used()));
    rates.filter_map(|(stock, quota)| stock.due(now, *quota)).chain(seat).min()
}

/// What the exchange counts.
#[derive(Debug)]
struct Counted {
    exchanged: Counter,
    failed: Counter,
    took: Histogram,
    granted: Counter,
    returned: Counter,
    void: Counter,
}

impl Counted {
    fn register() -> Self {
        Self {
            exchanged: counter!("postrider_throttle_exchanges_total", "result" => "answered"),
            failed: counter!("postrider_throttle_exchanges_total", "result" => "failed"),
            took: histogram!("postrider_throttle_exchange_seconds"),
            granted: counter!("postrider_throttle_granted_total"),
            returned: counter!("postrider_throttle_returned_total"),
            void: counter!("postrider_throttle_void_total"),
        }
    }
}
