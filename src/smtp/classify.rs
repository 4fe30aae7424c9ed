//! Stage and cause to verdict; pure.
//!
//! The rules (`config/replies.toml`) are asked first; what none of them knows is judged by
//! its code alone. In general a 4xx passes and a 5xx is final, with two
//! exceptions that keep a mail from paying for others: a refusal before MAIL is
//! about the session, so it never ends a mail; and a failed login or TLS is a
//! matter of configuration.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::ruling::Blame;
use crate::domain::verdict::{Cause, Class, Finality, PeerReply, Reach, Stage, Verdict};
use crate::reply::in_force;
use crate::reply::rulebook::Rulebook;

/// Judges a refusal or a failure.
pub fn classify(stage: Stage, cause: Cause) -> Verdict {
    let judged = match &cause {
        Cause::Reply(reply) => return by_rules(&in_force(), stage, reply.clone()),
        _ if stage == Stage::Auth => (Class::Configuration, Finality::Passing, Reach::Host),
        Cause::Timeout | Cause::Connection(_) | Cause::Protocol(_) => (
            Class::Transient,
            Finality::Passing,
            if stage < Stage::Mail { Reach::Host } else { Reach::Session },
        ),
        Cause::Tls(_) => (Class::Configuration, Finality::Passing, Reach::Host),
        Cause::Dns(_) => (Class::Transient, Finality::Passing, Reach::Destination),
        Cause::Capability(_) if stage < Stage::Mail => {
            (Class::Configuration, Finality::Passing, Reach::Host)
        }
        Cause::Capability(_) => (Class::Content, Finality::Final, Reach::Recipient),
    };
    let (class, finality, reach) = judged;
    Verdict { stage, cause, class, finality, reach, retry_after: None, ruling: None }
}

/// The mail is larger than the peer said it takes.
pub fn too_large(octets: u64, limit: u64) -> Verdict {
    let text = format!("it takes mails of {limit} octets, this one has {octets}");
    let verdict = classify(Stage::Mail, Cause::Capability(text));
    Verdict { class: Class::Size, reach: Reach::Message, ..verdict }
}

/// Judges a reply by these rules.
pub fn by_rules(rules: &Rulebook, stage: Stage, reply: PeerReply) -> Verdict {
    let by_code = finality_of(stage, reply.code);
    let found = rules.judge(stage, &reply);
    let (class, finality, reach) = match &found {
        Some((rule, ruling)) => {
            // A rule may soften a refusal; nothing before MAIL ends a mail.
            let finality = if stage < Stage::Mail {
                Finality::Passing
            } else {
                rule.finality.unwrap_or(by_code)
            };
            let reach = ruling.blame.map_or(usual_reach(stage), Blame::reach);
            let reach = if ruling.orders.reconnect { Reach::Session } else { reach };
            (rule.class, finality, reach)
        }
        None => (class_of(stage, reply.code), by_code, usual_reach(stage)),
    };
    // A 421 announces that the peer closes: whatever it blames, this session is over.
    let reach = if reply.code == 421 { reach.max(Reach::Session) } else { reach };
    let ordered = found.as_ref().and_then(|(_, ruling)| ruling.orders.retry_after);
    let retry_after = match finality {
        Finality::Passing => wait_asked_for(&reply.text).max(ordered),
        Finality::Final => None,
    };
    let ruling = found.map(|(_, ruling)| Arc::new(ruling));
    Verdict { stage, cause: Cause::Reply(reply), class, finality, reach, retry_after, ruling }
}

fn finality_of(stage: Stage, code: u16) -> Finality {
    if stage >= Stage::Mail && code >= 500 { Finality::Final } else { Finality::Passing }
}

fn class_of(stage: Stage, code: u16) -> Class {
    match (stage, code) {
        (Stage::Auth | Stage::StartTls, _) => Class::Configuration,
        (_, 400..=499) => Class::Transient,
        (Stage::Banner | Stage::Ehlo, _) => Class::Policy,
        _ => Class::Unknown,
    }
}

fn usual_reach(stage: Stage) -> Reach {
    match stage {
        Stage::Resolve => Reach::Destination,
        Stage::Connect | Stage::Banner | Stage::Ehlo | Stage::StartTls | Stage::Auth => Reach::Host,
        Stage::Rcpt => Reach::Recipient,
        Stage::Mail | Stage::Data | Stage::Dot => Reach::Message,
    }
}

/// The longest wait that a peer may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(6 * 3600);

/// Finds "in 5 minutes", "300 seconds", "1 hour".
fn wait_asked_for(text: &str) -> Option<Duration> {
    let text = text.as_bytes();
    let mut at = 0;
    while at < text.len() {
        if !text[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let end =
            text[at..].iter().position(|b| !b.is_ascii_digit()).map_or(text.len(), |n| at + n);
        let stands_alone = at == 0 || !is_word_byte(text[at - 1]);
        if let Some(unit) = unit_at(&text[end..]).filter(|_| stands_alone && end - at <= 6) {
            let number = text[at..end].iter().fold(0u64, |sum, b| sum * 10 + u64::from(b - b'0'));
            if number > 0 {
                return Some(Duration::from_secs(number * unit).min(LONGEST_WAIT));
            }
        }
        at = end;
    }
    None
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'-' | b'/')
}

