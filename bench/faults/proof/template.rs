//! A cluster that every stage is a copy of.

use std::path::Path;

use anyhow::Context;
use postrider::cli::dev::binaries::Binaries;
use postrider::message::time_zone::TimeZone;
use postrider::queue::migrate;
use postrider::tenant::store;
use sqlx::{Connection, PgConnection, PgPool};
use tempfile::TempDir;

use super::client::Tenant;
use super::server::{self, Server, Stop};

/// The database of every stage.
pub(super) const DATABASE: &str = "mail";

/// A migrated cluster with two tenants, copied for every stage.
pub(crate) struct Template {
    pub(super) server: Server,
    pub(super) tenants: Vec<Tenant>,
    folder: TempDir,
}

impl Template {
    /// Makes it.
    pub(crate) async fn make(binaries: &Binaries) -> anyhow::Result<Self> {
        let folder = server::run_folder()?;
        let server = Server::init(&folder.path().join("template"), binaries)?;
        server.start()?;
        let mut admin = PgConnection::connect(&server.url("postgres")).await?;
        sqlx::raw_sql("create database mail").execute(&mut admin).await?;
        let pool = PgPool::connect(&server.url(DATABASE)).await?;
        migrate::up(&pool).await.context("cannot migrate")?;
        let mut tenants = Vec::new();
        for name in ["ann", "bob"] {
            store::create(&pool, name, 100, TimeZone::default()).await?;
            let scope = store::scope(&pool, name).await?;
            let key =
                store::create_key(&pool, scope, "faults", "faults").await?.reveal().to_owned();
            sqlx::query(
                "insert into postrider.sending_domain(tenant_id, domain, signed) values ($1, $2, false)",
            )
            .bind(scope.tenant().get())
            .bind(format!("{name}.example"))
            .execute(&pool)
            .await?;
            tenants.push(Tenant { name: name.to_owned(), key });
        }
        pool.close().await;
        admin.close().await?;
        server.stop(Stop::Fast)?;
        Ok(Self { server, tenants, folder })
    }

    /// Where stages live: short paths that the server's user may enter.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}
