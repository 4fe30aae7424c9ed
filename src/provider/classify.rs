//! What a provider answered, or that it did not, to a verdict or the doubt (no I/O).
//!
//! Each provider's own words come first (`ses.rs`, `sendgrid.rs`, `mailgun.rs`); what they do not
//! know is judged by the status alone, here. A 2xx is a receipt whatever else came. A 5xx to a
//! whole request is in doubt like silence after a final dot: the provider may have taken the
//! mail before it stumbled.

use std::sync::Arc;
use std::time::Duration;

use super::http::{Answer, Lost};
use crate::domain::outcome::Outcome;
use crate::domain::ruling::{Blame, Orders, Ruling};
use crate::domain::verdict::{Cause, Class, Finality, PeerReply, Reach, Stage, Verdict};

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) class: Class,
    pub(super) finality: Finality,
    pub(super) reach: Reach,
    pub(super) retry_after: Option<Duration>,
}

impl Meaning {
    /// It passes, and blames the account.
    pub(super) const fn account(class: Class) -> Self {
        Self { class, finality: Finality::Passing, reach: Reach::Route, retry_after: None }
    }

    /// The login, or what the account may do, is to be put right by an operator.
    pub(super) const LOGIN: Self = Self::account(Class::Configuration);

    /// The sender's address or domain is not known to the provider: its tenant's other mail
    /// goes the same way, and nobody else's.
    pub(super) const IDENTITY: Self =
        Self { reach: Reach::Source, ..Self::account(Class::Configuration) };

    /// An allowance is used up.
    pub(super) const QUOTA: Self = Self::account(Class::Quota);

    /// Asked to slow down.
    pub(super) const THROTTLED: Self = Self::account(Class::Throttled);

    /// For good.
    pub(super) const fn refused(class: Class, reach: Reach) -> Self {
        Self { class, finality: Finality::Final, reach, retry_after: None }
    }

    /// The recipient's address is none.
    pub(super) const ADDRESS: Self = Self::refused(Class::AddressBad, Reach::Recipient);

    /// What the mail is or holds.
    pub(super) const CONTENT: Self = Self::refused(Class::Content, Reach::Message);

    /// It is too large.
    pub(super) const SIZE: Self = Self::refused(Class::Size, Reach::Message);

    /// Who is at fault and what is to be done, in the words that rules about replies use: the
    /// throttle learns the account's pace from it.
    fn ruling(self) -> Ruling {
        let (blame, alert) = match self.reach {
            Reach::Recipient => (Blame::Recipient, false),
            Reach::Message => (Blame::Content, false),
            Reach::Source => (Blame::Identity, true),
            _ => (Blame::Route, false),
        };
        let orders = Orders {
            suppress: self.class == Class::AddressBad,
            slow: self.class == Class::Throttled,
            alert,
            ..Orders::default()
        };
        Ruling {
            rule: format!("provider-{}", self.class.as_str().replace('_', "-")).into(),
            blame: Some(blame),
            identity: None,
            orders: Arc::new(orders),
        }
    }

    /// With the wait that the answer asks for.
    pub(super) fn after(self, wait: Option<Duration>) -> Self {
        Self { retry_after: wait, ..self }
    }
}

/// By the status alone.
pub(super) fn by_status(status: u16) -> Meaning {
    match status {
        400 | 422 => Meaning::refused(Class::Unknown, Reach::Message),
        402 => Meaning::QUOTA,
        408 | 500..=599 => Meaning::account(Class::Transient),
        413 => Meaning::SIZE,
        429 => Meaning::THROTTLED,
        // Login, rights, a wrong path, a redirect: nobody's mail is at fault.
        _ => Meaning::LOGIN,
    }
}

/// How an attempt ended that got no success. `said` is the provider's text, `meaning` what it
/// means.
pub(super) fn refusal(answer: &Answer, said: &str, meaning: Meaning) -> Outcome {
    let doubtful = answer.status >= 500 && answer.whole;
    let reply = reply(answer.status, said);
    let Meaning { class, finality, reach, retry_after } = meaning;
    let retry_after = retry_after.filter(|_| finality == Finality::Passing);
    let stage = if answer.whole { Stage::Dot } else { Stage::Data };
    let ruling = Some(Arc::new(meaning.ruling()));
    let cause = Cause::Reply(reply);
    let verdict = Verdict { stage, cause, class, finality, reach, retry_after, ruling };
    if doubtful { Outcome::Doubtful(verdict) } else { Outcome::Refused(verdict) }
}

/// How an attempt ended that got no answer.
pub(super) fn silence(lost: Lost) -> Outcome {
    let Meaning { class, finality, reach, .. } = Meaning::account(Class::Transient);
    let verdict = Verdict {
        stage: lost.stage,
        cause: lost.cause,
        class,
        finality,
        reach,
        retry_after: None,
        ruling: None,
    };
    if lost.whole { Outcome::Doubtful(verdict) } else { Outcome::Unreached(verdict) }
}

