//! Promise: who is on a list gets nothing, at submission and at the claim; who is not, does. By
//! address in whatever form, by domain, for one stream or all, for a tenant or for all, and only
//! until it runs out. What is taken off is kept with who and why.

use std::time::Duration;

use crate::support::api::{Answer, Tenant, TestApi, in_hours, message, request};
use crate::support::builders;
use crate::support::command::{facts, postrider};
use crate::support::postgres::Role;
use axum::body::Body;
use axum::http::{Method, StatusCode};
use postrider::config::Suppression;
use postrider::config::secret::Secret;
use postrider::queue::job::Bar;
use postrider::queue::upkeep;
use postrider::tenant::suppression::{Keeper, Probes};
use serde_json::{Value, json};

async fn add(api: &TestApi, tenant: &Tenant, entry: Value) -> Answer {
    api.post_json(&tenant.key, "/v1/suppressions", &entry).await
}

async fn remove(api: &TestApi, tenant: &Tenant, path: &str) -> Answer {
    let path = format!("/v1/suppressions/{path}");
    api.send(request(Method::DELETE, &path, &tenant.key).body(Body::empty()).expect("one")).await
}

/// Whom a submission holds back.
async fn held(
    api: &TestApi,
    tenant: &Tenant,
    name: &str,
    stream: &str,
    to: &[&str],
) -> Vec<String> {
    let mut mail = message(name, to);
    mail["stream"] = json!(stream);
    let answer = api.submit(&tenant.key, &mail).await;
    answer.id();
    let held = answer.body["suppressed"].as_array().expect("a list").clone();
    held.iter().map(|one| one["to"].as_str().expect("an address").to_owned()).collect()
}

/// Recipients of what is claimed, and whether they are barred.
async fn claimed(api: &TestApi) -> Vec<(String, bool)> {
    claimed_as(api, &Keeper::default()).await
}

async fn claimed_as(api: &TestApi, keeper: &Keeper) -> Vec<(String, bool)> {
    let worker = api.db.pool(Role::Worker).await;
    let session = builders::session(&worker, Duration::from_secs(60)).await;
    let jobs = builders::claim_all_as(&worker, keeper, session.id(), 100).await;
    let mut all: Vec<(String, bool)> =
        jobs.into_iter().map(|job| (job.recipient, job.bar == Some(Bar::Suppressed))).collect();
    all.sort();
    all
}

#[tokio::test]
async fn an_address_is_found_in_whatever_form_it_is_written() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    for address in ["Ann@Example.org", "mu\u{308}ller@bücher.example", "@whole.example"] {
        assert_eq!(add(&api, &shop, json!({"address": address})).await.status, StatusCode::CREATED);
        let again = add(&api, &shop, json!({"address": address.to_uppercase()})).await;
        assert_eq!((again.status, &again.body["added"]), (StatusCode::OK, &json!(false)));
    }
    let to = [
        "ANN@EXAMPLE.ORG",
        "MÜLLER@xn--bcher-kva.example",
        "anyone@Whole.example",
        "bob@sub.whole.example",
        "ann+tag@example.org",
    ];
    assert_eq!(
        held(&api, &shop, "shop", "bulk", &to).await,
        ["ANN@example.org", "MÜLLER@xn--bcher-kva.example", "anyone@whole.example"]
    );
    for bad in ["ann", "ann@", "a b@c.example", "@localhost"] {
        let refused = add(&api, &shop, json!({"address": bad})).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
        assert_eq!(refused.fields(), ["address"]);
    }
}

