//! What reading a configuration brings up: faults, warnings, and who asked for what.

use std::cell::RefCell;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use super::asked::Asked;
use super::fault::{Fault, Place};

/// What all readers of one document write to.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) faults: RefCell<Vec<Fault>>,
    pub(super) warnings: RefCell<Vec<Fault>>,
    /// Paths of secrets are relative to the configuration's folder.
    pub(super) folder: PathBuf,
    /// Where the service manager put the credentials it loaded, if it did.
    pub(super) credentials: Option<PathBuf>,
    /// Everything that is asked for, where somebody wants to know.
    pub(super) asked: Option<RefCell<Vec<Asked>>>,
}

impl Notes {
    pub(super) fn fault(&self, place: Place, message: String) {
        self.faults.borrow_mut().push(Fault { place, message });
    }

    pub(super) fn warn(&self, place: Place, message: String) {
        self.warnings.borrow_mut().push(Fault { place, message });
    }

    /// The default of the key that was asked for last.
    pub(super) fn default_is(&self, default: impl Display) {
        if let Some(asked) = &self.asked
            && let Some(last) = asked.borrow_mut().last_mut()
        {
            last.default = Some(default.to_string());
        }
    }

    /// The credential of this name, if `file` is a bare name and there is one.
    pub(super) fn credential(&self, file: &Path) -> Option<PathBuf> {
        let bare = file.file_name() == Some(file.as_os_str());
        let found = self.credentials.as_ref().filter(|_| bare)?.join(file);
        found.exists().then_some(found)
    }
}
