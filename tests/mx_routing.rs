//! From a recipient's domain to hops, against a real name server.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use postrider::config::{MailboxProviderRule, Route, RouteKind, Settings};
use postrider::domain::ids::MailboxProvider;
use postrider::domain::verdict::{Cause, Class, Finality, Stage, Verdict};
use postrider::route::plan::RoutePlan;
use postrider::route::planner::Planner;

use crate::support::name_server::{NameServer, Zone};

fn settings(server: &NameServer) -> Settings {
    let mut settings = Settings::for_testing();
    settings.dns.servers = vec![server.address];
    settings.dns.allow_private_addresses = false;
    // Questions are counted here; tests/sts.rs counts those for policies.
    settings.tls.mta_sts = false;
    settings
}

async fn plan_with(settings: &Settings, domain: &str) -> Result<RoutePlan, Verdict> {
    plan_of(&Planner::new(settings).unwrap(), domain).await
}

async fn plan_of(planner: &Planner, domain: &str) -> Result<RoutePlan, Verdict> {
    let other = MailboxProvider::other();
    let choice = planner.route_for("acme", "bulk", &other);
    planner.plan(&choice, domain, &other).await
}

/// Plans, and lists the hops as `host address`.
async fn hops(server: &NameServer, domain: &str) -> Vec<String> {
    let plan = plan_with(&settings(server), domain).await.unwrap();
    plan.hops.iter().map(|hop| format!("{} {}", hop.host, hop.address)).collect()
}

async fn refusal(server: &NameServer, domain: &str) -> Verdict {
    let verdict = plan_with(&settings(server), domain).await.unwrap_err();
    assert_eq!(verdict.stage, Stage::Resolve);
    verdict
}

#[tokio::test]
async fn hosts_come_by_preference_with_both_families() {
    let server = Zone::new()
        .mx("one.test", 300, 20, "second.test")
        .mx("one.test", 300, 10, "first.test")
        .a("first.test", [198, 51, 100, 1])
        .aaaa("first.test", "2001:db8::1")
        .a("second.test", [198, 51, 100, 2])
        .serve()
        .await;
    assert_eq!(
        hops(&server, "one.test").await,
        [
            "first.test 198.51.100.1:25",
            "first.test [2001:db8::1]:25",
            "second.test 198.51.100.2:25"
        ]
    );
}

#[tokio::test]
async fn equals_take_turns_and_no_host_fills_the_plan() {
    let mut zone = Zone::new().mx("one.test", 300, 10, "a.test").mx("one.test", 300, 10, "b.test");
    for n in 1..=9 {
        zone = zone.a("a.test", [198, 51, 100, n]).a("b.test", [198, 51, 100, n]);
    }
    let server = zone.serve().await;
    let planner = Planner::new(&settings(&server)).unwrap();
    let mut first_hosts = std::collections::HashSet::new();
    for _ in 0..50 {
        let plan = plan_of(&planner, "one.test").await.unwrap();
        assert_eq!(plan.hops.len(), 8, "four of each");
        first_hosts.insert(plan.hops[0].host.clone());
    }
    assert_eq!(first_hosts.len(), 2);
}

#[tokio::test]
async fn a_null_mx_is_final() {
    let server =
        Zone::new().mx("null.test", 300, 0, ".").a("null.test", [198, 51, 100, 1]).serve().await;
    let verdict = refusal(&server, "null.test").await;
    assert_eq!((verdict.class, verdict.finality), (Class::DomainBad, Finality::Final));
    assert!(matches!(&verdict.cause, Cause::Dns(text) if text.contains("null MX")), "{verdict}");
}

#[tokio::test]
async fn without_mx_the_domain_itself_takes_the_mail() {
    let server = Zone::new()
        .a("both.test", [198, 51, 100, 1])
        .aaaa("both.test", "2001:db8::1")
        .aaaa("six.test", "2001:db8::6")
        .serve()
        .await;
    let both = ["both.test 198.51.100.1:25", "both.test [2001:db8::1]:25"];
    assert_eq!(hops(&server, "both.test").await, both);
    assert_eq!(hops(&server, "six.test").await, ["six.test [2001:db8::6]:25"]);
}

