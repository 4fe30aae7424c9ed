//! What a sink does wrong on purpose, decided by seed (pure).
//!
//! The roll depends on the seed, the recipient and how often that recipient was
//! named before: the same campaign meets the same faults whatever the order of
//! its deliveries, and a recipient refused for now may be taken the next time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// One way to misbehave towards one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// RCPT: not now (450).
    RcptDeferred,
    /// RCPT: never (550).
    RcptRefused,
    /// DATA: not now (451).
    DataDeferred,
    /// After the dot: not now (452); nothing is kept.
    DotDeferred,
    /// Hangs up in place of the 354: nothing was sent yet.
    DroppedBeforeDot,
    /// Keeps the mail and hangs up in place of the 250: the client is in doubt,
    /// and a duplicate follows.
    DroppedAfterDot,
    /// Answers the dot late.
    Slow,
}

impl Fault {
    /// All, in the order in which a roll is compared.
    const ALL: [Self; 7] = [
        Self::RcptDeferred,
        Self::RcptRefused,
        Self::DataDeferred,
        Self::DotDeferred,
        Self::DroppedBeforeDot,
        Self::DroppedAfterDot,
        Self::Slow,
    ];

    /// The name in a fault mix and in the counts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RcptDeferred => "rcpt-defer",
            Self::RcptRefused => "rcpt-refuse",
            Self::DataDeferred => "data-defer",
            Self::DotDeferred => "dot-defer",
            Self::DroppedBeforeDot => "drop-before-dot",
            Self::DroppedAfterDot => "drop-after-dot",
            Self::Slow => "slow",
        }
    }
}

/// How often each fault happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FaultMix {
    seed: u64,
    /// Per cent of the recipients, in the order of [`Fault::ALL`].
    percent: [f64; Fault::ALL.len()],
    /// How late a slow answer is.
    pub delay: Duration,
}

/// Text that is no fault mix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidFaultMix {
    found: String,
}

impl FaultMix {
    /// Some of everything: about one recipient in six meets a fault.
    pub const fn of_everything(seed: u64) -> Self {
        Self {
            seed,
            percent: [5.0, 3.0, 1.5, 2.0, 1.0, 1.0, 2.0],
            delay: Duration::from_millis(300),
        }
    }

    /// What this recipient meets when it is named for the `before`-th time (from 0).
    pub fn roll(&self, recipient: u64, before: u32) -> Option<Fault> {
        let mixed = mix(mix(self.seed ^ recipient) ^ u64::from(before));
        let mut left = (mixed >> 11) as f64 / (1_u64 << 53) as f64 * 100.0;
        for (fault, percent) in Fault::ALL.into_iter().zip(self.percent) {
            if left < percent {
                return Some(fault);
            }
            left -= percent;
        }
        None
    }
}

/// Spreads the bits of a number over all 64 (the finaliser of MurmurHash3).
const fn mix(mut n: u64) -> u64 {
    n ^= n >> 33;
    n = n.wrapping_mul(0xff51_afd7_ed55_8ccd);
    n ^= n >> 33;
    n = n.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    n ^ (n >> 33)
}

/// `default`, or parts such as `seed=7,rcpt-defer=5,slow=2,delay=300` (per cent; ms).
impl FromStr for FaultMix {
    type Err = InvalidFaultMix;

    fn from_str(text: &str) -> Result<Self, InvalidFaultMix> {
        let wrong = |part: &str| InvalidFaultMix { found: part.chars().take(60).collect() };
        if text == "default" {
            return Ok(Self::of_everything(1));
        }
        let mut faults =
            Self { seed: 1, percent: [0.0; Fault::ALL.len()], ..Self::of_everything(1) };
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(|| wrong(part))?;
            match Fault::ALL.iter().position(|fault| fault.as_str() == name) {
                Some(n) => faults.percent[n] = value.parse().map_err(|_| wrong(part))?,
                None if name == "seed" => faults.seed = value.parse().map_err(|_| wrong(part))?,
                None if name == "delay" => {
                    faults.delay = Duration::from_millis(value.parse().map_err(|_| wrong(part))?);
                }
                None => return Err(wrong(part)),
            }
        }
        let fine = |percent: &f64| (0.0..=100.0).contains(percent);
        if !faults.percent.iter().all(fine) || faults.percent.iter().sum::<f64>() > 100.0 {
            return Err(wrong(text));
        }
        Ok(faults)
    }
}

impl fmt::Display for InvalidFaultMix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected \"default\" or parts like seed=1,delay=300 (ms) and, in per cent,")?;
        for fault in Fault::ALL {
            write!(f, " {}=1", fault.as_str())?;
        }
        write!(f, "; found {:?}", self.found)
    }
}

impl std::error::Error for InvalidFaultMix {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_faults_and_another_makes_others() {
        let rolls = |seed| -> Vec<_> {
            (0..2_000).map(|n| FaultMix::of_everything(seed).roll(n, 0)).collect()
        };
        assert_eq!(rolls(7), rolls(7));
        assert_ne!(rolls(7), rolls(8));
    }

    #[test]
    fn every_fault_comes_about_as_often_as_asked_for() {
        let faults = FaultMix::of_everything(3);
        let mut seen = BTreeMap::new();
        for n in 0..100_000 {
            *seen.entry(faults.roll(mix(n), 0)).or_insert(0_u32) += 1;
        }
        for (fault, percent) in Fault::ALL.into_iter().zip(faults.percent) {
            let found = f64::from(seen[&Some(fault)]) / 1_000.0;
            assert!((found - percent).abs() < 0.3, "{fault:?}: {found} % of {percent} %");
        }
    }

    #[test]
    fn a_recipient_does_not_meet_the_same_fault_for_ever() {
        let faults: FaultMix = "rcpt-defer=50".parse().unwrap();
        for recipient in 0..1_000 {
            assert!((0..100).any(|n| faults.roll(mix(recipient), n).is_none()));
        }
    }

    #[test]
    fn mixes_are_read_and_wrong_ones_are_named() {
        assert_eq!("default".parse(), Ok(FaultMix::of_everything(1)));
        let slow: FaultMix = "seed=9,slow=100,delay=20".parse().unwrap();
        assert_eq!(slow.roll(1, 0), Some(Fault::Slow));
        assert_eq!(slow.delay, Duration::from_millis(20));
        for wrong in ["", "slow", "slow=x", "slow=-1", "slow=60,rcpt-defer=60", "sloww=1"] {
            let error = wrong.parse::<FaultMix>().unwrap_err().to_string();
            assert!(error.contains("rcpt-defer=1") && error.contains("found"), "{error}");
        }
    }
}
