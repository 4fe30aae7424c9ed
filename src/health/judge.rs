//! Figures against limits (pure).

use std::fmt;
use std::time::Duration;

use super::figures::Figures;
use crate::config::{HealthLimits, unit};

/// What a rate is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Lost recipients.
    Bounces,
    /// Complaints.
    Complaints,
}

impl Measure {
    /// The name in events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bounces => "bounces",
            Self::Complaints => "complaints",
        }
    }
}

/// A rate that has reached a limit. Reads as the reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Excess {
    /// Of what.
    pub measure: Measure,
    /// To whom; none: to all.
    pub mailbox_provider: Option<String>,
    /// Within how far back.
    pub window: Duration,
    /// Mails.
    pub sent: u64,
    /// Of them bounced, or complained about.
    pub counted: u64,
    /// The limit that is reached.
    pub limit: f64,
}

/// What follows.
#[derive(Debug, Clone, PartialEq)]
pub enum Judgement {
    /// Nothing, and a warning is over.
    Well,
    /// Nothing, but a warning stays: it is still near.
    Near,
    /// The tenant is told.
    Warn(Excess),
    /// The stream is held back.
    Stop(Excess),
}

/// Part of the warning limit below which a warning is over: rates waver.
const OVER_BELOW: f64 = 0.8;

/// Judges a stream: one window of one mailbox provider is enough.
pub fn judge(figures: &[Figures], limits: &HealthLimits) -> Judgement {
    let heard: Vec<&Figures> = figures.iter().filter(|one| one.sent >= limits.minimum).collect();
    let stops = [limits.bounce_stop, limits.complaint_stop];
    let warns = [limits.bounce_warn, limits.complaint_warn];
    if limits.pause
        && let Some(excess) = worst(&heard, stops)
    {
        return Judgement::Stop(excess);
    }
    match worst(&heard, warns) {
        Some(excess) => Judgement::Warn(excess),
        None if worst(&heard, warns.map(|limit| limit * OVER_BELOW)).is_some() => Judgement::Near,
        None => Judgement::Well,
    }
}

/// The rate that exceeds its limit by most; of equal ones the first.
fn worst(figures: &[&Figures], [bounces, complaints]: [f64; 2]) -> Option<Excess> {
    let both = |one: &&Figures| {
        [
            (Measure::Bounces, one.bounced, one.bounce_rate(), bounces),
            (Measure::Complaints, one.complained, one.complaint_rate(), complaints),
        ]
        .map(|(measure, counted, rate, limit)| {
            let excess = Excess {
                measure,
                mailbox_provider: one.mailbox_provider.clone(),
                window: one.window,
                sent: one.sent,
                counted,
                limit,
            };
            (rate / limit, excess)
        })
    };
    let (by, excess) =
        figures.iter().rev().flat_map(both).max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (by >= 1.0).then_some(excess)
}

impl Excess {
    /// The rate.
    pub fn rate(&self) -> f64 {
        self.counted as f64 / (self.sent.max(1)) as f64
    }
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = percent(self.rate());
        let to = self.mailbox_provider.as_deref().map(|to| format!(" to {to}")).unwrap_or_default();
        let became = match self.measure {
            Measure::Bounces => "bounced",
            Measure::Complaints => "were complained about",
        };
        write!(
            f,
            "{rate} of {} mails{to} within {} {became} ({}); the limit is {}",
            self.sent,
            unit::written(self.window),
            self.counted,
            percent(self.limit)
        )
    }
}

/// 0.0123 as `1.23 %`.
pub fn percent(share: f64) -> String {
    let digits = format!("{:.2}", share * 100.0);
    format!("{} %", digits.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn figures(sent: u64, bounced: u64, complained: u64) -> Figures {
        Figures {
            window: Duration::from_secs(3_600),
            mailbox_provider: None,
            sent,
            bounced,
            refused: 0,
            complained,
        }
    }

    #[test]
    fn each_limit_counts_from_the_minimum_on() {
        let limits = HealthLimits::default();
        for (sent, bounced, complained, expected) in [
            (999, 999, 999, "well"),
            (1_000, 19, 0, "near"),
            (1_000, 15, 0, "well"),
            (1_000, 20, 0, "warn"),
            (1_000, 49, 0, "warn"),
            (1_000, 50, 0, "stop"),
            (10_000, 0, 10, "warn"),
            (10_000, 0, 29, "warn"),
            (10_000, 0, 30, "stop"),
            (10_000, 0, 7, "well"),
        ] {
            let found = match judge(&[figures(sent, bounced, complained)], &limits) {
                Judgement::Well => "well",
                Judgement::Near => "near",
                Judgement::Warn(_) => "warn",
                Judgement::Stop(_) => "stop",
            };
            assert_eq!(found, expected, "{bounced} and {complained} of {sent}");
        }
    }

    #[test]
    fn one_provider_is_enough_and_the_reason_names_it() {
        let one = Figures { mailbox_provider: Some("yahoo".into()), ..figures(2_000, 0, 12) };
        let Judgement::Stop(excess) =
            judge(&[figures(100_000, 30, 12), one], &HealthLimits::default())
        else {
            panic!("not stopped");
        };
        assert_eq!(
            excess.to_string(),
            "0.6 % of 2000 mails to yahoo within 1h were complained about (12); the limit is 0.3 %"
        );
    }

    #[test]
    fn without_pausing_a_stop_is_a_warning() {
        let limits = HealthLimits { pause: false, ..HealthLimits::default() };
        assert!(matches!(judge(&[figures(1_000, 500, 0)], &limits), Judgement::Warn(_)));
    }

    proptest! {
        #[test]
        fn more_bounces_are_never_judged_more_mildly(
            sent in 1_u64..100_000, bounced in 0_u64..100_000, more in 0_u64..1_000,
        ) {
            let rank = |bounced: u64| match judge(&[figures(sent, bounced.min(sent), 0)], &HealthLimits::default()) {
                Judgement::Well => 0,
                Judgement::Near => 1,
                Judgement::Warn(_) => 2,
                Judgement::Stop(_) => 3,
            };
            prop_assert!(rank(bounced) <= rank(bounced + more));
        }
    }
}
