//! Promise: whatever is sent under our signature verifies, by any verifier, with every key and
//! form of signing, at once and after a hop over a real mail system.

use std::sync::Arc;

use futures_util::StreamExt;
use postrider::config::{self, Canonicalization, Form, TlsMode};
use postrider::message::dkim::Algorithm;
use postrider::message::letter::Letter;
use postrider::route::plan::Hop;
use postrider::smtp::deliver::Smtp;

use crate::support::letters::{hop, plan};
use crate::support::odd_mails::{Odd, ends_blank, odd_mails};
use crate::support::receivers::{Receiver, is_root};
use crate::support::verifiers::{Key, by_dkimpy, by_mail_auth};

const MAILS: usize = 500;
const SEED: u64 = 20_260_115;

fn keys() -> [Key; 2] {
    [Key::new("rsa", Algorithm::RsaSha256), Key::new("ed", Algorithm::Ed25519Sha256)]
}

/// RSA, Ed25519, both.
fn sets(keys: &[Key; 2]) -> [Vec<&Key>; 3] {
    let [rsa, ed25519] = keys;
    [vec![rsa], vec![ed25519], vec![rsa, ed25519]]
}

/// A signed letter, and what is known of it.
struct Signed {
    letter: Letter,
    signatures: usize,
    form: Canonicalization,
    bulk: bool,
}

fn signed(odd: &Odd, form: Canonicalization, keys: &[&Key]) -> Signed {
    let letter = odd.letter(form, keys);
    Signed { letter, signatures: keys.len(), form, bulk: odd.is_bulk() }
}

/// Every mail with every set of keys in every form.
fn all_signed(mails: &[Odd], keys: &[Key; 2]) -> Vec<Signed> {
    let half = mails.len().div_ceil(2);
    std::thread::scope(|scope| {
        let halves: Vec<_> = mails
            .chunks(half)
            .map(|some| {
                scope.spawn(move || {
                    let mut all = Vec::with_capacity(some.len() * 12);
                    for odd in some {
                        for form in Canonicalization::ALL {
                            for set in sets(keys) {
                                all.push(signed(odd, form, &set));
                            }
                        }
                    }
                    all
                })
            })
            .collect();
        halves.into_iter().flat_map(|half| half.join().expect("no panic")).collect()
    })
}

fn quoted(mail: &[u8]) -> String {
    mail.escape_ascii().to_string().replace("\\r\\n", "\n")
}

#[test]
fn every_key_and_form_verifies_by_two_verifiers() {
    let (mails, keys) = (odd_mails(MAILS, SEED), keys());
    let all = all_signed(&mails, &keys);
    assert_eq!(all.len(), MAILS * 12);
    let bytes: Vec<&[u8]> = all.iter().map(|signed| signed.letter.bytes()).collect();

    let (mut bulk, mut signatures) = (0, 0);
    for (signed, verdict) in all.iter().zip(by_dkimpy(&bytes, &keys)) {
        let mail = signed.letter.bytes();
        let passed = vec![true; signed.signatures];
        assert_eq!(verdict.passed, passed, "{}: {}", verdict.why, quoted(mail));
        signatures += verdict.passed.len();
        for names in &verdict.signed {
            for name in ["list-unsubscribe", "list-unsubscribe-post"] {
                // Once more than it occurs, so that none can be added.
                let listed = names.iter().filter(|known| *known == name).count();
                assert_eq!(listed, 1 + usize::from(signed.bulk), "{name}: {}", quoted(mail));
            }
        }
        bulk += usize::from(signed.bulk);
    }
    assert!(bulk > all.len() / 5, "{bulk} are bulk mail");
    assert_eq!(signatures, MAILS * 4 * 4);

    let mut misread = 0;
    for (signed, passed) in all.iter().zip(by_mail_auth(&bytes, &keys)) {
        let mail = signed.letter.bytes();
        if signed.form.body == Form::Relaxed && ends_blank(mail) {
            misread += 1;
        } else {
            assert_eq!(passed, vec![true; signed.signatures], "{}", quoted(mail));
        }
    }
    assert!(misread * 20 < all.len(), "{misread} that mail-auth is not asked about");
}

#[test]
fn a_changed_byte_is_seen_by_both() {
    let (mails, keys) = (odd_mails(8, SEED + 1), keys());
    let changed: Vec<Vec<u8>> = all_signed(&mails, &keys)
        .iter()
        .map(|signed| {
            let text = quoted(signed.letter.bytes());
            assert!(text.contains("orders@shop.example"), "{text}");
            let mut mail = signed.letter.bytes().to_vec();
            let at = mail.windows(6).position(|six| six == b"orders").expect("in From");
            mail[at] = b'0';
            mail
        })
        .collect();
    let bytes: Vec<&[u8]> = changed.iter().map(Vec::as_slice).collect();
    for verdict in by_dkimpy(&bytes, &keys) {
        assert!(verdict.passed.iter().all(|passed| !passed), "{verdict:?}");
    }
    assert!(by_mail_auth(&bytes, &keys).iter().flatten().all(|passed| !passed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_verifies_after_a_hop_over_postfix() {
    if !is_root() {
        eprintln!("NOT RUN: Postfix wants root");
        return;
    }
    let (mails, keys) = (odd_mails(MAILS, SEED), keys());
    // Each mail in one of the twelve ways.
    let all: Vec<Signed> = mails
        .iter()
        .enumerate()
        .map(|(n, odd)| signed(odd, Canonicalization::ALL[n % 4], &sets(&keys)[n / 4 % 3]))
        .collect();
    let receiver = Receiver::postfix(true);
    let smtp = Smtp::new(&config::Smtp::default()).expect("TLS can be had");
    let way = Hop { tls: TlsMode::None, max_connections: 8, ..hop(receiver.address) };
    let plan = Arc::new(plan(vec![way]));
    let (over, way) = (&smtp, &plan);
    futures_util::stream::iter(&all)
        .for_each_concurrent(8, |signed| async move {
            let delivery = over.deliver(&signed.letter, way).await;
            if let Err(outcome) = &delivery.result {
                panic!("{outcome:?}: {}", quoted(signed.letter.bytes()));
            }
        })
        .await;
    smtp.drain().await;

    let files = receiver.files("box/in/new", all.len()).await;
    assert_eq!(files.len(), all.len());
    // Kept with the line ends of this system.
    let received: Vec<Vec<u8>> = files
        .iter()
        .map(|file| file.split(|byte| *byte == b'\n').collect::<Vec<_>>().join(&b"\r\n"[..]))
        .collect();
    let bytes: Vec<&[u8]> = received.iter().map(Vec::as_slice).collect();
    let expected: usize = all.iter().map(|signed| signed.signatures).sum();

    let mut signatures = 0;
    for (mail, verdict) in bytes.iter().zip(by_dkimpy(&bytes, &keys)) {
        assert!(quoted(mail).contains("Received: from"), "it took the hop");
        assert!(verdict.passed.iter().all(|passed| *passed), "{}: {}", verdict.why, quoted(mail));
        signatures += verdict.passed.len();
    }
    assert_eq!(signatures, expected);
    for (mail, passed) in bytes.iter().zip(by_mail_auth(&bytes, &keys)) {
        if !ends_blank(mail) {
            assert!(passed.iter().all(|passed| *passed), "{}", quoted(mail));
        }
    }
}
