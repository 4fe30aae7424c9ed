//! What processes used, as the kernel counts it.

use std::fs;
use std::time::Duration;

/// The kernel's unit in `/proc/PID/stat`: 1/100 s on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of a process, without its children.
pub(crate) fn cpu(pid: u32) -> Duration {
    stat(pid).map_or(Duration::ZERO, |stat| stat.own)
}

/// CPU time of a process, of its children that run, and of those that ended and
/// were waited for: Postgres's postmaster and all its backends.
pub(crate) fn cpu_of_family(parent: u32) -> Duration {
    let Some(head) = stat(parent) else { return Duration::ZERO };
    let children = fs::read_dir("/proc").into_iter().flatten().flatten();
    children
        .filter_map(|entry| stat(entry.file_name().to_str()?.parse().ok()?))
        .filter(|child| child.parent == parent)
        .fold(head.own + head.waited_for, |sum, child| sum + child.own)
}

/// CPU time of our own children that ended and were waited for.
pub(crate) fn cpu_of_ended_children() -> Duration {
    stat(std::process::id()).map_or(Duration::ZERO, |stat| stat.waited_for)
}

/// Most memory that a process ever held, in bytes.
pub(crate) fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1_024
}

struct Stat {
    parent: u32,
    own: Duration,
    waited_for: Duration,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in brackets and may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |n: usize| fields.get(n)?.parse::<u32>().ok().map(|ticks| TICK * ticks);
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own: ticks(11)? + ticks(12)?,
        waited_for: ticks(13)? + ticks(14)?,
    })
}
