//! File and environment → [`Settings`], or every fault at once.
//!
//! In this order, the later over the earlier: shipped defaults, the file, variables
//! named `POSTRIDER__SECTION__KEY`. The file is the one asked for, else the one in
//! `POSTRIDER_CONFIG`, else `/etc/postrider/postrider.toml` where that exists.
//!
//! Secrets come from files named in the configuration, from systemd credentials
//! (`postrider.key`, `postrider.database-password`) or from `POSTRIDER_KEY` and
//! `POSTRIDER_DATABASE_PASSWORD`; never from the configuration itself. A file named without a
//! folder is first looked for among the credentials, so that a relay's password can be one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Settings;
use super::asked::Asked;
use super::document::{Node, OVERRIDE};
use super::fault::{ConfigError, Fault, Place};
use super::notes::Notes;
use super::secret::Secret;
use super::validate::{self, Outside};

/// Where the configuration is when nobody says.
const USUAL_PATH: &str = "/etc/postrider/postrider.toml";

/// Where settings come from; kept, so that they can be read again.
pub struct Loader {
    path: Option<PathBuf>,
    environment: BTreeMap<String, String>,
}

/// What a test wants this process to fail at (`POSTRIDER_FAILPOINTS`, see `domain/failpoint.rs`).
#[allow(clippy::disallowed_methods, reason = "the one place that asks the environment")]
pub fn failpoints() -> Option<String> {
    std::env::var("POSTRIDER_FAILPOINTS").ok().filter(|orders| !orders.is_empty())
}

/// Checked settings, and what an operator should hear about them.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// What works but is likely not meant.
    pub warnings: Vec<Fault>,
}

/// Reads `path` with the variables of `environment` over it.
pub fn load(
    path: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Settings, ConfigError> {
    Loader::new(path, environment).load().map(|loaded| loaded.settings)
}

/// Every key that the sections ask for when they read this text.
pub(super) fn survey_of(text: &str) -> Result<Vec<Asked>, ConfigError> {
    let document =
        Node::parse("the shipped file", text).map_err(|faults| ConfigError { faults })?;
    let notes = Notes { asked: Some(RefCell::default()), ..Notes::default() };
    validate::settings(&document, Outside::default(), &notes);
    Ok(notes.asked.unwrap_or_default().into_inner())
}

impl Loader {
    /// Settings from a file and the given variables.
    pub fn new(path: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Self {
        let ours = |name: &str| name.starts_with("POSTRIDER_") || name == "CREDENTIALS_DIRECTORY";
        let environment: BTreeMap<_, _> = environment.filter(|(name, _)| ours(name)).collect();
        let usual = || Path::new(USUAL_PATH).exists().then(|| PathBuf::from(USUAL_PATH));
        let path = path
            .map(Path::to_path_buf)
            .or_else(|| environment.get("POSTRIDER_CONFIG").map(PathBuf::from))
            .or_else(usual);
        Self { path, environment }
    }

    /// Settings from a file and the variables of this process.
    #[allow(clippy::disallowed_methods, reason = "the one place that asks the environment")]
    pub fn from_process(path: Option<&Path>) -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self::new(path, std::env::vars_os().filter_map(text))
    }

    /// The file that is read; `None` when there is none.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Reads and checks everything anew.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let notes = self.notes();
        let settings = self.read(&notes)?;
        let mut faults = notes.faults.into_inner();
        if faults.is_empty() {
            return Ok(Loaded { settings, warnings: notes.warnings.into_inner() });
        }
        faults.sort_by(|a, b| {
            (a.place.line.is_none(), a.place.line).cmp(&(b.place.line.is_none(), b.place.line))
        });
        Err(ConfigError { faults })
    }

    /// Every key that the sections ask for, with what this configuration says of it; also of one
    /// that is at fault.
    pub fn survey(&self) -> Result<Vec<Asked>, ConfigError> {
        let notes = Notes { asked: Some(RefCell::default()), ..self.notes() };
        self.read(&notes)?;
        Ok(notes.asked.unwrap_or_default().into_inner())
    }

    fn notes(&self) -> Notes {
        let folder = self.path.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let credentials = self.environment.get("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        Notes { folder: folder.to_path_buf(), credentials, ..Notes::default() }
    }

    fn read(&self, notes: &Notes) -> Result<Settings, ConfigError> {
        let mut document = self.document().map_err(|faults| ConfigError { faults })?;
        for (name, value) in self.environment.iter().filter(|(name, _)| name.starts_with(OVERRIDE))
        {
            if let Err(fault) = document.override_with(name, value) {
                notes.faults.borrow_mut().push(fault);
            }
        }
        let outside = self.outside(notes);
        Ok(validate::settings(&document, outside, notes))
    }

    fn document(&self) -> Result<Node, Vec<Fault>> {
        let Some(path) = &self.path else { return Ok(Node::empty("defaults")) };
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            let place = Place { origin: Arc::from(&*origin), line: None };
            let message = format!(
                "cannot read the configuration: {error}; name another file with --config or POSTRIDER_CONFIG"
            );
            vec![Fault { place, message }]
        })?;
        Node::parse(&origin, &text)
    }

    fn outside(&self, notes: &Notes) -> Outside {
        let folder = self.environment.get("CREDENTIALS_DIRECTORY");
        let secret = |variable: &str, credential: &str| {
            if let Some(value) = self.environment.get(variable).filter(|value| !value.is_empty()) {
                return Some(Secret::new(value.as_str()));
            }
            let file = Path::new(folder?).join(credential);
            if !file.exists() {
                return None;
            }
            // The folder itself is closed to others; an ACL on the file shows as a group's bit.
            match Secret::read(&file) {
                Ok((secret, _)) => Some(secret),
                Err(error) => {
                    let place = Place { origin: Arc::from(&*file.to_string_lossy()), line: None };
                    notes.fault(place, format!("cannot read the credential {credential}: {error}"));
                    None
                }
            }
        };
        Outside {
            database_password: secret("POSTRIDER_DATABASE_PASSWORD", "postrider.database-password"),
            key: secret("POSTRIDER_KEY", "postrider.key"),
            suppression_key: secret("POSTRIDER_SUPPRESSION_KEY", "postrider.suppression-key"),
        }
    }
}
