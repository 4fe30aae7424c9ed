//! One incarnation of a worker process: half of the fence.
//!
//! The identity is a number from the database, never host and pid (two containers
//! may share both). A session shows that it lives by beats. Others fence it after
//! `queue.session_ttl` of silence; it stops trusting itself well before that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::PgPool;

use crate::domain::ids::SessionId;

/// A live session and the last time it is known to have been alive.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    opened: Instant,
    /// Milliseconds after `opened` at which the last successful beat was *sent*.
    last_beat: AtomicU64,
    /// Milliseconds after `opened` from which on beats came without a gap of the trust window.
    unbroken_since: AtomicU64,
    /// Silence after which this session no longer trusts its leases.
    trust: Duration,
    ttl: Duration,
}

/// What a beat told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Alive.
    Alive,
    /// Fenced: nothing of this session's may be started or settled any more.
    Fenced,
}

impl Session {
    /// Opens a session; `worker` is a name for people to read.
    pub async fn open(pool: &PgPool, worker: &str, ttl: Duration) -> Result<Self, sqlx::Error> {
        let opened = Instant::now();
        let id: i64 = sqlx::query_scalar(include_str!("sql/open_session.sql"))
            .bind(worker)
            .fetch_one(pool)
            .await?;
        Ok(Self {
            id: SessionId::new(id),
            opened,
            last_beat: AtomicU64::new(0),
            unbroken_since: AtomicU64::new(0),
            // The others wait for the whole ttl; stopping at 60 % of it leaves room for
            // a statement in flight.
            trust: ttl.mul_f64(0.6),
            ttl,
        })
    }

    /// Its number.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Whether deliveries may still be started: the last beat is recent enough that
    /// nobody can have fenced us. Uses monotonic time, which goes on while the
    /// process is stopped.
    pub fn is_trusted(&self) -> bool {
        let last = Duration::from_millis(self.last_beat.load(Ordering::Relaxed));
        self.opened.elapsed().saturating_sub(last) < self.trust
    }

    /// How long to wait for the answer to a beat: after it, others have fenced this session if
    /// the beat was not heard. A late answer is better than none on a slow disk.
    pub fn patience(&self) -> Duration {
        self.ttl
    }

    /// Shows that the session lives.
    pub async fn beat(&self, pool: &PgPool) -> Result<Beat, sqlx::Error> {
        let sent = self.opened.elapsed();
        let beat =
            sqlx::query(include_str!("sql/beat.sql")).bind(self.id.get()).execute(pool).await?;
        if beat.rows_affected() == 0 {
            return Ok(Beat::Fenced);
        }
        let sent = sent.as_millis() as u64;
        if !self.is_trusted() {
            self.unbroken_since.store(sent, Ordering::Relaxed);
        }
        self.last_beat.store(sent, Ordering::Relaxed);
        Ok(Beat::Alive)
    }

    /// Gives back leases of this session that are older than `age` and not of `held` jobs; how
    /// many there were.
    pub async fn release_strays(
        &self,
        pool: &PgPool,
        held: &[i64],
        age: Duration,
    ) -> Result<u64, sqlx::Error> {
        let strays: i64 = sqlx::query_scalar(include_str!("sql/release_strays.sql"))
            .bind(self.id.get())
            .bind(held)
            .bind(age.as_secs_f64())
            .fetch_one(pool)
            .await?;
        Ok(strays.max(0) as u64)
    }

    /// Whether this session has been heard without a gap for the time after which a silent
    /// one is fenced: who was cut off itself cannot tell who else was silent.
    pub fn may_fence(&self) -> bool {
        let since = Duration::from_millis(self.unbroken_since.load(Ordering::Relaxed));
        self.is_trusted() && self.opened.elapsed().saturating_sub(since) > self.ttl
    }

    /// No more claims; leases stay valid. Others see it as leaving.
    pub async fn drain(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        sqlx::query(include_str!("sql/drain_session.sql"))
            .bind(self.id.get())
            .execute(pool)
            .await
            .map(drop)
    }

    /// Ends the session. What it should still hold is left to the rescue at once.
    pub async fn close(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        sqlx::query(include_str!("sql/close_session.sql"))
            .bind(self.id.get())
            .execute(pool)
            .await
            .map(drop)
    }
}
