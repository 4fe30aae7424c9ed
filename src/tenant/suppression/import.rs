//! [`Importer`]: lines of a file onto a list, in parts, so that memory stays the same however
//! long the file is.
//!
//! A bad line is told and the others are taken; or, by choice, all are taken or none. Then the
//! lines wait in a table of their own until the last has come, and no transaction is open while
//! a caller is slow; what a caller leaves behind is deleted after a day.

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use serde::Serialize;

use super::decoder::{Found, Line, LineFault, fault};
use super::keeper::Keeper;
use super::list::{Entry, List};
use super::subject::Subject;

/// What a bad line means for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: they are taken.
    EachLine,
    /// None is taken.
    Whole,
}

/// A line that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Its number, from 1.
    pub line: u64,
    /// The column or field.
    pub field: String,
    /// What was expected and what was found.
    pub reason: String,
}

/// What became of the lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Whether anything was to be stored: false where one bad line refuses all.
    pub stored: bool,
    /// Lines with an entry.
    pub lines: u64,
    /// New, or lasting longer than what was there.
    pub added: u64,
    /// There already, also by an earlier line.
    pub present: u64,
    /// Not taken.
    pub refused: u64,
    /// The first of them.
    pub refusals: Vec<Refusal>,
}

/// Takes lines onto a list.
#[derive(Debug)]
pub struct Importer {
    list: List,
    mode: Mode,
    stream: Option<String>,
    reason: String,
    now: DateTime<Utc>,
    part: Vec<Entry>,
    /// Number of the waiting lines of a [`Mode::Whole`], once there are some.
    waiting: Option<i64>,
    summary: Summary,
}

/// Lines of one statement.
const PART: usize = 2_000;

/// Refused lines that are told; all are counted.
const MAX_TOLD: usize = 1_000;

/// Longest reason in characters; what others export may be longer and is cut.
const MAX_REASON: usize = 200;

/// Most lines that are taken whole or not at all: they go onto the list in one statement.
const MAX_WHOLE: u64 = 1_000_000;

impl Importer {
    /// `stream` and `reason` are those of lines that have none of their own.
    pub fn new(
        list: List,
        mode: Mode,
        stream: Option<String>,
        reason: String,
        now: DateTime<Utc>,
    ) -> Self {
        let part = Vec::with_capacity(PART);
        let summary = Summary { stored: true, ..Summary::default() };
        Self { list, mode, stream, reason, now, part, waiting: None, summary }
    }

    /// Takes these lines.
    pub async fn take(&mut self, lines: &mut Vec<Line>) -> Result<(), sqlx::Error> {
        for line in lines.drain(..) {
            self.summary.lines += 1;
            match line.found.and_then(|found| self.checked(found)) {
                Ok(entry) => self.part.push(entry),
                Err(fault) => self.refuse(line.number, fault),
            }
            if self.part.len() >= PART {
                self.store().await?;
            }
        }
        Ok(())
    }

    /// The last line was taken.
    pub async fn finish(mut self) -> Result<Summary, sqlx::Error> {
        if self.mode == Mode::Whole && self.summary.refused > 0 {
            self.abandon().await?;
            return Ok(Summary { stored: false, ..self.summary });
        }
        self.store().await?;
        if let Some(import) = self.waiting {
            let tenant = self.list.number();
            self.summary.added = self
                .list
                .run(move |conn| {
                    async move {
                        sqlx::query("set local statement_timeout = '15min'")
                            .execute(&mut *conn)
                            .await?;
                        let added: i64 =
                            sqlx::query_scalar("select postrider.suppress_import($1, $2)")
                                .bind(tenant)
                                .bind(import)
                                .fetch_one(conn)
                                .await?;
                        Ok(added.unsigned_abs())
                    }
                    .boxed()
                })
                .await?;
        }
        let taken = self.summary.lines - self.summary.refused;
        self.summary.present = taken.saturating_sub(self.summary.added);
        Ok(self.summary)
    }

    /// Nothing more comes: lines that wait for the last one are deleted.
    pub async fn abandon(&mut self) -> Result<(), sqlx::Error> {
        self.part.clear();
        let Some(import) = self.waiting.take() else { return Ok(()) };
        self.list
            .run(move |conn| {
                async move {
                    sqlx::query("delete from postrider.suppression_import where import_id = $1")
                        .bind(import)
                        .execute(conn)
                        .await
                        .map(drop)
                }
                .boxed()
            })
            .await
    }

