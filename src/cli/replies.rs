//! `postrider replies`: what replies of receivers mean here, and those that no rule knows.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;
use serde_json::json;

use super::context::Context;
use super::error::CliError;
use super::file;
use super::print::{self, Answer, Table};
use crate::config::{Replies, ReplyRule, Settings, unit};
use crate::domain::ruling::{Orders, Ruling};
use crate::domain::verdict::{self, PeerReply, Stage};
use crate::queue::admin::action::{self, Action};
use crate::queue::unknown;
use crate::reply::read::reply;
use crate::reply::rulebook::{Fit, Rulebook};
use crate::smtp::classify;

/// What receivers' replies mean: test a reply, list unknown ones
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  postrider replies test '550 5.1.1 User unknown'")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show which rule decides a reply, and why
    ///
    /// Goes by the rules of the configuration, or by those of a file before the shipped ones.
    /// Connects to nothing.
    #[command(after_help = "\
Examples:
  postrider replies test '421 4.7.28 unusual rate of unsolicited mail' --stage dot
  postrider replies test '550 5.1.1 gone' --rules own.toml --json | jq .rule")]
    Test {
        /// The reply as the receiver said it, its lines joined
        reply: String,
        /// At which stage it came: connect, banner, ehlo, start_tls, auth, mail, rcpt, data, dot
        #[arg(long, default_value = "rcpt", value_parser = stage)]
        stage: Stage,
        /// Rules to try out before the shipped ones, instead of the configured
        #[arg(long, value_name = "FILE")]
        rules: Option<PathBuf>,
    },
    /// List replies that no rule knows, the most frequent first
    ///
    /// Addresses, hosts, ids and numbers are taken out of them; those that differ in nothing
    /// else are counted together.
    #[command(after_help = "Example:\n  postrider replies unknown --limit 20")]
    Unknown {
        /// Most to show
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=1_000))]
        limit: i64,
        /// Forget them all, once rules were made for them
        #[arg(long)]
        forget: bool,
    },
}

/// What a reply means, as shown.
#[derive(Debug, Serialize)]
struct Meaning {
    reply: String,
    stage: Stage,
    rule: Option<String>,
    place: Option<String>,
    class: &'static str,
    outcome: &'static str,
    blame: String,
    identity: Option<String>,
    suppresses: bool,
    orders: Vec<String>,
    retry_after: Option<String>,
    /// Rules further down that would fit as well.
    also: Vec<String>,
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    match args.verb {
        Verb::Test { reply: line, stage, rules } => {
            let replies = match rules {
                Some(path) => tried(&path)?,
                None => configured(context)?.replies,
            };
            test(&line, stage, &replies)
        }
        Verb::Unknown { limit, forget } => list(context, limit, forget).await,
    }
}

/// A rule can be tried out before there is a configuration.
fn configured(context: &Context) -> Result<Settings, CliError> {
    if context.is_configured() { context.settings() } else { Ok(Settings::default()) }
}

fn tried(path: &std::path::Path) -> Result<Replies, CliError> {
    let (mut rules, faults) = Replies::parse(&path.display().to_string(), &file::text(path)?);
    if !faults.is_empty() {
        let all: Vec<String> = faults.iter().map(ToString::to_string).collect();
        return Err(CliError::failed(all.join("\n")));
    }
    rules.extend(Replies::default().rules.iter().cloned());
    Ok(Replies { file: Some(path.to_owned()), rules: rules.into() })
}

fn test(line: &str, stage: Stage, replies: &Replies) -> Result<Answer, CliError> {
    let Some(reply) = reply(line) else {
        return Err(CliError::usage(format!(
            "expected a reply like \"550 5.1.1 User unknown\" with a code from 400 to 599, found {line:?}"
        )));
    };
    let book = Rulebook::new(&replies.rules)
        .map_err(|error| CliError::failed(format!("the rules cannot be used: {error}")))?;
    let judged = book.judge(stage, &reply);
    let verdict = classify::by_rules(&book, stage, reply.clone());
    let ruling = verdict.ruling.as_deref();
    let fits = book.explain(stage, &reply);
    let also = fits.iter().filter(|(_, fit)| *fit == Fit::Fits).skip(1);
    let meaning = Meaning {
        reply: reply.to_string(),
        stage,
        rule: judged.as_ref().map(|(rule, _)| rule.name.to_string()),
        place: judged.as_ref().map(|(rule, _)| rule.place.to_string()),
        class: verdict.class.as_str(),
        outcome: match verdict.finality {
            verdict::Finality::Passing => "deferred",
            verdict::Finality::Final => "bounced",
        },
        blame: blame(&verdict, ruling),
        identity: ruling.and_then(|ruling| ruling.identity.as_deref().map(Into::into)),
        suppresses: verdict.condemns_address(),
        orders: ruling.map(|ruling| orders(&ruling.orders)).unwrap_or_default(),
        retry_after: verdict.retry_after.map(unit::written),
        also: also.map(|(rule, _)| rule.name.to_string()).collect(),
    };
    let why = judged.map(|(rule, _)| why(rule, &reply));
    Answer::new(words(&meaning, why), &meaning)
}

