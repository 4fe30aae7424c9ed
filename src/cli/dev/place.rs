//! Where a development run keeps its files, and which ports it takes.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::Rng;

use super::database::Database;
use super::lock::FolderLock;

/// Below the folder we were started in, so that `cargo clean` takes it away.
const FOLDER: &str = "target/dev";

/// The folder, which no other run may have.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
    _lock: FolderLock,
}

impl Place {
    pub(super) fn open() -> anyhow::Result<Self> {
        let advice = "stop it, or start this one elsewhere with another --port-base";
        let lock = FolderLock::take(Path::new(FOLDER), advice)?;
        let folder = fs::canonicalize(FOLDER).with_context(|| format!("cannot enter {FOLDER}"))?;
        let place = Self { folder, _lock: lock };
        place.keep_key()?;
        Ok(place)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

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

    /// What daemon, API and the operator's commands read.
    pub(super) fn write_config(&self, database: &Database, ports: Ports) -> anyhow::Result<()> {
        write_private(&self.config(), &settings(database.url_for_file(), ports)?)
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

/// What a development run sets besides its addresses.
const SETTINGS: &str = include_str!("../../../config/dev.toml");

const HEAD: &str = "\
# Written by `postrider dev` at each start, from config/dev.toml: changes are lost.
# An address given by --database-url is not here: POSTRIDER__DATABASE__URL.

";

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

/// `config/dev.toml` with this run's addresses.
fn settings(database_url: Option<&str>, ports: Ports) -> anyhow::Result<String> {
    let mut settings: toml::Table = SETTINGS.parse().context("config/dev.toml")?;
    let (api, sink) = (ports.api(), ports.sink_smtp());
    set(&mut settings, "api", "listen", api.to_string());
    set(&mut settings, "api", "public_url", format!("http://{api}"));
    set(&mut settings, "telemetry", "listen", ports.daemon().to_string());
    set(&mut settings, "route", "host", sink.ip().to_string());
    set(&mut settings, "route", "port", i64::from(sink.port()));
    set(&mut settings, "secrets", "key_file", "key");
    if let Some(url) = database_url {
        set(&mut settings, "database", "url", url);
    }
    Ok(format!("{HEAD}{settings}"))
}

/// Sets a key of a section, or of the first of its entries (`[[route]]`).
fn set(settings: &mut toml::Table, section: &str, key: &str, value: impl Into<toml::Value>) {
    let found = settings.entry(section).or_insert_with(|| toml::Table::new().into());
    let table = match found {
        toml::Value::Array(entries) => entries.first_mut().and_then(toml::Value::as_table_mut),
        other => other.as_table_mut(),
    };
    if let Some(table) = table {
        table.insert(key.to_owned(), value.into());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RouteKind;
    use crate::config::load::load;

    #[test]
    fn the_written_configuration_is_one_that_the_daemon_takes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("postrider.toml");
        let url = "postgres:///postrider?host=/tmp/a&port=5432&user=postgres";
        write_private(&path, &settings(Some(url), Ports::from(9_000)).unwrap()).unwrap();
        write_private(&folder.path().join("key"), &STANDARD.encode([7; 32])).unwrap();

        let settings = load(Some(&path), std::iter::empty()).unwrap();
        assert_eq!(settings.database.url.expose(), url);
        assert_eq!(settings.api.listen.port(), 9_000);
        assert_eq!(settings.telemetry.listen.port(), 9_001);
        let [route] = &*settings.routes else { panic!("one route") };
        assert!(matches!(route.kind, RouteKind::Relay { port: 9_002, .. }), "{route:?}");
        assert!(settings.secrets.key.is_some());
    }
}
