//! `postrider domain`: the domains a tenant writes from, and their DNS records.

use std::net::IpAddr;

use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::print::{self, Answer, Table};
use crate::cell::{Cell, find};
use crate::config::Source;
use crate::message::address::Address;
use crate::message::dkim::Algorithm;
use crate::tenant::domain::{self, DomainError, SendingDomain};
use crate::tenant::own_names::{self, Name};
use crate::tenant::seal::Sealer;

/// Sending domains: add (with DKIM keys), list, show, names of their own, remove
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  postrider domain add --tenant shop shop.example")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Add a domain with new DKIM keys, and print the DNS records to publish
    ///
    /// The private keys are stored under the installation's key (secrets.key_file or
    /// POSTRIDER_KEY) and never shown. For a domain that is there already, a new --selector
    /// adds further keys; mail is then signed with all of them.
    #[command(after_help = "\
Examples:
  postrider domain add --tenant shop shop.example
  postrider domain add --tenant shop shop.example --selector y2030 --algorithm ed25519")]
    Add {
        /// The tenant
        #[arg(long)]
        tenant: String,
        /// The domain of its senders' addresses
        domain: String,
        /// What the keys' selectors begin with
        #[arg(long, default_value = "postrider")]
        selector: String,
        /// Which keys to make
        #[arg(long, value_enum, default_value_t = Keys::Both)]
        algorithm: Keys,
    },
    /// List a tenant's domains
    #[command(after_help = "Example:\n  postrider domain list --tenant shop")]
    List {
        /// The tenant
        #[arg(long)]
        tenant: String,
    },
    /// Print the DNS records of a domain again
    #[command(after_help = "Example:\n  postrider domain show --tenant shop shop.example")]
    Show {
        /// The tenant
        #[arg(long)]
        tenant: String,
        /// The domain
        domain: String,
    },
    /// Let reports about a domain's mail come back to a domain of the tenant's own
    ///
    /// In place of feedback.return_path_domain, so that SPF passes for the tenant's own domain.
    #[command(after_help = "\
Examples:
  postrider domain return-path --tenant shop shop.example bounces.shop.example
  postrider domain return-path --tenant shop shop.example --remove")]
    ReturnPath {
        /// The tenant
        #[arg(long)]
        tenant: String,
        /// The domain of its senders' addresses
        domain: String,
        /// The domain of the envelope senders
        #[arg(required_unless_present = "remove", conflicts_with = "remove")]
        return_path: Option<String>,
        /// Back to the installation's own
        #[arg(long)]
        remove: bool,
    },
    /// Let tracked links of a domain's mail lead over a host of the tenant's own
    ///
    /// The domain itself or a host below it. Only mail of domains with one is tracked, and only
    /// in streams where track_opens or track_clicks say so. Links that are sent already go on
    /// to lead over the host they were made for.
    #[command(after_help = "\
