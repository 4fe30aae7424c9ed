//! One letter, one plan whose route leads to a provider: one request.
//!
//! ```text
//! fit? ─► key ─► may begin? ─► ask ─► 2xx: receipt, with the provider's id
//!   │      │         │          ├──► 4xx: refused: recipient, message, sender or route
//! refuse unreached postpone     ├──► 5xx, or silence after the whole request: in doubt
//!                               └──► lost before that: unreached
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::Method;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::aws::{Keys, NoKey};
use super::classify::{self, Meaning};
use super::http::{Answer, Ask, Http, HttpFault, Lost};
use super::metrics::Metrics;
use super::{mailgun, parts, sendgrid, ses, sigv4};
use crate::config::{Provider, Service};
use crate::domain::clock::Clock;
use crate::domain::ids::DeliveryId;
use crate::domain::outcome::{Outcome, WaitReason};
use crate::domain::receipt::{Receipt, Trail};
use crate::domain::trace::Notes;
use crate::domain::verdict::{Class, Stage};
use crate::message::letter::Letter;
use crate::route::plan::RoutePlan;
use crate::telemetry::traces;

/// The carrier to providers; one for the whole daemon.
pub struct Providers {
    /// By route.
    accounts: Mutex<HashMap<Arc<str>, Arc<Account>>>,
    clock: Clock,
}

/// One attempt, ended.
#[derive(Debug)]
pub struct Delivery {
    /// Which way it went, as far as it came.
    pub trail: Trail,
    /// The receipt, or how else it ended.
    pub result: Result<Receipt, Outcome>,
}

/// A provider as configured, with its connections.
struct Account {
    provider: Arc<Provider>,
    http: Http,
    /// Only for requests to AWS.
    keys: Option<Keys>,
    /// Requests that may be under way at once.
    requests: Semaphore,
}

/// What is submitted.
#[derive(Debug, Clone, Copy)]
pub struct Mail<'a> {
    /// Which delivery it is: the provider keeps it beside the mail, so that its reports can be
    /// told apart.
    pub delivery: DeliveryId,
    /// The letter.
    pub letter: &'a Letter,
}

impl Default for Providers {
    fn default() -> Self {
        Metrics::describe();
        Self { accounts: Mutex::default(), clock: Clock::System }
    }
}

impl Providers {
    /// Makes the plan's one request. `may_begin` is asked when everything is at hand and
    /// nothing was sent, and may end the attempt.
    pub async fn deliver_while(
        &self,
        may_begin: &(dyn Fn() -> Result<(), Outcome> + Sync),
        mail: Mail<'_>,
        plan: &RoutePlan,
        provider: &Arc<Provider>,
    ) -> Delivery {
        let started = Instant::now();
        let mut trail = Trail {
            route: Some(Arc::clone(&plan.route)),
            host: Some(provider.endpoint.host.as_str().into()),
            notes: Notes::new(traces::are_on()),
            ..Trail::default()
        };
        let result = self.submit(may_begin, mail, plan, provider, &mut trail).await;
        trail.took = started.elapsed();
        Delivery { trail, result }
    }

    async fn submit(
        &self,
        may_begin: &(dyn Fn() -> Result<(), Outcome> + Sync),
        mail: Mail<'_>,
        plan: &RoutePlan,
        provider: &Arc<Provider>,
        trail: &mut Trail,
    ) -> Result<Receipt, Outcome> {
        fits(&provider.service, mail.letter)?;
        let account = self.account(&plan.route, provider).map_err(|fault| {
            let cause = crate::domain::verdict::Cause::Tls(fault.to_string());
            classify::silence(Lost { stage: Stage::StartTls, cause, whole: false })
        })?;
        let ask = account.request(mail, &self.clock).await?;
        // More are let through to a provider than may be asked at once, as to a host.
        let turn = timeout(PATIENCE, account.requests.acquire()).await;
        let _turn = turn.map_err(|_late| Outcome::Postponed {
            delay: PATIENCE,
            reason: WaitReason::Connections,
        })?;
        may_begin()?;
        trail.notes.mark("asked");
        let (within, endpoint) = (provider.request_timeout, &provider.endpoint);
        let answer = account.http.ask(endpoint, ask, within).await.map_err(classify::silence)?;
        trail.notes.mark("answered");
        if (200..300).contains(&answer.status) {
            let id = account.id(&answer);
            let reply = classify::reply(answer.status, id.as_deref().unwrap_or("taken"));
            trail.provider_id = id.map(Into::into);
            return Ok(Receipt { reply });
        }
        let (said, meaning) = account.judge(&answer, self.clock.unix_seconds());
        Err(classify::refusal(&answer, &said, meaning))
    }

    /// The account behind a route, with its connections; another one when the route changed.
    fn account(
        &self,
        route: &Arc<str>,
        provider: &Arc<Provider>,
    ) -> Result<Arc<Account>, HttpFault> {
        let mut accounts = self.accounts.lock();
        let known = accounts.get(route).filter(|account| {
            Arc::ptr_eq(&account.provider, provider) || *account.provider == **provider
        });
        if let Some(account) = known {
            return Ok(Arc::clone(account));
        }
        let keys = match &provider.service {
            Service::Ses { credentials, .. } => Some(Keys::new(credentials)),
            _ => None,
        };
        let http = Http::new(provider)?;
        let requests = Semaphore::new(provider.max_requests.max(1) as usize);
        let provider = Arc::clone(provider);
        let account = Arc::new(Account { provider, http, keys, requests });
        accounts.insert(Arc::clone(route), Arc::clone(&account));
        Ok(account)
    }
}

