//! Promise: what the documents tell somebody to type, works: the tool takes every command line as
//! it is written, every target of make exists, and what only reads is done on a real installation.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::support::builders;
use crate::support::command::{bare, ran};
use crate::support::installation::Installation;
use crate::support::shell;
use crate::support::shell::Written;
use clap::Parser as _;
use clap::error::ErrorKind;
use postrider::cli::Cli;
use serde_json::Value;
use sqlx::Row as _;

/// What stands for something of the reader's own, and what is put in its place.
const PLACES: [(&str, &str); 14] = [
    ("dlv_…", "dlv_0R8KQW3YD4X1M"),
    ("msg_…", "msg_0R8KQW3YD4X1M"),
    ("whk_…", "whk_0S9NJSNNG001N"),
    ("TENANT", "shop"),
    ("YOU", "shop"),
    ("NAME", "shop"),
    ("DOMAIN", "shop.example"),
    ("NUMBER", "7"),
    ("N", "7"),
    ("ID", "provider-id-7"),
    ("TIME", "2026-03-01T10:00:00Z"),
    ("PRICE", "0.04"),
    ("$n", "1000000"),
    ("…", "x"),
];

/// Commands that only look: done on an installation, with the code they must end with.
const READS: [&str; 18] = [
    "audit",
    "config check",
    "config diff",
    "config show",
    "cost",
    "dead-letter list",
    "doubt list",
    "queue status",
    "replies test",
    "replies unknown",
    "report list",
    "secret status",
    "suppression show",
    "tenant health",
    "throttle show",
    "webhook list",
    "why",
    "version",
];

/// Commands that change something, ask the world outside, or need something that is rarely there:
/// they are parsed here, and done in the tests of what they do.
const OTHERS: [&str; 26] = [
    "dead-letter show",
    "doctor",
    "domain add",
    "domain return-path",
    "doubt resolve",
    "key create",
    "migrate up",
    "queue cancel",
    "queue move",
    "queue pause",
    "queue resume",
    "recover",
    "reload",
    "tenant create",
    "webhook create",
    "webhook disable",
    "webhook replay",
    "webhook test",
    "dead-letter replay",
    "suppression add",
    "suppression export",
    "suppression import",
    "suppression rehash",
    "suppression remove",
    "throttle clear",
    "throttle set",
];

/// The words after the tool's name, with something in every place.
fn arguments(written: &Written) -> Option<Vec<String>> {
    let tool = |word: &String| word == "postrider" || word == "/usr/bin/postrider";
    let from = written.words.iter().position(tool)?;
    let mut arguments: Vec<String> = Vec::new();
    for word in written.words.iter().skip(from + 1) {
        // "…" alone is the rest; after an option it is the option's value.
        let is_value = arguments.last().is_some_and(|last| last.starts_with("--"));
        if word == "…" && !is_value {
            continue;
        }
        let place = PLACES.iter().find(|(place, _)| place == word);
        arguments.push(place.map_or_else(|| word.clone(), |(_, real)| (*real).to_owned()));
    }
    Some(arguments)
}

/// `queue status` of `queue status --json`.
fn verb(arguments: &[String]) -> Option<&'static str> {
    READS.into_iter().chain(OTHERS).find(|verb| {
        let mut words = verb.split(' ');
        words.all(|word| arguments.iter().any(|argument| argument == word))
            && arguments.first().is_some_and(|first| verb.split(' ').next() == Some(first))
    })
}

