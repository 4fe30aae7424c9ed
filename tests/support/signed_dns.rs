//! The real DNS in small, on ports of the loopback: a name server that signs (Knot) and one that
//! validates and is asked (Unbound). Below `signed.test` everything is signed, below `plain.test`
//! nothing; what `forged` names are asked for has signatures that do not hold.
//!
//! `scripts/setup.sh` unpacks both from Debian's packages.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::format_collect,
    clippy::verbose_bit_mask,
    reason = "a test's support"
)]

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longest wait for a server to be up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the zones hold: lines of zone files, with names as they stand.
#[derive(Default)]
pub struct Zones {
    lines: String,
    forged: Vec<String>,
}

/// Both servers, until dropped.
pub struct SignedDns {
    /// The one to ask.
    pub address: SocketAddr,
    servers: Vec<Child>,
    _folder: TempDir,
}

impl Zones {
    /// A record of a name in either zone: `("mx.signed.test", "A 127.0.0.1")`.
    pub fn with(mut self, name: &str, record: &str) -> Self {
        let _ = writeln!(self.lines, "{name}. {record}");
        self
    }

    /// A domain with one exchanger on this machine.
    pub fn mail(self, domain: &str, host: &str) -> Self {
        self.with(domain, &format!("MX 10 {host}.")).with(host, "A 127.0.0.1")
    }

    /// Below this name (in `signed.test`) a validator finds forgeries.
    pub fn forged(mut self, name: &str) -> Self {
        self.forged.push(name.to_owned());
        self
    }

    pub fn serve(self) -> SignedDns {
        let folder = TempDir::new().expect("a folder");
        let (at, knot_port, unbound_port) = (folder.path(), free_port(), free_port());
        fs::write(at.join("knot.conf"), knot_conf(at, knot_port, &self.forged)).expect("write");
        let zone = |origin: &str, more: &str| {
            let own = |line: &&str| {
                let name = line.split(' ').next().unwrap_or_default();
                name.ends_with(&format!("{origin}."))
            };
            let lines: Vec<&str> = self.lines.lines().filter(own).collect();
            let text = format!(
                "$TTL 60\n{origin}. SOA ns.{origin}. admin.{origin}. 1 3600 600 86400 5\n\
                 {origin}. NS ns.{origin}.\nns.{origin}. A 127.0.0.1\n{}\n{more}",
                lines.join("\n")
            );
            fs::write(at.join(format!("{origin}.zone")), text).expect("write");
        };
        let delegations: String = self
            .forged
            .iter()
            // A key of somebody else.
            .map(|name| {
                format!("{name}. NS ns.signed.test.\n{name}. DS 1 13 2 {}\n", "0".repeat(64))
            })
            .collect();
        zone("signed.test", &delegations);
        zone("plain.test", "");
        for name in &self.forged {
            let text = "$TTL 60\n@ SOA ns admin 1 3600 600 86400 5\n@ NS ns.signed.test.\n";
            fs::write(at.join(format!("{name}.zone")), text).expect("write");
        }
        let mut servers = vec![start(at, "knotd", &["-c", "knot.conf"])];
        let started = Instant::now();
        let anchor = loop {
            let asked = tool(at, "keymgr").args(["-c", "knot.conf", "signed.test", "ds"]).output();
            let asked = asked.expect("run keymgr");
            let text = String::from_utf8_lossy(&asked.stdout).into_owned();
            match text.lines().next() {
                Some(line) if answers(knot_port, "signed.test") => break line.to_owned(),
                _ => wait(at, started),
            }
        };
        let conf = unbound_conf(at, knot_port, unbound_port, &anchor, &self.forged);
        fs::write(at.join("unbound.conf"), conf).expect("write");
        servers.push(start(at, "unbound", &["-d", "-c", "unbound.conf"]));
        while !answers(unbound_port, "signed.test") {
            wait(at, started);
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, unbound_port));
        SignedDns { address, servers, _folder: folder }
    }
}

