//! `postrider.send`: an application submits in its own transaction, for its own tenant only.

use crate::support::builders;
use crate::support::postgres::{Role, TestDb};
use postrider::tenant::login::{self, LoginError};
use postrider::tenant::store;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, PgPool};

/// Logins are the cluster's, so tests share them; what they may do is each database's.
const SHOP_APP: &str = "test_shop_app";
const BANK_APP: &str = "test_bank_app";

struct House {
    db: TestDb,
    owner: PgPool,
    operator: PgPool,
}

impl House {
    /// Two tenants, two logins, nothing bound.
    async fn new() -> Self {
        let db = TestDb::new().await;
        let owner = db.pool(Role::Owner).await;
        sqlx::raw_sql(
            "do $$
             declare r text;
             begin
               foreach r in array array['test_shop_app', 'test_bank_app'] loop
                 begin execute format('create role %I login', r);
                 exception when duplicate_object or unique_violation then null; end;
               end loop;
             end $$",
        )
        .execute(&owner)
        .await
        .expect("make the logins");
        builders::tenant(&owner, "shop").await;
        builders::tenant(&owner, "bank").await;
        let operator = db.pool(Role::Operator).await;
        Self { db, owner, operator }
    }

    async fn bind(&self, tenant: &str, login: &str) -> Result<(), LoginError> {
        let scope = store::scope(&self.operator, tenant).await.expect("the tenant");
        login::bind(&self.operator, scope, login).await
    }

    async fn app(&self, login: &str) -> PgConnection {
        let options: PgConnectOptions = self.db.url().parse().expect("an address");
        PgConnection::connect_with(&options.username(login)).await.expect("connect as the login")
    }

    async fn queued(&self) -> (i64, i64, i64) {
        let (messages, jobs, ready) = ("message", "job", "ready");
        (
            builders::rows(&self.owner, messages).await,
            builders::rows(&self.owner, jobs).await,
            builders::rows(&self.owner, ready).await,
        )
    }
}

fn mail() -> Value {
    json!({
        "from": "Shop <orders@shop.example>", "subject": "Hello {{ name }}", "text": "Hi {{ name }}",
        "recipients": [{"to": "ann@example.org", "vars": {"name": "Ann"}}, {"to": "Bob <bob@EXAMPLE.org>"}],
    })
}

/// The mail with some fields of its own.
#[allow(clippy::needless_pass_by_value, reason = "every caller makes one for it")]
fn mail_with(fields: Value) -> Value {
    let mut mail = mail();
    for (field, value) in fields.as_object().expect("an object") {
        mail[field] = value.clone();
    }
    mail
}

async fn send(
    app: &mut PgConnection,
    mail: &Value,
    key: Option<&str>,
) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("select postrider.send($1::json, $2)")
        .bind(mail.to_string())
        .bind(key)
        .fetch_one(app)
        .await
}

fn code(error: &sqlx::Error) -> String {
    let refused = error.as_database_error().expect("refused by the database");
    refused.code().expect("a code").into_owned()
}

#[tokio::test]
async fn the_mail_exists_if_and_only_if_the_transaction_commits() {
    let house = House::new().await;
    house.bind("shop", SHOP_APP).await.expect("bound");
    let mut app = house.app(SHOP_APP).await;

    let mut order = app.begin().await.expect("begin");
    let undone = send(&mut order, &mail(), None).await.expect("sent");
    assert!(undone.starts_with("msg_"), "{undone}");
    order.rollback().await.expect("rollback");
    assert_eq!(house.queued().await, (0, 0, 0));

    let mut order = app.begin().await.expect("begin");
    let id = send(&mut order, &mail(), None).await.expect("sent");
    assert_eq!(house.queued().await, (0, 0, 0), "not before the commit");
    order.commit().await.expect("commit");
    assert_eq!(house.queued().await, (1, 2, 2));
    let to: Vec<String> = sqlx::query_scalar("select recipient from postrider.job order by 1")
        .fetch_all(&house.owner)
        .await
        .expect("jobs");
    assert_eq!(to, ["ann@example.org", "bob@example.org"]);
    let known: String = sqlx::query_scalar(
        "select postrider.written_id('msg_', message_id) from postrider.message",
    )
    .fetch_one(&house.owner)
    .await
    .expect("the message");
    assert_eq!(known, id);
}

