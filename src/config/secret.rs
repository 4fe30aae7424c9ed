//! A string that never prints itself.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// A secret read from a file, a credential or the environment; wiped on drop.
#[derive(Clone)]
pub struct Secret(SecretString);

/// No key or password is longer; a wrong path (a device, a log) is not read whole.
const LONGEST: u64 = 16 << 10;

impl Secret {
    /// Takes a value out of sight.
    pub fn new(value: impl Into<String>) -> Self {
        Self(SecretString::from(value.into()))
    }

    /// Reads a file without its last line end. Gives the file's mode beside it
    /// when others than the owner can read it.
    pub(super) fn read(path: &Path) -> io::Result<(Self, Option<u32>)> {
        let meta = std::fs::metadata(path)?;
        if !meta.is_file() || meta.len() > LONGEST {
            let message = format!("expected a file of at most {LONGEST} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let text = Zeroizing::new(std::fs::read_to_string(path)?);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the file is empty"));
        }
        let mode = meta.permissions().mode() & 0o7777;
        Ok((Self::new(line), (mode & 0o077 != 0).then_some(mode)))
    }

    /// The value, for the one call that needs it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq;
        self.expose().as_bytes().ct_eq(other.expose().as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print_itself() {
        assert!(!format!("{:?}", Some(Secret::new("hunter2"))).contains("hunter2"));
    }
}