#[tokio::test]
async fn what_does_not_exist_is_final() {
    let server = Zone::new().cname("alias.empty.test", "empty.test").serve().await;
    // `empty.test` exists only as the parent of another name.
    for domain in ["missing.test", "empty.test"] {
        let verdict = refusal(&server, domain).await;
        assert_eq!(
            (verdict.class, verdict.finality),
            (Class::DomainBad, Finality::Final),
            "{domain}"
        );
    }
    assert_eq!(server.times("A missing.test"), 0, "the name itself does not exist");
}

#[tokio::test]
async fn trouble_with_the_dns_passes() {
    let server = Zone::new()
        .mx("half.test", 300, 10, "mx.servfail.test")
        .mx("half.test", 300, 20, "good.test")
        .a("good.test", [198, 51, 100, 1])
        .mx("lost.test", 300, 10, "mx.servfail.test")
        .mx("lost.test", 300, 20, "missing.test")
        .serve()
        .await;
    for domain in ["one.servfail.test", "lost.test"] {
        let verdict = refusal(&server, domain).await;
        assert_eq!(
            (verdict.class, verdict.finality),
            (Class::Transient, Finality::Passing),
            "{domain}"
        );
        assert!(matches!(verdict.cause, Cause::Dns(_)), "{verdict}");
    }
    assert_eq!(hops(&server, "half.test").await, ["good.test 198.51.100.1:25"]);
}

#[tokio::test]
async fn a_silent_server_is_given_up_in_time() {
    let server = Zone::new().serve().await;
    let mut settings = settings(&server);
    settings.dns.timeout = Duration::from_millis(200);
    let started = std::time::Instant::now();
    let verdict = plan_with(&settings, "one.silent.test").await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!((verdict.class, verdict.finality), (Class::Transient, Finality::Passing));
    assert_eq!(verdict.cause, Cause::Timeout);
}

#[tokio::test]
async fn private_addresses_are_refused_unless_allowed() {
    let server = Zone::new()
        .mx("trap.test", 300, 10, "inside.test")
        .a("inside.test", [127, 0, 0, 1])
        .a("inside.test", [169, 254, 169, 254])
        .aaaa("inside.test", "::ffff:10.0.0.1")
        .mx("mixed.test", 300, 10, "inside.test")
        .mx("mixed.test", 300, 20, "outside.test")
        .a("outside.test", [198, 51, 100, 1])
        .a("nowhere.test", [0, 0, 0, 0])
        .serve()
        .await;
    let verdict = refusal(&server, "trap.test").await;
    assert_eq!((verdict.class, verdict.finality), (Class::DomainBad, Finality::Passing));
    assert_eq!(hops(&server, "mixed.test").await, ["outside.test 198.51.100.1:25"]);

    let mut allowed = settings(&server);
    allowed.dns.allow_private_addresses = true;
    assert_eq!(plan_with(&allowed, "trap.test").await.unwrap().hops.len(), 3);
    assert!(plan_with(&allowed, "nowhere.test").await.is_err(), "that is no host");
}

#[tokio::test]
async fn aliases_are_followed_and_literals_are_not() {
    let server = Zone::new()
        .cname("alias.test", "real.test")
        .mx("real.test", 300, 10, "mx.test")
        .mx("real.test", 300, 5, "198.51.100.66")
        .cname("mx.test", "host.test")
        .a("host.test", [198, 51, 100, 1])
        .mx("literal.test", 300, 5, "198.51.100.66")
        .serve()
        .await;
    assert_eq!(hops(&server, "alias.test").await, ["mx.test 198.51.100.1:25"]);
    let verdict = refusal(&server, "literal.test").await;
    assert_eq!((verdict.class, verdict.finality), (Class::DomainBad, Finality::Passing));
    assert!(server.asked().iter().all(|asked| !asked.contains("198.51.100.66")));
}

#[tokio::test]
async fn a_loop_of_aliases_is_given_up_and_ends_nobodys_mail() {
    let server = Zone::new()
        .cname("a.test", "b.test")
        .cname("b.test", "a.test")
        .mx("looped.test", 300, 10, "a.test")
        .mx("half.test", 300, 10, "a.test")
        .mx("half.test", 300, 20, "good.test")
        .a("good.test", [198, 51, 100, 1])
        .serve()
        .await;
    assert_eq!(refusal(&server, "looped.test").await.finality, Finality::Passing);
    assert_eq!(hops(&server, "half.test").await, ["good.test 198.51.100.1:25"]);
    let verdict = refusal(&server, "a.test").await;
    assert_eq!(verdict.class == Class::Transient, verdict.finality == Finality::Passing);
    assert!(server.asked().len() < 100, "{}", server.asked().len());
}

