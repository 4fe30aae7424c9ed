//! The law against receivers that are simulated: no clock, no sleep.

use proptest::prelude::*;

use super::pace::{Asked, Heard, Pace, Phase, Terms};

const TERMS: Terms = Terms {
    window: 2.0,
    deferral_ratio: 0.3,
    floor: 1.0 / 60.0,
    ceiling: 1e6,
    headroom: 0.9,
    probe: 15.0,
    forget: 3_600.0,
};

/// A receiver that takes so many in each second of its clock and defers the rest, and senders
/// that have always more to send; replicas tell each other twice a second.
struct World {
    now: f64,
    limit: f64,
    /// Fraction of a second of the receiver's clock.
    phase: f64,
    demand: f64,
    /// Hundredths of a second for which mail is held up, every two seconds; then it comes at once.
    stall: u32,
    steps: u32,
    held: f64,
    pace: Option<Pace>,
    /// In this second of the receiver's.
    second: (f64, f64),
    credit: f64,
    passed: f64,
    refused: f64,
    draw: u32,
}

impl World {
    fn new(limit: f64, demand: f64, phase: f64) -> Self {
        Self {
            now: 1_000.0,
            limit,
            phase,
            demand,
            stall: 0,
            steps: 0,
            held: 0.0,
            pace: None,
            second: (0.0, 0.0),
            credit: 0.0,
            passed: 0.0,
            refused: 0.0,
            draw: 1,
        }
    }

    /// A quarter of a second goes by.
    fn quarter(&mut self) {
        let mut heard = Heard { span: 0.25, ..Heard::default() };
        let standing = self.pace.as_ref().map(|pace| pace.standing(self.now, &TERMS));
        let rate = match standing {
            Some(standing) if standing.phase == Phase::Suspended => 0.0,
            Some(standing) => standing.rate.unwrap_or(self.demand).min(self.demand),
            None => self.demand,
        };
        for _ in 0..25 {
            self.now += 0.01;
            self.held += rate * 0.01;
            self.steps += 1;
            if self.steps % 203 >= self.stall {
                self.credit += std::mem::take(&mut self.held);
            }
            while self.credit >= 1.0 {
                self.credit -= 1.0;
                let second = (self.now + self.phase).floor();
                if self.second.0 < second {
                    self.second = (second, 0.0);
                }
                if self.second.1 < self.limit {
                    self.second.1 += 1.0;
                    heard.passed += 1.0;
                } else {
                    heard.refused += 1.0;
                    let slow = Asked { slow: true, ..Asked::default() };
                    heard.asked = Some(slow);
                }
            }
        }
        self.passed += heard.passed;
        self.refused += heard.refused;
        self.draw = self.draw.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        let draw = f64::from(self.draw >> 16) / 65_536.0;
        match &mut self.pace {
            Some(pace) => pace.hear(self.now, &heard, &TERMS, draw),
            None => self.pace = Pace::learn(self.now, &heard, &TERMS, draw),
        }
    }

    /// Seconds go by; deliveries a second and the part that was deferred.
    fn seconds(&mut self, seconds: u32) -> (f64, f64) {
        (self.passed, self.refused) = (0.0, 0.0);
        for _ in 0..seconds * 4 {
            self.quarter();
        }
        (self.passed / f64::from(seconds), self.refused / (self.passed + self.refused).max(1.0))
    }
}

#[test]
fn the_pace_settles_below_what_is_taken_and_follows_when_that_changes() {
    let mut world = World::new(20.0, 400.0, 0.3);
    world.seconds(60);
    let (rate, deferred) = world.seconds(300);
    assert!((17.0..=20.0).contains(&rate), "{rate}/s of 20/s");
    assert!(deferred < 0.02, "{deferred}");

    world.limit = 100.0;
    world.seconds(120);
    let (rate, deferred) = world.seconds(300);
    assert!((85.0..=100.0).contains(&rate), "it relents: {rate}/s of 100/s");
    assert!(deferred < 0.02, "{deferred}");

    world.limit = 10.0;
    world.seconds(60);
    let (rate, deferred) = world.seconds(300);
    assert!((8.5..=10.0).contains(&rate), "it tightens: {rate}/s of 10/s");
    assert!(deferred < 0.02, "{deferred}");
}

