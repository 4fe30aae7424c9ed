//! Promise: what real mail servers bounce is recognised, with the right recipient and class, and
//! suppresses only who is lost. Postfix and Exim take our mail, and their own bounces come back
//! to our listener: no user, no room, refused content.

use std::net::SocketAddr;

use crate::support::bouncing::{DOMAIN, RETURN, bouncing_exim, bouncing_postfix};
use crate::support::builders;
use crate::support::installation::Installation;
use crate::support::ports::free_address;
use crate::support::receivers::{Receiver, is_root};
use sqlx::FromRow;

/// A line of evidence.
#[derive(Debug, PartialEq, Eq, FromRow)]
struct Evidence {
    to: String,
    reported: Option<String>,
    action: String,
    class: String,
    hardness: String,
}

fn evidence(local: &str, class: &str, hardness: &str) -> Evidence {
    let to = format!("{local}@{DOMAIN}");
    Evidence {
        reported: Some(to.clone()),
        to,
        action: "failed".into(),
        class: class.into(),
        hardness: hardness.into(),
    }
}

/// Sends one mail of each sort to a server that bounces three of them to `listener`.
async fn bounces(listener: SocketAddr, receiver: &Receiver) {
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    let config = home.configure(&format!(
        "[feedback]\nreturn_path_domain = \"{RETURN}\"\n\n[inbound]\nsmtp_listen = \"{listener}\"\n\n\
         [[route]]\nname = \"server\"\nkind = \"relay\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n\n\
         [[rule]]\nstream = \"bulk\"\nroute = \"server\"\n",
        port = receiver.address.port(),
    ));
    let daemon = home.daemon(&config).await;
    let to: Vec<String> =
        ["unknown", "full", "content", "ok"].map(|local| format!("{local}@{DOMAIN}")).into();
    home.submit(tenant, "bulk", &to).await;
    home.drained(&daemon).await;
    assert_eq!(builders::attempts(&home.owner, 1).await, 4, "taken, all of them");
    for (outcome, number) in [("applied", 1.0), ("evidence", 2.0)] {
        let series = format!("postrider_reports_total{{kind=\"dsn\",outcome=\"{outcome}\"}}");
        daemon.metric_reaches(&series, number).await;
    }
    let mut found: Vec<Evidence> = sqlx::query_as(
        "select j.recipient as to, a.detail ->> 'recipient' as reported, a.detail ->> 'action' as action,
                a.detail ->> 'class' as class, a.detail ->> 'hardness' as hardness
         from postrider.attempt a join postrider.job j using (job_id) where a.kind = 9",
    )
    .fetch_all(&home.owner)
    .await
    .expect("evidence");
    found.sort_by(|one, other| one.to.cmp(&other.to));
    let expected = [
        evidence("content", "content", "soft"),
        evidence("full", "mailbox_full", "soft"),
        evidence("unknown", "address_bad", "hard"),
    ];
    assert_eq!(found, expected);
    let suppressed: Vec<String> = sqlx::query_scalar("select address from postrider.suppression")
        .fetch_all(&home.owner)
        .await
        .expect("the list");
    assert_eq!(suppressed, [format!("unknown@{DOMAIN}")]);
    assert_eq!(daemon.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounces_of_postfix_are_understood() {
    if !is_root() {
        eprintln!("NOT RUN: Postfix wants root");
        return;
    }
    let listener = free_address();
    let (receiver, _inner) = bouncing_postfix(listener);
    bounces(listener, &receiver).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounces_of_exim_are_understood() {
    if !is_root() {
        eprintln!("NOT RUN: Exim wants root");
        return;
    }
    let listener = free_address();
    // Its neighbour refuses what Exim hands on.
    let (_postfix, strict) = bouncing_postfix(free_address());
    let receiver = bouncing_exim(listener, strict);
    bounces(listener, &receiver).await;
}
