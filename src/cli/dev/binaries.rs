//! Finding the system's Postgres binaries, and the user to run them as.
//!
//! Debian puts the server's programs outside of PATH, one folder per version;
//! other systems put them on it. Nothing of an installed cluster is touched.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cluster::ClusterError;

/// Where Debian and Ubuntu keep the server's programs: `VERSION/bin` below it.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The user Debian's packages make for the server.
const SERVER_USER: &str = "postgres";

/// A folder with `initdb` and `pg_ctl`, and which major version they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    folder: PathBuf,
    major: u32,
}

impl Binaries {
    /// Looks in `given` when the caller knows better, else in Debian's folders
    /// (newest first), else on PATH.
    pub fn find(given: Option<&Path>) -> Result<Self, ClusterError> {
        let found = match given {
            Some(folder) => complete(folder),
            None => newest_of_debian(Path::new(DEBIAN)).or_else(on_path),
        };
        let folder = found.ok_or_else(|| ClusterError::NoBinaries {
            looked: given.map_or_else(
                || format!("{DEBIAN}/*/bin and PATH"),
                |folder| folder.display().to_string(),
            ),
        })?;
        let major = major_of(&folder)?;
        Ok(Self { folder, major })
    }

    /// The full path of one program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// 15, 16, …
    pub fn major(&self) -> u32 {
        self.major
    }
}

/// As whom the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerUser {
    /// As whoever we are.
    Ourselves,
    /// As this user, because Postgres refuses to run as root.
    Other {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
}

impl ServerUser {
    /// Root hands over to the user `postgres`; everyone else stays who they are.
    pub fn choose() -> Result<Self, ClusterError> {
        if our_uid()? != 0 {
            return Ok(Self::Ourselves);
        }
        let id = |flag| -> Option<u32> {
            let out = Command::new("id").args([flag, SERVER_USER]).output().ok()?;
            String::from_utf8(out.stdout).ok()?.trim().parse().ok()
        };
        match (id("-u"), id("-g")) {
            (Some(uid), Some(gid)) => Ok(Self::Other { uid, gid }),
            _ => Err(ClusterError::NoServerUser { user: SERVER_USER }),
        }
    }

    /// The id that the server's files must have.
    pub fn uid(self) -> Result<u32, ClusterError> {
        match self {
            Self::Ourselves => our_uid(),
            Self::Other { uid, .. } => Ok(uid),
        }
    }
}

fn our_uid() -> Result<u32, ClusterError> {
    // The owner of our own entry: the one way without unsafe code.
    let path = Path::new("/proc/self");
    Ok(fs::metadata(path).map_err(|source| ClusterError::file(path, source))?.uid())
}

fn newest_of_debian(root: &Path) -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(root)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, complete(&entry.path().join("bin"))?))
        })
        .collect();
    versions.sort_unstable();
    versions.pop().map(|(_, folder)| folder)
}

fn on_path() -> Option<PathBuf> {
    let out = Command::new("sh").args(["-c", "command -v initdb"]).output().ok()?;
    let found = String::from_utf8(out.stdout).ok()?;
    complete(fs::canonicalize(found.trim()).ok()?.parent()?)
}

fn complete(folder: &Path) -> Option<PathBuf> {
    ["initdb", "pg_ctl", "postgres"]
        .iter()
        .all(|name| folder.join(name).is_file())
        .then(|| folder.to_owned())
}

fn major_of(folder: &Path) -> Result<u32, ClusterError> {
    let program = folder.join("pg_ctl");
    let out = Command::new(&program)
        .arg("--version")
        .output()
        .map_err(|source| ClusterError::file(&program, source))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    parse_major(&text).ok_or_else(|| ClusterError::Program {
        program: "pg_ctl --version",
        said: text,
        log: String::new(),
    })
}

/// `pg_ctl (PostgreSQL) 15.18 (Debian …)` is 15; `17beta1` is 17.
fn parse_major(text: &str) -> Option<u32> {
    let version = text.split_once("(PostgreSQL) ")?.1;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_complete_version_is_taken_by_number_and_not_by_letters() {
        let root = tempfile::tempdir().unwrap();
        for (version, programs) in [
            ("9", vec!["initdb", "pg_ctl", "postgres"]),
            ("15", vec!["initdb", "pg_ctl", "postgres"]),
            ("17", vec!["pg_dump"]),
        ] {
            let bin = root.path().join(version).join("bin");
            fs::create_dir_all(&bin).unwrap();
            for program in programs {
                fs::write(bin.join(program), "").unwrap();
            }
        }
        assert_eq!(newest_of_debian(root.path()), Some(root.path().join("15/bin")));
    }

    #[test]
    fn a_folder_without_them_says_what_to_install() {
        let empty = tempfile::tempdir().unwrap();
        let error = Binaries::find(Some(empty.path())).unwrap_err().to_string();
        assert!(error.contains("apt-get install postgresql"), "{error}");
    }

    #[test]
    fn versions_are_read_in_every_form() {
        assert_eq!(parse_major("pg_ctl (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("pg_ctl (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_major("something else"), None);
    }
}
