//! The answer of `GET /scale`, added up from the backlog (pure). docs/scaling.md describes
//! every field.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::replicas::{self, Load};
use crate::config::Scale;
use crate::queue::backlog::{Backlog, Depth, LaneBacklog, Wait};
use crate::queue::signal::{Class, HoldKind};

/// Limits that are named, those with most behind them first.
const MOST_LIMITS: usize = 50;

/// The whole answer.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Both classes together.
    pub all: Standing,
    /// One mail for one event.
    pub transactional: Standing,
    /// Campaigns.
    pub bulk: Standing,
    /// Limits that mail waits for.
    pub limits: Vec<LimitedBy>,
    /// Who works, and how many should.
    pub replicas: Replicas,
}

/// How one class stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Standing {
    /// Everything that waits: the sum of the four below.
    pub depth: Depth,
    /// Age in seconds of the oldest that is due.
    pub oldest_seconds: Option<f64>,
    /// Could go now; waits for capacity only.
    pub sendable: Depth,
    /// Waits for its `send_at`.
    pub scheduled: Depth,
    /// Was refused for now; waits for the next try.
    pub deferred: Depth,
    /// Due, but held back, by reason.
    pub blocked: BTreeMap<String, Depth>,
    /// Deliveries that come to an end a second, over the last half minute.
    pub drain_per_second: f64,
    /// How long it takes to send what is due.
    pub seconds_to_drain: SecondsToDrain,
}

/// Two answers to one question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct SecondsToDrain {
    /// What is sendable, by the drain rate; absent: nothing comes to an end at present.
    pub by_rate: Option<f64>,
    /// What waits for limits, by what they allow: at least so long. Absent: one of them does
    /// not say.
    pub by_limits: Option<f64>,
}

/// A limit that mail waits for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LimitedBy {
    /// Which.
    pub limit: String,
    /// What it allows.
    pub allows: Option<String>,
    /// In a word: rate, concurrency, …
    pub reason: String,
    /// Lanes behind it.
    pub lanes: u64,
    /// Deliveries behind it.
    pub waiting: Depth,
    /// How long they take at least; absent where the limit does not say.
    pub seconds: Option<f64>,
}

/// Who works, and how many should.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replicas {
    /// Daemons that live.
    pub living: u32,
    /// Deliveries in hand.
    pub in_hand: u64,
    /// Deliveries they may have in hand.
    pub slots: u64,
    /// Ends a second of one of them at work; absent: none was seen at work yet.
    pub capacity_per_second: Option<f64>,
    /// How many are needed at this moment.
    pub needed: u32,
    /// Why so many.
    pub why: &'static str,
    /// How many to run: grows at once, shrinks after `scale.hold`.
    pub suggested: u32,
    /// The configuration's bounds and aim.
    pub min: u32,
    /// The most.
    pub max: u32,
    /// In seconds.
    pub target_drain_seconds: f64,
}

/// Why one lane's mail does not go.
enum Binding<'b> {
    Capacity,
    Pause,
    Limit(&'b Wait),
}

impl Report {
    /// Adds up.
    pub fn of(backlog: &Backlog, scale: &Scale) -> Self {
        let mut standings = [Standing::default(), Standing::default()];
        let mut limits: BTreeMap<(String, String), Behind> = BTreeMap::new();
        let waits = by_lane(&backlog.waits);
        for lane in &backlog.lanes {
            let standing = &mut standings[lane.class.index()];
            standing.scheduled = standing.scheduled.and(lane.scheduled);
            if lane.due.count == 0 {
                continue;
            }
            standing.oldest_seconds = max(standing.oldest_seconds, lane.oldest_seconds);
            let waits = waits.get(&lane.lane).map_or(&[][..], Vec::as_slice);
            match binding(lane, waits, backlog) {
                Binding::Capacity => standing.sendable = standing.sendable.and(lane.due),
                Binding::Pause => standing.block("paused", lane.due),
                Binding::Limit(wait) => {
                    standing.block(&wait.reason, lane.due);
                    let key = wait.limit_key.clone().unwrap_or_else(|| wait.reason.clone());
                    limits.entry((key, wait.reason.clone())).or_default().add(lane, waits);
                }
            }
        }
        for class in Class::ALL {
            let standing = &mut standings[class.index()];
            let at = class.index();
            standing.scheduled = standing.scheduled.and(backlog.scheduled[at]);
            standing.deferred = backlog.deferred[at];
            standing.drain_per_second = backlog.replicas.iter().map(|r| r.rate_of(class)).sum();
            standing.seconds_to_drain.by_limits =
                slowest(limits.values().map(|behind| behind.seconds_of(Some(class))));
            standing.close(backlog.more_lanes);
        }
        let [transactional, bulk] = standings;
        let mut all = transactional.with(&bulk);
        all.seconds_to_drain.by_limits =
            slowest(limits.values().map(|behind| behind.seconds_of(None)));
        let replicas = Replicas::of(backlog, &all, scale);
        let mut limits: Vec<LimitedBy> = limits.into_iter().map(named).collect();
        limits.sort_by_key(|limit| std::cmp::Reverse(limit.waiting.count));
        limits.truncate(MOST_LIMITS);
        Self { all, transactional, bulk, limits, replicas }
    }
}