#[test]
fn the_tool_takes_every_command_line_as_it_is_written() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for written in shell::commands() {
        let Some(arguments) = arguments(&written) else { continue };
        seen += 1;
        let shortened = !written.whole || written.words.iter().any(|word| word.contains('…'));
        let line = std::iter::once("postrider".to_owned()).chain(arguments);
        let Err(error) = Cli::try_parse_from(line) else { continue };
        let is_incomplete = matches!(
            error.kind(),
            ErrorKind::MissingRequiredArgument
                | ErrorKind::MissingSubcommand
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        );
        let asks_for_help = error.kind() == ErrorKind::DisplayHelp;
        let is_fine = asks_for_help || (shortened && is_incomplete);
        if !is_fine {
            wrong.push(format!("{}: {}\n    {error}", written.at, written.text()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 150, "{seen} command lines are in the documents: where are the others?");
}

#[test]
fn every_target_of_make_exists() {
    let makefile = Path::new(env!("CARGO_MANIFEST_DIR")).join("Makefile");
    let makefile = fs::read_to_string(makefile).expect("read");
    let targets: Vec<&str> = makefile
        .lines()
        .filter(|line| !line.starts_with(['\t', '.', ' ', '#']))
        .filter_map(|line| Some(line.split_once(':')?.0))
        .collect();
    assert!(targets.contains(&"test"), "{targets:?}");
    let mut seen = 0;
    for written in shell::commands() {
        let Some(("make", rest)) =
            written.words.split_first().map(|(first, rest)| (&**first, rest))
        else {
            continue;
        };
        for word in rest.iter().filter(|word| !word.contains('=')) {
            seen += 1;
            assert!(targets.contains(&word.as_str()), "{}: make {word}", written.at);
        }
    }
    assert!(seen > 15, "{seen} targets are in the documents: where are the others?");
}

/// What the documents' names stand for in a real installation.
struct Real {
    config: String,
    probes: SocketAddr,
    delivery: String,
    message: String,
}

impl Real {
    fn of(&self, word: &str) -> String {
        match word {
            word if word.contains("postrider.toml") => self.config.clone(),
            word if word.starts_with("dlv_") => self.delivery.clone(),
            word if word.starts_with("msg_") => self.message.clone(),
            word => word.replace("127.0.0.1:9025", &self.probes.to_string()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_reads_is_done_on_a_real_installation() {
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "shop").await;
    let config = home.configure("");
    let daemon = home.daemon(&config).await;
    let message = builders::submit(
        &home.api,
        tenant,
        "shop",
        "transactional",
        &["ann@example.org".to_owned()],
    )
    .await;
    home.drained(&daemon).await;
    daemon.metric_appears("postrider_cpu_seconds").await;
    daemon.scale_becomes("there", Value::is_object).await;
    let delivery: i64 = sqlx::query_scalar("select job_id from postrider.job")
        .fetch_one(&home.owner)
        .await
        .expect("the delivery");
    let real = Real {
        config: config.to_str().expect("UTF-8").to_owned(),
        probes: daemon.probes(),
        delivery: postrider::domain::ids::DeliveryId::new(delivery).to_string(),
        message: message.to_string(),
    };

    let mut wrong = Vec::new();
    let mut done = [0; 3];
    for written in shell::commands().into_iter().filter(|written| written.whole) {
        let fault = if let Some(arguments) = arguments(&written) {
            match verb(&arguments) {
                Some(verb) if READS.contains(&verb) => {
                    done[0] += 1;
                    read(&arguments, &real)
                }
                Some(_) => Ok(()),
                None => Err("say in this test whether it only reads".to_owned()),
            }
        } else if written.words.first().is_some_and(|first| first == "psql") {
            done[1] += 1;
            asked(&written, &home).await
        } else if written.words.first().is_some_and(|first| first == "curl")
            || written.reads.as_ref().is_some_and(|from| from.first().is_some_and(|c| c == "curl"))
        {
            done[2] += 1;
            fetched(&written, &real).await
        } else {
            Ok(())
        };
        if let Err(fault) = fault {
            wrong.push(format!("{}: {}\n    {fault}", written.at, written.text()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(done[0] > 30 && done[1] > 5 && done[2] > 10, "{done:?} were done");
}

/// Runs the tool; it must end well.
fn read(arguments: &[String], real: &Real) -> Result<(), String> {
    let words: Vec<String> = arguments.iter().map(|word| real.of(word)).collect();
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.extend(["--config", &real.config]);
    let ran = ran(&bare(&words).output().expect("run postrider"));
    if ran.code == 0 { Ok(()) } else { Err(format!("code {}: {}{}", ran.code, ran.out, ran.err)) }
}

/// Asks the database what `psql -c` would.
async fn asked(written: &Written, home: &Installation) -> Result<(), String> {
    let at = written.words.iter().position(|word| word == "-c").ok_or("psql without -c")?;
    let question = written.words.get(at + 1).ok_or("psql -c without a question")?;
    let rows = sqlx::query(sqlx::AssertSqlSafe(question.clone()))
        .fetch_all(&home.owner)
        .await
        .map_err(|error| error.to_string())?;
    // Whatever came is readable as rows.
    if rows.iter().any(|row| row.columns().is_empty()) { Err("no columns".into()) } else { Ok(()) }
}

/// Fetches a page of the daemon, and what `jq` picks of it.
async fn fetched(written: &Written, real: &Real) -> Result<(), String> {
    let curl = written.reads.as_ref().unwrap_or(&written.words);
    let Some(url) = curl.iter().find(|word| word.starts_with("http://127.0.0.1:9025")) else {
        return Ok(());
    };
    let answer = reqwest::get(real.of(url)).await.map_err(|error| error.to_string())?;
    if !answer.status().is_success() {
        return Err(format!("{url} answers {}", answer.status()));
    }
    let Some(filter) = written.words.get(1).filter(|_| written.words[0] == "jq") else {
        return Ok(());
    };
    let body: Value = answer.json().await.map_err(|error| error.to_string())?;
    let paths = regex::Regex::new(r"(?:\.[a-z_]+)+").expect("a pattern");
    for path in paths.find_iter(filter) {
        let pointer = path.as_str().replace('.', "/");
        if body.pointer(&pointer).is_none() {
            return Err(format!("{} is not in {body:#}", path.as_str()));
        }
    }
    Ok(())
}
