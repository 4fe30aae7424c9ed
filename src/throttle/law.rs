//! How the pace of one key follows what a receiver answers (pure; times are seconds on any
//! one clock).
//!
//! Additive increase and multiplicative decrease, with a memory: what the receiver took in
//! the moment it refused is remembered, the pace rests a little below, and more is tried
//! only now and then, a little at a time, and boldly only while that goes well. A try in vain
//! and a few mails that came in a clump do not change what is remembered, or hardly. So the
//! pace neither swings nor stays low, and hardly anything is deferred (docs/throttling.md).

use super::pace::{Asked, Heard, Pace, Phase, Standing, Terms, Window};

/// Fewest refusals that count without a word about the pace.
const FEW: f64 = 5.0;
/// How far down one refusal may bring the pace, and how far it does at least.
const DEEPEST: f64 = 0.2;
const LEAST_DOWN: f64 = 0.9;
/// Up to this part of the tries refused is a graze, and what one costs of what was taken.
const GRAZED: f64 = 0.2;
const GRAZE_DOWN: f64 = 0.97;
/// The wait between tries in vain grows up to so many times the first.
const LONGEST_PROBE: f64 = 6.0;
/// After a change down, what comes was mostly under way before.
const SETTLE: f64 = 1.0;
/// First and largest step above what was taken.
const STEP: f64 = 0.05;
const MOST_STEP: f64 = 0.25;
/// At which part of what was taken a key begins again after a suspension.
const RESUME: f64 = 0.1;
/// Part of the pace that must be used for a window to say anything.
const USED: f64 = 0.6;
/// Part of it that must be used, but for one mail, for a try to say that more is taken (RFC 7661
/// has the same for windows of TCP: what was not used was not tried).
const TRIED: f64 = 0.9;
/// Tries that a window waits for, and for how long at most.
const TRIES: f64 = 5.0;
const LONGEST_WINDOW: f64 = 600.0;
const DAY: f64 = 86_400.0;

impl Pace {
    /// The first pace of a key, once there is a reason for one.
    pub fn learn(now: f64, heard: &Heard, terms: &Terms, draw: f64) -> Option<Self> {
        let span = heard.span.max(SETTLE);
        let window = Window { from: now - span, ..Window::default() };
        let mut pace = Self { window, since: now, step: STEP, ..Self::default() };
        let ratio = heard.refused / (heard.passed + heard.refused).max(1.0);
        if heard.asked.is_none() && (heard.refused < FEW || ratio <= terms.deferral_ratio) {
            return None;
        }
        pace.hear(now, heard, terms, draw);
        Some(pace)
    }

    /// Follows what came. `draw` is even in 0..1 and keeps keys and clusters out of step.
    pub fn hear(&mut self, now: f64, heard: &Heard, terms: &Terms, draw: f64) {
        if let Some(asked) = &heard.asked {
            self.rule.clone_from(&asked.rule);
            self.reply.clone_from(&asked.reply);
            self.refused_at = now;
        }
        let suspend = heard.asked.as_ref().and_then(|asked| asked.suspend);
        if now < self.suspended_until {
            // Under way before it began; the longest wish counts, once.
            if let Some(wish) = suspend.filter(|wish| *wish > self.suspended_for) {
                self.suspend(now, wish, draw);
            }
            return;
        }
        if self.suspended_until > 0.0 {
            self.probed(now, heard, suspend, terms, draw);
            return;
        }
        if now >= self.window.from {
            self.window.passed += heard.passed;
            self.window.refused += heard.refused;
        }
        let asked = heard.asked.clone().unwrap_or_default();
        self.fewer(now, heard, &asked, terms);
        self.cap(now, &asked, terms);
        if let Some(wish) = suspend {
            self.remember(now);
            self.suspensions = 1;
            self.suspend(now, wish, draw);
        } else if now >= self.window.from {
            let (passed, refused) = self.lately();
            let ratio = refused / (passed + refused).max(1.0);
            let many = refused >= FEW && ratio > terms.deferral_ratio;
            if asked.slow || many {
                self.back_off(now, terms, draw);
            }
            if now >= self.window.from + self.long_enough(terms) {
                self.climb(now, terms);
                self.roll(now, now);
            }
        }
    }

