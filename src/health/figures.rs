//! [`Figures`]: sums over a window, of one stream.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgExecutor, PgPool, Row};

use crate::domain::ids::TenantId;
use crate::tenant::isolation::TenantScope;

/// A tenant's stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamOf {
    /// The tenant.
    pub tenant: TenantId,
    /// Its name.
    pub tenant_name: String,
    /// The stream's name.
    pub stream: String,
}

/// What became of the mail that was sent within a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// How far back.
    pub window: Duration,
    /// To whom; none: to all.
    pub mailbox_provider: Option<String>,
    /// Taken by a receiver, or refused for good.
    pub sent: u64,
    /// Recipients that are lost: at once or by a report.
    pub bounced: u64,
    /// Refused for good for another reason.
    pub refused: u64,
    /// Recipients that complained.
    pub complained: u64,
}

impl Figures {
    /// Lost recipients in a mail sent.
    pub fn bounce_rate(&self) -> f64 {
        share(self.bounced, self.sent)
    }

    /// Complaints in a mail sent.
    pub fn complaint_rate(&self) -> f64 {
        share(self.complained, self.sent)
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Figures of these streams, for all mailbox providers together and for each.
pub async fn of_streams<'e>(
    executor: impl PgExecutor<'e>,
    streams: &[(TenantId, String)],
    windows: &[Duration],
) -> Result<BTreeMap<StreamOf, Vec<Figures>>, sqlx::Error> {
    let rows = sqlx::query(include_str!("sql/figures.sql"))
        .bind(streams.iter().map(|(tenant, _)| tenant.get()).collect::<Vec<_>>())
        .bind(streams.iter().map(|(_, stream)| stream.as_str()).collect::<Vec<_>>())
        .bind(windows.iter().map(Duration::as_secs_f64).collect::<Vec<_>>())
        .fetch_all(executor)
        .await?;
    let mut found: BTreeMap<StreamOf, Vec<Figures>> = BTreeMap::new();
    for row in &rows {
        let of = StreamOf {
            tenant: TenantId::new(row.try_get("tenant_id")?),
            tenant_name: row.try_get("tenant")?,
            stream: row.try_get("stream")?,
        };
        found.entry(of).or_default().push(Figures::read(row, windows)?);
    }
    Ok(found)
}

/// Figures of all streams of a tenant; `pool` acts as the API or the operator.
pub async fn of_tenant(
    pool: &PgPool,
    scope: TenantScope,
    acting: Acting,
    windows: Vec<Duration>,
) -> Result<BTreeMap<StreamOf, Vec<Figures>>, sqlx::Error> {
    acting
        .within(pool, scope, move |conn| {
            async move {
                let streams: Vec<String> = sqlx::query_scalar(include_str!("sql/streams_of.sql"))
                    .bind(scope.tenant().get())
                    .fetch_all(&mut *conn)
                    .await?;
                let streams: Vec<_> =
                    streams.into_iter().map(|stream| (scope.tenant(), stream)).collect();
                of_streams(conn, &streams, &windows).await
            }
            .boxed()
        })
        .await
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acting {
    /// The tenant, by the API.
    Tenant,
    /// An operator.
    Operator,
}

impl Acting {
    /// Runs `work` on the tenant's rows, as whoever asks.
    pub(super) async fn within<T, F>(
        self,
        pool: &PgPool,
        scope: TenantScope,
        work: F,
    ) -> Result<T, sqlx::Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>
            + Send
            + 'static,
    {
        match self {
            Self::Tenant => scope.run(pool, work).await,
            Self::Operator => scope.operate(pool, work).await,
        }
    }
}

impl Figures {
    fn read(row: &PgRow, windows: &[Duration]) -> Result<Self, sqlx::Error> {
        let number: i64 = row.try_get("window_number")?;
        let window = usize::try_from(number - 1).ok().and_then(|at| windows.get(at)).copied();
        let count = |name: &str| -> Result<u64, sqlx::Error> {
            Ok(u64::try_from(row.try_get::<i64, _>(name)?).unwrap_or_default())
        };
        Ok(Self {
            window: window.unwrap_or_default(),
            mailbox_provider: row.try_get("mailbox_provider")?,
            sent: count("sent")?,
            bounced: count("bounced")?,
            refused: count("refused")?,
            complained: count("complained")?,
        })
    }
}
