//! The receiver's side of one SMTP dialogue (RFC 5321), without a socket.
//!
//! Bytes go in, replies collect in a buffer, and [`Session::advance`] says what
//! to do next. Replies to a pipelined batch come out together, so that the
//! caller writes once per batch (RFC 2920).

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;

use super::faults::{Fault, FaultMix};
use super::ledger::{Ledger, Received};

/// Largest mail, in bytes on the wire.
pub(super) const MAX_MAIL: usize = 40 << 20;

/// Longest command line; RFC 5321 asks for 512 and more with extensions.
const MAX_LINE: usize = 4_096;

/// Recipients of one mail.
const MAX_RECIPIENTS: usize = 1_000;

/// Wrong commands after which the session ends.
const MAX_ERRORS: u32 = 20;

/// What the connection does after a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Write the replies, then read more.
    Read,
    /// Write the replies but for the last one, which waits this long.
    Pause(Duration),
    /// Write the replies and close.
    Close,
}

/// One dialogue.
#[derive(Debug)]
pub(super) struct Session<'a> {
    ledger: &'a Mutex<Ledger>,
    faults: Option<&'a FaultMix>,
    state: State,
    errors: u32,
    /// Replies not yet written.
    pub(super) replies: Vec<u8>,
    /// The reply that waits for the end of a pause.
    late: &'static [u8],
}

#[derive(Debug)]
enum State {
    /// No mail is under way.
    Ready,
    /// MAIL was taken.
    Envelope(Envelope),
    /// The body comes; `seen` bytes of it hold no end.
    Body { envelope: Envelope, seen: usize },
    /// The body is too large: it is thrown away up to its end.
    Overflow { recipients: usize },
}

#[derive(Debug, Default)]
struct Envelope {
    from: String,
    to: Vec<String>,
    /// What goes wrong at DATA or later.
    fault: Option<Fault>,
}

const OK: &[u8] = b"250 2.0.0 ok\r\n";
const TAKEN: &[u8] = b"250 2.0.0 kept\r\n";

impl<'a> Session<'a> {
    /// A dialogue that begins with our greeting.
    pub(super) fn new(ledger: &'a Mutex<Ledger>, faults: Option<&'a FaultMix>) -> Self {
        ledger.lock().connected();
        Self {
            ledger,
            faults,
            state: State::Ready,
            errors: 0,
            replies: b"220 sink.localhost ESMTP postrider sink\r\n".to_vec(),
            late: b"",
        }
    }

    /// Works through what came, as far as it is whole.
    pub(super) fn advance(&mut self, input: &mut BytesMut) -> Next {
        self.replies.extend_from_slice(std::mem::take(&mut self.late));
        loop {
            let step = match std::mem::replace(&mut self.state, State::Ready) {
                State::Body { envelope, seen } => self.body(envelope, seen, input),
                State::Overflow { recipients } => self.overflow(recipients, input),
                other => {
                    self.state = other;
                    self.line(input)
                }
            };
            match step {
                Step::Again => {}
                Step::Stop(next) => return next,
            }
        }
    }

    fn line(&mut self, input: &mut BytesMut) -> Step {
        let Some(end) = memchr::memmem::find(&input[..input.len().min(MAX_LINE)], b"\r\n") else {
            if input.len() < MAX_LINE {
                return Step::Stop(Next::Read);
            }
            self.reply(b"500 5.5.2 line too long\r\n");
            return Step::Stop(Next::Close);
        };
        let line = input.split_to(end);
        input.advance(2);
        self.command(&line)
    }

