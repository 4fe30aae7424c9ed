//! This node's part of a limit that holds for the whole cluster (pure).
//!
//! Nodes that agree on their number and ranks together never exceed a rate or
//! a concurrency. A burst of fewer tokens than nodes is the exception: each
//! node needs one to send at all, so the cluster's burst is then their number.

use super::bucket::Quota;

/// Which of how many live nodes this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    rank: u32,
    of: u32,
}

impl Share {
    /// The only node.
    pub const WHOLE: Self = Self { rank: 0, of: 1 };

    /// The node of rank `rank` (from 0) among `of`; `None` unless `rank < of`.
    pub const fn try_new(rank: u32, of: u32) -> Option<Self> {
        if rank < of { Some(Self { rank, of }) } else { None }
    }

    /// This node's part of a rate: the same for each.
    pub fn quota(self, whole: Quota) -> Quota {
        Quota {
            rate: whole.rate / f64::from(self.of),
            burst: (whole.burst / f64::from(self.of)).max(1.0),
        }
    }

    /// This node's part of a concurrency. What does not divide goes to the
    /// lowest ranks, so the sum is the limit exactly; with a limit below the
    /// number of nodes the others get 0 and leave such deliveries to them.
    pub fn slots(self, whole: u32) -> u32 {
        whole / self.of + u32::from(self.rank < whole % self.of)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_make_the_whole(slots in 0..5000u32, rate in 0.01..1e5f64, burst in 1.0..5000f64, of in 1..50u32) {
            let shares: Vec<Share> = (0..of).map(|rank| Share::try_new(rank, of).unwrap()).collect();
            prop_assert_eq!(shares.iter().map(|s| s.slots(slots)).sum::<u32>(), slots);
            let parts: Vec<Quota> = shares.iter().map(|s| s.quota(Quota { rate, burst })).collect();
            prop_assert!(parts.iter().map(|p| p.rate).sum::<f64>() <= rate * (1.0 + 1e-9));
            prop_assert!(parts.iter().map(|p| p.burst).sum::<f64>() <= burst.max(f64::from(of)) * (1.0 + 1e-9));
        }
    }

    #[test]
    fn a_rank_is_below_the_number_of_nodes() {
        assert_eq!(Share::try_new(0, 1), Some(Share::WHOLE));
        assert_eq!(Share::try_new(3, 3), None);
        assert_eq!(Share::try_new(0, 0), None);
    }
}
