//! Step: where does it go? Asks the planner, and learns which mailbox provider stands
//! behind a domain that no rule names.

use std::sync::Arc;

use quick_cache::sync::Cache;
use sqlx::PgPool;

use crate::domain::ids::MailboxProvider;
use crate::domain::outcome::Outcome;
use crate::message::letter::Letter;
use crate::queue::lane::{Lane, learn_domain};
use crate::route::choice::RouteChoice;
use crate::route::plan::RoutePlan;
use crate::route::planner::Planner;

/// Domains whose provider was told to the database by this process.
const REMEMBERED: usize = 10_000;

/// Plans routes.
#[derive(Debug)]
pub struct Planning {
    planner: Arc<Planner>,
    pool: PgPool,
    told: Cache<String, ()>,
}

impl Planning {
    /// Plans with `planner`, and tells the database at `pool` what was learned.
    pub fn new(planner: Arc<Planner>, pool: PgPool) -> Self {
        Self { planner, pool, told: Cache::new(REMEMBERED) }
    }

    /// The hops for a letter; DNS trouble ends the attempt as unreached.
    pub async fn plan(
        &self,
        choice: &RouteChoice,
        lane: &Lane,
        letter: &Letter,
    ) -> Result<RoutePlan, Outcome> {
        let domain = letter.recipient().domain();
        let plan = self
            .planner
            .plan(choice, domain, &lane.mailbox_provider)
            .await
            .map_err(Outcome::Unreached)?;
        if plan.mailbox_provider != lane.mailbox_provider
            && lane.mailbox_provider.as_str() == MailboxProvider::OTHER
        {
            self.learn(domain, &plan.mailbox_provider);
        }
        Ok(plan)
    }

    /// The next mail to this domain is put in the right lane. Best effort: a failure is
    /// made good by the next mail.
    fn learn(&self, domain: &str, provider: &MailboxProvider) {
        if self.told.get(domain).is_some() {
            return;
        }
        self.told.insert(domain.to_owned(), ());
        let (pool, domain, provider) = (self.pool.clone(), domain.to_owned(), provider.clone());
        tokio::spawn(async move {
            if let Err(error) = learn_domain(&pool, &domain, &provider).await {
                tracing::debug!(%error, "could not record a domain's mailbox provider");
            }
        });
    }
}
