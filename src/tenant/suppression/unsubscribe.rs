//! A recipient wants no further mail of one stream.

use futures_util::FutureExt;
use sqlx::PgPool;

use super::keeper::Keeper;
use crate::domain::ids::DeliveryId;
use crate::tenant::isolation::for_nobody;

/// Whether the list changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It did.
    Made,
    /// It was so already.
    None,
}

/// The recipient of a delivery wants no further mail of its stream. `None` when the delivery is
/// no longer known. Needs no scope: the caller has verified a link that this installation signed
/// for this delivery, and from then on the transaction acts for its tenant. `pool` acts as the
/// API's role.
pub async fn unsubscribe(
    pool: &PgPool,
    keeper: &Keeper,
    delivery: DeliveryId,
) -> Result<Option<Change>, sqlx::Error> {
    let keeper = keeper.clone();
    for_nobody(pool, move |conn| {
        async move {
            let target: (Option<i64>, Option<String>, Option<String>) =
                sqlx::query_as("select tenant_id, recipient, stream from postrider.link_target($1)")
                    .bind(delivery.get())
                    .fetch_one(&mut *conn)
                    .await?;
            let (Some(tenant), Some(recipient), stream) = target else { return Ok(None) };
            let new: i64 = sqlx::query_scalar(
                "select postrider.suppress($1, array[$2], array[$3], array['unsubscribed'],
                                           array['recipient'], array[null::timestamptz], array[$4])",
            )
            .bind(tenant)
            .bind(keeper.recipient(&recipient))
            .bind(stream.unwrap_or_default())
            .bind(delivery.get())
            .fetch_one(conn)
            .await?;
            Ok(Some(if new > 0 { Change::Made } else { Change::None }))
        }
        .boxed()
    })
    .await
}
