//! `[callbacks]` in the configuration: what is sound, and what is said of the rest.

use std::fs;

use postrider::config::load::load;
use postrider::config::{ConfigError, Settings};

const KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEDr2LjtURuePQzplybdC+u4CwrqDqBaWjcMMsTbhdbcwHBcepxo7yAQGhHPTnlvFYPAZFceEu/1FwCM/QmGUhA==";
const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:ses-events";

fn read(text: &str) -> Result<Settings, ConfigError> {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("key"), "the-signing-key\n").expect("write");
    let path = folder.path().join("p.toml");
    fs::write(&path, format!("[[source]]\nname = \"a\"\nehlo = \"mail.shop.test\"\n{text}"))
        .expect("write");
    load(Some(&path), std::iter::empty())
}

#[test]
fn each_provider_has_a_section_of_its_own() {
    let none = read("").expect("sound").callbacks;
    assert!(!none.is_on());
    let all = read(&format!(
        "[callbacks]\nmax_age = \"1d\"\n[callbacks.ses]\ntopics = [\"{TOPIC}\"]\n\
         [callbacks.sendgrid]\npublic_keys = [\"{KEY}\"]\n[callbacks.mailgun]\nkey_file = \"key\"\n"
    ))
    .expect("sound")
    .callbacks;
    assert!(all.is_on());
    assert_eq!(all.ses.as_ref().map(|ses| ses.topics.clone()), Some(vec![TOPIC.to_owned()]));
    assert_eq!(all.sendgrid.as_ref().map(|one| one.public_keys[0].len()), Some(91));
    let mailgun = all.mailgun.as_ref().expect("a section");
    assert_eq!(mailgun.key.expose(), "the-signing-key");
    assert!(!format!("{all:?}").contains("the-signing-key"), "secrets print themselves nowhere");
}

#[test]
fn each_fault_names_its_field() {
    for (text, expected) in [
        ("[callbacks.ses]\n", "callbacks.ses.topics: expected at least one"),
        (
            "[callbacks.ses]\ntopics = [\"ses-events\"]",
            "callbacks.ses.topics: expected the ARN of a topic",
        ),
        (
            "[callbacks.ses]\ntopics = [\"arn:aws:sns:eu-west-1:123456789012:a\"]\nendpoint = \"http://127.0.0.1:1\"",
            "callbacks.ses.endpoint: certificates prove nothing in clear",
        ),
        (
            "[callbacks.sendgrid]\npublic_keys = [\"MFkw\"]",
            "callbacks.sendgrid.public_keys: expected a public key",
        ),
        ("[callbacks.sendgrid]\n", "callbacks.sendgrid.public_keys: expected at least one"),
        ("[callbacks.mailgun]\n", "callbacks.mailgun.key_file: missing"),
        ("[callbacks.mailgun]\nkey = \"x\"", "secrets do not belong in this file"),
        ("[callbacks.mailgum]\n", "callbacks.mailgum: unknown key"),
        (
            "[feedback]\nkeep_reports = \"2d\"\n[callbacks.mailgun]\nkey_file = \"key\"",
            "feedback.keep_reports: must exceed callbacks.max_age by an hour",
        ),
    ] {
        let error = read(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}
