//! Promises: a killed daemon loses nothing, and doubles only what it recorded as in
//! doubt; a stopped one loses and doubles nothing.

use crate::support::builders;
use crate::support::installation::Installation;
use postrider::worker::ahead::MOST_PER_CONNECTION;

const JOBS: usize = 3_000;

/// `queue.settle_batch` as shipped.
const SETTLE_BATCH: i64 = 500;

/// Deliveries that ended as delivered; those among them in doubt.
async fn delivered(home: &Installation) -> (i64, i64) {
    let all = builders::rows(&home.owner, "attempt where kind = 1").await;
    let doubt = builders::rows(&home.owner, "attempt where kind = 1 and in_doubt").await;
    (all, doubt)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_minus_nine_loses_nothing_and_doubles_only_what_is_in_doubt() {
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    home.submit(tenant, "bulk", &builders::recipients(JOBS, "example.org")).await;
    let config = home.configure("");
    for life in 1..=2_u64 {
        let daemon = home.daemon(&config).await;
        home.sink_has(life * JOBS as u64 / 4).await;
        daemon.kill();
    }
    let daemon = home.daemon(&config).await;
    home.drained(&daemon).await;

    let stats = home.sink.stats();
    let (ended, doubt) = delivered(&home).await;
    assert_eq!(ended as usize, JOBS, "every delivery ended, once");
    assert_eq!(stats.distinct_recipients as usize, JOBS, "nothing was lost");
    // Each kill leaves in doubt what had an intent: a few deliveries for each connection, and
    // the outcomes that were on their way to the database.
    let interrupted = builders::rows(&home.owner, "attempt where kind = 8").await;
    let in_doubt = builders::rows(&home.owner, "attempt where kind = 8 and in_doubt").await;
    println!(
        "2 kills: {interrupted} in hand, {in_doubt} in doubt, {} sent twice",
        stats.duplicates
    );
    assert!(interrupted > 0, "the kills fell into the middle");
    assert!(
        in_doubt >= doubt,
        "{in_doubt} of {interrupted} interrupted were in doubt, {doubt} flagged"
    );
    let most = 2 * (50 * i64::from(MOST_PER_CONNECTION) + SETTLE_BATCH);
    assert!(in_doubt <= most, "{in_doubt} in doubt, expected {most} at most");
    assert!(
        stats.duplicates as i64 <= doubt,
        "{} duplicates, {doubt} recorded as in doubt",
        stats.duplicates
    );
    let twice =
        "(select job_id from postrider.attempt where kind <= 5 group by 1 having count(*) > 1) x";
    let twice: i64 =
        sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from {twice}")))
            .fetch_one(&home.owner)
            .await
            .expect("count");
    assert_eq!(twice, 0, "no delivery has two ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_daemon_loses_and_doubles_nothing() {
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    home.submit(tenant, "bulk", &builders::recipients(JOBS, "example.org")).await;
    let config = home.configure("");
    for life in 1..=2_u64 {
        let daemon = home.daemon(&config).await;
        home.sink_has(life * JOBS as u64 / 4).await;
        assert_eq!(daemon.terminate().await, Some(0), "exits with 0");
        assert_eq!(builders::rows(&home.owner, "lease").await, 0, "holds nothing");
        let open = builders::rows(&home.owner, "worker_session where state <> 'fenced'").await;
        assert_eq!(open, 0, "session closed");
    }
    let daemon = home.daemon(&config).await;
    home.drained(&daemon).await;
    let stats = home.sink.stats();
    assert_eq!(delivered(&home).await, (JOBS as i64, 0), "all delivered, none in doubt");
    assert_eq!((stats.accepted as usize, stats.duplicates), (JOBS, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_daemons_share_the_work() {
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let config = home.configure_worker("concurrency = 32\ntenant_concurrency = 32", "");
    let (one, two) = (home.daemon(&config).await, home.daemon(&config).await);
    home.submit(tenant, "bulk", &builders::recipients(JOBS, "example.org")).await;
    home.drained(&one).await;
    let share = |daemon| async move {
        crate::support::installation::Daemon::metric(daemon, "postrider_claimed_total").await
    };
    let (first, second) = (share(&one).await, share(&two).await);
    assert!(first > 0.0 && second > 0.0, "{first} and {second}");
    assert_eq!((first + second) as usize, JOBS, "each claimed once");
    assert_eq!(home.sink.stats().duplicates, 0);
}
