//! Disk, clock, descriptors, snapshots, versions and backups.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use postrider::cli::dev::binaries::ServerUser;

use super::{Ran, Run, end};
use crate::proof::auditor::Duplicates;
use crate::proof::process;
use crate::proof::receiver::Manners;
use crate::proof::replica::Harness;
use crate::proof::stage::{Setup, Stage};

/// Deliveries that must have gone before a fault.
const WARM: usize = 50;

/// Case 7: the disk that holds the tables is full. The API refuses, daemons stop, and when
/// there is room again everything goes on by itself.
pub(super) async fn disk_full(run: Run<'_>) -> anyhow::Result<Ran> {
    let Some(disk) = Disk::mount(run)? else {
        return Ok(Ran::NotRun("needs root, to mount a small disk".into()));
    };
    let setup = Setup { tablespace: Some(disk.path.clone()), ..Setup::default() };
    let mut stage = Stage::open(run.template, setup, run.seed).await?;
    let load = stage.load("m");
    stage.receives(WARM).await?;
    fill_and_free(&mut stage, &disk).await?;
    let ran = end(stage, load, Duplicates::Never).await;
    drop(disk);
    ran
}

async fn fill_and_free(stage: &mut Stage, disk: &Disk) -> anyhow::Result<()> {
    let since = stage.now().await?;
    disk.fill()?;
    stage.while_away(5_000, 7_000).await;
    if !stage.server.log().contains("No space left on device") {
        stage.violations.push("the disk never was full: nothing was proven".into());
    }
    disk.free()?;
    stage.recovery(since).await
}

/// Case 42: a full disk, and then a jump of one replica's clock.
pub(super) async fn full_then_jump(run: Run<'_>) -> anyhow::Result<Ran> {
    let Some(library) = faketime() else {
        return Ok(Ran::NotRun("needs libfaketime".into()));
    };
    let Some(disk) = Disk::mount(run)? else {
        return Ok(Ran::NotRun("needs root, to mount a small disk".into()));
    };
    let setup = Setup { tablespace: Some(disk.path.clone()), ..Setup::default() };
    let mut stage = Stage::open(run.template, setup, run.seed).await?;
    let clock = Clock::of(&mut stage, &library).await?;
    let load = stage.load("m");
    stage.receives(WARM).await?;
    fill_and_free(&mut stage, &disk).await?;
    for jump in [7_200, -7_200] {
        let since = stage.now().await?;
        clock.jump(jump)?;
        stage.while_away(500, 1_500).await;
        stage.recovery(since).await?;
    }
    let ran = end(stage, load, Duplicates::Never).await;
    drop(disk);
    ran
}

/// A small disk in memory. Unmounted when dropped.
struct Disk {
    path: PathBuf,
}

impl Disk {
    fn mount(run: Run<'_>) -> anyhow::Result<Option<Self>> {
        if !process::are_we_root() {
            return Ok(None);
        }
        let path = run.template.folder().join(format!("disk-{}", run.seed));
        fs::create_dir_all(&path)?;
        let options = match ServerUser::choose()? {
            ServerUser::Other { uid, gid } => format!("size=64m,mode=700,uid={uid},gid={gid}"),
            ServerUser::Ourselves => "size=64m,mode=700".to_owned(),
        };
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&path)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        Ok(mounted.then_some(Self { path }))
    }

    /// Takes all the room there is.
    fn fill(&self) -> anyhow::Result<()> {
        let mut ballast = fs::File::create(self.path.join("ballast"))?;
        let block = vec![0_u8; 64 << 10];
        while std::io::Write::write_all(&mut ballast, &block).is_ok() {}
        Ok(())
    }

    fn free(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.path.join("ballast"))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the server may not have ended yet. Nobody is left to tell of a failure.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

/// Case 13: one replica's clock is an hour and two days off, both ways. Leases go by the
/// database's clock and deadlines by a monotonic one, so nothing happens.
pub(super) async fn clock_jumps(run: Run<'_>) -> anyhow::Result<Ran> {
    let Some(library) = faketime() else {
        return Ok(Ran::NotRun("needs libfaketime".into()));
    };
    let mut stage = Stage::open(run.template, Setup::default(), run.seed).await?;
    let clock = Clock::of(&mut stage, &library).await?;
    let load = stage.load("m");
    stage.receives(WARM).await?;
    for jump in [3_600, 0, -3_600, 172_800, -172_800] {
        let since = stage.now().await?;
        clock.jump(jump)?;
        stage.while_away(500, 1_500).await;
        stage.recovery(since).await?;
    }
    let fenced: i64 = sqlx::query_scalar(
        "select count(*) from postrider.worker_session where worker = 'r1' and state = 'fenced'",
    )
    .fetch_one(&mut stage.connect().await?)
    .await?;
    if fenced > 1 {
        // One is the session of before it got its clock.
        stage.violations.push("a jump of the clock cost a session".into());
    }
    end(stage, load, Duplicates::Never).await
}

