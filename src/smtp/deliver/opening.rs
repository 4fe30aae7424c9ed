//! Sets up a session with a hop, or with another address of the same host if the first
//! does not answer at once (after RFC 8305).

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::sleep;

use super::{Attempt, Ended, Smtp, not_opened};
use crate::config::TlsMode;
use crate::domain::verdict::Stage;
use crate::route::plan::Hop;
use crate::smtp::connection::Connection;
use crate::smtp::egress::connect;
use crate::smtp::open::{OpenFailure, Opened, Opening};
use crate::smtp::pool::{Key, Leave, Lent, Loan};

/// How long an address may take before the next of the same host is tried beside it
/// (RFC 8305 5).
const HEAD_START: Duration = Duration::from_millis(250);

impl Smtp {
    /// Opens a connection to `hop`, or to `spare` if that answers first; says so if it did.
    pub(super) async fn open_either<'h>(
        &self,
        attempt: &mut Attempt<'_>,
        leave: Leave,
        hop: &'h Hop,
        spare: Option<&'h Hop>,
    ) -> Result<(Lent, Option<&'h Hop>), Ended> {
        let limit = attempt.settings.connect_timeout;
        let source = &attempt.plan.source;
        let first = connect(hop.address, source, limit);
        tokio::pin!(first);
        let spare = spare.filter(|spare| !attempt.dead.contains(&spare.address));
        // An address that was too slow before gets no head start.
        let head_start =
            if self.unanswering.knows(hop.address) { Duration::ZERO } else { HEAD_START };
        let early = tokio::select! {
            biased;
            first = &mut first => Some(first),
            () = sleep(head_start), if spare.is_some() => None,
        };
        let rival = spare.filter(|_| early.is_none()).and_then(|spare| {
            let loan = self.pool.lend_now(Key::new(source, spare), spare.max_connections)?;
            Some((spare, loan))
        });
        let (stream, rival) = match (early, rival) {
            (Some(first), _) => (first, None),
            (None, Some((spare, Loan::Parked(lent)))) => return Ok((*lent, Some(spare))),
            (None, Some((spare, Loan::Fresh(its_leave)))) => {
                let second = connect(spare.address, source, limit);
                tokio::pin!(second);
                let (stream, spare_won) = either(first, second).await;
                if let Err(failure) = &stream {
                    self.mind(spare, Some(failure));
                    attempt.dead.push(spare.address);
                }
                if spare_won {
                    self.unanswering.remember(hop.address);
                }
                (stream, spare_won.then_some((spare, its_leave)))
            }
            (None, _) => (first.await, None),
        };
        let stream = stream.map_err(|failure| self.failed(hop, failure))?;
        match rival {
            Some((spare, leave)) => {
                Ok((self.greet(attempt, leave, spare, stream).await?, Some(spare)))
            }
            None => Ok((self.greet(attempt, leave, hop, stream).await?, None)),
        }
    }

    /// Opens a connection to a hop.
    pub(super) async fn open(
        &self,
        attempt: &Attempt<'_>,
        leave: Leave,
        hop: &Hop,
    ) -> Result<Lent, Ended> {
        let stream = self.dial(attempt, hop).await.map_err(|failure| self.failed(hop, failure))?;
        self.greet(attempt, leave, hop, stream).await
    }

    async fn dial(&self, attempt: &Attempt<'_>, hop: &Hop) -> Result<TcpStream, OpenFailure> {
        connect(hop.address, &attempt.plan.source, attempt.settings.connect_timeout).await
    }

    /// Makes a session of a fresh socket, in clear if TLS is broken and that is allowed.
    async fn greet(
        &self,
        attempt: &Attempt<'_>,
        leave: Leave,
        hop: &Hop,
        stream: TcpStream,
    ) -> Result<Lent, Ended> {
        let may_fall_back = hop.tls == TlsMode::Opportunistic;
        let in_clear = may_fall_back && self.broken_tls.knows(hop.address);
        let opening = Opening {
            hop,
            ehlo: &attempt.ehlo,
            tls_mode: if in_clear { TlsMode::None } else { hop.tls },
            tls: &self.tls,
            limits: &attempt.settings,
            metrics: &self.metrics,
        };
        let ours = attempt.plan.source.address_for(hop.address.ip());
        let opened = match Connection::open(stream, opening).await {
            Err(failure) if failure.tls_is_broken && may_fall_back && !in_clear => {
                self.count(hop, ours, failure.tls);
                self.broken_tls.remember(hop.address);
                self.metrics.tls_fallback.increment(1);
                let in_clear = Opening { tls_mode: TlsMode::None, ..opening };
                match self.dial(attempt, hop).await {
                    Ok(stream) => Connection::open(stream, in_clear).await,
                    Err(failure) => Err(failure),
                }
            }
            opened => opened,
        };
        let Opened { connection, from, flaw } = opened.map_err(|failure| {
            if failure.tls.is_some() {
                self.count(hop, ours, failure.tls);
            }
            self.failed(hop, failure)
        })?;
        self.mind(hop, None);
        self.metrics.opened.increment(1);
        // Of a session that fell back, the one before it is counted.
        if connection.tls().is_some() || flaw.is_some() {
            self.count(hop, from, flaw.or(hop.policy.trouble));
        }
        if connection.tls().is_some() {
            self.metrics.tls.increment(1);
        }
        Ok(leave.fill(connection))
    }

    /// A host that cannot be reached or sends everybody away is told to the breakers; what
    /// goes wrong behind the greeting is a matter between it and us.
    fn mind(&self, hop: &Hop, failure: Option<&OpenFailure>) {
        let Some(breakers) = &self.breakers else { return };
        match failure {
            None => breakers.worked(hop.address),
            Some(failure) if failure.stage <= Stage::Ehlo => {
                breakers.failed(hop.address, &format!("{} at {}", failure.cause, failure.stage));
            }
            Some(_) => {}
        }
    }

    fn failed(&self, hop: &Hop, failure: OpenFailure) -> Ended {
        self.mind(hop, Some(&failure));
        self.metrics.failed.increment(1);
        not_opened(failure)
    }
}

/// The first success of two, or the first one's failure; whether it is the second's.
async fn either<T, E>(
    first: impl Future<Output = Result<T, E>> + Unpin,
    second: impl Future<Output = Result<T, E>> + Unpin,
) -> (Result<T, E>, bool) {
    use futures_util::future::{Either, select};
    match select(first, second).await {
        Either::Left((Ok(stream), _)) => (Ok(stream), false),
        Either::Right((Ok(stream), _)) => (Ok(stream), true),
        Either::Left((Err(error), second)) => match second.await {
            Ok(stream) => (Ok(stream), true),
            Err(_) => (Err(error), false),
        },
        Either::Right((Err(_), first)) => (first.await, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::ready;

    #[tokio::test]
    async fn the_first_success_wins() {
        type Told = Result<u8, &'static str>;
        let told = |told: Told| ready(told);
        assert_eq!(either(told(Ok(1)), told(Ok(2))).await, (Ok(1), false));
        assert_eq!(either(told(Err("a")), told(Ok(2))).await, (Ok(2), true));
        assert_eq!(either(told(Err("a")), told(Err("b"))).await, (Err("a"), false));
        let never = Box::pin(std::future::pending::<Told>());
        assert_eq!(either(never, told(Ok(2))).await, (Ok(2), true));
    }
}
