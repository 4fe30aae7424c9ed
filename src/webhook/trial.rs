//! Trying an endpoint at once, with an event that never happened: `test`.

use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::{PgConnection, Row};

use super::outcome::Answer;
use super::secret::WebhookSecret;
use super::sender::Sender;
use super::turn::message;
use crate::domain::ids::{TenantId, WebhookId};
use crate::event::payload::Event;
use crate::tenant::seal::{SealError, Sealer};

/// Longest wait for a place among the requests of this process.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trial {
    /// Whether the endpoint took it.
    pub taken: bool,
    /// What it answered, in words.
    pub answer: String,
    /// How long it took.
    pub took_ms: u64,
}

/// An endpoint with what is needed to ask it.
#[derive(Debug)]
pub(super) struct Target {
    tenant: TenantId,
    webhook: WebhookId,
    url: String,
    batch: usize,
    sealed: Vec<Vec<u8>>,
}

/// The endpoint, if the tenant has it. The connection must see its rows.
pub(super) async fn target(
    conn: &mut PgConnection,
    tenant: TenantId,
    webhook: WebhookId,
) -> Result<Option<Target>, sqlx::Error> {
    let row = sqlx::query(
        "select w.url, w.batch, array(
           select s.sealed from postrider.webhook_secret s
           where s.webhook_id = w.webhook_id and (s.retire_at is null or s.retire_at > now())
           order by s.secret_id desc limit 5) as secrets
         from postrider.webhook w where w.tenant_id = $1 and w.webhook_id = $2",
    )
    .bind(tenant.get())
    .bind(webhook.get())
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        Ok(Target {
            tenant,
            webhook,
            url: row.try_get("url")?,
            batch: row.try_get::<i32, _>("batch")?.max(1) as usize,
            sealed: row.try_get("secrets")?,
        })
    })
    .transpose()
}

/// Sends one event of the type `test`, as the endpoint would get any other. It changes nothing.
pub(super) async fn try_target(
    sender: &Sender,
    sealer: &Sealer,
    target: &Target,
) -> Result<Trial, SealError> {
    let open =
        |sealed: &Vec<u8>| WebhookSecret::open(sealer, target.tenant, target.webhook, sealed);
    let secrets: Vec<WebhookSecret> = target.sealed.iter().map(open).collect::<Result<_, _>>()?;
    let event = Event::test(target.webhook, sender.now_ms());
    let started = Instant::now();
    let answer = match (sender.place(started + PATIENCE).await, message(&[&event], target.batch)) {
        (Some(_place), Some((id, body))) => sender.post(&target.url, &secrets, &id, body).await,
        _ => Answer::Unreached { why: "too many requests are on their way; try again".into() },
    };
    Ok(Trial {
        taken: answer.is_taken(),
        answer: answer.to_string(),
        took_ms: started.elapsed().as_millis() as u64,
    })
}
