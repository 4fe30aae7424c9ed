//! Whether the name servers validate, and whether their word counts: without both there is no
//! DANE (docs/adr/0016).

use std::net::IpAddr;

use futures_util::future::join_all;

use super::finding::Finding;
use super::names::{Names, Word};
use crate::config::{Dnssec, Settings};
use crate::route::authentic::believed;

/// What validation is tried with.
pub(super) struct Samples<'a> {
    /// A zone that is signed.
    pub(super) signed: &'a str,
    /// A zone whose signatures do not hold.
    pub(super) forged: &'a str,
}

/// Looks at each server by itself: a question may go to any of them.
pub(super) async fn look(settings: &Settings, samples: &Samples<'_>) -> Vec<Finding> {
    let dns = &settings.dns;
    if dns.dnssec == Dnssec::Off || !settings.tls.dane {
        let key = if settings.tls.dane { "dns.dnssec" } else { "tls.dane" };
        let seen = format!("no server is asked to validate, and there is no DANE: {key} says so");
        return vec![Finding::fine("dnssec", seen)];
    }
    let servers = match Names::each(dns) {
        Ok(servers) => servers,
        Err(error) => {
            let advice = "dns.servers, or /etc/resolv.conf";
            return vec![Finding::fault("dnssec", error, advice)];
        }
    };
    let counts = believed(dns.dnssec, servers.iter().map(|(ip, _)| *ip));
    let looks = servers.iter().map(async |(ip, names)| {
        let (signed, forged) = tokio::join!(names.word(samples.signed), names.word(samples.forged));
        judge(*ip, &signed, &forged, dns.dnssec, counts, samples)
    });
    join_all(looks).await
}

/// What two answers of a server mean (pure). `counts`: whether the AD bit is believed, which the
/// least trusted server decides for all.
fn judge(
    server: IpAddr,
    signed: &Word,
    forged: &Word,
    dnssec: Dnssec,
    counts: bool,
    samples: &Samples<'_>,
) -> Finding {
    let Samples { signed: good, forged: bad } = samples;
    match (signed, forged) {
        (Word::Proved, Word::Proved | Word::Unproved) => Finding::fault(
            "dnssec",
            format!("{server} says that it validates, and takes the forged {bad} for true"),
            "do not believe it: dns.dnssec = \"off\", or a resolver that validates (unbound)",
        ),
        (Word::Proved, _) if !counts => Finding::odd(
            "dnssec",
            format!(
                "{server} validates, but not every server is on this machine, so no answer is \
                 believed: no mail goes under DANE"
            ),
            "a validating resolver on loopback as the only one in dns.servers, or dns.dnssec = \
             \"trusted\" where the network up to them is yours",
        ),
        (Word::Proved, Word::Failed) => Finding::fine(
            "dnssec",
            format!("{server} validates {good} and refuses {bad}: DANE is in force"),
        ),
        (Word::Proved, Word::Absent | Word::Nothing(_)) => {
            let why = match forged {
                Word::Nothing(why) => why.as_str(),
                _ => "there is no such zone",
            };
            Finding::odd(
                "dnssec",
                format!("{server} validates {good}; whether it refuses {bad} is not known: {why}"),
                "name another zone with signatures that do not hold: --forged",
            )
        }
        (Word::Unproved, _) if dnssec == Dnssec::Trusted => Finding::fault(
            "dnssec",
            format!("{server} does not validate, and dns.dnssec trusts it to: there is no DANE"),
            "turn validation on there, or ask another server: dns.servers",
        ),
        (Word::Unproved, _) => Finding::odd(
            "dnssec",
            format!(
                "{server} does not validate: there is no DANE, and receivers that rely on it \
                 get no more than opportunistic TLS"
            ),
            "unbound on loopback and dns.servers = [\"127.0.0.1:53\"], or DNSSEC=yes of \
             systemd-resolved; dns.dnssec = \"off\" says that it is meant",
        ),
        (Word::Absent | Word::Failed | Word::Nothing(_), _) => {
            let why = match signed {
                Word::Nothing(why) => why.as_str(),
                Word::Failed => "it fails",
                _ => "there is no such zone",
            };
            Finding::odd(
                "dnssec",
                format!("whether {server} validates is not known: {good}: {why}"),
                "name another signed zone with --signed, or mend the server's own validation \
                 (its clock, its trust anchor)",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;

    fn grade(signed: &Word, forged: &Word, dnssec: Dnssec, counts: bool) -> Grade {
        let samples = Samples { signed: "good.test", forged: "bad.test" };
        let server = IpAddr::from([127, 0, 0, 1]);
        judge(server, signed, forged, dnssec, counts, &samples).grade
    }

    #[test]
    fn only_a_server_that_proves_and_refuses_is_well() {
        let mute = Word::Nothing("no answer in time".into());
        let near = |signed, forged| grade(signed, forged, Dnssec::Loopback, true);
        assert_eq!(near(&Word::Proved, &Word::Failed), Grade::Fine);
        assert_eq!(near(&Word::Proved, &Word::Unproved), Grade::Fault);
        assert_eq!(near(&Word::Proved, &Word::Proved), Grade::Fault);
        assert_eq!(near(&Word::Proved, &mute), Grade::Odd);
        assert_eq!(near(&Word::Unproved, &Word::Unproved), Grade::Odd);
        assert_eq!(near(&mute, &mute), Grade::Odd);
        // The way to it is not safe.
        assert_eq!(grade(&Word::Proved, &Word::Failed, Dnssec::Loopback, false), Grade::Odd);
        // The operator said that it validates.
        assert_eq!(grade(&Word::Unproved, &Word::Failed, Dnssec::Trusted, true), Grade::Fault);
        assert_eq!(grade(&Word::Proved, &Word::Failed, Dnssec::Trusted, true), Grade::Fine);
    }
}