Examples:
  postrider domain tracking-host --tenant shop shop.example link.shop.example
  postrider domain tracking-host --tenant shop shop.example --remove")]
    TrackingHost {
        /// The tenant
        #[arg(long)]
        tenant: String,
        /// The domain of its senders' addresses
        domain: String,
        /// The host in links
        #[arg(required_unless_present = "remove", conflicts_with = "remove")]
        host: Option<String>,
        /// Track nothing of this domain's mail any more
        #[arg(long)]
        remove: bool,
    },
    /// Remove a domain with its keys: nothing more is accepted from it, and what is queued
    /// can no longer be signed
    #[command(after_help = "Example:\n  postrider domain remove --tenant shop shop.example")]
    Remove {
        /// The tenant
        #[arg(long)]
        tenant: String,
        /// The domain
        domain: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Keys {
    /// An RSA-2048 and an Ed25519 key: every receiver finds one it can check
    Both,
    /// RSA-2048: all receivers check it; costs 15 times the CPU
    Rsa,
    /// Ed25519: some receivers ignore it
    Ed25519,
    /// No key: mail of this domain leaves unsigned (large receivers refuse such)
    None,
}

/// A record to publish.
#[derive(Debug, Serialize)]
struct DnsRecord {
    name: String,
    r#type: &'static str,
    value: String,
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    let settings = context.settings()?;
    match args.verb {
        Verb::Add { tenant, domain, selector, algorithm } => {
            // Before anything is stored: without the key nothing can be.
            let sealer = Sealer::new(&settings.secrets)
                .map_err(|error| CliError::failed(error.to_string()))?;
            let (Cell { pool, number, .. }, scope) = context.scope_of_tenant(&tenant).await?;
            // Within a cell the database sees to it; over cells nobody else does.
            if let Some(owner) = find::domain(&context.cells_with(None).await?, &domain).await?
                && owner.number != number
            {
                return Err(DomainError::Taken { domain }.into());
            }
            let algorithms = algorithm.algorithms();
            let actor = context.actor();
            let added =
                domain::add(&pool, scope, &sealer, &domain, &selector, algorithms, actor).await?;
            let words = format!("{} is added; publish in DNS:", added.domain);
            answer(&words, &added, &settings.sources)
        }
        Verb::List { tenant } => {
            let (Cell { pool, .. }, scope) = context.scope_of_tenant(&tenant).await?;
            let domains = domain::list(&pool, scope).await?;
            Answer::new(table(&domains).text(), &domains)
        }
        Verb::Show { tenant, domain } => {
            let (Cell { pool, .. }, scope) = context.scope_of_tenant(&tenant).await?;
            let found = domain::find(&pool, scope, &domain).await?;
            let host = found.tracking_host.as_ref();
            let host = host.map_or_else(String::new, |host| format!(", tracked over {host}"));
            let words = format!("{} since {}{host}:", found.domain, print::time(found.created_at));
            answer(&words, &found, &settings.sources)
        }
        Verb::ReturnPath { tenant, domain, return_path: given, remove: _ } => {
            let given = given.map(|text| text.to_ascii_lowercase());
            // A domain that cannot stand in an address would leave the mail with the installation's.
            if let Some(bad) =
                given.as_deref().filter(|text| Address::try_new(&format!("b@{text}")).is_err())
            {
                return Err(CliError::usage(format!(
                    "expected a domain like bounces.{domain}, found {bad:?}"
                )));
            }
            let (Cell { pool, .. }, scope) = context.scope_of_tenant(&tenant).await?;
            let (name, actor) = (Name::ReturnPath, context.actor());
            own_names::set(&pool, scope, &domain, name, given.as_deref(), actor).await?;
            let facts = serde_json::json!({"domain": domain, "return_path": given});
            let Some(given) = given else {
                return Answer::new(
                    format!("{domain} returns to the installation's domain within a minute"),
                    &facts,
                );
            };
            let host = match settings.inbound.hostname.as_str() {
                "" => "YOUR-INBOUND-HOST",
                host => host,
            };
            let senders: Vec<String> = settings.sources.iter().filter_map(spf_term).collect();
            let words = format!(
                "{domain} returns to {given} within a minute; publish in DNS:\n\n{given}.  MX\n  10 {host}.\n\n{given}.  TXT\n  {}",
                quoted(&format!("v=spf1 {} -all", senders.join(" ")))
            );
            Answer::new(words, &facts)
        }
        Verb::TrackingHost { tenant, domain, host, remove: _ } => {
            let host = host.map(|host| own_names::tracking_host(&domain, &host)).transpose()?;
            let (Cell { pool, .. }, scope) = context.scope_of_tenant(&tenant).await?;
            let (name, actor) = (Name::TrackingHost, context.actor());
            own_names::set(&pool, scope, &domain, name, host.as_deref(), actor).await?;
            let facts = serde_json::json!({"domain": domain, "tracking_host": host});
            let words = match host {
                Some(host) => format!(
                    "links of {domain} lead over {host} within a minute, in streams that are tracked\n\n\
                     Let {host} lead to the API over https, with its name kept in the Host header, and\n\
                     only the paths /c/ and /o/ (docs/tracking.md)."
                ),
                None => format!("nothing of {domain} is tracked any more within a minute"),
            };
            Answer::new(words, &facts)
        }
        Verb::Remove { tenant, domain } => {
            let (Cell { pool, .. }, scope) = context.scope_of_tenant(&tenant).await?;
            domain::remove(&pool, scope, &domain, context.actor()).await?;
            let words =
                format!("{domain} is removed; its DNS records may go when its queue is empty");
            Answer::new(words, &serde_json::json!({"removed": domain}))
        }
    }
}

impl Keys {
    const fn algorithms(self) -> &'static [Algorithm] {
        match self {
            Self::Both => &[Algorithm::RsaSha256, Algorithm::Ed25519Sha256],
            Self::Rsa => &[Algorithm::RsaSha256],
            Self::Ed25519 => &[Algorithm::Ed25519Sha256],
            Self::None => &[],
        }
    }
}

