//! Mails of every odd shape that is still legal, the same for the same seed.
#![allow(unreachable_pub, dead_code, reason = "each test binary uses a part of it")]

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postrider::config::Canonicalization;
use postrider::domain::ids::DeliveryId;
use postrider::message::address::Address;
use postrider::message::content::MessageContent;
use postrider::message::dkim::{self, Manner};
use postrider::message::letter::Letter;
use postrider::message::render::{RenderInput, Renderer};
use postrider::message::template::Compiled;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};

use crate::support::verifiers::{DOMAIN, Key};

/// 2026-01-15: verifiers refuse signatures of the future.
const NOW: u64 = 1_768_435_200;

/// A mail that is not signed yet.
pub enum Odd {
    /// As a tenant submits it.
    Submitted { compiled: Box<Compiled>, payload: String, bulk: bool, number: i64 },
    /// Finished, with what no submission can make: 8 bits in the body, a field several times.
    Finished(Vec<u8>),
}

/// So many of them; every fourth is finished.
pub fn odd_mails(number: usize, seed: u64) -> Vec<Odd> {
    let mut draw = Draw(StdRng::seed_from_u64(seed));
    (0..number)
        .map(|n| if n % 4 == 3 { Odd::Finished(draw.finished()) } else { draw.submitted(n) })
        .collect()
}

impl Odd {
    /// Signed as mail is that leaves.
    pub fn letter(&self, canonicalization: Canonicalization, keys: &[&Key]) -> Letter {
        let manner = Manner { canonicalization, spared: &[] };
        let signers: Vec<_> = keys.iter().map(|key| key.signer.clone()).collect();
        let address = |text: String| Address::try_new(&text).expect("an address");
        let recipient = address("jane@recipient.example".into());
        let sender = address(format!("bounces@{DOMAIN}"));
        match self {
            Self::Finished(mail) => {
                let signers = signers.iter().map(AsRef::as_ref);
                let signed = dkim::sign(manner, mail.clone(), NOW, signers).expect("signed");
                let end = signed.windows(4).position(|four| four == b"\r\n\r\n").expect("a body");
                let utf8 = !signed[..end].is_ascii();
                Letter::seal(Some(sender), recipient, signed, utf8)
            }
            Self::Submitted { compiled, payload, bulk, number } => {
                let mailto = address(format!("unsubscribe@{DOMAIN}"));
                let input = RenderInput {
                    delivery: DeliveryId::new(*number),
                    recipient: &recipient,
                    payload: Some(payload.as_str()),
                    date: SystemTime::UNIX_EPOCH + Duration::from_secs(NOW),
                    bulk: *bulk,
                    unsubscribe: Some("https://mail.shop.example/u/AAAA"),
                    unsubscribe_mail: (number % 2 == 0).then_some(&mailto),
                    return_path: Some(&sender),
                    tracking: None,
                };
                let renderer = Renderer::default().signing(manner);
                renderer.render(compiled, &input, &signers).expect("rendered")
            }
        }
    }

    /// Whether it says how to unsubscribe.
    pub fn is_bulk(&self) -> bool {
        matches!(self, Self::Submitted { bulk: true, .. })
    }
}

/// Whether the last line with anything in it holds only white space.
pub fn ends_blank(mail: &[u8]) -> bool {
    let body = mail.windows(4).position(|four| four == b"\r\n\r\n").expect("a body") + 4;
    let mut body = &mail[body..];
    while let Some(shorter) = body.strip_suffix(b"\r\n") {
        body = shorter;
    }
    let line = body.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    !line.is_empty() && line.iter().all(|byte| matches!(byte, b' ' | b'\t'))
}

struct Draw(StdRng);

