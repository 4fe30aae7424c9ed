//! Room on the disks that matter: where the log goes, which is all that the daemon writes, and
//! where the database keeps what it stores.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sqlx::{PgPool, Row as _};

use super::finding::{Finding, Grade};
use crate::cell::Cell;
use crate::cli::context::Context;
use crate::config::Database;

/// Below one of these shares and sizes it is odd, then a fault.
const ODD: Floor = Floor { share: 0.15, bytes: 5 << 30 };
const FAULT: Floor = Floor { share: 0.05, bytes: 1 << 30 };

/// Where journald keeps the journal, if it does.
const JOURNALS: [&str; 2] = ["/var/log/journal", "/run/log/journal"];

/// Places on one file system that are named.
const MOST_NAMED: usize = 4;

/// What the units give the daemon to work in.
const STATE: &str = "/var/lib/postrider";

/// The least that must be free.
struct Floor {
    share: f64,
    bytes: u64,
}

/// A folder that is written to.
struct Place {
    what: String,
    path: PathBuf,
    advice: &'static str,
}

/// What a file system has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    /// Bytes that whoever is not root can use, and how many of them are free.
    bytes: u64,
    free_bytes: u64,
    /// Files that fit, and how many more; 0 and 0 where there is no limit.
    files: u64,
    free_files: u64,
}

/// Looks. A cell that does not answer is told of by the look at the database.
pub(super) async fn look(context: &Context) -> Vec<Finding> {
    let mut places = Vec::new();
    let mut findings = Vec::new();
    for cell in context.cells().await.unwrap_or_default() {
        match stores(&cell).await {
            Ok(found) => places.extend(found),
            Err(finding) => findings.push(finding),
        }
    }
    places.extend(logs());
    // A file system is told of once, with all that lies on it.
    let mut systems: BTreeMap<u64, (Room, Vec<Place>)> = BTreeMap::new();
    for place in places {
        let measured = fs::metadata(&place.path)
            .map(|metadata| metadata.dev())
            .and_then(|device| Ok((device, Room::of(&place.path)?)));
        match measured {
            Ok((device, room)) => {
                systems.entry(device).or_insert((room, Vec::new())).1.push(place);
            }
            Err(error) => findings.push(unseen(&place, &error)),
        }
    }
    findings.extend(systems.values().map(|(room, places)| told(*room, places)));
    findings
}

fn told(room: Room, places: &[Place]) -> Finding {
    let names = places.iter().take(MOST_NAMED);
    let names: Vec<String> =
        names.map(|place| format!("{} ({})", place.what, place.path.display())).collect();
    let more = match places.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let seen = format!("{}{more}: {room}", names.join(", "));
    // What grows first stands first.
    let advice = places.first().map_or("", |place| place.advice);
    match room.grade() {
        Grade::Fine => Finding::fine("disk", seen),
        Grade::Odd => Finding::odd("disk", seen, advice),
        Grade::Fault => Finding::fault("disk", seen, advice),
    }
}

fn unseen(place: &Place, error: &io::Error) -> Finding {
    let seen = format!("{} ({}) cannot be looked at: {error}", place.what, place.path.display());
    Finding::odd("disk", seen, "if it is on this machine, run this as root; else look there: df")
}

/// Where logs go: the journal, and files that running daemons have as their standard error.
/// Processes of others are looked at by root alone.
fn logs() -> Vec<Place> {
    let journal = JOURNALS.into_iter().map(Path::new).find(|path| path.is_dir());
    let state = Some(Path::new(STATE)).filter(|path| path.is_dir());
    let fixed = [("the journal", journal), ("the daemon's folder", state)];
    let mut places: Vec<Place> = fixed
        .into_iter()
        .filter_map(|(what, path)| {
            let advice = "journalctl --vacuum-size=1G and SystemMaxUse= in journald.conf, or a \
                          larger volume";
            Some(Place { what: what.into(), path: path?.into(), advice })
        })
        .collect();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path = process.path();
        if fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim_end() == "postriderd")
            && let Ok(log) = fs::read_link(path.join("fd/2"))
            && log.is_file()
        {
            places.push(Place {
                what: "the log of a daemon".into(),
                path: log,
                advice: "rotate it (logrotate with copytruncate), or log to the journal",
            });
        }
    }
    places
}

