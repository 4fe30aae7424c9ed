//! The daemon on a deep queue: mails a second with nine in ten deliveries blocked beside the
//! same work alone.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;

use crate::claims::{Args, OPEN, STREAMS, TENANTS};
use crate::fill::{Layout, check_room, fill, stream_name, tenant_name};
use crate::program::{Program, operate};
use crate::sink::Sink;
use crate::stand::{CONNECTIONS, Database, Stand, Wanted, free_address, relay};
use crate::table::{Cell, Table};
use crate::turn::Turn;
use crate::{say, verdict};

/// Time after the first mail before it is measured.
const WARM_UP: Duration = Duration::from_secs(2);

/// Share of the rate that must be kept.
const KEPT: f64 = 0.95;

/// One of the two.
struct Side {
    name: &'static str,
    waiting: u64,
    blocked: u64,
    database: Database,
    turns: Vec<Turn>,
}

/// Measures, prints, judges.
pub(crate) async fn run(stand: &Stand, args: &Args) -> anyhow::Result<()> {
    check_room(stand, args.waiting + args.waiting / 10)?;
    let open = args.waiting * OPEN as u64 / TENANTS as u64;
    let mut sides = [
        Side::new(stand, "alone", OPEN, open).await?,
        Side::new(stand, "blocked", TENANTS, args.waiting).await?,
    ];
    let config = sides[1].configure(stand, "127.0.0.1:9".parse()?, free_address()?)?;
    pause_the_rest(&config)?;
    sides[1].blocked = args.waiting - open;
    for round in 0..args.rounds as usize {
        for n in 0..2 {
            let side = &mut sides[(n + round) % 2];
            let turn = side.turn(stand, args.seconds).await?;
            say(&format!("round {}: {}: {:.0} mails/s", round + 1, side.name, turn.rate));
            side.turns.push(turn);
        }
    }
    let mut table = Table::new(
        "claims-daemon",
        &[
            "waiting",
            "blocked",
            "mails/s",
            "daemon us/mail",
            "Postgres us/mail",
            "ready to first mail ms",
        ],
    );
    let mut rates = Vec::new();
    for side in &sides {
        let median = |take: fn(&Turn) -> f64| {
            let mut all: Vec<f64> = side.turns.iter().map(take).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        rates.push(median(|turn| turn.rate));
        table.row(vec![
            Cell::whole(side.waiting as f64),
            Cell::whole(side.blocked as f64),
            Cell::whole(median(|turn| turn.rate)),
            Cell::tenth(median(|turn| turn.daemon)),
            Cell::tenth(median(|turn| turn.postgres)),
            Cell::whole(median(|turn| turn.first.as_secs_f64() * 1e3)),
        ]);
    }
    say(&table.to_string());
    let kept = rates[1] / rates[0];
    verdict(
        kept >= KEPT,
        &format!(
            "with the blocked rest / without = {:.1} % of the mails (target: at least 95 %)",
            kept * 100.0
        ),
    );
    for side in sides {
        side.database.pool.close().await;
        stand.drop(side.name).await?;
    }
    Ok(())
}

/// Holds back every tenant but the first ones: most of them as a whole, one in
/// ten by their streams.
fn pause_the_rest(config: &std::path::Path) -> anyhow::Result<()> {
    for tenant in OPEN..TENANTS {
        let name = tenant_name(tenant);
        let of_tenant = ["queue", "pause", "--reason", "bench", "--tenant", name.as_str()];
        if tenant % 10 != 0 {
            operate(config, &of_tenant)?;
            continue;
        }
        for stream in 0..STREAMS {
            let stream = stream_name(stream);
            operate(config, &[&of_tenant[..], &["--stream", stream.as_str()]].concat())?;
        }
    }
    Ok(())
}

impl Side {
    async fn new(
        stand: &Stand,
        name: &'static str,
        tenants: usize,
        waiting: u64,
    ) -> anyhow::Result<Self> {
        let database = stand.database(name).await?;
        let (_, took) =
            fill(stand, &database, Layout { tenants, streams: STREAMS, rows: waiting }).await?;
        database.settle_down().await?;
        say(&format!("{name}: {waiting} rows in {took:.1?}"));
        Ok(Self { name, waiting, blocked: 0, database, turns: Vec::new() })
    }

    fn configure(
        &self,
        stand: &Stand,
        sink: std::net::SocketAddr,
        metrics: std::net::SocketAddr,
    ) -> anyhow::Result<PathBuf> {
        let wanted = Wanted {
            database: &self.database,
            route: relay(sink, CONNECTIONS),
            api: free_address()?,
            metrics,
            queue: "",
            more: "",
        };
        stand.configure(self.name, &wanted)
    }

    async fn turn(&self, stand: &Stand, seconds: u64) -> anyhow::Result<Turn> {
        let (sink, metrics) = (Sink::start().await?, free_address()?);
        let config = self.configure(stand, sink.address(), metrics)?;
        let mut daemon = Program::daemon(&config, metrics).await?;
        let turn = Turn::measure(stand, &mut daemon, &sink, WARM_UP, seconds).await?;
        daemon.stop().await?;
        let left: i64 = sqlx::query_scalar(
            "select count(*) from (select 1 from postrider.ready r join postrider.tenant t using (tenant_id)
             where t.name = any ($1) limit 1) waiting",
        )
        .bind((0..OPEN).map(tenant_name).collect::<Vec<_>>())
        .fetch_one(&self.database.pool)
        .await?;
        ensure!(left > 0, "the queue ran empty: ask for fewer --seconds or more --waiting");
        Ok(turn)
    }
}
