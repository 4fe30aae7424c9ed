//! Looks after the health of tenants: sums up what was counted, judges it, and acts.
//!
//! Runs once per cell, every ten seconds, and looks at the streams that something was counted
//! of since the last time. What it does about a stream is one statement for all streams, and
//! repeatable: a process that dies in between leaves work for the next tick.

use std::time::Duration;

use sqlx::PgPool;

use crate::config::Health;
use crate::domain::ids::TenantId;
use crate::health::figures::{self, StreamOf};
use crate::health::judge::{Excess, Judgement, judge};
use crate::health::store;

/// How often.
pub(super) const EVERY: Duration = Duration::from_secs(10);

/// Streams whose figures are read by one statement: few enough for a plan that is not worth compiling.
const AT_ONCE: usize = 10;

/// One look at one cell; `pool` acts as the worker.
pub async fn look(pool: &PgPool, health: &Health) -> Result<(), sqlx::Error> {
    let touched = store::roll_up(pool).await?;
    for some in touched.chunks(AT_ONCE) {
        let mut found = Found::default();
        for (of, figures) in figures::of_streams(pool, some, &health.windows).await? {
            match judge(&figures, health.limits_of(&of.tenant_name, &of.stream)) {
                Judgement::Stop(excess) => found.stops.push((of, excess)),
                Judgement::Warn(excess) => found.warnings.push((of, excess)),
                Judgement::Well => found.well.push(of),
                Judgement::Near => {}
            }
        }
        found.act(pool).await?;
    }
    store::tidy(pool, health.keep()).await
}

#[derive(Default)]
struct Found {
    stops: Vec<(StreamOf, Excess)>,
    warnings: Vec<(StreamOf, Excess)>,
    well: Vec<StreamOf>,
}

impl Found {
    async fn act(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        let stopped = store::stop(pool, &self.stops).await?;
        for (of, excess) in news(&self.stops, &stopped) {
            tracing::error!(tenant = of.tenant_name, stream = of.stream, reason = %excess, "held a stream back");
            count("stopped", excess);
        }
        let warned = store::warn(pool, &self.warnings).await?;
        for (of, excess) in news(&self.warnings, &warned) {
            tracing::warn!(tenant = of.tenant_name, stream = of.stream, reason = %excess, "a stream is near its limit");
            count("warned", excess);
        }
        store::calm(pool, &self.well).await
    }
}

/// Those of `found` that the database says were not so before.
fn news<'f>(
    found: &'f [(StreamOf, Excess)],
    done: &[(TenantId, String)],
) -> impl Iterator<Item = &'f (StreamOf, Excess)> {
    found.iter().filter(|(of, _)| {
        done.iter().any(|(tenant, stream)| *tenant == of.tenant && *stream == of.stream)
    })
}

fn count(level: &'static str, excess: &Excess) {
    metrics::counter!(
        "postrider_health_findings_total",
        "level" => level, "measure" => excess.measure.as_str()
    )
    .increment(1);
}
