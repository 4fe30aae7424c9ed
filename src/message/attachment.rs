//! One file that goes with every mail of a message.
//!
//! Decoded and checked once per message, and kept in the form the mail carries
//! (base64 in lines of 76), so that a recipient costs one copy and no encoding.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::header::{InvalidHeader, refuse_controls};

/// An attachment as submitted and stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentContent {
    /// Name shown to the reader.
    pub filename: String,
    /// Media type: `application/pdf`, `text/csv; charset=utf-8`.
    pub content_type: String,
    /// The bytes in base64 (RFC 4648 4).
    pub content: String,
    /// Makes it an inline part that the html shows as `cid:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_id: Option<String>,
}

/// An attachment ready for the mail.
#[derive(Clone)]
pub struct Attachment {
    pub(crate) filename: String,
    pub(crate) media_type: String,
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) content_id: Option<String>,
    /// Base64 in CRLF-ended lines of 76 characters.
    pub(crate) encoded: Arc<[u8]>,
    pub(crate) decoded_len: usize,
}

/// Longest file name in bytes: what common file systems take.
const MAX_FILENAME: usize = 255;

/// Longest Content-ID: fits in one header line.
const MAX_CONTENT_ID: usize = 128;

/// Longest media type with its parameters (RFC 6838 4.2 allows 127 to each half of the type).
const MAX_MEDIA_TYPE: usize = 255;

/// RFC 2045 6.8: encoded lines of at most 76 characters, made of 57 bytes each.
const BYTES_PER_LINE: usize = 57;

/// Why an attachment cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum InvalidAttachment {
    #[error("expected a file name without path, found {0:?}")]
    Filename(String),
    #[error("{0}")]
    Text(#[from] InvalidHeader),
    #[error("expected a media type like application/pdf, found {0:?}")]
    MediaType(String),
    #[error("{0} cannot be attached: only single files can")]
    Composite(String),
    #[error("expected base64 (RFC 4648, with padding): {0}")]
    Base64(String),
    #[error("expected letters, digits and . _ - + @, found {0:?}")]
    ContentId(String),
}

impl Attachment {
    /// Checks and decodes; faults are noted under `path` (`attachments[2]`).
    pub(crate) fn read(
        content: &AttachmentContent,
        path: &str,
        faults: &mut Faults,
    ) -> Option<Self> {
        let filename = faults.take(format!("{path}.filename"), read_filename(&content.filename));
        let media =
            faults.take(format!("{path}.content_type"), read_media_type(&content.content_type));
        let content_id = faults.take(
            format!("{path}.content_id"),
            content.content_id.as_deref().map(read_content_id).transpose(),
        );
        let bytes = faults.take(
            format!("{path}.content"),
            STANDARD
                .decode(&content.content)
                .map_err(|error| InvalidAttachment::Base64(error.to_string())),
        )?;
        let (media_type, parameters) = media?;
        Some(Self {
            filename: filename?,
            media_type,
            parameters,
            content_id: content_id?,
            encoded: encode_lines(&bytes).into(),
            decoded_len: bytes.len(),
        })
    }
}

fn read_filename(name: &str) -> Result<String, InvalidAttachment> {
    refuse_controls(name)?;
    if name.len() > MAX_FILENAME {
        return Err(InvalidHeader::TooLong { limit: MAX_FILENAME, found: name.len() }.into());
    }
    // A reader that saves it as it is must not leave its folder.
    if name.trim().is_empty() || name.contains(['/', '\\']) || name == "." || name == ".." {
        return Err(InvalidAttachment::Filename(name.to_owned()));
    }
    Ok(name.to_owned())
}

fn read_media_type(text: &str) -> Result<(String, Vec<(String, String)>), InvalidAttachment> {
    let wrong = || InvalidAttachment::MediaType(text.chars().take(80).collect());
    if text.len() > MAX_MEDIA_TYPE {
        return Err(wrong());
    }
    let mut parts = text.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
    let (top, sub) = media_type.split_once('/').ok_or_else(wrong)?;
    if !is_token(top) || !is_token(sub) {
        return Err(wrong());
    }
    // RFC 2046 5.1 and 5.2.1: these may not be encoded in base64.
    if matches!(top, "multipart" | "message") {
        return Err(InvalidAttachment::Composite(media_type));
    }
    let mut parameters = Vec::new();
    for parameter in parts {
        let (name, value) = parameter.split_once('=').ok_or_else(wrong)?;
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
        if !is_token(name) || !is_token(value) {
            return Err(wrong());
        }
        parameters.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    Ok((media_type, parameters))
}

/// RFC 2045 5.1 `token`.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b))
}

