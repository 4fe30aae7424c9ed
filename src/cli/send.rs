//! `postrider send`: submit a mail from the command line.
//!
//! It goes over the HTTP API and nowhere else, so that what is typed here is checked
//! exactly as what applications send. The API is spoken to on this machine only: the
//! key would travel in clear otherwise.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rand::Rng;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder, Url};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::context::Context;
use super::error::CliError;
use super::file;
use super::print::{Answer, Verdict};
use crate::config::secret::Secret;
use crate::tenant::key::ApiKey;

/// Submit a mail over the HTTP API of this machine and print its id
///
/// The message comes from the options, from a file in the form of POST /v1/messages, or from
/// both: an option wins over the file. Ends with code 1 when any recipient was refused.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  postrider send --key-file shop.key --from 'Shop <orders@shop.example>' --to ann@example.org \\
                 --subject 'Your order' --text 'It is on its way.'
  postrider send --key-file shop.key --message campaign.json --recipients list.ndjson

A file of recipients has one a line: an address, or JSON like
  {\"to\": \"ann@example.org\", \"vars\": {\"name\": \"Ann\"}}")]
pub struct Args {
    /// File that holds the tenant's API key
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// Where the API listens (else as configured in api.listen)
    #[arg(long, value_name = "URL")]
    api: Option<Url>,
    /// The message in the form of POST /v1/messages; - reads standard input
    #[arg(long, value_name = "FILE")]
    message: Option<PathBuf>,
    /// Who writes: an address at one of the tenant's domains, also with a name
    #[arg(long)]
    from: Option<String>,
    /// A recipient; may be given several times
    #[arg(long)]
    to: Vec<String>,
    /// Any number of recipients from a file; - reads standard input
    #[arg(long, value_name = "FILE")]
    recipients: Option<PathBuf>,
    /// The subject: a template
    #[arg(long)]
    subject: Option<String>,
    /// The plain text: a template
    #[arg(long)]
    text: Option<String>,
    /// File with the HTML: a template
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// transactional, bulk, or a name of your own
    #[arg(long)]
    stream: Option<String>,
    /// A variable for all recipients, NAME=VALUE; may be given several times
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = variable)]
    vars: Vec<(String, String)>,
    /// Not before this time, like 2030-01-31T09:00:00Z
    #[arg(long, value_name = "TIME")]
    send_at: Option<String>,
    /// Makes a repeat harmless: with the same key nothing is stored twice
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    let body = args.body()?;
    let nobody = body["recipients"].as_array().is_none_or(Vec::is_empty);
    if nobody && args.recipients.is_none() {
        return Err(CliError::usage(
            "say to whom: --to, --recipients, or recipients in the --message file",
        ));
    }
    let api = Api {
        client: Client::builder().no_proxy().build().map_err(|error| unreached(&error))?,
        base: match &args.api {
            Some(url) => url.clone(),
            None => base_of(context.settings()?.api.listen)?,
        },
        key: read_key(&args.key_file)?,
        idempotency_key: args.idempotency_key.clone().unwrap_or_else(random_key),
    };
    api.check_local()?;

    let stored = api.post("v1/messages", |request| request.json(&body)).await?;
    let id = stored["id"].as_str().unwrap_or_default().to_owned();
    let mut sums = Sums::of(&stored);
    let mut facts = json!({"id": id, "message": stored});
    if let Some(path) = &args.recipients {
        let lines = recipients(path).await?;
        let sent = api
            .post(&format!("v1/messages/{id}/recipients"), |request| {
                request.header(CONTENT_TYPE, "application/x-ndjson").body(lines)
            })
            .await
            .map_err(|error| {
                CliError::failed(format!(
                    "{id} is stored, but not all its recipients: {error}\n  repeat the command with \
                     --idempotency-key '{}'; what is stored is not stored again",
                    api.idempotency_key
                ))
            })?;
        sums.add(&Sums::of(&sent));
        facts["recipients"] = sent;
    }
    let Sums { accepted, suppressed, refused, faults } = sums;
    let mut words =
        format!("{id}\n{accepted} accepted, {suppressed} suppressed, {refused} refused");
    for fault in faults {
        words.push_str("\n  ");
        words.push_str(&fault);
    }
    let verdict = if refused == 0 { Verdict::Fine } else { Verdict::Bad };
    Ok(Answer::new(words, &facts)?.with_verdict(verdict))
}

