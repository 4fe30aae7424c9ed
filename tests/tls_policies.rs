//! Policy x certificate x outcome (docs/tls.md has the table): each cell is a delivery to a real
//! TLS server, planned by what a real validating name server and a real HTTPS server say.

use crate::support::authority::{Authority, Made, tlsa};
use crate::support::letters::letter;
use crate::support::policy_host::PolicyHost;
use crate::support::signed_dns::{SignedDns, Zones};
use crate::support::smtp_peer::{Act, Peer, Script};
use postrider::config::{self, Route, RouteKind, Settings, TlsMode, TlsReport};
use postrider::domain::ids::MailboxProvider;
use postrider::domain::outcome::Outcome;
use postrider::domain::verdict::{Finality, Verdict};
use postrider::route::planner::Planner;
use postrider::smtp::deliver::Smtp;
use postrider::smtp::tls::Tls;

/// What a domain publishes.
const POLICIES: [&str; 11] = [
    "none",
    "testing",
    "enforce",
    "othermx",
    "daneee",
    "daneeecert",
    "daneta",
    "daneother",
    "daneodd",
    "danests",
    "unsigned",
];

/// How a cell of the table ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    /// Delivered under TLS.
    Encrypted,
    /// Delivered in clear.
    Clear,
    /// Not delivered; the mail waits.
    Deferred,
}
use Cell::{Clear, Deferred, Encrypted};

/// Everything around the mail hosts.
struct World {
    dns: SignedDns,
    web: PolicyHost,
    ours: Authority,
}

fn domain(policy: &str) -> String {
    let zone = if policy.starts_with("dane") { "signed.test" } else { "plain.test" };
    format!("{policy}.{zone}")
}

fn host(policy: &str) -> String {
    format!("mx-{}", domain(policy))
}

fn hosts() -> Vec<String> {
    POLICIES.iter().map(|policy| host(policy)).collect()
}

fn sts(mode: &str, mx: &str) -> String {
    format!("version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400\n")
}

/// A world in which `peers` are mail hosts of every domain, each on its port, showing `shown`.
async fn world(ours: Authority, peers: &[(&Peer, Option<&Made>)]) -> World {
    let policy_hosts =
        ["testing", "enforce", "othermx", "danests"].map(|p| format!("mta-sts.{}", domain(p)));
    let web = PolicyHost::start(&ours.certify(&policy_hosts).shown()).await;
    web.publish(&domain("testing"), &sts("testing", &host("testing")));
    web.publish(&domain("enforce"), &sts("enforce", "*.plain.test"));
    web.publish(&domain("othermx"), &sts("enforce", "mx.elsewhere.test"));
    // Would not allow the host, if DANE did not win.
    web.publish(&domain("danests"), &sts("enforce", "mx.elsewhere.test"));
    let mut zones = Zones::default();
    for policy in POLICIES {
        zones = zones.mail(&domain(policy), &host(policy));
    }
    for name in policy_hosts {
        zones = zones
            .with(&name, "A 127.0.0.1")
            .with(&name.replacen("mta-sts.", "_mta-sts.", 1), "TXT \"v=STSv1; id=1;\"");
    }
    let other = Authority::new("Somebody else");
    for (peer, shown) in peers {
        let at = |policy: &str| format!("_{}._tcp.{}", peer.address.port(), host(policy));
        let own = shown.map_or(&other.certificate, |made| &made.chain[0]);
        zones = zones
            .with(&at("daneee"), &format!("TLSA {}", tlsa(3, 1, own)))
            .with(&at("daneeecert"), &format!("TLSA {}", tlsa(3, 0, own)))
            .with(&at("daneta"), &format!("TLSA {}", tlsa(2, 1, &ours.certificate)))
            .with(&at("daneother"), &format!("TLSA {}", tlsa(3, 1, &other.certificate)))
            .with(&at("daneodd"), &format!("TLSA {}", tlsa(1, 1, &other.certificate)))
            .with(&at("danests"), &format!("TLSA {}", tlsa(3, 1, own)))
            // In a zone that is not signed, TLSA records say nothing.
            .with(&at("unsigned"), &format!("TLSA {}", tlsa(3, 1, &other.certificate)));
    }
    World { dns: zones.serve(), web, ours }
}

impl World {
    fn settings(&self, tls: TlsMode, port: u16) -> Settings {
        let mut settings = Settings::for_testing();
        settings.dns.servers = vec![self.dns.address];
        settings.tls.https_port = self.web.address.port();
        settings.tls.roots = vec![self.ours.certificate.clone()];
        settings.routes = vec![Route { tls, kind: RouteKind::Mx { port }, ..Route::default() }];
        settings.tls_report = Some(TlsReport {
            organization: "Us".into(),
            contact: "tls@us.test".into(),
            from: "tls@us.test".into(),
            tenant: "us".into(),
            stream: "tls-report".into(),
        });
        settings
    }

