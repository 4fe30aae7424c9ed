//! Promise: of a large batch the same recipients are held as one by one, however long the lists
//! are, in the clear and as hashes.

use crate::support::builders;
use crate::support::postgres::{Role, TestDb};
use postrider::config::Suppression;
use postrider::config::secret::Secret;
use postrider::tenant::suppression::{Keeper, Probes};
use sqlx::PgPool;

const RECIPIENTS: usize = 300;

/// Positions, from 1, of who is held in the stream `news`.
async fn held(api: &PgPool, keeper: &Keeper, to: &[String]) -> Vec<i32> {
    let probes = Probes::new(keeper, to);
    let mut tx = api.begin().await.expect("begin");
    sqlx::query("select set_config('postrider.tenant', '1', true)")
        .execute(&mut *tx)
        .await
        .expect("act");
    sqlx::query_scalar("select postrider.held_recipients(1, 'news', $1, $2, $3)")
        .bind(to)
        .bind(&probes.of)
        .bind(&probes.forms)
        .fetch_one(&mut *tx)
        .await
        .expect("check")
}

async fn put(owner: &PgPool, keeper: &Keeper, list: i64, named: &[String], more: &str) {
    let forms: Vec<String> = named
        .iter()
        .map(|name| match name.strip_prefix('@') {
            Some(_) => keeper.forms_of_domain(name).swap_remove(0),
            None => keeper.recipient(name),
        })
        .collect();
    let statement = format!(
        "insert into postrider.suppression(tenant_id, address, reason, source, stream, expires_at)
         select $1, a, 'asked', 'import', {more} from unnest($2::text[]) a"
    );
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(list)
        .bind(forms)
        .execute(owner)
        .await
        .expect("a list");
}

fn named(name: &str, numbers: impl Iterator<Item = usize>) -> Vec<String> {
    numbers.map(|n| format!("{name}{n}.example")).collect()
}

#[tokio::test]
async fn a_large_batch_is_held_as_its_recipients_one_by_one() {
    let key = Secret::new("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
    let hashed = Suppression { hashed: true, key: Some(key), ..Suppression::default() };
    for keeper in [Keeper::default(), Keeper::new(&hashed)] {
        let db = TestDb::new().await;
        let (owner, api) = (db.pool(Role::Owner).await, db.pool(Role::Api).await);
        builders::tenant(&owner, "acme").await;
        let forever = "'', null";
        put(&owner, &keeper, 1, &named("to@d", (0..300).step_by(10)), forever).await;
        put(&owner, &keeper, 1, &named("to@d", (1..300).step_by(10)), "'news', null").await;
        put(&owner, &keeper, 1, &named("to@d", (2..300).step_by(10)), "'other', null").await;
        let over = "'', now() - interval '1 day'";
        put(&owner, &keeper, 1, &named("to@d", (3..300).step_by(10)), over).await;
        put(&owner, &keeper, 1, &named("@d", (4..300).step_by(10)), forever).await;
        put(&owner, &keeper, 0, &named("to@d", (5..300).step_by(10)), forever).await;
        put(&owner, &keeper, 0, &named("@d", (6..300).step_by(10)), forever).await;
        put(&owner, &keeper, 2, &named("to@d", (7..300).step_by(10)), forever).await;
        let to = named("to@d", 0..RECIPIENTS);
        let expected: Vec<i32> =
            (1..=300).filter(|n| [0, 1, 4, 5, 6].contains(&((n - 1) % 10))).collect();

        // Short lists; a long one with few domains; long ones with many.
        for (list, more) in [(1, ""), (1, "else@e"), (1, "@f"), (0, "else@e"), (0, "@f")] {
            if !more.is_empty() {
                put(&owner, &keeper, list, &named(more, 0..1_500), forever).await;
            }
            assert_eq!(held(&api, &keeper, &to).await, expected, "list {list} with {more}");
        }
        let mut one_by_one = Vec::new();
        for (n, one) in (1..).zip(&to) {
            if !held(&api, &keeper, std::slice::from_ref(one)).await.is_empty() {
                one_by_one.push(n);
            }
        }
        assert_eq!(one_by_one, expected);
    }
}