#[tokio::test]
async fn what_is_listed_between_submission_and_claim_stops_the_mail() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    let to = [
        "A@one.example",
        "b@two.example",
        "c@three.example",
        "d@four.example",
        "e@five.example",
        "f@six.example",
    ];
    assert_eq!(held(&api, &shop, "shop", "news", &to).await, [""; 0]);
    add(&api, &shop, json!({"address": "a@ONE.example"})).await;
    add(&api, &shop, json!({"address": "@two.example", "stream": "news"})).await;
    add(&api, &shop, json!({"address": "c@three.example", "stream": "other"})).await;
    let over = json!({"address": "e@five.example", "expires_at": in_hours(1)});
    add(&api, &shop, over).await;
    sqlx::query("update postrider.suppression set expires_at = now() - interval '1 second' where expires_at is not null")
        .execute(&api.owner)
        .await
        .expect("let it run out");
    assert_eq!(facts(&api.db, &["suppression", "add", "--everyone", "d@four.example"])["added"], 1);
    let expected = [
        ("A@one.example", true),
        ("b@two.example", true),
        ("c@three.example", false),
        ("d@four.example", true),
        ("e@five.example", false),
        ("f@six.example", false),
    ];
    assert_eq!(claimed(&api).await, expected.map(|(to, barred)| (to.to_owned(), barred)));
}

#[tokio::test]
async fn a_claim_of_several_tenants_asks_each_list_for_its_own_however_it_names_people() {
    let key = Some(Secret::new("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="));
    let keyed = Keeper::new(&Suppression { hashed: true, key, ..Suppression::default() });
    // Whose lists hold hashes; 0 is everyone's.
    for hashed in [&[][..], &["mill"], &["bank", "mill", "shop"], &["0", "bank"]] {
        let api = TestApi::new().await;
        let names = ["bank", "mill", "shop"];
        let mut expected = Vec::new();
        let mut tenants = Vec::new();
        for name in names {
            tenants.push(api.tenant(name).await);
            let to = names.map(|whose| format!("{whose}@{name}.example"));
            let to: Vec<&str> = to.iter().map(String::as_str).collect();
            assert_eq!(held(&api, &tenants[tenants.len() - 1], name, "news", &to).await, [""; 0]);
            expected.extend(
                to.iter().map(|to| {
                    ((*to).to_owned(), to.starts_with(name) || *to == "shop@mill.example")
                }),
            );
        }
        for (name, tenant) in names.into_iter().zip(&tenants) {
            // Of others' recipients too: their mail is none of its business.
            for at in names {
                add(&api, tenant, json!({"address": format!("{name}@{at}.example")})).await;
            }
        }
        facts(&api.db, &["suppression", "add", "--everyone", "shop@mill.example"]);
        for list in hashed {
            let id = names.iter().position(|name| name == list).map_or(0, |n| tenants[n].id);
            let clear: Vec<String> = sqlx::query_scalar(
                "select address from postrider.suppression where tenant_id = $1",
            )
            .bind(id)
            .fetch_all(&api.owner)
            .await
            .expect("read");
            let hashes: Vec<String> = clear.iter().map(|one| keyed.recipient(one)).collect();
            sqlx::query(
                "update postrider.suppression s set address = h.hash
                 from unnest($2::text[], $3::text[]) h(clear, hash)
                 where s.tenant_id = $1 and s.address = h.clear",
            )
            .bind(id)
            .bind(clear)
            .bind(hashes)
            .execute(&api.owner)
            .await
            .expect("hash");
        }
        expected.sort();
        assert_eq!(claimed_as(&api, &keyed).await, expected, "{hashed:?}");
    }
}

#[tokio::test]
async fn an_address_that_begins_as_a_hash_does_is_an_address() {
    let key = Some(Secret::new("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="));
    let keyed = Keeper::new(&Suppression { hashed: true, key, ..Suppression::default() });
    // Sorted before all others, and looked for first. One list has nobody else in the clear.
    let odd = ["!ann@x.example", "#ann@x.example"];
    let usual = ["ann@x.example", "bob@x.example", "eve@x.example"];
    let to: Vec<&str> = odd.into_iter().rev().chain(usual).collect();
    for (keeper, listed) in [
        (&keyed, &odd[..]),
        (&keyed, &["#ann@x.example", "eve@x.example"]),
        (&Keeper::default(), &odd),
        (&Keeper::default(), &["#ann@x.example", "eve@x.example"]),
    ] {
        let api = TestApi::new().await;
        let shop = api.tenant("shop").await;
        assert_eq!(held(&api, &shop, "shop", "news", &to).await, [""; 0]);
        for address in listed {
            let added = add(&api, &shop, json!({ "address": address })).await;
            assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
        }
        assert_eq!(held_as(&api, keeper, shop.id, &to).await, places(&to, listed), "{listed:?}");
        let mut expected: Vec<(String, bool)> =
            to.iter().map(|to| ((*to).to_owned(), listed.contains(to))).collect();
        expected.sort();
        assert_eq!(claimed_as(&api, keeper).await, expected, "{listed:?}");
    }
}

