//! Sets up a session: connect, banner, EHLO, STARTTLS, AUTH.
//!
//! Promises: TLS that is asked for is had, or there is no session; a login is tried
//! only where [`auth`] allows it. Whether to try again in clear is for the caller to
//! decide; a failure says whether TLS was to blame.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::auth::{self, AuthRefusal, Mechanism};
use super::capability::Capabilities;
use super::command::{Command, EhloName};
use super::connection::{Connection, Fault, unasked, within};
use super::metrics::Metrics;
use super::reply::Reply;
use super::tls::{Tls, Trust};
use crate::config;
use crate::config::TlsMode;
use crate::domain::verdict::{Cause, Stage};
use crate::route::plan::Hop;

/// Why no session came about.
#[derive(Debug)]
pub struct OpenFailure {
    /// How far it came.
    pub stage: Stage,
    /// What was said or what broke.
    pub cause: Cause,
    /// Whether it was TLS that broke, so that a session in clear might do.
    pub tls_is_broken: bool,
}

/// All that setting up a connection needs.
#[derive(Clone, Copy)]
pub struct Opening<'a> {
    /// Where to.
    pub hop: &'a Hop,
    /// The name to give, checked.
    pub ehlo: &'a EhloName,
    /// How much TLS; it may be less than the hop asks for.
    pub tls_mode: TlsMode,
    /// The client's side of TLS.
    pub tls: &'a Tls,
    /// Deadlines.
    pub limits: &'a config::Smtp,
    /// What to count.
    pub metrics: &'a Metrics,
}

impl Connection {
    /// Greets, encrypts and logs in over a fresh socket, as the hop asks.
    pub async fn open(stream: TcpStream, opening: Opening<'_>) -> Result<Self, OpenFailure> {
        let Opening { hop, limits, tls_mode, .. } = opening;
        let mut connection = Self::new(stream, opening.metrics);
        if tls_mode == TlsMode::Implicit {
            connection = connection.encrypt(opening, Trust::Verified).await?;
        }
        connection.banner(limits.banner_timeout).await?;
        connection.hello(opening.ehlo, limits.ehlo_timeout).await?;
        let trust = match tls_mode {
            TlsMode::None | TlsMode::Implicit => None,
            TlsMode::Opportunistic if !connection.capabilities().starttls => None,
            TlsMode::Opportunistic | TlsMode::Required => Some(Trust::Anyone),
            TlsMode::Verified => Some(Trust::Verified),
        };
        if let Some(trust) = trust {
            connection = connection.start_tls(opening, trust).await?;
        }
        if let Some(auth) = &hop.auth {
            connection.log_in(auth, hop.address, limits.auth_timeout).await?;
        }
        Ok(connection)
    }

    async fn banner(&mut self, limit: Duration) -> Result<(), OpenFailure> {
        let reply = self.hear(limit).await.map_err(at(Stage::Banner))?;
        if reply.code() == 220 { Ok(()) } else { Err(unwelcome(Stage::Banner, reply)) }
    }

    async fn hello(&mut self, name: &EhloName, limit: Duration) -> Result<(), OpenFailure> {
        let reply = self.ask(Command::Ehlo(name), limit).await.map_err(at(Stage::Ehlo))?;
        let capabilities = if reply.is_positive() {
            Capabilities::from_ehlo(&reply)
        } else if reply.code() >= 500 {
            let reply = self.ask(Command::Helo(name), limit).await.map_err(at(Stage::Ehlo))?;
            if !reply.is_positive() {
                return Err(unwelcome(Stage::Ehlo, reply));
            }
            Capabilities::default()
        } else {
            return Err(unwelcome(Stage::Ehlo, reply));
        };
        self.learn(capabilities);
        Ok(())
    }

    async fn start_tls(mut self, opening: Opening<'_>, trust: Trust) -> Result<Self, OpenFailure> {
        if !self.capabilities().starttls {
            return Err(tls_failure("STARTTLS is not offered".into(), false));
        }
        let limits = opening.limits;
        let reply =
            self.ask(Command::StartTls, limits.tls_timeout).await.map_err(at(Stage::StartTls))?;
        if reply.code() != 220 {
            let tls_is_broken = reply.code() != 421;
            return Err(OpenFailure { tls_is_broken, ..unwelcome(Stage::StartTls, reply) });
        }
        if self.has_unread() {
            // Sent in clear, to be taken for an answer under TLS.
            return Err(at(Stage::StartTls)(unasked()));
        }
        let mut connection = self.encrypt(opening, trust).await?;
        connection.hello(opening.ehlo, limits.ehlo_timeout).await.map_err(|failure| {
            OpenFailure {
                // A peer may only now reject what was agreed in the handshake.
                tls_is_broken: matches!(failure.cause, Cause::Connection(_)),
                ..failure
            }
        })?;
        Ok(connection)
    }

    async fn encrypt(self, opening: Opening<'_>, trust: Trust) -> Result<Self, OpenFailure> {
        let Some((stream, bare)) = self.into_clear() else {
            return Err(tls_failure("the session is encrypted already".into(), false));
        };
        let handshake = opening.tls.connect(stream, &opening.hop.host, trust);
        match timeout(opening.limits.tls_timeout, handshake).await {
            Ok(Ok(stream)) => Ok(Self::under_tls(bare, stream)),
            Ok(Err(fault)) => Err(tls_failure(fault.to_string(), true)),
            Err(_) => Err(tls_failure("the handshake timed out".into(), true)),
        }
    }

    async fn log_in(
        &mut self,
        auth: &config::Auth,
        peer: SocketAddr,
        limit: Duration,
    ) -> Result<(), OpenFailure> {
        let encrypted = self.tls().is_some();
        let mechanism =
            auth::choose(self.capabilities().auth, encrypted, peer.ip()).map_err(|refusal| {
                OpenFailure {
                    stage: Stage::Auth,
                    cause: match refusal {
                        AuthRefusal::InClear => Cause::Tls(refusal.to_string()),
                        AuthRefusal::NoMechanism => Cause::Protocol(refusal.to_string()),
                    },
                    tls_is_broken: false,
                }
            })?;
        let reply = within(limit, async {
            match mechanism {
                Mechanism::Plain => self.ask(Command::AuthPlain(&auth::plain(auth)), limit).await,
                Mechanism::Login => {
                    let mut reply = self.ask(Command::AuthLogin, limit).await?;
                    for answer in auth::login(auth) {
                        if reply.code() != 334 {
                            break;
                        }
                        reply = self.ask(Command::AuthAnswer(&answer), limit).await?;
                    }
                    Ok(reply)
                }
            }
        })
        .await;
        self.forget_outbound();
        let reply = reply.map_err(at(Stage::Auth))?;
        if reply.code() == 235 { Ok(()) } else { Err(unwelcome(Stage::Auth, reply)) }
    }
}

pub(super) fn at(stage: Stage) -> impl FnOnce(Fault) -> OpenFailure {
    move |fault| OpenFailure { stage, cause: fault.into(), tls_is_broken: false }
}

fn unwelcome(stage: Stage, reply: Reply) -> OpenFailure {
    let cause = if reply.is_refusal() {
        Cause::Reply(reply.into_peer_reply())
    } else {
        Cause::Protocol(format!("unexpected reply {}", reply.into_peer_reply()))
    };
    OpenFailure { stage, cause, tls_is_broken: false }
}

fn tls_failure(text: String, tls_is_broken: bool) -> OpenFailure {
    OpenFailure { stage: Stage::StartTls, cause: Cause::Tls(text), tls_is_broken }
}