#[tokio::test]
async fn a_login_that_nobody_bound_is_refused_and_one_that_is_freed_again_too() {
    let house = House::new().await;
    let mut app = house.app(SHOP_APP).await;
    // No right to the schema at all.
    assert_eq!(code(&send(&mut app, &mail(), None).await.expect_err("unbound")), "42501");

    house.bind("shop", SHOP_APP).await.expect("bound");
    house.bind("shop", SHOP_APP).await.expect("binding again changes nothing");
    let taken = house.bind("bank", SHOP_APP).await.expect_err("it is the shop's");
    assert!(matches!(taken, LoginError::Taken { .. }), "{taken}");
    send(&mut app, &mail(), None).await.expect("sent");

    let shop = store::scope(&house.operator, "shop").await.expect("the tenant");
    login::unbind(&house.operator, shop, SHOP_APP).await.expect("freed");
    assert_eq!(code(&send(&mut app, &mail(), None).await.expect_err("freed")), "42501");
    // Rights left behind by hand do not help: the row decides.
    sqlx::raw_sql(
        "grant usage on schema postrider to test_shop_app;
         grant execute on function postrider.send(json, text) to test_shop_app",
    )
    .execute(&house.owner)
    .await
    .expect("grant");
    let refused = send(&mut app, &mail(), None).await.expect_err("not bound");
    assert_eq!(code(&refused), "42501");
    assert!(refused.to_string().contains("is not bound to a tenant"), "{refused}");
}

#[tokio::test]
async fn a_mighty_or_missing_login_cannot_be_bound() {
    let house = House::new().await;
    let missing = house.bind("shop", "test_nobody").await.expect_err("no such role");
    assert!(matches!(missing, LoginError::NoLogin { .. }), "{missing}");
    let mighty = house.bind("shop", "postgres").await.expect_err("a superuser");
    assert!(matches!(mighty, LoginError::TooMighty { .. }), "{mighty}");
}

#[tokio::test]
async fn a_login_acts_for_its_tenant_whatever_it_sets() {
    let house = House::new().await;
    house.bind("shop", SHOP_APP).await.expect("bound");
    house.bind("bank", BANK_APP).await.expect("bound");
    let bank: i64 =
        sqlx::query_scalar("select tenant_id from postrider.tenant where name = 'bank'")
            .fetch_one(&house.owner)
            .await
            .expect("the bank");
    let mut app = house.app(SHOP_APP).await;
    sqlx::query("select set_config('postrider.tenant', $1, false)")
        .bind(bank.to_string())
        .execute(&mut app)
        .await
        .expect("anyone may set it");

    let as_bank = mail_with(json!({"from": "teller@bank.example"}));
    let refused = send(&mut app, &as_bank, None).await.expect_err("the domain is the bank's");
    assert_eq!(code(&refused), "42501");
    send(&mut app, &mail(), None).await.expect("its own mail");
    let of: Vec<String> = sqlx::query_scalar(
        "select distinct t.name from postrider.job j join postrider.tenant t using (tenant_id)",
    )
    .fetch_all(&house.owner)
    .await
    .expect("jobs");
    assert_eq!(of, ["shop"]);
    // What it set is as it was, and shows it nothing.
    let set: String = sqlx::query_scalar("select current_setting('postrider.tenant')")
        .fetch_one(&mut app)
        .await
        .expect("ask");
    assert_eq!(set, bank.to_string());

    for forbidden in [
        "select 1 from postrider.message",
        "select 1 from postrider.api_key",
        "select 1 from postrider.tenant_login",
        "update postrider.tenant_login set tenant_id = 0",
        "select postrider.cancel_message(1, 1)",
        "select postrider.submit(1, 'bank.example', 'bulk', '{}', null, null, '{}', '{}')",
        "select postrider.ensure_partitions(1, 1)",
        "set role postrider_api",
        "set role postrider_operator",
        "create table postrider.mine(x int)",
    ] {
        let refused = sqlx::query(forbidden).execute(&mut app).await.expect_err(forbidden);
        assert_eq!(code(&refused), "42501", "{forbidden}: {refused}");
    }
}

#[tokio::test]
async fn a_key_makes_a_repeat_harmless() {
    let house = House::new().await;
    house.bind("shop", SHOP_APP).await.expect("bound");
    house.bind("bank", BANK_APP).await.expect("bound");
    let mut app = house.app(SHOP_APP).await;
    let first = send(&mut app, &mail(), Some("order-1")).await.expect("sent");
    assert_eq!(send(&mut app, &mail(), Some("order-1")).await.expect("again"), first);
    assert_eq!(house.queued().await, (1, 2, 2));
    let other = mail_with(json!({"subject": "Other"}));
    let refused = send(&mut app, &other, Some("order-1")).await.expect_err("another mail");
    assert_eq!(code(&refused), "23505");
    // Keys are each tenant's own.
    let mut bank = house.app(BANK_APP).await;
    let theirs = mail_with(json!({"from": "teller@bank.example"}));
    assert_ne!(send(&mut bank, &theirs, Some("order-1")).await.expect("sent"), first);
}

