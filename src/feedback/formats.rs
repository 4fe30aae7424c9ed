//! How reports that follow no standard look: `formats.toml`, compiled in.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::domain::verdict::Stage;

/// The words of `formats.toml`; all lower-case.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Formats {
    pub(super) reporters: Vec<String>,
    pub(super) weak_reporters: Vec<String>,
    pub(super) quotes: Vec<String>,
    pub(super) delays: Vec<String>,
    pub(super) subjects: Vec<String>,
    pub(super) begins: Vec<String>,
    pub(super) ends: Vec<String>,
    pub(super) not_ends: Vec<String>,
    pub(super) signs: Vec<String>,
    #[serde(rename = "stage")]
    stages: Vec<StageWords>,
    pub(super) auto_reply: AutoReply,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StageWords {
    stage: Stage,
    words: Vec<String>,
}

/// How programs that answer give themselves away.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AutoReply {
    pub(super) subjects: Vec<String>,
    pub(super) headers: Vec<String>,
}

static FORMATS: LazyLock<Formats> =
    // The file is compiled in, and a test reads it.
    LazyLock::new(|| toml::from_str(include_str!("formats.toml")).unwrap_or_default());

pub(super) fn formats() -> &'static Formats {
    &FORMATS
}

/// The stage that a text names first. `text` is lower-case.
pub(super) fn stage_of(text: &str) -> Option<Stage> {
    formats()
        .stages
        .iter()
        .flat_map(|known| known.words.iter().map(|word| (text.find(word.as_str()), known.stage)))
        .filter_map(|(at, stage)| Some((at?, stage)))
        .min_by_key(|(at, _)| *at)
        .map(|(_, stage)| stage)
}

/// Whether one of `words` is in `text`.
pub(super) fn any(words: &[String], text: &str) -> bool {
    words.iter().any(|word| text.contains(word.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_and_its_words_are_lower_case() {
        let read: Formats = toml::from_str(include_str!("formats.toml")).expect("formats.toml");
        for words in [&read.reporters, &read.subjects, &read.begins, &read.ends, &read.signs] {
            assert!(words.iter().all(|word| *word == word.to_lowercase() && !word.is_empty()));
        }
    }

    #[test]
    fn the_stage_is_the_one_that_is_named_first() {
        for (text, stage) in [
            (
                "smtp error from remote mail server after rcpt to:<a@b>: 550 after data",
                Some(Stage::Rcpt),
            ),
            ("said: 550 no (in reply to end of data command)", Some(Stage::Dot)),
            ("connected to 192.0.2.1 but my name was rejected.", Some(Stage::Ehlo)),
            ("550 no", None),
        ] {
            assert_eq!(stage_of(text), stage, "{text}");
        }
    }
}
