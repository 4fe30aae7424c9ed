//! From rules to routes, and from routes to hops.

use std::net::IpAddr;

use super::planner::Planner;
use crate::config::secret::Secret;
use crate::config::{
    Auth, Pool, Proof, Ramp, Route, RouteKind, RouteRule, Settings, Share, Source, TlsMode, WarmUp,
};
use crate::domain::clock::Clock;
use crate::domain::ids::MailboxProvider;
use crate::domain::verdict::{Class, Finality};

fn relay(name: &str, host: &str) -> Route {
    let kind = RouteKind::Relay { host: host.into(), port: 2525, auth: None };
    Route { name: name.into(), kind, ..Route::default() }
}

fn rule(tenant: &str, stream: &str, provider: &str, route: &str) -> RouteRule {
    let name = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    RouteRule {
        tenant: name(tenant),
        stream: name(stream),
        mailbox_provider: name(provider),
        split: vec![Share { route: route.into(), weight: 1 }],
        pool: None,
    }
}

fn settings() -> Settings {
    let mut settings = Settings::for_testing();
    settings.routes = ["first", "second", "third"].map(|name| relay(name, "127.0.0.1")).into();
    settings
}

fn other() -> MailboxProvider {
    MailboxProvider::other()
}

#[test]
fn the_first_rule_that_matches_decides_else_the_first_route() {
    let mut settings = settings();
    settings.rules = vec![
        rule("acme", "bulk", "", "second"),
        rule("", "", "google", "third"),
        rule("acme", "", "", "first"),
    ];
    let planner = Planner::new(&settings).unwrap();
    let route = |tenant: &str, stream: &str, provider: &'static str| {
        planner.route_for(tenant, stream, &MailboxProvider::new(provider)).route
    };
    assert_eq!(&*route("acme", "bulk", "google"), "second");
    assert_eq!(&*route("acme", "transactional", "google"), "third");
    assert_eq!(&*route("acme", "transactional", "other"), "first");
    assert_eq!(&*route("bolt", "bulk", "other"), "first");
}

#[test]
fn a_rule_chooses_the_pool_and_a_warming_source_overflows_to_a_warm_one() {
    let mut settings = settings();
    let starts = chrono::DateTime::from_timestamp(Clock::System.unix_seconds() as i64, 0);
    let starts = starts.unwrap().date_naive();
    let warm_up = Some(WarmUp { starts, ramp: Ramp::Days(vec![5, 5, 5]) });
    settings.sources = ["old", "new", "bulk"].map(|name| source(name, None)).into();
    settings.sources[1].warm_up = warm_up;
    settings.pools = vec![Pool { name: "main".into(), sources: vec!["old".into(), "new".into()] }];
    settings.rules = vec![RouteRule { pool: Some("main".into()), ..rule("acme", "", "", "first") }];
    let planner = Planner::new(&settings).unwrap();
    for _ in 0..4 {
        let choice = planner.route_for("acme", "bulk", &other());
        assert_eq!((&*choice.source, &*choice.route), ("new", "first"), "the new one first");
        assert_eq!(&*choice.overflow().unwrap().source, "old");
        assert!(choice.overflow().unwrap().overflow().is_none());
    }
    settings.rules[0].pool = Some("mian".into());
    assert!(Planner::new(&settings).unwrap_err().to_string().contains("\"mian\""));
}

fn source(name: &str, warm_up: Option<WarmUp>) -> Source {
    Source { name: name.into(), warm_up, ..Source::default() }
}

#[test]
fn names_that_lead_nowhere_are_told() {
    let mut wrong = settings();
    wrong.rules = vec![rule("", "", "", "frist")];
    let text = Planner::new(&wrong).unwrap_err().to_string();
    assert!(text.contains("\"frist\""), "{text}");
    let mut wrong = settings();
    wrong.routes[1].sources = vec!["nowhere".into()];
    let text = Planner::new(&wrong).unwrap_err().to_string();
    assert!(text.contains("\"second\"") && text.contains("\"nowhere\""), "{text}");
}

#[tokio::test]
async fn a_relay_by_address_needs_no_dns() {
    let mut settings = settings();
    let auth = Auth { username: "me".into(), proof: Proof::Password(Secret::new("x")) };
    settings.routes = vec![Route {
        kind: RouteKind::Relay { host: "[192.0.2.9]".into(), port: 587, auth: Some(auth) },
        tls: TlsMode::Opportunistic,
        ..Route::default()
    }];
    let planner = Planner::new(&settings).unwrap();
    assert!(planner.table().lookups.relay.is_none());
    let choice = planner.route_for("acme", "bulk", &other());
    let plan = planner.plan(&choice, "example.com", &other()).await.unwrap();
    assert_eq!(plan.hops.len(), 1);
    assert_eq!(plan.hops[0].address, "192.0.2.9:587".parse().unwrap());
    assert_eq!(plan.hops[0].tls, TlsMode::Required, "a password is sent");
    assert_eq!(plan.mailbox_provider, other());
}

#[tokio::test]
async fn a_source_reaches_only_its_own_family() {
    let mut settings = settings();
    settings.routes = vec![relay("relay", "127.0.0.1")];
    settings.sources[0].addresses = vec!["::1".parse().unwrap()];
    let planner = Planner::new(&settings).unwrap();
    let choice = planner.route_for("acme", "bulk", &other());
    let verdict = planner.plan(&choice, "example.com", &other()).await.unwrap_err();
    assert_eq!((verdict.class, verdict.finality), (Class::Configuration, Finality::Passing));
}

#[tokio::test]
async fn a_choice_outlives_a_reload_and_a_bad_reload_changes_nothing() {
    let mut settings = settings();
    let planner = Planner::new(&settings).unwrap();
    let choice = planner.route_for("acme", "bulk", &other());

    settings.routes = vec![relay("new", "127.0.0.2")];
    planner.apply(&settings).unwrap();
    let plan = planner.plan(&choice, "example.com", &other()).await.unwrap();
    assert_eq!(plan.hops[0].address.ip(), IpAddr::from([127, 0, 0, 1]));
    assert_eq!(&*planner.route_for("acme", "bulk", &other()).route, "new");

    settings.routes.clear();
    assert!(planner.apply(&settings).is_err());
    assert_eq!(&*planner.route_for("acme", "bulk", &other()).route, "new");
}