/// Places, from 1, of those who are listed.
fn places(to: &[&str], listed: &[&str]) -> Vec<i32> {
    (1..).zip(to).filter(|(_, to)| listed.contains(to)).map(|(n, _)| n).collect()
}

/// Places of whom a submission by a process with this keeper holds back.
async fn held_as(api: &TestApi, keeper: &Keeper, tenant: i64, to: &[&str]) -> Vec<i32> {
    let to: Vec<String> = to.iter().map(|to| (*to).to_owned()).collect();
    let probes = Probes::new(keeper, &to);
    sqlx::query_scalar("select postrider.held_recipients($1, 'news', $2, $3, $4)")
        .bind(tenant)
        .bind(&to)
        .bind(&probes.of)
        .bind(&probes.forms)
        .fetch_one(&api.owner)
        .await
        .expect("check")
}

#[tokio::test]
async fn a_tenants_list_is_its_own_and_the_one_for_everyone_holds_for_all() {
    let api = TestApi::new().await;
    let (shop, bank) = (api.tenant("shop").await, api.tenant("bank").await);
    add(&api, &shop, json!({"address": "ann@x.example"})).await;
    let everyone = ["suppression", "add", "--everyone", "bob@x.example", "--reason", "asked us"];
    assert_eq!(facts(&api.db, &everyone)["added"], 1);
    let to = ["ann@x.example", "bob@x.example"];
    assert_eq!(held(&api, &shop, "shop", "bulk", &to).await, to);
    assert_eq!(held(&api, &bank, "bank", "bulk", &to).await, ["bob@x.example"]);

    let known = api.get(&bank.key, "/v1/suppressions/Bob@x.example").await.body;
    assert_eq!((&known["suppressed"], &known["everywhere"]), (&json!(true), &json!(true)));
    assert_eq!(known["entries"], json!([]), "whose reason it is stays the operator's");
    assert_eq!(remove(&api, &bank, "bob@x.example").await.status, StatusCode::NOT_FOUND);
    assert_eq!(remove(&api, &bank, "ann@x.example").await.status, StatusCode::NOT_FOUND);
    let page = api.get(&bank.key, "/v1/suppressions").await.body;
    assert_eq!(page["suppressions"], json!([]), "neither the shop's nor the operator's");
    assert_eq!(api.count("select count(*) from postrider.suppression").await, 2);
}

#[tokio::test]
async fn an_application_that_submits_by_sql_is_checked_too() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    add(&api, &shop, json!({"address": "ann@x.example"})).await;
    add(&api, &shop, json!({"address": "@y.example"})).await;
    let pool = api.db.pool(Role::Api).await;
    let (accepted, suppressed): (i32, Vec<i32>) = sqlx::query_as(
        "select accepted, suppressed from postrider.submit($1, 'shop.example', 'bulk', '{}'::json, null, null,
           array['ANN@x.example', 'bob@y.example', 'eve@z.example'], array[null, null, null])",
    )
    .bind(shop.id)
    .fetch_one(&pool)
    .await
    .expect("submit");
    assert_eq!((accepted, suppressed), (1, vec![0, 1]));
}

