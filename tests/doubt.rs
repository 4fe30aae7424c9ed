//! Promise: wherever a daemon dies, what it had not begun to send goes on as if nothing had
//! been, and what it may have sent is in doubt: sent again and flagged, or held.

use std::path::PathBuf;
use std::time::Duration;

use crate::support::builders;
use crate::support::installation::Installation;
use postrider::queue::upkeep;
use sqlx::Row;

/// A stream whose deliveries are held when in doubt.
const HOLDS: &str = "[stream.otp]\nbulk = false\nin_doubt = \"hold\"\n";

/// What became of one delivery.
#[derive(Debug, PartialEq, Eq)]
struct Fate {
    /// Mails that the sink got.
    mails: usize,
    /// Different Message-IDs among them.
    message_ids: usize,
    /// Kind of its end or dead letter, and whether that is in doubt.
    end: Option<(i16, bool)>,
    /// Attempts that were interrupted and whether that was in doubt.
    interrupted: Vec<bool>,
}

async fn fate(home: &Installation, recipient: &str) -> Fate {
    let mails: Vec<_> =
        home.sink.mails().into_iter().filter(|mail| mail.to == [recipient]).collect();
    let mut ids: Vec<_> = mails.iter().map(|mail| mail.header("Message-ID")).collect();
    ids.sort_unstable();
    ids.dedup();
    let history = sqlx::query(
        "select a.kind, a.in_doubt from postrider.attempt a join postrider.job j using (job_id)
         where j.recipient = $1 order by a.at",
    )
    .bind(recipient)
    .fetch_all(&home.owner)
    .await
    .expect("history");
    let history: Vec<(i16, bool)> =
        history.iter().map(|row| (row.get("kind"), row.get("in_doubt"))).collect();
    Fate {
        mails: mails.len(),
        message_ids: ids.len(),
        end: history.iter().copied().find(|(kind, _)| *kind <= 6),
        interrupted: history.iter().filter(|(kind, _)| *kind == 8).map(|one| one.1).collect(),
    }
}

