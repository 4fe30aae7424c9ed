//! Where a development run keeps its files, and which ports it takes.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::Rng;

use super::database::Database;

/// Below the folder we were started in, so that `cargo clean` takes it away.
const FOLDER: &str = "target/dev";

/// The folder, locked: two runs in one folder would stop each other's Postgres.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
    _lock: File,
}

impl Place {
    pub(super) fn open() -> anyhow::Result<Self> {
        fs::create_dir_all(FOLDER).with_context(|| format!("cannot make {FOLDER}"))?;
        let folder = fs::canonicalize(FOLDER).with_context(|| format!("cannot enter {FOLDER}"))?;
        let lock = File::create(folder.join("lock")).context("cannot make the lock file")?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "another `postrider dev` runs in {}: stop it, or start this one elsewhere with \
                 another --port-base",
                folder.display()
            ),
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock"),
        }
        let place = Self { folder, _lock: lock };
        place.keep_key()?;
        Ok(place)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The configuration that daemon, API and the operator's commands read.
    pub(super) fn config(&self) -> PathBuf {
        self.path("postrider.toml")
    }

    pub(super) fn key_file(&self) -> PathBuf {
        self.path("key")
    }

    /// The key that seals private keys. Kept from run to run, for a database that is kept.
    fn keep_key(&self) -> anyhow::Result<()> {
        let path = self.key_file();
        if path.exists() {
            return Ok(());
        }
        let mut key = [0_u8; 32];
        rand::rng().fill_bytes(&mut key);
        write_private(&path, &STANDARD.encode(key))
    }

    pub(super) fn write_config(&self, database: &Database, ports: Ports) -> anyhow::Result<()> {
        let mut text = String::from(HEAD);
        // Writing to a String cannot fail.
        let _ = match database.url_for_file() {
            Some(url) => writeln!(text, "url = {}", toml::Value::from(url)),
            None => writeln!(text, "# From --database-url: POSTRIDER__DATABASE__URL."),
        };
        let _ = write!(
            text,
            "\n[api]\nlisten = \"{api}\"\npublic_url = \"http://{api}\"\n\
             \n[telemetry]\nlisten = \"{daemon}\"\n\
             \n[[route]]\nname = \"sink\"\nkind = \"relay\"\nhost = \"{host}\"\nport = {port}\n\
             tls = \"none\"\n",
            api = ports.api(),
            daemon = ports.daemon(),
            host = ports.sink_smtp().ip(),
            port = ports.sink_smtp().port(),
        );
        text.push_str(BODY);
        write_private(&self.config(), &text)
    }

    /// Where to go from here.
    pub(super) fn signposts(&self, ports: Ports, key: &str) -> String {
        let program = std::env::current_exe()
            .map_or_else(|_| "postrider".into(), |path| path.display().to_string());
        let (config, dns) = (self.config(), self.path("dns.txt"));
        format!(
            "\n\
             API       http://{api}/v1/messages\n\
             mailbox   http://{sink}/  (the last mails; /stats, /mails, /mails/1)\n\
             metrics   http://{daemon}/metrics\n\
             logs      {logs}/*.log\n\
             DKIM      {dns}  (the records to publish)\n\
             \n\
             Send one more:\n\
             \n\
             curl -s http://{api}/v1/messages -H 'Authorization: Bearer {key}' \\\n  \
             -H 'Content-Type: application/json' \\\n  \
             -d '{{\"from\":\"hello@demo.example\",\"subject\":\"Hi {{{{ name }}}}\",\
             \"text\":\"Hello {{{{ name }}}}!\",\"recipients\":[{{\"to\":\"you@example.org\",\
             \"vars\":{{\"name\":\"You\"}}}}]}}'\n\
             \n\
             Look into it:\n\
             \n\
             {program} --config {config} audit\n\
             \n\
             Ctrl-C stops everything.",
            api = ports.api(),
            sink = ports.sink_http(),
            daemon = ports.daemon(),
            logs = self.folder.display(),
            dns = dns.display(),
            config = config.display(),
        )
    }
}

const HEAD: &str = "\
# Written by `postrider dev` at each start: changes are lost.

[database]
";

/// Patience of a campaign that somebody watches: short waits, an early end, and
/// work of a killed daemon comes back within seconds.
const BODY: &str = r#"
[secrets]
key_file = "key"

[[source]]
name = "dev"
ehlo = "mail.demo.example"

[[mailbox_provider]]
name = "google"
domains = ["gmail.com", "googlemail.com"]

[[mailbox_provider]]
name = "microsoft"
domains = ["outlook.com", "hotmail.com", "live.com"]

[[mailbox_provider]]
name = "yahoo"
domains = ["yahoo.com"]

[stream.transactional]
expires_after = "60s"
[stream.transactional.retry]
first = "1s"
cap = "3s"

[stream.bulk]
expires_after = "60s"
[stream.bulk.retry]
first = "1s"
cap = "3s"

[queue]
beat_interval = "500ms"
session_ttl = "5s"
rescue_delay = "1s"

[worker]
shutdown_deadline = "5s"
"#;

/// Four ports in a row on 127.0.0.1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    base: u16,
}

impl Ports {
    pub(super) fn from(base: u16) -> Self {
        Self { base }
    }

    pub(super) fn api(self) -> SocketAddr {
        self.nth(0)
    }

    pub(super) fn daemon(self) -> SocketAddr {
        self.nth(1)
    }

    pub(super) fn sink_smtp(self) -> SocketAddr {
        self.nth(2)
    }

    pub(super) fn sink_http(self) -> SocketAddr {
        self.nth(3)
    }

    /// Better to say so now than in four logs later.
    pub(super) fn check(self) -> anyhow::Result<()> {
        for n in 0..4 {
            let address = self.nth(n);
            TcpListener::bind(address).with_context(|| {
                format!("cannot listen on {address}: choose four other ports with --port-base")
            })?;
        }
        Ok(())
    }

    fn nth(self, n: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.base + n))
    }
}

/// Writes a file that only we can read, whatever was there before.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