fn answer(words: &str, domain: &SendingDomain, sources: &[Source]) -> Result<Answer, CliError> {
    let records = records(domain, sources);
    let written = records
        .iter()
        .map(|record| format!("{}.  {}\n  {}", record.name, record.r#type, quoted(&record.value)));
    let written: Vec<String> = written.collect();
    let text = format!(
        "{words}\n\n{}\n\n\
         The last two are suggestions. SPF is looked up at the domain of the return path (the\n\
         envelope sender), so this record counts where that is this domain: let it name every\n\
         address you send from. Begin DMARC with p=none, read its reports, then tighten it.",
        written.join("\n\n")
    );
    Answer::new(text, &serde_json::json!({"domain": domain, "dns": records}))
}

fn records(domain: &SendingDomain, sources: &[Source]) -> Vec<DnsRecord> {
    let name = &domain.domain;
    let txt = |name: String, value: String| DnsRecord { name, r#type: "TXT", value };
    let mut records: Vec<DnsRecord> = domain
        .keys
        .iter()
        .map(|key| txt(format!("{}._domainkey.{name}", key.selector), key.record.clone()))
        .collect();
    let mut senders: Vec<String> = sources.iter().filter_map(spf_term).collect();
    if senders.is_empty() {
        senders.push("ip4:YOUR-ADDRESS".to_owned());
    }
    records.push(txt(name.clone(), format!("v=spf1 {} -all", senders.join(" "))));
    let dmarc = format!("v=DMARC1; p=none; rua=mailto:postmaster@{name}");
    records.push(txt(format!("_dmarc.{name}"), dmarc));
    records
}

/// The addresses where they are known; else the addresses of the name it greets with, if that
/// is one that the world can look up.
fn spf_term(source: &Source) -> Option<String> {
    let ehlo = source.ehlo.as_str();
    let local = ["localhost", "localdomain", "local", "test", "invalid"];
    if source.addresses.is_empty() {
        let is_known = ehlo.rsplit('.').next().is_some_and(|top| !local.contains(&top));
        return is_known.then(|| format!("a:{ehlo}"));
    }
    let public = source.addresses.iter().filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
    let terms: Vec<String> = public
        .map(|ip| match ip {
            IpAddr::V4(ip) => format!("ip4:{ip}"),
            IpAddr::V6(ip) => format!("ip6:{ip}"),
        })
        .collect();
    (!terms.is_empty()).then(|| terms.join(" "))
}

/// As zone files want it: strings of at most 255 bytes, which readers join (RFC 7208 3.3).
fn quoted(value: &str) -> String {
    let parts = value.as_bytes().chunks(255).map(|part| format!("\"{}\"", part.escape_ascii()));
    parts.collect::<Vec<_>>().join(" ")
}

fn table(domains: &[SendingDomain]) -> Table {
    let mut table = Table::new(
        &["domain", "since", "selectors"],
        "the tenant has no domains: postrider domain add --tenant NAME DOMAIN",
    );
    for domain in domains {
        let selectors: Vec<&str> = domain.keys.iter().map(|key| &*key.selector).collect();
        table.row([domain.domain.clone(), print::time(domain.created_at), selectors.join(", ")]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_records_are_split_for_zone_files() {
        let parts = quoted(&"k".repeat(300));
        assert_eq!(parts, format!("\"{}\" \"{}\"", "k".repeat(255), "k".repeat(45)));
    }

    #[test]
    fn spf_names_every_source() {
        let source = |(address, ehlo): (Option<&str>, &str)| Source {
            name: "s".into(),
            addresses: address.iter().map(|ip| ip.parse().expect("an address")).collect(),
            ehlo: ehlo.into(),
            ..Source::default()
        };
        let mta = "mta.shop.example";
        let sources = [
            (None, mta),
            (Some("192.0.2.1"), mta),
            (Some("2001:db8::1"), mta),
            (None, "localhost.localdomain"),
            (Some("127.0.0.1"), mta),
        ];
        let terms: Vec<String> = sources.map(source).iter().filter_map(spf_term).collect();
        assert_eq!(terms, ["a:mta.shop.example", "ip4:192.0.2.1", "ip6:2001:db8::1"]);
    }
}
