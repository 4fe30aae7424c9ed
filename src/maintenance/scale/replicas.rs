//! How many replicas are needed now (pure).
//!
//! Only what could be sent at once asks for replicas; what waits for a limit, a pause or its
//! time does not, because more replicas would wait with it. The flow that goes now keeps as
//! many as carry it, and never asks for more than there are: so a backlog that shrinks does
//! not take replicas away before it is gone.

use crate::config::Scale;

/// What the number follows from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Deliveries that wait for capacity only.
    pub sendable: u64,
    /// Deliveries that come to an end a second, in the cluster.
    pub drain: f64,
    /// Replicas that live.
    pub living: u32,
    /// Ends a second of one replica at work; `None`: none was seen at work yet.
    pub capacity: Option<f64>,
}

/// How many, and why so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needed {
    /// Within the bounds of the configuration.
    pub replicas: u32,
    /// In a sentence.
    pub why: &'static str,
}

/// How many replicas `load` needs.
pub fn needed(load: Load, scale: &Scale) -> Needed {
    let bounded = |replicas: u32, why| Needed {
        replicas: replicas.clamp(scale.min_replicas, scale.max_replicas),
        why,
    };
    let idle = load.sendable == 0 && load.drain <= 0.0;
    if idle {
        return bounded(scale.min_replicas, "nothing can be sent: the least will do");
    }
    let Some(capacity) = load.capacity.filter(|capacity| *capacity > 0.0) else {
        // One at least, so that somebody can be seen at work.
        let some = if load.sendable > 0 { load.living.max(1) } else { load.living.min(1) };
        return bounded(some, "what one replica can do is not known yet: as many as there are");
    };
    let backlog = load.sendable as f64 / (scale.target_drain.as_secs_f64() * capacity);
    let backlog = whole(backlog);
    let flow = whole(load.drain / capacity).min(load.living);
    if backlog > flow {
        bounded(backlog, "so many send what can be sent within the target")
    } else {
        bounded(flow, "so many carry what goes now")
    }
}

/// Rounded up, but for what is within the noise of a rate.
fn whole(replicas: f64) -> u32 {
    (replicas - 0.02).ceil().clamp(0.0, f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn scale() -> Scale {
        Scale { target_drain: Duration::from_secs(100), max_replicas: 20, ..Scale::default() }
    }

    fn load(sendable: u64, drain: f64, living: u32) -> Load {
        Load { sendable, drain, living, capacity: Some(100.0) }
    }

    #[test]
    fn a_backlog_asks_for_what_drains_it_in_time() {
        let replicas = |load| needed(load, &scale()).replicas;
        assert_eq!(replicas(load(0, 0.0, 7)), 1, "idle");
        assert_eq!(replicas(load(10_000, 0.0, 1)), 1);
        assert_eq!(replicas(load(45_000, 0.0, 1)), 5);
        assert_eq!(replicas(load(10_000_000, 0.0, 1)), 20, "bounded");
        assert_eq!(replicas(load(1_000, 500.0, 5)), 5, "not fewer while five are at work");
        assert_eq!(replicas(load(1_000, 90.0, 5)), 1, "one carries what goes now");
    }

    #[test]
    fn without_knowing_the_capacity_nothing_is_asked_for() {
        let unknown = |sendable, living| {
            let load = Load { sendable, drain: 1.0, living, capacity: None };
            needed(load, &scale()).replicas
        };
        assert_eq!(unknown(1_000_000, 3), 3);
        assert_eq!(unknown(1_000_000, 0), 1, "but for the first");
        assert_eq!(unknown(0, 3), 1);
    }

    proptest! {
        #[test]
        fn more_to_send_never_needs_fewer(
            less in 0..10_000_000u64, more in 0..10_000_000u64,
            drain in 0.0..5_000.0f64, living in 0..30u32, capacity in 0.1..5_000.0f64,
        ) {
            let of = |sendable| {
                needed(Load { sendable, drain, living, capacity: Some(capacity) }, &scale()).replicas
            };
            let (less, more) = (less.min(more), less.max(more));
            prop_assert!(of(less) <= of(more));
            prop_assert!((1..=20).contains(&of(more)));
        }

        #[test]
        fn what_waits_for_limits_asks_for_nobody(drain in 0.0..1e6f64, living in 1..20u32) {
            let load = Load { sendable: 0, drain, living, capacity: Some(10.0) };
            prop_assert!(needed(load, &scale()).replicas <= living);
        }

        #[test]
        fn enough_replicas_drain_in_time(sendable in 1..2_000_000u64, capacity in 1.0..5_000.0f64) {
            let scale = Scale { max_replicas: 1_000, ..scale() };
            let load = Load { sendable, drain: 0.0, living: 1, capacity: Some(capacity) };
            let replicas = f64::from(needed(load, &scale).replicas);
            if replicas < 1_000.0 {
                let seconds = sendable as f64 / (replicas * capacity);
                prop_assert!(seconds <= 100.0 * 1.03, "{seconds}");
            }
        }
    }
}
