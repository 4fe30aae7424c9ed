//! The database of each cell: whether it is what postrider needs.

use chrono::{DateTime, Utc};
use sqlx::{PgPool, Row};

use super::finding::Finding;
use crate::cell::{Cell, identity};
use crate::cli::context::Context;
use crate::config::Settings;
use crate::domain::clock::Clock;
use crate::queue::migrate;

/// The oldest version whose features are used.
const OLDEST: i32 = 150_000;

/// A transaction that is older keeps the store from being cleaned.
const OLD_TRANSACTION: f64 = 1_800.0;

/// Clocks that differ by more make schedules and signatures wrong.
const SKEW: f64 = 2.0;

/// Settings that must be so, and why.
const SETTINGS: [(&str, &str, &str); 4] = [
    ("fsync", "on", "what was acknowledged is lost in a crash otherwise"),
    ("full_page_writes", "on", "a crash can leave broken pages otherwise"),
    (
        "synchronous_commit",
        "on",
        "a 202 and an intent must be durable (remote_apply and remote_write are, too)",
    ),
    ("autovacuum", "on", "tables grow without end otherwise"),
];

/// Looks at every cell.
pub(super) async fn look(context: &Context, settings: &Settings) -> Vec<Finding> {
    let cells = match context.cells().await {
        Ok(cells) => cells,
        Err(error) => {
            let advice = "docs/runbooks/database-away.md";
            return vec![Finding::fault("database", error.to_string(), advice)];
        }
    };
    let mut findings = Vec::new();
    for cell in &cells {
        match look_at(cell, settings).await {
            Ok(found) => findings.extend(found),
            Err(error) => findings.push(Finding::fault(
                "database",
                format!("cell {}: {error}", cell.name),
                "docs/runbooks/database-away.md",
            )),
        }
    }
    findings
}

async fn look_at(cell: &Cell, settings: &Settings) -> Result<Vec<Finding>, sqlx::Error> {
    let (pool, name) = (&cell.pool, &cell.name);
    let mut findings = vec![version(pool, name).await?];
    findings.push(match migrate::schema_is_current(pool).await {
        Ok(()) => Finding::fine("database", format!("cell {name}: the schema fits")),
        Err(error) => Finding::fault("database", error.to_string(), "postrider migrate"),
    });
    if let Err(error) = identity::verify(cell).await {
        findings.push(Finding::fault("database", error.to_string(), "docs/sharding.md"));
    }
    for (setting, wanted, why) in SETTINGS {
        let found: String =
            sqlx::query_scalar("select current_setting($1)").bind(setting).fetch_one(pool).await?;
        let durable = setting == "synchronous_commit" && found.starts_with("remote_");
        if found != wanted && !durable {
            let seen = format!("cell {name}: {setting} is {found}: {why}");
            findings.push(Finding::fault(
                "database",
                seen,
                format!("alter system set {setting} = {wanted}; select pg_reload_conf()"),
            ));
        }
    }
    findings.extend(clock(pool, name).await?);
    findings.extend(roles(pool, name, settings).await?);
    findings.extend(connections(pool, name, settings).await?);
    findings.extend(held(pool, name).await?);
    Ok(findings)
}

async fn version(pool: &PgPool, name: &str) -> Result<Finding, sqlx::Error> {
    let row = sqlx::query(
        "select current_setting('server_version_num')::int as number, current_setting('server_version') as words,
                pg_is_in_recovery() as standby",
    )
    .fetch_one(pool)
    .await?;
    let (number, words): (i32, String) = (row.try_get("number")?, row.try_get("words")?);
    if row.try_get("standby")? {
        let seen = format!("cell {name}: this is a standby");
        return Ok(Finding::fault("database", seen, "let the address lead to the primary"));
    }
    Ok(if number < OLDEST {
        let seen = format!("cell {name}: Postgres {words}");
        Finding::fault("database", seen, "Postgres 15 or later is needed")
    } else {
        Finding::fine("database", format!("cell {name}: Postgres {words}"))
    })
}