impl Drop for SignedDns {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

fn knot_conf(at: &Path, port: u16, forged: &[String]) -> String {
    let at = at.display();
    let mut conf = format!(
        "server:\n    rundir: {at}\n    listen: 127.0.0.1@{port}\n\
         database:\n    storage: {at}\n\
         log:\n  - target: stderr\n    any: info\n\
         policy:\n  - id: test\n    algorithm: ecdsap256sha256\n    single-type-signing: on\n    \
         cds-cdnskey-publish: none\n\
         template:\n  - id: default\n    storage: {at}\n    file: \"%s.zone\"\n    \
         zonefile-sync: -1\n    zonefile-load: whole\n    journal-content: none\n\
         zone:\n  - domain: plain.test\n"
    );
    for zone in ["signed.test"].into_iter().chain(forged.iter().map(String::as_str)) {
        let _ =
            write!(conf, "  - domain: {zone}\n    dnssec-signing: on\n    dnssec-policy: test\n");
    }
    conf
}

fn unbound_conf(at: &Path, knot: u16, port: u16, anchor: &str, forged: &[String]) -> String {
    let mut conf = format!(
        "server:\n    directory: \"{}\"\n    chroot: \"\"\n    username: \"\"\n    pidfile: \"\"\n    \
         use-syslog: no\n    do-daemonize: no\n    interface: 127.0.0.1@{port}\n    \
         access-control: 127.0.0.0/8 allow\n    do-not-query-localhost: no\n    num-threads: 1\n    \
         module-config: \"validator iterator\"\n    local-zone: \"test.\" nodefault\n    \
         trust-anchor: \"{anchor}\"\n    domain-insecure: \"plain.test\"\n    \
         qname-minimisation: no\nremote-control:\n    control-enable: no\n",
        at.display()
    );
    for zone in ["signed.test", "plain.test"].into_iter().chain(forged.iter().map(String::as_str)) {
        let _ = write!(conf, "stub-zone:\n    name: \"{zone}\"\n    stub-addr: 127.0.0.1@{knot}\n");
    }
    conf
}

/// Whether a server has the zone: its SOA comes back without an error.
fn answers(port: u16, zone: &str) -> bool {
    let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in zone.split('.') {
        question.push(label.len() as u8);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 6, 0, 1]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a socket");
    let mut answer = [0; 512];
    socket.connect(("127.0.0.1", port)).is_ok()
        && socket.send(&question).is_ok()
        && socket.recv(&mut answer).is_ok_and(|n| n > 12 && answer[3] & 15 == 0 && answer[7] > 0)
}

fn wait(at: &Path, started: Instant) {
    let log = |name: &str| fs::read_to_string(at.join(name)).unwrap_or_default();
    assert!(
        started.elapsed() < PATIENCE,
        "the name servers do not come up:\n{}{}",
        log("knotd.log"),
        log("unbound.log")
    );
    std::thread::sleep(Duration::from_millis(50));
}

fn start(at: &Path, program: &str, arguments: &[&str]) -> Child {
    let log = fs::File::create(at.join(format!("{program}.log"))).expect("a log");
    let mut command = tool(at, program);
    command.args(arguments).stdout(Stdio::null()).stderr(log);
    command.spawn().unwrap_or_else(|error| panic!("cannot start {program}: {error}"))
}

/// A program from the unpacked packages, or an installed one.
fn tool(at: &Path, name: &str) -> Command {
    let tools = tools();
    let unpacked = tools.join("usr/sbin").join(name);
    let installed = Path::new("/usr/sbin").join(name);
    let mut command = if unpacked.exists() {
        let mut command = Command::new(&unpacked);
        let folders = ["usr/lib", "lib"].map(|lib| fs::read_dir(tools.join(lib)));
        let folders = folders.into_iter().flatten().flatten().flatten();
        let paths: Vec<PathBuf> = folders.map(|entry| entry.path()).collect();
        let paths = std::env::join_paths(paths.iter().filter(|path| path.is_dir())).expect("paths");
        command.env("LD_LIBRARY_PATH", paths);
        command
    } else {
        assert!(
            installed.exists(),
            "expected {name} (Knot, Unbound), found none: run scripts/setup.sh"
        );
        Command::new(installed)
    };
    command.current_dir(at);
    command
}

fn tools() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"));
    target.join("tools")
}

/// A port that is free for both protocols.
fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let port = tcp.local_addr().expect("it is bound").port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
