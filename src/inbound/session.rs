//! The receiver's side of one SMTP or LMTP dialogue (RFC 5321, RFC 2033), without a socket.
//!
//! Bytes go in, replies collect in a buffer, and [`Session::advance`] says what to do next.
//! Only CRLF, dot, CRLF ends a mail, and a mail or command with a lone CR or LF or a NUL is
//! refused: what one server takes for two mails must not be one here (VU#302671).

use bytes::{Buf, BytesMut};
use memchr::memmem;

use super::door::{Destination, Door};

/// Which protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Smtp,
    Lmtp,
}

/// What the connection does after a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Write the replies, then read more.
    Read,
    /// Write the replies, then shake hands.
    StartTls,
    /// Store the mail, and say by [`Session::stored`] whether that worked.
    Store(Mail),
    /// Write the replies and close.
    Close,
}

/// A whole mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mail {
    /// Envelope sender; empty: the null sender.
    pub(super) from: String,
    pub(super) to: Vec<Destination>,
    /// Header and body, dots unstuffed.
    pub(super) raw: Vec<u8>,
}

/// What a session may do.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) protocol: Protocol,
    pub(super) hostname: String,
    pub(super) max_mail: usize,
    pub(super) offers_tls: bool,
}

/// One dialogue.
#[derive(Debug)]
pub(super) struct Session<'a> {
    door: &'a Door,
    terms: &'a Terms,
    state: State,
    greeted: bool,
    encrypted: bool,
    errors: u32,
    /// Replies not yet written.
    pub(super) replies: Vec<u8>,
    /// Recipients of the mail that is being stored: LMTP answers for each.
    storing: usize,
}

#[derive(Debug)]
enum State {
    Ready,
    Envelope(Envelope),
    /// `seen` bytes of the body hold no end.
    Body {
        envelope: Envelope,
        seen: usize,
    },
    /// The body is too large: it is thrown away up to its end.
    Overflow {
        recipients: usize,
    },
}

#[derive(Debug, Default)]
struct Envelope {
    from: String,
    to: Vec<Destination>,
}

/// Longest command line; RFC 5321 asks for 512 and more with extensions.
const MAX_LINE: usize = 2_048;
/// Recipients of one mail.
const MAX_RECIPIENTS: usize = 20;
/// Wrong commands and addresses after which the session ends.
const MAX_ERRORS: u32 = 10;

/// Whether the dialogue goes on with the input at hand.
enum Step {
    Again,
    Stop(Next),
}

impl<'a> Session<'a> {
    /// A dialogue that begins with our greeting.
    pub(super) fn new(door: &'a Door, terms: &'a Terms) -> Self {
        let kind = if terms.protocol == Protocol::Lmtp { "LMTP" } else { "ESMTP" };
        Self {
            door,
            terms,
            state: State::Ready,
            greeted: false,
            encrypted: false,
            errors: 0,
            replies: format!("220 {} {kind} postrider\r\n", terms.hostname).into_bytes(),
            storing: 0,
        }
    }

    /// The connection is encrypted now: everything begins anew (RFC 3207 4.2).
    pub(super) fn encrypted(&mut self) {
        self.state = State::Ready;
        self.greeted = false;
        self.encrypted = true;
    }

    /// Answers for the mail of [`Next::Store`].
    pub(super) fn stored(&mut self, reply: &[u8]) {
        for _ in 0..std::mem::take(&mut self.storing) {
            self.replies.extend_from_slice(reply);
        }
    }

    /// Works through what came, as far as it is whole.
    pub(super) fn advance(&mut self, input: &mut BytesMut) -> Next {
        loop {
            let step = match std::mem::replace(&mut self.state, State::Ready) {
                State::Body { envelope, seen } => self.body(envelope, seen, input),
                State::Overflow { recipients } => self.overflow(recipients, input),
                other => {
                    self.state = other;
                    self.line(input)
                }
            };
            if let Step::Stop(next) = step {
                return next;
            }
        }
    }

