//! Reads replies (RFC 5321 4.2), byte by byte as they come; pure.
//!
//! Promises: whatever a peer sends, memory stays bounded and the text that
//! leaves here holds no control character. What is not a reply is a fault, and
//! after a fault the session cannot be trusted any more: the caller drops it.

use memchr::memchr;

use crate::domain::verdict::{EnhancedStatus, PeerReply};

/// Longest line taken, with its CRLF. RFC 5321 4.5.3.1.5 allows 512; some peers write more.
pub const MAX_LINE: usize = 4096;

/// Most lines of one reply.
const MAX_LINES: usize = 128;

/// Most bytes of one reply.
const MAX_BYTES: usize = 64 * 1024;

/// Most bytes of text kept of one reply; the rest is read and dropped.
const MAX_TEXT: usize = 4096;

/// What came was not a reply; the session is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyFault {
    /// A line does not begin with a code from 200 to 599 and a separator.
    #[error("expected a line like \"250 text\", found something else")]
    NotAReply,
    /// A multi-line reply changed its code on the way.
    #[error("expected every line to begin with {expected}, found {found}")]
    CodeChanged {
        /// The first line's code.
        expected: u16,
        /// The later line's code.
        found: u16,
    },
    /// A NUL byte.
    #[error("expected text, found a NUL byte")]
    Nul,
    /// A line is longer than [`MAX_LINE`].
    #[error("expected lines of at most {MAX_LINE} bytes, found a longer one")]
    LineTooLong,
    /// More lines or bytes than any honest reply has.
    #[error("expected at most {MAX_LINES} lines and {MAX_BYTES} bytes, found more")]
    TooLong,
}

/// One whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    /// The lines' sanitised text without codes, each ended by `\n`.
    text: String,
}

impl Reply {
    /// 200 to 599.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Whether it is a 2xx.
    pub fn is_positive(&self) -> bool {
        self.code < 300
    }

    /// Whether it is a 4xx or 5xx.
    pub fn is_refusal(&self) -> bool {
        self.code >= 400
    }

    /// The text of each line, without code.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }

    /// The form that leaves this folder: enhanced status apart, lines joined by spaces.
    pub fn into_peer_reply(self) -> PeerReply {
        let class = (self.code / 100) as u8;
        let mut enhanced = None;
        let mut text = String::with_capacity(self.text.len());
        for (number, line) in self.text.lines().enumerate() {
            let rest = match split_enhanced(line) {
                Some((status, rest)) if status.class == class && number == 0 => {
                    enhanced = Some(status);
                    rest
                }
                Some((status, rest)) if Some(status) == enhanced => rest,
                _ => line,
            };
            let rest = rest.trim();
            if !rest.is_empty() {
                if !text.is_empty() {
                    text.push(' ');
                }
                text.push_str(rest);
            }
        }
        PeerReply { code: self.code, enhanced, text }
    }
}

/// Collects lines until a reply is whole.
#[derive(Debug, Default)]
pub struct ReplyParser {
    code: Option<u16>,
    text: String,
    lines: usize,
    bytes: usize,
}

impl ReplyParser {
    /// Takes whole lines from the front of `input` until a reply ends.
    ///
    /// Returns how many bytes were used and the reply, if one is whole. Unused
    /// bytes must be given again, with more behind them: an unfinished line is
    /// never used, and one that is already too long is a fault.
    pub fn feed(&mut self, input: &[u8]) -> Result<(usize, Option<Reply>), ReplyFault> {
        let mut used = 0;
        while let Some(end) = memchr(b'\n', &input[used..]) {
            let line = &input[used..used + end];
            used += end + 1;
            if let Some(reply) = self.line(line)? {
                return Ok((used, Some(reply)));
            }
        }
        let rest = &input[used..];
        if rest.len() >= MAX_LINE {
            return Err(ReplyFault::LineTooLong);
        }
        if memchr(0, rest).is_some() {
            return Err(ReplyFault::Nul);
        }
        Ok((used, None))
    }

