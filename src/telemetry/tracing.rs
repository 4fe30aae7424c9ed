//! Log lines: text or JSON on standard error, with a filter that can change while running.
//!
//! Who is written to is personal: [`shown`] hides the local part of an address unless the
//! log level asks for it. Secrets do not print at all (`config::secret::Secret`).

use std::fmt;
use std::io::{self, Write};

use parking_lot::Mutex;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt as lines, reload};

use crate::config::{Log, LogFormat};

/// Changes what is logged while running.
#[derive(Clone)]
pub struct LogHandle {
    filter: reload::Handle<Targets, Registry>,
}

/// Logs from here on as `log` says. A second call in one process changes the level only.
///
/// # Errors
/// Another subscriber was installed before.
pub fn install(log: &Log) -> Result<LogHandle, TryInitError> {
    static INSTALLED: Mutex<Option<LogHandle>> = Mutex::new(None);
    let mut installed = INSTALLED.lock();
    if let Some(handle) = &*installed {
        handle.set_level(&log.level);
        return Ok(handle.clone());
    }
    let (filter, handle) = reload::Layer::new(targets(&log.level));
    tracing_subscriber::registry().with(filter).with(layer(log.format, io::stderr)).try_init()?;
    Ok(installed.insert(LogHandle { filter: handle }).clone())
}

/// The lines of one format, written to `out`.
fn layer<S, W>(
    format: LogFormat,
    out: impl Fn() -> W + Send + Sync + 'static,
) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'s> tracing_subscriber::registry::LookupSpan<'s>,
    W: Write + 'static,
{
    let layer = lines::layer().with_ansi(false).with_writer(out);
    match format {
        LogFormat::Text => layer.boxed(),
        // Fields beside the message, so that a log store can index them.
        LogFormat::Json => layer.json().flatten_event(true).with_span_list(false).boxed(),
    }
}

impl LogHandle {
    /// Logs at this level or filter from now on (checked when the configuration was read).
    pub fn set_level(&self, level: &str) {
        if let Err(error) = self.filter.reload(targets(level)) {
            tracing::warn!(%error, "the log level stays as it was");
        }
    }
}

/// The filter as configured. Settings are checked, so the fallback is for a caller that
/// made its own.
fn targets(level: &str) -> Targets {
    level.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO))
}

/// An address as it may be logged now: whole at level debug, else `***@domain`.
pub fn shown(address: &str) -> impl fmt::Display {
    let whole = tracing::enabled!(target: "postrider", tracing::Level::DEBUG);
    Shown { address, whole }
}

/// Words of a peer as they may be logged now: peers like to quote the address they refuse.
pub fn shown_in(words: &str) -> String {
    if tracing::enabled!(target: "postrider", tracing::Level::DEBUG) {
        return words.to_owned();
    }
    masked(words)
}

/// Each word with an @ in it loses what stands before.
pub fn masked(words: &str) -> String {
    let mut out = String::with_capacity(words.len());
    for word in words.split_inclusive(' ') {
        match word.rsplit_once('@') {
            Some((before, domain)) => {
                out.extend(before.chars().next().filter(|c| matches!(c, '<' | '(' | '"')));
                out.push_str("***@");
                out.push_str(domain);
            }
            None => out.push_str(word),
        }
    }
    out
}

struct Shown<'a> {
    address: &'a str,
    whole: bool,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.whole {
            return f.write_str(self.address);
        }
        let domain = self.address.rsplit_once('@').map_or("", |(_, domain)| domain);
        write!(f, "***@{domain}")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What a format makes of some events, with the level changed in between.
    fn written(format: LogFormat, body: impl FnOnce(&LogHandle)) -> String {
        let page = Page::default();
        let (filter, filter_handle) = reload::Layer::new(targets("info"));
        let out = page.clone();
        let subscriber =
            tracing_subscriber::registry().with(filter).with(layer(format, move || out.clone()));
        let handle = LogHandle { filter: filter_handle };
        tracing::subscriber::with_default(subscriber, || body(&handle));
        let bytes = page.0.lock().clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn addresses_in_a_peers_words_are_masked() {
        assert_eq!(
            masked("550 5.1.1 <bob@example.org>: unknown, ask bob@example.org or x"),
            "550 5.1.1 <***@example.org>: unknown, ask ***@example.org or x"
        );
    }

    #[test]
    fn addresses_are_hidden_until_the_level_is_debug() {
        let text = written(LogFormat::Text, |log| {
            let refused = || tracing::info!(recipient = %shown("ann@example.org"), "refused");
            refused();
            log.set_level("debug");
            refused();
        });
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("***@example.org") && !lines[0].contains("ann"), "{text}");
        assert!(lines[1].contains("ann@example.org"), "{text}");
    }

    #[test]
    fn json_lines_carry_fields_beside_the_message() {
        let text = written(LogFormat::Json, |_| {
            tracing::info!(delivery = "dlv_1", tenant = "shop\nforged", "delivered");
            tracing::debug!("not shown");
        });
        let line: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
        assert_eq!(line["delivery"], "dlv_1");
        assert_eq!(line["tenant"], "shop\nforged");
        assert_eq!(line["message"], "delivered");
        assert_eq!(text.lines().count(), 1);
    }
}