/// Seconds of the unit that a text begins with, after at most one space.
fn unit_at(rest: &[u8]) -> Option<u64> {
    let rest = rest.strip_prefix(b" ").unwrap_or(rest);
    let end = rest.iter().position(|b| !b.is_ascii_alphabetic()).unwrap_or(rest.len());
    match rest[..end].to_ascii_lowercase().as_slice() {
        b"s" | b"sec" | b"secs" | b"second" | b"seconds" => Some(1),
        b"min" | b"mins" | b"minute" | b"minutes" => Some(60),
        b"hour" | b"hours" => Some(3600),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::reply::ReplyParser;
    use super::*;
    use Class as C;
    use Finality::{Final, Passing};
    use Reach as R;
    use proptest::prelude::*;

    fn judge(stage: Stage, line: &str) -> Verdict {
        let wire = format!("{line}\r\n");
        let (_, reply) = ReplyParser::default().feed(wire.as_bytes()).expect("legal");
        classify(stage, Cause::Reply(reply.expect("whole").into_peer_reply()))
    }

    #[test]
    fn replies_are_judged_by_rule_then_by_code() {
        use Stage::{Auth, Banner, Data, Dot, Ehlo, Mail, Rcpt, StartTls};
        for (stage, line, class, finality, reach) in [
            (Rcpt, "550 5.1.1 <x@y.z>: User unknown", C::AddressBad, Final, R::Recipient),
            (Rcpt, "550 5.1.2 bad host", C::DomainBad, Final, R::Recipient),
            (Rcpt, "553 5.1.3 bad syntax", C::AddressBad, Final, R::Recipient),
            (Rcpt, "551 5.1.6 moved", C::AddressBad, Final, R::Recipient),
            (Rcpt, "450 4.1.1 not now", C::Transient, Passing, R::Recipient),
            (Rcpt, "556 5.1.10 null MX", C::DomainBad, Final, R::Recipient),
            (Rcpt, "550 no such user here", C::AddressBad, Final, R::Recipient),
            (Mail, "550 5.1.1 sender unknown", C::Policy, Final, R::Source),
            (Mail, "550 user unknown", C::Unknown, Final, R::Message),
            (Rcpt, "452 4.2.2 over quota", C::MailboxFull, Passing, R::Recipient),
            (Rcpt, "552 4.2.2 over quota", C::MailboxFull, Passing, R::Recipient),
            (Rcpt, "552 5.2.2 mailbox full", C::MailboxFull, Final, R::Recipient),
            (Dot, "552 5.3.4 too big", C::Size, Final, R::Message),
            (Mail, "552 message size exceeds limit", C::Size, Final, R::Message),
            (Rcpt, "550 5.7.1 rejected", C::Policy, Final, R::Recipient),
            (Dot, "550 5.7.1 rejected", C::Policy, Final, R::Message),
            (Rcpt, "550 5.7.1 User unknown", C::Policy, Final, R::Recipient),
            (Banner, "554 no service here", C::Policy, Passing, R::Host),
            (Banner, "421 busy", C::Transient, Passing, R::Host),
            (Ehlo, "550 bad name", C::Policy, Passing, R::Host),
            (StartTls, "454 not now", C::Configuration, Passing, R::Host),
            (Auth, "535 5.7.8 wrong", C::Configuration, Passing, R::Host),
            (Rcpt, "421 closing", C::Transient, Passing, R::Session),
            (Rcpt, "451 try later", C::Transient, Passing, R::Recipient),
            (Data, "451 4.3.0 try later", C::Transient, Passing, R::Host),
            (Dot, "554 failed", C::Unknown, Final, R::Message),
            (Rcpt, "550 something else", C::Unknown, Final, R::Recipient),
        ] {
            let verdict = judge(stage, line);
            let found = (verdict.class, verdict.finality, verdict.reach);
            assert_eq!(found, (class, finality, reach), "{stage}: {line}");
        }
    }

    #[test]
    fn causes_of_ours_pass() {
        for (stage, cause, reach) in [
            (Stage::Connect, Cause::Timeout, R::Host),
            (Stage::Data, Cause::Connection("reset".into()), R::Session),
            (Stage::StartTls, Cause::Tls("broken".into()), R::Host),
        ] {
            let verdict = classify(stage, cause);
            assert_eq!((verdict.finality, verdict.reach), (Passing, reach), "{stage}");
            assert!(!verdict.condemns_address());
        }
        assert_eq!(too_large(10, 5).class, C::Size);
        assert_eq!(too_large(10, 5).finality, Final);
    }

    #[test]
    fn a_wait_is_read_from_a_passing_reply_only() {
        for (line, seconds) in [
            ("451 4.7.1 Greylisted, try again in 5 minutes", Some(300)),
            ("450 greylisted for 300 seconds", Some(300)),
            ("450 wait 60s", Some(60)),
            ("421 back in 1 hour", Some(3600)),
            ("421 back in 1000 hours", Some(6 * 3600)),
            ("450 retry in 0 seconds", None),
            ("450 from 192.0.2.15 seconds", None),
            ("450 2 secret words", None),
            ("450 99999999999999999999 seconds", None),
            ("451 4.7.1 later", None),
            ("550 5.7.1 wait 5 minutes", None),
        ] {
            let wait = judge(Stage::Rcpt, line).retry_after;
            assert_eq!(wait, seconds.map(Duration::from_secs), "{line}");
        }
    }

    proptest! {
        #[test]
        fn only_a_final_refusal_after_mail_condemns_an_address(
            code in 400u16..600, text in "[ -~]{0,60}",
            stage in prop::sample::select(vec![
                Stage::Banner, Stage::Ehlo, Stage::Auth, Stage::Mail, Stage::Rcpt, Stage::Dot]),
        ) {
            let verdict = judge(stage, &format!("{code} {text}"));
            if verdict.condemns_address() {
                prop_assert!(stage >= Stage::Rcpt && code >= 500);
            }
            if verdict.finality == Final {
                prop_assert!(stage >= Stage::Mail && verdict.retry_after.is_none());
            }
        }
    }
}
