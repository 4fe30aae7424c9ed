//! The SMTP carrier and TLS: what is encrypted, and when it is not sent at all.

use std::sync::Arc;

use crate::support::authority::Authority;
use crate::support::letters::{hop, letter, plan};
use crate::support::smtp_peer::{Act, Certificate, Peer, Script};
use base64::Engine as _;
use postrider::config::secret::Secret;
use postrider::config::{self, Auth, Proof, TlsMode};
use postrider::domain::outcome::Outcome;
use postrider::domain::verdict::{Cause, Class, Finality, Stage, Verdict};
use postrider::route::plan::Hop;
use postrider::smtp::deliver::{Delivery, Smtp};
use postrider::smtp::tls::Tls;

const NAME: &str = "mx.example.net";

fn smtp() -> Smtp {
    Smtp::new(&config::Smtp::default()).expect("TLS can be had")
}

fn trusting(certificate: &Certificate) -> Smtp {
    let tls = Tls::with_extra_roots([certificate.root()]).expect("a certificate");
    Smtp::with_tls(&config::Smtp::default(), tls)
}

fn hop_with(peer: &Peer, tls: TlsMode) -> Hop {
    Hop { tls, ..hop(peer.address) }
}

async fn deliver(smtp: &Smtp, peer: &Peer, tls: TlsMode) -> Delivery {
    smtp.deliver(&letter(), &plan(vec![hop_with(peer, tls)])).await
}

fn refusal(delivery: Delivery) -> Verdict {
    match delivery.result {
        Err(Outcome::Refused(verdict) | Outcome::Unreached(verdict)) => verdict,
        other => panic!("expected a refusal, found {other:?}"),
    }
}