#[test]
fn mails_that_come_in_clumps_cost_little_of_the_pace() {
    let mut world = World::new(20.0, 400.0, 0.3);
    world.stall = 20;
    world.seconds(60);
    let (rate, deferred) = world.seconds(300);
    assert!((16.0..=20.0).contains(&rate), "{rate}/s of 20/s");
    assert!(deferred < 0.02, "{deferred}");
}

#[test]
fn what_is_not_used_is_not_taken_for_tried() {
    let mut world = World::new(20.0, 400.0, 0.3);
    world.seconds(60);
    (world.limit, world.demand) = (100.0, 25.0);
    let (rate, deferred) = world.seconds(600);
    assert!(rate > 24.5 && deferred <= 0.0, "{rate}/s of 25/s, {deferred}");
    let pace = world.pace.as_ref().and_then(|pace| pace.rate).expect("paced");
    assert!((25.0..40.0).contains(&pace), "{pace} where 25/s were sent");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_receiver_takes_the_pace_finds_it(
        limit in 3.0..500f64, plenty in 1.5..30f64, phase in 0.0..1f64,
    ) {
        let limit = limit.floor();
        let mut world = World::new(limit, limit * plenty, phase);
        world.seconds(60);
        let (rate, deferred) = world.seconds(300);
        // The receiver counts in seconds of its own, of which one more may begin in this time.
        let most = limit * 301.0 / 300.0;
        prop_assert!(rate >= limit * 0.85 - 0.5 && rate <= most, "{} of {}", rate, limit);
        prop_assert!(deferred < 0.02, "{}", deferred);
    }

    #[test]
    fn no_answer_brings_the_pace_out_of_its_bounds(
        heard in prop::collection::vec((0.0..50f64, 0.0..50f64, 0..6u8, 0.01..30f64), 1..200),
    ) {
        let terms = Terms { ceiling: 50.0, ..TERMS };
        let (mut now, mut pace) = (0.0, None::<Pace>);
        for (passed, refused, what, pause) in heard {
            now += pause;
            let asked = match what {
                0 => Some(Asked { slow: true, ..Asked::default() }),
                1 => Some(Asked { suspend: Some(20.0), ..Asked::default() }),
                2 => Some(Asked { rate: Some((0.5, 60.0)), ..Asked::default() }),
                3 => Some(Asked { fewer: true, ..Asked::default() }),
                _ => None,
            };
            let heard = Heard { passed, refused, spent: passed, span: pause, asked };
            match &mut pace {
                Some(pace) => pace.hear(now, &heard, &terms, 0.5),
                None => pace = Pace::learn(now, &heard, &terms, 0.5),
            }
            if let Some(pace) = &pace {
                let standing = pace.standing(now, &terms);
                prop_assert!(standing.rate.is_none_or(|rate| (terms.floor * 0.99..=50.0).contains(&rate)));
                prop_assert!(standing.slots.is_none_or(|slots| slots >= 1));
                prop_assert!(standing.left.is_none_or(|left| left > 0.0 && left.is_finite()));
                prop_assert!(pace.taken.is_finite() && pace.taken >= 0.0);
            }
        }
    }
}

fn asked(asked: Asked) -> Heard {
    Heard { passed: 30.0, refused: 1.0, spent: 10.0, span: 1.0, asked: Some(asked) }
}

