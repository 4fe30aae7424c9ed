//! Mail to operators, over a relay of its own (lettre): it must arrive when our own
//! delivery does not. One mail per condition and hour.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use lettre::address::Envelope;
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use sqlx::{PgPool, Row};
use tokio::sync::watch;

use crate::config::{Alarm, NoProof, Proof, Settings, TlsMode};
use crate::domain::clock::Clock;
use crate::domain::ids::SessionId;
use crate::queue::upkeep;

/// Longest time for one alarm mail.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Looks for conditions and tells operators.
#[derive(Debug, Clone)]
pub struct Alarms {
    settings: watch::Receiver<Arc<Settings>>,
    clock: Clock,
}

impl Alarms {
    /// Alarms by the `[alarm]` section in force; without one they are only logged.
    pub fn new(settings: watch::Receiver<Arc<Settings>>) -> Self {
        Self { settings, clock: Clock::System }
    }

    /// Looks at the database for what an operator must know.
    pub async fn look(&self, pool: &PgPool, session: SessionId) -> Result<(), sqlx::Error> {
        for row in sqlx::query(include_str!("sql/alarms.sql")).fetch_all(pool).await? {
            let condition: String = row.try_get("condition")?;
            let text: String = row.try_get("text")?;
            self.raise(pool, session, &condition, &text).await?;
        }
        Ok(())
    }

    /// Tells operators of `condition`, once an hour and cluster (the row in `cron_fire` is
    /// the right to).
    async fn raise(
        &self,
        pool: &PgPool,
        session: SessionId,
        condition: &str,
        text: &str,
    ) -> Result<(), sqlx::Error> {
        let hour = self.clock.unix_seconds() / 3_600 * 3_600;
        let hour = DateTime::from_timestamp(hour as i64, 0).unwrap_or_default();
        if !upkeep::may_fire(pool, &format!("alarm: {condition}"), hour, session).await? {
            return Ok(());
        }
        tracing::error!(condition, "{text}");
        metrics::counter!("postrider_alarms_total", "condition" => condition.to_owned())
            .increment(1);
        let Some(alarm) = self.settings.borrow().alarm.clone() else { return Ok(()) };
        match tokio::time::timeout(SEND_TIMEOUT, send(&alarm, condition, text)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the alarm mail could not be sent"),
            Err(_elapsed) => tracing::error!("the alarm relay does not answer"),
        }
        Ok(())
    }
}

/// Why an alarm mail was not sent.
#[derive(Debug, thiserror::Error)]
enum AlarmError {
    #[error("alarm.from or alarm.to: {0}")]
    Address(#[from] lettre::address::AddressError),
    #[error("the alarm mail cannot be built: {0}")]
    Build(#[from] lettre::error::Error),
    #[error("alarm.token_file: {0}")]
    Proof(#[from] NoProof),
    #[error("the alarm relay refused: {0}")]
    Send(#[from] lettre::transport::smtp::Error),
}

async fn send(alarm: &Alarm, condition: &str, text: &str) -> Result<(), AlarmError> {
    let mut message = Message::builder()
        .from(alarm.from.parse::<Mailbox>()?)
        .subject(format!("postrider: {condition}"));
    for to in &alarm.to {
        message = message.to(to.parse::<Mailbox>()?);
    }
    let message = message.body(format!("{text}\n"))?;
    let tls = match alarm.tls {
        TlsMode::None => Tls::None,
        TlsMode::Opportunistic => Tls::Opportunistic(TlsParameters::new(alarm.host.clone())?),
        TlsMode::Required | TlsMode::Verified => {
            Tls::Required(TlsParameters::new(alarm.host.clone())?)
        }
        TlsMode::Implicit => Tls::Wrapper(TlsParameters::new(alarm.host.clone())?),
    };
    let mut relay = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&alarm.host)
        .port(alarm.port)
        .tls(tls);
    if let Some(auth) = &alarm.auth {
        let proof = auth.proof.now()?.expose().to_owned();
        relay = relay.credentials(Credentials::new(auth.username.clone(), proof));
        if matches!(auth.proof, Proof::TokenFile(_)) {
            relay = relay.authentication(vec![Mechanism::Xoauth2]);
        }
    }
    // The null sender: nobody answers a notice, and no bounce of it makes another.
    let to = message.envelope().to().to_vec();
    let envelope = Envelope::new(None, to)?;
    relay.build().send_raw(&envelope, &message.formatted()).await?;
    Ok(())
}
