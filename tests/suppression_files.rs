//! Promise: lists come in and go out as files, by the API and by the tool, as other services
//! write them; a bad line is told with its number and field and stops no other, or all are
//! refused; what goes out can come in again.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use crate::support::api::{Answer, Tenant, TestApi, request};
use crate::support::builders;
use crate::support::command::{facts, postrider};
use axum::body::Body;
use axum::http::{Method, StatusCode};
use bytes::Bytes;
use serde_json::{Value, json};

async fn import(
    api: &TestApi,
    tenant: &Tenant,
    query: &str,
    kind: &str,
    body: impl Into<Body>,
) -> Answer {
    let request = request(Method::POST, &format!("/v1/suppressions/import{query}"), &tenant.key)
        .header("content-type", kind)
        .body(body.into())
        .expect("a request");
    api.send(request).await
}

async fn export(api: &TestApi, tenant: &Tenant, kind: &str) -> String {
    let request = request(Method::GET, "/v1/suppressions", &tenant.key)
        .header("accept", kind)
        .body(Body::empty())
        .expect("a request");
    let answer = api.send(request).await;
    assert_eq!(answer.status, StatusCode::OK);
    match answer.body {
        Value::String(text) => text,
        one => one.to_string(),
    }
}

fn file(name: &str, text: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("postrider-files-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join(name);
    fs::write(&path, text).expect("a file");
    path
}

const MIXED: &str = "email,reason,stream,expires_at,created\n\
    Ann@x.example,bounce,,,1\n\
    nonsense,,,,\n\
    ann@x.example,again,,,\n\
    bob@x.example,,news,,\n\
    eve@x.example,,no such stream,,\n\
    old@x.example,,,2020-01-01T00:00:00Z,\n\
    @whole.example,,,2999-01-01T00:00:00Z,\n";

#[tokio::test]
async fn a_bad_line_is_told_and_the_others_are_taken() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    let answer = import(&api, &shop, "?reason=moved", "text/csv", MIXED).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let told = &answer.body;
    assert_eq!(
        (&told["lines"], &told["added"], &told["present"], &told["refused"]),
        (&json!(7), &json!(3), &json!(1), &json!(3))
    );
    let refusals: Vec<(u64, &str)> = told["refusals"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| {
            (one["line"].as_u64().expect("a number"), one["field"].as_str().expect("a name"))
        })
        .collect();
    assert_eq!(refusals, [(3, "address"), (6, "stream"), (7, "expires_at")]);
    let again = import(&api, &shop, "", "text/csv; charset=utf-8", MIXED).await;
    assert_eq!(again.body["added"], 0, "an import that broke off is repeated");
    let reasons: Vec<String> =
        sqlx::query_scalar("select reason from postrider.suppression order by address")
            .fetch_all(&api.owner)
            .await
            .expect("the list");
    assert_eq!(reasons, ["moved", "bounce", "moved"]);
}

#[tokio::test]
async fn all_or_nothing_stores_nothing_for_one_bad_line() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    let mut text = String::from("address\n");
    for n in 0..5_000 {
        writeln!(text, "u{n}@x.example").expect("a string grows");
    }
    let bad = format!("{text}nonsense\n");
    let refused = import(&api, &shop, "?mode=whole", "text/csv", bad).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.fields(), ["line 5002: address"]);
    for table in ["suppression", "suppression_import"] {
        assert_eq!(builders::rows(&api.owner, table).await, 0, "{table}");
    }
    let taken = import(&api, &shop, "?mode=whole&stream=news", "text/csv", text).await;
    assert_eq!((&taken.body["added"], &taken.body["stored"]), (&json!(5_000), &json!(true)));
    assert_eq!(builders::rows(&api.owner, "suppression where stream = 'news'").await, 5_000);
    assert_eq!(builders::rows(&api.owner, "suppression_import").await, 0);
}

