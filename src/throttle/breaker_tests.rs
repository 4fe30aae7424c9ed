//! Breakers, on a paused clock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::advance;

use super::breaker::{Breakers, Pass};
use crate::config::Adaptive;

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 25))
}

fn breakers() -> Arc<Breakers> {
    Breakers::new(&Adaptive { breaker_failures: 3, ..Adaptive::default() })
}

#[tokio::test(start_paused = true)]
async fn an_outage_blocks_and_recovery_ramps() {
    let all = breakers();
    for _ in 0..2 {
        all.failed(address(1), "connection refused");
        assert!(all.pass(address(1)).is_ok(), "not before the third");
    }
    all.failed(address(1), "connection refused");
    let blocked = all.pass(address(1)).expect_err("blocked");
    assert_eq!(&*blocked.why, "connection refused");
    assert!(blocked.wait >= Duration::from_secs(7) && blocked.wait <= Duration::from_secs(20));
    assert!(all.pass(address(2)).is_ok(), "another host is not concerned");
    assert_eq!(all.seen().len(), 1);

    advance(Duration::from_secs(13)).await;
    let probe = all.pass(address(1)).expect("a probe");
    assert!(all.pass(address(1)).is_err(), "one at a time");
    all.failed(address(1), "timed out");
    drop(probe);
    let again = all.pass(address(1)).expect_err("blocked for longer");
    assert!(again.wait >= Duration::from_secs(15), "{again:?}");

    advance(Duration::from_secs(26)).await;
    let probe = all.pass(address(1)).expect("a probe");
    all.worked(address(1));
    drop(probe);
    let mut most = Vec::new();
    while most.last().is_none_or(|n| *n < 100) {
        let through: Vec<Pass> = (0..100).map_while(|_| all.pass(address(1)).ok()).collect();
        most.push(through.len());
        for _ in &through {
            all.worked(address(1));
        }
    }
    assert_eq!(most[0], 2, "{most:?}");
    assert!(most.windows(2).all(|pair| pair[1] <= pair[0] * 3 + 1 || pair[1] == 100), "{most:?}");
    assert!(all.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_route_is_blocked_with_all_that_is_behind_it() {
    let all = breakers();
    let route: Arc<str> = "relay".into();
    all.leads_to(&route, [address(1), address(2)].into_iter());
    (0..3).for_each(|_| all.failed(address(1), "no"));
    assert!(all.blocked_routes().is_empty(), "one address is left");
    (0..3).for_each(|_| all.failed(address(2), "no"));
    assert_eq!(all.blocked_routes().len(), 1);
    advance(Duration::from_secs(20)).await;
    assert!(all.blocked_routes().is_empty(), "time for a probe");
    assert_eq!(all.returning_routes()[0].1, 2, "one for each address");
}

#[tokio::test(start_paused = true)]
async fn a_success_in_between_starts_the_count_anew_and_a_rest_is_kept() {
    let all = breakers();
    for _ in 0..10 {
        all.failed(address(1), "no");
        all.failed(address(1), "no");
        all.worked(address(1));
    }
    assert!(all.pass(address(1)).is_ok());
    all.rest(address(1), Duration::from_secs(60), "421 slow down");
    all.worked(address(1));
    let blocked = all.pass(address(1)).expect_err("it asked for rest");
    assert!(blocked.wait >= Duration::from_secs(60));
}
