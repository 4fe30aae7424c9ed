//! Who must not be written to.

use sqlx::PgPool;

use crate::message::address::Address;
use crate::tenant::isolation::TenantScope;

/// Why an address must not be written to, and who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The recipient asked for it, by the link in a mail.
    Unsubscribed,
}

/// A tenant's list of addresses that get no mail.
#[derive(Debug, Clone)]
pub struct Suppressions {
    pool: PgPool,
}

impl Suppressions {
    /// `pool` may act as the API's role.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Puts an address on the list. Says whether it was not there before.
    pub async fn record(
        &self,
        scope: &TenantScope,
        address: &Address,
        reason: Reason,
    ) -> Result<bool, sqlx::Error> {
        let address = address.as_str().to_owned();
        let (reason, source) = match reason {
            Reason::Unsubscribed => ("unsubscribed", "recipient"),
        };
        scope
            .run(&self.pool, move |c| {
                Box::pin(async move {
                    let done = sqlx::query(include_str!("sql/suppress.sql"))
                        .bind(address)
                        .bind(reason)
                        .bind(source)
                        .execute(c)
                        .await?;
                    Ok(done.rows_affected() > 0)
                })
            })
            .await
    }
}