#[tokio::test]
async fn a_stream_that_breaks_off_leaves_lines_or_nothing() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    let broken = || {
        let mut lines = String::new();
        for n in 0..2_500 {
            writeln!(lines, "{{\"email\":\"u{n}@x.example\"}}").expect("a string grows");
        }
        let pieces = vec![Ok(Bytes::from(lines)), Err(std::io::Error::other("gone"))];
        Body::from_stream(futures_util::stream::iter(pieces))
    };
    let kind = "application/x-ndjson";
    assert_eq!(
        import(&api, &shop, "?mode=whole", kind, broken()).await.status,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(builders::rows(&api.owner, "suppression_import").await, 0);
    assert_eq!(builders::rows(&api.owner, "suppression").await, 0);
    assert_eq!(import(&api, &shop, "", kind, broken()).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(builders::rows(&api.owner, "suppression").await, 2_000, "whole parts stay");
}

#[tokio::test]
async fn what_is_no_list_is_refused_as_a_whole() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    let headless = import(&api, &shop, "", "text/csv", "ann@x.example\nbob@x.example\n").await;
    assert_eq!(
        (headless.status, headless.fields()),
        (StatusCode::UNPROCESSABLE_ENTITY, vec!["header"])
    );
    let other = import(&api, &shop, "", "application/json", "[]").await;
    assert_eq!(other.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let mode = import(&api, &shop, "?mode=maybe", "text/csv", "email\n").await;
    assert_eq!(mode.status, StatusCode::BAD_REQUEST);
    let hash = format!("email\n#{}\n", "a".repeat(43));
    let told = import(&api, &shop, "", "text/csv", hash).await;
    assert!(
        told.body["refusals"][0]["reason"].as_str().expect("why").contains("no key"),
        "{told:?}"
    );
    assert_eq!(builders::rows(&api.owner, "suppression").await, 0);
}

#[tokio::test]
async fn what_goes_out_comes_in_again_by_either_way() {
    let api = TestApi::new().await;
    let (shop, bank) = (api.tenant("shop").await, api.tenant("bank").await);
    let tricky = "email,stream,reason\nann@x.example,,\"said \"\"no\"\", twice\"\nbob@x.example,news,\n@y.example,,\n";
    import(&api, &shop, "", "text/csv", tricky).await;
    let (csv, lines) =
        (export(&api, &shop, "text/csv").await, export(&api, &shop, "application/x-ndjson").await);
    assert!(csv.contains("\"said \"\"no\"\", twice\""), "{csv}");
    assert_eq!(lines.lines().count(), 3);
    for (kind, text) in [("text/csv", csv), ("application/x-ndjson", lines)] {
        assert_eq!(import(&api, &bank, "", kind, text).await.body["added"], 3);
        let same = "select count(*) from postrider.suppression a join postrider.suppression b
                    using (address, stream, reason) where a.tenant_id <> b.tenant_id";
        assert_eq!(api.count(same).await, 6);
        sqlx::query("delete from postrider.suppression where tenant_id = $1")
            .bind(bank.id)
            .execute(&api.owner)
            .await
            .expect("empty the bank's");
    }
}

#[tokio::test]
async fn the_tool_does_the_same() {
    let api = TestApi::new().await;
    api.tenant("shop").await;
    let path = file("mixed.csv", MIXED);
    let path = path.to_str().expect("a path");
    let whole = ["suppression", "import", "--tenant", "shop", "--whole", path];
    let refused = postrider(&api.db, &whole);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.out.contains("nothing was stored"), "{}", refused.out);
    assert_eq!(builders::rows(&api.owner, "suppression").await, 0);
    let taken = postrider(&api.db, &["suppression", "import", "--tenant", "shop", path]);
    assert_eq!(taken.code, 1, "some lines were refused: {}", taken.out);
    assert!(taken.out.starts_with("7 lines: 3 added, 1 there already, 3 refused"), "{}", taken.out);

    let out = file("list.ndjson", "");
    fs::remove_file(&out).expect("not there yet");
    let out = out.to_str().expect("a path").to_owned();
    let saved = facts(&api.db, &["suppression", "export", "--tenant", "shop", "--out", &out]);
    assert_eq!(saved["entries"], 3);
    assert_eq!(
        postrider(&api.db, &["suppression", "export", "--tenant", "shop", "--out", &out]).code,
        1
    );
    let everyone = facts(&api.db, &["suppression", "import", "--everyone", &out]);
    assert_eq!((&everyone["added"], &everyone["refused"]), (&json!(3), &json!(0)));
    let text = postrider(&api.db, &["suppression", "export", "--everyone"]).out;
    assert!(text.starts_with("address,stream,reason,") && text.lines().count() == 4, "{text}");
}
