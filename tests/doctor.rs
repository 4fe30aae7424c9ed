//! Promise: `postrider doctor` tells what is well from what is not, and says what to do.

#[path = "support/name_server.rs"]
mod name_server;
mod support;

use name_server::{NameServer, Zone};
use serde_json::Value;
use support::builders;
use support::command;
use support::installation::Installation;

/// What it finds, and its exit code.
fn doctor(home: &Installation, names: &NameServer, args: &[&str]) -> (Vec<Value>, i32) {
    let config = home.configure(&format!("[dns]\nservers = [\"{}\"]\n", names.address));
    let mut command = command::bare(&[&["doctor", "--json", "--call", "one.test"], args].concat());
    command.arg("--config").arg(config).env("POSTRIDER__SOURCE__0__EHLO", "mail.one.test");
    let ran = command::ran(&command.output().expect("run"));
    let found = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}", ran.err));
    (found, ran.code)
}

fn grade<'f>(findings: &'f [Value], area: &str, words: &str) -> &'f str {
    let found = findings.iter().find(|finding| {
        finding["area"] == area && finding["seen"].as_str().is_some_and(|seen| seen.contains(words))
    });
    found.unwrap_or_else(|| panic!("{area}: {words} in {findings:#?}"))["grade"]
        .as_str()
        .expect("a grade")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_named_with_what_to_do() {
    let home = Installation::new(None).await;
    builders::tenant(&home.owner, "acme").await;
    let added = home.postrider(&[
        "domain",
        "add",
        "--tenant",
        "acme",
        "--algorithm",
        "ed25519",
        "acme.test",
        "--json",
    ]);
    let added: Value = serde_json::from_str(&added.out).expect("JSON");
    let key = &added["domain"]["keys"][0];
    let (selector, record) =
        (key["selector"].as_str().expect("one"), key["record"].as_str().expect("one"));
    let place = format!("{selector}._domainkey.acme.test");

    let zone =
        || Zone::new().mx("one.test", 300, 10, "mx.one.test").a("mail.one.test", [192, 0, 2, 25]);
    let bad = zone()
        .txt(&place, "v=DKIM1; k=ed25519; p=somebodyelses")
        .txt("acme.test", "v=spf1 ip4:192.0.2.7 -all")
        .serve()
        .await;
    let (findings, code) = doctor(&home, &bad, &["--tenant", "acme"]);
    assert_eq!(code, 1, "{findings:#?}");
    assert_eq!(grade(&findings, "dkim", "another key"), "fault");
    assert_eq!(grade(&findings, "spf", "is not named"), "odd");
    assert_eq!(grade(&findings, "dmarc", "is not published"), "fault");
    assert_eq!(grade(&findings, "egress", "127.0.0.1"), "fine");
    assert_eq!(grade(&findings, "database", "the schema fits"), "fine");
    assert_eq!(grade(&findings, "clock", "agrees"), "fine");
    assert_eq!(grade(&findings, "privileges", "as they should be"), "fine");
    assert_eq!(grade(&findings, "dns", "mx.one.test"), "fine");
    let mute = findings.iter().find(|f| f["grade"] != "fine" && f["advice"].as_str().is_none());
    assert_eq!(mute, None, "whatever is not well has advice");

    let good = zone()
        .txt(&place, record)
        .txt("acme.test", "v=spf1 a:mail.one.test -all")
        .txt("_dmarc.acme.test", "v=DMARC1; p=none")
        .txt("acme.example", "v=spf1 -all")
        .serve()
        .await;
    let (findings, _) = doctor(&home, &good, &["--tenant", "acme"]);
    assert_eq!(grade(&findings, "dkim", &place), "fine");
    assert_eq!(grade(&findings, "spf", "a:mail.one.test"), "fine");
    assert_eq!(grade(&findings, "dmarc", "_dmarc.acme.test"), "fine");

    let (findings, _) = doctor(&home, &good, &["--offline"]);
    assert!(findings.iter().all(|f| f["area"] != "dns" && f["area"] != "egress"), "{findings:#?}");
}
