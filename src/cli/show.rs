//! A message or a delivery in words.

use std::fmt::Write;

use sqlx::PgPool;

use super::context::Context;
use super::error::CliError;
use super::print::{self, Answer, Table};
use super::trace;
use crate::domain::ids::{DeliveryId, MessageId};
use crate::queue::lookup::{Delivery, Lookup, MessageStatus};
use crate::tenant::isolation::TenantScope;

/// A message with its counts.
pub async fn message(
    context: &Context,
    pool: &PgPool,
    scope: TenantScope,
    id: MessageId,
) -> Result<Answer, CliError> {
    let status = Lookup::new(pool.clone()).message(&scope, id).await?;
    let status =
        status.ok_or_else(|| CliError::failed(format!("the tenant has no message {id}")))?;
    trace::beside(context, pool, scope, id, message_words(&status), &status).await
}

/// A delivery with every attempt.
pub async fn delivery(
    context: &Context,
    pool: &PgPool,
    scope: TenantScope,
    id: DeliveryId,
) -> Result<Answer, CliError> {
    let delivery = Lookup::new(pool.clone()).delivery(&scope, id).await?;
    let delivery =
        delivery.ok_or_else(|| CliError::failed(format!("the tenant has no delivery {id}")))?;
    let words = delivery_words(&delivery);
    trace::beside(context, pool, scope, delivery.message_id, words, &delivery).await
}

fn message_words(message: &MessageStatus) -> String {
    let counts = message.deliveries;
    let mut lines = vec![
        format!("message     {}", message.id),
        format!("from        {}", print::or_dash(message.from.as_ref())),
        format!("subject     {}", print::or_dash(message.subject.as_ref())),
        format!("stream      {}", message.stream),
        format!("submitted   {}", print::time(message.created_at)),
        format!("expires     {}", print::time(message.expires_at)),
    ];
    lines.extend(message.send_at.map(|at| format!("not before  {}", print::time(at))));
    lines.extend(message.cancelled_at.map(|at| format!("cancelled   {}", print::time(at))));
    lines.push(format!(
        "recipients  {} accepted, {} suppressed at submission",
        message.accepted, message.suppressed
    ));
    for (state, count) in [
        ("queued", counts.queued),
        ("scheduled", counts.scheduled),
        ("sending", counts.sending),
        ("deferred", counts.deferred),
        ("delivered", counts.delivered),
        ("bounced", counts.bounced),
        ("expired", counts.expired),
        ("suppressed", counts.suppressed),
        ("cancelled", counts.cancelled),
        ("dead letters", counts.dead_lettered),
    ] {
        if count > 0 {
            lines.push(format!("  {state:12}  {count}"));
        }
    }
    lines.join("\n")
}

fn delivery_words(delivery: &Delivery) -> String {
    let mut text = format!(
        "delivery  {}\nmessage   {}\nto        {}\nstate     {}, {} attempts\nexpires   {}",
        delivery.id,
        delivery.message_id,
        delivery.to,
        delivery.state.as_str(),
        delivery.attempts,
        print::time(delivery.expires_at),
    );
    // Writing to a String cannot fail.
    if let Some(at) = delivery.next_at {
        let _ = write!(text, "\nnext try  {}", print::time(at));
    }
    if let Some(dead) = &delivery.dead_letter {
        let detail = dead.detail.as_deref().unwrap_or("-");
        let _ = write!(text, "\ndead      {}: {detail}", dead.reason);
    }
    let titles = ["at", "attempt", "outcome", "code", "host", "stage", "said"];
    let mut table = Table::new(&titles, "nothing was tried yet");
    for attempt in &delivery.history {
        let detail = |key: &str| {
            print::or_dash(attempt.detail.get(key).map(|value| match value.as_str() {
                Some(text) => text.to_owned(),
                None => value.to_string(),
            }))
        };
        let said =
            if attempt.detail.contains_key("reply") { detail("reply") } else { detail("cause") };
        let outcome = serde_json::to_value(attempt.outcome).unwrap_or_default();
        let doubt = if attempt.in_doubt { " (in doubt)" } else { "" };
        table.row([
            print::time(attempt.at),
            attempt.attempt.to_string(),
            format!("{}{doubt}", outcome.as_str().unwrap_or("-")),
            print::or_dash(attempt.code),
            detail("host"),
            detail("stage"),
            said,
        ]);
    }
    format!("{text}\n\n{}", table.text())
}
