//! Carries one letter over one connection: the [`Transaction`] says what to do,
//! the [`Connection`] does it.
//!
//! Promises: doubt begins when the last byte of the body's end (the final dot, or the
//! chunk's last octet) has left, and not before. A connection that is lost earlier has
//! delivered nothing. The envelope of the next letter goes out behind the body, where the
//! peer offers PIPELINING, has been quick so far and may have one more mail.

use std::time::Duration;

use tokio::time::Instant;

use super::capability::Capabilities;
use super::classify::{classify, too_large};
use super::command::{Command, Mail, Unwritable, is_clean};
use super::connection::{Connection, Cut, Fault};
use super::reply::Reply;
use super::transaction::{Aftermath, Ending, Flow, Form, Move, Standing, Transaction, Verb};
use crate::config;
use crate::domain::failpoint::{self, Point};
use crate::domain::verdict::{Cause, PeerReply, Stage, Verdict};
use crate::message::letter::Letter;

/// How carrying a letter ended.
#[derive(Debug)]
pub enum Carried {
    /// The peer took it.
    Accepted(PeerReply),
    /// The peer refused it.
    Refused(Stage, PeerReply),
    /// The session broke before the dot: nothing was delivered.
    Lost {
        /// How far it came.
        stage: Stage,
        /// What broke.
        cause: Cause,
        /// Whether the peer had answered MAIL.
        mail_was_answered: bool,
    },
    /// The dot was sent and no sensible reply came.
    Doubtful(Cause),
    /// The envelope cannot be said in SMTP.
    Unsayable(Unwritable),
}

/// Why a peer cannot take a letter, found in what it offers.
pub fn unfit(offered: &Capabilities, letter: &Letter) -> Option<Verdict> {
    let octets = letter.bytes().len() as u64;
    if let Some(limit) = offered.size.broken_by(octets) {
        return Some(too_large(octets, limit));
    }
    let missing = if letter.needs_smtputf8() {
        (!offered.smtputf8).then_some("SMTPUTF8 is not offered")
    } else {
        let fits = offered.eight_bit_mime || offered.smtputf8 || letter.bytes().is_ascii();
        (!fits).then_some("8BITMIME is not offered")
    };
    missing.map(|text| classify(Stage::Mail, Cause::Capability(text.into())))
}

/// Letters from this size on go out in one chunk where CHUNKING is offered: there it
/// saves looking for dots and copying. Smaller ones go by DATA, which takes the next
/// envelope along (docs/adr/0021).
const CHUNKED_FROM: usize = 64 * 1024;

/// A peer that takes longer than this to answer a body gets no envelope behind the next:
/// its letter would wait here while another connection may become free.
const QUICK: Duration = Duration::from_secs(1);

/// Gives the envelope of the next letter that waits for the connection, if there is one.
pub type TakeAlong<'a> = &'a mut (dyn FnMut(&Connection) -> Option<Vec<u8>> + Send);

