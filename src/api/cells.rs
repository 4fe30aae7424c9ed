//! The cells that this API serves, and in which of them something is.
//!
//! A key is looked for in the cell where it was seen last, then in the others; the number in
//! an id says where to begin. A cell that does not answer is passed over as long as another
//! one knows. If none does, the answer is "not now" and never "no": it may be there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use sqlx::PgPool;

use super::error::has_moved;
use super::health::Readiness;
use crate::cell::{self, identity, identity::IdentityError};
use crate::domain::ids::{CellNumber, DeliveryId};
use crate::event::track::{Seen, Told, tell};
use crate::queue::enqueue::Enqueue;
use crate::queue::lookup::Lookup;
use crate::queue::wake::Waker;
use crate::tenant::auth::{Caller, authenticate};
use crate::tenant::isolation::TenantScope;
use crate::tenant::key::ApiKey;
use crate::tenant::suppression::{Change, Keeper, KeyError, List, Whose, unsubscribe};

/// Keys whose cell is remembered, by prefix.
const REMEMBERED: usize = 10_000;

/// How long it is remembered.
const FRESH: Duration = Duration::from_secs(600);

/// How long a cell that did not answer is left alone, so that it does not hold up every
/// request that is not its own.
const REST: Duration = Duration::from_secs(1);

/// One cell, with what requests do there.
#[derive(Debug)]
pub struct ApiCell {
    /// As configured.
    pub name: Arc<str>,
    /// The number in its ids.
    pub number: CellNumber,
    /// Connections that act as the API's role.
    pub pool: PgPool,
    /// Takes messages in.
    pub enqueue: Enqueue,
    /// Tells what became of them.
    pub lookup: Lookup,
    /// Tells its daemons that there is work.
    pub waker: Waker,
    /// Whether it answers.
    pub readiness: Readiness,
    /// How lists of suppressions name people.
    keeper: Keeper,
    /// Its database was asked whether it is this cell, and is.
    verified: AtomicBool,
    /// Since when it does not answer; only kept beside other cells.
    silent_since: Mutex<Option<Instant>>,
}

/// All of them, the home cell first.
#[derive(Debug)]
pub struct Cells {
    list: Vec<Arc<ApiCell>>,
    /// Where a key was found, and when.
    seen: Cache<String, (CellNumber, Instant)>,
}

impl ApiCell {
    /// Call it inside the runtime: a task wakes the daemons.
    pub fn new(cell: &cell::Cell, keeper: &Keeper) -> Self {
        let pool = &cell.pool;
        Self {
            name: Arc::clone(&cell.name),
            number: cell.number,
            enqueue: Enqueue::with_list(pool.clone(), keeper.clone()),
            lookup: Lookup::new(pool.clone()),
            waker: Waker::spawn(pool.clone()),
            readiness: Readiness::new(pool.clone()),
            keeper: keeper.clone(),
            verified: AtomicBool::new(false),
            silent_since: Mutex::new(None),
            pool: pool.clone(),
        }
    }

    /// The list of a tenant that lives here.
    pub fn list(&self, scope: TenantScope) -> List {
        List { pool: self.pool.clone(), whose: Whose::Tenant(scope), keeper: self.keeper.clone() }
    }

    /// Asks the database, unless it has just failed to answer.
    async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, sqlx::Error>> + Send,
    ) -> Result<T, sqlx::Error> {
        if self.silent_since.lock().is_some_and(|since| since.elapsed() < REST) {
            return Err(sqlx::Error::PoolTimedOut);
        }
        let answer = match self.verify().await {
            Ok(()) => question.await,
            Err(error) => Err(error),
        };
        let silent = answer.as_ref().is_err_and(|error| error.as_database_error().is_none());
        *self.silent_since.lock() = silent.then(Instant::now);
        answer
    }

    /// It may have been away at the start, so it is asked with the first question.
    async fn verify(&self) -> Result<(), sqlx::Error> {
        if self.verified.load(Ordering::Relaxed) {
            return Ok(());
        }
        let cell = cell::Cell {
            name: Arc::clone(&self.name),
            number: self.number,
            pool: self.pool.clone(),
        };
        match identity::verify(&cell).await {
            Ok(()) => {}
            Err(IdentityError::Database(error)) => return Err(error),
            Err(other) => return Err(sqlx::Error::Protocol(other.to_string())),
        }
        match self.keeper.prove(&self.pool).await {
            Ok(()) => self.verified.store(true, Ordering::Relaxed),
            Err(KeyError::Database(error)) => return Err(error),
            Err(other) => return Err(sqlx::Error::Protocol(other.to_string())),
        }
        Ok(())
    }
}

