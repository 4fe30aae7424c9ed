//! What a claim touches, as Postgres itself counts it.

use std::ops::{Add, Div};

use anyhow::Context;
use postrider::domain::ids::LaneId;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgPool};

/// The statement that the daemon claims by.
const CLAIM: &str = include_str!("../../src/queue/sql/claim.sql");

/// Buffers of a claim.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Buffers {
    /// To find the rows, before anything is moved.
    pub(crate) finding: f64,
    /// To find them, move them and read their jobs.
    pub(crate) all: f64,
    /// Of these, not found in shared memory.
    pub(crate) read: f64,
}

impl Add for Buffers {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            finding: self.finding + other.finding,
            all: self.all + other.all,
            read: self.read + other.read,
        }
    }
}

impl Div<f64> for Buffers {
    type Output = Self;

    fn div(self, by: f64) -> Self {
        Self { finding: self.finding / by, all: self.all / by, read: self.read / by }
    }
}

/// Explains one claim of `per_lane` from each of `lanes` of the first generation, and takes
/// it back.
pub(crate) async fn of_claim(
    pool: &PgPool,
    lanes: &[LaneId],
    per_lane: u32,
) -> anyhow::Result<Buffers> {
    let mut connection = pool.acquire().await?;
    let mut claim = connection.begin().await?;
    let session: i64 = sqlx::query_scalar(
        "insert into postrider.worker_session(worker) values ('explain') returning session_id",
    )
    .fetch_one(&mut *claim)
    .await?;
    // Parameters are made into literals, so that the plan is the one for these lanes.
    let list: Vec<String> = lanes.iter().map(|lane| lane.get().to_string()).collect();
    let claim_text: String =
        CLAIM.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
    let statement = format!("explain (analyze, buffers, timing off, format json) {claim_text}")
        .replace("{g}", "0")
        .replace("{lease_gen}", "0")
        .replace("{lease}", "lease_g0")
        .replace("$1", &session.to_string())
        .replace("$2", &format!("'{{{}}}'", list.join(",")))
        .replace("$3", &format!("array_fill(null::timestamptz, array[{}])", lanes.len()))
        .replace("$4", &format!("array_fill({per_lane}, array[{}])", lanes.len()));
    let plan: Value = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut *claim).await?;
    claim.rollback().await?;
    let root = plan.pointer("/0/Plan").context("a plan without a root")?;
    let finding = part(root, "CTE picked").context("the claim has no part named picked")?;
    // What nobody reads is run last, and not counted in the root.
    let leased = part(root, "CTE leased").context("the claim has no part named leased")?;
    Ok(Buffers {
        finding: touched(finding).0,
        all: touched(root).0 + touched(leased).0,
        read: touched(root).1 + touched(leased).1,
    })
}

/// Blocks touched, and those of them that were not in shared memory.
fn touched(node: &Value) -> (f64, f64) {
    let count = |name: &str| node.get(name).and_then(Value::as_f64).unwrap_or(0.0);
    let read = count("Shared Read Blocks");
    (count("Shared Hit Blocks") + read, read)
}

/// The node of this name below `node`.
fn part<'p>(node: &'p Value, name: &str) -> Option<&'p Value> {
    if node.get("Subplan Name").and_then(Value::as_str) == Some(name) {
        return Some(node);
    }
    node.get("Plans")?.as_array()?.iter().find_map(|child| part(child, name))
}
