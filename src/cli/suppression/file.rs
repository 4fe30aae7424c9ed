//! Whole files: import and export, in memory that does not grow with their length.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::entries::stream;
use super::which::Which;
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::print::{Answer, Table, Verdict};
use crate::domain::clock::Clock;
use crate::tenant::suppression::{Decoder, Exporter, Format, Importer, List, Mode, Summary, plain};

/// Bytes read at once.
const BLOCK: usize = 64 << 10;

/// Taking in.
#[derive(Debug, clap::Args)]
pub(super) struct Import {
    #[command(flatten)]
    which: Which,
    /// The file; - reads standard input
    file: PathBuf,
    /// How it is written; without it by the file's name (.ndjson, .jsonl; else CSV)
    #[arg(long, value_enum)]
    format: Option<Written>,
    /// All lines or none: one bad line refuses all (at most 1,000,000 lines)
    #[arg(long)]
    whole: bool,
    /// Lines that name no stream: only for this one
    #[arg(long, value_parser = stream)]
    stream: Option<String>,
    /// Why, for lines that do not say
    #[arg(long, default_value = "imported")]
    reason: String,
}

/// Giving out.
#[derive(Debug, clap::Args)]
pub(super) struct Export {
    #[command(flatten)]
    which: Which,
    /// The file to write, which must not be there yet; without it standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How it is written; without it by the file's name (.ndjson, .jsonl; else CSV)
    #[arg(long, value_enum)]
    format: Option<Written>,
}

/// How a file is written.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Written {
    /// Comma-separated, with a header
    Csv,
    /// One JSON object a line
    Ndjson,
}

pub(super) async fn import(args: &Import, context: &Context) -> Result<Answer, CliError> {
    let format = format(args.format, Some(&args.file));
    let lists = args.which.lists(context).await?;
    if lists.len() > 1 && args.file == Path::new("-") {
        return Err(CliError::usage("with several cells: name a file, it is read once for each"));
    }
    let mut summary = Summary::default();
    for list in lists {
        let mode = if args.whole { Mode::Whole } else { Mode::EachLine };
        let now = DateTime::<Utc>::from(Clock::System.now());
        let importer = Importer::new(list, mode, args.stream.clone(), plain(&args.reason), now);
        summary = take(importer, format, &args.file).await?;
    }
    let mut words = format!(
        "{} lines: {} added, {} there already, {} refused",
        summary.lines, summary.added, summary.present, summary.refused
    );
    if !summary.stored {
        words.push_str("; nothing was stored");
    }
    if !summary.refusals.is_empty() {
        let mut table = Table::new(&["line", "field", "reason"], "");
        for one in &summary.refusals {
            table.row([one.line.to_string(), one.field.clone(), one.reason.clone()]);
        }
        words = format!("{words}\n{}", table.text());
    }
    let verdict = if summary.refused == 0 { Verdict::Fine } else { Verdict::Bad };
    Ok(Answer::new(words, &summary)?.with_verdict(verdict))
}

async fn take(mut importer: Importer, format: Format, path: &Path) -> Result<Summary, CliError> {
    let unreadable =
        |error: io::Error| CliError::failed(format!("cannot read {}: {error}", path.display()));
    let mut file: Box<dyn Read + Send> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(unreadable)?)
    };
    let mut decoder = Decoder::new(format);
    let mut lines = Vec::new();
    let mut block = vec![0; BLOCK];
    let headless = |error| CliError::failed(format!("{}: {error}", path.display()));
    loop {
        let read = file.read(&mut block).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        decoder.feed(block.get(..read).unwrap_or_default(), &mut lines).map_err(headless)?;
        importer.take(&mut lines).await?;
    }
    decoder.finish(&mut lines).map_err(headless)?;
    importer.take(&mut lines).await?;
    Ok(importer.finish().await?)
}

pub(super) async fn export(args: Export, context: &Context) -> Result<Answer, CliError> {
    let format = format(args.format, args.out.as_deref());
    let list = args.which.list(context).await?;
    let Some(path) = args.out else {
        // What stands on standard output is the file; the count goes to standard error.
        let entries = write(list, format, &mut io::stdout()).await?;
        crate::cli::print::progress(&format!("{entries} entries"));
        return Ok(Answer::silent());
    };
    let unwritable = |error: io::Error| CliError::failed(format!("{}: {error}", path.display()));
    let file = File::options().write(true).create_new(true).open(&path).map_err(unwritable)?;
    let mut out = BufWriter::new(file);
    let entries = write(list, format, &mut out).await?;
    out.flush().map_err(unwritable)?;
    let facts = serde_json::json!({"entries": entries, "file": path});
    Answer::new(format!("{entries} entries are in {}", path.display()), &facts)
}

async fn write(list: List, format: Format, out: &mut (impl Write + Send)) -> Result<u64, CliError> {
    let mut exporter = Exporter::new(list, format);
    let mut entries = 0;
    while let Some(piece) = exporter.next().await? {
        match out.write_all(&piece.bytes) {
            Ok(()) => entries += piece.entries as u64,
            // A reader that has seen enough is no error.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            Err(error) => return Err(CliError::failed(format!("cannot write: {error}"))),
        }
    }
    Ok(entries)
}

fn format(said: Option<Written>, path: Option<&Path>) -> Format {
    let extension = path.and_then(Path::extension).and_then(|extension| extension.to_str());
    match said {
        Some(Written::Ndjson) => Format::Ndjson,
        None if matches!(extension, Some("ndjson" | "jsonl")) => Format::Ndjson,
        Some(Written::Csv) | None => Format::Csv,
    }
}
