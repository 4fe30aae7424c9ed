//! `postrider cost`: what a million mails cost, from measured CPU time and given prices.
//!
//! Plain arithmetic and nothing hidden in it: no price and no measurement of ours is built in.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::print::{Answer, Table};

/// Hours of a month (a twelfth of a year).
const HOURS: f64 = 730.0;
const MILLION: f64 = 1e6;
const GB: f64 = 1e9;

/// Work out what a million mails cost
#[derive(Debug, clap::Args)]
#[command(after_help = "\
CPU time comes from a measurement (make bench; docs/performance.md) or, with --at, from a
running daemon; prices from your provider's list. What is not given counts nothing.

Example (prices are placeholders):
  postrider cost --daemon-us 72 --postgres-us 93 --monthly 100000000 --core-hour 0.04 \\
                 --utilisation 0.4 --stored-bytes 3000 --stored-days 45 --gb-month 0.1 \\
                 --sent-bytes 12000 --gb-sent 0.09")]
pub struct Args {
    /// CPU time of the daemon for one mail, in microseconds
    #[arg(long, value_name = "US", required_unless_present = "at", value_parser = amount)]
    daemon_us: Option<f64>,
    /// Read it from the metrics of a daemon that has worked for a while
    #[arg(long, value_name = "IP:PORT", conflicts_with = "daemon_us")]
    at: Option<SocketAddr>,
    /// CPU time of Postgres for one mail, in microseconds
    #[arg(long, value_name = "US", value_parser = amount)]
    postgres_us: f64,
    /// CPU time of the API for one mail, in microseconds
    #[arg(long, value_name = "US", default_value_t = 0.0, value_parser = amount)]
    api_us: f64,
    /// Mails in a month
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    monthly: u64,
    /// Price of one core for an hour
    #[arg(long, value_name = "PRICE", value_parser = amount)]
    core_hour: f64,
    /// How much of its cores an installation uses on average (0 to 1): load has peaks
    #[arg(long, value_name = "PART", default_value_t = 0.3, value_parser = part)]
    utilisation: f64,
    /// Fewest cores that are paid for, also when less is used (replicas, the standby)
    #[arg(long, value_name = "N", default_value_t = 0.0, value_parser = amount)]
    least_cores: f64,
    /// Bytes that the database keeps of one mail
    #[arg(long, value_name = "BYTES", default_value_t = 0.0, value_parser = amount)]
    stored_bytes: f64,
    /// Days for which it keeps them
    #[arg(long, value_name = "DAYS", default_value_t = 45.0, value_parser = amount)]
    stored_days: f64,
    /// Price of a gigabyte of disk for a month
    #[arg(long, value_name = "PRICE", default_value_t = 0.0, value_parser = amount)]
    gb_month: f64,
    /// Bytes of one mail on the wire
    #[arg(long, value_name = "BYTES", default_value_t = 0.0, value_parser = amount)]
    sent_bytes: f64,
    /// Price of a gigabyte that leaves
    #[arg(long, value_name = "PRICE", default_value_t = 0.0, value_parser = amount)]
    gb_sent: f64,
    /// Whatever else a month costs: addresses, load balancer, backups
    #[arg(long, value_name = "PRICE", default_value_t = 0.0, value_parser = amount)]
    fixed: f64,
}

/// The parts of a month's bill.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Bill {
    daemon_us: f64,
    cores_used: f64,
    cores_paid: f64,
    cpu: f64,
    storage_gb: f64,
    storage: f64,
    traffic: f64,
    fixed: f64,
    month: f64,
    million: f64,
    year: f64,
}

/// Runs the command.
pub async fn run(args: Args, _context: &Context) -> Result<Answer, CliError> {
    let daemon_us = match (args.daemon_us, args.at) {
        (Some(given), _) => given,
        (None, Some(address)) => measured(address).await?,
        (None, None) => return Err(CliError::usage("--daemon-us or --at")),
    };
    let bill = bill(&args, daemon_us);
    let per_million = |part: f64| format!("{:.4}", part / (args.monthly as f64 / MILLION));
    let mut table = Table::new(&["part", "a month", "a million"], "");
    for (name, part) in [
        ("cpu", bill.cpu),
        ("storage", bill.storage),
        ("traffic", bill.traffic),
        ("fixed", bill.fixed),
        ("all", bill.month),
    ] {
        table.row([name.to_owned(), format!("{part:.2}"), per_million(part)]);
    }
    let words = format!(
        "{}\n\n{:.1} us of CPU a mail; {:.2} cores used on average, {:.2} paid; {:.1} GB kept; {:.2} a year",
        table.text(),
        daemon_us + args.postgres_us + args.api_us,
        bill.cores_used,
        bill.cores_paid,
        bill.storage_gb,
        bill.year,
    );
    Answer::new(words, &bill)
}

