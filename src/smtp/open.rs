//! Sets up a session: connect, banner, EHLO, STARTTLS, AUTH.
//!
//! Promises: TLS that is asked for is had, or there is no session; a login is tried
//! only where [`auth`] allows it. Whether to try again in clear is for the caller to
//! decide; a failure says whether TLS was to blame.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::auth::{self, AuthRefusal, Mechanism};
use super::capability::Capabilities;
use super::command::{Command, EhloName};
use super::connection::{Connection, Fault, unasked, within};
use super::metrics::Metrics;
use super::reply::Reply;
use super::tls::{Shaken, Tls, TlsFault, Trust};
use crate::config;
use crate::config::TlsMode;
use crate::config::secret::Secret;
use crate::domain::verdict::{Cause, Stage};
use crate::route::plan::Hop;
use crate::route::tls_result::Failure;

/// Why no session came about.
#[derive(Debug)]
pub struct OpenFailure {
    /// How far it came.
    pub stage: Stage,
    /// What was said or what broke.
    pub cause: Cause,
    /// Whether it was TLS that broke, so that a session in clear might do.
    pub tls_is_broken: bool,
    /// What was wrong with TLS, for the report to the receiver.
    pub tls: Option<Failure>,
}

/// A session that came about.
pub struct Opened {
    /// Ready for mail.
    pub connection: Connection,
    /// Our end of it.
    pub from: Option<IpAddr>,
    /// What is wrong with TLS, although it was accepted.
    pub flaw: Option<Failure>,
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
    pub async fn open(stream: TcpStream, opening: Opening<'_>) -> Result<Opened, OpenFailure> {
        let Opening { hop, limits, tls_mode, .. } = opening;
        let from = stream.local_addr().ok().map(|ours| ours.ip());
        let mut connection = Self::new(stream, opening.metrics);
        let mut flaw = None;
        if tls_mode == TlsMode::Implicit {
            (connection, _) = connection.encrypt(opening).await?;
        }
        connection.banner(limits.banner_timeout).await?;
        connection.hello(opening.ehlo, limits.ehlo_timeout).await?;
        match tls_mode {
            TlsMode::None | TlsMode::Implicit => {}
            TlsMode::Opportunistic if !connection.capabilities().starttls => {
                flaw = Some(Failure::StartTlsNotSupported);
            }
            TlsMode::Opportunistic | TlsMode::Required | TlsMode::Verified => {
                (connection, flaw) = connection.start_tls(opening).await?;
            }
        }
        if let Some(auth) = &hop.auth {
            connection.log_in(auth, hop.address, limits.auth_timeout).await?;
        }
        connection.notes().mark("ready");
        Ok(Opened { connection, from, flaw })
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

    async fn start_tls(
        mut self,
        opening: Opening<'_>,
    ) -> Result<(Self, Option<Failure>), OpenFailure> {
        if !self.capabilities().starttls {
            let tls = Some(Failure::StartTlsNotSupported);
            return Err(OpenFailure { tls, ..no_tls("STARTTLS is not offered", false) });
        }
        let limits = opening.limits;
        let reply =
            self.ask(Command::StartTls, limits.tls_timeout).await.map_err(at(Stage::StartTls))?;
        if reply.code() != 220 {
            let tls_is_broken = reply.code() != 421;
            let tls = tls_is_broken.then_some(Failure::StartTlsNotSupported);
            return Err(OpenFailure { tls_is_broken, tls, ..unwelcome(Stage::StartTls, reply) });
        }
        if self.has_unread() {
            // Sent in clear, to be taken for an answer under TLS.
            let tls = Some(Failure::Validation);
            return Err(OpenFailure { tls, ..at(Stage::StartTls)(unasked()) });
        }
        let (mut connection, flaw) = self.encrypt(opening).await?;
        connection.hello(opening.ehlo, limits.ehlo_timeout).await.map_err(|failure| {
            OpenFailure {
                // A peer may only now reject what was agreed in the handshake.
                tls_is_broken: matches!(failure.cause, Cause::Connection(_)),
                ..failure
            }
        })?;
        Ok((connection, flaw))
    }

    async fn encrypt(self, opening: Opening<'_>) -> Result<(Self, Option<Failure>), OpenFailure> {
        let Opening { hop, tls_mode, .. } = opening;
        let Some((stream, bare)) = self.into_clear() else {
            return Err(no_tls("the session is encrypted already", false));
        };
        let trust = Trust::of(tls_mode, hop);
        let ours = hop.certificate.as_deref();
        let handshake = opening.tls.connect(stream, &hop.host, &trust, ours);
        match timeout(opening.limits.tls_timeout, handshake).await {
            Ok(Ok(Shaken { stream, flaw })) => Ok((Self::under_tls(bare, stream), flaw)),
            Ok(Err(TlsFault { text, failure })) => {
                Err(OpenFailure { tls: Some(failure), ..no_tls(&text, true) })
            }
            Err(_) => {
                let tls = Some(Failure::Validation);
                Err(OpenFailure { tls, ..no_tls("the handshake timed out", true) })
            }
        }
    }

    async fn log_in(
        &mut self,
        auth: &config::Auth,
        peer: SocketAddr,
        limit: Duration,
    ) -> Result<(), OpenFailure> {
        let encrypted = self.tls().is_some();
        let mechanism = auth::choose(self.capabilities().auth, &auth.proof, encrypted, peer.ip());
        let mechanism = mechanism.map_err(|refusal| OpenFailure {
            stage: Stage::Auth,
            cause: match refusal {
                AuthRefusal::InClear => Cause::Tls(refusal.to_string()),
                AuthRefusal::NoPassword | AuthRefusal::NoToken => {
                    Cause::Protocol(refusal.to_string())
                }
            },
            tls_is_broken: false,
            tls: None,
        })?;
        let proof = proof_of(auth).await.map_err(at(Stage::Auth))?;
        let user = &*auth.username;
        let reply = within(limit, async {
            match mechanism {
                Mechanism::Plain => {
                    self.ask(Command::AuthPlain(&auth::plain(user, &proof)), limit).await
                }
                Mechanism::Login => {
                    let mut reply = self.ask(Command::AuthLogin, limit).await?;
                    for answer in auth::login(user, &proof) {
                        if reply.code() != 334 {
                            break;
                        }
                        reply = self.ask(Command::AuthAnswer(&answer), limit).await?;
                    }
                    Ok(reply)
                }
                Mechanism::XOAuth2 => {
                    let token = auth::xoauth2(user, &proof);
                    let reply = self.ask(Command::AuthXOAuth2(&token), limit).await?;
                    // Why the token is not taken comes as a challenge; an empty answer ends it.
                    if reply.code() == 334 {
                        return self.ask(Command::AuthAnswer(""), limit).await;
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

/// The password, or the token as it is now.
async fn proof_of(auth: &config::Auth) -> Result<Secret, Fault> {
    let proof = auth.proof.clone();
    let read = tokio::task::spawn_blocking(move || proof.now()).await;
    read.map_err(|error| Fault::Lost(error.to_string()))?
        .map_err(|error| Fault::Protocol(error.to_string()))
}

pub(super) fn at(stage: Stage) -> impl FnOnce(Fault) -> OpenFailure {
    move |fault| OpenFailure { stage, cause: fault.into(), tls_is_broken: false, tls: None }
}

fn unwelcome(stage: Stage, reply: Reply) -> OpenFailure {
    let cause = if reply.is_refusal() {
        Cause::Reply(reply.into_peer_reply())
    } else {
        Cause::Protocol(format!("unexpected reply {}", reply.into_peer_reply()))
    };
    OpenFailure { stage, cause, tls_is_broken: false, tls: None }
}

fn no_tls(text: &str, tls_is_broken: bool) -> OpenFailure {
    let cause = Cause::Tls(text.to_owned());
    OpenFailure { stage: Stage::StartTls, cause, tls_is_broken, tls: None }
}
