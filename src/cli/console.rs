//! What a person sees: lines, and one line that is updated in place on a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Least time between two progress lines that are not a terminal's.
const EVERY: Duration = Duration::from_secs(1);

/// Standard output. A reader that went away is no reason to stop.
#[derive(Debug)]
pub(crate) struct Console {
    terminal: bool,
    /// Whether the cursor stands behind an updated line.
    open: bool,
    last: Option<Instant>,
}

impl Console {
    pub(crate) fn new() -> Self {
        Self { terminal: io::stdout().is_terminal(), open: false, last: None }
    }

    /// Writes a line, or several.
    pub(crate) fn line(&mut self, text: &str) {
        let start = if self.open { "\n" } else { "" };
        self.open = false;
        self.write(&format!("{start}{text}\n"));
    }

    /// Shows how far something is: in place on a terminal, else one line a second.
    pub(crate) fn update(&mut self, text: &str) {
        if self.terminal {
            self.open = true;
            self.write(&format!("\r\x1b[K{text}"));
        } else if self.last.is_none_or(|last| last.elapsed() >= EVERY) {
            self.last = Some(Instant::now());
            self.write(&format!("{text}\n"));
        }
    }

    #[allow(clippy::unused_self, reason = "nobody writes past the console")]
    fn write(&self, text: &str) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
