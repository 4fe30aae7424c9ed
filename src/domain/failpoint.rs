//! Points of a delivery's life at which a test makes the process die or pause.
//!
//! Compiled in by the feature `failpoints` only; without it [`reach`] is nothing and costs
//! nothing. A process is armed once at its start, by `POSTRIDER_FAILPOINTS`:
//!
//! ```text
//! POINT[TEXT]=N*off->ACTION; POINT=ACTION; …
//! ```
//!
//! `[TEXT]` (may be left out): only for recipients that contain it. `N*off->` (may be left
//! out): not the first N times. ACTION is `die` (as by kill -9: nothing is cleaned up, nothing
//! written) or `sleep(MILLISECONDS)`, which holds up the thread.

use std::fmt;

/// Where a process can be told to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// A claim has committed and its answer was read.
    AfterClaim,
    /// The intent to send is durable; no connection is in use yet.
    IntentWritten,
    /// The peer waits for the body.
    BeforeDot,
    /// The final dot has left; its reply was not read.
    AfterDot,
    /// The outcome is known and not written.
    BeforeSettle,
    /// An endpoint took events, and its cursor was not moved. (TEXT is of its URL.)
    EventsTaken,
}

impl Point {
    /// All of them, in the order in which a delivery comes by.
    pub const ALL: [Self; 6] = [
        Self::AfterClaim,
        Self::IntentWritten,
        Self::BeforeDot,
        Self::AfterDot,
        Self::BeforeSettle,
        Self::EventsTaken,
    ];

    /// The name in `POSTRIDER_FAILPOINTS`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AfterClaim => "after-claim",
            Self::IntentWritten => "intent-written",
            Self::BeforeDot => "before-dot",
            Self::AfterDot => "after-dot",
            Self::BeforeSettle => "before-settle",
            Self::EventsTaken => "events-taken",
        }
    }
}

/// What `POSTRIDER_FAILPOINTS` says cannot be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArmError {
    /// An entry that makes no sense.
    Unreadable(String),
    /// This program was built without the feature.
    NotCompiledIn,
}

impl fmt::Display for ArmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(entry) => write!(
                f,
                "POSTRIDER_FAILPOINTS: expected POINT[TEXT]=N*off->ACTION with ACTION die or \
                 sleep(MILLISECONDS), found {entry:?}"
            ),
            Self::NotCompiledIn => write!(
                f,
                "POSTRIDER_FAILPOINTS is set, and this program was built without failpoints: \
                 build it with --features failpoints or unset it"
            ),
        }
    }
}

impl std::error::Error for ArmError {}

#[cfg(feature = "failpoints")]
pub use armed::{arm, reach};

/// Refuses: there are no failpoints in this program.
#[cfg(not(feature = "failpoints"))]
pub fn arm(_: &str) -> Result<(), ArmError> {
    Err(ArmError::NotCompiledIn)
}

/// Nothing, without the feature.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn reach(_: Point, _: &impl fmt::Display) {}

#[cfg(feature = "failpoints")]
mod armed {
    use std::fmt;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::{ArmError, Point};

    static ARMED: OnceLock<Vec<Order>> = OnceLock::new();

    /// What is to happen at a point.
    #[derive(Debug)]
    struct Order {
        point: Point,
        only: Option<String>,
        spared: u64,
        seen: AtomicU64,
        action: Action,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Action {
        Die,
        Sleep(Duration),
    }

    /// Takes the orders of `POSTRIDER_FAILPOINTS`; the first time counts.
    pub fn arm(orders: &str) -> Result<(), ArmError> {
        let orders: Vec<Order> = orders
            .split(';')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(|entry| read(entry).ok_or_else(|| ArmError::Unreadable(entry.to_owned())))
            .collect::<Result<_, _>>()?;
        // Asked a second time in the same process, the first orders stand.
        let _ = ARMED.set(orders);
        Ok(())
    }

    /// A delivery to `recipient` has come to `point`.
    pub fn reach(point: Point, recipient: &impl fmt::Display) {
        for order in ARMED.get().into_iter().flatten().filter(|order| order.point == point) {
            if !order.is_due(&recipient.to_string()) {
                continue;
            }
            match order.action {
                Action::Die => std::process::abort(),
                Action::Sleep(time) => std::thread::sleep(time),
            }
        }
    }

    impl Order {
        fn is_due(&self, recipient: &str) -> bool {
            self.only.as_deref().is_none_or(|text| recipient.contains(text))
                && self.seen.fetch_add(1, Ordering::Relaxed) >= self.spared
        }
    }

    fn read(entry: &str) -> Option<Order> {
        let (place, what) = entry.split_once('=')?;
        let (name, only) = match place.trim().split_once('[') {
            Some((name, text)) => (name, Some(text.strip_suffix(']')?.to_owned())),
            None => (place.trim(), None),
        };
        let point = Point::ALL.into_iter().find(|point| point.as_str() == name)?;
        let (spared, action) = match what.trim().split_once("*off->") {
            Some((number, action)) => (number.parse().ok()?, action),
            None => (0, what.trim()),
        };
        let action = match action {
            "die" => Action::Die,
            sleep => Action::Sleep(Duration::from_millis(
                sleep.strip_prefix("sleep(")?.strip_suffix(')')?.parse().ok()?,
            )),
        };
        Some(Order { point, only, spared, seen: AtomicU64::new(0), action })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn orders_are_read() {
            let order = read("before-dot[poison@]=2*off->sleep(5)").expect("an order");
            assert_eq!(order.point, Point::BeforeDot);
            assert_eq!(order.action, Action::Sleep(Duration::from_millis(5)));
            let due: Vec<bool> = ["a@b.c", "poison@b.c", "poison@b.c", "poison@b.c"]
                .map(|recipient| order.is_due(recipient))
                .into();
            assert_eq!(due, [false, false, false, true], "others are not counted");
            let plain = read("after-claim=die").expect("an order");
            assert_eq!((plain.only, plain.spared, plain.action), (None, 0, Action::Die));
        }

        #[test]
        fn what_makes_no_sense_is_named() {
            for wrong in ["x=die", "before-dot", "before-dot=stop", "before-dot[a=die"] {
                assert_eq!(arm(wrong), Err(ArmError::Unreadable(wrong.to_owned())), "{wrong}");
            }
        }
    }
}
