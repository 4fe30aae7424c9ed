//! Real mail servers that take everything and bounce some of it later, to a listener of ours:
//! `unknown@` has no mailbox, the mailbox of `full@` is full, what goes to `content@` is refused for
//! what it contains, and `ok@` has a mailbox. All at [`DOMAIN`].
#![allow(unreachable_pub, reason = "a test's support")]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};

use super::receivers::{
    NOBODY, Receiver, exim_folders, exim_in, free_port, new_folder, postfix, postfix_folders,
    started, tool, tools,
};

/// Whose mail they take.
pub const DOMAIN: &str = "receiver.example";

/// Where bounces go.
pub const RETURN: &str = "bounces.example.org";

/// Bytes that a full mailbox holds, and may.
const FULL: usize = 200_000;

/// Postfix; what comes back goes to `listener`. Also where its neighbour listens, which refuses what
/// mails contain.
pub fn bouncing_postfix(listener: SocketAddr) -> (Receiver, SocketAddr) {
    let (folder, address, inner) = (new_folder(), free_port(), free_port());
    let home = folder.path();
    postfix_folders(home);
    let full = home.join("box/full");
    fs::write(&full, vec![b'x'; FULL - 10]).expect("write");
    chown(&full, Some(NOBODY), Some(NOBODY)).expect("give it away");
    fs::write(
        home.join("etc/strict"),
        "/^Subject:/ REJECT 5.7.1 Message content rejected, UBE, id=00042-01\n",
    )
    .expect("write");
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
         mynetworks = 127.0.0.0/8\nalias_maps =\nlocal_recipient_maps =\nrelay_domains =\n\
         smtp_dns_support_level = disabled\nsmtp_host_lookup = native\n\
         smtpd_reject_unlisted_recipient = no\n\
         message_size_limit = {FULL}\nmailbox_size_limit = 0\nvirtual_mailbox_limit = {FULL}\n\
         virtual_mailbox_domains = {DOMAIN}\nvirtual_mailbox_base = {home}/box\n\
         virtual_mailbox_maps = inline:{{ {{ ok@{DOMAIN} = in/ }}, {{ full@{DOMAIN} = full }} }}\n\
         virtual_uid_maps = static:{NOBODY}\nvirtual_gid_maps = static:{NOBODY}\n\
         transport_maps = inline:{{ {{ {RETURN} = smtp:[127.0.0.1]:{back} }}, \
         {{ content@{DOMAIN} = smtp:[127.0.0.1]:{inner} }} }}\n",
        home = home.display(),
        tools = tools().display(),
        back = listener.port(),
        inner = inner.port(),
    );
    let services = format!(
        "{port} inet n - n - - smtpd\n{inner} inet n - n - - smtpd\n  \
         -o cleanup_service_name=strict -o myhostname=inner.test\n\
         cleanup unix n - n - 0 cleanup\n\
         strict unix n - n - 0 cleanup\n  -o header_checks=regexp:{home}/etc/strict\n\
         qmgr unix n - n 300 1 qmgr\nrewrite unix - - n - - trivial-rewrite\n\
         bounce unix - - n - 0 bounce\ndefer unix - - n - 0 bounce\ntrace unix - - n - 0 bounce\n\
         error unix - - n - - error\nretry unix - - n - - error\nvirtual unix - n n - - virtual\n\
         smtp unix - - n - - smtp\nscache unix - - n - 1 scache\n\
         tlsmgr unix - - n 1000? 1 tlsmgr\nanvil unix - - n - 1 anvil\n\
         postlog unix-dgram n - n - 1 postlogd\n",
        port = address.port(),
        inner = inner.port(),
        home = home.display(),
    );
    fs::write(home.join("etc/main.cf"), main).expect("write");
    fs::write(home.join("etc/master.cf"), services).expect("write");
    (started(postfix(home), address, folder), inner)
}

/// Exim; what comes back goes to `listener`. What goes to `content@` it hands on to `inner`, which
/// refuses it.
pub fn bouncing_exim(listener: SocketAddr, inner: SocketAddr) -> Receiver {
    let (folder, address) = (new_folder(), free_port());
    let home = folder.path();
    exim_folders(home);
    fs::create_dir(home.join("box")).expect("make it");
    chown(home.join("box"), Some(NOBODY), Some(NOBODY)).expect("give it away");
    // It calls itself to bounce a mail. A program that belongs to root and runs as such is given no
    // libraries of ours, so it is one that does not.
    let exim = home.join("exim4");
    fs::copy(tool("usr/sbin/exim4"), &exim).expect("copy");
    fs::set_permissions(&exim, fs::Permissions::from_mode(0o755)).expect("own it");
    let conf = format!(
        "exim_path = {exim}\nspool_directory = {home}/spool\nlog_file_path = {home}/log/%slog\n\
         pid_file_path = {home}/pid\nprimary_hostname = mx.test\nqualify_domain = mx.test\n\
         daemon_smtp_ports = {port}\nlocal_interfaces = 127.0.0.1\nkeep_environment = *\n\
         deliver_drop_privilege = true\nnever_users =\nacl_smtp_rcpt = rcpt\nacl_smtp_data = rcpt\n\
         begin acl\nrcpt:\n  accept\n\
         begin routers\n\
         back:\n  driver = manualroute\n  domains = {RETURN}\n  transport = back\n  route_list = * 127.0.0.1\n  self = send\n\
         inner:\n  driver = manualroute\n  local_parts = content\n  domains = {DOMAIN}\n  transport = inner\n  \
         route_list = * 127.0.0.1\n  self = send\n\
         ok:\n  driver = accept\n  domains = {DOMAIN}\n  local_parts = ok\n  transport = ok\n\
         full:\n  driver = accept\n  domains = {DOMAIN}\n  local_parts = full\n  transport = full\n\
         nobody:\n  driver = redirect\n  domains = {DOMAIN}\n  allow_fail\n  data = :fail: Unknown user\n\
         begin transports\n\
         back:\n  driver = smtp\n  port = {back}\n  hosts_avoid_tls = *\n\
         inner:\n  driver = smtp\n  port = {inner}\n  hosts_avoid_tls = *\n\
         ok:\n  driver = appendfile\n  file = {home}/box/ok\n  user = {NOBODY}\n  group = {NOBODY}\n\
         full:\n  driver = appendfile\n  file = {home}/box/full\n  user = {NOBODY}\n  group = {NOBODY}\n  quota = 100\n\
         begin retry\n* quota\n* * F,1h,15m\n",
        exim = exim.display(),
        home = home.display(),
        port = address.port(),
        back = listener.port(),
        inner = inner.port(),
    );
    fs::write(home.join("conf"), conf).expect("write");
    started(exim_in(&exim, home), address, folder)
}
