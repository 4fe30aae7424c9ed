//! `postrider doctor`: is everything around postrider as it should be, and what to do if not.
//!
//! It looks and changes nothing. Each finding says what was seen and, where that is not well,
//! what to do; the command ends with 1 when something must be done.

mod blocklist;
mod database;
mod disk;
mod dnssec;
mod finding;
mod machine;
mod names;
mod network;
mod return_path;
mod tenant;
mod unsubscribing;

use self::dnssec::Samples;
use self::finding::{Finding, Grade};
use self::names::Names;
use super::context::Context;
use super::error::CliError;
use super::print::{Answer, Verdict};

/// Look at everything around postrider and say what to do
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Looks at the configuration, the database, this machine and its disks, the name servers, the way
out on port 25, block lists and, with --tenant, the DNS records of its domains, where bounces come
back to, and the unsubscribe link. Changes nothing. Run it where the daemon runs, as the daemon's
user. Ends with 1 when something must be done.

Examples:
  postrider doctor
  postrider doctor --tenant shop
  postrider doctor --dnsbl bl.example.net
  postrider doctor --offline --json")]
pub struct Args {
    /// Also this tenant's domains: DNS records, return paths, the unsubscribe link
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Ask no name server and call nobody
    #[arg(long, conflicts_with = "tenant")]
    offline: bool,
    /// A domain whose exchanger is called to see whether port 25 is open
    #[arg(long, value_name = "DOMAIN", default_value = "gmail.com")]
    call: String,
    /// A signed zone, by which servers show that they validate
    #[arg(long, value_name = "ZONE", default_value = "org")]
    signed: String,
    /// A zone with wrong signatures, which servers that validate refuse
    #[arg(long, value_name = "ZONE", default_value = "dnssec-failed.org")]
    forged: String,
    /// A DNS block list to look our addresses up in (may be repeated)
    #[arg(long, value_name = "ZONE", default_values = blocklist::USUAL)]
    dnsbl: Vec<String>,
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<Answer, CliError> {
    let loaded = context.loader().load()?;
    let settings = context.settings()?;
    let mut findings = vec![Finding::fine("configuration", "it is sound")];
    findings.extend(
        loaded.warnings.iter().map(|warning| {
            Finding::odd("configuration", warning.to_string(), "see docs/config.md")
        }),
    );
    if settings.secrets.key.is_none() {
        findings.push(Finding::odd(
            "configuration",
            "there is no installation key for this user, so nothing can be signed",
            "secrets.key_file, or the credential postrider.key",
        ));
    }
    findings.extend(machine::look(&settings));
    findings.extend(database::look(context, &settings).await);
    findings.extend(disk::look(context).await);
    if !args.offline {
        let names = Names::new(&settings.dns).map_err(CliError::failed)?;
        findings.extend(network::look(&settings, &names, &args.call).await);
        let samples = Samples { signed: &args.signed, forged: &args.forged };
        findings.extend(dnssec::look(&settings, &samples).await);
        let ours = network::outside(&settings.sources, &names).await;
        findings.extend(blocklist::look(&ours, &args.dnsbl, &names).await);
        if let Some(name) = &args.tenant {
            findings.extend(tenant::look(context, &settings, &names, name).await?);
        }
    }
    let bad = findings.iter().any(|finding| finding.grade == Grade::Fault);
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    let verdict = if bad { Verdict::Bad } else { Verdict::Fine };
    Ok(Answer::new(lines.join("\n"), &findings)?.with_verdict(verdict))
}