    /// Whether some lines of a reply were taken and its end is missing.
    pub fn is_inside_a_reply(&self) -> bool {
        self.code.is_some()
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Reply>, ReplyFault> {
        self.lines += 1;
        self.bytes += line.len() + 1;
        if line.len() >= MAX_LINE {
            return Err(ReplyFault::LineTooLong);
        }
        if self.lines > MAX_LINES || self.bytes > MAX_BYTES {
            return Err(ReplyFault::TooLong);
        }
        if memchr(0, line).is_some() {
            return Err(ReplyFault::Nul);
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (code, last, text) = split_line(line).ok_or(ReplyFault::NotAReply)?;
        let expected = *self.code.get_or_insert(code);
        if code != expected {
            return Err(ReplyFault::CodeChanged { expected, found: code });
        }
        push_sanitised(&mut self.text, text);
        if !last {
            return Ok(None);
        }
        let whole = std::mem::take(self);
        Ok(Some(Reply { code, text: whole.text }))
    }
}

/// `250-text` or `250 text` or `250`: code, whether it is the last line, text.
fn split_line(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let [hundreds @ b'2'..=b'5', tens @ b'0'..=b'9', ones @ b'0'..=b'9', rest @ ..] = line else {
        return None;
    };
    let digit = |byte: &u8| u16::from(byte - b'0');
    let code = digit(hundreds) * 100 + digit(tens) * 10 + digit(ones);
    match rest {
        [] => Some((code, true, &[])),
        [b' ', text @ ..] => Some((code, true, text)),
        [b'-', text @ ..] => Some((code, false, text)),
        _ => None,
    }
}

fn push_sanitised(text: &mut String, line: &[u8]) {
    let room = MAX_TEXT.saturating_sub(text.len());
    if line.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        // Plain ASCII, so any byte is a character boundary.
        text.push_str(std::str::from_utf8(&line[..line.len().min(room)]).unwrap_or_default());
    } else {
        let clean = String::from_utf8_lossy(line);
        for character in clean.chars() {
            if text.len() + character.len_utf8() > MAX_TEXT {
                break;
            }
            text.push(if is_harmless(character) { character } else { '?' });
        }
    }
    text.push('\n');
}

/// No control character, no line separator, nothing that reorders a terminal's text.
fn is_harmless(character: char) -> bool {
    !character.is_control()
        && !matches!(character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Takes `5.7.509` (or `#5.7.509`) off the front of a line.
fn split_enhanced(line: &str) -> Option<(EnhancedStatus, &str)> {
    let line = line.trim_start();
    let line = line.strip_prefix('#').unwrap_or(line);
    let end = line.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(line.len());
    let (status, rest) = line.split_at(end);
    let mut parts = status.split('.');
    let class = part(parts.next()?)?;
    let (subject, detail) = (part(parts.next()?)?, part(parts.next()?)?);
    if parts.next().is_some() || !matches!(class, 2 | 4 | 5) {
        return None;
    }
    let rest = match rest.chars().next() {
        None => rest,
        Some(' ' | ':' | ';' | ',' | '-') => &rest[1..],
        Some(_) => return None,
    };
    Some((EnhancedStatus { class: class as u8, subject, detail }, rest))
}

fn part(digits: &str) -> Option<u16> {
    (1..=3).contains(&digits.len()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Option<Reply>, ReplyFault> {
        ReplyParser::default().feed(bytes).map(|(_, reply)| reply)
    }

    fn peer(bytes: &[u8]) -> PeerReply {
        read(bytes).expect("a reply").expect("a whole one").into_peer_reply()
    }

    #[test]
    fn ordinary_replies_are_read() {
        for (wire, shown) in [
            ("250 OK\r\n", "250 OK"),
            ("250\r\n", "250"),
            ("250 \r\n", "250"),
            ("550 5.1.1\r\n", "550 5.1.1"),
            ("550 5.1.1 \r\n", "550 5.1.1"),
            ("550 5.7.509 Access denied\r\n", "550 5.7.509 Access denied"),
            ("550 #5.1.0 Address rejected.\r\n", "550 5.1.0 Address rejected."),
            ("550-5.1.1 The account\r\n550 5.1.1 is gone\r\n", "550 5.1.1 The account is gone"),
            ("250-one\r\n250-\r\n250 two\r\n", "250 one two"),
            ("250 2.0.0: fine\n", "250 2.0.0 fine"),
        ] {
            assert_eq!(peer(wire.as_bytes()).to_string(), shown, "{wire:?}");
        }
        let status = peer(b"451 4.7.650 slow\r\n").enhanced.expect("has one");
        assert_eq!((status.class, status.subject, status.detail), (4, 7, 650));
    }

    #[test]
    fn a_status_of_another_class_or_form_stays_text() {
        for wire in ["552 4.2.2 full", "550 5.1 x", "550 5.1.1.1 x", "550 5.1.1234 x", "550 5.1.1x"]
        {
            let reply = peer(format!("{wire}\r\n").as_bytes());
            assert_eq!(reply.enhanced, None, "{wire}");
            assert_eq!(reply.text, wire[4..], "{wire}");
        }
    }

    #[test]
    fn what_is_no_reply_is_a_fault() {
        assert_eq!(read(b"hello\r\n"), Err(ReplyFault::NotAReply));
        assert_eq!(read(b"\r\n"), Err(ReplyFault::NotAReply));
        assert_eq!(read(b"25\r\n"), Err(ReplyFault::NotAReply));
        assert_eq!(read(b"199 x\r\n"), Err(ReplyFault::NotAReply));
        assert_eq!(read(b"600 x\r\n"), Err(ReplyFault::NotAReply));
        assert_eq!(read(b"2500 x\r\n"), Err(ReplyFault::NotAReply));
        assert_eq!(read(b"250_x\r\n"), Err(ReplyFault::NotAReply));
        assert_eq!(read(b"250 a\0b\r\n"), Err(ReplyFault::Nul));
        assert_eq!(read(b"250 a\0"), Err(ReplyFault::Nul));
        assert_eq!(
            read(b"250-a\r\n550 b\r\n"),
            Err(ReplyFault::CodeChanged { expected: 250, found: 550 })
        );
        assert_eq!(read(&[b'2'; MAX_LINE]), Err(ReplyFault::LineTooLong));
        let mut long = b"250 ".to_vec();
        long.resize(10 << 20, b'x');
        long.extend_from_slice(b"\r\n");
        assert_eq!(read(&long), Err(ReplyFault::LineTooLong));
        assert_eq!(read(&b"250-\r\n".repeat(200)), Err(ReplyFault::TooLong));
    }

    #[test]
    fn control_characters_never_come_out() {
        let reply = peer("550 \u{1b}[31mred\u{7} \u{85}\u{202e}x\t\r\r\n".as_bytes());
        assert_eq!(reply.text, "?[31mred? ??x??");
        assert_eq!(peer(b"550 \xff\xfe\r\n").text, "\u{fffd}\u{fffd}");
    }

    #[test]
    fn text_is_cut_but_the_reply_is_read_to_its_end() {
        let line = format!("250-{}\r\n", "x".repeat(3_000));
        let wire = format!("{}250 end\r\n220 next\r\n", line.repeat(9));
        let mut parser = ReplyParser::default();
        let (used, reply) = parser.feed(wire.as_bytes()).expect("a reply");
        assert_eq!(&wire.as_bytes()[used..], b"220 next\r\n");
        assert!(reply.expect("whole").into_peer_reply().text.len() <= MAX_TEXT + 10);
    }

    proptest! {
        #[test]
        fn nothing_a_peer_sends_panics_or_comes_out_dirty(
            bytes in prop::collection::vec(any::<u8>(), 0..600), head in "(2[0-9]{2}[ -])?",
        ) {
            let mut wire = head.into_bytes();
            wire.extend(bytes);
            wire.extend_from_slice(b"\r\n");
            if let Ok(Some(reply)) = read(&wire) {
                let peer = reply.into_peer_reply();
                prop_assert!(!peer.text.chars().any(char::is_control));
                prop_assert!((200..600).contains(&peer.code));
            }
        }

        #[test]
        fn a_reply_reads_the_same_however_it_is_cut(
            code in 200u16..600, lines in prop::collection::vec("[ -~]{0,80}", 1..6),
            cut in 1usize..20,
        ) {
            let wire = write(code, &lines);
            let whole = read(wire.as_bytes());
            let (mut parser, mut buffer, mut got) = (ReplyParser::default(), Vec::new(), None);
            for piece in wire.as_bytes().chunks(cut) {
                buffer.extend_from_slice(piece);
                let (used, reply) = parser.feed(&buffer).expect("legal");
                buffer.drain(..used);
                got = got.or(reply);
            }
            prop_assert_eq!(whole, Ok(got));
        }

        /// A second opinion: smtp-proto reads ordinary replies the same way.
        #[test]
        fn smtp_proto_agrees_on_ordinary_replies(
            code in 200u16..600, status in prop::option::of((0u16..10, 0u16..10)),
            lines in prop::collection::vec("[A-Za-z][A-Za-z ,.<>@-]{0,60}[a-z]", 1..5),
        ) {
            let class = code / 100;
            let status = status.filter(|_| class != 3);
            let lines: Vec<String> = lines.iter().map(|line| match status {
                Some((subject, detail)) => format!("{class}.{subject}.{detail} {line}"),
                None => line.clone(),
            }).collect();
            let wire = write(code, &lines);
            let theirs = smtp_proto::response::parser::ResponseReceiver::default()
                .parse(&mut wire.as_bytes().iter())
                .expect("an ordinary reply");
            let ours = peer(wire.as_bytes());
            prop_assert_eq!(ours.code, theirs.code);
            let enhanced = ours.enhanced.map_or([0; 3], |s| [s.class, s.subject as u8, s.detail as u8]);
            prop_assert_eq!(enhanced, theirs.esc);
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            prop_assert_eq!(words(&ours.text), words(&theirs.message));
        }
    }

    fn write(code: u16, lines: &[String]) -> String {
        use std::fmt::Write as _;
        let mut wire = String::new();
        for (number, line) in lines.iter().enumerate() {
            let separator = if number + 1 == lines.len() { ' ' } else { '-' };
            write!(wire, "{code}{separator}{line}\r\n").expect("a string takes all");
        }
        wire
    }
}
