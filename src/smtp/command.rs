//! The one writer of the wire: every byte that we send is made here.
//!
//! Promises: a parameter that holds a space, a bracket, CR, LF or any other
//! control character is refused, never written, so nobody's data can become a
//! command. A body leaves with CRLF as its only line end, without NUL, and with
//! every leading dot doubled (RFC 5321 4.5.2), so it cannot end early whatever
//! the receiver takes for the end of data. A clean letter leaves unchanged but
//! for the dots; repairing others would break their signature, which is the
//! lesser harm.

use memchr::memchr3;

use crate::message::address::Address;

/// Ends the body when nothing is to be delivered: a dot on a line of its own.
pub const LONE_DOT: &[u8] = b".\r\n";

/// Something that cannot be said in SMTP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct Unwritable {
    expected: &'static str,
    found: String,
}

impl Unwritable {
    fn new(expected: &'static str, found: &str) -> Self {
        Self { expected, found: found.chars().take(80).collect() }
    }
}

/// The name we give ourselves: a host name, or an address literal in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EhloName(String);

impl EhloName {
    /// Takes a name of letters, digits, dots and hyphens, or `[192.0.2.1]`, `[IPv6:…]`.
    pub fn try_new(name: &str) -> Result<Self, Unwritable> {
        let literal = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let is_name_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let legal = match literal {
            Some(inside) => inside.bytes().all(|b| is_name_byte(b) || b == b':'),
            None => name.bytes().all(is_name_byte),
        };
        if !legal || !(1..=255).contains(&literal.unwrap_or(name).len()) {
            return Err(Unwritable::new("a host name to give in EHLO", name));
        }
        Ok(Self(name.to_owned()))
    }
}

