//! A folder that one run has for itself: two in one folder would stop each other's Postgres.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use anyhow::{Context, bail};

/// Held until it is dropped; the kernel drops it with the process. `scripts/stop.sh` looks at it.
#[derive(Debug)]
pub struct FolderLock(#[expect(dead_code, reason = "open files hold locks")] File);

impl FolderLock {
    /// Makes the folder where it is missing. Fails when another run has it; `advice` says what
    /// to do then.
    pub fn take(folder: &Path, advice: &str) -> anyhow::Result<Self> {
        let shown = folder.display();
        fs::create_dir_all(folder).with_context(|| format!("cannot make {shown}"))?;
        let lock = File::create(folder.join("lock")).context("cannot make the lock file")?;
        match lock.try_lock() {
            Ok(()) => Ok(Self(lock)),
            Err(TryLockError::WouldBlock) => bail!("another run has {shown}: {advice}"),
            Err(TryLockError::Error(error)) => Err(error).context("cannot lock"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_run_s_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let held = FolderLock::take(folder.path(), "wait").unwrap();
        let refused = FolderLock::take(folder.path(), "wait").unwrap_err();
        assert!(refused.to_string().ends_with(": wait"), "{refused}");
        drop(held);
        FolderLock::take(folder.path(), "wait").unwrap();
    }
}
