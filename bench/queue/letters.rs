//! Recipients stored by the statement that the API uses, without the API.

use std::ops::Range;

use postrider::queue::enqueue::{Chunk, Enqueue, Recipients, sha256};
use postrider::tenant::isolation::TenantScope;
use serde_json::json;

use crate::fill::submission;
use crate::stand::Database;

/// Recipients stored at once.
pub(crate) const CHUNK: u64 = 5_000;

/// A message of `tenant` to `recipients` people, whose addresses `address` tells.
pub(crate) async fn send(
    database: &Database,
    scope: TenantScope,
    tenant: &str,
    recipients: u64,
    address: impl Fn(u64) -> String,
) -> anyhow::Result<()> {
    let enqueue = Enqueue::new(database.pool.clone());
    let message = enqueue.submit(&scope, &submission(tenant, "bulk")).await?.id.to_string();
    for first in (0..recipients).step_by(CHUNK as usize) {
        let range = first..recipients.min(first + CHUNK);
        append(database, scope, &message, range, &address).await?;
    }
    Ok(())
}

/// More recipients of `message`, one chunk of them.
pub(crate) async fn append(
    database: &Database,
    scope: TenantScope,
    message: &str,
    range: Range<u64>,
    address: impl Fn(u64) -> String,
) -> anyhow::Result<()> {
    let first = range.start;
    let mut recipients = Recipients::default();
    for n in range {
        let payload = json!({"vars": {"name": format!("Reader {n}"), "n": n}});
        recipients.push(address(n), Some(payload.to_string()));
    }
    let chunk = Chunk {
        upload: None,
        number: i32::try_from(first / CHUNK)?,
        digest: sha256(&first.to_be_bytes()),
        recipients,
    };
    let enqueue = Enqueue::new(database.pool.clone());
    enqueue.append(&scope, message.parse()?, &chunk).await?;
    Ok(())
}