    /// Delivers one mail to a domain by the host on `peer`'s port; also what was reported.
    async fn send(&self, settings: &Settings, to: &str) -> (Result<Cell, Verdict>, Vec<String>) {
        let planner = Planner::new(settings).expect("a planner");
        let sent = send_by(&planner, settings, to).await;
        let mut results: Vec<String> = planner
            .tally()
            .drain()
            .into_iter()
            .map(|(event, n)| {
                assert_eq!(&*event.domain, to);
                let failure = event.failure.map_or("ok", |failure| failure.as_str());
                format!("{} {failure} {n}", event.policy_type)
            })
            .collect();
        results.sort_unstable();
        (sent, results)
    }
}

async fn send_by(planner: &Planner, settings: &Settings, to: &str) -> Result<Cell, Verdict> {
    let other = MailboxProvider::other();
    let choice = planner.route_for("acme", "bulk", &other);
    let plan = planner.plan(&choice, to, &other).await?;
    let tls = Tls::with_extra_roots(settings.tls.roots.iter().cloned()).expect("TLS");
    let smtp = Smtp::with_tls(&config::Smtp::default(), tls).counting(planner.tally());
    let delivery = smtp.deliver(&letter(), &plan).await;
    match delivery.result {
        Ok(_) => Ok(if delivery.trail.tls.is_some() { Encrypted } else { Clear }),
        Err(Outcome::Refused(verdict) | Outcome::Unreached(verdict)) => Err(verdict),
        Err(other) => panic!("neither delivered nor refused: {other:?}"),
    }
}

