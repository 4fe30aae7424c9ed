//! Values that lie in files of their own: secrets, certificates.

use std::path::{Path, PathBuf};

use super::Reader;
use crate::config::document::Value;
use crate::config::secret::Secret;

/// No bundle of certificates is longer; a wrong path is not read whole.
const LONGEST: u64 = 4 << 20;

impl Reader<'_> {
    /// A secret that the environment may hold under `key`, and that a file named by
    /// `file_key` may hold; in the configuration itself it is refused.
    pub(in crate::config) fn secret(
        &self,
        key: &'static str,
        file_key: &'static str,
    ) -> Option<Secret> {
        let file = self.text(file_key);
        if let Some(node) = self.node(key) {
            if let Value::Variable(text) = &node.value {
                return Some(Secret::new(text.as_str()));
            }
            self.fault(key, format_args!(
                "secrets do not belong in this file; write it to a file with mode 0600 and name that in {file_key}"
            ));
            return None;
        }
        self.read_secret(file_key, Path::new(&file?))
    }

    /// A secret from a credential of that name, else from a file; one that others can read earns
    /// a warning (of a credential the folder is closed, and an ACL shows as a group's bit).
    fn read_secret(&self, key: &'static str, file: &Path) -> Option<Secret> {
        let credential = self.notes.credential(file);
        let path = credential.clone().unwrap_or_else(|| self.notes.folder.join(file));
        match Secret::read(&path) {
            Ok((secret, exposed)) => {
                if let Some(mode) = exposed.filter(|_| credential.is_none()) {
                    let message = format!(
                        "{}: {} can be read by others (mode {mode:04o}); run: chmod 600 {}",
                        self.name(key),
                        file.display(),
                        file.display()
                    );
                    self.notes.warn(self.place_of(key), message);
                }
                Some(secret)
            }
            Err(error) => {
                self.fault(key, format_args!("cannot read {}: {error}", file.display()));
                None
            }
        }
    }

    /// The path of a file: a credential of that name, else relative to the configuration's folder.
    pub(in crate::config) fn file(&self, key: &'static str) -> Option<PathBuf> {
        let text = self.text(key)?;
        let file = Path::new(&text);
        Some(self.notes.credential(file).unwrap_or_else(|| self.notes.folder.join(file)))
    }

    /// The content of a file that holds no secret.
    pub(in crate::config) fn content(&self, key: &'static str) -> Option<Vec<u8>> {
        let file = self.file(key)?;
        let read = std::fs::metadata(&file).and_then(|meta| {
            if !meta.is_file() || meta.len() > LONGEST {
                let text = format!("expected a file of at most {LONGEST} bytes");
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, text));
            }
            std::fs::read(&file)
        });
        match read {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.fault(key, format_args!("cannot read {}: {error}", file.display()));
                None
            }
        }
    }
}
