//! The table: a row for each case, as it is also kept in docs/reliability.md.

use std::fmt;
use std::time::Duration;

use super::auditor::Findings;

/// All runs of one case.
#[derive(Debug)]
pub(crate) struct Row {
    name: &'static str,
    fault: &'static str,
    runs: u32,
    accepted: usize,
    lost: usize,
    duplicated: usize,
    in_doubt: usize,
    recoveries: Vec<Duration>,
    failing: Vec<u64>,
    not_run: Option<String>,
}

impl Row {
    /// No runs yet.
    pub(crate) fn new(name: &'static str, fault: &'static str) -> Self {
        Self {
            name,
            fault,
            runs: 0,
            accepted: 0,
            lost: 0,
            duplicated: 0,
            in_doubt: 0,
            recoveries: Vec::new(),
            failing: Vec::new(),
            not_run: None,
        }
    }

    /// One more run.
    pub(crate) fn add(&mut self, seed: u64, findings: &Findings, recoveries: &[Duration]) {
        self.runs += 1;
        self.accepted += findings.accepted;
        self.lost += findings.lost;
        self.duplicated += findings.duplicated;
        self.in_doubt += findings.in_doubt;
        self.recoveries.extend_from_slice(recoveries);
        if !findings.violations.is_empty() {
            self.failing.push(seed);
        }
    }

    /// A run that could not be carried to its end.
    pub(crate) fn failed(&mut self, seed: u64) {
        self.runs += 1;
        self.failing.push(seed);
    }

    /// It cannot be run here.
    pub(crate) fn not_run(&mut self, why: String) {
        self.not_run = Some(why);
    }

    /// Whether a promise was broken.
    pub(crate) fn is_broken(&self) -> bool {
        !self.failing.is_empty()
    }

    fn recovery(&self) -> String {
        let mut sorted = self.recoveries.clone();
        sorted.sort_unstable();
        match sorted.as_slice() {
            [] => "-".into(),
            [.., most] => {
                let middle = sorted[sorted.len() / 2];
                format!("{:.1} / {:.1} s", middle.as_secs_f64(), most.as_secs_f64())
            }
        }
    }

    fn verdict(&self) -> String {
        match (&self.not_run, self.failing.as_slice()) {
            (Some(why), _) => format!("NOT RUN: {why}"),
            (None, []) => "holds".into(),
            (None, seeds) => format!("BROKEN, seeds {seeds:?}"),
        }
    }
}

/// The whole table.
pub(crate) struct Table<'a>(pub(crate) &'a [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| case | fault | runs | accepted | lost | duplicated | in doubt | recovery p50 / max | verdict |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        for row in self.0 {
            writeln!(
                f,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                row.name,
                row.fault,
                row.runs,
                row.accepted,
                row.lost,
                row.duplicated,
                row.in_doubt,
                row.recovery(),
                row.verdict()
            )?;
        }
        Ok(())
    }
}
