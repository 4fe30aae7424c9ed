//! Whose key signs requests to AWS: the configured one, or that of the instance's role.
//!
//! The role's key is asked of the instance's metadata service, version 2 (a token first, so that
//! a forged request from elsewhere gets nothing), and kept until shortly before it ends. While a
//! new one cannot be had, the old one is used as long as it is good.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::http::{Ask, Http};
use super::sigv4::Key;
use crate::config::secret::Secret;
use crate::config::{AwsCredentials, Endpoint};
use crate::domain::clock::Clock;
use crate::domain::verdict::{Cause, Stage};

/// A key is asked for anew so long before it ends.
const AHEAD: Duration = Duration::from_secs(300);

/// For one answer of the metadata service, which is on the same machine.
const WITHIN: Duration = Duration::from_secs(5);

/// After a failure the service is left alone for so long.
const REST: u64 = 10;

/// Keys for one route.
pub(super) struct Keys {
    from: AwsCredentials,
    known: Mutex<Known>,
    clock: Clock,
}

#[derive(Default)]
struct Known {
    role: Option<(Key, u64)>,
    /// When the service may be asked again, in seconds since 1970.
    not_before: u64,
}

/// There is no key now.
#[derive(Debug)]
pub(super) struct NoKey(pub(super) Stage, pub(super) Cause);

impl Keys {
    pub(super) fn new(from: &AwsCredentials) -> Self {
        Self { from: from.clone(), known: Mutex::default(), clock: Clock::System }
    }

    /// The key to sign with now.
    pub(super) async fn key(&self, http: &Http) -> Result<Key, NoKey> {
        match &self.from {
            AwsCredentials::Key { id, secret, session_token } => {
                Ok(Key { id: id.clone(), secret: secret.clone(), token: session_token.clone() })
            }
            AwsCredentials::InstanceRole { metadata } => self.of_role(http, metadata).await,
        }
    }

    /// One asks, the others wait for it.
    async fn of_role(&self, http: &Http, metadata: &Endpoint) -> Result<Key, NoKey> {
        let mut known = self.known.lock().await;
        let now = self.clock.unix_seconds();
        let good = |known: &Known, ahead: Duration| {
            let role = known.role.as_ref().filter(|(_, ends)| *ends > now + ahead.as_secs());
            role.map(|(key, _)| key.clone())
        };
        if let Some(key) = good(&known, AHEAD) {
            return Ok(key);
        }
        let old = good(&known, Duration::ZERO);
        if now < known.not_before {
            return old.ok_or_else(|| unreadable("no key of the instance's role could be had"));
        }
        match ask(http, metadata).await {
            Ok((key, ends)) => {
                known.role = Some((key.clone(), ends));
                Ok(key)
            }
            Err(fault) => {
                known.not_before = now + REST;
                tracing::warn!(cause = %fault.1, "cannot get a key of the instance's role");
                old.ok_or(fault)
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Role {
    access_key_id: String,
    secret_access_key: String,
    token: String,
    expiration: DateTime<Utc>,
}

async fn ask(http: &Http, metadata: &Endpoint) -> Result<(Key, u64), NoKey> {
    const TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
    const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
    const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
    let ttl = vec![(TTL, HeaderValue::from_static("300"))];
    let token = get(http, metadata, Method::PUT, "/latest/api/token".into(), ttl).await?;
    let mut token = HeaderValue::from_bytes(&token)
        .map_err(|_| unreadable("the metadata service gave no token"))?;
    token.set_sensitive(true);
    let with_token = || vec![(TOKEN, token.clone())];
    let role = get(http, metadata, Method::GET, ROLES.into(), with_token()).await?;
    let role = String::from_utf8_lossy(&role).lines().next().unwrap_or_default().to_owned();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@-_".contains(&b);
    if role.is_empty() || !role.bytes().all(plain) {
        return Err(unreadable("the instance has no role"));
    }
    let path = format!("{ROLES}{role}");
    let found = get(http, metadata, Method::GET, path, with_token()).await?;
    let role: Role = serde_json::from_slice(&found)
        .map_err(|_| unreadable("the metadata service's key cannot be read"))?;
    let ends = u64::try_from(role.expiration.timestamp()).unwrap_or(0);
    let key = Key {
        id: role.access_key_id,
        secret: Secret::new(role.secret_access_key),
        token: Some(Secret::new(role.token)),
    };
    Ok((key, ends))
}

async fn get(
    http: &Http,
    to: &Endpoint,
    method: Method,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
) -> Result<Bytes, NoKey> {
    let ask = Ask { method, path, headers, body: Bytes::new() };
    let answer = http.ask(to, ask, WITHIN).await.map_err(|lost| NoKey(lost.stage, lost.cause))?;
    if answer.status != 200 {
        return Err(unreadable(&format!("the metadata service answered {}", answer.status)));
    }
    Ok(answer.body)
}

fn unreadable(text: &str) -> NoKey {
    NoKey(Stage::Auth, Cause::Protocol(text.to_owned()))
}
