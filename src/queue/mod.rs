//! A delivery's life in Postgres (there called a job).
//!
//! ```text
//!            submit                claim                 settle
//!  (tenant) ────────► ready ──────────────► lease ─────────────► attempt 1..5: ended
//!     │                 ▲ ▲                  │ │ │                 dead_letter
//!     │ send_at         │ │ released         │ │ └──────────────►  deferred
//!     └─────► deferred ─┘ └──────────────────┘ │ worker died ───►  deferred (suspect)
//!                due                            └── or dead_letter
//! ```
//!
//! The state of a delivery is the table its row is in; moving is one statement, so
//! it is in exactly one place. Promises:
//!
//! * A lease belongs to a session (one incarnation of a process) and a hold (a
//!   counter of claims of that job). Settling deletes the lease that names both;
//!   where none is found, the settlement was fenced and nothing happens.
//! * Only the clock of the database decides about time.
//! * A claim names lanes; what is in other lanes costs nothing.
//! * Hot statements are single statements without `begin` (docs/adr/0005).

pub mod admin;
pub mod claim;
pub mod content;
pub mod deadline;
pub mod enqueue;
pub mod job;
pub mod lane;
pub mod lookup;
pub mod migrate;
pub mod retry;
pub mod session;
pub mod settle;
mod status;
pub mod upkeep;
pub mod wake;

/// Number of generations in the ring of the hot tables.
pub const GENERATIONS: usize = 4;

/// A statement for each generation of the hot tables; `{g}` stands for its number.
pub(crate) struct PerGeneration([String; GENERATIONS]);

impl PerGeneration {
    pub(crate) fn new(template: &str) -> Self {
        Self(std::array::from_fn(|g| template.replace("{g}", &g.to_string())))
    }

    pub(crate) fn of(&self, generation: Generation) -> sqlx::AssertSqlSafe<&str> {
        // Made from a constant and a digit: nothing of a user is in it.
        sqlx::AssertSqlSafe(self.0[generation.index()].as_str())
    }
}

/// One of the ring of hot tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Generation(u8);

impl Generation {
    /// The generation of this number, if the ring has it.
    pub fn try_new(number: i16) -> Option<Self> {
        u8::try_from(number).ok().filter(|n| usize::from(*n) < GENERATIONS).map(Self)
    }

    /// Every generation of the ring.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..GENERATIONS as u8).map(Self)
    }

    /// Its number.
    pub fn number(self) -> i16 {
        i16::from(self.0)
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}