async fn clock(pool: &PgPool, name: &str) -> Result<Vec<Finding>, sqlx::Error> {
    let before: DateTime<Utc> = Clock::System.now().into();
    let theirs: DateTime<Utc> =
        sqlx::query_scalar("select clock_timestamp()").fetch_one(pool).await?;
    let after: DateTime<Utc> = Clock::System.now().into();
    let off = if theirs < before {
        before - theirs
    } else {
        (theirs - after).max(chrono::TimeDelta::zero())
    };
    let seconds = off.num_milliseconds() as f64 / 1_000.0;
    Ok(if seconds > SKEW {
        let seen = format!("cell {name}: its clock and this machine's differ by {seconds:.1} s");
        vec![Finding::fault("clock", seen, "run chrony or systemd-timesyncd on both")]
    } else {
        vec![Finding::fine("clock", format!("cell {name}: it agrees with this machine's"))]
    })
}

async fn roles(
    pool: &PgPool,
    name: &str,
    settings: &Settings,
) -> Result<Vec<Finding>, sqlx::Error> {
    let database = &settings.database;
    let mut findings = Vec::new();
    for role in [&database.worker_role, &database.api_role, &database.operator_role] {
        if role.is_empty() {
            continue;
        }
        let row = sqlx::query(
            "select r.oid is not null as there, coalesce(r.rolsuper or r.rolbypassrls, false) as free
             from (select 1) x left join pg_roles r on r.rolname = $1",
        )
        .bind(role)
        .fetch_one(pool)
        .await?;
        if !row.try_get::<bool, _>("there")? {
            let seen = format!("cell {name}: there is no role {role}");
            findings.push(Finding::fault("privileges", seen, "postrider migrate"));
        } else if row.try_get("free")? {
            let seen = format!("cell {name}: {role} passes row-level security by");
            let advice = format!("alter role {role} nosuperuser nobypassrls");
            findings.push(Finding::fault("privileges", seen, advice));
        }
    }
    let may_watch: bool =
        sqlx::query_scalar("select pg_has_role('postrider_worker', 'pg_read_all_stats', 'member')")
            .fetch_one(pool)
            .await
            .unwrap_or(true);
    if !may_watch {
        findings.push(Finding::odd(
            "privileges",
            format!("cell {name}: the daemon cannot see how old other logins' transactions are"),
            "grant pg_read_all_stats to postrider_worker",
        ));
    }
    if findings.is_empty() {
        findings
            .push(Finding::fine("privileges", format!("cell {name}: roles are as they should be")));
    }
    Ok(findings)
}

async fn connections(
    pool: &PgPool,
    name: &str,
    settings: &Settings,
) -> Result<Vec<Finding>, sqlx::Error> {
    let most: i32 = sqlx::query_scalar(
        "select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int",
    )
    .fetch_one(pool)
    .await?;
    let each = i64::from(settings.database.pool_size);
    let fit = i64::from(most) / each.max(1);
    Ok(if fit < 3 {
        vec![Finding::odd(
            "database",
            format!("cell {name}: {most} connections are for {fit} processes of {each}"),
            "raise max_connections, or lower database.pool_size (docs/capacity.md)",
        )]
    } else {
        vec![Finding::fine("database", format!("cell {name}: room for {fit} processes"))]
    })
}

/// What keeps the store from being cleaned, as far as this login may see it.
async fn held(pool: &PgPool, name: &str) -> Result<Vec<Finding>, sqlx::Error> {
    let row = sqlx::query(
        "select coalesce((select max(extract(epoch from now() - xact_start)) from pg_stat_activity
                          where xact_start is not null and pid <> pg_backend_pid()), 0)::float8 as session,
                coalesce((select max(extract(epoch from now() - prepared)) from pg_prepared_xacts), 0)::float8 as prepared,
                (select count(*) from pg_replication_slots where not active) as slots",
    )
    .fetch_one(pool)
    .await?;
    let mut findings = Vec::new();
    for (what, column) in
        [("an open transaction", "session"), ("a prepared transaction", "prepared")]
    {
        let seconds: f64 = row.try_get(column)?;
        if seconds > OLD_TRANSACTION {
            findings.push(Finding::odd(
                "xmin",
                format!("cell {name}: {what} is {seconds:.0} s old"),
                "docs/runbooks/xmin-held.md",
            ));
        }
    }
    let slots: i64 = row.try_get("slots")?;
    if slots > 0 {
        findings.push(Finding::odd(
            "xmin",
            format!("cell {name}: {slots} replication slots have no reader"),
            "bring their readers back or drop them: they hold the log until the disk is full",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::fine("xmin", format!("cell {name}: nothing holds the store")));
    }
    Ok(findings)
}