/// Sends a letter. Afterwards the connection knows by itself whether it can go on, and
/// whether it has begun the letter that was taken along.
pub async fn carry(
    connection: &mut Connection,
    letter: &Letter,
    limits: &config::Smtp,
    take_along: TakeAlong<'_>,
) -> Carried {
    let Some(standing) = connection.begin_mail() else {
        return lost(Stage::Mail, Fault::Lost("the session is over".into()), false);
    };
    let offered = connection.capabilities();
    let flow = if offered.pipelining { Flow::Pipelined } else { Flow::InTurn };
    let form = match standing {
        Standing::Begun => Form::Data,
        Standing::Clean | Standing::Open => form_of(offered, letter, limits),
    };
    let mail = mail_of(offered, letter);
    let mut transaction = Transaction::new(flow, standing, form);
    let (mut body_was_sent, mut next_has_begun) = (false, false);
    let mut sent_at = Instant::now();
    loop {
        let (stage, done) = match transaction.next_move() {
            Move::Say(verb) => match connection.say(command(verb, mail, letter)) {
                Err(Fault::Unwritable(error)) => return Carried::Unsayable(error),
                said => (verb.stage(), said),
            },
            Move::Hear(stage) => {
                let heard = connection.hear(limit_of(stage, limits)).await;
                connection.notes().mark(stage.as_str());
                if body_was_sent {
                    connection.answered_within(sent_at.elapsed());
                }
                (stage, heard.map(|reply| transaction.heard(reply)))
            }
            Move::SendBody => {
                failpoint::reach(Point::BeforeDot, letter.recipient());
                let (body, limit) = (letter.bytes(), limits.body_timeout);
                let sent = match form {
                    Form::Chunk => {
                        let sent = connection.send_chunk(body, limit).await;
                        sent.map_err(|fault| Cut { fault, end_may_be_out: false })
                    }
                    Form::Data => {
                        let behind = take_along(connection).unwrap_or_default();
                        next_has_begun = !behind.is_empty();
                        connection.send_body(body, &behind, limit).await
                    }
                };
                if let Err(cut) = sent {
                    return cut_short(connection, cut).await;
                }
                failpoint::reach(Point::AfterDot, letter.recipient());
                body_was_sent = true;
                connection.notes().mark("body_sent");
                sent_at = Instant::now();
                transaction.dot_sent();
                continue;
            }
            Move::SendLoneDot => {
                let sent = connection.send_lone_dot(limits.data_timeout).await;
                (Stage::Data, sent.map(|()| transaction.dot_sent()))
            }
            Move::Finish => break,
        };
        if let Err(fault) = done {
            let mail_was_answered = transaction.has_answer_to_mail();
            return match transaction.known_refusal() {
                Some(Ending::Refused(stage, reply)) => {
                    Carried::Refused(stage, reply.into_peer_reply())
                }
                _ if body_was_sent => Carried::Doubtful(fault.into()),
                _ => lost(stage, fault, mail_was_answered),
            };
        }
    }
    let mail_was_answered = transaction.has_answer_to_mail();
    let (ending, aftermath) = transaction.finish();
    if let Aftermath::Usable(standing) = aftermath {
        connection.end_mail(if next_has_begun { Standing::Begun } else { standing });
    }
    match ending {
        Some(Ending::Accepted(reply)) => Carried::Accepted(reply.into_peer_reply()),
        Some(Ending::Refused(stage, reply)) => Carried::Refused(stage, reply.into_peer_reply()),
        Some(Ending::Nonsense(_, reply)) if body_was_sent => {
            Carried::Doubtful(nonsense(reply).into())
        }
        Some(Ending::Nonsense(stage, reply)) => lost(stage, nonsense(reply), mail_was_answered),
        None => lost(Stage::Mail, Fault::Protocol("no ending".into()), mail_was_answered),
    }
}

/// Whether a session can be kept for the next letter: it stands and is not used up.
pub fn may_go_on(connection: &Connection, messages_per_connection: u32) -> bool {
    let most = most_mails(connection.capabilities(), messages_per_connection);
    connection.is_usable() && connection.mails() < most
}

/// Whether the envelope of the next letter may go out behind a body.
pub fn may_take_along(connection: &Connection, messages_per_connection: u32) -> bool {
    let offered = connection.capabilities();
    offered.pipelining
        && connection.last_answer().is_some_and(|took| took < QUICK)
        && connection.mails() < most_mails(offered, messages_per_connection)
}

/// Whether a letter may be the one that is taken along.
pub fn may_be_taken_along(offered: &Capabilities, letter: &Letter) -> bool {
    letter.bytes().len() < CHUNKED_FROM && unfit(offered, letter).is_none()
}

/// A letter's envelope up to DATA.
pub fn envelope(offered: &Capabilities, letter: &Letter) -> Result<Vec<u8>, Unwritable> {
    let mut out = Vec::with_capacity(256);
    Command::Mail(mail_of(offered, letter)).write(&mut out)?;
    Command::Rcpt(letter.recipient()).write(&mut out)?;
    Command::Data.write(&mut out)?;
    Ok(out)
}