    fn command(&mut self, line: &[u8]) -> Step {
        let fine = |byte: &u8| *byte != b'\r' && *byte != b'\n' && *byte != 0;
        let Some(line) = std::str::from_utf8(line).ok().filter(|l| l.as_bytes().iter().all(fine))
        else {
            return self.wrong(b"500 5.5.2 expected UTF-8 without lone CR, LF and NUL\r\n");
        };
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            v if v.eq_ignore_ascii_case("MAIL") => self.mail(rest),
            v if v.eq_ignore_ascii_case("RCPT") => self.rcpt(rest),
            v if v.eq_ignore_ascii_case("DATA") => self.data(),
            v if v.eq_ignore_ascii_case("EHLO") => {
                self.state = State::Ready;
                self.reply(b"250-sink.localhost\r\n250-PIPELINING\r\n250-8BITMIME\r\n");
                self.reply(format!("250-SMTPUTF8\r\n250-SIZE {MAX_MAIL}\r\n").as_bytes());
                self.reply(b"250 ENHANCEDSTATUSCODES\r\n")
            }
            v if v.eq_ignore_ascii_case("HELO") => {
                self.state = State::Ready;
                self.reply(b"250 sink.localhost\r\n")
            }
            v if v.eq_ignore_ascii_case("RSET") => {
                self.state = State::Ready;
                self.reply(OK)
            }
            v if v.eq_ignore_ascii_case("NOOP") => self.reply(OK),
            v if v.eq_ignore_ascii_case("QUIT") => {
                self.reply(b"221 2.0.0 bye\r\n");
                Step::Stop(Next::Close)
            }
            _ => self.wrong(b"500 5.5.1 unknown command\r\n"),
        }
    }

    fn mail(&mut self, rest: &str) -> Step {
        if !matches!(self.state, State::Ready) {
            return self.wrong(b"503 5.5.1 a mail is under way\r\n");
        }
        let Some((from, parameters)) = path(rest, "FROM:") else {
            return self.wrong(b"501 5.5.4 expected MAIL FROM:<address>\r\n");
        };
        let size = parameters.split(' ').find_map(|p| {
            let (name, value) = p.split_once('=')?;
            name.eq_ignore_ascii_case("SIZE").then(|| value.parse::<usize>().ok())?
        });
        if size.is_some_and(|size| size > MAX_MAIL) {
            return self.reply(b"552 5.3.4 too large\r\n");
        }
        self.state = State::Envelope(Envelope { from: from.to_owned(), ..Envelope::default() });
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
            return self.refuse(b"452 4.5.3 too many recipients\r\n", 1);
        }
        let fault = self.faults.and_then(|faults| self.ledger.lock().next_fault(faults, to));
        match fault {
            Some(Fault::RcptDeferred) => self.refuse(b"450 4.2.1 mailbox busy, try later\r\n", 1),
            Some(Fault::RcptRefused) => self.refuse(b"550 5.1.1 no such user here\r\n", 1),
            later => {
                envelope.to.push(to.to_owned());
                envelope.fault = envelope.fault.or(later);
                self.reply(b"250 2.1.5 ok\r\n")
            }
        }
    }

    fn data(&mut self) -> Step {
        match std::mem::replace(&mut self.state, State::Ready) {
            State::Envelope(envelope) if !envelope.to.is_empty() => match envelope.fault {
                Some(Fault::DataDeferred) => {
                    self.refuse(b"451 4.3.2 not now, try later\r\n", envelope.to.len())
                }
                Some(Fault::DroppedBeforeDot) => self.drop_connection(),
                _ => {
                    self.state = State::Body { envelope, seen: 0 };
                    self.reply(b"354 go on\r\n")
                }
            },
            State::Envelope(_) => self.reply(b"554 5.5.1 no valid recipients\r\n"),
            _ => self.wrong(b"503 5.5.1 MAIL first\r\n"),
        }
    }

    fn body(&mut self, envelope: Envelope, seen: usize, input: &mut BytesMut) -> Step {
        let Some((length, end)) = end_of_body(input, seen) else {
            if input.len() > MAX_MAIL {
                self.state = State::Overflow { recipients: envelope.to.len() };
                return Step::Again;
            }
            self.state = State::Body { envelope, seen: input.len() };
            return Step::Stop(Next::Read);
        };
        if length > MAX_MAIL {
            input.advance(end);
            return self.refuse(b"552 5.3.4 too large\r\n", envelope.to.len());
        }
        // A copy, so that a kept mail does not hold the whole read buffer.
        let stuffed = Bytes::copy_from_slice(&input[..length]);
        input.advance(end);
        if has_lone_line_end(&stuffed) {
            return self.refuse(b"554 5.6.0 lone CR or LF in the body\r\n", envelope.to.len());
        }
        let Envelope { from, to, fault } = envelope;
        if fault == Some(Fault::DotDeferred) {
            return self.refuse(b"452 4.3.1 no room, try later\r\n", to.len());
        }
        let acknowledged = fault != Some(Fault::DroppedAfterDot);
        self.ledger.lock().accepted(Received { from, to, stuffed, acknowledged });
        match (fault, self.faults) {
            (Some(Fault::DroppedAfterDot), _) => self.drop_connection(),
            (Some(Fault::Slow), Some(faults)) => {
                self.late = TAKEN;
                Step::Stop(Next::Pause(faults.delay))
            }
            _ => self.reply(TAKEN),
        }
    }

    fn overflow(&mut self, recipients: usize, input: &mut BytesMut) -> Step {
        if let Some(at) = memchr::memmem::find(input, b"\r\n.\r\n") {
            input.advance(at + 5);
            return self.refuse(b"552 5.3.4 too large\r\n", recipients);
        }
        // An end may be cut in two: its first four bytes stay.
        input.advance(input.len().saturating_sub(4));
        self.state = State::Overflow { recipients };
        Step::Stop(Next::Read)
    }

    fn reply(&mut self, text: &[u8]) -> Step {
        self.replies.extend_from_slice(text);
        Step::Again
    }

    /// Refuses recipients, with the code that the text begins with.
    fn refuse(&mut self, text: &[u8], recipients: usize) -> Step {
        let code = text[..3].iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
        self.ledger.lock().refused(code, recipients);
        self.reply(text)
    }

    fn wrong(&mut self, text: &[u8]) -> Step {
        self.errors += 1;
        if self.errors < MAX_ERRORS {
            return self.reply(text);
        }
        self.reply(b"421 4.7.0 too many errors\r\n");
        Step::Stop(Next::Close)
    }

    fn drop_connection(&mut self) -> Step {
        self.ledger.lock().dropped();
        Step::Stop(Next::Close)
    }
}

