//! One recipient's letter: fill, track, build, sign.
//!
//! Everything that depends on the recipient happens here and nothing else does; a
//! render reads no clock and no store, so the same input gives the same bytes.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::address::Address;
use super::dkim::{self, Manner, SignError, Signer};
use super::fault::FieldError;
use super::header::HeaderText;
use super::letter::Letter;
use super::mailbox::Mailbox;
use super::mime::{self, Parts};
use super::payload::DeliveryPayload;
use super::template::{Compiled, Filled, Ours};
use super::tracking::{self, Tracking, Unreadable};
use crate::domain::ids::DeliveryId;

/// Makes letters of compiled messages.
#[derive(Debug, Clone)]
pub struct Renderer {
    largest: usize,
    manner: Manner,
}

/// Who a letter is for.
#[derive(Debug, Clone)]
pub struct RenderInput<'a> {
    /// Names the mail: Message-ID.
    pub delivery: DeliveryId,
    /// The envelope's recipient.
    pub recipient: &'a Address,
    /// The recipient's own part as stored.
    pub payload: Option<&'a str>,
    /// The Date header and the time of the signature.
    pub date: SystemTime,
    /// Whether the stream is bulk mail; then the unsubscribe link is written.
    pub bulk: bool,
    /// The recipient's one-click link.
    pub unsubscribe: Option<&'a str>,
    /// The address that a mail to unsubscribes.
    pub unsubscribe_mail: Option<&'a Address>,
    /// The envelope's sender; `None` is the null sender.
    pub return_path: Option<&'a Address>,
    /// What of it is tracked; `None`: nothing, and the html stays as it is.
    pub tracking: Option<&'a Tracking>,
}

/// Why there is no letter. None of these passes by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A template cannot be filled for this recipient; names the variable if one
    /// is missing.
    #[error("template {0}")]
    Template(FieldError),
    /// The recipient's own part cannot be read.
    #[error("recipient {0}")]
    Payload(FieldError),
    /// More bytes than receivers take.
    #[error("the mail has {found} bytes, expected at most {limit}")]
    TooLarge {
        /// Bytes of the mail.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The mail cannot be signed, and must not leave unsigned.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl Renderer {
    /// `largest`: most bytes of one finished mail.
    pub fn new(largest: usize) -> Self {
        Self { largest, manner: Manner::default() }
    }

    /// The same, signing in this manner.
    #[must_use]
    pub fn signing(self, manner: Manner) -> Self {
        Self { manner, ..self }
    }

    /// Makes one letter, signed by every signer.
    pub fn render(
        &self,
        compiled: &Compiled,
        input: &RenderInput<'_>,
        signers: &[Arc<Signer>],
    ) -> Result<Letter, RenderError> {
        let payload = DeliveryPayload::read(input.payload).map_err(RenderError::Payload)?;
        let unsubscribe = input.unsubscribe.filter(|_| input.bulk);
        unsubscribe.map_or(Ok(()), check_link).map_err(RenderError::Template)?;
        let ours = Ours { recipient: input.recipient.as_str(), unsubscribe };
        let mut filled = compiled.fill(&payload, &ours).map_err(RenderError::Template)?;
        let readable = track(&mut filled, input, unsubscribe).is_ok();

        let to = payload.to.unwrap_or_else(|| Mailbox::from(input.recipient.clone()));
        let date = input.date.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let fixed = compiled.fixed();
        let mail = mime::build(&Parts {
            delivery: input.delivery,
            from: &fixed.from,
            to: &to,
            cc: &payload.cc,
            reply_to: fixed.reply_to.as_ref(),
            filled: &filled,
            attachments: &fixed.attachments,
            date,
            unsubscribe,
            unsubscribe_mail: input.unsubscribe_mail.filter(|_| unsubscribe.is_some()),
        });
        if mail.len() > self.largest {
            return Err(RenderError::TooLarge { found: mail.len(), limit: self.largest });
        }
        let signers = signers.iter().map(Arc::as_ref);
        let mail = dkim::sign(self.manner, mail, date, signers)?;
        // Bodies are 7-bit: what is not ASCII stands in the header.
        let utf8_headers = !mail.is_ascii();
        let sender = input.return_path.cloned();
        let letter = Letter::seal(sender, input.recipient.clone(), mail, utf8_headers);
        Ok(if readable { letter } else { letter.with_html_as_given() })
    }
}

impl Default for Renderer {
    /// 25 MiB: where the large mailbox providers stop.
    fn default() -> Self {
        Self::new(25 << 20)
    }
}

/// Leads the links of the html over the tenant's host. Html that cannot be read stays as it is.
fn track(
    filled: &mut Filled<'_>,
    input: &RenderInput<'_>,
    unsubscribe: Option<&str>,
) -> Result<(), Unreadable> {
    let (Some(tracking), Some(html)) = (input.tracking, &mut filled.html) else { return Ok(()) };
    let mail = tracking::Mail { delivery: input.delivery, unsubscribe, tracking };
    *html = Cow::Owned(tracking::rewrite(html, &mail)?);
    Ok(())
}

/// A link stands between angle brackets in a header.
fn check_link(link: &str) -> Result<(), FieldError> {
    let plain = link.bytes().all(|b| b.is_ascii_graphic() && !b"<>,\"".contains(&b));
    if !plain {
        return Err(FieldError::new("unsubscribe", "expected a URL of plain ASCII"));
    }
    HeaderText::try_new(link, super::header::MAX_VALUE)
        .map(|_| ())
        .map_err(|error| FieldError::new("unsubscribe", error))
}