    /// What became of the lines so far.
    pub fn so_far(&self) -> &Summary {
        &self.summary
    }

    fn checked(&self, found: Found) -> Result<Entry, LineFault> {
        if self.mode == Mode::Whole && self.summary.lines > MAX_WHOLE {
            return Err(fault("", format_args!("expected at most {MAX_WHOLE} lines at once")));
        }
        let address = if Keeper::is_hash(&found.address) {
            if !self.list.keeper.takes_hashes() {
                let reason =
                    "is a hash, and this installation has no key of hashes: suppression.key_file";
                return Err(fault("address", reason));
            }
            found.address
        } else {
            let subject =
                Subject::try_new(&found.address).map_err(|error| fault("address", error))?;
            self.list.keeper.entry(&subject)
        };
        let stream = found.stream.or_else(|| self.stream.clone());
        if let Some(stream) = stream.as_deref().filter(|name| !is_stream(name)) {
            let reason = format!("expected the name of a stream, found {stream:.40}");
            return Err(fault("stream", reason));
        }
        if found.expires_at.is_some_and(|at| at <= self.now) {
            return Err(fault("expires_at", "is over already"));
        }
        let reason = found.reason.as_deref().map(plain).filter(|reason| !reason.is_empty());
        Ok(Entry {
            address,
            stream,
            reason: reason.unwrap_or_else(|| self.reason.clone()),
            source: "import",
            expires_at: found.expires_at,
        })
    }

    fn refuse(&mut self, line: u64, fault: LineFault) {
        self.summary.refused += 1;
        if self.summary.refusals.len() < MAX_TOLD {
            let LineFault { field, reason } = fault;
            self.summary.refusals.push(Refusal { line, field, reason });
        }
    }

    /// The part goes where it belongs.
    async fn store(&mut self) -> Result<(), sqlx::Error> {
        let part = std::mem::replace(&mut self.part, Vec::with_capacity(PART));
        if part.is_empty() {
            return Ok(());
        }
        match self.mode {
            Mode::EachLine => self.summary.added += self.list.add(part).await?,
            // One bad line is enough: the rest is only looked at.
            Mode::Whole if self.summary.refused > 0 => self.abandon().await?,
            Mode::Whole => self.let_wait(part).await?,
        }
        Ok(())
    }

    async fn let_wait(&mut self, part: Vec<Entry>) -> Result<(), sqlx::Error> {
        let (tenant, waiting) = (self.list.number(), self.waiting);
        let before = self.summary.lines;
        let import = self
            .list
            .run(move |conn| {
                async move {
                    sqlx::query_scalar(
                        "with number as materialized (select coalesce($2, postrider.mint_id()) as id), put as (
                           insert into postrider.suppression_import(tenant_id, import_id, n, address, stream, reason, source, expires_at)
                           select $1, (select id from number), $3 * 10000 + u.n, u.address, coalesce(u.stream, ''), u.reason, u.source, u.expires_at
                           from unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[])
                             with ordinality as u(address, stream, reason, source, expires_at, n))
                         select id from number",
                    )
                    .bind(tenant)
                    .bind(waiting)
                    .bind(i64::try_from(before).unwrap_or(i64::MAX))
                    .bind(part.iter().map(|one| one.address.as_str()).collect::<Vec<_>>())
                    .bind(part.iter().map(|one| one.stream.as_deref()).collect::<Vec<_>>())
                    .bind(part.iter().map(|one| one.reason.as_str()).collect::<Vec<_>>())
                    .bind(part.iter().map(|one| one.source).collect::<Vec<_>>())
                    .bind(part.iter().map(|one| one.expires_at).collect::<Vec<_>>())
                    .fetch_one(conn)
                    .await
                }
                .boxed()
            })
            .await?;
        self.waiting = Some(import);
        Ok(())
    }
}

/// Whether a text can be a stream's name.
pub fn is_stream(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    name.len() <= 63
        && name.bytes().all(inner)
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

/// A reason in one line, not too long.
pub fn plain(reason: &str) -> String {
    let line: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.trim().chars().take(MAX_REASON).collect()
}