/// One delivery whose daemon dies at `point`; another daemon finds what is left.
async fn dies_at(home: &Installation, config: &PathBuf, stream: &str, point: &str) -> Fate {
    let recipient = format!("{point}.{stream}@example.org");
    let orders = format!("{point}[{recipient}]=die");
    home.submit(1, stream, std::slice::from_ref(&recipient)).await;
    let mut doomed = home.launch(config, &[("POSTRIDER_FAILPOINTS", &orders)]);
    doomed.ended().await;
    builders::fence_all(&home.owner).await;
    let heir = home.daemon(config).await;
    home.drained(&heir).await;
    let fate = fate(home, &recipient).await;
    // In order, so that none of its claims is under way when the next delivery comes.
    assert_eq!(heir.terminate().await, Some(0));
    fate
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_a_daemon_dies_only_what_it_may_have_sent_is_sent_again_and_flagged() {
    let home = Installation::new(None).await;
    assert_eq!(builders::tenant(&home.owner, "acme").await, 1);
    let config = home.configure("");
    for (point, mails, in_doubt) in [
        ("after-claim", 1, false),
        ("intent-written", 1, true),
        ("before-dot", 1, true),
        ("after-dot", 2, true),
        ("before-settle", 2, true),
    ] {
        let expected =
            Fate { mails, message_ids: 1, end: Some((1, in_doubt)), interrupted: vec![in_doubt] };
        assert_eq!(dies_at(&home, &config, "bulk", point).await, expected, "{point}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_a_daemon_dies_a_stream_that_holds_never_sends_twice() {
    let home = Installation::new(None).await;
    assert_eq!(builders::tenant(&home.owner, "acme").await, 1);
    let config = home.configure(HOLDS);
    for (point, mails, end, interrupted) in [
        ("after-claim", 1, (1, false), vec![false]),
        ("intent-written", 0, (6, true), vec![]),
        ("before-dot", 0, (6, true), vec![]),
        ("after-dot", 1, (6, true), vec![]),
        ("before-settle", 1, (6, true), vec![]),
    ] {
        let expected = Fate { mails, message_ids: mails.min(1), end: Some(end), interrupted };
        assert_eq!(dies_at(&home, &config, "otp", point).await, expected, "{point}");
    }
    let held = "dead_letter where reason = 'doubt' and detail::json ->> 'worker' = 'postriderd'
        and detail::json ->> 'session' is not null and detail::json ->> 'intended_at' is not null";
    assert_eq!(builders::rows(&home.owner, held).await, 4, "each with its evidence");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_that_kills_its_workers_ends_as_a_dead_letter_and_its_neighbours_are_delivered() {
    const NEIGHBOURS: usize = 30;
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let config = home.configure("");
    let mut to = builders::recipients(NEIGHBOURS, "example.org");
    to.insert(NEIGHBOURS / 2, "poison@example.org".into());
    home.submit(tenant, "bulk", &to).await;
    let armed = [
        ("POSTRIDER_FAILPOINTS", "after-claim[poison@]=die"),
        ("POSTRIDER__QUEUE__MAX_INTERRUPTIONS", "6"),
        // Wide enough for those beside it to part company with it on a slow machine too.
        ("POSTRIDER__QUEUE__RESCUE_DELAY", "1s"),
    ];
    let mut deaths = 0;
    loop {
        let mut daemon = home.launch(&config, &armed);
        if !home.killed_or_drained(&mut daemon).await {
            break;
        }
        deaths += 1;
        builders::fence_all(&home.owner).await;
    }
    assert_eq!(deaths, 6, "as often as it may");
    let dead = "dead_letter where reason = 'interrupted' and recipient = 'poison@example.org'";
    assert_eq!(builders::rows(&home.owner, dead).await, 1);
    assert_eq!(builders::rows(&home.owner, "dead_letter").await, 1, "nobody else");
    assert_eq!(builders::attempts(&home.owner, 1).await as usize, NEIGHBOURS);
    // Those that were on their way when the other killed their worker may come again, and are flagged.
    let doubted = builders::rows(&home.owner, "attempt where kind = 8 and in_doubt").await as usize;
    let mails = home.sink.stats().accepted as usize;
    assert!(
        (NEIGHBOURS..=NEIGHBOURS + doubted).contains(&mails),
        "{mails} of which {doubted} again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_that_comes_too_late_spares_the_second_mail() {
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let config = home.configure("");
    let daemon = home.launch(
        &config,
        &[
            ("POSTRIDER_FAILPOINTS", "before-settle=sleep(2000)"),
            ("POSTRIDER__QUEUE__RESCUE_DELAY", "5s"),
        ],
    );
    home.submit(tenant, "bulk", &builders::recipients(1, "example.org")).await;
    home.sink_has(1).await;
    // It holds the outcome, and somebody thinks that it is dead.
    builders::fence_all(&home.owner).await;
    // The daemon's own rescue may have been quicker.
    upkeep::rescue(&home.owner, 10, Duration::from_secs(5), 5).await.expect("rescue");
    home.drained(&daemon).await;
    assert_eq!(home.sink.stats().accepted, 1, "sent once");
    let doubted = builders::rows(&home.owner, "attempt where kind = 8 and in_doubt").await;
    assert_eq!(doubted, 1, "it was in doubt for a while");
    let ends = sqlx::query(
        "select in_doubt, attempt, code, detail ->> 'learned_late' as late from postrider.attempt where kind = 1",
    )
    .fetch_one(&home.owner)
    .await
    .expect("it ended as delivered");
    assert!(!ends.get::<bool, _>("in_doubt"), "no longer in doubt");
    assert_eq!((ends.get::<i16, _>("attempt"), ends.get::<i16, _>("code")), (1, 250));
    assert_eq!(ends.get::<Option<&str>, _>("late"), Some("true"), "the history says so");
}