/// Whether the dialogue goes on with the input at hand.
enum Step {
    Again,
    Stop(Next),
}

/// `FROM:<a@b> SIZE=3` into the address and the parameters.
fn path<'l>(rest: &'l str, keyword: &str) -> Option<(&'l str, &'l str)> {
    let (found, rest) = rest.split_at_checked(keyword.len())?;
    let path = rest.trim_start_matches(' ').strip_prefix('<')?;
    // The last bracket before the parameters: a quoted local part may hold one.
    let close = path.find("> ").or_else(|| path.strip_suffix('>').map(str::len))?;
    let parameters = path[close + 1..].trim_start_matches(' ');
    found.eq_ignore_ascii_case(keyword).then_some((&path[..close], parameters))
}

/// Length of the body and where what follows it begins. Only CRLF.CRLF ends it;
/// the CRLF before an empty body is that of DATA.
fn end_of_body(input: &[u8], seen: usize) -> Option<(usize, usize)> {
    let from = seen.saturating_sub(4);
    if from == 0 && input.starts_with(b".\r\n") {
        return Some((0, 3));
    }
    let at = from + memchr::memmem::find(&input[from..], b"\r\n.\r\n")?;
    Some((at + 2, at + 5))
}

fn has_lone_line_end(body: &[u8]) -> bool {
    memchr::memchr2_iter(b'\r', b'\n', body).any(|at| match body[at] {
        b'\r' => body.get(at + 1) != Some(&b'\n'),
        _ => at == 0 || body[at - 1] != b'\r',
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole dialogue, its input cut into pieces of `size` bytes.
    fn talk(faults: Option<&FaultMix>, input: &str, size: usize) -> (String, Ledger, Option<Next>) {
        let ledger = Mutex::new(Ledger::new(10));
        let mut session = Session::new(&ledger, faults);
        session.replies.clear();
        let mut buffer = BytesMut::new();
        let mut end = None;
        'pieces: for piece in input.as_bytes().chunks(size) {
            buffer.extend_from_slice(piece);
            loop {
                match session.advance(&mut buffer) {
                    Next::Read => break,
                    Next::Pause(_) => end = Some(Next::Pause(Duration::ZERO)),
                    Next::Close => {
                        end = Some(Next::Close);
                        break 'pieces;
                    }
                }
            }
        }
        let replies = String::from_utf8(session.replies).unwrap();
        (replies, ledger.into_inner(), end)
    }

    fn codes(replies: &str) -> Vec<&str> {
        replies.lines().filter(|l| l.as_bytes()[3] == b' ').map(|l| &l[..3]).collect()
    }

    const ONE: &str = "MAIL FROM:<a@x.test> SIZE=9\r\nRCPT TO:<b@y.test>\r\nDATA\r\n";

    #[test]
    fn a_pipelined_dialogue_reads_the_same_however_it_is_cut() {
        let input =
            format!("EHLO me\r\n{ONE}Subject: x\r\n\r\n..\r\n.\r\n{ONE}.\r\nRSET\r\nQUIT\r\n");
        for size in [1, 2, 3, 7, 1_000] {
            let (replies, ledger, end) = talk(None, &input, size);
            assert_eq!(
                codes(&replies),
                ["250", "250", "250", "354", "250", "250", "250", "354", "250", "250", "221"],
                "pieces of {size}"
            );
            assert_eq!(end, Some(Next::Close));
            assert_eq!(ledger.mail(1).unwrap().raw(), b"Subject: x\r\n\r\n.\r\n");
            assert_eq!(ledger.mail(2).unwrap().raw(), b"");
            assert_eq!(ledger.mail(1).unwrap().to, ["b@y.test"]);
        }
    }

    #[test]
    fn nothing_but_a_dot_between_two_whole_line_ends_ends_a_mail() {
        for smuggled in
            ["\n.\n", "\n.\r\n", "\r.\r", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\r\n\0.\r\n"]
        {
            let input = format!("{ONE}Subject: x\r\n\r\nbody{smuggled}{ONE}more\r\n.\r\n");
            let (replies, ledger, _) = talk(None, &input, 5);
            assert!(ledger.mails().len() <= 1, "{smuggled:?}");
            assert_eq!(codes(&replies).len(), 4, "{smuggled:?}: {replies}");
        }
    }

    #[test]
    fn a_lone_line_end_in_a_body_is_refused() {
        for body in ["a\nb", "a\rb", "\na", "a\r"] {
            let (replies, ledger, _) = talk(None, &format!("{ONE}{body}\r\n.\r\n"), 64);
            assert!(replies.ends_with("554 5.6.0 lone CR or LF in the body\r\n"), "{body:?}");
            assert_eq!(ledger.stats().refused, 1);
        }
    }

    #[test]
    fn commands_out_of_order_or_shape_are_refused() {
        for (input, code) in [
            ("RCPT TO:<b@y.test>\r\n", "503"),
            ("DATA\r\n", "503"),
            ("MAIL FROM:a@x.test\r\n", "501"),
            ("MAIL FROM:<> SIZE=99999999999\r\n", "552"),
            ("MAIL FROM:<>\r\nRCPT TO:<>\r\n", "501"),
            ("MAIL FROM:<>\r\nDATA\r\n", "554"),
            ("MAIL FROM:<a@x.test>\nRCPT TO:<b@y.test>\r\n", "500"),
            ("VRFY b\r\n", "500"),
        ] {
            let (replies, ..) = talk(None, input, 64);
            assert_eq!(codes(&replies).last(), Some(&code), "{input:?}: {replies}");
        }
        let (replies, _, end) = talk(None, &"X\r\n".repeat(30), 64);
        assert!(replies.ends_with("421 4.7.0 too many errors\r\n"));
        assert_eq!(end, Some(Next::Close));
        let (replies, _, end) = talk(None, &"X".repeat(MAX_LINE + 1), 64);
        assert!(replies.starts_with("500") && end == Some(Next::Close));
    }

    #[test]
    fn a_body_beyond_the_bound_is_thrown_away_and_the_session_goes_on() {
        let input = format!("{ONE}{}\r\n.\r\nNOOP\r\n", "x".repeat(MAX_MAIL + 10));
        let (replies, ledger, _) = talk(None, &input, 1 << 20);
        assert_eq!(codes(&replies), ["250", "250", "354", "552", "250"]);
        assert_eq!((ledger.stats().accepted, ledger.stats().refused), (0, 1));
    }

    #[test]
    fn each_fault_shows_at_its_place() {
        let run = |mix: &str| {
            let faults: FaultMix = mix.parse().unwrap();
            let (replies, ledger, end) = talk(Some(&faults), &format!("{ONE}x\r\n.\r\n"), 200);
            let stats = ledger.stats();
            (codes(&replies).last().unwrap().to_string(), stats.accepted, stats.unacknowledged, end)
        };
        assert_eq!(run("slow=0"), ("250".into(), 1, 0, None));
        // DATA after a refused recipient, and then the body taken for commands.
        assert_eq!(run("rcpt-defer=100").1, 0);
        assert_eq!(run("rcpt-refuse=100").1, 0);
        assert_eq!(run("data-defer=100").1, 0);
        assert_eq!(run("dot-defer=100"), ("452".into(), 0, 0, None));
        assert_eq!(run("drop-before-dot=100"), ("250".into(), 0, 0, Some(Next::Close)));
        assert_eq!(run("drop-after-dot=100"), ("354".into(), 1, 1, Some(Next::Close)));
        assert_eq!(run("slow=100").3, Some(Next::Pause(Duration::ZERO)));
    }
}
