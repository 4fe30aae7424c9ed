//! Whether outcomes can be written now.
//!
//! The settler says so with every batch. While it cannot, nothing new is claimed and
//! nothing claimed is begun: what would be sent could not be recorded, and a crash would
//! then double it. What was under way is finished and waits to be written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shared by who writes and who must know.
#[derive(Debug, Clone)]
pub struct Writing(Arc<AtomicBool>);

impl Default for Writing {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Writing {
    /// Whether the last batch was written.
    pub fn is_possible(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// A batch was written.
    pub fn succeeded(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// A batch could not be written and is tried again.
    pub fn failed(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
