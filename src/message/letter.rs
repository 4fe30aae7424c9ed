//! A letter: envelope and finished bytes. Only rendering makes one.

use bytes::Bytes;

use super::address::Address;

/// One mail, ready for the wire: every line ends in CRLF, no bare CR or LF, 7-bit
/// body; dots are not stuffed yet (that is the wire's matter).
#[derive(Debug, Clone)]
pub struct Letter {
    sender: Option<Address>,
    recipient: Address,
    bytes: Bytes,
    utf8_headers: bool,
    html_as_given: bool,
}

impl Letter {
    /// Puts finished bytes in an envelope. `utf8_headers`: the header section
    /// itself holds UTF-8 (RFC 6532), so only an SMTPUTF8 peer may have it.
    pub fn seal(
        sender: Option<Address>,
        recipient: Address,
        bytes: Vec<u8>,
        utf8_headers: bool,
    ) -> Self {
        Self { sender, recipient, bytes: bytes.into(), utf8_headers, html_as_given: false }
    }

    /// Its html was to be tracked and could not be read, so it is as the tenant wrote it.
    #[must_use]
    pub fn with_html_as_given(self) -> Self {
        Self { html_as_given: true, ..self }
    }

    /// Whether that is so.
    pub fn has_html_as_given(&self) -> bool {
        self.html_as_given
    }

    /// Envelope sender; `None` is the null sender.
    pub fn sender(&self) -> Option<&Address> {
        self.sender.as_ref()
    }

    /// Envelope recipient.
    pub fn recipient(&self) -> &Address {
        &self.recipient
    }

    /// Headers and body.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the peer must offer SMTPUTF8 (RFC 6531).
    pub fn needs_smtputf8(&self) -> bool {
        self.utf8_headers
            || !self.recipient.is_ascii()
            || self.sender.as_ref().is_some_and(|sender| !sender.is_ascii())
    }
}