    /// What it means now.
    pub fn standing(&self, now: f64, terms: &Terms) -> Standing {
        if now < self.suspended_until {
            let left = Some(self.suspended_until - now);
            return Standing { phase: Phase::Suspended, rate: None, slots: None, left };
        }
        if self.suspended_until > 0.0 {
            let rate = Some((1.0 / terms.probe).max(terms.floor));
            return Standing { phase: Phase::Probing, rate, slots: Some(1), left: None };
        }
        let rate = self.rate.map(|rate| rounded(rate.clamp(terms.floor, terms.ceiling)));
        if now < self.capped_until {
            let least = |a: Option<f64>, b: Option<f64>| match (a, b) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            let slots = [self.slots, self.cap_slots].into_iter().flatten().min();
            let left = Some(self.capped_until - now);
            return Standing {
                phase: Phase::Capped,
                rate: least(rate, self.cap_rate),
                slots,
                left,
            };
        }
        Standing { phase: Phase::Paced, rate, slots: self.slots, left: None }
    }

    /// Whether it may be forgotten.
    pub fn is_over(&self, now: f64, terms: &Terms) -> bool {
        let last = self.refused_at.max(self.since).max(self.suspended_until).max(self.capped_until);
        now > last + terms.forget
    }

    /// The receiver was asked with one mail at a time after a suspension.
    fn probed(&mut self, now: f64, heard: &Heard, wish: Option<f64>, terms: &Terms, draw: f64) {
        if heard.refused > 0.0 || heard.asked.is_some() {
            self.refused_at = now;
            self.suspensions = self.suspensions.saturating_add(1);
            let longer = (self.suspended_for * 1.5).max(wish.unwrap_or(0.0)).min(DAY);
            self.suspend(now, longer.max(terms.probe), draw);
        } else if heard.passed > 0.0 {
            self.suspended_until = 0.0;
            self.rate = Some((self.taken * RESUME).max(terms.floor));
            self.probe_at = now + terms.probe;
            self.before = Window::default();
            self.window = Window { from: now, ..Window::default() };
        }
    }

    fn suspend(&mut self, now: f64, wish: f64, draw: f64) {
        self.suspended_for = wish;
        // Later than asked for, never sooner, and not all keys at once.
        self.suspended_until = self.suspended_until.max(now + wish * (1.0 + 0.2 * draw));
    }

    /// Fewer at once when it asked for that, one more now and then when it did not.
    fn fewer(&mut self, now: f64, heard: &Heard, asked: &Asked, terms: &Terms) {
        if asked.fewer {
            if now >= self.slots_at + SETTLE {
                // What was in hand on average, by what the tries took.
                let in_hand = (heard.spent / heard.span.max(SETTLE)).ceil().max(1.0) as u32;
                let from = self.slots.unwrap_or(in_hand.max(2));
                self.slots = Some((from * 7 / 10).max(1));
                self.slots_at = now;
            }
        } else if let Some(slots) = self.slots
            && now >= self.slots_at + terms.probe
        {
            self.slots = Some(slots + (slots / 10).max(1));
            self.slots_at = now;
        }
    }

    /// A rate or a number that a rule names.
    fn cap(&mut self, now: f64, asked: &Asked, terms: &Terms) {
        if now >= self.capped_until {
            (self.cap_rate, self.cap_slots) = (None, None);
        }
        if let Some((rate, lasts)) = asked.rate {
            self.remember(now);
            let rate = rate.max(terms.floor);
            self.cap_rate = Some(self.cap_rate.map_or(rate, |known| known.min(rate)));
            // From here it climbs again, slowly, when the time is over.
            self.rate = Some(self.rate.map_or(rate, |known| known.min(rate)));
            self.capped_until = self.capped_until.max(now + lasts);
        }
        if let Some((slots, lasts)) = asked.slots {
            self.cap_slots = Some(self.cap_slots.map_or(slots, |known| known.min(slots)));
            self.slots = Some(self.slots.map_or(slots, |known| known.min(slots)));
            self.slots_at = now + lasts;
            self.capped_until = self.capped_until.max(now + lasts);
        }
    }

