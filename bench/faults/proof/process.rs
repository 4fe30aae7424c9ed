//! Processes by number: signals, children, memory. What `/proc` and kill(1) give.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Sends a signal by name, such as `STOP`.
pub(crate) fn signal(pid: u32, name: &str) -> anyhow::Result<()> {
    let sent = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .stderr(Stdio::null())
        .status()
        .context("cannot run kill")?;
    if name != "KILL" && !sent.success() {
        bail!("process {pid} is gone: it got no {name}");
    }
    Ok(())
}

/// Numbers of the processes whose parent is `parent`.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// Most memory that a process ever held, in bytes; 0 when it is gone.
pub(crate) fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1_024
}

/// Whether we may do what only root may.
pub(crate) fn are_we_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// Where `make setup` unpacks what is not installed: beside the programs under test.
pub(crate) fn tools() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_postriderd")).ancestors().nth(2);
    folder.unwrap_or(Path::new("target")).join("tools")
}

/// A program that may be an unpacked one, whose libraries are then beside it.
pub(crate) fn with_tools(program: &Path) -> Command {
    let mut command = Command::new(program);
    if program.starts_with(tools()) {
        let folders = fs::read_dir(tools().join("usr/lib")).into_iter().flatten().flatten();
        let paths: Vec<_> = folders.map(|folder| folder.path().display().to_string()).collect();
        command.env("LD_LIBRARY_PATH", paths.join(":"));
    }
    command
}

fn parent_of(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in brackets and may hold anything.
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