#[tokio::test]
async fn mail_that_would_come_back_is_not_sent() {
    let server = Zone::new()
        .mx("ours.test", 300, 10, "out.test")
        .mx("backup.test", 300, 10, "primary.test")
        .mx("backup.test", 300, 20, "out.test")
        .mx("backup.test", 300, 30, "third.test")
        .mx("worse.test", 300, 10, "out.test")
        .mx("worse.test", 300, 10, "equal.test")
        .mx("worse.test", 300, 20, "third.test")
        .a("out.test", [198, 51, 100, 1])
        .a("primary.test", [198, 51, 100, 2])
        .a("third.test", [198, 51, 100, 3])
        .a("equal.test", [198, 51, 100, 4])
        .serve()
        .await;
    let mut settings = settings(&server);
    settings.sources[0].ehlo = "Out.test".into();
    let planner = Planner::new(&settings).unwrap();
    for domain in ["ours.test", "worse.test"] {
        let verdict = plan_of(&planner, domain).await.unwrap_err();
        assert_eq!((verdict.class, verdict.finality), (Class::DomainBad, Finality::Passing));
        assert!(verdict.cause.to_string().contains("come back"), "{verdict}");
    }
    // We are a backup: only what is better than we are leads on (RFC 5321 5.1).
    let plan = plan_of(&planner, "backup.test").await.unwrap();
    let hosts: Vec<&str> = plan.hops.iter().map(|hop| &*hop.host).collect();
    assert_eq!(hosts, ["primary.test"]);

    settings.dns.allow_private_addresses = true;
    let planner = Planner::new(&settings).unwrap();
    assert_eq!(plan_of(&planner, "ours.test").await.unwrap().hops.len(), 1, "unless allowed");
}

#[tokio::test]
async fn a_hundred_exchangers_cost_ten_lookups() {
    let mut zone = Zone::new();
    for n in 0..100 {
        let host = format!("a-rather-long-name-for-mail-exchanger-number-{n}.test");
        zone = zone.mx("many.test", 300, n, &host).a(&host, [198, 51, 100, n as u8]);
    }
    let server = zone.serve().await;
    let hops = hops(&server, "many.test").await;
    assert_eq!(hops.len(), 10);
    assert!(hops[9].ends_with("number-9.test 198.51.100.9:25"), "{}", hops[9]);
    let addresses = server.asked().iter().filter(|asked| asked.starts_with("A ")).count();
    assert_eq!(addresses, 10);
}

#[tokio::test]
async fn a_thousand_deliveries_ask_once_even_with_a_ttl_of_zero() {
    let server =
        Zone::new().mx("one.test", 0, 10, "mx.test").a("mx.test", [198, 51, 100, 1]).serve().await;
    let planner = Planner::new(&settings(&server)).unwrap();
    let plans = join_all((0..1000).map(|_| plan_of(&planner, "one.test"))).await;
    assert!(plans.iter().all(Result::is_ok));
    let verdicts = join_all((0..1000).map(|_| plan_of(&planner, "missing.test"))).await;
    assert!(verdicts.iter().all(Result::is_err));
    let asked = ["MX one.test", "A mx.test", "AAAA mx.test", "MX missing.test"];
    assert_eq!(asked.map(|question| server.times(question)), [1, 1, 1, 1]);
    assert_eq!(server.asked().len(), 4, "{:?}", server.asked());
}

#[tokio::test]
async fn answers_are_believed_as_long_as_they_say_within_bounds() {
    let server = Zone::new()
        .mx("zero.test", 0, 10, "mx.test")
        .mx("long.test", 86_400, 10, "mx.test")
        .a("mx.test", [198, 51, 100, 1])
        .serve()
        .await;
    let planner = Planner::new(&settings(&server)).unwrap();
    let ask = async |domain| drop(plan_of(&planner, domain).await);
    let pass = async |seconds| {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
    };
    let all = async || {
        for domain in ["zero.test", "long.test", "missing.test"] {
            ask(domain).await;
        }
    };
    all().await;
    pass(9).await;
    all().await;
    let asked = || ["MX zero.test", "MX long.test"].map(|question| server.times(question));
    assert_eq!(asked(), [1, 1]);
    pass(2).await;
    all().await;
    assert_eq!(asked(), [2, 1]);
    // The TTL of the host's address, 300 s, bounds the belief as well; the MX
    // itself is still known to the resolver.
    pass(290).await;
    all().await;
    assert_eq!(asked(), [3, 1]);
}

