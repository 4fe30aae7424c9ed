//! The raw reports that are kept: list them, show one.

use super::super::context::Context;
use super::super::error::CliError;
use super::super::print::{self, Answer, Table};
use crate::domain::ids::DeliveryId;
use crate::inbound::store::{self, Listed};

/// Most bytes of a mail that are shown; all of them with `--json`.
const SHOWN: usize = 64 << 10;

/// Lists the newest.
pub(super) async fn list(
    context: &Context,
    delivery: Option<DeliveryId>,
    before: Option<i64>,
    limit: i64,
) -> Result<Answer, CliError> {
    let mut rows = Vec::new();
    for cell in context.cells().await? {
        rows.extend(store::list(&cell.pool, delivery, before, limit).await?);
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.report_id));
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let mut table = Table::new(
        &["report", "received", "for", "delivery", "from", "bytes", "kind", "outcome"],
        "no reports are kept",
    );
    for row in &rows {
        table.row(cells(row));
    }
    Answer::new(table.text(), &rows)
}

/// Shows one with its mail.
pub(super) async fn show(context: &Context, report: i64) -> Result<Answer, CliError> {
    for cell in context.cells().await? {
        let Some((listed, raw)) = store::show(&cell.pool, report).await? else { continue };
        let text = String::from_utf8_lossy(&raw);
        let cut: String = text.chars().take(SHOWN).collect();
        let words = format!(
            "report {report} of {}, for {} {}\nfrom <{}> by {}, {} bytes\n{}: {}\n{}\n\n{}",
            print::time(listed.received_at),
            listed.purpose,
            print::or_dash(listed.job_id.map(DeliveryId::new)),
            listed.sender,
            listed.peer,
            listed.size,
            print::or_dash(listed.kind.as_deref()),
            listed.outcome.as_deref().unwrap_or("waits"),
            listed.findings.as_deref().unwrap_or_default(),
            cut.replace('\r', ""),
        );
        return Answer::new(words, &serde_json::json!({"report": listed, "mail": text}));
    }
    Err(CliError::failed(format!("no report {report} is kept: see `postrider report list`")))
}

fn cells(row: &Listed) -> [String; 8] {
    [
        row.report_id.to_string(),
        print::time(row.received_at),
        row.purpose.clone(),
        print::or_dash(row.job_id.map(DeliveryId::new)),
        if row.sender.is_empty() { "<>".into() } else { row.sender.clone() },
        row.size.to_string(),
        print::or_dash(row.kind.as_deref()),
        row.outcome.clone().unwrap_or_else(|| "waits".into()),
    ]
}
