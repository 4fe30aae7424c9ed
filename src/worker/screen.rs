//! Step: must it be sent at all? The database answered with the claim, in the same
//! snapshot that took it; nothing is asked again.

use crate::domain::outcome::Outcome;
use crate::queue::job::{Bar, Job};

/// Lets a job pass, or ends it as suppressed, expired, cancelled, or as what was learned of it.
pub fn pass(job: &Job) -> Result<&Job, Outcome> {
    match &job.bar {
        None => Ok(job),
        Some(Bar::Learned(learned)) => Err(Outcome::Learned(learned.clone())),
        Some(Bar::Suppressed) => Err(Outcome::Suppressed),
        Some(Bar::Expired) => Err(Outcome::Expired),
        Some(Bar::Cancelled) => Err(Outcome::Cancelled),
    }
}