fn read_content_id(id: &str) -> Result<String, InvalidAttachment> {
    let bare = id.strip_prefix('<').and_then(|id| id.strip_suffix('>')).unwrap_or(id);
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-+@".contains(&b);
    if bare.is_empty() || bare.len() > MAX_CONTENT_ID || !bare.bytes().all(allowed) {
        return Err(InvalidAttachment::ContentId(id.chars().take(80).collect()));
    }
    Ok(bare.to_owned())
}

fn encode_lines(bytes: &[u8]) -> Vec<u8> {
    let mut text = String::with_capacity(bytes.len() / BYTES_PER_LINE * 78 + 80);
    for line in bytes.chunks(BYTES_PER_LINE) {
        STANDARD.encode_string(line, &mut text);
        text.push_str("\r\n");
    }
    text.into_bytes()
}

impl fmt::Debug for AttachmentContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AttachmentContent({:?}, {} base64 bytes)", self.filename, self.content.len())
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attachment({:?}, {} bytes)", self.filename, self.decoded_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(change: impl FnOnce(&mut AttachmentContent)) -> Vec<String> {
        let mut content = AttachmentContent {
            filename: "bill.pdf".into(),
            content_type: "application/pdf".into(),
            content: "aGVsbG8=".into(),
            content_id: None,
        };
        change(&mut content);
        let mut faults = Faults::default();
        let read = Attachment::read(&content, "attachments[0]", &mut faults);
        let faults = faults.into_vec();
        assert_eq!(read.is_some(), faults.is_empty());
        faults.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn good_attachments_pass() {
        assert!(faults_of(|_| ()).is_empty());
        assert!(faults_of(|a| a.content_type = "Text/CSV; charset=\"utf-8\"".into()).is_empty());
        assert!(faults_of(|a| a.filename = "Rechnung März.pdf".into()).is_empty());
        assert!(faults_of(|a| a.content_id = Some("<logo@shop.example>".into())).is_empty());
        assert!(faults_of(|a| a.content = String::new()).is_empty());
    }

    #[test]
    fn bad_ones_name_their_field() {
        for name in ["", " ", ".", "..", "../x", "a/b", "a\\b", "a\r\nb", "a\0", "a\u{2028}b"] {
            assert_eq!(
                faults_of(|a| a.filename = name.into()),
                ["attachments[0].filename"],
                "{name:?}"
            );
        }
        for media in [
            "",
            "pdf",
            "a/b/c",
            "text/",
            "text/plain; charset",
            "text/plain; charset=\"a\r\nb\"",
            "text/plain\r\nBcc: x@y.example",
            "multipart/mixed",
            "message/rfc822",
        ] {
            assert_eq!(
                faults_of(|a| a.content_type = media.into()),
                ["attachments[0].content_type"],
                "{media:?}"
            );
        }
        for content in ["****", "aGVsbG8", "aGVs bG8=", "aGVsbG8=\n"] {
            assert_eq!(faults_of(|a| a.content = content.into()), ["attachments[0].content"]);
        }
        for id in ["", "<>", "a b", "a>\r\nBcc: b", "é"] {
            assert_eq!(
                faults_of(|a| a.content_id = Some(id.into())),
                ["attachments[0].content_id"],
                "{id:?}"
            );
        }
    }

    #[test]
    fn lines_are_76_characters() {
        let lines = encode_lines(&[7; 200]);
        let text = std::str::from_utf8(&lines).expect("ascii");
        assert!(text.ends_with("\r\n"));
        assert!(text.lines().all(|line| line.len() <= 76));
        assert_eq!(STANDARD.decode(text.replace("\r\n", "")).expect("base64"), [7; 200]);
    }

    #[test]
    fn contents_stay_out_of_logs() {
        let content = AttachmentContent {
            filename: "a".into(),
            content_type: "a/b".into(),
            content: "c2VjcmV0".into(),
            content_id: None,
        };
        assert!(!format!("{content:?}").contains("c2VjcmV0"));
    }
}
