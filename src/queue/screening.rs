//! Who of the claimed must not be written to: asked right behind the claim, in one statement for
//! all of them, by every text under which the list may name a recipient or its domain.
//!
//! The claim itself cannot know: entries may be hashes under a key that the database does not
//! have. Until this has answered, nothing of the claim is handed on; should it fail, the leases
//! are those of nobody and are given back.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::PgPool;

use super::job::{Bar, Job};
use crate::domain::ids::{LaneId, TenantId};
use crate::tenant::suppression::Keeper;

/// What is asked, by tenant.
type Questions = BTreeMap<TenantId, Forms>;

/// Forms in order, each once, and the jobs that it is about: a whole batch to one domain asks for
/// that domain once.
#[derive(Default)]
struct Forms {
    /// Of each subject, if there is a key.
    hashes: BTreeMap<String, Vec<usize>>,
    /// Of each subject.
    clear: BTreeMap<String, Vec<usize>>,
}

/// A form that a list names: whose list (`None`: everyone's), the form, and the stream that it is
/// about (empty: all).
type Named = (Option<i64>, String, String);

/// Bars the jobs whose recipient is suppressed and that nothing bars yet.
pub async fn bar_suppressed(
    pool: &PgPool,
    keeper: &Keeper,
    jobs: &mut [Job],
) -> Result<(), sqlx::Error> {
    let asked = questions(keeper, jobs);
    if asked.is_empty() {
        return Ok(());
    }
    let mut held = BTreeSet::new();
    let mut of_stream: Vec<(usize, String)> = Vec::new();
    for (tenant, form, stream) in named(pool, &asked).await? {
        let lists = asked.iter().filter(|(of, _)| tenant.is_none_or(|tenant| of.get() == tenant));
        for job in lists.flat_map(|(_, forms)| forms.jobs(&form)) {
            if stream.is_empty() {
                held.insert(*job);
            } else {
                of_stream.push((*job, stream.clone()));
            }
        }
    }
    of_stream.retain(|(job, _)| !held.contains(job));
    if !of_stream.is_empty() {
        let lanes = of_stream.iter().filter_map(|(job, _)| jobs.get(*job)).map(|job| job.lane);
        let streams = streams_of(pool, lanes.collect()).await?;
        for (n, stream) in of_stream {
            if jobs.get(n).is_some_and(|job| streams.get(&job.lane.get()) == Some(&stream)) {
                held.insert(n);
            }
        }
    }
    for n in held {
        if let Some(job) = jobs.get_mut(n) {
            job.bar = Some(Bar::Suppressed);
        }
    }
    Ok(())
}

fn questions(keeper: &Keeper, jobs: &[Job]) -> Questions {
    let mut asked = Questions::new();
    let mut domains: HashMap<&str, Vec<String>> = HashMap::new();
    for (n, job) in jobs.iter().enumerate().filter(|(_, job)| job.bar.is_none()) {
        let recipient = job.recipient.as_str();
        let domain = recipient.rsplit_once('@').map_or(recipient, |(_, domain)| domain);
        let of_domain = domains.entry(domain).or_insert_with(|| keeper.forms_of_domain(recipient));
        let of_tenant = asked.entry(job.tenant).or_default();
        of_tenant.ask(&keeper.forms_of_address(recipient), n);
        of_tenant.ask(of_domain, n);
    }
    asked
}

impl Forms {
    /// Asks for a subject: its hash, if there is one, and its form in the clear.
    fn ask(&mut self, forms: &[String], job: usize) {
        let Some((clear, hashes)) = forms.split_last() else { return };
        for form in hashes {
            note(&mut self.hashes, form, job);
        }
        note(&mut self.clear, clear, job);
    }

    fn jobs(&self, form: &str) -> &[usize] {
        self.hashes.get(form).or_else(|| self.clear.get(form)).map_or(&[], Vec::as_slice)
    }
}

fn note(asked: &mut BTreeMap<String, Vec<usize>>, form: &str, job: usize) {
    match asked.get_mut(form) {
        Some(jobs) => jobs.push(job),
        None => drop(asked.insert(form.to_owned(), vec![job])),
    }
}

async fn named(pool: &PgPool, asked: &Questions) -> Result<Vec<Named>, sqlx::Error> {
    let tenants: Vec<i64> = asked.keys().map(|tenant| tenant.get()).collect();
    let mut ends: Vec<i32> = Vec::with_capacity(asked.len());
    for of_tenant in asked.values() {
        let subjects = i32::try_from(of_tenant.clear.len()).unwrap_or(i32::MAX);
        ends.push(ends.last().copied().unwrap_or(0).saturating_add(subjects));
    }
    let hashes = asked.values().flat_map(|of_tenant| of_tenant.hashes.keys());
    let clear = asked.values().flat_map(|of_tenant| of_tenant.clear.keys());
    let forms: Vec<&str> = hashes.chain(clear).map(String::as_str).collect();
    sqlx::query_as(include_str!("sql/suppressed.sql"))
        .bind(tenants)
        .bind(ends)
        .bind(forms)
        .fetch_all(pool)
        .await
}

async fn streams_of(
    pool: &PgPool,
    lanes: BTreeSet<LaneId>,
) -> Result<HashMap<i32, String>, sqlx::Error> {
    let lanes: Vec<i32> = lanes.into_iter().map(LaneId::get).collect();
    let rows: Vec<(i32, String)> =
        sqlx::query_as(include_str!("sql/lane_streams.sql")).bind(lanes).fetch_all(pool).await?;
    Ok(rows.into_iter().collect())
}