fn words(meaning: &Meaning, why: Option<String>) -> String {
    let mut lines = vec![format!("{} at {}", meaning.reply, meaning.stage)];
    match (&meaning.rule, &meaning.place) {
        (Some(rule), Some(place)) => lines.push(format!("decided by rule {rule:?} ({place})")),
        _ => lines.push("no rule knows it: its code and its stage decide".into()),
    }
    lines.extend(why.map(|why| format!("because {why}")));
    lines.push(format!("class {}, blames {}", meaning.class, meaning.blame));
    lines.extend(meaning.identity.as_ref().map(|name| format!("it names {name}")));
    let suppressed = if meaning.suppresses { ", and its address suppressed" } else { "" };
    lines.push(format!("the delivery is {}{suppressed}", meaning.outcome));
    lines.extend(meaning.retry_after.as_ref().map(|time| format!("not tried again before {time}")));
    lines.extend(meaning.orders.iter().map(|order| format!("order: {order}")));
    if !meaning.also.is_empty() {
        lines.push(format!("would fit as well, further down: {}", meaning.also.join(", ")));
    }
    lines.join("\n")
}

fn blame(verdict: &verdict::Verdict, ruling: Option<&Ruling>) -> String {
    let named = ruling.and_then(|ruling| ruling.blame);
    named.map_or_else(|| verdict.reach.as_str().to_owned(), |blame| blame.as_str().to_owned())
}

fn why(rule: &ReplyRule, reply: &PeerReply) -> String {
    let mut reasons = Vec::new();
    if !rule.stages.is_empty() {
        reasons.push("the stage".to_owned());
    }
    if !rule.codes.is_empty() {
        reasons.push(format!("the code {}", reply.code));
    }
    if !rule.enhanced.is_empty() {
        let status =
            reply.enhanced.map_or("no status".into(), |status| format!("the status {status}"));
        reasons.push(status);
    }
    let found = rule.pattern.as_deref().and_then(|pattern| {
        let found = ReplyRule::compile(pattern).ok()?.find(reply.text.as_bytes())?;
        Some(String::from_utf8_lossy(found.as_bytes()).into_owned())
    });
    reasons.extend(found.map(|found| format!("the words {found:?}")));
    format!("of {}", reasons.join(", "))
}

fn orders(orders: &Orders) -> Vec<String> {
    let lasts = unit::written(orders.lasts);
    let flags = [
        (orders.slow, "slow down whom it blames"),
        (orders.fewer_connections, "hold fewer connections"),
        (orders.reconnect, "open a fresh connection"),
        (orders.alert, "tell the operators"),
    ];
    let mut all: Vec<String> =
        flags.into_iter().filter(|(set, _)| *set).map(|(_, text)| text.to_owned()).collect();
    all.extend(
        orders.suspend.map(|time| format!("suspend whom it blames for {}", unit::written(time))),
    );
    all.extend(orders.rate_per_hour.map(|hourly| {
        format!("at most {} for {lasts}", unit::written_rate(f64::from(hourly) / 3_600.0))
    }));
    all.extend(orders.connections.map(|n| format!("at most {n} at once for {lasts}")));
    all.extend(
        orders.messages_per_connection.map(|n| format!("at most {n} a connection for {lasts}")),
    );
    all
}

async fn list(context: &Context, limit: i64, forget: bool) -> Result<Answer, CliError> {
    // Replies are the same for all cells.
    let pool = context.home().await?;
    let rows = unknown::list(&pool, limit).await?;
    if forget {
        let mut tx = pool.begin().await?;
        let gone = unknown::forget(&mut tx).await?;
        let detail = json!({"forgotten": gone});
        let done = Action {
            actor: context.actor(),
            action: "replies forget",
            target: "unknown replies",
            reason: None,
            detail: detail.clone(),
        };
        action::record(&mut tx, &done).await?;
        tx.commit().await?;
        return Answer::new(format!("{gone} forgotten"), &detail);
    }
    let titles = ["count", "stage", "code", "reply", "first seen", "last seen", "one of them"];
    let mut table = Table::new(&titles, "every reply was known");
    for row in &rows {
        table.row([
            row.count.to_string(),
            row.stage.clone(),
            row.code.to_string(),
            row.shape.clone(),
            print::time(row.first_seen),
            print::time(row.last_seen),
            row.sample.clone(),
        ]);
    }
    Answer::new(table.text(), &rows)
}

/// Holds the configured rules to their samples: the words of every fault.
pub fn lint(settings: &Settings) -> Vec<String> {
    crate::reply::lint::lint(&settings.replies.rules).iter().map(ToString::to_string).collect()
}

fn stage(text: &str) -> Result<Stage, String> {
    let all = Stage::ALL;
    all.into_iter().find(|stage| stage.as_str() == text).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|stage| stage.as_str()).collect();
        format!("expected one of {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_explained() {
        let line = "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating \
                    from your DKIM domain [example.com 35].";
        let answer = test(line, Stage::Dot, &Replies::default()).expect("an answer");
        let words = format!("{answer:?}");
        for part in ["google-rate-dkim", "it names example.com", "slow down whom it blames"] {
            assert!(words.contains(part), "{part}: {words}");
        }
        let error = test("hello", Stage::Rcpt, &Replies::default()).expect_err("no reply");
        assert_eq!(error.code(), 2);
    }
}
