//! [`Decoder`]: lines of an import, from bytes as they come, in constant memory (pure).
//!
//! CSV (RFC 4180) has a header. The column with the address is `email`, `address` or
//! `recipient`; `reason`, `stream` and `expires_at` are read where they are there, and others
//! are passed over, so what other services export can be taken as it is. NDJSON has the same
//! names as fields. A line that cannot be read is told with its number and its field, and the
//! next one is read.

use chrono::{DateTime, Utc};
use csv_core::{ReadRecordResult, Reader};
use serde::Deserialize;
use serde_json::Value;

/// How the lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated, with a header.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// From 1, the header included; a record over several lines has the number of its first.
    pub number: u64,
    /// What it says.
    pub found: Result<Found, LineFault>,
}

/// What a line says, not yet checked but for its times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// An address, a domain or a hash.
    pub address: String,
    /// Only for this stream.
    pub stream: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Until when.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Why a line cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineFault {
    /// The column or field, as it is named there.
    pub field: String,
    /// What was expected and what was found.
    pub reason: String,
}

/// A file whose header names no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a header with a column named email, address or recipient, found {0:?}")]
pub struct HeaderFault(String);

/// Longest line in bytes.
const MAX_LINE: usize = 16 << 10;
/// Most columns that are read.
const MAX_COLUMNS: usize = 256;

const ADDRESS: [&str; 5] = ["email", "address", "recipient", "emailaddress", "domain"];

/// Which column is what.
#[derive(Debug, Clone, Default)]
struct Columns {
    address: usize,
    named: String,
    stream: Option<usize>,
    reason: Option<usize>,
    expires_at: Option<usize>,
}

enum Reading {
    Csv {
        reader: Box<Reader>,
        columns: Option<Columns>,
        fields: usize,
        ends: Box<[usize; MAX_COLUMNS]>,
    },
    Ndjson,
}

/// Reads lines.
pub struct Decoder {
    reading: Reading,
    record: Box<[u8; MAX_LINE]>,
    /// Bytes of `record` that are filled.
    filled: usize,
    /// The line that the next byte belongs to.
    line: u64,
    /// Where the record began that is being read.
    began: Option<u64>,
    /// The rest of a line is passed over.
    skipping: bool,
}

impl Decoder {
    /// Nothing is read yet.
    pub fn new(format: Format) -> Self {
        let reading = match format {
            Format::Ndjson => Reading::Ndjson,
            Format::Csv => Reading::Csv {
                reader: Box::new(Reader::new()),
                columns: None,
                fields: 0,
                ends: Box::new([0; MAX_COLUMNS]),
            },
        };
        let record = Box::new([0; MAX_LINE]);
        Self { reading, record, filled: 0, line: 1, began: None, skipping: false }
    }

    /// Reads on. Lines that are whole now are added to `lines`.
    pub fn feed(&mut self, mut input: &[u8], lines: &mut Vec<Line>) -> Result<(), HeaderFault> {
        while !input.is_empty() {
            if self.skipping {
                let Some(end) = memchr::memchr(b'\n', input) else { return Ok(()) };
                input = input.get(end + 1..).unwrap_or_default();
                self.line += 1;
                self.skipping = false;
                continue;
            }
            if self.began.is_none() {
                // What lies between records belongs to none.
                let Some(first) = input.iter().position(|b| !matches!(b, b'\r' | b'\n')) else {
                    self.count(input);
                    return Ok(());
                };
                let (between, rest) = input.split_at(first);
                self.count(between);
                input = rest;
                self.began = Some(self.line);
            }
            let read = match self.reading {
                Reading::Csv { .. } => self.csv(input, lines)?,
                Reading::Ndjson => self.ndjson(input, lines),
            };
            input = input.get(read..).unwrap_or_default();
        }
        Ok(())
    }

    /// There is nothing more: the last line may lack its end.
    pub fn finish(&mut self, lines: &mut Vec<Line>) -> Result<(), HeaderFault> {
        if self.began.is_some() && !self.skipping {
            match self.reading {
                // An open quotation mark ends with the file.
                Reading::Csv { .. } => {
                    while self.began.is_some() && !self.skipping {
                        self.csv(&[], lines)?;
                    }
                }
                Reading::Ndjson => self.object(lines),
            }
        }
        match &self.reading {
            Reading::Csv { columns: None, .. } => Err(HeaderFault(String::new())),
            _ => Ok(()),
        }
    }

