//! Memory of processes. What several processes share (Postgres's buffers) is divided among
//! them, so that a backend is charged for what is its own.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_millis(250);

/// The most that each watched process held, by name.
#[derive(Debug, Default)]
struct Peaks(HashMap<String, u64>);

/// Watches processes until it is dropped.
pub(crate) struct Watch {
    peaks: Arc<Mutex<Peaks>>,
    watching: JoinHandle<()>,
}

impl Watch {
    /// Watches `program` under `name`, and the postmaster with all its processes.
    pub(crate) fn start(name: &'static str, program: u32, postmaster: u32) -> Self {
        let peaks = Arc::new(Mutex::new(Peaks::default()));
        let shared = Arc::clone(&peaks);
        let watching = tokio::spawn(async move {
            loop {
                let mut found = vec![(name.to_owned(), own(program))];
                found.extend(family(postmaster));
                for (name, bytes) in found {
                    let mut peaks = shared.lock();
                    let peak = peaks.0.entry(name).or_default();
                    *peak = bytes.max(*peak);
                }
                tokio::time::sleep(INTERVAL).await;
            }
        });
        Self { peaks, watching }
    }

    /// Names and most bytes, the largest first.
    pub(crate) fn peaks(&self) -> Vec<(String, u64)> {
        let mut all: Vec<(String, u64)> =
            self.peaks.lock().0.iter().map(|(name, bytes)| (name.clone(), *bytes)).collect();
        all.sort_by_key(|(name, bytes)| (std::cmp::Reverse(*bytes), name.clone()));
        all
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// Resident bytes of a process now.
pub(crate) fn resident(pid: u32) -> u64 {
    field(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// Bytes of a process, its part of what is shared included.
fn own(pid: u32) -> u64 {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

/// A process and its children, each by name and number.
fn family(parent: u32) -> Vec<(String, u64)> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let mut pids = vec![parent];
    pids.extend(
        children.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()),
    );
    pids.into_iter()
        .filter_map(|pid| {
            let title = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let title = String::from_utf8_lossy(&title).replace('\0', " ");
            // "postgres: postgres upload [local] SELECT": what it is, not what it does just now.
            let kind = match title.trim().strip_prefix("postgres: ") {
                Some(kind) if kind.contains("[local]") => "backend",
                Some(kind) => kind,
                None => "postmaster",
            };
            Some((format!("{} ({pid})", kind.trim()), own(pid)))
        })
        .collect()
}

/// A field in kB of a file of /proc, in bytes; 0 if it cannot be read.
fn field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = value.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1_024
}
