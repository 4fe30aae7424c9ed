//! Real receivers: Postfix, Exim and aiosmtpd, from the distribution's packages as
//! `make setup` unpacks them below target/tools. Nothing of the system is touched; the two
//! MTAs want root, and are not run without.
#![allow(unreachable_pub, dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// Nobody's number, to whom mailboxes belong.
pub const NOBODY: u32 = 65_534;

/// A receiver; it and its children end with this value.
pub struct Receiver {
    pub address: SocketAddr,
    /// Everything of it.
    pub folder: TempDir,
    child: Child,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Its children are in its process group.
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-TERM", "--", &group]).status();
        let _ = self.child.wait();
    }
}

/// Whether this process may run a mail system.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

pub fn tools() -> PathBuf {
    let target = env!("CARGO_TARGET_TMPDIR");
    Path::new(target).parent().expect("target").join("tools")
}

/// What was unpacked at a path.
pub fn tool(path: &str) -> PathBuf {
    let tool = tools().join(path);
    assert!(tool.exists(), "{} is not there: make setup", tool.display());
    tool
}

/// Where the unpacked libraries are.
pub fn libraries() -> PathBuf {
    let libraries = tools().join("usr/lib");
    let folders = fs::read_dir(&libraries).expect("make setup").flatten().map(|entry| entry.path());
    let mut multiarch = folders.filter(|path| path.to_string_lossy().ends_with("-linux-gnu"));
    multiarch.next().expect("libraries: make setup")
}

pub fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    listener.local_addr().expect("it is bound")
}

fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["mx.test".to_owned()]).expect("a name");
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    fs::write(&cert, made.cert.pem()).expect("write");
    fs::write(&key, made.signing_key.serialize_pem()).expect("write");
    for file in [&cert, &key] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).expect("own it");
    }
    (cert, key)
}