#[test]
fn a_suspension_ends_in_probes_and_a_slow_ramp() {
    let stop = || asked(Asked { suspend: Some(600.0), ..Asked::default() });
    let mut pace = Pace::learn(0.0, &stop(), &TERMS, 1.0).expect("a reason");
    assert_eq!(pace.standing(1.0, &TERMS).phase, Phase::Suspended);
    assert!((719.0..721.0).contains(&pace.suspended_until), "spread upwards only");
    // Late answers of what was under way do not prolong it.
    pace.hear(2.0, &stop(), &TERMS, 1.0);
    assert!((719.0..721.0).contains(&pace.suspended_until));

    let probing = pace.standing(730.0, &TERMS);
    assert_eq!((probing.phase, probing.slots), (Phase::Probing, Some(1)));
    let refused = Heard { refused: 1.0, ..Heard::default() };
    pace.hear(731.0, &refused, &TERMS, 0.0);
    assert!((1_630.0..1_632.0).contains(&pace.suspended_until), "longer: {pace:?}");

    let passed = Heard { passed: 1.0, ..Heard::default() };
    pace.hear(1_700.0, &passed, &TERMS, 0.0);
    let first = pace.standing(1_700.0, &TERMS);
    assert_eq!(first.phase, Phase::Paced);
    assert_eq!(first.rate, Some(3.0), "a tenth of the thirty that it took");
    let mut now = 1_700.0;
    let mut last = 3.0;
    for _ in 0..40 {
        now += 2.0;
        let rate = pace.rate.expect("paced");
        pace.hear(now, &Heard { passed: rate * 2.0, span: 2.0, ..Heard::default() }, &TERMS, 0.5);
        let next = pace.rate.expect("paced");
        assert!(next <= last * 1.51, "no jump: {last} to {next}");
        last = next;
    }
    assert!(last >= 26.0, "{last}");
}

#[test]
fn a_rate_that_a_rule_names_holds_for_its_time() {
    let slow =
        Asked { rate: Some((1.0 / 60.0, 5_400.0)), slots: Some((1, 5_400.0)), ..Asked::default() };
    let mut pace = Pace::learn(0.0, &asked(slow), &TERMS, 0.5).expect("a reason");
    let capped = pace.standing(5_000.0, &TERMS);
    assert_eq!((capped.phase, capped.slots), (Phase::Capped, Some(1)));
    assert!(capped.rate.is_some_and(|rate| rate <= 1.0 / 60.0 + 1e-3));
    pace.hear(5_000.0, &Heard { passed: 80.0, span: 5_000.0, ..Heard::default() }, &TERMS, 0.5);
    assert!(pace.standing(5_001.0, &TERMS).rate.is_some_and(|rate| rate < 0.02), "not before");
    assert_eq!(pace.standing(5_500.0, &TERMS).phase, Phase::Paced);
}

#[test]
fn fewer_connections_are_held_when_asked_and_more_come_back_one_by_one() {
    let fewer = || Heard {
        passed: 100.0,
        refused: 1.0,
        spent: 10.0,
        span: 1.0,
        asked: Some(Asked { fewer: true, ..Asked::default() }),
    };
    let mut pace = Pace::learn(100.0, &fewer(), &TERMS, 0.5).expect("a reason");
    assert_eq!((pace.slots, pace.rate), (Some(7), None), "seven tenths of ten in hand");
    pace.hear(102.0, &fewer(), &TERMS, 0.5);
    assert_eq!(pace.slots, Some(4));
    pace.hear(120.0, &Heard { passed: 10.0, ..Heard::default() }, &TERMS, 0.5);
    assert_eq!(pace.slots, Some(5));
}

#[test]
fn deferrals_slow_down_without_a_word_and_what_is_long_ago_is_forgotten() {
    let many = Heard { passed: 50.0, refused: 50.0, span: 1.0, ..Heard::default() };
    let few = Heard { passed: 96.0, refused: 4.0, span: 1.0, ..Heard::default() };
    assert_eq!(Pace::learn(0.0, &few, &TERMS, 0.5), None);
    let pace = Pace::learn(0.0, &many, &TERMS, 0.5).expect("a reason");
    assert!(pace.rate.is_some_and(|rate| (20.0..=50.0).contains(&rate)), "{pace:?}");
    assert!(!pace.is_over(3_000.0, &TERMS) && pace.is_over(3_700.0, &TERMS));
}