/// A command.
#[derive(Debug, Clone, Copy)]
pub enum Command<'a> {
    /// EHLO.
    Ehlo(&'a EhloName),
    /// HELO, for peers that do not know EHLO.
    Helo(&'a EhloName),
    /// STARTTLS.
    StartTls,
    /// MAIL FROM.
    Mail(Mail<'a>),
    /// RCPT TO.
    Rcpt(&'a Address),
    /// DATA.
    Data,
    /// BDAT LAST (RFC 3030): so many octets follow, and that is all.
    LastChunk(u64),
    /// RSET.
    Reset,
    /// QUIT.
    Quit,
    /// AUTH PLAIN with its initial response, in Base64.
    AuthPlain(&'a str),
    /// AUTH LOGIN.
    AuthLogin,
    /// AUTH XOAUTH2 with its initial response, in Base64.
    AuthXOAuth2(&'a str),
    /// A line of an AUTH dialogue, in Base64.
    AuthAnswer(&'a str),
}

/// MAIL and its parameters; each is written only if the peer offered it.
#[derive(Debug, Clone, Copy)]
pub struct Mail<'a> {
    /// `None` is the null sender.
    pub sender: Option<&'a Address>,
    /// Octets of the letter, before dots are doubled.
    pub size: Option<u64>,
    /// BODY=8BITMIME.
    pub eight_bit: bool,
    /// SMTPUTF8.
    pub utf8: bool,
}

impl Command<'_> {
    /// Appends the command's line. On an error nothing was appended.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), Unwritable> {
        match self {
            Self::Ehlo(name) => line(out, &[b"EHLO ", name.0.as_bytes()]),
            Self::Helo(name) => line(out, &[b"HELO ", name.0.as_bytes()]),
            Self::StartTls => line(out, &[b"STARTTLS"]),
            Self::Mail(mail) => return mail.write(out),
            Self::Rcpt(address) => {
                line(out, &[b"RCPT TO:<", mailbox(address)?, b">"]);
            }
            Self::Data => line(out, &[b"DATA"]),
            Self::LastChunk(octets) => {
                out.extend_from_slice(b"BDAT ");
                push_number(out, *octets);
                out.extend_from_slice(b" LAST\r\n");
            }
            Self::Reset => line(out, &[b"RSET"]),
            Self::Quit => line(out, &[b"QUIT"]),
            Self::AuthPlain(text) => line(out, &[b"AUTH PLAIN ", base64(text)?]),
            Self::AuthLogin => line(out, &[b"AUTH LOGIN"]),
            Self::AuthXOAuth2(text) => line(out, &[b"AUTH XOAUTH2 ", base64(text)?]),
            Self::AuthAnswer(text) => line(out, &[base64(text)?]),
        }
        Ok(())
    }
}

impl Mail<'_> {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), Unwritable> {
        let sender = self.sender.map(mailbox).transpose()?.unwrap_or_default();
        out.extend_from_slice(b"MAIL FROM:<");
        out.extend_from_slice(sender);
        out.push(b'>');
        if let Some(size) = self.size {
            out.extend_from_slice(b" SIZE=");
            push_number(out, size);
        }
        if self.eight_bit {
            out.extend_from_slice(b" BODY=8BITMIME");
        }
        if self.utf8 {
            out.extend_from_slice(b" SMTPUTF8");
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

fn line(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
}

/// An address is checked where it is made; the wire trusts nobody and looks again.
fn mailbox(address: &Address) -> Result<&[u8], Unwritable> {
    let text = address.as_str();
    if text.is_empty() || text.bytes().any(|b| b <= b' ' || matches!(b, b'<' | b'>' | 0x7f)) {
        return Err(Unwritable::new("an address without spaces, brackets and controls", text));
    }
    Ok(text.as_bytes())
}

fn base64(text: &str) -> Result<&[u8], Unwritable> {
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=')) {
        Ok(text.as_bytes())
    } else {
        // It may be a secret, so it is not shown.
        Err(Unwritable::new("Base64", "something else"))
    }
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Whether a body may leave as it is where its octets are counted: CRLF is its only line
/// end, it has no NUL, and its last line is ended.
pub fn is_clean(body: &[u8]) -> bool {
    let mut rest = body;
    while let Some(at) = memchr3(b'\r', b'\n', 0, rest) {
        match rest.get(at..).and_then(|from| from.strip_prefix(b"\r\n")) {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
    rest.is_empty()
}

/// Makes a body fit for the wire, piece by piece.
#[derive(Debug)]
pub struct BodyWriter {
    at_line_start: bool,
    after_cr: bool,
}

impl Default for BodyWriter {
    fn default() -> Self {
        Self { at_line_start: true, after_cr: false }
    }
}

impl BodyWriter {
    /// Appends the next piece; it may be cut from the body anywhere.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        out.reserve(piece.len() + piece.len() / 64 + 8);
        let mut rest = piece;
        while !rest.is_empty() {
            if self.after_cr {
                // The CR's line end is written; a LF behind it belongs to it.
                self.after_cr = false;
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
                continue;
            }
            let end = memchr3(b'\r', b'\n', 0, rest).unwrap_or(rest.len());
            if end > 0 {
                if self.at_line_start && rest[0] == b'.' {
                    out.push(b'.');
                }
                out.extend_from_slice(&rest[..end]);
                self.at_line_start = false;
            }
            match rest.get(end) {
                Some(0) | None => {}
                Some(&byte) => {
                    out.extend_from_slice(b"\r\n");
                    self.at_line_start = true;
                    self.after_cr = byte == b'\r';
                }
            }
            rest = rest.get(end + 1..).unwrap_or_default();
        }
    }

    /// Appends the end of data, with a line end before it only if the body lacks its own.
    pub fn finish(self, out: &mut Vec<u8>) {
        if !self.at_line_start {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(LONE_DOT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memchr::memmem::find;
    use proptest::prelude::*;

    fn said(command: Command<'_>) -> String {
        let mut out = Vec::new();
        command.write(&mut out).expect("writable");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn commands_read_as_the_rfc_has_them() {
        let sender = Address::try_new("a@example.com").expect("an address");
        let mail = Mail { sender: Some(&sender), size: None, eight_bit: false, utf8: false };
        assert_eq!(said(Command::Mail(mail)), "MAIL FROM:<a@example.com>\r\n");
        let full = Mail { sender: None, size: Some(1_234_567_890), eight_bit: true, utf8: true };
        assert_eq!(
            said(Command::Mail(full)),
            "MAIL FROM:<> SIZE=1234567890 BODY=8BITMIME SMTPUTF8\r\n"
        );
        assert_eq!(said(Command::Rcpt(&sender)), "RCPT TO:<a@example.com>\r\n");
        let name = EhloName::try_new("mx1.example.org").expect("a name");
        assert_eq!(said(Command::Ehlo(&name)), "EHLO mx1.example.org\r\n");
        assert_eq!(said(Command::AuthPlain("AGEAYg==")), "AUTH PLAIN AGEAYg==\r\n");
        assert_eq!(said(Command::LastChunk(1_024)), "BDAT 1024 LAST\r\n");
    }

    #[test]
    fn nothing_unclean_becomes_a_parameter() {
        for bad in ["", "a b", "a\r\nRCPT TO:<x@y.z>", "a\n", "a\0", "<a>", "ä", "[", "[]"] {
            assert!(EhloName::try_new(bad).is_err(), "{bad:?}");
        }
        EhloName::try_new("[IPv6:2001:db8::1]").expect("a literal");
        let mut out = Vec::new();
        assert!(Command::AuthAnswer("a\r\nQUIT").write(&mut out).is_err());
        assert!(out.is_empty());
        for bad in
            ["a\r\n@example.com", "a b@example.com", "a>@example.com", "\"a\r\n\"@example.com"]
        {
            assert!(Address::try_new(bad).is_err(), "{bad:?}");
        }
    }

    fn on_the_wire(pieces: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut body = BodyWriter::default();
        for piece in pieces {
            body.push(piece, &mut out);
        }
        body.finish(&mut out);
        out
    }

    #[test]
    fn a_clean_body_leaves_as_it_is_but_for_the_dots() {
        for (body, wire) in [
            ("", ".\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            (".\r\n", "..\r\n.\r\n"),
            (".", "..\r\n.\r\n"),
            ("a\r\n.b\r\n..\r\n", "a\r\n..b\r\n...\r\n.\r\n"),
            ("\r\n\r\n", "\r\n\r\n.\r\n"),
        ] {
            assert_eq!(on_the_wire(&[body.as_bytes()]), wire.as_bytes(), "{body:?}");
        }
    }

    /// Byte sequences that some receiver takes for the end of data.
    const SMUGGLERS: [&[u8]; 9] = [
        b"\n.\n",
        b"\n.\r",
        b"\r.\n",
        b"\r.\r",
        b"\n.\r\n",
        b"\r.\r\n",
        b"\r\n.\r\r\n",
        b"\r\r\n.\r\r\n",
        b"\r\n\0.\r\n",
    ];

    fn assert_ends_once(wire: &[u8]) {
        let body = wire.strip_suffix(b".\r\n").expect("ends in a lone dot");
        assert!(body.is_empty() || body.ends_with(b"\r\n"), "{body:?}");
        for line in body.split_inclusive(|b| *b == b'\n') {
            let text = line.strip_suffix(b"\r\n").expect("every line ends in CRLF");
            assert!(!text.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)), "{line:?}");
            assert!(!text.starts_with(b".") || text.starts_with(b".."), "{line:?}");
        }
    }

    #[test]
    fn no_smuggled_end_reaches_the_wire() {
        for smuggler in SMUGGLERS {
            let mut body = b"Subject: x\r\n\r\ntext".to_vec();
            body.extend_from_slice(smuggler);
            body.extend_from_slice(b"MAIL FROM:<evil@example.com>\r\n");
            for cut in 0..=body.len() {
                let wire = on_the_wire(&[&body[..cut], &body[cut..]]);
                assert_ends_once(&wire);
                let inside = &wire[..wire.len() - 5];
                assert!(find(inside, b"\r\n.\r\n").is_none(), "{smuggler:?}");
                assert!(find(inside, smuggler).is_none(), "{smuggler:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_clean_body_is_one_that_the_writer_changes_in_dots_only(body in "[a\r\n\0]{0,12}") {
            let wire = on_the_wire(&[body.as_bytes()]);
            let unchanged = wire[..wire.len() - 3] == *body.as_bytes();
            prop_assert_eq!(is_clean(body.as_bytes()), unchanged);
        }

        #[test]
        fn any_body_ends_exactly_once_however_it_is_cut(
            body in "[a.\r\n\0]{0,40}", cut in 0usize..40,
        ) {
            let body = body.as_bytes();
            let cut = cut.min(body.len());
            let wire = on_the_wire(&[&body[..cut], &body[cut..]]);
            assert_ends_once(&wire);
            prop_assert_eq!(&wire, &on_the_wire(&[body]));
        }

        #[test]
        fn a_receiver_gets_back_what_a_clean_letter_holds(
            lines in prop::collection::vec("[a.]{0,6}", 0..8), cut in 0usize..60,
        ) {
            let body: String = lines.iter().flat_map(|line| [line.as_str(), "\r\n"]).collect();
            let cut = cut.min(body.len());
            let wire = on_the_wire(&[&body.as_bytes()[..cut], &body.as_bytes()[cut..]]);
            let text = std::str::from_utf8(&wire[..wire.len() - 3]).expect("text");
            let received: String = text
                .split_inclusive("\r\n")
                .map(|line| line.strip_prefix('.').unwrap_or(line))
                .collect();
            prop_assert_eq!(received, body);
        }
    }
}
