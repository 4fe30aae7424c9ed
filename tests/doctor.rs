//! Promise: `postrider doctor` tells what is well from what is not, and says what to do.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::support::api::TestApi;
use crate::support::authority::{Authority, pem};
use crate::support::builders;
use crate::support::command;
use crate::support::installation::Installation;
use crate::support::name_server::{NameServer, Zone};
use crate::support::policy_host::PolicyHost;
use crate::support::signed_dns::Zones;
use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postrider::domain::ids::DeliveryId;
use postrider::message::unsubscribe::TokenKey;
use serde_json::Value;

/// What it finds, and its exit code.
fn doctor(home: &Installation, names: &NameServer, args: &[&str]) -> (Vec<Value>, i32) {
    asked(home, names.address, args, "")
}

/// The same with more in `[dns]`, and sections after it.
fn asked(home: &Installation, names: SocketAddr, args: &[&str], more: &str) -> (Vec<Value>, i32) {
    let config = home.configure(&format!("[dns]\nservers = [\"{names}\"]\n{more}"));
    by(&config, args)
}

fn by(config: &Path, args: &[&str]) -> (Vec<Value>, i32) {
    within("one.test", config, args)
}

/// Everything that it asks for is below this domain.
fn within(domain: &str, config: &Path, args: &[&str]) -> (Vec<Value>, i32) {
    let mut command = command::bare(&[&["doctor", "--json", "--call", domain], args].concat());
    command.arg("--config").arg(config).env("POSTRIDER__SOURCE__0__EHLO", format!("mail.{domain}"));
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
    let host = "link.acme.test";
    let set = home.postrider(&["domain", "tracking-host", "--tenant", "acme", "acme.test", host]);
    assert_eq!(set.code, 0, "{}", set.err);
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
    assert_eq!(grade(&findings, "tracking", "link.acme.test has no address"), "fault");
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
        .a("link.acme.test", [198, 51, 100, 7])
        .serve()
        .await;
    let (findings, _) = doctor(&home, &good, &["--tenant", "acme"]);
    assert_eq!(grade(&findings, "tracking", "link.acme.test"), "fine");
    assert_eq!(grade(&findings, "dkim", &place), "fine");
    assert_eq!(grade(&findings, "spf", "a:mail.one.test"), "fine");
    assert_eq!(grade(&findings, "dmarc", "_dmarc.acme.test"), "fine");

    let (findings, _) = doctor(&home, &good, &["--offline"]);
    let outside = ["dns", "egress", "dnssec", "block list"];
    assert!(
        findings.iter().all(|f| !outside.iter().any(|area| f["area"] == *area)),
        "{findings:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_on_block_lists_are_named_and_lists_that_tell_nothing_too() {
    let home = Installation::new(None).await;
    let nibbles = "5.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2";
    let names = Zone::new()
        .mx("one.test", 300, 10, "mx.one.test")
        .a("mail.one.test", [192, 0, 2, 25])
        .aaaa("mail.one.test", "2001:db8::25")
        .a("2.0.0.127.bl.test", [127, 0, 0, 2])
        .a("25.2.0.192.bl.test", [127, 0, 0, 4])
        .txt("25.2.0.192.bl.test", "wrote to a trap on Tuesday")
        .a(&format!("{nibbles}.bl.test"), [127, 0, 0, 3])
        .a("2.0.0.127.clean.test", [127, 0, 0, 2])
        .a("2.0.0.127.closed.test", [127, 255, 255, 254])
        .a("2.0.0.127.everybody.test", [127, 0, 0, 2])
        .a("1.0.0.127.everybody.test", [127, 0, 0, 2])
        .a("2.0.0.127.moody.test", [127, 0, 0, 2])
        .a("25.2.0.192.moody.test", [127, 255, 255, 255])
        .serve()
        .await;
    let lists = ["bl", "clean", "closed", "everybody", "moody", "dead"];
    let lists = lists.map(|list| format!("{list}.test"));
    let args: Vec<&str> = lists.iter().flat_map(|list| ["--dnsbl", list]).collect();
    let (findings, code) = doctor(&home, &names, &args);
    assert_eq!(code, 1, "{findings:#?}");
    let area = "block list";
    assert_eq!(grade(&findings, area, "192.0.2.25 (source default) is on bl.test"), "fault");
    assert_eq!(grade(&findings, area, "wrote to a trap on Tuesday"), "fault");
    assert_eq!(grade(&findings, area, "2001:db8::25 (source default) is on bl.test"), "fault");
    assert_eq!(grade(&findings, area, "clean.test: 2 of 2 addresses are not on it"), "fine");
    assert_eq!(grade(&findings, area, "closed.test does not answer us"), "odd");
    assert_eq!(grade(&findings, area, "everybody.test has everybody"), "odd");
    assert_eq!(grade(&findings, area, "moody.test does not say whether 192.0.2.25"), "odd");
    assert_eq!(grade(&findings, area, "dead.test does not know"), "odd");

    // A source's own public address is what counts, not where its name leads.
    let outer =
        "[[source]]\nname = \"outer\"\nehlo = \"mail.one.test\"\naddress = \"192.0.2.77\"\n";
    let (findings, _) = asked(&home, names.address, &["--dnsbl", "bl.test"], outer);
    assert_eq!(grade(&findings, area, "bl.test: 1 of 3 addresses are not on it"), "fine");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_validate_are_told_from_those_that_do_not() {
    let home = Installation::new(None).await;
    let samples = ["--signed", "signed.test", "--forged", "forged.signed.test"];
    let real =
        Zones::default().mail("signed.test", "mx.signed.test").forged("forged.signed.test").serve();
    let config = home.configure(&format!("[dns]\nservers = [\"{}\"]\n", real.address));
    let look = |samples: [&str; 4]| {
        within("signed.test", &config, &[&samples[..], &["--dnsbl", "bl.signed.test"]].concat())
    };
    let (findings, _) = look(samples);
    assert_eq!(grade(&findings, "dnssec", "DANE is in force"), "fine");
    // It says that it validates, and takes for true what is not signed at all: no forgery to it.
    let unsigned = ["--signed", "signed.test", "--forged", "plain.test"];
    let (findings, code) = look(unsigned);
    assert_eq!((grade(&findings, "dnssec", "takes the forged plain.test"), code), ("fault", 1));

    let plain = Zone::new().a("mail.one.test", [192, 0, 2, 25]).serve().await;
    let samples = ["--signed", "test", "--forged", "test"];
    let (findings, _) = asked(&home, plain.address, &samples, "");
    assert_eq!(grade(&findings, "dnssec", "does not validate"), "odd");
    let (findings, _) = asked(&home, plain.address, &samples, "dnssec = \"trusted\"\n");
    assert_eq!(grade(&findings, "dnssec", "dns.dnssec trusts it"), "fault");
    let (findings, _) = asked(&home, plain.address, &samples, "dnssec = \"off\"\n");
    assert_eq!(grade(&findings, "dnssec", "dns.dnssec says so"), "fine");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_bounces_and_clicks_lead_is_tried() {
    let home = Installation::new(None).await;
    let tenant = builders::tenant(&home.owner, "acme").await;
    sqlx::query(
        "update postrider.sending_domain set return_path = 'back.test' where tenant_id = $1",
    )
    .bind(tenant)
    .execute(&home.owner)
    .await
    .expect("a return path");
    let ours = Authority::new("Ours");
    let hosts = ["mta-sts.back.test".to_owned(), "click.test".to_owned()];
    let web = PolicyHost::start(&ours.certify(&hosts).shown()).await;
    let roots = tempfile::NamedTempFile::new().expect("a file");
    fs::write(roots.path(), pem(&ours.certificate)).expect("write");
    let zone = || {
        Zone::new()
            .mx("back.test", 300, 10, "mx.back.test")
            .txt("back.test", "v=spf1 a:mail.one.test -all")
            .txt("_mta-sts.back.test", "v=STSv1; id=1;")
            .a("mta-sts.back.test", [127, 0, 0, 1])
            .a("click.test", [127, 0, 0, 1])
            .a("mail.one.test", [192, 0, 2, 25])
    };
    let names = zone().serve().await;
    let port = web.address.port();
    let more = format!(
        "allow_private_addresses = true\n[tls]\nhttps_port = {port}\nroots_file = \"{}\"\n\
         [api]\npublic_url = \"https://click.test:{port}/mail\"\n\
         [inbound]\nlmtp_listen = \"127.0.0.1:0\"\nhostname = \"mx.back.test\"\n",
        roots.path().display()
    );
    let look = || asked(&home, names.address, &["--tenant", "acme", "--dnsbl", "bl.test"], &more);
    let policy = |mx: &str| {
        let text = format!("version: STSv1\nmode: enforce\nmx: {mx}\nmax_age: 86400\n");
        web.publish("back.test", &text);
    };

    // Nothing answers where it should.
    policy("mx.elsewhere.test");
    let (findings, _) = look();
    assert_eq!(grade(&findings, "return path", "back.test is served by mx.back.test"), "fine");
    assert_eq!(grade(&findings, "spf", "back.test: v=spf1"), "fine");
    assert_eq!(grade(&findings, "mta-sts", "does not name its exchanger mx.back.test"), "fault");
    assert_eq!(grade(&findings, "unsubscribing", "status 404 and no page of ours"), "fault");

    // The real page of the API, under the link that a mail of this installation carries.
    let api = TestApi::new().await;
    let token =
        |key: &[u8]| TokenKey::derive(key.try_into().expect("32 bytes")).token(DeliveryId::new(0));
    let theirs = token(b"test key of 32 bytes, no secret!");
    let path = format!("/u/{}", theirs.as_str());
    let page = api
        .send(
            axum::http::Request::builder()
                .method(Method::GET)
                .uri(path)
                .body(axum::body::Body::empty())
                .expect("a request"),
        )
        .await;
    assert_eq!(page.status, 200, "{page:?}");
    let page = page.body.as_str().expect("a page").to_owned();
    let ours = token(&STANDARD.decode(command::KEY).expect("base64"));
    web.put(
        &format!("click.test/mail/u/{}", ours.as_str()),
        &format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{page}", page.len()),
    );
    policy("mx.back.test");
    let (findings, _) = look();
    assert_eq!(grade(&findings, "mta-sts", "the policy of back.test fits"), "fine");
    assert_eq!(grade(&findings, "unsubscribing", "lead to our API"), "fine");

    // What is shipped leads nowhere from outside.
    let (findings, _) = doctor(&home, &names, &["--tenant", "acme", "--dnsbl", "bl.test"]);
    assert_eq!(grade(&findings, "unsubscribing", "receivers want https"), "fault");
    assert_eq!(grade(&findings, "return path", "nothing listens here"), "odd");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn room_on_the_disks_of_log_and_database_is_measured() {
    let home = Installation::new(None).await;
    let config = home.configure("");
    let _daemon = home.daemon(&config).await;
    let (findings, _) = by(&config, &["--offline"]);
    let folder: String = sqlx::query_scalar("select current_setting('data_directory')")
        .fetch_one(&home.owner)
        .await
        .expect("the owner may see it");
    let disk = |words: &str| {
        let found = findings.iter().find(|finding| {
            finding["area"] == "disk" && finding["seen"].as_str().is_some_and(|s| s.contains(words))
        });
        found.unwrap_or_else(|| panic!("{words} in {findings:#?}"))["seen"].to_string()
    };
    assert!(disk("the log of a daemon").contains("GiB are free"));
    let data = disk(&format!("the data of cell main ({folder})"));
    let df = Command::new("df").args(["-B1", "--output=avail,used", &folder]).output();
    let df = String::from_utf8(df.expect("run df").stdout).expect("text");
    let bytes: f64 = df
        .lines()
        .nth(1)
        .expect("a line")
        .split_whitespace()
        .map(|number| number.parse::<f64>().expect("a number"))
        .sum();
    let told = data.split(" GiB are free").next().and_then(|rest| rest.rsplit(' ').next());
    let told: f64 = told.and_then(|number| number.parse().ok()).expect("a number of GiB");
    assert!((told - bytes / f64::from(1 << 30)).abs() < 0.2, "{bytes} bytes, but {data}");

    // Who may not see where the data lies is told so.
    let plain = format!("plain_{}", std::process::id());
    let statement = |text: String| sqlx::query(sqlx::AssertSqlSafe(text)).execute(&home.owner);
    statement(format!("create role {plain} login in role postrider_operator"))
        .await
        .expect("a role");
    let text = fs::read_to_string(&config).expect("read");
    fs::write(&config, text.replace("user=postgres", &format!("user={plain}"))).expect("write");
    let (findings, _) = by(&config, &["--offline"]);
    statement(format!("drop role {plain}")).await.expect("drop the role");
    assert_eq!(grade(&findings, "disk", "is not told"), "odd");
}
