//! Tells the other processes, through the database, what this one knows: how fast it goes,
//! what it could, and why lanes wait.
//!
//! Once a second, and only while something changed. What was told is remembered, so that
//! only changes travel: at most [`MOST_CHANGES`] lanes at a time, so twenty thousand lanes
//! that begin to wait at once are told within some seconds. A failure costs nothing but
//! freshness: nobody needs this to deliver.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::held::Held;
use super::pace::Pace;
use super::slots::Slots;
use super::waits::{Snapshot, WaitingLane};
use crate::config::ThrottleRule;
use crate::config::unit;
use crate::domain::ids::LaneId;
use crate::queue::session::Session;
use crate::queue::signal::{self, Changes, Class, LaneWait, Signal, Told};
use crate::throttle::key::Key;
use crate::throttle::limiter::Limiter;

/// How often there may be something to tell.
const EVERY: Duration = Duration::from_secs(1);

/// How often what dead sessions told is dropped.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Changed lanes in one statement.
pub const MOST_CHANGES: usize = 1_000;

/// Lanes that are told of at the same time; those that have waited longest.
pub const MOST_LANES: usize = 20_000;

/// Seconds in a row in which work must have waited for this process alone before what it
/// did is taken for what it can do.
const BUSY_SECONDS: u32 = 5;

/// How much of a new figure enters the capacity: quickly up, slowly down.
const UP: f64 = 0.5;
const DOWN: f64 = 0.05;

/// What the publisher reads.
pub struct Signals {
    /// Connections.
    pub pool: PgPool,
    /// Who tells.
    pub session: Arc<Session>,
    /// Room in this process.
    pub slots: Arc<Slots>,
    /// What came to an end.
    pub held: Arc<Held>,
    /// What the limits allow, in words.
    pub limiter: Arc<Limiter>,
    /// Why lanes wait, as the pump last saw it.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
}

/// What is remembered between two statements.
struct Memory {
    told: HashMap<LaneId, Row>,
    paces: HashMap<LaneId, Pace>,
    ended: [Pace; 2],
    last: Option<Signal>,
    busy: Busy,
    anew: bool,
    swept: Option<Instant>,
}

/// A lane as it was told.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    wait: LaneWait,
    since: Instant,
    until: Option<Instant>,
}

/// What this process can do, learned when it was busy (pure).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Busy {
    seconds: u32,
    capacity: Option<f64>,
}

impl Busy {
    /// One second went by with `rate` ends; `busy`: work waited for nothing but this process.
    pub fn second(&mut self, busy: bool, rate: f64) {
        self.seconds = if busy { self.seconds.saturating_add(1) } else { 0 };
        if self.seconds < BUSY_SECONDS || rate <= 0.0 {
            return;
        }
        self.capacity = Some(match self.capacity {
            None => rate,
            Some(known) if rate > known => known + (rate - known) * UP,
            Some(known) => known + (rate - known) * DOWN,
        });
    }

    /// Ends per second; `None`: it was never busy for long enough.
    pub const fn capacity(&self) -> Option<f64> {
        self.capacity
    }
}