fn bill(args: &Args, daemon_us: f64) -> Bill {
    let mails = args.monthly as f64;
    let seconds = mails * (daemon_us + args.postgres_us + args.api_us) / 1e6;
    let cores_used = seconds / (HOURS * 3_600.0);
    let cores_paid = (cores_used / args.utilisation).max(args.least_cores);
    let cpu = cores_paid * HOURS * args.core_hour;
    let storage_gb = mails * (args.stored_days / (HOURS / 24.0)) * args.stored_bytes / GB;
    let storage = storage_gb * args.gb_month;
    let traffic = mails * args.sent_bytes / GB * args.gb_sent;
    let month = cpu + storage + traffic + args.fixed;
    Bill {
        daemon_us,
        cores_used,
        cores_paid,
        cpu,
        storage_gb,
        storage,
        traffic,
        fixed: args.fixed,
        month,
        million: month / (mails / MILLION),
        year: month * 12.0,
    }
}

/// CPU time for one delivered mail since the daemon started, in microseconds.
async fn measured(address: SocketAddr) -> Result<f64, CliError> {
    let trouble =
        |error: reqwest::Error| CliError::failed(format!("could not ask {address}: {error}"));
    let client = reqwest::Client::builder().timeout(Duration::from_secs(15)).no_proxy().build();
    let url = format!("http://{address}/metrics");
    let answer = client.map_err(trouble)?.get(url).send().await.map_err(trouble)?;
    let text = answer.text().await.map_err(trouble)?;
    cpu_us(&text).ok_or_else(|| {
        CliError::failed(format!("{address} has delivered nothing yet, or is no postriderd"))
    })
}

fn cpu_us(metrics: &str) -> Option<f64> {
    let value = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
    let cpu =
        metrics.lines().find(|line| line.starts_with("postrider_cpu_seconds ")).and_then(value)?;
    let delivered: f64 = metrics
        .lines()
        .filter(|line| line.starts_with("postrider_endings_total{"))
        .filter(|line| line.contains("ending=\"delivered\""))
        .filter_map(value)
        .sum();
    (delivered > 0.0).then(|| cpu * 1e6 / delivered)
}

fn amount(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    let fits = number.is_finite() && number >= 0.0;
    if fits { Ok(number) } else { Err("expected a number that is not negative".to_owned()) }
}

fn part(text: &str) -> Result<f64, String> {
    let number = amount(text)?;
    let fits = number > 0.0 && number <= 1.0;
    if fits { Ok(number) } else { Err("expected a part above 0, at most 1".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Args {
        Args {
            daemon_us: Some(100.0),
            at: None,
            postgres_us: 100.0,
            api_us: 0.0,
            monthly: 131_400_000,
            core_hour: 0.1,
            utilisation: 0.5,
            least_cores: 0.0,
            stored_bytes: 1_000.0,
            stored_days: 365.0 / 12.0,
            gb_month: 0.1,
            sent_bytes: 10_000.0,
            gb_sent: 0.05,
            fixed: 10.0,
        }
    }

    #[test]
    fn the_parts_add_up() {
        let bill = bill(&args(), 100.0);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
        // 131.4 million mails of 200 us are 26,280 s of a month's 2,628,000: a hundredth of a core.
        assert!(near(bill.cores_used, 0.01) && near(bill.cores_paid, 0.02), "{bill:?}");
        assert!(near(bill.cpu, 0.02 * 730.0 * 0.1), "{bill:?}");
        assert!(near(bill.storage_gb, 131.4) && near(bill.storage, 13.14), "{bill:?}");
        assert!(near(bill.traffic, 1_314.0 * 0.05), "{bill:?}");
        assert!(near(bill.month, bill.cpu + 13.14 + 65.7 + 10.0), "{bill:?}");
        assert!(near(bill.million, bill.month / 131.4), "{bill:?}");
        let more = super::bill(&Args { least_cores: 4.0, ..args() }, 100.0);
        assert!(near(more.cpu, 4.0 * 730.0 * 0.1), "{more:?}");
    }

    #[test]
    fn a_daemon_tells_its_own_cpu_time() {
        let text = "postrider_cpu_seconds 3.5\n\
                    postrider_endings_total{mailbox_provider=\"google\",ending=\"delivered\"} 60000\n\
                    postrider_endings_total{mailbox_provider=\"other\",ending=\"delivered\"} 10000\n\
                    postrider_endings_total{mailbox_provider=\"other\",ending=\"deferred\"} 99\n";
        assert_eq!(cpu_us(text), Some(50.0));
        assert_eq!(cpu_us("postrider_cpu_seconds 3.5\n"), None);
        assert!(amount("-1").is_err() && part("0").is_err() && part("1").is_ok());
    }
}
