//! Further pages on the telemetry address: features put theirs, the server shows them.
//!
//! The server begins before there is a database, so pages come later; until then, and after
//! a feature has ended, the path is not found.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use axum::response::Response;
use parking_lot::RwLock;

/// Where a reload of the configuration is asked for; from this machine only.
pub const RELOAD: &str = "/reload";

/// Makes one page.
pub type Page = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Response> + Send>> + Send + Sync>;

/// The pages of one process.
#[derive(Clone, Default)]
pub struct Pages(Arc<RwLock<BTreeMap<&'static str, Entry>>>);

/// What asking for a page means.
#[derive(Clone)]
pub(super) enum Entry {
    /// GET: it shows something.
    Shown(Page),
    /// POST, from this machine only: it does something.
    Done(Page),
}

impl Pages {
    /// Shows `page` at `path` from now on, in place of an earlier one.
    pub fn put(
        &self,
        path: &'static str,
        page: impl Fn() -> Pin<Box<dyn Future<Output = Response> + Send>> + Send + Sync + 'static,
    ) {
        self.0.write().insert(path, Entry::Shown(Arc::new(page)));
    }

    /// Does `page` when it is posted to `path` from this machine.
    pub fn put_action(
        &self,
        path: &'static str,
        page: impl Fn() -> Pin<Box<dyn Future<Output = Response> + Send>> + Send + Sync + 'static,
    ) {
        self.0.write().insert(path, Entry::Done(Arc::new(page)));
    }

    /// The page at `path`.
    pub(super) fn find(&self, path: &str) -> Option<Entry> {
        self.0.read().get(path).cloned()
    }
}