impl Cells {
    /// The home cell first; there is at least one.
    pub fn new(list: Vec<ApiCell>) -> Self {
        Self { list: list.into_iter().map(Arc::new).collect(), seen: Cache::new(REMEMBERED) }
    }

    /// Each cell.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ApiCell>> {
        self.list.iter()
    }

    /// Who shows this key, and where its tenant lives; `None` when no cell knows it.
    pub async fn caller(
        &self,
        key: &ApiKey,
    ) -> Result<Option<(Arc<ApiCell>, Caller)>, sqlx::Error> {
        let seen = self.seen.get(key.prefix()).filter(|(_, at)| at.elapsed() < FRESH);
        let mut trouble = None;
        for cell in self.in_order(seen.map(|(cell, _)| cell)) {
            match self.ask(&cell, authenticate(&cell.pool, key)).await {
                Ok(Some(caller)) => {
                    let place = (cell.number, Instant::now());
                    self.seen.insert(key.prefix().to_owned(), place);
                    return Ok(Some((cell, caller)));
                }
                Ok(None) => {}
                Err(error) => trouble = Some(error),
            }
        }
        if let Some(error) = trouble {
            return Err(error);
        }
        self.seen.remove(key.prefix());
        Ok(None)
    }

    /// The recipient of a delivery wants no further mail; `None` when no cell has it.
    pub async fn unsubscribe(&self, delivery: DeliveryId) -> Result<Option<Change>, sqlx::Error> {
        let mut trouble = None;
        for cell in self.in_order(Some(delivery.minted_in())) {
            match self.ask(&cell, unsubscribe(&cell.pool, &cell.keeper, delivery)).await {
                Ok(Some(change)) => return Ok(Some(change)),
                Ok(None) => {}
                // A cell that its tenant has left may still have the row, and says so.
                Err(error) if has_moved(&error) => {}
                Err(error) => trouble = Some(error),
            }
        }
        trouble.map_or(Ok(None), Err)
    }

    /// A tracked mail was opened or a link in it followed: an event where its delivery is kept.
    pub async fn track(&self, seen: &Seen) -> Result<Told, sqlx::Error> {
        let mut trouble = None;
        for cell in self.in_order(Some(seen.delivery.minted_in())) {
            match self.ask(&cell, tell(&cell.pool, seen)).await {
                Ok(Told::Unknown) => {}
                Ok(told) => return Ok(told),
                Err(error) => trouble = Some(error),
            }
        }
        trouble.map_or(Ok(Told::Unknown), Err)
    }

    /// Asks the home cell.
    pub async fn ask_home<T, F>(&self, question: impl FnOnce(PgPool) -> F) -> Result<T, sqlx::Error>
    where
        F: Future<Output = Result<T, sqlx::Error>> + Send,
    {
        let home = self.list.first().ok_or(sqlx::Error::PoolClosed)?;
        self.ask(home, question(home.pool.clone())).await
    }

    /// The hinted cell, then the others.
    fn in_order(&self, hint: Option<CellNumber>) -> Vec<Arc<ApiCell>> {
        let mut cells = self.list.clone();
        cells.sort_by_key(|cell| Some(cell.number) != hint);
        cells
    }

    /// Asks a cell. Beside others, not one that has just failed to answer.
    async fn ask<T>(
        &self,
        cell: &ApiCell,
        question: impl Future<Output = Result<T, sqlx::Error>> + Send,
    ) -> Result<T, sqlx::Error> {
        if self.list.len() == 1 { question.await } else { cell.ask(question).await }
    }
}
