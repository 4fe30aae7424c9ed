//! Mail to operators, over a relay of its own (lettre): it must arrive when our own
//! delivery does not. One mail per condition and hour.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use parking_lot::Mutex;
use sqlx::{PgPool, Row};
use tokio::sync::watch;

use crate::config::{Alarm, Settings, TlsMode};

/// The same condition is not told again before.
const QUIET: Duration = Duration::from_secs(3600);

/// Longest time for one alarm mail.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Looks for conditions and tells operators.
#[derive(Debug, Clone)]
pub struct Alarms {
    settings: watch::Receiver<Arc<Settings>>,
    told: Arc<Mutex<HashMap<String, Instant>>>,
}

impl Alarms {
    /// Alarms by the `[alarm]` section in force; without one they are only logged.
    pub fn new(settings: watch::Receiver<Arc<Settings>>) -> Self {
        Self { settings, told: Arc::default() }
    }

    /// Looks at the database for what an operator must know.
    pub async fn look(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        for row in sqlx::query(include_str!("sql/alarms.sql")).fetch_all(pool).await? {
            let condition: String = row.try_get("condition")?;
            let text: String = row.try_get("text")?;
            self.raise(&condition, &text).await;
        }
        Ok(())
    }

    /// Tells operators of `condition`, unless it was told within the hour.
    async fn raise(&self, condition: &str, text: &str) {
        {
            let mut told = self.told.lock();
            if told.get(condition).is_some_and(|at| at.elapsed() < QUIET) {
                return;
            }
            told.insert(condition.to_owned(), Instant::now());
        }
        tracing::error!(condition, "{text}");
        metrics::counter!("postrider_alarms_total", "condition" => condition.to_owned())
            .increment(1);
        let Some(alarm) = self.settings.borrow().alarm.clone() else { return };
        match tokio::time::timeout(SEND_TIMEOUT, send(&alarm, condition, text)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the alarm mail could not be sent"),
            Err(_elapsed) => tracing::error!("the alarm relay does not answer"),
        }
    }
}

/// Why an alarm mail was not sent.
#[derive(Debug, thiserror::Error)]
enum AlarmError {
    #[error("alarm.from or alarm.to: {0}")]
    Address(#[from] lettre::address::AddressError),
    #[error("the alarm mail cannot be built: {0}")]
    Build(#[from] lettre::error::Error),
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
        relay = relay.credentials(Credentials::new(
            auth.username.clone(),
            auth.password.expose().to_owned(),
        ));
    }
    relay.build().send(message).await?;
    Ok(())
}