/// What a service cannot carry is refused before anything is sent.
fn fits(service: &Service, letter: &Letter) -> Result<(), Outcome> {
    let (name, largest) = match service {
        Service::Ses { .. } => ("Amazon SES", ses::LARGEST),
        Service::SendGrid { .. } => ("SendGrid", sendgrid::LARGEST),
        Service::Mailgun { .. } => ("Mailgun", mailgun::LARGEST),
    };
    if letter.needs_smtputf8() {
        let why = format!("{name} takes only addresses and headers in ASCII");
        return Err(classify::unfit(Class::Content, why));
    }
    let size = letter.bytes().len();
    if size > largest {
        let why = format!("{name} takes mails of {largest} bytes, this one has {size}");
        return Err(classify::unfit(Class::Size, why));
    }
    Ok(())
}

impl Account {
    /// The request that submits a letter.
    async fn request(&self, mail: Mail<'_>, clock: &Clock) -> Result<Ask, Outcome> {
        let Mail { delivery, letter } = mail;
        let malformed = |error: String| Outcome::Malformed { reason: error };
        match &self.provider.service {
            Service::Ses { region, configuration_set, .. } => {
                let body = ses::body(letter, delivery, configuration_set.as_deref())
                    .map_err(|error| malformed(error.to_string()))?;
                self.signed(region, body.into(), clock).await
            }
            Service::SendGrid { key } => {
                let body = parts::json(letter, delivery)
                    .map_err(|why| classify::unfit(Class::Content, why.to_string()))?;
                let authorization = secret(format!("Bearer {}", key.expose()));
                post(sendgrid::PATH.into(), "application/json", authorization, body.into())
            }
            Service::Mailgun { key, domain } => {
                let form = mailgun::form(letter, delivery, rand::random());
                let of_sender = || mailgun::domain_of(letter);
                let domain = domain.clone().or_else(of_sender).ok_or_else(|| {
                    let why = "Mailgun needs the domain in From, and there is none";
                    classify::unfit(Class::Content, why.into())
                })?;
                let login = STANDARD.encode(format!("api:{}", key.expose()));
                let kind = format!("multipart/form-data; boundary={}", form.boundary);
                let authorization = secret(format!("Basic {login}"));
                post(mailgun::path(&domain), &kind, authorization, form.body.into())
            }
        }
    }

    /// A request to SES under our signature.
    async fn signed(&self, region: &str, body: Bytes, clock: &Clock) -> Result<Ask, Outcome> {
        const DATE: HeaderName = HeaderName::from_static("x-amz-date");
        const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
        const JSON: &str = "application/json";
        let unreached =
            |NoKey(stage, cause)| classify::silence(Lost { stage, cause, whole: false });
        let Some(keys) = &self.keys else {
            return Err(Outcome::Crashed { reason: "an account of AWS without keys".into() });
        };
        let key = keys.key(&self.http).await.map_err(unreached)?;
        let host = self.provider.endpoint.authority();
        let signed = sigv4::sign(
            &key,
            sigv4::Scope { region, service: "ses" },
            &sigv4::Request {
                method: "POST",
                path: ses::PATH,
                headers: &[("content-type", JSON), ("host", &host)],
                body: &body,
            },
            clock.now(),
        );
        let mut ask = post(ses::PATH.into(), JSON, secret(signed.authorization), body)?;
        ask.headers.push((DATE, header(&signed.date)?));
        if let Some(token) = &key.token {
            ask.headers.push((TOKEN, secret(token.expose().to_owned())?));
        }
        Ok(ask)
    }

    /// The id that the provider gave the mail.
    fn id(&self, answer: &Answer) -> Option<String> {
        let id = match &self.provider.service {
            Service::Ses { .. } => ses::id(answer),
            Service::SendGrid { .. } => sendgrid::id(answer),
            Service::Mailgun { .. } => mailgun::id(answer),
        };
        id.filter(|id| id.len() <= LONGEST_ID && id.bytes().all(|b| b.is_ascii_graphic()))
    }

    fn judge(&self, answer: &Answer, now: u64) -> (String, Meaning) {
        match &self.provider.service {
            Service::Ses { .. } => ses::judge(answer, now),
            Service::SendGrid { .. } => sendgrid::judge(answer, now),
            Service::Mailgun { .. } => mailgun::judge(answer, now),
        }
    }
}

/// How long a delivery waits for its turn to ask.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest id that is kept; the real ones have at most some hundred characters.
const LONGEST_ID: usize = 200;

fn post(
    path: String,
    kind: &str,
    authorization: Result<HeaderValue, Outcome>,
    body: Bytes,
) -> Result<Ask, Outcome> {
    let headers = vec![(CONTENT_TYPE, header(kind)?), (AUTHORIZATION, authorization?)];
    Ok(Ask { method: Method::POST, path, headers, body })
}

/// A value that no log shows.
fn secret(text: String) -> Result<HeaderValue, Outcome> {
    let text = zeroize::Zeroizing::new(text);
    let mut value = header(&text)?;
    value.set_sensitive(true);
    Ok(value)
}

fn header(text: &str) -> Result<HeaderValue, Outcome> {
    HeaderValue::from_str(text).map_err(|_| Outcome::Malformed {
        reason: "a header of the request to the provider holds what no header may".into(),
    })
}