#[tokio::test]
async fn the_mail_host_tells_who_receives() {
    let server = Zone::new()
        .mx("shop.test", 300, 10, "aspmx.mailbox.test")
        .mx("shop.test", 300, 20, "backup.elsewhere.test")
        .mx("own.test", 300, 10, "mx.own.test")
        .mx("own.test", 300, 20, "aspmx.mailbox.test")
        .a("aspmx.mailbox.test", [198, 51, 100, 1])
        .a("backup.elsewhere.test", [198, 51, 100, 2])
        .a("mx.own.test", [198, 51, 100, 3])
        .a("big.test", [198, 51, 100, 4])
        .serve()
        .await;
    let mut settings = settings(&server);
    let rule = |name: &str, domains: &[&str], suffixes: &[&str]| MailboxProviderRule {
        name: name.into(),
        domains: domains.iter().map(|d| (*d).to_owned()).collect(),
        mx_suffixes: suffixes.iter().map(|s| (*s).to_owned()).collect(),
    };
    settings.mailbox_providers =
        vec![rule("mailbox", &[], &[".mailbox.test"]), rule("big", &["big.test"], &[])];
    let planner = Planner::new(&settings).unwrap();
    for (domain, provider) in
        [("shop.test", "mailbox"), ("own.test", MailboxProvider::OTHER), ("big.test", "big")]
    {
        assert_eq!(plan_of(&planner, domain).await.unwrap().mailbox_provider.as_str(), provider);
    }
    let known = MailboxProvider::new("known");
    let choice = planner.route_for("acme", "bulk", &known);
    let plan = planner.plan(&choice, "shop.test", &known).await.unwrap();
    assert_eq!(plan.mailbox_provider, known, "what the lane knows stands");
}

#[tokio::test]
async fn a_relay_is_found_by_name_wherever_it_is() {
    let server = Zone::new().a("relay.test", [127, 0, 0, 1]).serve().await;
    let mut settings = settings(&server);
    let relay = |host: &str| Route {
        kind: RouteKind::Relay { host: host.into(), port: 587, auth: None },
        ..Route::default()
    };
    settings.routes = vec![relay("relay.test")];
    let planner = Planner::new(&settings).unwrap();
    let plans = join_all((0..100).map(|_| plan_of(&planner, "anywhere.example"))).await;
    let hop = &plans[0].as_ref().unwrap().hops[0];
    assert_eq!((hop.address.ip(), hop.address.port()), (IpAddr::from([127, 0, 0, 1]), 587));
    assert_eq!(server.times("A relay.test"), 1);
    assert!(server.asked().iter().all(|asked| !asked.contains("anywhere")));

    // A wrong name is our own mistake: nobody's mail bounces for it.
    settings.routes = vec![relay("missing.test")];
    planner.apply(&settings).unwrap();
    let verdict = plan_of(&planner, "anywhere.example").await.unwrap_err();
    assert_eq!((verdict.class, verdict.finality), (Class::Configuration, Finality::Passing));
}

#[tokio::test]
async fn a_reload_keeps_what_the_dns_said_unless_the_dns_changed() {
    let zone = || Zone::new().mx("one.test", 300, 10, "mx.test").a("mx.test", [198, 51, 100, 1]);
    let (server, another) = (zone().serve().await, zone().serve().await);
    let mut settings = settings(&server);
    let planner = Planner::new(&settings).unwrap();
    plan_of(&planner, "one.test").await.unwrap();

    settings.routes[0].max_connections_per_host = 7;
    planner.apply(&settings).unwrap();
    let plan = plan_of(&planner, "one.test").await.unwrap();
    assert_eq!(plan.hops[0].max_connections, 7);
    assert_eq!(server.times("MX one.test"), 1);

    settings.dns.servers = vec![another.address];
    planner.apply(&settings).unwrap();
    plan_of(&planner, "one.test").await.unwrap();
    assert_eq!((server.times("MX one.test"), another.times("MX one.test")), (1, 1));
}