fn form_of(offered: &Capabilities, letter: &Letter, limits: &config::Smtp) -> Form {
    let body = letter.bytes();
    let chunk = limits.chunking && offered.chunking && body.len() >= CHUNKED_FROM;
    if chunk && is_clean(body) { Form::Chunk } else { Form::Data }
}

fn mail_of<'l>(offered: &Capabilities, letter: &'l Letter) -> Mail<'l> {
    Mail {
        sender: letter.sender(),
        size: offered.size.is_offered().then_some(letter.bytes().len() as u64),
        eight_bit: offered.eight_bit_mime && !letter.bytes().is_ascii(),
        utf8: letter.needs_smtputf8(),
    }
}

fn most_mails(offered: &Capabilities, messages_per_connection: u32) -> u32 {
    offered.mail_max.unwrap_or(u32::MAX).min(messages_per_connection)
}

/// A peer that closes in the middle of a body has often said why. If the body's end may
/// have reached it, what it says is its answer, and without one there is doubt.
async fn cut_short(connection: &mut Connection, cut: Cut) -> Carried {
    const LAST_WORDS: Duration = Duration::from_secs(1);
    let stage = if cut.end_may_be_out { Stage::Dot } else { Stage::Data };
    if matches!(cut.fault, Fault::Lost(_))
        && let Ok(reply) = connection.last_words(LAST_WORDS).await
    {
        if reply.is_refusal() {
            return Carried::Refused(stage, reply.into_peer_reply());
        }
        if cut.end_may_be_out && reply.is_positive() {
            return Carried::Accepted(reply.into_peer_reply());
        }
    }
    if cut.end_may_be_out {
        return Carried::Doubtful(cut.fault.into());
    }
    lost(stage, cut.fault, true)
}

fn lost(stage: Stage, fault: Fault, mail_was_answered: bool) -> Carried {
    Carried::Lost { stage, cause: fault.into(), mail_was_answered }
}

fn nonsense(reply: Reply) -> Fault {
    Fault::Protocol(format!("unexpected reply {}", reply.into_peer_reply()))
}

fn command<'a>(verb: Verb, mail: Mail<'a>, letter: &'a Letter) -> Command<'a> {
    match verb {
        Verb::Reset => Command::Reset,
        Verb::Mail => Command::Mail(mail),
        Verb::Rcpt => Command::Rcpt(letter.recipient()),
        Verb::Data => Command::Data,
    }
}

fn limit_of(stage: Stage, limits: &config::Smtp) -> Duration {
    match stage {
        Stage::Rcpt => limits.rcpt_timeout,
        Stage::Data => limits.data_timeout,
        Stage::Dot => limits.dot_timeout,
        _ => limits.mail_timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::super::capability::SizeLimit;
    use super::*;
    use crate::domain::verdict::{Class, Finality};
    use crate::message::address::Address;

    fn letter(recipient: &str, body: &str, utf8: bool) -> Letter {
        let address = Address::try_new(recipient).expect("an address");
        Letter::seal(None, address, body.as_bytes().to_vec(), utf8)
    }

    #[test]
    fn what_a_peer_cannot_take_is_found_before_sending() {
        let plain = Capabilities::default();
        let small = Capabilities { size: SizeLimit::Octets(4), ..plain.clone() };
        let eight = Capabilities { eight_bit_mime: true, ..plain.clone() };
        let utf8 = Capabilities { smtputf8: true, ..plain.clone() };
        let ascii = letter("a@example.com", "hello", false);
        assert_eq!(unfit(&plain, &ascii), None);
        assert_eq!(
            unfit(&small, &ascii).map(|v| (v.class, v.finality)),
            Some((Class::Size, Finality::Final))
        );
        let body = letter("a@example.com", "grüß", false);
        assert!(unfit(&plain, &body).is_some() && unfit(&eight, &body).is_none());
        for unicode in [letter("ü@example.com", "x", false), letter("a@example.com", "ü", true)] {
            let verdict = unfit(&eight, &unicode).expect("a refusal");
            assert_eq!(verdict.finality, Finality::Final);
            assert!(!verdict.condemns_address());
            assert_eq!(unfit(&utf8, &unicode), None);
        }
    }
}
