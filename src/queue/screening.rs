//! Who of the claimed must not be written to: asked right behind the claim, in one statement for
//! all of them, by every text under which the list may name a recipient or its domain.
//!
//! The claim itself cannot know: entries may be hashes under a key that the database does not
//! have. Until this has answered, nothing of the claim is handed on; should it fail, the leases
//! are those of nobody and are given back.

use std::collections::HashMap;

use sqlx::PgPool;

use super::job::{Bar, Job};
use crate::domain::ids::{LaneId, TenantId};
use crate::tenant::suppression::Keeper;

/// Jobs, and the places of the questions about them.
type Places = (Vec<usize>, Vec<usize>);

/// What is asked, each once: a whole batch to one domain asks for that domain once.
#[derive(Debug, Default)]
struct Questions {
    tenants: Vec<i64>,
    lanes: Vec<i32>,
    forms: Vec<String>,
    /// The job that each is about; `None`: those of a lane, to one domain.
    of: Vec<Option<usize>>,
    /// Jobs by lane and domain, and the places of their questions.
    domains: HashMap<(TenantId, LaneId, String), Places>,
}

/// Bars the jobs whose recipient is suppressed and that nothing bars yet.
pub async fn bar_suppressed(
    pool: &PgPool,
    keeper: &Keeper,
    jobs: &mut [Job],
) -> Result<(), sqlx::Error> {
    let mut asked = Questions::default();
    for (n, job) in jobs.iter().enumerate().filter(|(_, job)| job.bar.is_none()) {
        asked.about(keeper, n, job);
    }
    if asked.forms.is_empty() {
        return Ok(());
    }
    let found: Vec<i64> = sqlx::query_scalar(include_str!("sql/suppressed.sql"))
        .bind(&asked.tenants)
        .bind(&asked.lanes)
        .bind(&asked.forms)
        .fetch_all(pool)
        .await?;
    for n in found {
        // Places are from 1.
        let place = n.unsigned_abs() as usize - 1;
        for job in asked.jobs_at(place) {
            if let Some(job) = jobs.get_mut(job) {
                job.bar = Some(Bar::Suppressed);
            }
        }
    }
    Ok(())
}

impl Questions {
    fn about(&mut self, keeper: &Keeper, n: usize, job: &Job) {
        for form in keeper.forms_of_address(&job.recipient) {
            self.ask(job, form, Some(n));
        }
        let domain = job.recipient.rsplit_once('@').map_or("", |(_, domain)| domain);
        let key = (job.tenant, job.lane, domain.to_owned());
        if let Some((jobs, _)) = self.domains.get_mut(&key) {
            jobs.push(n);
            return;
        }
        let places: Vec<usize> = keeper
            .forms_of_domain(&job.recipient)
            .into_iter()
            .map(|form| self.ask(job, form, None))
            .collect();
        self.domains.insert(key, (vec![n], places));
    }

    fn ask(&mut self, job: &Job, form: String, of: Option<usize>) -> usize {
        self.tenants.push(job.tenant.get());
        self.lanes.push(job.lane.get());
        self.forms.push(form);
        self.of.push(of);
        self.of.len() - 1
    }

    fn jobs_at(&self, place: usize) -> Vec<usize> {
        match self.of.get(place) {
            Some(Some(job)) => vec![*job],
            Some(None) => self
                .domains
                .values()
                .find(|(_, places)| places.contains(&place))
                .map(|(jobs, _)| jobs.clone())
                .unwrap_or_default(),
            None => Vec::new(),
        }
    }
}
