//! Where reports about a tenant's mail come back to: its exchangers, and what it publishes about
//! TLS.

use std::collections::BTreeSet;

use super::finding::Finding;
use super::names::Names;
use crate::config::{Inbound, Settings};
use crate::route::https::Https;
use crate::route::sts::{self, Mode, StsPolicy};

/// Looks at the return-path domains, each once.
pub(super) async fn look(
    settings: &Settings,
    domains: &BTreeSet<String>,
    names: &Names,
    https: &Https,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if domains.is_empty() {
        findings.push(Finding::odd(
            "return path",
            "bounces go to the senders' own addresses: nothing is learned from them",
            "feedback.return_path_domain, or postrider domain return-path (docs/bounces.md)",
        ));
    }
    for domain in domains {
        let hosts = match names.exchangers(domain).await {
            Ok(hosts) => hosts,
            Err(error) => {
                let seen = format!("the exchangers of {domain}: {error}");
                findings.push(Finding::odd("return path", seen, "try again"));
                continue;
            }
        };
        findings.push(served(domain, &hosts, &settings.inbound));
        if !hosts.is_empty() {
            let published = sts::published(https, domain).await;
            findings.push(policy(domain, &hosts, &settings.inbound, published));
        }
    }
    findings
}

/// Whether what comes back reaches us (pure).
fn served(domain: &str, hosts: &[String], inbound: &Inbound) -> Finding {
    let ours = inbound.hostname.as_str();
    if hosts.is_empty() {
        return Finding::fault(
            "return path",
            format!("{domain} has no exchanger: what comes back is lost, and receivers refuse it"),
            format!(
                "publish: {domain} MX 10 {}",
                if ours.is_empty() { "YOUR-INBOUND-HOST" } else { ours }
            ),
        );
    }
    if !inbound.is_on() {
        return Finding::odd(
            "return path",
            format!("{domain} is served by {}, and nothing listens here", hosts.join(", ")),
            "inbound.smtp_listen or inbound.lmtp_listen, where this configuration is that host's",
        );
    }
    if !ours.is_empty() && !hosts.iter().any(|host| host == ours) && inbound.lmtp_listen.is_none() {
        return Finding::odd(
            "return path",
            format!("{domain} is served by {}, not by {ours}", hosts.join(", ")),
            "let its MX name inbound.hostname, unless a mail server in front hands it over",
        );
    }
    Finding::fine("return path", format!("{domain} is served by {}", hosts.join(", ")))
}

/// What its MTA-STS policy does to those who return mail (pure).
fn policy(
    domain: &str,
    hosts: &[String],
    inbound: &Inbound,
    published: Result<Option<StsPolicy>, String>,
) -> Finding {
    let policy = match published {
        Ok(Some(policy)) => policy,
        Ok(None) => {
            return Finding::odd(
                "mta-sts",
                format!("{domain} publishes no policy: who returns mail need not verify our host"),
                "a certificate for inbound.hostname (inbound.tls_certificate), then the record \
                 _mta-sts and the policy (RFC 8461); begin with mode: testing",
            );
        }
        Err(why) => {
            return Finding::fault(
                "mta-sts",
                format!("{domain} announces a policy that nobody can have: {why}"),
                format!(
                    "let https://mta-sts.{domain}/.well-known/mta-sts.txt answer, or take the \
                     record _mta-sts.{domain} away"
                ),
            );
        }
    };
    let strict = policy.mode == Mode::Enforce;
    let foreign: Vec<&str> =
        hosts.iter().map(String::as_str).filter(|host| !policy.allows(host)).collect();
    let trouble = if policy.mode == Mode::None {
        None
    } else if !foreign.is_empty() {
        Some((
            format!("the policy of {domain} does not name its exchanger {}", foreign.join(", ")),
            "name it there, and give the record another id",
        ))
    } else if inbound.smtp_listen.is_some() && inbound.tls.is_none() {
        Some((
            format!("the policy of {domain} wants TLS, and no STARTTLS is offered here"),
            "inbound.tls_certificate and inbound.tls_key",
        ))
    } else {
        None
    };
    match trouble {
        Some((seen, advice)) if strict => Finding::fault("mta-sts", seen, advice),
        Some((seen, advice)) => Finding::odd("mta-sts", seen, advice),
        None => {
            let mode = match policy.mode {
                Mode::Enforce => "enforce",
                Mode::Testing => "testing",
                Mode::None => "none",
            };
            Finding::fine("mta-sts", format!("the policy of {domain} fits (mode {mode})"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;

    fn inbound() -> Inbound {
        Inbound {
            smtp_listen: "127.0.0.1:25".parse().ok(),
            hostname: "mx.example.com".into(),
            ..Inbound::default()
        }
    }

    fn read(mode: &str, mx: &str) -> Result<Option<StsPolicy>, String> {
        let text = format!("version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400");
        StsPolicy::read(&text).map(Some).map_err(|error| error.to_string())
    }

    #[test]
    fn what_comes_back_must_reach_us() {
        let grade = |hosts: &[&str], inbound: &Inbound| {
            let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
            served("b.example.com", &hosts, inbound).grade
        };
        assert_eq!(grade(&["mx.example.com"], &inbound()), Grade::Fine);
        assert_eq!(grade(&[], &inbound()), Grade::Fault);
        assert_eq!(grade(&["mx.elsewhere.example"], &inbound()), Grade::Odd);
        assert_eq!(grade(&["mx.example.com"], &Inbound::default()), Grade::Odd);
        let behind = Inbound { lmtp_listen: "127.0.0.1:24".parse().ok(), ..inbound() };
        assert_eq!(grade(&["mx.elsewhere.example"], &behind), Grade::Fine);
    }

    #[test]
    fn a_policy_that_shuts_reports_out_is_a_fault() {
        let tls = crate::config::InboundTls { certificate: "c".into(), key: "k".into() };
        let tls = Inbound { tls: Some(tls), ..inbound() };
        let grade = |published, inbound: &Inbound| {
            policy("b.example.com", &["mx.example.com".to_owned()], inbound, published).grade
        };
        assert_eq!(grade(read("enforce", "mx.example.com"), &tls), Grade::Fine);
        assert_eq!(grade(read("enforce", "*.example.net"), &tls), Grade::Fault);
        assert_eq!(grade(read("testing", "*.example.net"), &tls), Grade::Odd);
        assert_eq!(grade(read("enforce", "mx.example.com"), &inbound()), Grade::Fault);
        assert_eq!(grade(read("none", "*.example.net"), &tls), Grade::Fine);
        assert_eq!(grade(Err("status 404".into()), &tls), Grade::Fault);
        assert_eq!(grade(Ok(None), &tls), Grade::Odd);
    }
}
