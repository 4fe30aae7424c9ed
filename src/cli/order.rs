//! `postrider queue pause`, `resume`, `cancel` and `move`: what is asked, done, and said.

use std::time::Duration;

use super::context::Context;
use super::error::CliError;
use super::lanes::Lanes;
use super::print::Answer;
use crate::cell::Cell;
use crate::config::unit;
use crate::queue::admin::order::Order;
use crate::queue::admin::target::known_route;
use crate::queue::admin::{cancel, detour, pause, relocate};

/// Holding back.
#[derive(Debug, clap::Args)]
pub struct Pause {
    #[command(flatten)]
    lanes: Lanes,
    /// Why: shown to whoever looks at the queue
    #[arg(long)]
    reason: String,
    /// How long, like 30m, 2h or 1d; without it until `queue resume`
    #[arg(long = "for", value_parser = duration)]
    time: Option<Duration>,
    /// Show what would be held back, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Letting go.
#[derive(Debug, clap::Args)]
pub struct Resume {
    #[command(flatten)]
    lanes: Lanes,
}

/// Calling back.
#[derive(Debug, clap::Args)]
pub struct Recall {
    #[command(flatten)]
    pub(super) lanes: Lanes,
    /// Why: shown to whoever looks at the queue; needed for lanes
    #[arg(long)]
    pub(super) reason: Option<String>,
    /// Show what would be called back, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// Taking mail elsewhere.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("where").required(true).args(["to_stream", "to_route", "back"])))]
pub struct Move {
    #[command(flatten)]
    lanes: Lanes,
    /// Into another stream of the tenant: what waits now, row by row; what comes later is not moved
    #[arg(long, value_name = "STREAM", requires = "tenant")]
    to_stream: Option<String>,
    /// By another route, for the time of --for: what waits and what comes
    #[arg(long, value_name = "ROUTE", requires = "time")]
    to_route: Option<String>,
    /// End a move by --to-route of the same mail before its time
    #[arg(long)]
    back: bool,
    /// How long, like 30m, 2h or 1d
    #[arg(long = "for", value_parser = duration)]
    time: Option<Duration>,
    /// Why: shown to whoever looks at the queue
    #[arg(long, required_unless_present_any = ["back", "dry_run"])]
    reason: Option<String>,
    /// Show what would be moved, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Pause {
    /// Whether the arguments make sense together.
    pub fn check(&self) -> Result<(), CliError> {
        self.lanes.check()
    }
}

impl Resume {
    /// Whether the arguments make sense together.
    pub fn check(&self) -> Result<(), CliError> {
        self.lanes.check()
    }
}

impl Recall {
    /// Whether the arguments make sense together.
    pub fn check(&self) -> Result<(), CliError> {
        self.lanes.check()?;
        if self.lanes.route().is_some() {
            return Err(CliError::usage(
                "mail is not accepted for a route, so it cannot be called back by one: name a \
                 tenant, stream, mailbox provider or lane",
            ));
        }
        if self.reason.is_none() && !self.dry_run {
            return Err(CliError::usage("say why: --reason"));
        }
        Ok(())
    }
}

impl Move {
    /// Whether the arguments make sense together.
    pub fn check(&self) -> Result<(), CliError> {
        self.lanes.check()?;
        if self.to_stream.is_some() && self.lanes.route().is_some() {
            return Err(CliError::usage(
                "--to-stream takes what waits, which is in no route yet: leave out --route",
            ));
        }
        Ok(())
    }
}

/// `queue pause`
pub async fn pause(args: Pause, context: &Context) -> Result<Answer, CliError> {
    let Pause { lanes, reason, time, dry_run } = args;
    if dry_run {
        return lanes.dry_run(context, "pause").await;
    }
    let name = lanes.name();
    let seconds = time.map(|time| time.as_secs());
    for Cell { pool, .. } in lanes.cells(context).await? {
        let target = lanes.target(&pool, context).await?;
        let detail = serde_json::json!({"seconds": seconds});
        let order = ordered(context, "queue pause", &name, &reason, detail);
        pause::pause(&pool, &target, time.map(|time| time.as_secs_f64()), order).await?;
    }
    let until =
        time.map_or("until resumed".to_owned(), |time| format!("for {}", unit::written(time)));
    let facts = serde_json::json!({"paused": name, "reason": reason, "seconds": seconds});
    Answer::new(format!("{name} is held back {until}"), &facts)
}

/// `queue resume`
pub async fn resume(args: Resume, context: &Context) -> Result<Answer, CliError> {
    let name = args.lanes.name();
    let mut held = false;
    for Cell { pool, .. } in args.lanes.cells(context).await? {
        let target = args.lanes.target(&pool, context).await?;
        let order = ordered(context, "queue resume", &name, "", serde_json::Value::Null);
        held |= pause::resume(&pool, &target, order).await?;
    }
    let words = if held {
        format!("{name} goes on")
    } else {
        format!("{name} was not held back; see `postrider queue status`")
    };
    Answer::new(words, &serde_json::json!({"resumed": name, "was_paused": held}))
}

/// `queue cancel` of lanes
pub async fn cancel(args: Recall, context: &Context) -> Result<Answer, CliError> {
    let Recall { lanes, reason, dry_run } = args;
    if dry_run {
        return lanes.dry_run(context, "cancel").await;
    }
    let reason = reason.unwrap_or_default();
    let name = lanes.name();
    let mut count = 0;
    for Cell { pool, .. } in lanes.cells(context).await? {
        let target = lanes.target(&pool, context).await?;
        let order = ordered(context, "queue cancel", &name, &reason, serde_json::Value::Null);
        count += cancel::cancel(&pool, &target, order).await?;
    }
    let words = format!(
        "everything of {name} that was accepted until now is called back, in {count} lanes; what is \
         in hand may still go out. See `postrider queue status`"
    );
    let facts = serde_json::json!({"cancelled": name, "lanes": count, "reason": reason});
    Answer::new(words, &facts)
}

/// `queue move`
pub async fn relocate(args: Move, context: &Context) -> Result<Answer, CliError> {
    let Move { lanes, to_stream, to_route, back, time, reason, dry_run } = args;
    let settings = context.settings()?;
    if let Some(route) = &to_route {
        known_route(&settings, route)?;
    }
    if dry_run {
        return lanes.dry_run(context, "move").await;
    }
    let cells = lanes.cells(context).await?;
    let (name, reason) = (lanes.name(), reason.unwrap_or_default());
    match (to_stream, to_route, time) {
        (Some(stream), ..) => {
            let tenant = lanes.tenant().unwrap_or_default();
            let (Cell { pool, .. }, scope) = context.scope_of_tenant(tenant).await?;
            let target = lanes.target(&pool, context).await?;
            let detail = serde_json::json!({"to_stream": stream});
            let order = ordered(context, "queue move", &name, &reason, detail);
            let configured = settings.streams.contains_key(&stream);
            let moved =
                relocate::relocate(&pool, scope, &target, &stream, configured, order).await?;
            let words = format!(
                "{} deliveries of {name} were moved to stream {tenant}/{stream}, from {} lanes; what \
                 is in hand stays",
                moved.deliveries, moved.lanes
            );
            let facts = serde_json::json!({
                "moved": name, "to_stream": stream, "deliveries": moved.deliveries,
                "lanes": moved.lanes, "reason": reason,
            });
            Answer::new(words, &facts)
        }
        (None, Some(route), Some(time)) => {
            for Cell { pool, .. } in cells {
                let target = lanes.target(&pool, context).await?;
                let detail = serde_json::json!({"to_route": route, "seconds": time.as_secs()});
                let order = ordered(context, "queue move", &name, &reason, detail);
                detour::begin(&pool, &target, route.clone(), time.as_secs_f64(), order).await?;
            }
            let words = format!("{name} takes route {route} for {}", unit::written(time));
            let facts = serde_json::json!({
                "moved": name, "to_route": route, "seconds": time.as_secs(), "reason": reason,
            });
            Answer::new(words, &facts)
        }
        _ => {
            debug_assert!(back, "one of three is given");
            let mut was = false;
            for Cell { pool, .. } in cells {
                let target = lanes.target(&pool, context).await?;
                let order =
                    ordered(context, "queue move back", &name, &reason, serde_json::Value::Null);
                was |= detour::back(&pool, &target, order).await?;
            }
            let words = if was {
                format!("{name} takes the routes of the configuration again")
            } else {
                format!("{name} was not moved to a route; see `postrider queue status`")
            };
            Answer::new(words, &serde_json::json!({"moved_back": name, "was_moved": was}))
        }
    }
}

fn ordered(
    context: &Context,
    action: &'static str,
    target: &str,
    reason: &str,
    detail: serde_json::Value,
) -> Order {
    Order {
        actor: context.actor().to_owned(),
        action,
        target: target.to_owned(),
        reason: reason.to_owned(),
        detail,
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    unit::duration(text)
        .filter(|time| !time.is_zero())
        .ok_or_else(|| format!("expected a time like 30m, 2h or 1d, found {text:?}"))
}