fn cell(sent: &Result<Cell, Verdict>) -> Cell {
    match sent {
        Ok(cell) => *cell,
        Err(verdict) => {
            assert_eq!(verdict.finality, Finality::Passing, "{verdict}");
            Deferred
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_policy_takes_the_certificates_that_it_should() {
    use TlsMode::{Opportunistic, Required, Verified};
    const D: Cell = Deferred;
    const E: Cell = Encrypted;

    let (ours, theirs) = (Authority::new("Ours"), Authority::new("Unknown"));
    let wrong = vec!["somebody.else.test".to_owned()];
    let made = [
        ("good", ours.certify(&hosts())),
        ("wrong name", ours.certify(&wrong)),
        ("expired", ours.expired(&hosts())),
        ("self-signed", Made::by_itself(&hosts())),
        ("unknown authority", theirs.certify(&hosts())),
    ];
    let mut peers = Vec::new();
    for (_, made) in &made {
        peers.push(Script::with_tls(&made.shown()).start().await);
    }
    let shown: Vec<_> = peers.iter().zip(made.iter().map(|(_, made)| Some(made))).collect();
    let world = world(ours, &shown).await;
    // Columns as in `made`.
    let table: [(&str, TlsMode, [Cell; 5]); 15] = [
        ("none", Opportunistic, [E, E, E, E, E]),
        ("none", Required, [E, E, E, E, E]),
        ("none", Verified, [E, D, D, D, D]),
        ("testing", Opportunistic, [E, E, E, E, E]),
        ("testing", Verified, [E, D, D, D, D]),
        ("enforce", Opportunistic, [E, D, D, D, D]),
        ("enforce", Required, [E, D, D, D, D]),
        ("othermx", Opportunistic, [D, D, D, D, D]),
        ("daneee", Opportunistic, [E, E, E, E, E]),
        ("daneeecert", Verified, [E, E, E, E, E]),
        ("daneta", Opportunistic, [E, D, D, D, D]),
        ("daneother", Opportunistic, [D, D, D, D, D]),
        ("daneodd", Opportunistic, [E, E, E, E, E]),
        ("danests", Opportunistic, [E, E, E, E, E]),
        ("unsigned", Opportunistic, [E, E, E, E, E]),
    ];
    let wrong_by = |policy: &str, n: usize| {
        let word = [
            "ok",
            "certificate-host-mismatch",
            "certificate-expired",
            "certificate-not-trusted",
            "certificate-not-trusted",
        ][n];
        // An authority that the DNS does not name is none, whatever it signs.
        if policy == "daneta" && n > 2 { "validation-failure" } else { word }
    };
    for (policy, mode, expected) in table {
        for (n, (name, _)) in made.iter().enumerate() {
            let what = format!("{policy}, {mode:?}, {name}");
            let before = peers[n].accepted().len();
            let settings = world.settings(mode, peers[n].address.port());
            let (sent, results) = world.send(&settings, &domain(policy)).await;
            assert_eq!(cell(&sent), expected[n], "{what}: {sent:?}");
            let taken = peers[n].accepted().len() - before;
            assert_eq!(taken, usize::from(expected[n] != Deferred), "{what}");
            assert!(peers[n].accepted().iter().all(|body| body.encrypted), "{what}");
            let kind = match policy {
                "none" | "unsigned" => "no-policy-found",
                "testing" | "enforce" | "othermx" => "sts",
                _ => "tlsa",
            };
            let word = match (policy, expected[n]) {
                ("testing", _) | (_, Deferred) if !matches!(policy, "othermx" | "daneother") => {
                    wrong_by(policy, n)
                }
                (_, Deferred) => "validation-failure",
                _ => "ok",
            };
            assert_eq!(results, [format!("{kind} {word} 1")], "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_tls_cannot_be_had_only_who_asks_for_nothing_gets_mail_in_clear() {
    let ours = Authority::new("Ours");
    let good = ours.certify(&hosts());
    let without = Script::pipelining().start().await;
    let broken = Script::with_tls(&good.shown()).on("handshake", Act::Drop).start().await;
    let refused = Script::with_tls(&good.shown()).on("STARTTLS", Act::reply("454 4.7.0 not now"));
    let refused = refused.start().await;
    let peers = [&without, &broken, &refused];
    let world = world(ours, &peers.map(|peer| (peer, Some(&good)))).await;
    for (policy, mode, expected) in [
        ("none", TlsMode::Opportunistic, Clear),
        ("none", TlsMode::Required, Deferred),
        ("none", TlsMode::Verified, Deferred),
        ("unsigned", TlsMode::Opportunistic, Clear),
        ("testing", TlsMode::Opportunistic, Clear),
        ("enforce", TlsMode::Opportunistic, Deferred),
        ("othermx", TlsMode::Opportunistic, Deferred),
        ("daneee", TlsMode::Opportunistic, Deferred),
        ("daneta", TlsMode::Opportunistic, Deferred),
        // TLSA records that nobody can use still ask for TLS.
        ("daneodd", TlsMode::Opportunistic, Deferred),
    ] {
        for (n, peer) in peers.into_iter().enumerate() {
            let what = format!("{policy}, {mode:?}, peer {n}");
            let settings = world.settings(mode, peer.address.port());
            let before = peer.record().bodies.len();
            let (sent, results) = world.send(&settings, &domain(policy)).await;
            assert_eq!(cell(&sent), expected, "{what}: {sent:?}");
            let bodies = peer.record().bodies.len() - before;
            assert_eq!(bodies, usize::from(expected == Clear), "{what}");
            let word = match (policy, n) {
                ("othermx", _) | (_, 1) => "validation-failure",
                _ => "starttls-not-supported",
            };
            assert!(results.len() == 1 && results[0].contains(word), "{what}: {results:?}");
        }
        // Without policies, or where the operator wants none, the route's own mode decides.
        let mut settings = world.settings(mode, without.address.port());
        settings.routes[0].tls_policies = false;
        let (sent, _) = world.send(&settings, &domain(policy)).await;
        let alone = if mode == TlsMode::Opportunistic { Clear } else { Deferred };
        assert_eq!(cell(&sent), alone, "{policy}: {sent:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dane_counts_only_where_the_name_server_is_believed() {
    let ours = Authority::new("Ours");
    let good = ours.certify(&hosts());
    let peer = Script::with_tls(&good.shown()).start().await;
    let world = world(ours, &[(&peer, Some(&good))]).await;
    let mut settings = world.settings(TlsMode::Opportunistic, peer.address.port());
    for (dnssec, dane, expected) in [
        (config::Dnssec::Loopback, true, Deferred),
        (config::Dnssec::Trusted, true, Deferred),
        (config::Dnssec::Off, true, Encrypted),
        (config::Dnssec::Loopback, false, Encrypted),
    ] {
        settings.dns.dnssec = dnssec;
        settings.tls.dane = dane;
        let (sent, _) = world.send(&settings, &domain("daneother")).await;
        assert_eq!(cell(&sent), expected, "{dnssec:?} {dane}: {sent:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tlsa_records_that_are_forged_or_kept_back_defer_and_the_next_host_is_tried() {
    let ours = Authority::new("Ours");
    let names = ["mx.bogus.signed.test", "mx2.bogus.signed.test"].map(ToOwned::to_owned);
    let good = ours.certify(&names);
    let peer = Script::with_tls(&good.shown()).start().await;
    let port = peer.address.port();
    let web = PolicyHost::start(&good.shown()).await;
    let dns = Zones::default()
        .mail("bogus.signed.test", "mx.bogus.signed.test")
        .forged("_tcp.mx.bogus.signed.test")
        .with("two.signed.test", "MX 10 mx.bogus.signed.test.")
        .with("two.signed.test", "MX 20 mx2.bogus.signed.test.")
        .with("mx2.bogus.signed.test", "A 127.0.0.1")
        .with(
            &format!("_{port}._tcp.mx2.bogus.signed.test"),
            &format!("TLSA {}", tlsa(3, 1, &good.chain[0])),
        )
        .serve();
    let world = World { dns, web, ours };
    let settings = world.settings(TlsMode::Opportunistic, port);
    let (sent, results) = world.send(&settings, "bogus.signed.test").await;
    let verdict = sent.expect_err("no downgrade");
    assert!(
        verdict.to_string().contains("TLSA") && verdict.finality == Finality::Passing,
        "{verdict}"
    );
    assert_eq!(peer.record().connections, 0, "it is not even connected to");
    assert_eq!(results, ["tlsa dnssec-invalid 1"]);
    let (sent, results) = world.send(&settings, "two.signed.test").await;
    assert_eq!(cell(&sent), Encrypted, "{sent:?}");
    assert_eq!(results, ["tlsa dnssec-invalid 1", "tlsa ok 1"]);
}