/// The clock of daemon r1.
struct Clock {
    file: PathBuf,
}

impl Clock {
    /// Starts r1 anew with a clock that can be set.
    async fn of(stage: &mut Stage, library: &Path) -> anyhow::Result<Self> {
        let file = stage.place("clock");
        let clock = Self { file };
        clock.jump(0)?;
        let variables = [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", clock.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
            ("DONT_FAKE_MONOTONIC", "1".into()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
        stage.daemon(1)?.terminate().await?;
        stage.start_daemon_under(1, &Harness { wrapper: Vec::new(), variables })?;
        stage.all_ready().await?;
        Ok(clock)
    }

    /// Sets it so many seconds off.
    fn jump(&self, seconds: i64) -> anyhow::Result<()> {
        // In one step: a half-written file would be a third time.
        let next = self.file.with_extension("next");
        fs::write(&next, format!("{seconds:+}\n"))?;
        fs::rename(next, &self.file).context("cannot set the clock")
    }
}

/// Debian's library that lies about the time, as `make setup` unpacks it or as installed.
fn faketime() -> Option<PathBuf> {
    let places = [process::tools().join("usr/lib"), PathBuf::from("/usr/lib")];
    let folders = places.into_iter().filter_map(|place| fs::read_dir(place).ok()).flatten();
    let paths = folders.flatten().map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    paths.into_iter().find(|path| path.exists())
}

/// Case 14: fewer descriptors than connections are allowed. Deliveries wait for their turn.
pub(super) async fn few_descriptors(run: Run<'_>) -> anyhow::Result<Ran> {
    let setup = Setup {
        connections: 400,
        concurrency: 600,
        manners: Manners { banner: Duration::from_millis(100), dot: Duration::from_millis(1_500) },
        harness: Harness {
            wrapper: ["prlimit", "--nofile=256:256"].map(str::to_owned).to_vec(),
            variables: Vec::new(),
        },
        ..Setup::default()
    };
    let mut stage = Stage::open(run.template, setup, run.seed).await?;
    super::replicas::fill(&stage, "ann", 3_000).await?;
    let load = stage.load("m");
    stage.receives(1_500).await?;
    if stage.receiver.most_connections() < 300 {
        stage.violations.push("too few connections to run out of anything".into());
    }
    stage.receiver.behave(Manners::default());
    let since = stage.now().await?;
    stage.recovery(since).await?;
    end(stage, load, Duplicates::Never).await
}

/// Case 15, in short: a snapshot is held while generations turn.
pub(super) async fn held_snapshot(run: Run<'_>) -> anyhow::Result<Ran> {
    let mut stage = Stage::open(run.template, Setup::default(), run.seed).await?;
    let load = stage.load("m");
    stage.receives(WARM).await?;
    let mut foreign = stage.connect().await?;
    sqlx::raw_sql("begin isolation level repeatable read; select count(*) from postrider.job")
        .execute(&mut foreign)
        .await?;
    let since = stage.now().await?;
    stage.receives(1_000).await?;
    stage.recovery(since).await?;
    drop(foreign);
    end(stage, load, Duplicates::Never).await
}

/// Case 16: the database is migrated one version further while daemons run; one of them
/// is started anew on it. Two versions further a daemon refuses to start.
pub(super) async fn next_version(run: Run<'_>) -> anyhow::Result<Ran> {
    let mut stage = Stage::open(run.template, Setup::default(), run.seed).await?;
    let load = stage.load("m");
    stage.receives(WARM).await?;
    let since = stage.now().await?;
    let migrate =
        "insert into _sqlx_migrations(version, description, success, checksum, execution_time)
                   select max(version) + 1, 'the next', true, '\\x00', 0 from _sqlx_migrations";
    let mut admin = stage.connect().await?;
    sqlx::query(migrate).execute(&mut admin).await?;
    let code = stage.daemon(0)?.terminate().await?;
    if code != Some(0) {
        stage.violations.push(format!("r0 ended with {code:?}"));
    }
    stage.start_daemon(0)?;
    stage.all_ready().await?;
    stage.recovery(since).await?;
    sqlx::query(migrate).execute(&mut admin).await?;
    stage.start_daemon(2)?;
    let code = stage.daemon(2)?.end().await?;
    if code == Some(0) {
        stage.violations.push("a daemon ran on a schema that it cannot know".into());
    }
    stage.daemons[2] = None;
    end(stage, load, Duplicates::Never).await
}