#[tokio::test]
async fn what_is_taken_off_is_kept_with_who_and_why() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    add(&api, &shop, json!({"address": "ann@x.example", "reason": "complaint"})).await;
    add(&api, &shop, json!({"address": "ann@x.example", "stream": "news"})).await;
    let removed = remove(&api, &shop, "ANN@x.example?stream=news&reason=came%20back").await;
    assert_eq!(removed.body["removed"][0]["stream"], "news", "{removed:?}");
    assert_eq!(held(&api, &shop, "shop", "news", &["ann@x.example"]).await, ["ann@x.example"]);
    assert_eq!(remove(&api, &shop, "ann@x.example").await.status, StatusCode::OK);
    assert_eq!(held(&api, &shop, "shop", "news", &["ann@x.example"]).await, [""; 0]);

    let known = api.get(&shop.key, "/v1/suppressions/ann@x.example").await.body;
    assert_eq!(known["suppressed"], false);
    let past = known["past"].as_array().expect("a list");
    assert_eq!(past.len(), 2);
    assert_eq!(
        (&past[0]["reason"], &past[0]["removal"]),
        (&json!("complaint"), &json!("removed by the API"))
    );
    assert_eq!(past[1]["removal"], "came back");
    assert!(past[1]["removed_by"].as_str().expect("who").starts_with("api:pr_"));

    let show = ["suppression", "show", "--tenant", "shop", "ann@x.example"];
    let text = postrider(&api.db, &show).out;
    assert!(text.contains("not on the list") && text.contains("came back"), "{text}");
    let forget = ["suppression", "remove", "--tenant", "shop", "ann@x.example", "--forget"];
    assert_eq!(postrider(&api.db, &forget).code, 0);
    assert_eq!(builders::rows(&api.owner, "suppression_past").await, 0);
}

#[tokio::test]
async fn an_entry_keeps_its_first_reason_unless_the_later_one_lasts_longer() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    let entry = |reason: &str, hours: Option<i64>| json!({"address": "ann@x.example", "reason": reason, "expires_at": hours.map(in_hours)});
    for (reason, hours, new) in [
        ("first", Some(5), true),
        ("shorter", Some(2), false),
        ("longer", Some(9), true),
        ("for ever", None, true),
        ("late", Some(99), false),
        ("again", None, false),
    ] {
        let answer = add(&api, &shop, entry(reason, hours)).await;
        assert_eq!(answer.body["added"], json!(new), "{reason}");
    }
    let known = api.get(&shop.key, "/v1/suppressions/ann@x.example").await.body;
    assert_eq!(known["entries"][0]["reason"], "for ever");
    let past = json!({"address": "bob@x.example", "expires_at": in_hours(-1)});
    assert_eq!(add(&api, &shop, past).await.fields(), ["expires_at"]);

    // What has run out goes into the past by itself.
    sqlx::query("update postrider.suppression set expires_at = now() - interval '1 second'")
        .execute(&api.owner)
        .await
        .expect("let it run out");
    let worker = api.db.pool(Role::Worker).await;
    assert_eq!(upkeep::expire_suppressions(&worker, 10).await.expect("expire"), 1);
    let known = api.get(&shop.key, "/v1/suppressions/ann@x.example").await.body;
    assert_eq!(known["past"][0]["removal"], "its time was over");
    assert_eq!(add(&api, &shop, entry("anew", None)).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_list_is_paged_through_without_a_gap() {
    let api = TestApi::new().await;
    let shop = api.tenant("shop").await;
    for n in 0..7 {
        add(&api, &shop, json!({"address": format!("u{n}@x.example")})).await;
        add(&api, &shop, json!({"address": format!("u{n}@x.example"), "stream": "news"})).await;
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&shop.key, &format!("/v1/suppressions?limit=3&cursor={cursor}")).await;
        assert_eq!(page.status, StatusCode::OK, "{page:?}");
        for one in page.body["suppressions"].as_array().expect("a list") {
            let stream = one["stream"].as_str().unwrap_or_default();
            seen.push(format!("{} {stream}", one["address"]));
        }
        match page.body["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    assert_eq!(seen.len(), 14);
    assert!(seen.is_sorted());
    let bad = api.get(&shop.key, "/v1/suppressions?cursor=x").await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    assert_eq!(Keeper::default().recipient("U0@x.example"), "u0@x.example");
}
