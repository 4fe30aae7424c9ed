//! [`Verifier`]: a request, held against the keys of its provider and taken apart.
//!
//! No more is read before a signature is checked than it takes to check it: of SendGrid nothing,
//! of SNS and Mailgun the envelope.

use std::time::Duration;

use hyper::HeaderMap;

use super::certificates::{Certificates, NoClient};
use super::mailgun::Body;
use super::sns::{self, Envelope, Kind};
use super::{Opened, Origin, Refusal, sendgrid, ses};
use crate::config::{Callbacks, SesCallbacks};

/// How far a provider's clock may be ahead of ours.
const AHEAD: i64 = 300;

/// Holds the keys.
#[derive(Debug)]
pub struct Verifier {
    settings: Callbacks,
    certificates: Option<Certificates>,
}

impl Verifier {
    /// By `[callbacks]`.
    pub fn new(settings: &Callbacks) -> Result<Self, NoClient> {
        let certificates = settings.ses.as_ref().map(Certificates::new).transpose()?;
        Ok(Self { settings: settings.clone(), certificates })
    }

    /// Whether this provider is listened to.
    pub const fn knows(&self, origin: Origin) -> bool {
        match origin {
            Origin::Ses => self.settings.ses.is_some(),
            Origin::SendGrid => self.settings.sendgrid.is_some(),
            Origin::Mailgun => self.settings.mailgun.is_some(),
        }
    }

    /// What a request holds. `now` is in seconds since 1970. A subscription that is wanted is
    /// confirmed on the way.
    pub async fn open(
        &self,
        origin: Origin,
        headers: &HeaderMap,
        body: &[u8],
        now: u64,
    ) -> Result<Opened, Refusal> {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        match origin {
            Origin::Ses => self.ses(body, now).await,
            Origin::SendGrid => self.sendgrid(headers, body, now),
            Origin::Mailgun => self.mailgun(body, now),
        }
    }

    async fn ses(&self, body: &[u8], now: i64) -> Result<Opened, Refusal> {
        let (settings, certificates) =
            self.settings.ses.as_ref().zip(self.certificates.as_ref()).ok_or(Refusal::NoKey)?;
        let envelope: Envelope = serde_json::from_slice(body).map_err(|_| Refusal::Malformed)?;
        let kind = envelope.kind().ok_or(Refusal::Malformed)?;
        let host = host(settings, &envelope)?;
        let key = certificates.key(&envelope.certificate(&host)?).await?;
        envelope.verify(&key)?;
        self.fresh(envelope.published_at().ok_or(Refusal::Malformed)?, now)?;
        let topic = &*envelope.topic_arn;
        match kind {
            Kind::Notification => {
                let event = ses::event(&envelope.message);
                let idle = usize::from(event.is_none());
                return Ok(Opened { events: event.into_iter().collect(), idle, token: None });
            }
            Kind::Subscription => {
                certificates.confirm(&envelope.subscription(&host)?).await?;
                tracing::info!(topic, "subscribed to a topic of SNS");
            }
            Kind::Unsubscription => {
                tracing::warn!(topic, "a topic of SNS does not tell us anything any more");
            }
        }
        Ok(Opened::default())
    }

    fn sendgrid(&self, headers: &HeaderMap, body: &[u8], now: i64) -> Result<Opened, Refusal> {
        let settings = self.settings.sendgrid.as_ref().ok_or(Refusal::NoKey)?;
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let (timestamp, signature) = header(sendgrid::TIMESTAMP)
            .zip(header(sendgrid::SIGNATURE))
            .ok_or(Refusal::Unsigned)?;
        sendgrid::verify(settings, timestamp, signature, body)?;
        self.fresh(timestamp.parse().map_err(|_| Refusal::Stale)?, now)?;
        sendgrid::open(body, self.settings.max_events as usize)
    }

    fn mailgun(&self, body: &[u8], now: i64) -> Result<Opened, Refusal> {
        let settings = self.settings.mailgun.as_ref().ok_or(Refusal::NoKey)?;
        let body = Body::read(body)?;
        let signed_at = body.verify(settings)?;
        self.fresh(signed_at, now)?;
        let stale_at = signed_at.saturating_add(seconds(self.settings.max_age));
        // Kept a little longer than it could be used, whosever clock is right.
        body.open(u64::try_from(stale_at.saturating_add(2 * AHEAD)).unwrap_or_default())
    }

    fn fresh(&self, signed_at: i64, now: i64) -> Result<(), Refusal> {
        let age = now.saturating_sub(signed_at);
        let fresh = (-AHEAD..=seconds(self.settings.max_age)).contains(&age);
        fresh.then_some(()).ok_or(Refusal::Stale)
    }
}

/// Where the keys of a message's topic lie, if that is one of ours.
fn host(settings: &SesCallbacks, envelope: &Envelope) -> Result<crate::config::Endpoint, Refusal> {
    let topic = &envelope.topic_arn;
    if !settings.topics.contains(topic) {
        return Err(Refusal::UnknownTopic);
    }
    settings.endpoint.clone().or_else(|| sns::host_of(topic)).ok_or(Refusal::UnknownTopic)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
