//! `postrider tenant health`: how receivers take a tenant's mail.

use super::context::Context;
use super::error::CliError;
use super::print::{self, Answer, Table, Verdict};
use crate::health::figures::Acting;
use crate::health::judge::percent;
use crate::health::standing::{self, StreamHealth};

/// Whose.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The tenant
    name: String,
}

/// Runs the command. A stream that is held back makes the exit code 1.
pub(super) async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    let Args { name } = args;
    let (cell, scope) = context.scope_of_tenant(&name).await?;
    let limits = context.settings()?.health.clone();
    let health = standing::of(&cell.pool, scope, Acting::Operator, &name, &limits).await?;
    let mut words: Vec<String> = health.streams.iter().map(|one| stream(&name, one)).collect();
    if words.is_empty() {
        words.push(format!("nothing of {name} was sent within the longest window"));
    }
    let stopped = health.streams.iter().any(|stream| stream.level == "stopped");
    let verdict = if stopped { Verdict::Bad } else { Verdict::Fine };
    Ok(Answer::new(words.join("\n\n"), &health)?.with_verdict(verdict))
}

fn stream(tenant: &str, health: &StreamHealth) -> String {
    let limits = &health.limits;
    let mut words = format!("stream {}: {}", health.stream, health.level);
    let mut say = |text: String| {
        words.push('\n');
        words.push_str(&text);
    };
    if let (Some(since), true) = (health.since, health.level != "well") {
        say(format!("  since {}", print::time(since)));
    }
    if let Some(reason) = &health.reason {
        say(format!("  {reason}"));
    }
    if health.level == "stopped" {
        say(format!(
            "  let it go: postrider queue resume --tenant {tenant} --stream {}",
            health.stream
        ));
    }
    if let Some(from) = health.counted_from {
        say(format!("  counted from {}, when an operator let it go", print::time(from)));
    }
    say(format!(
        "  limits from {} mails on: bounces {} and {}, complaints {} and {}{}",
        limits.minimum,
        percent(limits.bounce_warn),
        percent(limits.bounce_stop),
        percent(limits.complaint_warn),
        percent(limits.complaint_stop),
        if limits.pause { "" } else { "; it is not held back" }
    ));
    let titles = [
        "window",
        "mailbox provider",
        "sent",
        "bounced",
        "rate",
        "complained",
        "rate",
        "refused otherwise",
    ];
    let mut table = Table::new(&titles, "nothing was sent");
    for line in &health.figures {
        table.row([
            line.window.clone(),
            line.mailbox_provider.clone().unwrap_or_else(|| "all".into()),
            line.sent.to_string(),
            line.bounced.to_string(),
            percent(line.bounce_rate),
            line.complained.to_string(),
            percent(line.complaint_rate),
            line.refused.to_string(),
        ]);
    }
    say(table.text());
    words
}