impl Draw {
    fn upto(&mut self, n: usize) -> usize {
        self.0.random_range(0..=n)
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.0.random_range(0..of.len())]
    }

    fn chars(&mut self, alphabet: &str, least: usize, most: usize) -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        let n = self.0.random_range(least..=most);
        (0..n).map(|_| letters[self.0.random_range(0..letters.len())]).collect()
    }

    /// Words between one or several spaces.
    fn words(&mut self, most: usize) -> String {
        let n = self.upto(most);
        let mut text = String::new();
        for _ in 0..n {
            text += &self.chars("abcdefgXYZ0189.,;:!?()<>@\"'=_-", 1, 12);
            text += self.one(&[" ", " ", " ", "  ", "   "]);
        }
        text
    }

    fn line(&mut self) -> String {
        match self.upto(9) {
            0 | 1 => String::new(),
            2 => self.one(&[" ", "\t", " \t  "]).into(),
            3 => self.one(&[".", "..", "...", ".x", "--", "-- ", "From here on"]).into(),
            4 => self.words(8) + self.one(&["", " ", "\t", "  \t "]),
            5 => self.chars("abc äöüß漢字é\u{1f600}", 0, 60),
            6 => self.chars("abcdefgh =", 900, 998),
            7 => format!("\t{}\t\t{}", self.words(3), self.words(3)),
            _ => self.words(12),
        }
    }

    fn text(&mut self) -> String {
        let n = self.upto(12);
        let mut lines: Vec<String> = (0..n).map(|_| self.line()).collect();
        // Few end in lines of white space: not every verifier reads them rightly.
        if lines.last().is_some_and(|line| !line.is_empty() && line.trim().is_empty())
            && self.upto(3) > 0
        {
            lines.push("end".into());
        }
        lines.join("\n") + &"\n".repeat(self.upto(3))
    }

    fn submitted(&mut self, n: usize) -> Odd {
        let mut headers = Map::new();
        let (long, spaced) = (self.chars("abcXYZ019", 800, 890), self.words(40));
        let references: Vec<String> =
            (0..self.upto(12)).map(|n| format!("<{n}.{}@x.example>", "y".repeat(n * 4))).collect();
        let odd = [
            ("List-Id", "<news.shop.example>".to_owned()),
            ("Feedback-ID", format!("{n}:b:c:shop")),
            ("In-Reply-To", "<1@x.example>".into()),
            ("References", references.join(" ")),
            ("x-lOWER", self.chars("äöü漢字 abc", 1, 40)),
            ("X-Long", long),
            ("X_Odd-1", spaced),
            ("X-Empty", "{{ nothing }}".into()),
        ];
        for (name, value) in odd {
            if self.upto(2) == 0 {
                headers.insert(name.into(), value.into());
            }
        }
        headers.insert("X-Number".into(), "{{ number }}".into());
        let subject = match self.upto(5) {
            0 => String::new(),
            1 => self.chars("Grüße 漢字 é", 1, 60),
            2 => self.words(60),
            3 => self.chars("abcXYZ", 300, 700),
            _ => self.words(6),
        };
        let from = self.one(&[
            "orders@shop.example",
            "Shop <orders@shop.example>",
            "Schön & Gut <orders@shop.example>",
            "\"O'Neil, (Shop)\" <orders@shop.example>",
        ]);
        let mut content = json!({
            "from": from, "subject": "{{ subject }}", "headers": headers,
            "vars": {"nothing": ""}, "attachments": self.attachments(),
        });
        let shape = self.upto(2);
        if shape != 1 {
            content["text"] = "{{ text }}".into();
        }
        if shape != 0 {
            content["html"] = "<p>{{ html }}</p>".into();
        }
        if self.upto(3) == 0 {
            content["reply_to"] = "Hilfe für alle <help@shop.example>".into();
        }
        let cc: Vec<String> = (0..self.upto(8))
            .map(|n| format!("\"Someone, Nr. {n}\" <r{n}@recipient.example>"))
            .collect();
        let payload = json!({
            "to": self.one(&["jane@recipient.example", "Jörg M. <jane@recipient.example>"]),
            "cc": cc,
            "vars": {"subject": subject, "text": self.text(), "html": self.text(), "number": n},
        });
        let content: MessageContent = serde_json::from_value(content).expect("content");
        let compiled = Compiled::compile(&content).unwrap_or_else(|error| panic!("{error}"));
        Odd::Submitted {
            compiled: Box::new(compiled),
            payload: payload.to_string(),
            bulk: self.upto(1) == 0,
            number: n as i64 + 1,
        }
    }

    fn attachments(&mut self) -> Vec<Value> {
        let n = self.upto(4).saturating_sub(2);
        (0..n)
            .map(|n| {
                let bytes: Vec<u8> =
                    (0..self.upto(1_500)).map(|_| self.0.random_range(0..=255)).collect();
                let name = self.one(&["a.bin", "Rechnung März.pdf", "a \"b\" c.txt", "x"]);
                let mut file = json!({
                    "filename": name, "content": STANDARD.encode(bytes),
                    "content_type": self.one(&["application/pdf", "text/csv; charset=utf-8"]),
                });
                if self.upto(1) == 0 {
                    file["content_id"] = format!("part{n}").into();
                }
                file
            })
            .collect()
    }

    fn field(&mut self, name: &str) -> String {
        let value = match self.upto(4) {
            0 => String::new(),
            1 => format!(" {}", self.chars("abc äöü漢 é", 1, 60)),
            2 => format!(" {}\r\n\t{}x\r\n   y{}", self.words(4), self.words(4), self.words(4)),
            3 => format!("\t  {}  ", self.chars("abcXYZ01", 100, 900)),
            _ => format!(" {}", self.words(9)),
        };
        format!("{name}:{value}\r\n")
    }

    fn finished(&mut self) -> Vec<u8> {
        let mut mail = String::from("From: \"Shop\" <orders@shop.example>\r\n");
        for _ in 0..self.upto(9) {
            let name = self.one(&[
                "To",
                "To",
                "Cc",
                "Subject",
                "sUBJECT",
                "Date",
                "Reply-To",
                "Message-ID",
                "References",
                "List-Id",
                "X-Same",
                "X-Same",
                "Content-Transfer-Encoding",
            ]);
            mail += &self.field(name);
        }
        mail += "\r\n";
        let mut mail = mail.into_bytes();
        let text = self.text();
        if self.upto(5) > 0 {
            for line in text.lines() {
                // A line holds at most 998 bytes.
                let line = line.as_bytes();
                mail.extend_from_slice(&line[..line.len().min(990)]);
                if self.upto(4) == 0 {
                    mail.extend([b'x', 0xe9, 0xa0, 0xff, b'.']);
                }
                mail.extend_from_slice(b"\r\n");
            }
            mail.extend_from_slice("\r\n".repeat(self.upto(3)).as_bytes());
        }
        mail
    }
}