    fn line(&mut self, input: &mut BytesMut) -> Step {
        let looked_at: &[u8] = input.get(..MAX_LINE).unwrap_or(&input[..]);
        let Some(end) = memmem::find(looked_at, b"\r\n") else {
            if input.len() < MAX_LINE {
                return Step::Stop(Next::Read);
            }
            self.reply(b"500 5.5.2 line too long\r\n");
            return Step::Stop(Next::Close);
        };
        let line = input.split_to(end);
        input.advance(2);
        let plain = !line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
        let Some(line) = std::str::from_utf8(&line).ok().filter(|_| plain) else {
            return self.wrong(b"500 5.5.2 expected UTF-8 without lone CR, LF and NUL\r\n");
        };
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" if self.terms.protocol == Protocol::Smtp => self.hello(Extensions::Told),
            "LHLO" if self.terms.protocol == Protocol::Lmtp => self.hello(Extensions::Told),
            "HELO" if self.terms.protocol == Protocol::Smtp => self.hello(Extensions::Untold),
            "STARTTLS" => self.start_tls(input),
            "MAIL" => self.mail(rest),
            "RCPT" => self.rcpt(rest),
            "DATA" => self.data(),
            "RSET" => {
                self.state = State::Ready;
                self.reply(b"250 2.0.0 ok\r\n")
            }
            "NOOP" => self.reply(b"250 2.0.0 ok\r\n"),
            "VRFY" => self.reply(b"252 2.5.2 send a mail and see\r\n"),
            "QUIT" => {
                self.reply(b"221 2.0.0 bye\r\n");
                Step::Stop(Next::Close)
            }
            _ => self.wrong(b"500 5.5.1 unknown command\r\n"),
        }
    }

    fn hello(&mut self, extensions: Extensions) -> Step {
        self.state = State::Ready;
        self.greeted = true;
        let host = &self.terms.hostname;
        let lines = match extensions {
            Extensions::Untold => format!("250 {host}\r\n"),
            Extensions::Told => {
                let tls = self.terms.offers_tls && !self.encrypted;
                format!(
                    "250-{host}\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-SIZE {}\r\n{}250 ENHANCEDSTATUSCODES\r\n",
                    self.terms.max_mail,
                    if tls { "250-STARTTLS\r\n" } else { "" },
                )
            }
        };
        self.reply(lines.as_bytes())
    }

    fn start_tls(&mut self, input: &BytesMut) -> Step {
        if !self.terms.offers_tls || self.encrypted {
            return self.wrong(b"503 5.5.1 no TLS now\r\n");
        }
        // What came in the same flight could be somebody else's words (CVE-2011-0411).
        if !input.is_empty() {
            self.reply(b"554 5.5.1 nothing may follow STARTTLS\r\n");
            return Step::Stop(Next::Close);
        }
        self.reply(b"220 2.0.0 go ahead\r\n");
        Step::Stop(Next::StartTls)
    }

    fn mail(&mut self, rest: &str) -> Step {
        if !self.greeted {
            return self.wrong(b"503 5.5.1 say hello first\r\n");
        }
        if !matches!(self.state, State::Ready) {
            return self.wrong(b"503 5.5.1 a mail is under way\r\n");
        }
        let Some((from, parameters)) = path(rest, "FROM:") else {
            return self.wrong(b"501 5.5.4 expected MAIL FROM:<address>\r\n");
        };
        let size = parameters.split(' ').find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.eq_ignore_ascii_case("SIZE").then(|| value.parse::<usize>().ok())?
        });
        if size.is_some_and(|size| size > self.terms.max_mail) {
            return self.reply(b"552 5.3.4 too large\r\n");
        }
        self.state = State::Envelope(Envelope { from: from.to_owned(), to: Vec::new() });
        self.reply(b"250 2.1.0 ok\r\n")
    }

    fn rcpt(&mut self, rest: &str) -> Step {
        let State::Envelope(envelope) = &mut self.state else {
            return self.wrong(b"503 5.5.1 MAIL first\r\n");
        };
        let Some((to, _)) = path(rest, "TO:").filter(|(to, _)| !to.is_empty()) else {
            return self.wrong(b"501 5.5.4 expected RCPT TO:<address>\r\n");
        };
        if envelope.to.len() == MAX_RECIPIENTS {
            return self.reply(b"452 4.5.3 too many recipients\r\n");
        }
        match self.door.admit(to) {
            Ok(destination) => {
                envelope.to.push(destination);
                self.reply(b"250 2.1.5 ok\r\n")
            }
            Err(refused) => {
                metrics::counter!("postrider_inbound_refused_total", "reason" => refused.as_str())
                    .increment(1);
                self.wrong(refused.reply())
            }
        }
    }

    fn data(&mut self) -> Step {
        match std::mem::replace(&mut self.state, State::Ready) {
            State::Envelope(envelope) if !envelope.to.is_empty() => {
                self.state = State::Body { envelope, seen: 0 };
                self.reply(b"354 end with <CRLF>.<CRLF>\r\n")
            }
            State::Envelope(_) => self.reply(b"554 5.5.1 no valid recipients\r\n"),
            _ => self.wrong(b"503 5.5.1 MAIL first\r\n"),
        }
    }

    fn body(&mut self, envelope: Envelope, seen: usize, input: &mut BytesMut) -> Step {
        let recipients = envelope.to.len();
        let Some((length, end)) = end_of_body(input, seen) else {
            self.state = if input.len() > self.terms.max_mail {
                State::Overflow { recipients }
            } else {
                State::Body { envelope, seen: input.len() }
            };
            return match self.state {
                State::Overflow { .. } => Step::Again,
                _ => Step::Stop(Next::Read),
            };
        };
        let whole = input.split_to(end);
        let stuffed = whole.get(..length).unwrap_or_default();
        if length > self.terms.max_mail {
            return self.refuse(recipients, "too_large", b"552 5.3.4 too large\r\n");
        }
        if !is_plain(stuffed) {
            return self.refuse(
                recipients,
                "bare_line_end",
                b"550 5.6.0 lone CR or LF or a NUL in the mail\r\n",
            );
        }
        self.storing = self.answers(recipients);
        let Envelope { from, to } = envelope;
        Step::Stop(Next::Store(Mail { from, to, raw: unstuffed(stuffed) }))
    }

    fn overflow(&mut self, recipients: usize, input: &mut BytesMut) -> Step {
        if let Some(at) = memmem::find(input, b"\r\n.\r\n") {
            input.advance(at + 5);
            return self.refuse(recipients, "too_large", b"552 5.3.4 too large\r\n");
        }
        // An end may be cut in two: its first four bytes stay.
        input.advance(input.len().saturating_sub(4));
        self.state = State::Overflow { recipients };
        Step::Stop(Next::Read)
    }

    /// Replies after the final dot (RFC 2033 4.2).
    fn answers(&self, recipients: usize) -> usize {
        if self.terms.protocol == Protocol::Lmtp { recipients } else { 1 }
    }

    fn refuse(&mut self, recipients: usize, reason: &'static str, reply: &[u8]) -> Step {
        metrics::counter!("postrider_inbound_refused_total", "reason" => reason).increment(1);
        for _ in 0..self.answers(recipients) {
            self.reply(reply);
        }
        Step::Again
    }

    fn reply(&mut self, text: &[u8]) -> Step {
        self.replies.extend_from_slice(text);
        Step::Again
    }

    fn wrong(&mut self, text: &[u8]) -> Step {
        self.errors += 1;
        self.reply(text);
        if self.errors < MAX_ERRORS {
            return Step::Again;
        }
        self.reply(b"421 4.7.0 too many errors\r\n");
        Step::Stop(Next::Close)
    }
}

