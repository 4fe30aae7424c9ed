//! The numbers of one run: a table for people, a row for the docs.

use std::fmt;
use std::time::Duration;

use crate::Args;
use crate::daemon::Measured;
use crate::load::Load;
use crate::peer::Raw;

pub(crate) struct Report<'a> {
    pub(crate) args: &'a Args,
    pub(crate) load: &'a Load,
    pub(crate) measured: Measured,
    pub(crate) raw: Option<Raw>,
    pub(crate) postgres: u32,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { args, load, measured, raw, postgres } = self;
        let (size, dkim, sink) = (name(&args.size), name(&args.dkim), name(&args.sink));
        let count = args.count;
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let submit = f64::from(count) / load.took.as_secs_f64();
        writeln!(f, "\n{count} deliveries of {size}, DKIM {dkim}, to {sink}")?;
        writeln!(f, "{cores} cores; Postgres {postgres}, fsync and synchronous_commit on\n")?;
        writeln!(f, "submitted              {submit:>10.0} recipients/s")?;
        writeln!(f, "delivered              {:>10.0} messages/s", measured.rate)?;
        writeln!(f, "CPU of the daemon      {:>10.1} us/message", micros(measured.daemon))?;
        writeln!(f, "CPU of Postgres        {:>10.1} us/message", micros(measured.postgres))?;
        writeln!(f, "peak memory (daemon)   {:>10.1} MB", megabytes(measured.memory))?;
        let of_raw = if let Some(raw) = raw {
            writeln!(f, "smtp-source, no queue  {:>10.0} messages/s", raw.rate)?;
            writeln!(f, "CPU of smtp-source     {:>10.1} us/message", micros(raw.cpu))?;
            format!("{:.0} %", 100.0 * measured.rate / raw.rate)
        } else {
            writeln!(f, "raw limit              not measured (no Postfix tools)")?;
            "-".to_owned()
        };
        writeln!(f)?;
        writeln!(
            f,
            "| count | size | DKIM | sink | messages/s | of smtp-source | daemon us | Postgres us | peak MB |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        write!(
            f,
            "| {count} | {size} | {dkim} | {sink} | {:.0} | {of_raw} | {:.0} | {:.0} | {:.0} |",
            measured.rate,
            micros(measured.daemon),
            micros(measured.postgres),
            megabytes(measured.memory),
        )
    }
}

fn name(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