fn by_lane(waits: &[Wait]) -> HashMap<i32, Vec<&Wait>> {
    let mut lanes: HashMap<i32, Vec<&Wait>> = HashMap::new();
    for wait in waits {
        lanes.entry(wait.lane_id).or_default().push(wait);
    }
    lanes
}

/// A pause binds whatever else does; a limit, unless some replica could go on at once.
fn binding<'b>(lane: &LaneBacklog, waits: &[&'b Wait], backlog: &Backlog) -> Binding<'b> {
    let of = |kind| waits.iter().find(|wait| HoldKind::of(&wait.reason) == kind);
    let held = backlog.blocks.iter().any(|block| lane.is_held_by(block));
    if held || of(HoldKind::Pause).is_some() {
        return Binding::Pause;
    }
    match (of(HoldKind::Capacity), of(HoldKind::Limit)) {
        (None, Some(limit)) => Binding::Limit(limit),
        _ => Binding::Capacity,
    }
}

/// What waits behind one limit.
#[derive(Default)]
struct Behind {
    lanes: HashSet<i32>,
    /// By class.
    waiting: [Depth; 2],
    allows: Option<String>,
    rate: Option<f64>,
    /// What its lanes get at present.
    gets: f64,
}

impl Behind {
    fn add(&mut self, lane: &LaneBacklog, waits: &[&Wait]) {
        self.lanes.insert(lane.lane);
        let waiting = &mut self.waiting[lane.class.index()];
        *waiting = waiting.and(lane.due);
        self.gets += waits.iter().map(|wait| wait.lane_rate).sum::<f64>();
        for wait in waits {
            self.allows = self.allows.take().or_else(|| wait.limit_text.clone());
            self.rate = self.rate.or(wait.limit_rate);
        }
    }

    fn all(&self) -> Depth {
        self.waiting[0].and(self.waiting[1])
    }

    /// How long what waits takes, of one class or of both. A limit without a rate takes what
    /// it takes at present.
    fn seconds_of(&self, class: Option<Class>) -> Option<f64> {
        let waiting = class.map_or_else(|| self.all(), |class| self.waiting[class.index()]);
        if waiting.count == 0 {
            return Some(0.0);
        }
        let rate = self.rate.unwrap_or(self.gets);
        (rate > 0.0).then(|| waiting.count as f64 / rate)
    }
}

fn named(((limit, reason), behind): ((String, String), Behind)) -> LimitedBy {
    LimitedBy {
        limit,
        reason,
        lanes: behind.lanes.len() as u64,
        waiting: behind.all(),
        seconds: behind.seconds_of(None),
        allows: behind.allows,
    }
}

/// The longest; `None` when one is not known.
fn slowest(mut all: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    all.try_fold(0.0_f64, |longest, one| one.map(|one| longest.max(one)))
}

fn max(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}

impl Standing {
    fn block(&mut self, reason: &str, due: Depth) {
        let depth = self.blocked.entry(reason.to_owned()).or_default();
        *depth = depth.and(due);
    }

    /// What follows from the rest.
    fn close(&mut self, more: bool) {
        self.sendable.at_least |= more;
        let parts = [self.sendable, self.scheduled, self.deferred];
        let parts = parts.into_iter().chain(self.blocked.values().copied());
        self.depth = parts.fold(Depth::default(), Depth::and);
        self.seconds_to_drain.by_rate = if self.sendable.count == 0 {
            Some(0.0)
        } else {
            let rate = self.drain_per_second;
            (rate > 0.0).then(|| self.sendable.count as f64 / rate)
        };
    }