    /// Reads a part of a record, or the whole; how many bytes.
    fn csv(&mut self, input: &[u8], lines: &mut Vec<Line>) -> Result<usize, HeaderFault> {
        let Reading::Csv { reader, fields, ends, .. } = &mut self.reading else { return Ok(0) };
        let output = self.record.get_mut(self.filled..).unwrap_or_default();
        let more = ends.get_mut(*fields..).unwrap_or_default();
        let (result, read, wrote, ended) = reader.read_record(input, output, more);
        self.filled += wrote;
        *fields += ended;
        self.count(input.get(..read).unwrap_or_default());
        match result {
            ReadRecordResult::InputEmpty => {}
            ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                self.too_long(lines);
            }
            ReadRecordResult::Record | ReadRecordResult::End => self.record(lines)?,
        }
        Ok(read)
    }

    /// A record of CSV is whole.
    fn record(&mut self, lines: &mut Vec<Line>) -> Result<(), HeaderFault> {
        let number = self.began.take().unwrap_or(self.line);
        let Reading::Csv { columns, fields, ends, .. } = &mut self.reading else { return Ok(()) };
        let mut from = 0;
        let mut texts = Vec::with_capacity(*fields);
        for end in ends.iter().take(*fields) {
            let bytes = self.record.get(from..*end).unwrap_or_default();
            texts.push(std::str::from_utf8(bytes).map(str::trim));
            from = *end;
        }
        (self.filled, *fields) = (0, 0);
        match columns {
            None => *columns = Some(Columns::read(&texts)?),
            Some(columns) => lines.push(Line { number, found: columns.found(&texts) }),
        }
        Ok(())
    }

    /// Reads to the end of a line, or all there is; how many bytes.
    fn ndjson(&mut self, input: &[u8], lines: &mut Vec<Line>) -> usize {
        let end = memchr::memchr(b'\n', input);
        let part = input.get(..end.unwrap_or(input.len())).unwrap_or_default();
        let Some(room) = self.record.get_mut(self.filled..self.filled + part.len()) else {
            self.too_long(lines);
            return 0;
        };
        room.copy_from_slice(part);
        self.filled += part.len();
        // The end of the line is read with what lies between lines.
        if end.is_some() {
            self.object(lines);
        }
        part.len()
    }

    /// A line of NDJSON is whole.
    fn object(&mut self, lines: &mut Vec<Line>) {
        let number = self.began.take().unwrap_or(self.line);
        let text = self.record.get(..self.filled).unwrap_or_default().trim_ascii();
        if !text.is_empty() {
            let found = serde_json::from_slice::<Object>(text)
                .map_err(|error| fault("", error))
                .and_then(Object::found);
            lines.push(Line { number, found });
        }
        self.filled = 0;
    }

    fn too_long(&mut self, lines: &mut Vec<Line>) {
        let number = self.began.take().unwrap_or(self.line);
        let reason = format!(
            "expected at most {MAX_LINE} bytes in a line and {MAX_COLUMNS} columns; a quotation mark may be open"
        );
        lines.push(Line { number, found: Err(fault("", reason)) });
        self.filled = 0;
        // What was read of it may end just at a line's end.
        self.skipping = true;
        if let Reading::Csv { reader, fields, .. } = &mut self.reading {
            **reader = Reader::new();
            *fields = 0;
        }
    }

    fn count(&mut self, read: &[u8]) {
        self.line += memchr::memchr_iter(b'\n', read).count() as u64;
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("line", &self.line).finish_non_exhaustive()
    }
}

type Text<'r> = Result<&'r str, std::str::Utf8Error>;

impl Columns {
    fn read(header: &[Text<'_>]) -> Result<Self, HeaderFault> {
        let names: Vec<String> = header
            .iter()
            .map(|name| name.unwrap_or_default().trim_start_matches('\u{feff}'))
            .map(|name| name.trim_matches('"').trim().to_lowercase().replace([' ', '-'], "_"))
            .collect();
        let place = |name: &str| names.iter().position(|known| known == name);
        let address = ADDRESS
            .iter()
            .find_map(|name| names.iter().position(|known| known.replace('_', "") == *name));
        let Some(address) = address else {
            return Err(HeaderFault(names.join(",").chars().take(100).collect()));
        };
        Ok(Self {
            address,
            named: names.get(address).cloned().unwrap_or_default(),
            stream: place("stream"),
            reason: place("reason"),
            expires_at: place("expires_at"),
        })
    }

    fn found(&self, texts: &[Text<'_>]) -> Result<Found, LineFault> {
        let text = |place: usize, name: &str| match texts.get(place) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some((*text).to_owned()).filter(|text| !text.is_empty())),
            Some(Err(error)) => Err(fault(name, error)),
        };
        let optional =
            |place: Option<usize>, name: &str| place.map_or(Ok(None), |place| text(place, name));
        Ok(Found {
            address: text(self.address, &self.named)?
                .ok_or_else(|| fault(&self.named, "is empty"))?,
            stream: optional(self.stream, "stream")?,
            reason: optional(self.reason, "reason")?,
            expires_at: time(optional(self.expires_at, "expires_at")?)?,
        })
    }
}

/// A line of NDJSON; other fields are passed over.
#[derive(Deserialize)]
struct Object {
    #[serde(alias = "address", alias = "recipient", alias = "EmailAddress", alias = "domain")]
    email: Option<Value>,
    stream: Option<Value>,
    reason: Option<Value>,
    expires_at: Option<Value>,
}

impl Object {
    fn found(self) -> Result<Found, LineFault> {
        let text = |value: Option<Value>, name: &str| match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.trim().to_owned()).filter(|t| !t.is_empty())),
            Some(_) => Err(fault(name, "expected a text")),
        };
        let missing = || fault("address", "expected a field named email, address or recipient");
        Ok(Found {
            address: text(self.email, "address")?.ok_or_else(missing)?,
            stream: text(self.stream, "stream")?,
            reason: text(self.reason, "reason")?,
            expires_at: time(text(self.expires_at, "expires_at")?)?,
        })
    }
}

fn time(text: Option<String>) -> Result<Option<DateTime<Utc>>, LineFault> {
    let Some(text) = text else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        fault(
            "expires_at",
            format_args!("expected a time like 2027-01-31T12:00:00Z, found {text:.40}"),
        )
    })
}

pub(super) fn fault(field: &str, reason: impl std::fmt::Display) -> LineFault {
    LineFault { field: field.to_owned(), reason: reason.to_string().chars().take(300).collect() }
}

#[cfg(test)]
#[path = "decoder_tests.rs"]
mod tests;