impl Signals {
    /// Tells until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let now = Instant::now();
        let mut memory = Memory {
            told: HashMap::new(),
            paces: HashMap::new(),
            ended: Class::ALL.map(|class| Pace::new(now, self.held.ended(class))),
            last: None,
            busy: Busy::default(),
            anew: true,
            swept: None,
        };
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.tell(&mut memory).await {
                // What stands in the database now is unknown.
                memory.anew = true;
                tracing::debug!(%error, "could not tell the others why lanes wait");
            }
        }
    }

    async fn tell(&self, memory: &mut Memory) -> Result<(), sqlx::Error> {
        let now = Instant::now();
        if memory.swept.is_none_or(|at| now.duration_since(at) >= SWEEP_EVERY) {
            signal::sweep(&self.pool).await?;
            memory.swept = Some(now);
        }
        let snapshot = Arc::clone(&self.snapshot.borrow());
        let signal = self.signal(memory, &snapshot, now);
        if std::mem::take(&mut memory.anew) {
            memory.told.clear();
            memory.last = None;
        }
        let rows = self.rows(memory, &snapshot, now);
        let changes = changes(&mut memory.told, rows, memory.last.is_none());
        if changes == Changes::default() && memory.last == Some(signal) {
            return Ok(());
        }
        match signal::tell(&self.pool, self.session.id(), &signal, &changes).await? {
            // The first row of a session is new; of a later one, the tables were emptied.
            Told::Anew if memory.last.is_some() => memory.anew = true,
            Told::Anew | Told::Further | Told::Fenced => {}
        }
        memory.last = Some(signal);
        Ok(())
    }

    fn signal(&self, memory: &mut Memory, snapshot: &Snapshot, now: Instant) -> Signal {
        for class in Class::ALL {
            memory.ended[class.index()].note(now, self.held.ended(class));
        }
        let lately =
            memory.ended.iter().map(|pace| pace.rate_over(EVERY * BUSY_SECONDS)).sum::<f64>();
        let fresh = now.saturating_duration_since(snapshot.at) < EVERY * 3;
        memory.busy.second(fresh && snapshot.is_busy(), lately);
        Signal {
            ended: Class::ALL.map(|class| self.held.ended(class)),
            rate: [memory.ended[0].rate(), memory.ended[1].rate()],
            in_hand: self.slots.used() as u32,
            slots: self.slots.limit() as u32,
            capacity: memory.busy.capacity(),
        }
    }

    /// What is to be told of each lane.
    fn rows(&self, memory: &mut Memory, snapshot: &Snapshot, now: Instant) -> Vec<Row> {
        let mut lanes: Vec<&WaitingLane> = snapshot.lanes.iter().collect();
        lanes.sort_by_key(|waiting| (waiting.since, waiting.lane.id));
        lanes.truncate(MOST_LANES);
        let mut paces = std::mem::take(&mut memory.paces);
        let mut limits = HashMap::new();
        lanes
            .into_iter()
            .map(|waiting| {
                let id = waiting.lane.id;
                let mut pace = paces.remove(&id).unwrap_or_else(|| Pace::new(now, waiting.taken));
                pace.note(now, waiting.taken);
                let rate = pace.rate();
                memory.paces.insert(id, pace);
                let limit = waiting.limit.as_ref().map(|key| {
                    limits.entry(key.clone()).or_insert_with(|| self.limit(key)).clone()
                });
                let (limit_text, limit_rate) = limit.unwrap_or_default();
                Row {
                    wait: LaneWait {
                        lane: id,
                        tenant: waiting.lane.tenant,
                        hold: waiting.hold,
                        limit_key: waiting.limit.as_ref().map(ToString::to_string),
                        limit_text,
                        limit_rate,
                        lane_rate: rounded(rate),
                        waited: now.saturating_duration_since(waiting.since),
                        left: waiting.until.map(|at| at.saturating_duration_since(now)),
                    },
                    since: waiting.since,
                    until: waiting.until,
                }
            })
            .collect()
    }

    /// What a limit allows, in words and a second: as configured, and as a receiver asks for.
    fn limit(&self, key: &Key) -> (Option<String>, Option<f64>) {
        let rule = self.limiter.rule(key);
        let mut words: Vec<String> = rule.as_ref().map(in_words).into_iter().collect();
        let mut rate = rule.as_ref().and_then(slowest);
        if let Some(held) = self.limiter.held(key) {
            let paced = held.rate.map(unit::written_rate);
            let slots = held.slots.map(|n| format!("{n} at a time"));
            let closed = held.closed.map(|_| "nothing for now".to_owned());
            words.extend(closed.or(paced));
            words.extend(slots);
            words.push(held.why.to_string());
            rate = [rate, held.rate].into_iter().flatten().min_by(f64::total_cmp);
        }
        ((!words.is_empty()).then(|| words.join(", ")), rate)
    }
}

/// What changed, as far as one statement may hold; what it holds counts as told.
fn changes(told: &mut HashMap<LaneId, Row>, rows: Vec<Row>, anew: bool) -> Changes {
    let mut changes = Changes { anew, ..Changes::default() };
    let waiting: std::collections::HashSet<LaneId> = rows.iter().map(|row| row.wait.lane).collect();
    changes.gone = told.keys().copied().filter(|lane| !waiting.contains(lane)).collect();
    changes.gone.truncate(MOST_CHANGES);
    for lane in &changes.gone {
        told.remove(lane);
    }
    for row in rows {
        if changes.waits.len() >= MOST_CHANGES {
            break;
        }
        if told.get(&row.wait.lane).is_none_or(|known| differs(known, &row)) {
            told.insert(row.wait.lane, row.clone());
            changes.waits.push(row.wait);
        }
    }
    changes
}