#[derive(Clone, Copy)]
enum Extensions {
    Told,
    Untold,
}

/// `FROM:<a@b> SIZE=3` into the address and the parameters.
fn path<'l>(rest: &'l str, keyword: &str) -> Option<(&'l str, &'l str)> {
    let (found, rest) = rest.split_at_checked(keyword.len())?;
    let path = rest.trim_start_matches(' ').strip_prefix('<')?;
    let (address, parameters) = path.split_once('>')?;
    let fits = found.eq_ignore_ascii_case(keyword) && address.len() <= 320;
    fits.then_some((address, parameters.trim_start_matches(' ')))
}

/// Length of the body and where what follows it begins. Only CRLF.CRLF ends it; the CRLF
/// before an empty body is that of DATA.
fn end_of_body(input: &[u8], seen: usize) -> Option<(usize, usize)> {
    let from = seen.saturating_sub(4);
    if from == 0 && input.starts_with(b".\r\n") {
        return Some((0, 3));
    }
    let at = from + memmem::find(input.get(from..)?, b"\r\n.\r\n")?;
    Some((at + 2, at + 5))
}

/// No CR without LF, no LF without CR, no NUL.
fn is_plain(body: &[u8]) -> bool {
    memchr::memchr3_iter(b'\r', b'\n', 0, body).all(|at| match body.get(at) {
        Some(b'\r') => body.get(at + 1) == Some(&b'\n'),
        Some(b'\n') => at.checked_sub(1).and_then(|before| body.get(before)) == Some(&b'\r'),
        _ => false,
    })
}

/// Takes away the dots that the sender doubled (RFC 5321 4.5.2).
fn unstuffed(body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(body.len());
    let mut rest = body;
    if let Some(after) = rest.strip_prefix(b".") {
        rest = after;
    }
    while let Some(at) = memmem::find(rest, b"\r\n.") {
        plain.extend_from_slice(rest.get(..at + 2).unwrap_or_default());
        rest = rest.get(at + 3..).unwrap_or_default();
    }
    plain.extend_from_slice(rest);
    plain
}
