//! What events cost: sending without them, with them written, with them told to an endpoint, and
//! beside an endpoint that is dead and has a million to be told. One daemon empties one queue while
//! the four take turns of a second or two, for the speed of a shared machine changes within minutes
//! by more than they cost.

use std::fmt;
use std::time::Duration;

use anyhow::ensure;
use sqlx::PgPool;

use crate::consumer::Consumer;
use crate::fill::{Layout, fill, tenant_name};
use crate::program::{Program, operate};
use crate::sink::Sink;
use crate::stand::{CONNECTIONS, Database, Stand, Wanted, free_address, relay};
use crate::table::{Cell, Table};
use crate::turn::Turn;
use crate::{say, verdict};

/// Tenants that send, and are told.
const TENANTS: usize = 5;

/// The database.
const NAME: &str = "events";

/// Time after the first mail before anything is measured: statements are planned for each connection.
const WARM_UP: Duration = Duration::from_secs(6);

/// What is not measured of a turn: what the turn before left under way.
const SETTLING: Duration = Duration::from_millis(1_200);

/// Fewer rounds say nothing.
const FEWEST: usize = 5;

/// Parts of the rate that may be lost.
const MAY_COST: f64 = 0.10;
const DEAD_MAY_COST: f64 = 0.05;

/// How much, how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Milliseconds that are measured of each turn.
    #[arg(long, default_value_t = 1_500, value_name = "N")]
    millis: u64,
    /// Turns of each of the four; fewer where the queue would run empty.
    #[arg(long, default_value_t = 20, value_name = "N")]
    rounds: usize,
    /// Deliveries that wait.
    #[arg(long, default_value_t = 2_500_000, value_name = "N")]
    waiting: u64,
    /// Events that wait for the dead endpoint.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pending: u64,
    /// Events of one request.
    #[arg(long, default_value_t = 100, value_name = "N")]
    batch: u32,
    /// A million events that wait for the dead endpoint.
    #[arg(long)]
    full: bool,
}

/// Who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listening {
    /// Nobody: no events are written.
    Nobody,
    /// Events are written and read by nobody.
    Written,
    /// An endpoint of each tenant takes them at once.
    Told,
    /// They are written, and one tenant's endpoint does not answer.
    Dead,
}

impl Listening {
    const ALL: [Self; 4] = [Self::Nobody, Self::Written, Self::Told, Self::Dead];

    const fn name(self) -> &'static str {
        match self {
            Self::Nobody => "no events",
            Self::Written => "written",
            Self::Told => "written and told",
            Self::Dead => "written, an endpoint is dead",
        }
    }

    /// Makes it so from the next transaction on. Endpoints that work are told from now on: what was
    /// written in others' turns is not theirs.
    async fn begin(self, pool: &PgPool) -> Result<(), sqlx::Error> {
        sqlx::query(
            "with told as (update postrider.event_tenant set enabled = $1)
             update postrider.webhook w
             set state = case when w.description = $2 then 'active' else 'disabled' end,
                 disabled_by = case when w.description = $2 then null else 'operator' end,
                 at_xid = case when w.description = 'works' then postrider.event_horizon() - 1 else w.at_xid end,
                 at_event = case when w.description = 'works' then 9223372036854775807 else w.at_event end,
                 hold = w.hold + 1, holder = null, held_until = null",
        )
        .bind(self != Self::Nobody)
        .bind(match self {
            Self::Nobody | Self::Written => "",
            Self::Told => "works",
            Self::Dead => "dead",
        })
        .execute(pool)
        .await?;
        Ok(())
    }
}

/// What one of the four costs beyond another, as shares: mails a second that are lost, and CPU of
/// daemon and Postgres for each mail that is spent. The first holds the endpoints too, on the same
/// machine.
struct Cost {
    rate: f64,
    /// Between which a half of the pairs lie.
    quartiles: (f64, f64),
    cpu: f64,
}

struct Side {
    listening: Listening,
    turns: Vec<Turn>,
    told: f64,
}