/// Whether a lane's row says something new: small changes of a rate are not, and neither is
/// the next token of a fast limit.
fn differs(told: &Row, now: &Row) -> bool {
    let (a, b) = (&told.wait, &now.wait);
    let apart = |a: Instant, b: Instant| {
        a.saturating_duration_since(b).max(b.saturating_duration_since(a)) > EVERY
    };
    a.hold != b.hold
        || a.limit_key != b.limit_key
        || a.limit_text != b.limit_text
        || apart(told.since, now.since)
        || (a.lane_rate - b.lane_rate).abs() > 0.1 * a.lane_rate.max(b.lane_rate)
        || match (told.until, now.until) {
            (None, None) => false,
            (Some(told), Some(now)) => {
                apart(told, now) && b.left.is_some_and(|left| left > EVERY * 5)
            }
            (told, now) => told.is_some() != now.is_some(),
        }
}

/// A limit in the words of the configuration.
fn in_words(rule: &ThrottleRule) -> String {
    let rates = rates(rule).map(unit::written_rate);
    let slots = rule.concurrency.map(|n| format!("{n} at a time"));
    rates.chain(slots).collect::<Vec<_>>().join(", ")
}

/// What a limit lets through in the long run: all its rates hold together.
fn slowest(rule: &ThrottleRule) -> Option<f64> {
    rates(rule).min_by(f64::total_cmp)
}

fn rates(rule: &ThrottleRule) -> impl Iterator<Item = f64> {
    rule.rate.into_iter().chain(rule.further.iter().map(|further| further.per_second))
}

/// To three digits, so that noise is no change.
fn rounded(rate: f64) -> f64 {
    if rate <= 0.0 {
        return 0.0;
    }
    let scale = 10_f64.powf(2.0 - rate.log10().floor());
    (rate * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FurtherRate, ThrottleScope};
    use crate::domain::ids::TenantId;
    use crate::domain::outcome::WaitReason;
    use crate::queue::signal::Hold;

    #[test]
    fn all_rates_of_a_limit_are_told_and_the_slowest_counts() {
        let rule = ThrottleRule {
            scope: ThrottleScope::Tenant { tenant: None },
            rate: Some(50.0),
            burst: None,
            further: vec![FurtherRate { per_second: 10.0, unit: 60.0 }],
            concurrency: Some(3),
        };
        assert_eq!(in_words(&rule), "50/s, 10/s, 3 at a time");
        assert_eq!(slowest(&rule), Some(10.0));
    }

    fn row(lane: i32, hold: Hold, since: Instant) -> Row {
        let wait = LaneWait {
            lane: LaneId::new(lane),
            tenant: TenantId::new(1),
            hold,
            limit_key: None,
            limit_text: None,
            limit_rate: None,
            lane_rate: 10.0,
            waited: Duration::ZERO,
            left: None,
        };
        Row { wait, since, until: None }
    }

    #[test]
    fn only_changes_travel_and_no_statement_holds_more_than_it_may() {
        let now = Instant::now();
        let all = || -> Vec<Row> {
            (0..2_500).map(|lane| row(lane, Hold::Limit(WaitReason::Rate), now)).collect()
        };
        let mut told = HashMap::new();
        let sizes: Vec<usize> =
            (0..4).map(|_| changes(&mut told, all(), false).waits.len()).collect();
        assert_eq!(sizes, [1_000, 1_000, 500, 0]);
        let mut fewer = all();
        fewer.truncate(2_400);
        fewer[7].wait.hold = Hold::Paused;
        let changed = changes(&mut told, fewer, false);
        assert_eq!((changed.waits.len(), changed.gone.len()), (1, 100));
        assert_eq!(changed.waits[0].lane, LaneId::new(7));
    }

    #[test]
    fn capacity_is_learned_only_while_busy() {
        let mut busy = Busy::default();
        for _ in 0..100 {
            busy.second(false, 5.0);
        }
        assert_eq!(busy.capacity(), None, "a trickle says nothing of what could be done");
        for _ in 0..BUSY_SECONDS {
            busy.second(true, 1_000.0);
        }
        assert_eq!(busy.capacity(), Some(1_000.0));
        busy.second(false, 0.0);
        assert_eq!(busy.capacity(), Some(1_000.0), "idleness unlearns nothing");
        for _ in 0..200 {
            busy.second(true, 500.0);
        }
        assert!(busy.capacity().is_some_and(|capacity| (500.0..510.0).contains(&capacity)));
    }

    #[test]
    fn rates_are_told_to_three_digits() {
        let told = [0.0, 0.012_345, 49.96, 12_345.0].map(|rate| rounded(rate).to_string());
        assert_eq!(told, ["0", "0.0123", "50", "12300"]);
    }
}