/// Where a cell's database keeps its tables and its log, if that is on this machine.
async fn stores(cell: &Cell) -> Result<Vec<Place>, Finding> {
    let name = &cell.name;
    let options = cell.pool.connect_options();
    if !Database::is_on_this_machine(&options) {
        let seen = format!(
            "cell {name}: the database is on {}; its disks are not seen from here",
            options.get_host()
        );
        return Err(Finding::fine("disk", seen));
    }
    let place = |what: &str, path: PathBuf| Place {
        what: format!("{what} of cell {name}"),
        path,
        advice: "a larger volume; or look at what grows: retention (queue.retention), slots without \
                 a reader, an archive_command that fails, an old transaction \
                 (docs/runbooks/disk-full.md)",
    };
    let folders = folders(&cell.pool).await.map_err(|error| {
        let seen = format!("cell {name}: where the database keeps its data is not told: {error}");
        let advice = "run postrider doctor once as the database's superuser (--database-url), or \
                      look yourself: df";
        Finding::odd("disk", seen, advice)
    })?;
    let mut places = Vec::new();
    for (index, folder) in folders.into_iter().enumerate() {
        // The log is often on a disk of its own. Who may not look into the folder is not told.
        if index == 0
            && let Ok(log) = fs::canonicalize(folder.join("pg_wal"))
        {
            places.push(place("the write-ahead log", log));
        }
        let what = if index == 0 { "the data" } else { "a tablespace" };
        places.push(place(what, folder));
    }
    Ok(places)
}

/// The data directory, then the tablespaces. Postgres tells the first to superusers and members of
/// `pg_read_all_settings` only, so this asks as the login, whatever role it acts as.
async fn folders(pool: &PgPool) -> Result<Vec<PathBuf>, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query("set local role none").execute(&mut *transaction).await?;
    let rows = sqlx::query(
        "select current_setting('data_directory') as folder, 0 as turn
         union all
         select distinct pg_tablespace_location(oid), 1 from pg_tablespace
         where pg_tablespace_location(oid) <> ''
         order by turn",
    )
    .fetch_all(&mut *transaction)
    .await?;
    transaction.rollback().await?;
    rows.iter().map(|row| row.try_get::<String, _>("folder").map(PathBuf::from)).collect()
}

impl Room {
    fn of(path: &Path) -> io::Result<Self> {
        let found = rustix::fs::statvfs(path)?;
        // As df has it: what is kept for root is not ours.
        let blocks = found.f_blocks.saturating_sub(found.f_bfree) + found.f_bavail;
        Ok(Self {
            bytes: blocks * found.f_frsize,
            free_bytes: found.f_bavail * found.f_frsize,
            files: found.f_files.saturating_sub(found.f_ffree) + found.f_favail,
            free_files: found.f_favail,
        })
    }

    fn grade(self) -> Grade {
        if self.is_below(&FAULT) {
            Grade::Fault
        } else if self.is_below(&ODD) {
            Grade::Odd
        } else {
            Grade::Fine
        }
    }

    fn is_below(self, floor: &Floor) -> bool {
        self.free_bytes < floor.bytes
            || share(self.free_bytes, self.bytes) < floor.share
            || share(self.free_files, self.files) < floor.share
    }
}

impl std::fmt::Display for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let percent = |share: f64| (share * 100.0).floor();
        write!(
            f,
            "{:.1} of {:.1} GiB are free ({} %)",
            gib(self.free_bytes),
            gib(self.bytes),
            percent(share(self.free_bytes, self.bytes))
        )?;
        if self.files > 0 {
            write!(f, ", and {} % of the inodes", percent(share(self.free_files, self.files)))?;
        }
        Ok(())
    }
}

/// Of what has no limit all is free.
fn share(free: u64, all: u64) -> f64 {
    if all == 0 { 1.0 } else { free as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn room(free: u64, all: u64) -> Room {
        Room { bytes: all * GIB, free_bytes: free * GIB, files: 1_000, free_files: 900 }
    }

    #[test]
    fn little_room_is_odd_and_less_a_fault() {
        assert_eq!(room(200, 1_000).grade(), Grade::Fine);
        assert_eq!(room(149, 1_000).grade(), Grade::Odd, "below 15 %");
        assert_eq!(room(4, 10).grade(), Grade::Odd, "below 5 GiB");
        assert_eq!(room(49, 1_000).grade(), Grade::Fault, "below 5 %");
        assert_eq!(room(0, 2).grade(), Grade::Fault, "below 1 GiB");
    }

    #[test]
    fn files_run_out_as_well_as_bytes_where_they_are_counted() {
        let files = |free_files, files| Room { files, free_files, ..room(200, 1_000) }.grade();
        assert_eq!(files(100, 1_000), Grade::Odd);
        assert_eq!(files(40, 1_000), Grade::Fault);
        assert_eq!(files(0, 0), Grade::Fine);
    }

    #[test]
    fn it_reads_as_df_has_it() {
        assert_eq!(
            room(55, 110).to_string(),
            "55.0 of 110.0 GiB are free (50 %), and 90 % of the inodes"
        );
        let here = Room::of(Path::new("/")).expect("there is a root");
        assert!(here.bytes > 0 && here.free_bytes <= here.bytes, "{here:?}");
    }
}
