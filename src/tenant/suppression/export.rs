//! [`Exporter`]: a list as CSV or NDJSON, page by page, so that memory stays the same however
//! long it is. What it writes can be imported again.

use super::decoder::Format;
use super::list::{List, Listed};

/// Writes a list.
#[derive(Debug)]
pub struct Exporter {
    list: List,
    format: Format,
    after: Option<(String, String)>,
    begun: bool,
    over: bool,
}

/// One piece.
#[derive(Debug)]
pub struct Exported {
    /// Bytes of the file.
    pub bytes: Vec<u8>,
    /// Entries in it.
    pub entries: usize,
}

/// Entries of one piece.
const PAGE: usize = 5_000;

impl Exporter {
    /// From its beginning.
    pub fn new(list: List, format: Format) -> Self {
        Self { list, format, after: None, begun: false, over: false }
    }

    /// The next piece; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Exported>, sqlx::Error> {
        if self.over {
            return Ok(None);
        }
        let after = self.after.as_ref().map_or(("", ""), |(address, stream)| (address, stream));
        let page = self.list.page(after, PAGE as i64).await?;
        let mut bytes = Vec::with_capacity(page.len() * 96);
        if !std::mem::replace(&mut self.begun, true) && self.format == Format::Csv {
            bytes.extend_from_slice(b"address,stream,reason,source,created_at,expires_at\r\n");
        }
        for one in &page {
            match self.format {
                Format::Csv => write_csv(&mut bytes, one),
                Format::Ndjson => {
                    serde_json::to_writer(&mut bytes, one)
                        .map_err(|error| sqlx::Error::Encode(error.into()))?;
                    bytes.push(b'\n');
                }
            }
        }
        let entries = page.len();
        self.over = entries < PAGE;
        self.after =
            page.into_iter().last().map(|one| (one.address, one.stream.unwrap_or_default()));
        Ok(Some(Exported { bytes, entries }))
    }
}

/// RFC 4180.
fn write_csv(to: &mut Vec<u8>, one: &Listed) {
    let times = [Some(one.created_at), one.expires_at]
        .map(|at| at.map_or(String::new(), |at| at.to_rfc3339()));
    let stream = one.stream.as_deref().unwrap_or_default();
    let fields = [&one.address, stream, &one.reason, &one.source, &times[0], &times[1]];
    for (n, field) in fields.into_iter().enumerate() {
        if n > 0 {
            to.push(b',');
        }
        if field.contains(['"', ',', '\r', '\n']) {
            to.push(b'"');
            to.extend_from_slice(field.replace('"', "\"\"").as_bytes());
            to.push(b'"');
        } else {
            to.extend_from_slice(field.as_bytes());
        }
    }
    to.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::suppression::Decoder;

    #[test]
    fn what_is_written_is_read_again() {
        let one = Listed {
            address: "ann@x.example".into(),
            stream: Some("news".into()),
            reason: "said \"no, thanks\"".into(),
            source: "operator".into(),
            created_at: chrono::DateTime::UNIX_EPOCH,
            expires_at: Some(chrono::DateTime::UNIX_EPOCH),
        };
        let mut bytes = b"address,stream,reason,source,created_at,expires_at\r\n".to_vec();
        write_csv(&mut bytes, &one);
        let mut lines = Vec::new();
        Decoder::new(Format::Csv).feed(&bytes, &mut lines).expect("a header");
        let found = lines[0].found.as_ref().expect("a line");
        assert_eq!(found.address, one.address);
        assert_eq!((&found.stream, found.reason.as_deref()), (&one.stream, Some(&*one.reason)));
        assert_eq!(found.expires_at, one.expires_at);
    }
}