#[tokio::test]
async fn opportunistic_tls_takes_any_certificate_and_encrypts() {
    let peer = Script::with_tls(&Certificate::for_name("someone.else.test")).start().await;
    let smtp = smtp();
    let delivery = deliver(&smtp, &peer, TlsMode::Opportunistic).await;
    delivery.result.expect("delivered");
    let tls = delivery.trail.tls.expect("encrypted");
    assert!(tls.starts_with("TLSv1.3 TLS13_"), "{tls}");
    assert!(peer.accepted()[0].encrypted);
    assert_eq!(peer.verbs(0), ["EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "DATA"]);
    // And again over the same session.
    let delivery = deliver(&smtp, &peer, TlsMode::Opportunistic).await;
    delivery.result.expect("delivered");
    assert!(delivery.trail.tls.is_some());
    assert_eq!((peer.record().connections, peer.accepted().len()), (1, 2));
}

#[tokio::test]
async fn capabilities_are_those_offered_under_tls() {
    let peer = Script::with_tls(&Certificate::for_name(NAME))
        .offering_under_tls(&["SIZE 5"])
        .start()
        .await;
    let verdict = refusal(deliver(&smtp(), &peer, TlsMode::Opportunistic).await);
    assert_eq!(verdict.class, Class::Size);
}

#[tokio::test]
async fn broken_tls_falls_back_to_clear_only_where_that_is_allowed() {
    for (stage, act) in [
        ("handshake", Act::Drop),
        ("handshake", Act::ReplyAndDrop("this is no TLS".into())),
        ("STARTTLS", Act::reply("454 4.7.0 not now")),
    ] {
        let script = Script::with_tls(&Certificate::for_name(NAME)).on(stage, act);
        let peer = script.clone().start().await;
        let smtp = smtp();
        for _ in 0..2 {
            let delivery = deliver(&smtp, &peer, TlsMode::Opportunistic).await;
            delivery.result.expect("delivered in clear");
            assert_eq!(delivery.trail.tls, None);
        }
        assert!(peer.accepted().iter().all(|body| !body.encrypted));
        assert_eq!(peer.record().connections, 2, "one that broke, one in clear for both");

        for mode in [TlsMode::Required, TlsMode::Verified] {
            let peer = script.clone().start().await;
            let verdict = refusal(deliver(&smtp, &peer, mode).await);
            assert_eq!((verdict.stage, verdict.finality), (Stage::StartTls, Finality::Passing));
            assert_eq!(verdict.class, Class::Configuration);
            assert!(matches!(verdict.cause, Cause::Tls(_) | Cause::Reply(_)));
            assert_eq!(peer.record().connections, 1);
            assert!(!peer.verbs(0).contains(&"MAIL".to_owned()));
        }
    }
}

#[tokio::test]
async fn a_host_with_broken_tls_is_remembered() {
    let peer =
        Script::with_tls(&Certificate::for_name(NAME)).on("handshake", Act::Drop).start().await;
    let smtp = smtp();
    let mut hop = hop_with(&peer, TlsMode::Opportunistic);
    hop.messages_per_connection = 1;
    let plan = plan(vec![hop]);
    for _ in 0..3 {
        smtp.deliver(&letter(), &plan).await.result.expect("delivered");
    }
    let tried = peer.record().commands.iter().filter(|(_, line)| line == "STARTTLS").count();
    assert_eq!(tried, 1);
}

#[tokio::test]
async fn required_tls_that_is_not_offered_fails_closed() {
    for mode in [TlsMode::Required, TlsMode::Verified] {
        let peer = Script::pipelining().start().await;
        let delivery = deliver(&smtp(), &peer, mode).await;
        assert!(matches!(delivery.result, Err(Outcome::Unreached(_))));
        let verdict = refusal(delivery);
        assert!(matches!(verdict.cause, Cause::Tls(_)), "{:?}", verdict.cause);
        assert_eq!(peer.verbs(0), ["EHLO"]);
    }
}

#[tokio::test]
async fn required_tls_takes_any_certificate() {
    let peer = Script::with_tls(&Certificate::for_name("someone.else.test")).start().await;
    deliver(&smtp(), &peer, TlsMode::Required).await.result.expect("delivered");
    assert!(peer.accepted()[0].encrypted);
}

#[tokio::test]
async fn a_certificate_without_its_key_is_never_good_enough() {
    let peer = Script::with_tls(&Certificate::stolen(NAME)).start().await;
    let verdict = refusal(deliver(&smtp(), &peer, TlsMode::Required).await);
    assert!(matches!(verdict.cause, Cause::Tls(_)), "{:?}", verdict.cause);
    assert!(peer.record().bodies.is_empty());
}

#[tokio::test]
async fn verified_tls_wants_a_known_root_and_the_right_name() {
    let right = Certificate::for_name(NAME);
    let wrong = Certificate::for_name("someone.else.test");
    for (served, smtp, accepted) in [
        (&right, smtp(), false),
        (&right, trusting(&wrong), false),
        (&wrong, trusting(&wrong), false),
        (&right, trusting(&right), true),
    ] {
        for implicit in [false, true] {
            let (script, mode) = if implicit {
                (Script::with_tls(served).implicit(), TlsMode::Implicit)
            } else {
                (Script::with_tls(served), TlsMode::Verified)
            };
            let peer = script.start().await;
            let delivery = deliver(&smtp, &peer, mode).await;
            assert_eq!(peer.accepted().len(), usize::from(accepted), "{mode:?}");
            if accepted {
                delivery.result.expect("delivered");
                assert!(peer.accepted()[0].encrypted);
            } else {
                let verdict = refusal(delivery);
                assert!(matches!(verdict.cause, Cause::Tls(_)), "{:?}", verdict.cause);
                assert_eq!(verdict.finality, Finality::Passing);
            }
        }
    }
}

#[tokio::test]
async fn plaintext_behind_the_answer_to_starttls_ends_the_session() {
    let injected = Act::reply("220 go\r\n250-evil\r\n250 AUTH PLAIN");
    for mode in [TlsMode::Opportunistic, TlsMode::Required] {
        let script = Script::with_tls(&Certificate::for_name(NAME));
        let peer = script.on("STARTTLS", injected.clone()).start().await;
        let verdict = refusal(deliver(&smtp(), &peer, mode).await);
        assert_eq!(verdict.stage, Stage::StartTls);
        assert!(matches!(verdict.cause, Cause::Protocol(_)), "{:?}", verdict.cause);
        assert_eq!(peer.record().connections, 1, "and clear is not tried either");
        assert!(peer.record().bodies.is_empty());
    }
}

fn with_login(hop: Hop) -> Hop {
    let proof = Proof::Password(Secret::new("tanstaaftanstaaf"));
    let auth = Auth { username: "tim".into(), proof };
    Hop { auth: Some(Arc::new(auth)), ..hop }
}

#[tokio::test]
async fn a_relay_is_logged_in_to_under_tls() {
    let certificate = Certificate::for_name(NAME);
    let script =
        Script::with_tls(&certificate).offering_under_tls(&["PIPELINING", "AUTH LOGIN PLAIN"]);
    let peer = script.clone().start().await;
    let plan_of = |peer: &Peer| plan(vec![with_login(hop_with(peer, TlsMode::Verified))]);
    let smtp = trusting(&certificate);
    smtp.deliver(&letter(), &plan_of(&peer)).await.result.expect("delivered");
    let commands = peer.record().commands;
    let login = commands.iter().find(|(_, line)| line.starts_with("AUTH")).expect("logged in");
    assert_eq!(login.1, "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm");

    let peer = script.on("AUTH", Act::reply("535 5.7.8 wrong password")).start().await;
    let verdict = refusal(smtp.deliver(&letter(), &plan_of(&peer)).await);
    assert_eq!((verdict.stage, verdict.class), (Stage::Auth, Class::Configuration));
    assert_eq!(verdict.finality, Finality::Passing, "a wrong password bounces no mail");
}

#[tokio::test]
async fn a_login_in_two_steps_is_spoken_to_this_machine_even_in_clear() {
    let peer = Script::offering(&["PIPELINING", "AUTH=LOGIN"])
        .on("AUTH", Act::reply("334 VXNlcm5hbWU6"))
        .once("*", Act::reply("334 UGFzc3dvcmQ6"))
        .once("*", Act::reply("235 ok"))
        .start()
        .await;
    let plan = plan(vec![with_login(hop_with(&peer, TlsMode::None))]);
    smtp().deliver(&letter(), &plan).await.result.expect("delivered");
    let said: Vec<String> = peer.record().commands.into_iter().map(|(_, line)| line).collect();
    assert_eq!(said[1..4], ["AUTH LOGIN", "dGlt", "dGFuc3RhYWZ0YW5zdGFhZg=="]);
}

#[tokio::test]
async fn a_token_is_read_at_each_login_and_spoken_only_where_it_is_taken() {
    let certificate = Certificate::for_name(NAME);
    let file = tempfile::NamedTempFile::new().expect("a file");
    let proof = Proof::TokenFile(file.path().to_owned());
    let auth = Arc::new(Auth { username: "me@example.com".into(), proof });
    let plan_of = |peer: &Peer| {
        let mut hop = hop_with(peer, TlsMode::Verified);
        (hop.auth, hop.messages_per_connection) = (Some(Arc::clone(&auth)), 1);
        plan(vec![hop])
    };
    let script = Script::with_tls(&certificate);
    let script = script.offering_under_tls(&["PIPELINING", "AUTH PLAIN XOAUTH2"]);
    let peer = script.clone().start().await;
    let smtp = trusting(&certificate);
    for token in ["first", "second"] {
        std::fs::write(file.path(), token).expect("write");
        smtp.deliver(&letter(), &plan_of(&peer)).await.result.expect("delivered");
        let mut said = peer.record().commands.into_iter().map(|(_, line)| line).rev();
        let last = said.find(|line| line.starts_with("AUTH")).expect("logged in");
        let encoded = last.strip_prefix("AUTH XOAUTH2 ").expect("by token");
        let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).expect("Base64");
        let text = String::from_utf8(bytes).expect("text");
        assert_eq!(text, format!("user=me@example.com\x01auth=Bearer {token}\x01\x01"));
    }
    // Why it is not taken comes as a challenge, and is answered with nothing.
    let peer = script
        .clone()
        .on("AUTH", Act::reply("334 eyJzdGF0dXMiOiI0MDAifQ=="))
        .on("*", Act::reply("535 5.7.8 expired"))
        .start()
        .await;
    let verdict = refusal(smtp.deliver(&letter(), &plan_of(&peer)).await);
    assert_eq!((verdict.stage, verdict.finality), (Stage::Auth, Finality::Passing));
    // A relay that takes passwords only gets none of it.
    let peer = script.offering_under_tls(&["AUTH PLAIN LOGIN"]).start().await;
    let verdict = refusal(smtp.deliver(&letter(), &plan_of(&peer)).await);
    assert_eq!(verdict.stage, Stage::Auth);
    assert!(!peer.record().commands.iter().any(|(_, line)| line.starts_with("AUTH")));
    // Without the file there is no login, and nothing bounces.
    drop(file);
    let verdict = refusal(smtp.deliver(&letter(), &plan_of(&peer)).await);
    assert_eq!((verdict.stage, verdict.finality), (Stage::Auth, Finality::Passing));
}

#[tokio::test]
async fn a_relay_that_asks_who_we_are_is_shown_our_certificate() {
    let (theirs, ours) = (Authority::new("The relay's"), Authority::new("For clients"));
    let relay = theirs.certify(&[NAME.to_owned()]);
    let asking =
        Certificate::asking(relay.chain.clone(), relay.key.serialize_der(), &ours.certificate);
    let tls = Tls::with_extra_roots([theirs.certificate.clone()]).expect("TLS");
    let smtp = Smtp::with_tls(&config::Smtp::default(), tls);
    let client = ours.certify(&["out.example.com".to_owned()]);
    let key = Secret::new(client.key.serialize_pem());
    let known = config::ClientCertificate { chain: client.chain.clone(), key };
    let stranger = theirs.certify(&["out.example.com".to_owned()]);
    let key = Secret::new(stranger.key.serialize_pem());
    let unknown = config::ClientCertificate { chain: stranger.chain.clone(), key };
    for implicit in [false, true] {
        for (shown, accepted) in [(None, false), (Some(&unknown), false), (Some(&known), true)] {
            let script = Script::with_tls(&asking);
            let (script, mode) = if implicit {
                (script.implicit(), TlsMode::Implicit)
            } else {
                (script, TlsMode::Verified)
            };
            let peer = script.start().await;
            let mut hop = hop_with(&peer, mode);
            hop.certificate = shown.cloned().map(Arc::new);
            let delivery = smtp.deliver(&letter(), &plan(vec![hop])).await;
            assert_eq!(delivery.result.is_ok(), accepted, "{:?}", delivery.result);
            assert_eq!(peer.accepted().len(), usize::from(accepted));
        }
    }
    let wrong = config::ClientCertificate {
        chain: client.chain,
        key: Secret::new(stranger.key.serialize_pem()),
    };
    assert!(wrong.certified().is_err(), "somebody else's key");
    assert!(!format!("{wrong:?}").contains("PRIVATE"));
}
