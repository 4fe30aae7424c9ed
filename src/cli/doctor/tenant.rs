//! A tenant's domains: what receivers read about them in the DNS, where bounces come back to, and
//! where a click on unsubscribing leads.

use std::collections::BTreeSet;

use super::finding::Finding;
use super::names::Names;
use super::{return_path as back, unsubscribing};
use crate::cell::Cell;
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::config::{Settings, Source};
use crate::route::https::Https;
use crate::tenant::domain::{self, SendingDomain};

/// Looks at every domain of the tenant.
pub(super) async fn look(
    context: &Context,
    settings: &Settings,
    names: &Names,
    tenant: &str,
) -> Result<Vec<Finding>, CliError> {
    let (Cell { pool, .. }, scope) = context.scope_of_tenant(tenant).await?;
    let domains = domain::list(&pool, scope).await?;
    let mut findings = Vec::new();
    if domains.is_empty() {
        findings.push(Finding::fault(
            "tenant",
            format!("{tenant} has no domain"),
            format!("postrider domain add --tenant {tenant} DOMAIN"),
        ));
    }
    let usual = settings.feedback.return_path_domain.as_ref();
    let mut return_paths = BTreeSet::new();
    for domain in &domains {
        let returns = domain.return_path.as_ref().or(usual);
        return_paths.extend(returns.cloned());
        findings.extend(keys(domain, names).await);
        // SPF is looked up at the domain of the envelope sender (RFC 7208 2.4).
        let envelope = returns.unwrap_or(&domain.domain);
        findings.push(spf(envelope, &settings.sources, names).await);
        findings.push(dmarc(domain, names).await);
        if let Some(host) = &domain.tracking_host {
            findings.push(tracked(host, names).await);
        }
    }
    match Https::new(settings) {
        Ok(https) => {
            findings.extend(back::look(settings, &return_paths, names, &https).await);
            findings.push(unsubscribing::look(settings, &https).await);
        }
        Err(error) => {
            let advice = "dns.servers, or tls.roots_file";
            findings.push(Finding::fault("unsubscribing", error.to_string(), advice));
        }
    }
    Ok(findings)
}

/// Where tracked links lead. Who answers there is known when one is followed.
async fn tracked(host: &str, names: &Names) -> Finding {
    match names.addresses(host).await {
        Ok(found) if found.is_empty() => Finding::fault(
            "tracking",
            format!("{host} has no address, and the links in mail lead there"),
            "lead it to the API's proxy, or postrider domain tracking-host (docs/tracking.md)",
        ),
        Ok(_) => Finding::fine("tracking", format!("links lead over {host}")),
        Err(error) => Finding::odd("tracking", format!("{host}: {error}"), "the name servers"),
    }
}

async fn keys(domain: &SendingDomain, names: &Names) -> Vec<Finding> {
    let name = &domain.domain;
    if domain.keys.is_empty() {
        let advice = "postrider domain add with another --selector: large receivers refuse such";
        return vec![Finding::odd("dkim", format!("{name}: mail leaves unsigned"), advice)];
    }
    let mut findings = Vec::new();
    for key in &domain.keys {
        let place = format!("{}._domainkey.{name}", key.selector);
        let same = |text: &String| squeezed(text) == squeezed(&key.record);
        findings.push(match names.texts(&place).await {
            Ok(texts) if texts.iter().any(same) => {
                Finding::fine("dkim", format!("{place} is published"))
            }
            Ok(texts) if texts.is_empty() => Finding::fault(
                "dkim",
                format!("{place} is not published: every signature fails"),
                format!("publish what `postrider domain show` prints for {name}"),
            ),
            Ok(_) => Finding::fault(
                "dkim",
                format!("{place} holds another key: every signature fails"),
                format!("publish what `postrider domain show` prints for {name}"),
            ),
            Err(error) => Finding::odd("dkim", format!("{place}: {error}"), "try again"),
        });
    }
    findings
}

async fn spf(name: &str, sources: &[Source], names: &Names) -> Finding {
    let texts = match names.texts(name).await {
        Ok(texts) => texts,
        Err(error) => return Finding::odd("spf", format!("{name}: {error}"), "try again"),
    };
    let records: Vec<&String> =
        texts.iter().filter(|text| text.to_ascii_lowercase().starts_with("v=spf1")).collect();
    match records.as_slice() {
        [] => Finding::fault(
            "spf",
            format!("{name} has no SPF record"),
            "publish one that names every address you send from (postrider domain show)",
        ),
        [record] => match sources.iter().find(|source| !may_cover(record, source)) {
            None => Finding::fine("spf", format!("{name}: {record}")),
            Some(source) => Finding::odd(
                "spf",
                format!("{name}: source {} is not named in {record:?}", source.name),
                "name its address, unless an include or a network of the record covers it",
            ),
        },
        _ => Finding::fault(
            "spf",
            format!("{name} has {} SPF records: receivers take none", records.len()),
            "leave one (RFC 7208 4.5)",
        ),
    }
}

/// Whether the record may speak of the source: names it, or leads elsewhere.
fn may_cover(record: &str, source: &Source) -> bool {
    let elsewhere = ["include:", "redirect=", "exists:", " a ", " mx", "ptr"];
    let named = if source.addresses.is_empty() {
        record.contains(&format!("a:{}", source.ehlo))
    } else {
        source.addresses.iter().all(|address| record.contains(&address.to_string()))
    };
    named || elsewhere.iter().any(|term| record.contains(term)) || record.contains('/')
}

async fn dmarc(domain: &SendingDomain, names: &Names) -> Finding {
    let place = format!("_dmarc.{}", domain.domain);
    match names.texts(&place).await {
        Ok(texts) => match texts.iter().find(|text| text.starts_with("v=DMARC1")) {
            Some(text) => Finding::fine("dmarc", format!("{place}: {text}")),
            None => Finding::fault(
                "dmarc",
                format!("{place} is not published: large receivers want it of whoever sends much"),
                format!(
                    "begin with: {place} TXT \"v=DMARC1; p=none; rua=mailto:postmaster@{}\"",
                    domain.domain
                ),
            ),
        },
        Err(error) => Finding::odd("dmarc", format!("{place}: {error}"), "try again"),
    }
}

/// Without blanks, which do not count in a key record.
fn squeezed(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_names_the_source_or_leads_elsewhere_may_cover_it() {
        let source =
            Source { addresses: "192.0.2.25".parse().into_iter().collect(), ..Source::default() };
        for covers in [
            "v=spf1 ip4:192.0.2.25 -all",
            "v=spf1 include:x.example -all",
            "v=spf1 ip4:192.0.2.0/24 -all",
        ] {
            assert!(may_cover(covers, &source), "{covers}");
        }
        assert!(!may_cover("v=spf1 ip4:192.0.2.7 -all", &source));
        assert_eq!(squeezed("v=DKIM1; p=AB C"), "v=DKIM1;p=ABC");
    }
}