    /// Both classes together.
    fn with(&self, other: &Self) -> Self {
        let mut sum = Self {
            oldest_seconds: max(self.oldest_seconds, other.oldest_seconds),
            sendable: self.sendable.and(other.sendable),
            scheduled: self.scheduled.and(other.scheduled),
            deferred: self.deferred.and(other.deferred),
            blocked: self.blocked.clone(),
            drain_per_second: self.drain_per_second + other.drain_per_second,
            ..Self::default()
        };
        for (reason, depth) in &other.blocked {
            sum.block(reason, *depth);
        }
        sum.close(false);
        sum
    }
}

impl Replicas {
    fn of(backlog: &Backlog, all: &Standing, scale: &Scale) -> Self {
        let known: Vec<f64> = backlog.replicas.iter().filter_map(|r| r.capacity).collect();
        let capacity = (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64);
        let living = backlog.replicas.len() as u32;
        let load =
            Load { sendable: all.sendable.count, drain: all.drain_per_second, living, capacity };
        let needed = replicas::needed(load, scale);
        let sum = |part: fn(&crate::queue::backlog::Replica) -> Option<i32>| {
            backlog.replicas.iter().filter_map(part).map(|n| n.max(0) as u64).sum()
        };
        Self {
            living,
            in_hand: sum(|replica| replica.in_hand),
            slots: sum(|replica| replica.slots),
            capacity_per_second: capacity,
            needed: needed.replicas,
            why: needed.why,
            suggested: needed.replicas,
            min: scale.min_replicas,
            max: scale.max_replicas,
            target_drain_seconds: scale.target_drain.as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::admin::pause::Block;

    fn lane(lane: i32, tenant: &str, class: Class, due: u64) -> LaneBacklog {
        LaneBacklog {
            lane,
            tenant: tenant.into(),
            mailbox_provider: "google".into(),
            stream: class.as_str().into(),
            class,
            due: Depth::exact(due),
            scheduled: Depth::default(),
            oldest_seconds: Some(f64::from(lane)),
        }
    }

    fn wait(lane_id: i32, reason: &str, rate: Option<f64>) -> Wait {
        Wait {
            lane_id,
            reason: reason.into(),
            limit_key: Some("mailbox provider google".into()),
            limit_text: rate.map(|rate| format!("{rate}/s")),
            limit_rate: rate,
            lane_rate: 1.0,
        }
    }

    #[test]
    fn each_lane_counts_under_what_binds_it() {
        let backlog = Backlog {
            lanes: vec![
                lane(1, "a", Class::Bulk, 100),
                lane(2, "b", Class::Bulk, 1_000),
                lane(3, "c", Class::Transactional, 10),
                lane(4, "d", Class::Bulk, 5),
                lane(5, "e", Class::Bulk, 7),
            ],
            waits: vec![
                wait(1, "rate", Some(50.0)),
                wait(2, "rate", Some(50.0)),
                // One replica has used up its part, another has not.
                wait(4, "rate", Some(50.0)),
                wait(4, "no_room", None),
                wait(5, "of a newer version", None),
            ],
            blocks: vec![Block {
                scope: "tenant".into(),
                name: "a".into(),
                reason: "complaints".into(),
                holder: "operator".into(),
                actor: None,
                since: chrono::DateTime::UNIX_EPOCH,
                seconds_left: None,
            }],
            ..Backlog::default()
        };
        let report = Report::of(&backlog, &Scale::default());
        let bulk = &report.bulk;
        assert_eq!(bulk.blocked["paused"].count, 100, "a pause binds before a limit");
        assert_eq!(bulk.blocked["rate"].count, 1_000);
        assert_eq!(bulk.blocked["of a newer version"].count, 7);
        assert_eq!(bulk.sendable.count, 5);
        assert_eq!(report.transactional.sendable.count, 10);
        assert_eq!(report.all.depth.count, 1_122);
        assert_eq!(report.all.oldest_seconds, Some(5.0));
        assert_eq!(report.limits[0].seconds, Some(20.0), "a thousand at fifty a second");
        assert_eq!(report.limits[1].seconds, Some(7.0), "by what it gets");
        assert_eq!(report.all.seconds_to_drain.by_limits, Some(20.0));
        assert_eq!(report.all.seconds_to_drain.by_rate, None, "nobody works");
    }

    #[test]
    fn what_was_cut_off_says_so() {
        let mut deep = lane(1, "a", Class::Bulk, 2_000);
        deep.due.at_least = true;
        let backlog = Backlog { lanes: vec![deep], more_lanes: true, ..Backlog::default() };
        let report = Report::of(&backlog, &Scale::default());
        assert!(report.all.sendable.at_least && report.all.depth.at_least);
    }
}
