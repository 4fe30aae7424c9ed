//! Promise: a URL that a tenant gives leads nowhere inside our own network: not as an address,
//! not by a name, not by a name that changes, not by a redirect.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::IpAddr;

use crate::support::hook::Hook;
use crate::support::listening::Listening;
use crate::support::name_server::{NameServer, Zone};
use postrider::config::Settings;
use postrider::route::outside::{Inward, Outside, OutsideError};
use postrider::webhook::sender::Sender;
use postrider::webhook::{Spec, Trial};

/// Loopback may not be told; names are asked of `server`.
fn guarded(server: Option<&NameServer>) -> Settings {
    let mut settings = Settings::for_testing();
    settings.webhook.allow_private_addresses = false;
    // What mail may reach does not count here.
    settings.dns.allow_private_addresses = true;
    settings.dns.servers = server.iter().map(|server| server.address).collect();
    settings
}

/// Tries an endpoint whose URL was stored before the rules were as they are now.
async fn tried(here: &Listening, url: &str, settings: &Settings) -> Trial {
    let spec = Spec { url: url.into(), batch: 1, in_flight: 1, ..Spec::default() };
    let made = here.endpoint_as(spec).await;
    let sender = Sender::new(settings).unwrap();
    here.desk.test(made.endpoint.id, &sender, &here.sealer).await.unwrap()
}

#[tokio::test]
async fn an_inner_address_is_neither_stored_nor_connected_to() {
    let server = Zone::new().serve().await;
    let settings = guarded(Some(&server));
    let hook = Hook::new().await;
    let sender = Sender::new(&settings).unwrap();
    assert!(sender.check(&hook.url()).is_err(), "not stored");
    let here = Listening::new().await;
    let trial = tried(&here, &hook.url(), &settings).await;
    assert!(!trial.taken && trial.answer.contains("no public address"), "{trial:?}");
    assert!(hook.got().is_empty());
    let free = tried(&here, &hook.url(), &Settings::for_testing()).await;
    assert!(free.taken, "{free:?}");
}

#[tokio::test]
async fn a_name_that_leads_inside_is_not_connected_to() {
    let server = Zone::new()
        .a("inner.test", [127, 0, 0, 1])
        .a("mixed.test", [10, 0, 0, 1])
        .a("mixed.test", [192, 0, 2, 7])
        .aaaa("six.test", "::ffff:127.0.0.1")
        .serve()
        .await;
    let settings = guarded(Some(&server));
    let here = Listening::new().await;
    let hook = Hook::new().await;
    for host in ["inner.test", "six.test"] {
        let url = format!("http://{host}:{}/hook", hook.address.port());
        let trial = tried(&here, &url, &settings).await;
        assert!(!trial.taken && trial.answer.contains("no public address"), "{trial:?}");
    }
    assert!(hook.got().is_empty());
    let url = format!("http://inner.test:{}/hook", hook.address.port());
    let mut free = settings.clone();
    free.webhook.allow_private_addresses = true;
    assert!(tried(&here, &url, &free).await.taken, "the name works where it may");
    assert_eq!(hook.got().len(), 1);

    // Of a name with both kinds only the public ones are connected to.
    let outside = Outside::new(&settings.dns, Inward::Refused).unwrap();
    let found = outside.addresses("mixed.test").await.unwrap();
    assert_eq!(found, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
    assert_eq!(
        outside.addresses("inner.test").await,
        Err(OutsideError::Inward("inner.test".into()))
    );
    assert_eq!(
        outside.addresses("nobody.test").await,
        Err(OutsideError::NoAddress("nobody.test".into()))
    );
}

/// The name is resolved once for a connection, and what was checked is what is connected to:
/// there is no second question that could have another answer.
#[tokio::test]
async fn the_checked_address_is_the_one_that_is_connected_to() {
    let server = Zone::new().a("turns.test", [127, 0, 0, 1]).serve().await;
    let mut settings = guarded(Some(&server));
    settings.webhook.allow_private_addresses = true;
    let here = Listening::new().await;
    let hook = Hook::new().await;
    let url = format!("http://turns.test:{}/hook", hook.address.port());
    assert!(tried(&here, &url, &settings).await.taken);
    assert_eq!(server.times("A turns.test"), 1, "{:?}", server.asked());

    // The name leads inside by now: whoever asks anew refuses.
    let strict = guarded(Some(&server));
    let trial = tried(&here, &url, &strict).await;
    assert!(!trial.taken, "{trial:?}");
    assert_eq!(hook.got().len(), 1);
}

#[tokio::test]
async fn a_redirect_is_a_refusal_and_is_not_followed() {
    let here = Listening::new().await;
    let hook = Hook::answering(|_, _| 302).await;
    let trial = tried(&here, &hook.url(), &Settings::for_testing()).await;
    assert!(!trial.taken && trial.answer.contains("302"), "{trial:?}");
    assert_eq!(hook.got().len(), 1);
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_is_given_up_in_time() {
    let mut settings = Settings::for_testing();
    settings.webhook.timeout = std::time::Duration::from_millis(200);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let here = Listening::new().await;
    let trial = tried(&here, &url, &settings).await;
    assert!(!trial.taken && trial.answer.contains("no answer in time"), "{trial:?}");
}
