//! Postfix on the same disk, to the same sink: a queue that is as durable as ours, for
//! comparison. It runs from its unpacked package in a folder of its own; nothing is installed.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::sink::Sink;
use crate::stand::{CONNECTIONS, free_address};
use crate::table::{Cell, Table};
use crate::{say, usage};

/// Longest time without a mail.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// Folders of a queue that its owner writes to; `maildrop` and `public` are its group's.
const FOLDERS: &[&str] = &[
    "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "maildrop",
    "private", "public", "saved", "trace",
];

/// What is asked of Postfix.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder with Postfix's unpacked package; bench/queue.sh fetches it.
    #[arg(long, default_value = "target/bench/postfix", value_name = "FOLDER")]
    postfix: PathBuf,
    /// Mails.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    mails: u64,
    /// Their size in bytes.
    #[arg(long, default_value_t = 1_024, value_name = "BYTES")]
    size: u64,
}

/// A running Postfix; killed on drop.
struct Postfix {
    package: PathBuf,
    config: PathBuf,
    master: Child,
    smtp: SocketAddr,
}

/// Measures and prints.
pub(crate) async fn run(folder: &Path, args: &Args) -> anyhow::Result<()> {
    ensure!(
        fs::metadata("/proc/self")?.uid() == 0,
        "Postfix's master starts as root only: run this as root"
    );
    let sink = Sink::start().await?;
    let postfix = Postfix::start(&args.postfix, &folder.join("postfix-run"), sink.address())?;
    let intake = postfix.inject(args)?;
    let before = usage::cpu_of_family(postfix.master.id());
    postfix.run("usr/sbin/postsuper", &["-H", "ALL"])?;
    postfix.run("usr/sbin/postqueue", &["-f"])?;
    let waiting = Instant::now();
    while sink.taken() == 0 {
        ensure!(waiting.elapsed() < STUCK_AFTER, "Postfix delivers nothing: see its log");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (began, first) = (Instant::now(), sink.taken());
    let (mut seen, mut moved) = (0, Instant::now());
    while sink.taken() < args.mails {
        if sink.taken() > seen {
            (seen, moved) = (sink.taken(), Instant::now());
        }
        ensure!(moved.elapsed() < STUCK_AFTER, "stuck at {seen} of {} mails", args.mails);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = began.elapsed();
    let cpu = usage::cpu_of_family(postfix.master.id()).saturating_sub(before);
    let mut table =
        Table::new("postfix", &["mails", "bytes", "taken in/s", "delivered/s", "Postfix us/mail"]);
    table.row(vec![
        Cell::whole(args.mails as f64),
        Cell::whole(args.size as f64),
        Cell::whole(args.mails as f64 / intake.as_secs_f64()),
        Cell::whole((args.mails - first) as f64 / took.as_secs_f64()),
        Cell::tenth(cpu.as_secs_f64() * 1e6 / args.mails as f64),
    ]);
    say(&table.to_string());
    Ok(())
}

impl Postfix {
    fn start(package: &Path, home: &Path, sink: SocketAddr) -> anyhow::Result<Self> {
        let package = package.canonicalize().with_context(|| {
            format!(
                "no unpacked Postfix in {}: apt-get download postfix, dpkg-deb -x",
                package.display()
            )
        })?;
        if home.exists() {
            fs::remove_dir_all(home)?;
        }
        let (config, queue, data) = (home.join("config"), home.join("queue"), home.join("data"));
        for folder in [&config, &queue, &data, &queue.join("pid")] {
            fs::create_dir_all(folder)?;
        }
        let smtp = free_address()?;
        fs::write(config.join("main.cf"), main_cf(&package, home, sink))?;
        fs::write(config.join("master.cf"), master_cf(smtp))?;
        for name in FOLDERS {
            fs::create_dir_all(queue.join(name))?;
            give(
                &queue.join(name),
                OWNER,
                if matches!(*name, "maildrop" | "public") { GROUP } else { "root" },
            )?;
        }
        for name in ["maildrop", "public"] {
            let mode = if name == "maildrop" { 0o1730 } else { 0o2710 };
            fs::set_permissions(queue.join(name), fs::Permissions::from_mode(mode))?;
        }
        give(&data, OWNER, "root")?;
        let log = fs::File::create(home.join("master.log"))?;
        let mut master = Command::new(package.join("usr/lib/postfix/sbin/master"));
        master.arg("-c").arg(&config);
        let master = environment(&mut master, &package, &config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start Postfix's master")?;
        let mut postfix = Self { package, config, master, smtp };
        postfix.ready(home)?;
        Ok(postfix)
    }

    fn ready(&mut self, home: &Path) -> anyhow::Result<()> {
        let began = Instant::now();
        while std::net::TcpStream::connect(self.smtp).is_err() {
            if let Some(status) = self.master.try_wait()? {
                bail!("Postfix ended ({status}): see {}", home.display());
            }
            ensure!(
                began.elapsed() < STUCK_AFTER,
                "Postfix does not listen: see {}",
                home.display()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Fills the queue, on hold; how long that took.
    fn inject(&self, args: &Args) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let (sessions, mails, size, to) = (
            CONNECTIONS.to_string(),
            args.mails.to_string(),
            args.size.to_string(),
            self.smtp.to_string(),
        );
        self.run(
            "usr/sbin/smtp-source",
            &[
                "-d",
                "-s",
                &sessions,
                "-m",
                &mails,
                "-l",
                &size,
                "-f",
                "a@bench.example",
                "-t",
                "b@far.example",
                &to,
            ],
        )?;
        Ok(began.elapsed())
    }

    fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(self.package.join(program));
        let status = environment(&mut command, &self.package, &self.config)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .with_context(|| format!("cannot start {program}"))?;
        ensure!(status.success(), "{program} failed: {status}");
        Ok(())
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // The master takes its processes with it when it is asked to end, not when it is killed.
        let pid = self.master.id().to_string();
        let _ = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status();
        let _ = self.master.wait();
    }
}

/// Users that every Debian has; Postfix insists on three different ones.
const OWNER: &str = "uucp";
const GROUP: &str = "nogroup";

fn environment<'a>(command: &'a mut Command, package: &Path, config: &Path) -> &'a mut Command {
    command.env("LD_LIBRARY_PATH", package.join("usr/lib/postfix")).env("MAIL_CONFIG", config)
}

fn give(path: &Path, user: &str, group: &str) -> anyhow::Result<()> {
    let status = Command::new("chown").arg(format!("{user}:{group}")).arg(path).status()?;
    ensure!(status.success(), "chown {} failed", path.display());
    Ok(())
}

fn main_cf(package: &Path, home: &Path, sink: SocketAddr) -> String {
    let (package, home, port) = (package.display(), home.display(), sink.port());
    format!(
        "compatibility_level = 3.6\n\
         queue_directory = {home}/queue\ndata_directory = {home}/data\n\
         daemon_directory = {package}/usr/lib/postfix/sbin\n\
         command_directory = {package}/usr/sbin\n\
         shlib_directory = {package}/usr/lib/postfix\n\
         meta_directory = {package}/etc/postfix\n\
         mail_owner = {OWNER}\nsetgid_group = {GROUP}\ndefault_privs = daemon\n\
         maillog_file = {home}/mail.log\nmaillog_file_prefixes = {home}\n\
         import_environment = MAIL_CONFIG LD_LIBRARY_PATH\n\
         export_environment = MAIL_CONFIG LD_LIBRARY_PATH\n\
         inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmynetworks = 127.0.0.0/8\n\
         myhostname = mail.bench.example\nmydestination =\nalias_maps =\nalias_database =\n\
         relayhost = [127.0.0.1]:{port}\nsmtp_dns_support_level = disabled\n\
         smtp_tls_security_level = none\nsmtpd_data_restrictions = check_client_access static:HOLD\n\
         smtpd_relay_restrictions = permit_mynetworks, reject\n\
         default_process_limit = 200\nqmgr_message_active_limit = 50000\n\
         qmgr_message_recipient_limit = 50000\n\
         initial_destination_concurrency = {CONNECTIONS}\n\
         default_destination_concurrency_limit = {CONNECTIONS}\n\
         smtpd_client_connection_count_limit = 0\nsmtpd_client_connection_rate_limit = 0\n"
    )
}

fn master_cf(smtp: SocketAddr) -> String {
    format!(
        "{smtp} inet n - n - - smtpd\n\
         pickup unix n - n 60 1 pickup\ncleanup unix n - n - 0 cleanup\nqmgr unix n - n 300 1 qmgr\n\
         rewrite unix - - n - - trivial-rewrite\nbounce unix - - n - 0 bounce\n\
         defer unix - - n - 0 bounce\ntrace unix - - n - 0 bounce\nverify unix - - n - 1 verify\n\
         flush unix n - n 1000? 0 flush\nproxymap unix - - n - - proxymap\n\
         smtp unix - - n - - smtp\nrelay unix - - n - - smtp\nshowq unix n - n - - showq\n\
         error unix - - n - - error\nretry unix - - n - - error\nanvil unix - - n - 1 anvil\n\
         scache unix - - n - 1 scache\npostlog unix-dgram n - n - 1 postlogd\n"
    )
}