impl Args {
    fn body(&self) -> Result<Value, CliError> {
        let mut body = match &self.message {
            None => Map::new(),
            Some(path) => match serde_json::from_str(&file::text(path)?) {
                Ok(Value::Object(body)) => body,
                Ok(_) => {
                    return Err(CliError::failed("the --message file must hold a JSON object"));
                }
                Err(error) => {
                    return Err(CliError::failed(format!(
                        "the --message file is not JSON: {error}"
                    )));
                }
            },
        };
        let html = self.html.as_deref().map(file::text).transpose()?;
        for (field, value) in [
            ("from", &self.from),
            ("subject", &self.subject),
            ("text", &self.text),
            ("html", &html),
            ("stream", &self.stream),
            ("send_at", &self.send_at),
        ] {
            if let Some(value) = value {
                body.insert(field.to_owned(), json!(value));
            }
        }
        if !self.vars.is_empty() {
            let vars = body.entry("vars").or_insert_with(|| json!({}));
            for (name, value) in &self.vars {
                vars[name] = json!(value);
            }
        }
        let to: Vec<Value> = self.to.iter().map(|to| json!({"to": to})).collect();
        match body.entry("recipients").or_insert_with(|| json!([])) {
            Value::Array(recipients) => recipients.extend(to),
            _ => return Err(CliError::failed("recipients in the --message file must be an array")),
        }
        Ok(Value::Object(body))
    }
}

/// The API as this command speaks to it.
struct Api {
    client: Client,
    base: Url,
    key: Secret,
    idempotency_key: String,
}

impl Api {
    fn check_local(&self) -> Result<(), CliError> {
        let host = self.base.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if here && self.base.scheme() == "http" {
            return Ok(());
        }
        Err(CliError::usage(format!(
            "expected an API on this machine, like http://127.0.0.1:8025, found {}: the key would \
             leave the machine; run the command beside the API, or use curl over https",
            self.base
        )))
    }

