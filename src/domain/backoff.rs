//! Exponential backoff with full jitter (pure).
//!
//! The wait before try n+1 is drawn evenly from half to all of
//! `base * factor^(n-1)`, capped. Spreading over half the interval keeps the
//! mails behind one outage from coming back as a wave; the lower half keeps
//! one unlucky draw from hammering a receiver that has just refused.

use std::time::Duration;

/// How long to wait between tries of one delivery.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    base: Duration,
    factor: f64,
    cap: Duration,
}

/// A backoff that could not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidBackoff {
    /// The first wait is zero: a refusing receiver would be hammered.
    ZeroBase,
    /// The factor is below 1 or not a number: waits would shrink.
    ShrinkingFactor,
    /// The cap is below the first wait.
    CapBelowBase,
}

impl std::fmt::Display for InvalidBackoff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ZeroBase => "the first wait must be longer than zero",
            Self::ShrinkingFactor => "the factor must be a number of at least 1",
            Self::CapBelowBase => "the longest wait must not be below the first",
        })
    }
}

impl std::error::Error for InvalidBackoff {}

/// Two minutes, growing by 1.8 up to four hours: between the first retries of Postfix
/// and Postal (5 min) and of Stalwart (2 min).
impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_secs(120), factor: 1.8, cap: Duration::from_secs(4 * 3600) }
    }
}

impl Backoff {
    /// A backoff that starts at `base`, grows by `factor` and never exceeds `cap`.
    pub fn try_new(base: Duration, factor: f64, cap: Duration) -> Result<Self, InvalidBackoff> {
        if base.is_zero() {
            return Err(InvalidBackoff::ZeroBase);
        }
        if !factor.is_finite() || factor < 1.0 {
            return Err(InvalidBackoff::ShrinkingFactor);
        }
        if cap < base {
            return Err(InvalidBackoff::CapBelowBase);
        }
        Ok(Self { base, factor, cap })
    }

    /// The wait after the `tried`-th try (from 1). `draw` is even in 0..1.
    pub fn delay(&self, tried: u32, draw: f64) -> Duration {
        let steps = tried.saturating_sub(1).min(1_000);
        let grown = self.base.as_secs_f64() * self.factor.powi(steps as i32);
        let ceiling = grown.min(self.cap.as_secs_f64());
        Duration::from_secs_f64(ceiling * (0.5 + 0.5 * draw.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_delay_stays_between_half_and_all_of_its_ceiling(
            base in 1u64..1_000, factor in 1.0f64..5.0, extra in 0u64..100_000,
            tried in 0u32..5_000, draw in 0.0f64..1.0,
        ) {
            let base = Duration::from_secs(base);
            let cap = base + Duration::from_secs(extra);
            let backoff = Backoff::try_new(base, factor, cap).expect("valid");
            let delay = backoff.delay(tried, draw);
            prop_assert!(delay <= cap);
            prop_assert!(delay + Duration::from_micros(1) >= base / 2);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let s = Duration::from_secs(1);
        assert_eq!(Backoff::try_new(Duration::ZERO, 2.0, s), Err(InvalidBackoff::ZeroBase));
        assert_eq!(Backoff::try_new(s, 0.5, s), Err(InvalidBackoff::ShrinkingFactor));
        assert_eq!(Backoff::try_new(s, f64::NAN, s), Err(InvalidBackoff::ShrinkingFactor));
        assert_eq!(Backoff::try_new(s, 2.0, s / 2), Err(InvalidBackoff::CapBelowBase));
    }
}
