//! This machine: what a process may use.

use std::fs;

use super::finding::Finding;
use crate::config::Settings;

/// Descriptors for everything that is neither a connection of the daemon or the API nor one to
/// the database.
const OTHERS: u64 = 200;

/// Port 25 and the likes are called from here.
const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Looks.
pub(super) fn look(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let pools: u64 = settings.all_cells().map(|cell| u64::from(cell.pool_size)).sum();
    // Two processes, of which each has its own: the larger one.
    let connections = settings.smtp.max_connections.max(settings.api.max_connections);
    let wanted = u64::from(connections) + pools + OTHERS;
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    match open_files(&limits) {
        Some(limit) if limit < wanted => findings.push(Finding::odd(
            "machine",
            format!("{limit} open files are allowed to this shell, {wanted} may be needed"),
            "the units set LimitNOFILE; elsewhere raise ulimit -n, or lower smtp.max_connections and api.max_connections",
        )),
        Some(limit) => {
            findings.push(Finding::fine("machine", format!("{limit} open files are allowed")));
        }
        None => {}
    }
    let range = fs::read_to_string(RANGE).unwrap_or_default();
    if let Some(ports) = ports(&range)
        && ports < u64::from(settings.smtp.max_connections)
    {
        findings.push(Finding::odd(
            "machine",
            format!(
                "{ports} local ports for {} connections to one host",
                settings.smtp.max_connections
            ),
            "sysctl net.ipv4.ip_local_port_range='1024 65535'",
        ));
    }
    findings
}

fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn ports(range: &str) -> Option<u64> {
    let mut ends = range.split_whitespace().map(str::parse::<u64>);
    let (low, high) = (ends.next()?.ok()?, ends.next()?.ok()?);
    Some((high + 1).saturating_sub(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_words_are_read() {
        assert_eq!(open_files("Max open files            256   4096    files\n"), Some(256));
        assert_eq!(ports("32768\t60999\n"), Some(28_232));
    }
}