#[tokio::test]
async fn bad_input_is_refused_and_nothing_is_stored() {
    let house = House::new().await;
    house.bind("shop", SHOP_APP).await.expect("bound");
    let mut app = house.app(SHOP_APP).await;
    let mut bad = vec![
        json!([]),
        json!("mail"),
        mail_with(json!({"unknown": 1})),
        mail_with(json!({"from": null})),
        mail_with(json!({"from": "nobody"})),
        mail_with(json!({"from": {"address": "orders@shop.example"}})),
        mail_with(json!({"from": "a@bank.example <orders@shop.example> b@bank.example"})),
        mail_with(json!({"from": "teller@bank.example"})),
        mail_with(json!({"subject": ""})),
        mail_with(json!({"subject": 7})),
        mail_with(json!({"text": null})),
        mail_with(json!({"headers": ["x"]})),
        mail_with(json!({"vars": "x"})),
        mail_with(json!({"attachments": {}})),
        mail_with(json!({"stream": "No Stream"})),
        mail_with(json!({"send_at": "soon"})),
        mail_with(json!({"recipients": []})),
        mail_with(json!({"recipients": {"to": "ann@example.org"}})),
        mail_with(json!({"recipients": ["ann@example.org"]})),
        mail_with(json!({"recipients": [{"to": "ann"}]})),
        mail_with(json!({"recipients": [{"to": "ann@localhost"}]})),
        mail_with(json!({"recipients": [{"to": "ann@[10.0.0.1]"}]})),
        mail_with(json!({"recipients": [{"to": "ann@example.org", "cc": "bob@example.org"}]})),
        mail_with(json!({"recipients": [{"to": "ann@example.org", "cc": ["bob"]}]})),
        mail_with(json!({"recipients": [{"to": "ann@example.org", "vars": ["x"]}]})),
        mail_with(json!({"recipients": vec![json!({"to": "ann@example.org"}); 10_001]})),
    ];
    for line_end in ["\r\n", "\n", "\r", "\u{b}", "\u{85}", "\u{2028}", "\u{2029}", "\u{1b}"] {
        let evil = |text: &str| text.replace('|', line_end);
        bad.extend([
            mail_with(json!({"from": evil("Shop|Bcc: x@example.org <orders@shop.example>")})),
            mail_with(json!({"from": evil("Shop <orders@shop.example>|")})),
            mail_with(json!({"subject": evil("Hello|Bcc: x@example.org")})),
            mail_with(json!({"reply_to": evil("a@shop.example|Bcc: x@example.org")})),
            mail_with(json!({"headers": {"X-A": evil("1|Bcc: x@example.org")}})),
            mail_with(json!({"headers": {evil("X-A|Bcc"): "x@example.org"}})),
            mail_with(json!({"recipients": [{"to": evil("ann@example.org|RCPT TO:<x@example.org>")}]})),
            mail_with(json!({"recipients": [{"to": evil("Ann|Bcc: x <ann@example.org>")}]})),
            mail_with(json!({"recipients": [{"to": "ann@example.org", "cc": [evil("B|x <bob@example.org>")]}]})),
        ]);
    }
    for mail in bad {
        let refused = send(&mut app, &mail, Some("k")).await;
        let shown: String = mail.to_string().chars().take(200).collect();
        let refused = refused.expect_err(&shown);
        assert!(["22023", "22007", "42501"].contains(&&*code(&refused)), "{shown}: {refused}");
    }
    assert_eq!(house.queued().await, (0, 0, 0));
    assert_eq!(builders::rows(&house.owner, "idempotency").await, 0);
    send(&mut app, &mail(), Some("k")).await.expect("the key is still free");
}

#[tokio::test]
async fn a_suspended_tenant_is_refused() {
    let house = House::new().await;
    house.bind("shop", SHOP_APP).await.expect("bound");
    let mut app = house.app(SHOP_APP).await;
    let suspended = store::TenantState::Suspended;
    store::set_state(&house.operator, "shop", suspended).await.expect("suspended");
    let refused = send(&mut app, &mail(), None).await.expect_err("suspended");
    assert_eq!(code(&refused), "42501");
}