pub fn new_folder() -> TempDir {
    let folder = TempDir::new().expect("make a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("own it");
    folder
}

pub fn started(mut command: Command, address: SocketAddr, folder: TempDir) -> Receiver {
    let log = fs::File::create(folder.path().join("out")).expect("write");
    command.process_group(0).stdin(Stdio::null());
    command.stdout(log.try_clone().expect("a file")).stderr(log);
    let child = command.spawn().expect("start it");
    let receiver = Receiver { address, folder, child };
    let since = Instant::now();
    while TcpStream::connect(address).is_err() {
        let said = fs::read_to_string(receiver.folder.path().join("out")).unwrap_or_default();
        assert!(since.elapsed() < PATIENCE, "it never listened: {said}");
        std::thread::sleep(Duration::from_millis(20));
    }
    receiver
}

impl Receiver {
    /// Postfix with its own smtpd, queue and virtual mailboxes.
    pub fn postfix(pipelining: bool) -> Self {
        let (folder, address) = (new_folder(), free_port());
        let home = folder.path();
        let (cert, key) = certificate(home);
        postfix_folders(home);
        let hide = if pipelining { "" } else { "pipelining, chunking" };
        let main = format!(
            "compatibility_level = 3.6\n\
             queue_directory = {home}/queue\ndata_directory = {home}/data\n\
             command_directory = {tools}/usr/sbin\ndaemon_directory = {tools}/usr/lib/postfix/sbin\n\
             shlib_directory = {tools}/usr/lib/postfix\nmeta_directory = {home}/etc\n\
             mail_owner = mail\nsetgid_group = staff\ndefault_privs = nobody\n\
             maillog_file = {home}/log/maillog\nmaillog_file_prefixes = {home}\n\
             import_environment = MAIL_CONFIG LD_LIBRARY_PATH LANG=C\n\
             export_environment = MAIL_CONFIG LD_LIBRARY_PATH\n\
             myhostname = mx.test\nmydestination =\ninet_interfaces = 127.0.0.1\n\
             local_header_rewrite_clients =\nmynetworks = 127.0.0.0/8\nalias_maps =\nlocal_recipient_maps =\nrelay_domains =\n\
             smtpd_tls_cert_file = {cert}\nsmtpd_tls_key_file = {key}\n\
             smtpd_tls_security_level = may\nsmtputf8_enable = yes\n\
             smtpd_discard_ehlo_keywords = {hide}\n\
             smtpd_client_connection_count_limit = 0\n\
             message_size_limit = 100000000\nmailbox_size_limit = 0\nvirtual_mailbox_limit = 0\n\
             virtual_transport = virtual\nvirtual_mailbox_domains = static:all\n\
             virtual_mailbox_base = {home}/box\nvirtual_mailbox_maps = static:in/\n\
             virtual_uid_maps = static:{NOBODY}\nvirtual_gid_maps = static:{NOBODY}\n",
            home = home.display(),
            tools = tools().display(),
            cert = cert.display(),
            key = key.display(),
        );
        let services = format!(
            "{port} inet n - n - - smtpd\ncleanup unix n - n - 0 cleanup\n\
             qmgr unix n - n 300 1 qmgr\nrewrite unix - - n - - trivial-rewrite\n\
             bounce unix - - n - 0 bounce\ndefer unix - - n - 0 bounce\n\
             error unix - - n - - error\nvirtual unix - n n - - virtual\n\
             tlsmgr unix - - n 1000? 1 tlsmgr\nanvil unix - - n - 1 anvil\n\
             postlog unix-dgram n - n - 1 postlogd\n",
            port = address.port(),
        );
        fs::write(home.join("etc/main.cf"), main).expect("write");
        fs::write(home.join("etc/master.cf"), services).expect("write");
        started(postfix(home), address, folder)
    }

    /// Exim; it takes everything, writes down how large it was, and drops it.
    pub fn exim() -> Self {
        let exim = tool("usr/sbin/exim4");
        let (folder, address) = (new_folder(), free_port());
        let home = folder.path();
        let (cert, key) = certificate(home);
        exim_folders(home);
        let conf = format!(
            "exim_path = {exim}\nspool_directory = {home}/spool\nlog_file_path = {home}/log/%slog\n\
             pid_file_path = {home}/pid\nprimary_hostname = mx.test\n\
             daemon_smtp_ports = {port}\nlocal_interfaces = 127.0.0.1\nkeep_environment = *\n\
             tls_advertise_hosts = *\ntls_certificate = {cert}\ntls_privatekey = {key}\n\
             smtputf8_advertise_hosts = *\nchunking_advertise_hosts = *\n\
             message_size_limit = 100M\nsmtp_accept_max = 100\nsmtp_accept_max_per_connection = 1000\n\
             never_users =\nacl_smtp_rcpt = rcpt\nacl_smtp_data = data\nbegin acl\nrcpt:\n  accept\n\
             data:\n  warn logwrite = took body=$message_body_size lines=$body_linecount tls=$tls_in_cipher\n  discard\n",
            exim = exim.display(),
            home = home.display(),
            port = address.port(),
            cert = cert.display(),
            key = key.display(),
        );
        fs::write(home.join("conf"), conf).expect("write");
        started(exim_in(&exim, home), address, folder)
    }

    /// aiosmtpd, which offers no PIPELINING; every mail becomes a file in `box`.
    pub fn aiosmtpd() -> Self {
        const SCRIPT: &str = r"
import asyncio, os, ssl, sys
from aiosmtpd.smtp import SMTP
home, port = sys.argv[1], int(sys.argv[2])
class Keep:
    taken = 0
    async def handle_DATA(self, server, session, envelope):
        Keep.taken += 1
        path = os.path.join(home, 'box', str(Keep.taken))
        with open(path + '.part', 'wb') as file:
            file.write(envelope.original_content)
        os.rename(path + '.part', path)
        return '250 2.0.0 taken'
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(home + '/cert.pem', home + '/key.pem')
def session():
    return SMTP(Keep(), enable_SMTPUTF8=True, data_size_limit=100_000_000, tls_context=context, hostname='mx.test')
async def main():
    server = await asyncio.get_running_loop().create_server(session, '127.0.0.1', port)
    await server.serve_forever()
asyncio.run(main())
";
        let packages = tool("usr/lib/python3/dist-packages");
        tool("usr/lib/python3/dist-packages/aiosmtpd");
        let (folder, address) = (new_folder(), free_port());
        certificate(folder.path());
        fs::create_dir(folder.path().join("box")).expect("make it");
        let mut command = Command::new("python3");
        command
            .args(["-c", SCRIPT, &folder.path().to_string_lossy(), &address.port().to_string()])
            .env("PYTHONPATH", packages);
        started(command, address, folder)
    }

    /// Files of a mailbox, once there are so many of them.
    pub async fn files(&self, mailbox: &str, number: usize) -> Vec<Vec<u8>> {
        let path = self.folder.path().join(mailbox);
        let list = || -> Vec<PathBuf> {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            entries
                .map(|e| e.path())
                .filter(|p| p.extension().is_none_or(|e| e != "part"))
                .collect()
        };
        let since = Instant::now();
        while list().len() < number {
            assert!(since.elapsed() < PATIENCE, "{} of {number} mails arrived", list().len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        list().iter().map(|path| fs::read(path).expect("read")).collect()
    }

    /// Lines of a log with this text, once there are so many of them.
    pub async fn lines(&self, log: &str, text: &str, number: usize) -> Vec<String> {
        let path = self.folder.path().join(log);
        let since = Instant::now();
        loop {
            let log = fs::read_to_string(&path).unwrap_or_default();
            let found: Vec<String> =
                log.lines().filter(|line| line.contains(text)).map(ToOwned::to_owned).collect();
            if found.len() >= number {
                return found;
            }
            assert!(since.elapsed() < PATIENCE, "{} of {number} lines: {log}", found.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub fn passwd_number(name: &str) -> u32 {
    let users = fs::read_to_string("/etc/passwd").expect("read");
    let line = users.lines().find(|line| line.split(':').next() == Some(name)).expect("a user");
    line.split(':').nth(2).and_then(|number| number.parse().ok()).expect("a number")
}

/// Makes the folders of a Postfix that lives in `home`.
pub fn postfix_folders(home: &Path) {
    let mail = passwd_number("mail");
    for name in ["etc", "data", "log", "queue"] {
        fs::create_dir(home.join(name)).expect("make it");
    }
    for name in ["active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming"]
        .iter()
        .chain(&["maildrop", "pid", "private", "public", "saved", "trace"])
    {
        let path = home.join("queue").join(name);
        fs::create_dir(&path).expect("make it");
        if *name != "pid" {
            chown(&path, Some(mail), None).expect("give it away");
        }
    }
    fs::create_dir(home.join("box")).expect("make it");
    for (path, owner) in [("data", mail), ("log", mail), ("box", NOBODY)] {
        chown(home.join(path), Some(owner), Some(owner)).expect("give it away");
    }
}

/// The command of a Postfix whose configuration is in `home`.
pub fn postfix(home: &Path) -> Command {
    let mut command = Command::new(tool("usr/lib/postfix/sbin/master"));
    command
        .args(["-c", &home.join("etc").to_string_lossy(), "-d"])
        .env("MAIL_CONFIG", home.join("etc"))
        .env("LD_LIBRARY_PATH", tools().join("usr/lib/postfix"));
    command
}

/// Makes the folders of an Exim that lives in `home`.
pub fn exim_folders(home: &Path) {
    for name in ["spool", "log"] {
        fs::create_dir(home.join(name)).expect("make it");
        chown(home.join(name), Some(NOBODY), Some(NOBODY)).expect("give it away");
    }
    // It looks for its user by name; the system has none, and gets none.
    let line = format!("Debian-exim:x:{NOBODY}:{NOBODY}::/:/bin/false\n");
    let users = fs::read_to_string("/etc/passwd").expect("read") + &line;
    let groups = fs::read_to_string("/etc/group").expect("read") + "Debian-exim:x:65534:\n";
    fs::write(home.join("passwd"), users).expect("write");
    fs::write(home.join("group"), groups).expect("write");
}

/// The command of an Exim, by this program, whose configuration is in `home`.
pub fn exim_in(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args(["-C", &home.join("conf").to_string_lossy(), "-bdf"])
        .env("LD_LIBRARY_PATH", libraries())
        .env("LD_PRELOAD", libraries().join("libnss_wrapper.so"))
        .env("NSS_WRAPPER_PASSWD", home.join("passwd"))
        .env("NSS_WRAPPER_GROUP", home.join("group"));
    command
}