/// The provider cannot carry this letter; nothing was sent.
pub(super) fn unfit(class: Class, why: String) -> Outcome {
    let Meaning { finality, reach, .. } = Meaning::CONTENT;
    let cause = Cause::Capability(why);
    let stage = Stage::Data;
    let (retry_after, ruling) = (None, None);
    Outcome::Refused(Verdict { stage, cause, class, finality, reach, retry_after, ruling })
}

/// Most characters of an answer that are kept.
const LONGEST_TEXT: usize = 500;

/// An answer as evidence: one line, bounded.
pub(super) fn reply(status: u16, said: &str) -> PeerReply {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = said.chars().take(LONGEST_TEXT).map(plain).collect();
    PeerReply { code: status, enhanced: None, text: text.trim().to_owned() }
}

/// What an answer says where it is not JSON of the provider's shape.
pub(super) fn plain_text(answer: &Answer) -> String {
    let shown = answer.body.get(..answer.body.len().min(4 * LONGEST_TEXT));
    String::from_utf8_lossy(shown.unwrap_or_default()).into_owned()
}

/// Longest wait that an answer may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// The wait that an answer asks for: `Retry-After` in seconds, or `X-RateLimit-Reset`, a time
/// in seconds (SendGrid) or milliseconds (Mailgun) since 1970. `now` is in seconds.
pub(super) fn wait_asked_for(answer: &Answer, now: u64) -> Option<Duration> {
    let number = |name: &str| -> Option<u64> {
        answer.headers.get(name)?.to_str().ok()?.trim().parse().ok()
    };
    let wait = number("retry-after").or_else(|| {
        let reset = number("x-ratelimit-reset")?;
        let reset = if reset > 100_000_000_000 { reset.div_ceil(1_000) } else { reset };
        Some(reset.saturating_sub(now))
    })?;
    Some(Duration::from_secs(wait).min(LONGEST_WAIT)).filter(|wait| !wait.is_zero())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub(super) mod tests {
    use super::*;
    use bytes::Bytes;
    use hyper::header::{HeaderMap, HeaderName};

    /// An answer to a whole request.
    pub(in crate::provider) fn answer(
        status: u16,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Answer {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        Answer { status, headers, body: Bytes::copy_from_slice(body.as_bytes()), whole: true }
    }

    #[test]
    fn a_failure_after_the_whole_request_is_in_doubt_and_no_other() {
        let failed = answer(503, &[], "");
        let early = Answer { whole: false, ..answer(503, &[], "") };
        assert!(matches!(refusal(&failed, "", by_status(503)), Outcome::Doubtful(_)));
        assert!(matches!(refusal(&early, "", by_status(503)), Outcome::Refused(_)));
        assert!(matches!(refusal(&answer(400, &[], ""), "", by_status(400)), Outcome::Refused(_)));
        let lost = |whole| Lost { stage: Stage::Dot, cause: Cause::Timeout, whole };
        assert!(matches!(silence(lost(true)), Outcome::Doubtful(_)));
        assert!(matches!(silence(lost(false)), Outcome::Unreached(_)));
    }

    #[test]
    fn only_what_is_said_of_a_mail_is_final() {
        for status in 300..600 {
            let meaning = by_status(status);
            assert_eq!(
                meaning.finality == Finality::Final,
                matches!(status, 400 | 413 | 422),
                "{status}"
            );
            assert_eq!(meaning.finality == Finality::Passing, meaning.reach == Reach::Route);
        }
    }

    #[test]
    fn only_a_bad_address_is_suppressed_and_only_a_throttle_slows_the_route() {
        for meaning in [Meaning::ADDRESS, Meaning::THROTTLED, Meaning::QUOTA, Meaning::LOGIN] {
            let ruling = meaning.ruling();
            assert_eq!(ruling.orders.suppress, meaning == Meaning::ADDRESS);
            assert_eq!(ruling.orders.slow, meaning == Meaning::THROTTLED);
            assert_eq!(ruling.blame == Some(Blame::Route), meaning != Meaning::ADDRESS);
            assert!(!ruling.orders.alert);
        }
        assert!(Meaning::IDENTITY.ruling().orders.alert);
    }

    #[test]
    fn waits_are_read_in_every_form() {
        for (headers, seconds) in [
            (&[("retry-after", "7")][..], Some(7)),
            (&[("x-ratelimit-reset", "1060")], Some(60)),
            (&[("x-ratelimit-reset", "1700000060500")], Some(1_699_999_061)),
            (&[("x-ratelimit-reset", "900")], None),
            (&[("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT")], None),
            (&[("retry-after", "-1")], None),
            (&[], None),
        ] {
            let wait = wait_asked_for(&answer(429, headers, ""), 1_000);
            let expected = seconds.map(|s| Duration::from_secs(s).min(LONGEST_WAIT));
            assert_eq!(wait, expected, "{headers:?}");
        }
    }

    #[test]
    fn what_is_kept_of_an_answer_is_one_bounded_line() {
        let reply = reply(400, &format!("a\r\nb\u{0}{}", "x".repeat(2_000)));
        assert!(reply.text.starts_with("a  b x") && reply.text.len() <= LONGEST_TEXT);
    }
}
