//! Promises of a lane that is divided among routes: what holds one route back holds back its own
//! share only; and what may have been taken by a route is not sent by another while it waits.

#![allow(clippy::float_cmp, reason = "counters hold whole numbers")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postrider::config::load::load;
use postrider::domain::ids::{DeliveryId, MailboxProvider};
use postrider::route::planner::Planner;

use crate::support::accounts::{Accounts, asked, queued};
use crate::support::builders::{attempts, rows};
use crate::support::http_peer::{Act, HttpPeer};

/// Longest wait for anything; only a broken program reaches it.
const PATIENCE: Duration = Duration::from_secs(90);

const SPLIT: &str = "split = [{ route = \"one\", weight = 1 }, { route = \"two\", weight = 1 }]";

/// How many of the waiting deliveries are the route's share.
async fn share_of(accounts: &Accounts, config: &Path, route: &str) -> usize {
    let settings = load(Some(config), std::iter::empty()).expect("sound");
    let planner = Planner::new(&settings).expect("routes");
    let choice = planner.route_for("acme", "bulk", &MailboxProvider::other());
    let jobs: Vec<i64> = sqlx::query_scalar("select job_id from postrider.job")
        .fetch_all(accounts.owner())
        .await
        .expect("jobs");
    jobs.into_iter().filter(|job| **choice.share_of(DeliveryId::new(*job)) == *route).count()
}

async fn has(peer: &HttpPeer, n: usize) {
    let has = tokio::time::timeout(PATIENCE, peer.has(n)).await;
    assert!(has.is_ok(), "{} of {n} requests", peer.requests().len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_one_route_holds_back_only_its_own_share() {
    for limit in ["rate = \"1/min\"", "concurrency = 1"] {
        let accounts = Accounts::new().await;
        let hold = Arc::new(AtomicBool::new(true));
        let held = Arc::clone(&hold);
        let slow = limit.starts_with("concurrency");
        let one = HttpPeer::start(move |_, _| {
            if slow && held.load(Ordering::SeqCst) { Act::Silence } else { queued() }
        })
        .await;
        let two = HttpPeer::always(queued()).await;
        let routes = [accounts.route("one", &one.url(), ""), accounts.route("two", &two.url(), "")];
        let more = format!("[[throttle]]\nscope = \"route\"\nroute = \"one\"\n{limit}\n");
        let config = accounts.configure(&routes, SPLIT, &more);
        accounts.submit(300).await;
        let share = share_of(&accounts, &config, "two").await;
        assert!((100..200).contains(&share), "{share} of 300");
        let daemon = accounts.installation.daemon(&config).await;
        has(&two, share).await;
        // What the burst allows, or the one that is under way.
        assert!(one.requests().len() <= 3, "{limit}: {}", one.requests().len());

        accounts.configure(&routes, SPLIT, "");
        hold.store(false, Ordering::SeqCst);
        daemon.signal("HUP");
        has(&one, 300 - share).await;
        if !slow {
            accounts.installation.drained(&daemon).await;
            assert_eq!(attempts(accounts.owner(), 1).await, 300);
            assert_eq!(asked(&two).len(), share, "nothing was moved");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_of_one_route_holds_back_only_its_own_share() {
    let accounts = Accounts::new().await;
    let (one, two) = (HttpPeer::always(queued()).await, HttpPeer::always(queued()).await);
    let routes = [accounts.route("one", &one.url(), ""), accounts.route("two", &two.url(), "")];
    let config = accounts.configure(&routes, SPLIT, "");
    let path = config.to_str().expect("a path");
    let operate = |args: &[&str]| {
        let ran = accounts.installation.postrider(&[args, &["--config", path]].concat());
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
    };
    operate(&["queue", "pause", "--route", "one", "--reason", "repair"]);
    accounts.submit(200).await;
    let share = share_of(&accounts, &config, "two").await;
    let daemon = accounts.installation.daemon(&config).await;
    has(&two, share).await;
    daemon.metric_reaches("postrider_postponed_total{reason=\"paused\"}", 1.0).await;
    assert!(one.requests().is_empty(), "held back");

    operate(&["queue", "resume", "--route", "one"]);
    accounts.installation.drained(&daemon).await;
    assert_eq!((asked(&one).len(), asked(&two).len()), (200 - share, share), "nothing was moved");
    assert_eq!(attempts(accounts.owner(), 7).await, 0, "no attempt was spent on it");
}

/// A mail that may have been taken by `second`, which took over from `first`; and `first` is open
/// again.
async fn in_doubt_by_the_fallback(
    doubt_wait: &str,
    later: fn() -> Act,
) -> (Accounts, HttpPeer, HttpPeer, crate::support::installation::Daemon) {
    let accounts = Accounts::new().await;
    let first = HttpPeer::start(|n, _| match n {
        0 => Act::json(402, r#"{"message":"Payment required"}"#),
        _ => queued(),
    })
    .await;
    let second = HttpPeer::start(move |n, _| match n {
        0 => Act::CutAfterRequest,
        _ => later(),
    })
    .await;
    let routes = |more: &str| {
        let fallback = format!("fallback = \"second\"\n{more}");
        [
            accounts.route("first", &first.url(), &fallback),
            accounts.route("second", &second.url(), ""),
        ]
    };
    let stream = format!(
        "[stream.bulk]\ndoubt_wait = \"{doubt_wait}\"\n\
         retry = {{ first = \"2s\", factor = 1.0, cap = \"2s\" }}\n"
    );
    let daemon = accounts.daemon(&routes(""), "route = \"first\"", &stream).await;
    accounts.submit(1).await;
    has(&second, 1).await;
    // What is known of a route is forgotten when it changes.
    accounts.configure(&routes("max_requests = 7\n"), "route = \"first\"", &stream);
    daemon.signal("HUP");
    (accounts, first, second, daemon)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_doubt_stays_with_the_route_that_may_have_it() {
    let (accounts, first, second, daemon) = in_doubt_by_the_fallback("1h", queued).await;
    accounts.installation.drained(&daemon).await;
    assert_eq!(first.requests().len(), 1, "never by another way");
    assert_eq!(second.requests().len(), 2);
    assert_eq!(attempts(accounts.owner(), 1).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_doubt_does_not_wait_for_ever_for_a_route_that_is_out() {
    let broken = || Act::Answer(401, Vec::new(), "Forbidden".into());
    let (accounts, first, second, daemon) = in_doubt_by_the_fallback("1s", broken).await;
    let started = Instant::now();
    while first.requests().len() < 2 {
        assert!(started.elapsed() < PATIENCE, "{} requests", second.requests().len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    accounts.installation.drained(&daemon).await;
    assert_eq!(first.requests().len(), 2, "once by the other way");
    let flagged: bool = sqlx::query_scalar("select in_doubt from postrider.attempt where kind = 1")
        .fetch_one(accounts.owner())
        .await
        .expect("an attempt");
    assert!(flagged, "it may be a duplicate, and says so");
    assert_eq!(rows(accounts.owner(), "dead_letter").await, 0);
}
