//! Folders for a private Postgres: where its user may enter, and nobody else.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::binaries::ServerUser;
use super::cluster::ClusterError;

/// Longest folder of a socket: the address holds 107 bytes, and the file's name
/// `/.s.PGSQL.5432` goes into it too.
const LONGEST_SOCKET_FOLDER: usize = 90;

/// The folder itself, or one in `/var/tmp` when the server's user cannot enter it.
pub(super) fn settle_home(wanted: &Path, user: ServerUser) -> Result<PathBuf, ClusterError> {
    fs::create_dir_all(wanted).map_err(|source| ClusterError::file(wanted, source))?;
    let wanted = fs::canonicalize(wanted).map_err(|source| ClusterError::file(wanted, source))?;
    let ServerUser::Other { uid, gid } = user else { return Ok(wanted) };
    chown(&wanted, Some(uid), Some(gid)).map_err(|source| ClusterError::file(&wanted, source))?;
    let enters = Command::new("test")
        .arg("-w")
        .arg(&wanted)
        .current_dir("/")
        .uid(uid)
        .gid(gid)
        .status()
        .map_err(|source| ClusterError::file(Path::new("test"), source))?;
    if enters.success() {
        return Ok(wanted);
    }
    let moved = PathBuf::from(format!("/var/tmp/postrider-{}", short_name(&wanted)));
    own_folder(&moved, user)?;
    match symlink(&moved, wanted.join("moved")) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(ClusterError::file(&wanted.join("moved"), error))
        }
        _ => Ok(moved),
    }
}

/// Inside of `home` if the address can hold it, else a short folder in `/tmp`.
pub(super) fn socket_folder(home: &Path) -> PathBuf {
    let inside = home.join("socket");
    let fits = inside.as_os_str().len() <= LONGEST_SOCKET_FOLDER;
    // In an address, `?`, `&`, `%` and `#` would end or change the path.
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if fits && inside.to_str().is_some_and(|path| path.chars().all(plain)) {
        return inside;
    }
    PathBuf::from(format!("/tmp/postrider-{}", short_name(home)))
}

/// Makes a folder for the server's user alone, or checks that it is such a one:
/// in `/tmp`, somebody else may have been there first.
pub(super) fn own_folder(path: &Path, user: ServerUser) -> Result<(), ClusterError> {
    let failed = |source| ClusterError::file(path, source);
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {
            if let ServerUser::Other { uid, gid } = user {
                chown(path, Some(uid), Some(gid)).map_err(failed)?;
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(path).map_err(failed)?;
            // No bit of group and others.
            let closed = found.mode().trailing_zeros() >= 6;
            if found.is_dir() && found.uid() == user.uid()? && closed {
                return Ok(());
            }
            Err(ClusterError::ForeignFolder {
                path: path.to_owned(),
                owner: found.uid(),
                mode: found.mode() & 0o7777,
            })
        }
        Err(error) => Err(failed(error)),
    }
}

/// The same short name for the same path, in every run.
fn short_name(path: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_or_odd_path_gets_a_short_socket_folder() {
        let near = socket_folder(Path::new("/home/ann/postrider/target/dev"));
        assert_eq!(near, Path::new("/home/ann/postrider/target/dev/socket"));
        for odd in [format!("/home/{}", "a".repeat(100)), "/home/ann & bob/x".into()] {
            let far = socket_folder(Path::new(&odd));
            assert!(far.starts_with("/tmp") && far.as_os_str().len() < 40, "{far:?}");
            assert_eq!(far, socket_folder(Path::new(&odd)));
        }
    }

    #[test]
    fn a_folder_that_others_may_enter_is_not_used() {
        let root = tempfile::tempdir().unwrap();
        let open = root.path().join("open");
        fs::DirBuilder::new().mode(0o755).create(&open).unwrap();
        let refused = own_folder(&open, ServerUser::Ourselves);
        assert!(matches!(refused, Err(ClusterError::ForeignFolder { .. })), "{refused:?}");
        let ours = root.path().join("ours");
        own_folder(&ours, ServerUser::Ourselves).unwrap();
        own_folder(&ours, ServerUser::Ourselves).unwrap();
    }
}
