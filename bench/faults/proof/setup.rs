//! What a case wants of its installation.

use std::path::PathBuf;
use std::time::Duration;

use super::client::Pace;
use super::receiver::Manners;
use super::replica::Harness;

/// What a case wants otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// Daemons at the start.
    pub(crate) replicas: usize,
    /// Deliveries that a daemon holds at most.
    pub(crate) concurrency: u32,
    /// Its connections to the receiver.
    pub(crate) connections: u32,
    /// Silence, in seconds, after which a daemon counts as dead.
    pub(crate) session_ttl: u32,
    /// Outcomes written together.
    pub(crate) settle_batch: u32,
    /// Submissions a second.
    pub(crate) pace: Pace,
    /// How the receiver behaves.
    pub(crate) manners: Manners,
    /// Lines for `[database]`.
    pub(crate) database: String,
    /// More of the configuration.
    pub(crate) more: String,
    /// More of the API's.
    pub(crate) api_more: String,
    /// Under what the daemons run.
    pub(crate) harness: Harness,
    /// Another disk for the tables.
    pub(crate) tablespace: Option<PathBuf>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            replicas: 2,
            concurrency: 64,
            connections: 10,
            // A busy machine must not look like a dead daemon where nothing may come twice.
            session_ttl: 6,
            settle_batch: 50,
            pace: Pace { rate: 60.0, most: 4 },
            manners: Manners { banner: Duration::ZERO, dot: Duration::from_millis(15) },
            database: String::new(),
            more: String::new(),
            api_more: String::new(),
            harness: Harness::default(),
            tablespace: None,
        }
    }
}