    /// Down. Many refused: to what was taken now. Few among many are a graze: a try was in vain,
    /// or mails came in a clump, and the receiver goes on to be counted in this window.
    fn back_off(&mut self, now: f64, terms: &Terms, draw: f64) {
        let (passed, refused) = self.lately();
        let rest = self.taken * terms.headroom;
        let trying = self.rate.is_some_and(|rate| rate > rest * 1.01);
        let expected = self.rate.unwrap_or(0.0) * terms.window;
        let grazed = self.rate.is_some() && refused <= GRAZED * expected.max(passed + refused);
        if grazed && !trying && now < self.slower_at + SETTLE {
            return;
        }
        if trying {
            self.probe_fails = self.probe_fails.saturating_add(1);
        } else if grazed {
            self.taken = (self.taken * GRAZE_DOWN).max(passed / self.lately_span(now));
        }
        let rate = if grazed { self.taken * terms.headroom } else { self.measure(now, terms) };
        self.rate = Some(rate.clamp(terms.floor, terms.ceiling));
        self.step = STEP;
        let wait = terms.probe * f64::from(1_u32 << self.probe_fails.saturating_sub(1).min(5));
        self.probe_at = now + wait.min(terms.probe * LONGEST_PROBE) * (0.8 + 0.4 * draw);
        self.slower_at = now;
        if !grazed {
            self.roll(now, now + SETTLE);
        }
    }

    /// What it takes, and the pace a little below that: at most down to a fifth, at least by a
    /// tenth.
    fn measure(&mut self, now: f64, terms: &Terms) -> f64 {
        let (passed, refused) = self.lately();
        let span = self.lately_span(now);
        let (accepted, tried) = (passed / span, (passed + refused) / span);
        let base = self.rate.map_or(tried, |rate| rate.min(tried.max(rate * 0.5)));
        let down = (accepted * terms.headroom).clamp(base * DEEPEST, base * LEAST_DOWN);
        self.taken = accepted.clamp(down, base.max(down));
        down
    }

    /// Up: quickly while far below what was taken, then no further until it is time to try.
    fn climb(&mut self, now: f64, terms: &Terms) {
        let Some(rate) = self.rate else { return };
        let span = now - self.window.from;
        let trying = rate > self.taken;
        let used = if trying {
            self.window.passed + 1.0 >= rate * TRIED * span
        } else {
            self.window.passed >= rate * USED * span
        };
        if !used || now < self.capped_until {
            return;
        }
        let rest = self.taken * terms.headroom;
        let next = if trying {
            // A try went well: it takes this much, and perhaps more.
            self.taken = rate;
            self.probe_fails = 0;
            self.step = (self.step * 2.0).min(MOST_STEP);
            rate * (1.0 + self.step)
        } else if rate < rest * 0.5 {
            (rate * 1.5).min(rest)
        } else if rate < rest * 0.999 {
            (rate * 1.15).min(rest)
        } else if now >= self.probe_at {
            self.step = STEP;
            self.taken * (1.0 + STEP)
        } else {
            rate
        };
        self.rate = Some(next.clamp(terms.floor, terms.ceiling));
    }

    /// Keeps what it takes now for the time after a stop.
    fn remember(&mut self, now: f64) {
        let (passed, _) = self.lately();
        let accepted = passed / self.lately_span(now);
        if self.taken <= 0.0 || (accepted > 0.0 && self.rate.is_none()) {
            self.taken = accepted;
        }
    }

    /// Tries of this window and the one before.
    fn lately(&self) -> (f64, f64) {
        (self.window.passed + self.before.passed, self.window.refused + self.before.refused)
    }

    fn lately_span(&self, now: f64) -> f64 {
        (now - self.window.from + self.before.span).max(SETTLE)
    }

    /// How long a window must be to hold some tries at this pace.
    fn long_enough(&self, terms: &Terms) -> f64 {
        let rate = self.rate.unwrap_or(f64::INFINITY);
        (TRIES / rate).min(LONGEST_WINDOW).max(terms.window)
    }

    /// Begins the next window at `from`.
    fn roll(&mut self, now: f64, from: f64) {
        let span = (now - self.window.from).max(0.0);
        // What was refused counts once.
        let kept = if from > now { Window::default() } else { Window { span, ..self.window } };
        self.before = kept;
        self.window = Window { from, ..Window::default() };
    }
}

/// To three digits: small changes are none.
fn rounded(rate: f64) -> f64 {
    let scale = 10_f64.powf(2.0 - rate.max(1e-9).log10().floor());
    (rate * scale).round() / scale
}
