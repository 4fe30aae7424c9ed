//! `postrider doctor`: is everything around postrider as it should be, and what to do if not.
//!
//! It looks and changes nothing. Each finding says what was seen and, where that is not well,
//! what to do; the command ends with 1 when something must be done.

mod database;
mod finding;
mod machine;
mod names;
mod network;
mod tenant;

use self::finding::{Finding, Grade};
use self::names::Names;
use super::context::Context;
use super::error::CliError;
use super::print::{Answer, Verdict};

/// Look at everything around postrider and say what to do
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Looks at the configuration, the database, this machine, the name servers, the way out on port
25 and, with --tenant, the DNS records of its domains. Changes nothing. Run it where the daemon
runs, as the daemon's user. Ends with 1 when something must be done.

Examples:
  postrider doctor
  postrider doctor --tenant shop
  postrider doctor --offline --json")]
pub struct Args {
    /// Also the DNS records of this tenant's domains
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Ask no name server and call nobody
    #[arg(long, conflicts_with = "tenant")]
    offline: bool,
    /// A domain whose exchanger is called to see whether port 25 is open
    #[arg(long, value_name = "DOMAIN", default_value = "gmail.com")]
    call: String,
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
    if !args.offline {
        let names = Names::new(&settings.dns).map_err(CliError::failed)?;
        findings.extend(network::look(&settings, &names, &args.call).await);
        if let Some(name) = &args.tenant {
            findings.extend(tenant::look(context, &settings, &names, name).await?);
        }
    }
    let bad = findings.iter().any(|finding| finding.grade == Grade::Fault);
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    let verdict = if bad { Verdict::Bad } else { Verdict::Fine };
    Ok(Answer::new(lines.join("\n"), &findings)?.with_verdict(verdict))
}
