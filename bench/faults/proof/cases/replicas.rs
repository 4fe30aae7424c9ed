//! Replicas come and go.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::bail;
use rand::RngExt;

use super::{Ran, Run, end};
use crate::proof::auditor::Duplicates;
use crate::proof::client::Pace;
use crate::proof::receiver::Manners;
use crate::proof::stage::{Setup, Stage};

/// Case 10, scaling: between one and four replicas, changed under load by SIGTERM.
pub(super) async fn come_and_go(run: Run<'_>) -> anyhow::Result<Ran> {
    let mut stage = Stage::open(run.template, Setup::default(), run.seed).await?;
    let load = stage.load("m");
    stage.receives(50).await?;
    let since = stage.now().await?;
    for _ in 0..8 {
        stage.while_away(300, 900).await;
        let running: Vec<usize> =
            (0..stage.daemons.len()).filter(|n| stage.daemons[*n].is_some()).collect();
        let grow = running.len() < 2 || (running.len() < 4 && stage.rng.random_bool(0.5));
        if grow {
            let free = stage.daemons.iter().position(Option::is_none);
            let n = free.unwrap_or(stage.daemons.len());
            stage.start_daemon(n)?;
        } else {
            let n = running[stage.rng.random_range(0..running.len())];
            stage.daemon(n)?.ready().await?;
            let code = stage.daemon(n)?.terminate().await?;
            if code != Some(0) {
                stage.violations.push(format!("r{n} ended with {code:?}"));
            }
            stage.daemons[n] = None;
        }
    }
    stage.recovery(since).await?;
    end(stage, load, Duplicates::Never).await
}

/// Deliveries that wait when the replicas come.
const BACKLOG: i64 = 20_000;

/// What one tenant may send in a second, over all replicas, in case 12.
const LIMIT: u32 = 400;

/// Its burst. A share cannot be below one mail, so it is enough for each of eight replicas.
const BURST: u32 = 40;

/// Case 12: a deep backlog, one replica, then eight at once. Each delivery is claimed
/// once, and one tenant's limit holds at the receiver in every second.
pub(super) async fn from_one_to_eight(run: Run<'_>) -> anyhow::Result<Ran> {
    let setup = Setup {
        replicas: 1,
        pace: Pace { rate: 5.0, most: 2 },
        manners: Manners::default(),
        more: format!(
            "[[throttle]]\nscope = \"tenant\"\ntenant = \"ann\"\nrate = \"{LIMIT}/s\"\nburst = {BURST}\n"
        ),
        ..Setup::default()
    };
    let mut stage = Stage::open(run.template, setup, run.seed).await?;
    for tenant in ["ann", "bob"] {
        fill(&stage, tenant, BACKLOG / 2).await?;
    }
    let load = stage.load("m");
    stage.receives(500).await?;
    let since = stage.now().await?;
    for n in 1..8 {
        stage.start_daemon(n)?;
    }
    stage.all_ready().await?;
    stage.recovery(since).await?;
    stage.drained().await?;
    let twice = stage.receiver.taken();
    for (second, count) in fullest_seconds(&twice) {
        if count > LIMIT + BURST {
            stage.violations.push(format!(
                "I6: {count} mails of a tenant limited to {LIMIT}/s, burst {BURST}, in second {second}"
            ));
        }
    }
    // These were not submitted by a client of ours: the tables vouch for them.
    end(stage, load, Duplicates::Never).await
}

/// Stores a backlog by the application's own way in: SQL.
pub(super) async fn fill(stage: &Stage, tenant: &str, count: i64) -> anyhow::Result<()> {
    let mut database = stage.connect().await?;
    let status: String = sqlx::query_scalar(
        "select status from postrider.submit(
           (select tenant_id from postrider.tenant where name = $1), $1 || '.example', 'transactional',
           json_build_object('from', 'proof@' || $1 || '.example', 'subject', 'Backlog', 'text', 'Hello'),
           null, null,
           array(select 'backlog-' || n || '@' || $1 || '.test' from generate_series(1, $2) n),
           array_fill(null::text, array[$2::int]), null, null, null)",
    )
    .bind(tenant)
    .bind(count)
    .fetch_one(&mut database)
    .await?;
    if status != "ok" {
        bail!("the backlog was refused: {status}");
    }
    Ok(())
}

/// The limited tenant's mails in each sliding second: the fullest that begins with a mail
/// of that whole second.
fn fullest_seconds(taken: &[crate::proof::receiver::Taken]) -> BTreeMap<u64, u32> {
    let mut times: Vec<Duration> = taken
        .iter()
        .filter(|mail| mail.from.ends_with("@ann.example"))
        .map(|mail| mail.at)
        .collect();
    times.sort_unstable();
    let mut fullest = BTreeMap::new();
    let mut end = 0;
    for (start, at) in times.iter().enumerate() {
        while end < times.len() && times[end] < *at + Duration::from_secs(1) {
            end += 1;
        }
        let count = (end - start) as u32;
        let entry = fullest.entry(at.as_secs()).or_insert(0);
        *entry = count.max(*entry);
    }
    fullest
}
