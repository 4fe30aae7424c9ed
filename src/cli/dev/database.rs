//! The database of a development run: a private one made anew, or one that was named.

use anyhow::Context;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};

use super::DevArgs;
use super::binaries::Binaries;
use super::cluster::{Cluster, Durability};
use super::place::Place;
use crate::cli::console::Console;
use crate::queue::migrate;

/// Migrated, with a pool that acts as the operator.
#[derive(Debug)]
pub(super) struct Database {
    url: String,
    /// `None`: it was named, and is not ours to stop.
    cluster: Option<Cluster>,
    operator: PgPool,
}

impl Database {
    pub(super) async fn open(
        args: &DevArgs,
        named: Option<String>,
        place: &Place,
        console: &mut Console,
    ) -> anyhow::Result<Self> {
        let (url, cluster) = if let Some(url) = named {
            (url, None)
        } else {
            let cluster = private(args, place).await?;
            console.line(&format!("private Postgres in {}", cluster.folder().display()));
            (cluster.url("postrider"), Some(cluster))
        };
        let options: PgConnectOptions =
            url.parse().context("--database-url: expected postgres://user@host/name")?;
        let owner = PgPoolOptions::new()
            .max_connections(2)
            .connect_with(options.clone())
            .await
            .context("cannot connect to the database")?;
        migrate::up(&owner).await.context("cannot migrate the database")?;
        owner.close().await;

        let operator = PgPoolOptions::new()
            .max_connections(2)
            .connect_with(options.options([("role", "postrider_operator")]))
            .await
            .context("cannot act as postrider_operator: migrate as a role that may")?;
        Ok(Self { url, cluster, operator })
    }

    /// For whoever makes tenants and keys.
    pub(super) fn operator(&self) -> &PgPool {
        &self.operator
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The address, if it may stand in a file: one that was named may hold a password.
    pub(super) fn url_for_file(&self) -> Option<&str> {
        self.cluster.is_some().then_some(&*self.url)
    }

    /// Stops what was started. Failures show at the next start.
    pub(super) async fn close(self) {
        self.operator.close().await;
        if let Some(cluster) = self.cluster {
            let _ = tokio::task::spawn_blocking(move || drop(cluster)).await;
        }
    }
}

/// A private server with an empty database: the last run's belongs to another key,
/// and perhaps to migrations that were edited since.
async fn private(args: &DevArgs, place: &Place) -> anyhow::Result<Cluster> {
    let (given, home) = (args.pg_bin.clone(), place.path("postgres"));
    let start = move || {
        let binaries = Binaries::find(given.as_deref())?;
        Cluster::start(&home, Durability::Durable, &binaries)
    };
    let cluster = tokio::task::spawn_blocking(start).await??;
    let mut admin = PgConnection::connect(&cluster.url("postgres")).await?;
    for statement in ["drop database if exists postrider with (force)", "create database postrider"]
    {
        sqlx::raw_sql(statement).execute(&mut admin).await.context(statement)?;
    }
    admin.close().await?;
    Ok(cluster)
}