/// Measures, prints, judges.
pub(crate) async fn run(stand: &Stand, args: &Args) -> anyhow::Result<()> {
    let pending = if args.full { 1_000_000 } else { args.pending };
    let consumer = Consumer::start().await?;
    let database = stand.database(NAME).await?;
    let layout = Layout { tenants: TENANTS, streams: 1, rows: args.waiting };
    fill(stand, &database, layout).await?;
    let (sink, metrics) = (Sink::start().await?, free_address()?);
    let wanted = Wanted {
        database: &database,
        route: relay(sink.address(), CONNECTIONS),
        api: free_address()?,
        metrics,
        queue: "",
        more: "[webhook]\nallow_http = true\nallow_private_addresses = true\n",
    };
    let config = stand.configure(NAME, &wanted)?;
    let create = |tenant: usize, what: &str, url: &str| {
        let (tenant, batch) = (tenant_name(tenant), args.batch.to_string());
        let words = ["--batch", &batch, "--description", what];
        operate(&config, &[&["webhook", "create", "--tenant", &tenant, url], &words[..]].concat())
    };
    for tenant in 0..TENANTS {
        create(tenant, "works", &format!("http://{}/", consumer.address()))?;
    }
    // Nobody listens there: connections are refused.
    create(0, "dead", &format!("http://{}/", free_address()?))?;
    fall_behind(&database, pending).await?;
    database.settle_down().await?;

    let mut sides =
        Listening::ALL.map(|listening| Side { listening, turns: Vec::new(), told: 0.0 });
    let mut daemon = Program::daemon(&config, metrics).await?;
    Turn::measure(stand, &mut daemon, &sink, WARM_UP, 1).await?;
    let length = Duration::from_millis(args.millis);
    let mut longest = 0;
    for round in 0..args.rounds.max(FEWEST) {
        let before = sink.taken();
        if before + longest * 3 / 2 > args.waiting {
            break;
        }
        for n in 0..sides.len() {
            // There and back again, so that none is always first.
            let at = if round % 2 == 0 { n } else { sides.len() - 1 - n };
            let side = &mut sides[at];
            side.listening.begin(&database.pool).await?;
            tokio::time::sleep(SETTLING).await;
            let told = consumer.told();
            side.turns.push(Turn::of_now(stand, &mut daemon, &sink, length).await?);
            side.told += (consumer.told() - told) as f64;
        }
        longest = longest.max(sink.taken() - before);
    }
    let rounds = sides[0].turns.len();
    ensure!(rounds >= FEWEST, "enough for {rounds} rounds of {FEWEST}: ask for more --waiting");
    daemon.stop().await?;
    report(&sides, pending)?;
    database.pool.close().await;
    stand.drop(NAME).await
}

fn report(sides: &[Side], pending: u64) -> anyhow::Result<()> {
    let mut table = Table::new(
        "events",
        &[
            "events",
            "mails/s",
            "lowest, highest",
            "daemon us/mail",
            "Postgres us/mail",
            "told of a mail",
        ],
    );
    for side in sides {
        let rates = side.turns.iter().map(|turn| turn.rate);
        let (low, high) = rates.fold((f64::MAX, 0_f64), |(l, h), rate| (l.min(rate), h.max(rate)));
        let mails: f64 = side.turns.iter().map(|turn| turn.mails).sum();
        table.row(vec![
            side.listening.name().into(),
            Cell::whole(side.median(|turn| turn.rate)),
            format!("{low:.0}, {high:.0}").as_str().into(),
            Cell::tenth(side.median(|turn| turn.daemon)),
            Cell::tenth(side.median(|turn| turn.postgres)),
            format!("{:.2}", side.told / mails).as_str().into(),
        ]);
    }
    say(&format!("{} turns of each, medians:", sides[0].turns.len()));
    say(&table.to_string());
    if let [nobody, written, told, dead] = sides {
        ensure!(told.told > 0.0, "the endpoint was told nothing");
        let (cost, alone, beside) = (told.over(nobody), written.over(nobody), dead.over(written));
        verdict(
            cost.rate < MAY_COST,
            &format!(
                "written and told to endpoints, events cost {cost} (target: less than 10 % of the mails/s); written alone {alone}",
            ),
        );
        verdict(
            beside.rate < DEAD_MAY_COST,
            &format!(
                "a dead endpoint with {pending} events costs {beside} (target: less than 5 % of the mails/s)",
            ),
        );
    }
    Ok(())
}

/// Events of the first tenant that happened while its endpoint did not answer.
async fn fall_behind(database: &Database, pending: u64) -> anyhow::Result<()> {
    sqlx::query(
        "insert into postrider.event(tenant_id, xid, kind, attempt, code, message_id, job_id, detail)
         select j.tenant_id, pg_current_xact_id()::text::bigint, 1, 1, 250, j.message_id, j.job_id,
                '{\"stage\":\"dot\",\"reply\":\"250 2.0.0 taken\",\"took_ms\":210}'
         from (select * from postrider.job where tenant_id = (
                 select tenant_id from postrider.tenant where name = $2) limit 1000) j,
              generate_series(1, greatest($1 / 1000, 1))",
    )
    .bind(pending as i64)
    .bind(tenant_name(0))
    .execute(&database.pool)
    .await?;
    Ok(())
}

impl Side {
    fn median(&self, take: fn(&Turn) -> f64) -> f64 {
        at(&sorted(self.turns.iter().map(take)), 2)
    }

    /// What this one costs beyond `other`, turn by turn of the same round.
    fn over(&self, other: &Self) -> Cost {
        let shares = |take: fn(&Turn) -> f64| {
            let pairs = self.turns.iter().zip(&other.turns);
            sorted(pairs.map(|(this, other)| take(this) / take(other)))
        };
        let (rates, cpu) = (shares(|turn| turn.rate), shares(|turn| turn.daemon + turn.postgres));
        Cost {
            rate: 1.0 - at(&rates, 2),
            quartiles: (1.0 - at(&rates, 3), 1.0 - at(&rates, 1)),
            cpu: at(&cpu, 2) - 1.0,
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| share * 100.0;
        let Self { rate, quartiles: (low, high), cpu } = self;
        write!(f, "{:.1} % of the mails/s ", percent(*rate))?;
        write!(f, "(quartiles {:.1} and {:.1}), ", percent(*low), percent(*high))?;
        write!(f, "{:+.1} % CPU a mail", percent(*cpu))
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    all
}

/// The value below which so many quarters of them lie.
fn at(sorted: &[f64], quarters: usize) -> f64 {
    sorted[(sorted.len() - 1) * quarters / 4]
}
