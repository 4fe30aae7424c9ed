//! `[dkim]`: how mail is signed.

use std::fmt;

use crate::config::reader::Reader;

/// How mail is signed. Which keys sign is a matter of each domain (`postrider domain`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dkim {
    /// Which form of a mail is signed (`relaxed/relaxed`).
    pub canonicalization: Canonicalization,
}

/// Which form of a mail is signed: `c=` of a signature (RFC 6376 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Canonicalization {
    /// Of the header fields.
    pub header: Form,
    /// Of the body.
    pub body: Form,
}

/// What a part of a mail may undergo on its way without breaking the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// Other white space and folds, other case of field names.
    #[default]
    Relaxed,
    /// Nothing but empty lines at the body's end.
    Simple,
}

impl Canonicalization {
    /// All four.
    pub const ALL: [Self; 4] = [
        Self { header: Form::Relaxed, body: Form::Relaxed },
        Self { header: Form::Relaxed, body: Form::Simple },
        Self { header: Form::Simple, body: Form::Relaxed },
        Self { header: Form::Simple, body: Form::Simple },
    ];

    /// As it stands in `c=`.
    pub const fn tag(self) -> &'static str {
        match (self.header, self.body) {
            (Form::Relaxed, Form::Relaxed) => "relaxed/relaxed",
            (Form::Relaxed, Form::Simple) => "relaxed/simple",
            (Form::Simple, Form::Relaxed) => "simple/relaxed",
            (Form::Simple, Form::Simple) => "simple/simple",
        }
    }
}

impl fmt::Display for Canonicalization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.tag())
    }
}

impl Dkim {
    pub(in crate::config) fn read(section: Reader<'_>) -> Self {
        let forms = Canonicalization::ALL.map(|form| (form.tag(), form));
        let canonicalization = section.choice("canonicalization", &forms).unwrap_or_default();
        section.end();
        Self { canonicalization }
    }
}
