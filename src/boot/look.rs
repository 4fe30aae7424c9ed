//! Watching the configuration's file: a change leads to the same reload as SIGHUP.
//!
//! The file is looked at, not listened to: where it lies behind symbolic links that are swapped
//! as a whole (as Kubernetes does with a ConfigMap), or is replaced by a rename, a look at what the path
//! leads to sees it all the same, also on file systems that tell nobody. A file that is being
//! written is left alone until it looks the same twice.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

/// By what a change is noticed: which file the path leads to, and when that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look(Option<[i64; 6]>);

/// What was read last.
#[derive(Debug, Clone, Default)]
pub(super) struct Read(Arc<Mutex<Option<Look>>>);

impl Look {
    /// A look at the file; one that is not there looks like nothing.
    pub(super) fn at(path: &Path) -> Self {
        let print = |meta: Metadata| {
            [
                meta.dev() as i64,
                meta.ino() as i64,
                meta.size() as i64,
                meta.mtime(),
                meta.mtime_nsec(),
                meta.ctime_nsec(),
            ]
        };
        Self(std::fs::metadata(path).ok().map(print))
    }

    /// Whether there is a file.
    const fn is_there(&self) -> bool {
        self.0.is_some()
    }
}

impl Read {
    /// The file is about to be read.
    pub(super) fn begins(&self, path: Option<&Path>) {
        *self.0.lock() = path.map(Look::at);
    }

    /// Whether the file is another one than was read, and has looked like that before, at `last`.
    pub(super) fn is_stale(&self, now: &Look, last: &Look) -> bool {
        now.is_there() && now == last && self.0.lock().as_ref() != Some(now)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_change_is_noticed_however_it_is_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        // As a ConfigMap is mounted: the file leads through a link that is swapped as a whole.
        for version in ["one", "two"] {
            fs::create_dir(at(version)).expect("a folder");
            fs::write(at(version).join("postrider.toml"), "# the same\n").expect("write");
        }
        symlink("one", at("data")).expect("link");
        symlink("data/postrider.toml", at("postrider.toml")).expect("link");
        let path = at("postrider.toml");
        let read = Read::default();
        read.begins(Some(&path));
        let stale = || {
            let look = Look::at(&path);
            read.is_stale(&look, &look)
        };
        assert!(!stale());
        symlink("two", at("data.new")).expect("link");
        fs::rename(at("data.new"), at("data")).expect("swap");
        assert!(stale());
        read.begins(Some(&path));
        assert!(!stale());
        // Replaced by a rename.
        fs::write(at("next"), "# the same\n").expect("write");
        fs::rename(at("next"), &path).expect("replace");
        assert!(stale());
        read.begins(Some(&path));
        // Written over; what is being written has not looked the same twice.
        let before = Look::at(&path);
        fs::write(&path, "# more than it was\n").expect("write");
        assert!(!read.is_stale(&Look::at(&path), &before) && stale());
        // Gone for a moment: nothing to read.
        fs::remove_file(&path).expect("remove");
        assert!(!stale());
    }
}
