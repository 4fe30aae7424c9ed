//! What this process uses, as the kernel counts it.
//!
//! Read when somebody scrapes. What cannot be read (another kernel, a closed `/proc`) is left
//! out: a number that is not there says more than one that is wrong.

use std::fs;

use metrics::gauge;

/// The kernel's unit of CPU time in `/proc/self/stat`: 1/100 s on every Linux.
const TICKS_A_SECOND: f64 = 100.0;

/// Sets the gauges.
pub(super) fn sample() {
    if let Some(seconds) = text("stat").as_deref().and_then(cpu_seconds) {
        gauge!("postrider_cpu_seconds").set(seconds);
    }
    if let Some(bytes) = text("status").as_deref().and_then(memory_bytes) {
        gauge!("postrider_memory_bytes").set(bytes);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is this look.
        gauge!("postrider_open_files").set(open.count().saturating_sub(1) as f64);
    }
    if let Some(limit) = text("limits").as_deref().and_then(open_files_limit) {
        gauge!("postrider_open_files_limit").set(limit);
    }
}

fn text(name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/self/{name}")).ok()
}

/// User and system time. The second field is a name in brackets and may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |n: usize| fields.get(n)?.parse::<u64>().ok();
    Some((ticks(11)? + ticks(12)?) as f64 / TICKS_A_SECOND)
}

fn memory_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some((kilobytes * 1_024) as f64)
}

fn open_files_limit(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|limit| limit as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_words_are_read() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 900 0 3 0 250 50 0 0 20 0 9 0 100 1 2";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(memory_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2_097_152.0));
        let limits = "Max open files            1024                 4096                 files\n";
        assert_eq!(open_files_limit(limits), Some(1_024.0));
        assert_eq!(open_files_limit("Max open files  unlimited unlimited files\n"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        assert!(text("stat").as_deref().and_then(cpu_seconds).is_some());
        assert!(text("status").as_deref().and_then(memory_bytes).is_some_and(|bytes| bytes > 1e5));
        assert!(text("limits").as_deref().and_then(open_files_limit).is_some());
    }
}
