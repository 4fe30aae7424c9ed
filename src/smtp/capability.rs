//! What a peer can do, from its answer to EHLO (RFC 5321 4.1.1.1); pure.
//!
//! Keywords are read in any case. What we do not know or cannot read is
//! skipped: a capability that is not understood is one that is not used.

use super::reply::Reply;

/// A peer's extensions, as far as we use them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_status_codes: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// SIZE (RFC 1870).
    pub size: SizeLimit,
    /// AUTH mechanisms that we speak (RFC 4954).
    pub auth: AuthMechanisms,
    /// MAILMAX of LIMITS (RFC 9422): transactions in one session.
    pub mail_max: Option<u32>,
    /// RCPTMAX of LIMITS (RFC 9422): recipients of one transaction.
    pub rcpt_max: Option<u32>,
}

/// What a peer says about the size of a mail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SizeLimit {
    /// No SIZE: the parameter must not be sent.
    #[default]
    NotOffered,
    /// SIZE without a limit (no number, or 0).
    Unlimited,
    /// At most so many octets.
    Octets(u64),
}

impl SizeLimit {
    /// Whether MAIL may carry `SIZE=`.
    pub fn is_offered(self) -> bool {
        self != Self::NotOffered
    }

    /// The limit that a mail of so many octets would break.
    pub fn broken_by(self, octets: u64) -> Option<u64> {
        match self {
            Self::Octets(limit) if octets > limit => Some(limit),
            _ => None,
        }
    }
}

/// The ways to log in that both sides know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuthMechanisms {
    /// PLAIN (RFC 4616).
    pub plain: bool,
    /// LOGIN, never standardised, still the only one at some relays.
    pub login: bool,
    /// XOAUTH2, by which large mailbox providers take access tokens.
    pub xoauth2: bool,
}

impl Capabilities {
    /// Reads the answer to EHLO; its first line only names the peer.
    pub fn from_ehlo(reply: &Reply) -> Self {
        let mut found = Self::default();
        for line in reply.lines().skip(1) {
            found.take(line);
        }
        found
    }

    fn take(&mut self, line: &str) {
        // Some peers write `AUTH=PLAIN LOGIN`, from a draft of 1998.
        let mut words = line.split([' ', '=']).filter(|word| !word.is_empty());
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        match keyword.as_str() {
            "PIPELINING" => self.pipelining = true,
            "8BITMIME" => self.eight_bit_mime = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "STARTTLS" => self.starttls = true,
            "ENHANCEDSTATUSCODES" => self.enhanced_status_codes = true,
            "CHUNKING" => self.chunking = true,
            "SIZE" => self.size = size(words.next()),
            "AUTH" => {
                for mechanism in words {
                    self.auth.plain |= mechanism.eq_ignore_ascii_case("PLAIN");
                    self.auth.login |= mechanism.eq_ignore_ascii_case("LOGIN");
                    self.auth.xoauth2 |= mechanism.eq_ignore_ascii_case("XOAUTH2");
                }
            }
            "LIMITS" => self.limits(line),
            _ => {}
        }
    }

    fn limits(&mut self, line: &str) {
        for (name, value) in line.split(' ').filter_map(|word| word.split_once('=')) {
            let value = value.parse().ok().filter(|number| *number > 0);
            match name.to_ascii_uppercase().as_str() {
                "MAILMAX" => self.mail_max = value,
                "RCPTMAX" => self.rcpt_max = value,
                _ => {}
            }
        }
    }
}

fn size(number: Option<&str>) -> SizeLimit {
    match number.map(str::parse) {
        Some(Ok(octets)) if octets > 0 => SizeLimit::Octets(octets),
        // A number too large to read is a limit that no mail of ours meets.
        _ => SizeLimit::Unlimited,
    }
}

#[cfg(test)]
mod tests {
    use super::super::reply::ReplyParser;
    use super::*;

    fn ehlo(lines: &[&str]) -> Capabilities {
        let mut wire = String::from("250-mx.example.net\r\n");
        for line in lines {
            wire.push_str("250-");
            wire.push_str(line);
            wire.push_str("\r\n");
        }
        wire.push_str("250 HELP\r\n");
        let (_, reply) = ReplyParser::default().feed(wire.as_bytes()).expect("legal");
        Capabilities::from_ehlo(&reply.expect("whole"))
    }

    #[test]
    fn keywords_are_read_in_any_case() {
        let found = ehlo(&[
            "Pipelining",
            "8bitMIME",
            "smtputf8",
            "StartTLS",
            "size 35882577",
            "auth plain Login xOAuth2",
            "EnhancedStatusCodes",
            "chunking",
            "limits mailmax=20 RCPTMAX=100",
        ]);
        assert_eq!(
            found,
            Capabilities {
                pipelining: true,
                eight_bit_mime: true,
                smtputf8: true,
                starttls: true,
                enhanced_status_codes: true,
                chunking: true,
                size: SizeLimit::Octets(35_882_577),
                auth: AuthMechanisms { plain: true, login: true, xoauth2: true },
                mail_max: Some(20),
                rcpt_max: Some(100),
            }
        );
    }

    #[test]
    fn the_first_line_offers_nothing() {
        let (_, reply) = ReplyParser::default().feed(b"250 STARTTLS\r\n").expect("legal");
        assert_eq!(Capabilities::from_ehlo(&reply.expect("whole")), Capabilities::default());
    }

    #[test]
    fn odd_forms_are_read_or_skipped() {
        assert_eq!(ehlo(&["SIZE"]).size, SizeLimit::Unlimited);
        assert_eq!(ehlo(&["SIZE 0"]).size, SizeLimit::Unlimited);
        assert_eq!(ehlo(&["SIZE 99999999999999999999999"]).size, SizeLimit::Unlimited);
        assert_eq!(ehlo(&[]).size, SizeLimit::NotOffered);
        let login = AuthMechanisms { login: true, ..AuthMechanisms::default() };
        assert_eq!(ehlo(&["AUTH=LOGIN"]).auth, login);
        assert_eq!(ehlo(&["LIMITS MAILMAX=0 X"]).mail_max, None);
        assert_eq!(ehlo(&["STARTTLSX", "", " "]), Capabilities::default());
        assert_eq!(SizeLimit::Octets(10).broken_by(11), Some(10));
        assert_eq!(SizeLimit::Octets(10).broken_by(10), None);
    }
}
