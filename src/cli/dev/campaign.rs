//! A first campaign, submitted as any application would: over HTTP.
//!
//! The message and its templates are `config/campaign/`; the recipients are made
//! up, with personal variables, at several mailbox providers, and uploaded as
//! NDJSON in constant memory.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::stream;
use reqwest::{Client, RequestBuilder};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::place::Ports;
use super::progress::{Status, Summary};
use crate::cli::console::Console;

/// Lines of one piece of the upload.
const LINES: u64 = 1_000;

/// How often progress is asked for.
const EVERY: Duration = Duration::from_millis(200);

/// Longest time without any change, after which the campaign is given up as stuck:
/// beyond the expiry of its deliveries.
const STUCK_AFTER: Duration = Duration::from_secs(120);

/// A submitted campaign.
#[derive(Debug)]
pub(super) struct Campaign {
    client: Client,
    url: String,
    key: String,
    recipients: u64,
    upload: Upload,
    submitted: Instant,
    took: Duration,
}

#[derive(Debug, Deserialize)]
struct Message {
    id: String,
}

/// What the API answers to an upload of recipients.
#[derive(Debug, Deserialize)]
struct Upload {
    accepted: u64,
    suppressed: u64,
    refused: u64,
}

impl Campaign {
    /// Hands in the message, then its recipients.
    pub(super) async fn submit(ports: Ports, key: &str, recipients: u64) -> anyhow::Result<Self> {
        let submitted = Instant::now();
        let client = Client::builder().no_proxy().build()?;
        let base = format!("http://{}/v1/messages", ports.api());
        let message: Message =
            answer(client.post(&base).bearer_auth(key).json(&message()?)).await?;

        let url = format!("{base}/{}", message.id);
        let pieces = (0..recipients).step_by(usize::try_from(LINES)?).map(move |first| {
            let lines = first..recipients.min(first + LINES);
            Ok::<_, std::convert::Infallible>(lines.map(recipient).collect::<String>())
        });
        let upload: Upload = answer(
            client
                .post(format!("{url}/recipients"))
                .bearer_auth(key)
                .header("content-type", "application/x-ndjson")
                .body(reqwest::Body::wrap_stream(stream::iter(pieces))),
        )
        .await?;
        let took = submitted.elapsed();
        Ok(Self { client, url, key: key.to_owned(), recipients, upload, submitted, took })
    }

    /// Shows progress until every recipient came to an end, or nothing moves any more.
    pub(super) async fn follow(&self, console: &mut Console) -> anyhow::Result<Summary> {
        let mut moved = (Instant::now(), Status::default());
        loop {
            let asked = Instant::now();
            let status: Status = answer(self.client.get(&self.url).bearer_auth(&self.key)).await?;
            console.update(&status.to_string());
            if status != moved.1 {
                moved = (Instant::now(), status);
            }
            if status.waiting() == 0 || moved.0.elapsed() > STUCK_AFTER {
                return Ok(Summary {
                    recipients: self.recipients,
                    refused: self.upload.refused,
                    status,
                    took: self.submitted.elapsed(),
                });
            }
            // Counting a large campaign takes the database's time: ask for little of it.
            tokio::time::sleep(EVERY.max(asked.elapsed() * 9)).await;
        }
    }
}

impl fmt::Display for Campaign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Upload { accepted, suppressed, refused } = self.upload;
        let (took, rate) = (self.took, self.recipients as f64 / self.took.as_secs_f64());
        write!(
            f,
            "submitted {} recipients in {took:.2?} ({rate:.0}/s): {accepted} accepted, \
             {suppressed} suppressed, {refused} refused",
            self.recipients
        )
    }
}

/// The request's answer, or what the API says is wrong with it.
async fn answer<T: DeserializeOwned>(request: RequestBuilder) -> anyhow::Result<T> {
    let response = request.send().await.context("the API does not answer")?;
    let (status, url) = (response.status(), response.url().clone());
    let body = response.text().await?;
    if !status.is_success() {
        bail!("the API answered {status} at {url}: {body}");
    }
    serde_json::from_str(&body).with_context(|| format!("the API's answer at {url}: {body}"))
}

fn message() -> anyhow::Result<Value> {
    let mut message: Value =
        serde_json::from_str(include_str!("../../../config/campaign/message.json"))
            .context("config/campaign/message.json")?;
    message["html"] = include_str!("../../../config/campaign/body.html").into();
    message["text"] = include_str!("../../../config/campaign/body.txt").into();
    message["recipients"] = json!([]);
    Ok(message)
}

/// The n-th made-up recipient as a line.
fn recipient(n: u64) -> String {
    const NAMES: [&str; 7] = ["Ann", "Bela", "Chloé", "Dmitri", "Esra", "Zoë", "李雷"];
    const CITIES: [&str; 5] = ["Lisboa", "Oslo", "München", "Kraków", "Cork"];
    const INTERESTS: [&str; 6] = ["jazz", "bread", "tides", "maps", "moss", "chess"];
    // In parts of a hundred, about as consumer lists are.
    let domain = match n * 37 % 100 {
        0..45 => "gmail.com",
        45..65 => "outlook.com",
        65..75 => "yahoo.com",
        75..85 => "example.org",
        85..95 => "example.net",
        _ => "mail.example.com",
    };
    let pick = |list: &[&'static str], factor: u64| list[(n * factor) as usize % list.len()];
    let line = json!({
        "to": format!("reader{n}@{domain}"),
        "vars": {
            "name": pick(&NAMES, 3),
            "city": pick(&CITIES, 7),
            "points": n * 13 % 1_000,
            "interests": [pick(&INTERESTS, 1), pick(&INTERESTS, 5)],
        },
    });
    format!("{line}\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn recipients_are_all_different_and_at_several_mailbox_providers() {
        let lines: Vec<Value> =
            (0..1_000).map(|n| serde_json::from_str(&recipient(n)).unwrap()).collect();
        let addresses: BTreeSet<&str> =
            lines.iter().map(|line| line["to"].as_str().unwrap()).collect();
        assert_eq!(addresses.len(), 1_000);
        let domains: BTreeSet<&str> =
            addresses.iter().map(|address| address.split_once('@').unwrap().1).collect();
        assert_eq!(domains.len(), 6);
    }

    #[test]
    fn the_message_is_whole() {
        let message = message().unwrap();
        for field in ["from", "subject", "html", "text", "stream"] {
            assert!(message[field].is_string(), "{field}");
        }
    }
}
