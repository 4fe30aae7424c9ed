//! A delivery's life in Postgres (there called a job).
//!
//! ```text
//!            submit                claim                 settle
//!  (tenant) ────────► ready ──────────────► lease ─────────────► attempt 1..5: ended
//!                       ▲ ▲                  │ │ │                 dead_letter
//!                   due │ │ released         │ │ └──────────────►  deferred
//!             deferred ─┘ └──────────────────┘ │ worker died ───►  deferred (suspect if intended)
//!                                              └── or dead_letter
//! ```
//!
//! The state of a delivery is the table its row is in; moving is one statement, so
//! it is in exactly one place. Promises:
//!
//! * A lease belongs to a session (one incarnation of a process) and a hold (a
//!   counter of claims of that job). Settling deletes the lease that names both;
//!   where none is found, the settlement was fenced and nothing happens.
//! * Only the clock of the database decides about time.
//! * Before a delivery is sent its intent is durable (docs/adr/0011). Of a dead worker's
//!   leases only those with an intent are in doubt.
//! * A claim names lanes; what is in other lanes costs nothing. Nor does what is
//!   scheduled: it lies in ready behind what is due, and a claim does not look beyond now.
//! * What an old generation still holds when it is emptied is parked, once; it is never
//!   copied again.
//! * Hot statements are single statements without `begin` (docs/adr/0005).

pub mod admin;
pub mod backlog;
pub mod breaker;
pub mod claim;
pub mod content;
pub mod deadline;
pub mod doubt;
pub mod enqueue;
pub mod intent;
pub mod job;
pub mod lane;
pub mod lookup;
pub mod migrate;
pub mod recall;
pub mod retry;
pub mod screening;
pub mod selector;
pub mod session;
pub mod settle;
pub mod signal;
mod status;
pub mod unknown;
pub mod upkeep;
pub mod wake;
pub mod why;

/// Number of generations in the ring of the hot tables.
pub const GENERATIONS: usize = 4;

/// A statement for each generation of the hot tables. `{g}` stands for its number,
/// `{lease}` and `{lease_gen}` for the table and the number of the generation that takes the
/// leases of claims from it.
pub(crate) struct PerGeneration([String; GENERATIONS + 1]);

impl PerGeneration {
    pub(crate) fn new(template: &str) -> Self {
        Self(std::array::from_fn(|g| {
            // A lease of a parked row goes to the ring, which is truncated, and not to a
            // table of its own, which could only be vacuumed.
            let (lease, lease_gen) = if g == Generation::PARKED.index() {
                ("lease".to_owned(), "(select cur from postrider.generation)".to_owned())
            } else {
                (format!("lease_g{g}"), g.to_string())
            };
            template
                .replace("{g}", &g.to_string())
                .replace("{lease_gen}", &lease_gen)
                .replace("{lease}", &lease)
        }))
    }

    pub(crate) fn of(&self, generation: Generation) -> sqlx::AssertSqlSafe<&str> {
        // Made from constants and a digit: nothing of a user is in it.
        sqlx::AssertSqlSafe(self.0[generation.index()].as_str())
    }
}

/// One of the hot tables: one of the ring, or the parked rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Generation(u8);

impl Generation {
    /// What was left in old generations. Holds ready rows only, and is never truncated.
    pub const PARKED: Self = Self(GENERATIONS as u8);

    /// The generation of this number, if the ring has it.
    pub fn try_new(number: i16) -> Option<Self> {
        u8::try_from(number).ok().filter(|n| usize::from(*n) < GENERATIONS).map(Self)
    }

    /// Every generation of the ring: where leases are.
    pub fn ring() -> impl Iterator<Item = Self> {
        (0..GENERATIONS as u8).map(Self)
    }

    /// Every generation that may hold ready rows: the parked ones, then the ring.
    pub fn all() -> impl Iterator<Item = Self> {
        std::iter::once(Self::PARKED).chain(Self::ring())
    }

    /// Its number.
    pub fn number(self) -> i16 {
        i16::from(self.0)
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leases_of_parked_rows_go_to_the_ring() {
        let statements = PerGeneration::new("from ready_g{g} into {lease} as {lease_gen}");
        let ring = Generation::try_new(2).expect("in the ring");
        assert_eq!(statements.of(ring).0, "from ready_g2 into lease_g2 as 2");
        assert_eq!(
            statements.of(Generation::PARKED).0,
            "from ready_g4 into lease as (select cur from postrider.generation)"
        );
        assert_eq!(Generation::try_new(Generation::PARKED.number()), None);
    }
}