    async fn post(
        &self,
        path: &str,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Value, CliError> {
        let url = self.base.join(path).map_err(|error| CliError::usage(error.to_string()))?;
        let request = self
            .client
            .post(url)
            .bearer_auth(self.key.expose())
            .header("idempotency-key", &self.idempotency_key);
        let response = with(request).send().await.map_err(|error| unreached(&error))?;
        let status = response.status();
        let body: Value = response.json().await.unwrap_or_default();
        if status.is_success() { Ok(body) } else { Err(problem(status.as_u16(), &body)) }
    }
}

/// What was stored of the recipients, in numbers and in the first refusals.
#[derive(Debug, Default)]
struct Sums {
    accepted: u64,
    suppressed: u64,
    refused: u64,
    faults: Vec<String>,
}

impl Sums {
    /// Both calls say the same in slightly different forms: lists, or numbers.
    fn of(answer: &Value) -> Self {
        let count = |field: &str| match &answer[field] {
            Value::Array(list) => list.len() as u64,
            number => number.as_u64().unwrap_or(0),
        };
        let refusals = answer["refusals"].as_array().or_else(|| answer["refused"].as_array());
        let fault = |refused: &Value| {
            let (to, reason) = (refused["to"].as_str(), refused["reason"].as_str());
            format!("{}: {}", to.unwrap_or("a line"), reason.unwrap_or("refused"))
        };
        Self {
            accepted: count("accepted"),
            suppressed: count("suppressed"),
            refused: count("refused"),
            faults: refusals.into_iter().flatten().take(FAULTS_SHOWN).map(fault).collect(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.suppressed += other.suppressed;
        self.refused += other.refused;
        self.faults.extend(other.faults.iter().cloned());
    }
}

const FAULTS_SHOWN: usize = 20;

fn problem(status: u16, body: &Value) -> CliError {
    let detail = body["detail"].as_str().or_else(|| body["title"].as_str()).unwrap_or("no reason");
    let faults = body["errors"].as_array().into_iter().flatten().take(FAULTS_SHOWN).map(|fault| {
        let (field, reason) = (fault["field"].as_str(), fault["reason"].as_str());
        format!("{}: {}", field.unwrap_or("?"), reason.unwrap_or("?"))
    });
    let mut lines = vec![format!("the API refused ({status}): {detail}")];
    // A single fault is the detail already.
    lines.extend(faults.filter(|fault| fault != detail));
    CliError::Failed(lines.join("\n  "))
}

fn unreached(error: &reqwest::Error) -> CliError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    CliError::failed(format!(
        "the API cannot be reached: {cause}\n  is postrider-api running? See --api and [api] listen"
    ))
}

fn base_of(listen: std::net::SocketAddr) -> Result<Url, CliError> {
    // Listening on every address includes this machine's own.
    let host = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(_) => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
    };
    let base = format!("http://{}", std::net::SocketAddr::new(host, listen.port()));
    Url::parse(&base).map_err(|error| CliError::failed(error.to_string()))
}

fn read_key(path: &Path) -> Result<Secret, CliError> {
    let text = file::text(path)?;
    let key = ApiKey::parse(text.trim())
        .map_err(|error| CliError::failed(format!("{}: {error}", path.display())))?;
    Ok(Secret::new(key.reveal()))
}

fn random_key() -> String {
    let mut rng = rand::rng();
    format!("cli-{:016x}{:016x}", rng.next_u64(), rng.next_u64())
}

/// A line is an address or JSON already; read and sent piece by piece.
async fn recipients(path: &Path) -> Result<reqwest::Body, CliError> {
    let source = if path == Path::new("-") { Path::new("/dev/stdin") } else { path };
    let file = tokio::fs::File::open(source)
        .await
        .map_err(|error| CliError::failed(format!("cannot read {}: {error}", path.display())))?;
    let lines = BufReader::new(file).lines();
    let stream = futures_util::stream::try_unfold(lines, async |mut lines| {
        let Some(line) = lines.next_line().await? else { return Ok::<_, std::io::Error>(None) };
        let line = line.trim();
        let entry = match line {
            "" => String::new(),
            json if json.starts_with('{') => format!("{json}\n"),
            address => format!("{}\n", json!({"to": address})),
        };
        Ok(Some((entry, lines)))
    });
    Ok(reqwest::Body::wrap_stream(stream))
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("expected NAME=VALUE, found {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_does_not_leave_the_machine() {
        let api = |base: &str| Api {
            client: Client::new(),
            base: Url::parse(base).expect("a URL"),
            key: Secret::new("k"),
            idempotency_key: String::new(),
        };
        for near in ["http://127.0.0.1:1/", "http://[::1]:8025", "http://localhost"] {
            assert!(api(near).check_local().is_ok(), "{near}");
        }
        for far in ["http://10.0.0.1/", "https://api.example.com", "http://127.0.0.1.example.com"] {
            assert!(api(far).check_local().is_err(), "{far}");
        }
    }

    #[test]
    fn an_api_on_every_address_is_asked_on_this_machine() {
        let base = |listen: &str| base_of(listen.parse().expect("an address")).expect("a URL");
        assert_eq!(base("0.0.0.0:8025").as_str(), "http://127.0.0.1:8025/");
        assert_eq!(base("[::]:8025").as_str(), "http://[::1]:8025/");
    }

    #[test]
    fn both_forms_of_an_answer_add_up() {
        let mut sums = Sums::of(&json!({"accepted": 2, "suppressed": [{"index": 0}], "refused": [
            {"index": 1, "to": "x", "reason": "to: no"}]}));
        let refusals = json!([{"line": 9, "reason": "not JSON"}]);
        sums.add(&Sums::of(
            &json!({"accepted": 5, "suppressed": 1, "refused": 3, "refusals": refusals}),
        ));
        assert_eq!((sums.accepted, sums.suppressed, sums.refused), (7, 2, 4));
        assert_eq!(sums.faults, ["x: to: no", "a line: not JSON"]);
    }
}
