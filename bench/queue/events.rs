//! What events cost: sending without them, with them written, with them told to an endpoint, and
//! beside an endpoint that is dead and has a million to be told. All in turns, in one run.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;

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

/// Time after the first mail before it is measured: statements are planned for each connection first.
const WARM_UP: Duration = Duration::from_secs(4);

/// Parts of the rate that may be lost.
const MAY_COST: f64 = 0.10;
const DEAD_MAY_COST: f64 = 0.05;

/// How much, how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds of each turn.
    #[arg(long, default_value_t = 3, value_name = "N")]
    seconds: u64,
    /// Turns of each side.
    #[arg(long, default_value_t = 7, value_name = "N")]
    rounds: usize,
    /// Deliveries that wait in each side's database.
    #[arg(long, default_value_t = 800_000, value_name = "N")]
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

    const fn database(self) -> &'static str {
        match self {
            Self::Nobody => "events_off",
            Self::Written => "events_written",
            Self::Told => "events_told",
            Self::Dead => "events_dead",
        }
    }
}

/// What one side costs beyond another, as shares: mails a second that are lost, and CPU of daemon and
/// Postgres for each mail that is spent. The first holds the endpoints too, on the same machine.
struct Cost {
    rate: f64,
    cpu: f64,
}

struct Side {
    listening: Listening,
    database: Database,
    turns: Vec<Turn>,
    told: f64,
}

/// Measures, prints, judges.
pub(crate) async fn run(stand: &Stand, args: &Args) -> anyhow::Result<()> {
    let pending = if args.full { 1_000_000 } else { args.pending };
    let consumer = Consumer::start().await?;
    let mut sides = Vec::new();
    for listening in Listening::ALL {
        sides.push(Side::new(stand, listening, args, pending, consumer.address()).await?);
    }
    for round in 0..args.rounds.max(1) {
        for n in 0..sides.len() {
            let at = (n + round) % sides.len();
            let before = consumer.told();
            let turn = sides[at].turn(stand, args.seconds).await?;
            sides[at].told += (consumer.told() - before) as f64;
            say(&format!(
                "round {}: {}: {:.0} mails/s",
                round + 1,
                sides[at].listening.name(),
                turn.rate
            ));
            sides[at].turns.push(turn);
        }
    }
    let mut table = Table::new(
        "events",
        &["events", "mails/s", "each turn", "daemon us/mail", "Postgres us/mail", "events told"],
    );
    let rate = |side: &Side| side.median(|turn| turn.rate);
    for side in &sides {
        let each: Vec<String> = side.turns.iter().map(|turn| format!("{:.0}", turn.rate)).collect();
        table.row(vec![
            side.listening.name().into(),
            Cell::whole(rate(side)),
            each.join(", ").as_str().into(),
            Cell::tenth(side.median(|turn| turn.daemon)),
            Cell::tenth(side.median(|turn| turn.postgres)),
            Cell::whole(side.told),
        ]);
    }
    say(&table.to_string());
    if let [nobody, written, told, dead] = &sides[..] {
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
    for side in sides {
        side.database.pool.close().await;
        stand.drop(side.listening.database()).await?;
    }
    Ok(())
}

impl Side {
    async fn new(
        stand: &Stand,
        listening: Listening,
        args: &Args,
        pending: u64,
        consumer: SocketAddr,
    ) -> anyhow::Result<Self> {
        let database = stand.database(listening.database()).await?;
        let layout = Layout { tenants: TENANTS, streams: 1, rows: args.waiting };
        fill(stand, &database, layout).await?;
        let side = Self { listening, database, turns: Vec::new(), told: 0.0 };
        let config = side.configure(stand, "127.0.0.1:9".parse()?, free_address()?)?;
        if listening != Listening::Nobody {
            sqlx::query("insert into postrider.event_tenant(tenant_id) select tenant_id from postrider.tenant")
                .execute(&side.database.pool)
                .await?;
        }
        let batch = args.batch.to_string();
        let create = |tenant: usize, url: &str| {
            let tenant = tenant_name(tenant);
            operate(&config, &["webhook", "create", "--tenant", &tenant, url, "--batch", &batch])
        };
        match listening {
            Listening::Nobody | Listening::Written => {}
            Listening::Told => {
                for tenant in 0..TENANTS {
                    create(tenant, &format!("http://{consumer}/"))?;
                }
            }
            Listening::Dead => {
                // Nobody listens there: connections are refused.
                create(0, &format!("http://{}/", free_address()?))?;
                side.fall_behind(pending).await?;
            }
        }
        side.database.settle_down().await?;
        Ok(side)
    }

    /// Events of the first tenant that happened while its endpoint did not answer.
    async fn fall_behind(&self, pending: u64) -> anyhow::Result<()> {
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
        .execute(&self.database.pool)
        .await?;
        Ok(())
    }

    fn configure(
        &self,
        stand: &Stand,
        sink: SocketAddr,
        metrics: SocketAddr,
    ) -> anyhow::Result<std::path::PathBuf> {
        let wanted = Wanted {
            database: &self.database,
            route: relay(sink, CONNECTIONS),
            api: free_address()?,
            metrics,
            queue: "",
            more: "[webhook]\nallow_http = true\nallow_private_addresses = true\n",
        };
        stand.configure(self.listening.database(), &wanted)
    }

    async fn turn(&self, stand: &Stand, seconds: u64) -> anyhow::Result<Turn> {
        let (sink, metrics) = (Sink::start().await?, free_address()?);
        let config = self.configure(stand, sink.address(), metrics)?;
        let mut daemon = Program::daemon(&config, metrics).await?;
        let turn = Turn::measure(stand, &mut daemon, &sink, WARM_UP, seconds).await?;
        daemon.stop().await?;
        let left: bool = sqlx::query_scalar("select exists (select 1 from postrider.ready)")
            .fetch_one(&self.database.pool)
            .await?;
        ensure!(left, "the queue ran empty: ask for fewer --seconds or more --waiting");
        Ok(turn)
    }

    fn median(&self, take: fn(&Turn) -> f64) -> f64 {
        median(self.turns.iter().map(take))
    }

    /// What this side costs beyond `other`. Each turn is held against the other's of the same round,
    /// for a shared machine has another speed in each.
    fn over(&self, other: &Self) -> Cost {
        let share = |take: fn(&Turn) -> f64| {
            let pairs = self.turns.iter().zip(&other.turns);
            median(pairs.map(|(this, other)| take(this) / take(other)))
        };
        Cost {
            rate: 1.0 - share(|turn| turn.rate),
            cpu: share(|turn| turn.daemon + turn.postgres) - 1.0,
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, cpu } = self;
        write!(f, "{:.1} % of the mails/s, {:+.1} % CPU a mail", rate * 100.0, cpu * 100.0)
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}
