//! The configuration: what is shipped is sound, what is wrong is said, a reload is safe.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use postrider::config::load::{Loader, load};
use postrider::config::reload::{ReloadOutcome, Reloader};
use postrider::config::secret::Secret;
use postrider::config::{ConfigError, Proof, Route, RouteKind, Settings, ThrottleScope};
use tempfile::TempDir;

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn no_variables() -> impl Iterator<Item = (String, String)> {
    std::iter::empty()
}

fn variables(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    let owned: Vec<_> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    owned.into_iter()
}

/// A folder with one file.
fn written(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("p.toml");
    fs::write(&path, text).expect("write");
    (folder, path)
}

/// The lines that a file is refused with, without its folder.
fn faults(text: &str) -> Vec<String> {
    let (folder, path) = written(text);
    let error: ConfigError = load(Some(&path), no_variables()).expect_err("at fault");
    let folder = format!("{}/", folder.path().display());
    error.to_string().lines().map(|line| line.replace(&folder, "")).collect()
}

fn is_fault(text: &str, expected: &str) {
    let found = faults(text);
    assert!(
        found.iter().any(|fault| fault.contains(expected)),
        "{expected:?} is not in {found:#?}"
    );
}

// --- what is shipped -----------------------------------------------------------

#[test]
fn the_shipped_file_is_sound_and_says_what_the_code_does() {
    let shipped = load(Some(&project("config/postrider.toml")), no_variables()).expect("sound");
    let default = Settings::default();
    assert_eq!(shipped.routes, default.routes);
    assert_eq!(shipped.sources.len(), 1);
    assert!(shipped.mailbox_providers.len() >= 10);
    let expected = Settings {
        mailbox_providers: shipped.mailbox_providers.clone(),
        throttles: shipped.throttles.clone(),
        sources: shipped.sources.clone(),
        ..default
    };
    assert_eq!(shipped, expected);
}

fn opens_example(line: &str) -> bool {
    line.starts_with("# [") && line.ends_with(']')
}

/// Every commented key, with its comment sign taken away, must be known and say the default.
#[test]
fn every_commented_key_shows_its_default() {
    let text = fs::read_to_string(project("config/postrider.toml")).expect("read");
    let examples = [
        "password_file",
        "address",
        "key_file",
        "sources",
        "servers",
        "api_listen",
        "cells",
        "return_path_domain",
        "smtp_listen",
        "lmtp_listen",
        "hostname",
        "tls_certificate",
        "tls_key",
        "complaint_address",
        "file",
        "ceiling",
        "proxy",
        "warm_up",
        "roots_file",
        "token_file",
        "client_certificate_file",
        "client_key_file",
        "endpoint",
        "headers_file",
    ];
    let mut in_example = false;
    let mut uncommented = String::new();
    for line in text.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        // A commented section is an example; it lasts to the next blank line or comment sign alone.
        in_example = match line {
            "" | "#" => false,
            _ => in_example || opens_example(line),
        };
        let key = bare.split_once(" = ").map(|(key, _)| key);
        let is_key = key.is_some_and(|key| {
            key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && !examples.contains(&key)
        });
        uncommented.push_str(if is_key && !in_example { bare } else { line });
        uncommented.push('\n');
    }
    assert!(uncommented.lines().any(|line| line == "claim_batch = 500"));
    let (_folder, path) = written(&uncommented);
    let spelt_out = load(Some(&path), no_variables()).expect("every key is known");
    let silent = load(Some(&project("config/postrider.toml")), no_variables()).expect("sound");
    assert_eq!(spelt_out, silent);
}

/// Files that the examples name.
const PROVIDER_KEYS: [&str; 4] = ["ses-key", "sendgrid-key", "mailgun-key", "mailgun-signing-key"];

/// The examples (relay, rule, limit, alarm) are sound too.
#[test]
fn every_commented_example_is_sound() {
    let text = fs::read_to_string(project("config/postrider.toml")).expect("read");
    let mut example = String::new();
    let mut inside = false;
    for line in text.lines() {
        inside = opens_example(line) || (inside && line.starts_with("# "));
        if inside {
            example.push_str(&line[2..]);
            example.push('\n');
        }
    }
    let base = "[[source]]\nname='default'\nehlo='mail.example.com'\n\
                [[mailbox_provider]]\nname='google'\ndomains=['gmail.com']\n";
    let (folder, path) = written(&format!("{base}{example}"));
    let passwords = ["smarthost-password", "alarm-password", "cell-b-password"];
    for secret in passwords.into_iter().chain(PROVIDER_KEYS) {
        fs::write(folder.path().join(secret), "x\n").expect("write");
    }
    fs::write(folder.path().join("private-ca.pem"), "-----BEGIN CERTIFICATE-----\n")
        .expect("write");
    let settings = load(Some(&path), no_variables()).expect("sound");
    assert!(settings.alarm.is_some() && settings.rules.len() == 2 && settings.throttles.len() == 1);
    let [home, b] = settings.all_cells().collect::<Vec<_>>()[..] else { panic!("two cells") };
    assert_eq!((&*home.cell, home.number, &*b.cell, b.number), ("main", 0, "b", 1));
    let RouteKind::Relay { auth: Some(auth), .. } = &settings.routes[0].kind else {
        panic!("a relay with a login");
    };
    assert_eq!(auth.proof, Proof::Password(Secret::new("x")));
    assert!(settings.tls_report.is_some_and(|report| report.stream == "tls-report"));
    let is_provider = |route: &&Route| matches!(route.kind, RouteKind::Provider(_));
    assert_eq!(settings.routes.iter().filter(is_provider).count(), 3);
}

#[test]
fn the_development_file_sends_to_loopback_only() {
    let settings = load(Some(&project("config/dev.toml")), no_variables()).expect("sound");
    for route in &settings.routes {
        assert!(matches!(&route.kind, RouteKind::Relay { host, .. } if host == "127.0.0.1"));
    }
}

// --- what is wrong ---------------------------------------------------------------

#[test]
fn every_fault_is_reported_with_its_line_and_the_near_key() {
    let text = "[databse]\nurl = \"postgres:///x\"\n\n[queue]\nclaim_batch = \"many\"\n\n\
                [[throttle]]\nscope = \"tenant\"\nratee = \"5/s\"\nrate = \"5/s\"\n\n\
                [smtp]\ndot_timeout = \"10 minutes\"\n";
    assert_eq!(
        faults(text),
        [
            "p.toml:1: databse: unknown key; did you mean \"database\"?",
            "p.toml:5: queue.claim_batch: expected a whole number from 1 to 10000, found \"many\"",
            "p.toml:9: throttle[0].ratee: unknown key; did you mean \"rate\"?",
            "p.toml:13: smtp.dot_timeout: expected a duration from \"1s\" to \"1h\", found \"10 minutes\"",
        ]
    );
}

#[test]
fn what_cannot_work_is_refused() {
    let source = "[[source]]\nname='a'\nehlo='mail.example.com'\n";
    let route = "[[route]]\nname='direct'\n";
    for (text, expected) in [
        ("a = \n", "not TOML"),
        ("queue = 5\n", "queue: expected a section, found 5"),
        ("[route]\nname='a'\n", "route: expected [[route]] entries, found a section"),
        ("route = []\n", "route: expected at least one [[route]]"),
        ("source = []\n", "source: expected at least one [[source]]"),
        ("[[source]]\nname='a'\n", "source[0].ehlo: missing; expected a full host name"),
        ("[[source]]\nname='a'\nehlo='localhost'\n", "source[0].ehlo: expected a full host name"),
        (
            "[[source]]\nname='a'\nehlo=\"a.b\\r\\nRSET\"\n",
            "source[0].ehlo: expected a full host name",
        ),
        (
            "[[rule]]\nroute='drect'\n",
            "expected the name of a [[route]], found \"drect\"; did you mean \"direct\"?",
        ),
        (
            "[[rule]]\nroute='direct'\n[[rule]]\ntenant='x'\nroute='direct'\n",
            "rule[1]: never reached",
        ),
        ("[[throttle]]\nrate='1/s'\n", "throttle[0].scope: missing"),
        ("[[throttle]]\nscope='tenants'\nrate='1/s'\n", "did you mean \"tenant\"?"),
        ("[[throttle]]\nscope='tenant'\n", "expected a rate, a concurrency, or both"),
        ("[[throttle]]\nscope='tenant'\nrate='0/s'\n", "throttle[0].rate: expected a rate like"),
        (
            "[[throttle]]\nscope='tenant'\nconcurrency=0\n",
            "throttle[0].concurrency: expected a whole number from 1",
        ),
        ("[[throttle]]\nscope='tenant'\nconcurrency=5\nburst=5\n", "has no meaning without a rate"),
        (
            "[[throttle]]\nscope='tenant'\nroute='direct'\nrate='1/s'\n",
            "has no meaning with scope = \"tenant\"",
        ),
        (
            "[[throttle]]\nscope='source'\nsource='b'\nrate='1/s'\n",
            "expected the name of a [[source]], found \"b\"",
        ),
        (
            "[[throttle]]\nscope='tenant'\nrate='1/s'\n[[throttle]]\nscope='tenant'\nrate='2/s'\n",
            "limits the same as throttle[0]",
        ),
        ("[[mailbox_provider]]\nname='other'\ndomains=['a.b']\n", "choose another name"),
        (
            "[[mailbox_provider]]\nname='x'\ndomains=['A.b']\n",
            "expected a domain in lower case, found \"A.b\"",
        ),
        (
            "[[mailbox_provider]]\nname='x'\nmx_suffixes=['a.b']\n",
            "expected the end of a host name",
        ),
        (
            "[[mailbox_provider]]\nname='x'\ndomains=['a.b']\n[[mailbox_provider]]\nname='y'\ndomains=['a.b']\n",
            "a.b belongs to a mailbox provider already",
        ),
        (
            "[queue]\nbeat_interval='10s'\nsession_ttl='20s'\n",
            "queue.beat_interval: must be less than half",
        ),
        ("[worker]\nshutdown_deadline='10m'\n", "worker.shutdown_deadline: must not exceed"),
        ("[api]\nlisten='127.0.0.1:9025'\n", "telemetry.listen: is the address of api.listen"),
        ("[stream.bulk]\nretry={first='2h',cap='1h'}\n", "stream.bulk.retry.cap: the longest wait"),
        ("[stream.bulk]\nretry={first='2m',jitter=1}\n", "stream.bulk.retry.jitter: unknown key"),
        ("[stream.'A B']\n", "stream.A B"),
        ("[log]\nlevel='inof'\n", "did you mean \"info\"?"),
        ("[database]\nurl='mysql://x'\n", "database.url: expected a URL like postgres://"),
        ("[alarm]\nhost='a.b'\n", "alarm.from: missing"),
    ] {
        is_fault(text, expected);
    }
    for (more, expected) in [
        (
            "[[source]]\nname='a'\nehlo='x.example.com'\n",
            "\"a\" is the name of another [[source]] already",
        ),
        (
            "[[route]]\nname='r'\nsources=['b']\n",
            "route[0].sources: expected the name of a [[source]], found \"b\"",
        ),
    ] {
        is_fault(&format!("{source}{more}"), expected);
    }
    for (more, expected) in [
        ("kind='relay'\n", "route[0].host: missing"),
        ("kind='relay'\nhost=\"a\\r\\nb\"\n", "route[0].host: expected the relay's host name"),
        (
            "kind='relay'\nhost='a.b'\nusername='u'\n",
            "expected username and password_file or token_file together",
        ),
        (
            "kind='relay'\nhost='a.b'\nusername='u'\npassword='hunter2'\n",
            "route[0].password: secrets do not belong in this file",
        ),
        ("host='a.b'\n", "route[0].host: has a meaning only with kind = \"relay\""),
        ("tls='implicit'\n", "mail exchangers do not speak TLS from the first byte"),
        ("max_connections_per_host=0\n", "expected a whole number from 1"),
    ] {
        is_fault(&format!("{route}{more}"), expected);
    }
}

#[test]
fn no_fault_shows_a_secret() {
    for text in [
        "[database]\nurl='postgres://u:hunter2@h/d'\n",
        "[database]\nurl='mysql://u:hunter2@h/d'\n",
        "[database]\npassword='hunter2'\n",
        "[secrets]\nkey='hunter2'\n",
        "[[route]]\nname='r'\nkind='relay'\nhost='a.b'\nusername='u'\npassword='hunter2'\n",
    ] {
        let found = faults(text);
        assert!(!found.is_empty() && !found.concat().contains("hunter2"), "{found:?}");
    }
    let (_folder, path) = written("");
    let error = load(Some(&path), variables(&[("POSTRIDER_KEY", "hunter2")])).expect_err("no key");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn a_missing_file_is_said_with_what_to_do() {
    let error = load(Some(Path::new("/nonexistent/p.toml")), no_variables()).expect_err("missing");
    assert!(error.to_string().starts_with("/nonexistent/p.toml: cannot read"), "{error}");
}

// --- the environment --------------------------------------------------------------

#[test]
fn variables_win_over_the_file_and_unknown_ones_are_refused() {
    let (_folder, path) = written("[api]\nlisten = \"127.0.0.1:1\"\n");
    let settings = load(
        Some(&path),
        variables(&[
            ("POSTRIDER__DATABASE__URL", "postgres://u:secret@127.0.0.1/d"),
            ("POSTRIDER__API__LISTEN", "127.0.0.1:2"),
            ("POSTRIDER__QUEUE__CLAIM_BATCH", "7"),
            ("POSTRIDER__STREAM__BULK__RETRY__FIRST", "3m"),
            ("POSTRIDER__SOURCE__0__NAME", "a"),
            ("POSTRIDER__SOURCE__0__EHLO", "mail.example.org"),
            ("POSTRIDER__DNS__SERVERS", "127.0.0.1:5353, 127.0.0.2"),
            ("POSTRIDER_OF_SOMEONE_ELSE", "x"),
            ("PATH", "/bin"),
        ]),
    )
    .expect("sound");
    assert_eq!(settings.database.url.expose(), "postgres://u:secret@127.0.0.1/d");
    assert_eq!(settings.api.listen.port(), 2);
    assert_eq!(settings.queue.claim_batch, 7);
    assert_eq!(settings.streams["bulk"].retry.first.as_secs(), 180);
    assert_eq!(settings.sources[0].ehlo, "mail.example.org");
    assert_eq!(settings.dns.servers[1].port(), 53);

    let error =
        load(Some(&path), variables(&[("POSTRIDER__API__LISTN", "x")])).expect_err("unknown");
    assert_eq!(
        error.to_string(),
        "POSTRIDER__API__LISTN: api.listn: unknown key; did you mean \"listen\"?"
    );
}

#[test]
fn secrets_come_from_files_credentials_and_their_own_variables() {
    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let (folder, path) =
        written("[database]\npassword_file = \"pw\"\n[secrets]\nkey_file = \"key\"\n");
    let (pw, key) = (folder.path().join("pw"), folder.path().join("key"));
    fs::write(&pw, "from-file\n").expect("write");
    fs::write(&key, KEY).expect("write");
    fs::set_permissions(&pw, fs::Permissions::from_mode(0o600)).expect("mode");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("mode");
    let loaded = Loader::new(Some(&path), no_variables()).load().expect("sound");
    assert_eq!(loaded.settings.database.password.expect("read").expose(), "from-file");
    assert_eq!(loaded.settings.secrets.key.expect("read").expose(), KEY);
    let exposed: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    let exposed: Vec<_> = exposed.iter().filter(|warning| warning.contains("chmod 600")).collect();
    assert!(exposed.len() == 1 && exposed[0].contains("secrets.key_file"), "{exposed:?}");

    let (_other, bare) = written("");
    let credentials = tempfile::tempdir().expect("folder");
    fs::write(credentials.path().join("postrider.key"), KEY).expect("write");
    let folder = credentials.path().to_str().expect("text");
    let settings = load(
        Some(&bare),
        variables(&[
            ("CREDENTIALS_DIRECTORY", folder),
            ("POSTRIDER_DATABASE_PASSWORD", "by-variable"),
        ]),
    )
    .expect("sound");
    assert_eq!(settings.secrets.key.expect("credential").expose(), KEY);
    assert_eq!(settings.database.password.expect("variable").expose(), "by-variable");
}

#[test]
fn a_secret_named_without_a_folder_is_a_credential_where_there_is_one() {
    let (folder, path) = written(
        "[[route]]\nname = \"out\"\nkind = \"relay\"\nhost = \"smtp.example.net\"\n\
         port = 587\ntls = \"verified\"\nusername = \"us\"\npassword_file = \"out-password\"\n",
    );
    fs::write(folder.path().join("out-password"), "beside the file").expect("write");
    let credentials = tempfile::tempdir().expect("folder");
    let password = || {
        let directory = credentials.path().to_str().expect("UTF-8");
        let given = [("CREDENTIALS_DIRECTORY", directory)];
        let settings = load(Some(&path), variables(&given)).expect("sound");
        let RouteKind::Relay { auth: Some(auth), .. } = &settings.routes[0].kind else {
            panic!("no login")
        };
        auth.proof.now().expect("read").expose().to_owned()
    };
    assert_eq!(password(), "beside the file");
    fs::write(credentials.path().join("out-password"), "handed over").expect("write");
    assert_eq!(password(), "handed over");
}

// --- limits ---

#[test]
fn a_limit_may_have_several_rates_over_longer_and_longer_units() {
    let limit = |rate: &str| format!("[[throttle]]\nscope = \"tenant\"\nrate = {rate}\n");
    let (_folder, path) = written(&limit("[\"50/s\", \"600/min\", \"3600/h\"]"));
    let rule = &load(Some(&path), no_variables()).expect("sound").throttles[0];
    assert_eq!(rule.rate, Some(50.0));
    let further: Vec<_> = rule.further.iter().map(|rate| (rate.per_second, rate.unit)).collect();
    assert_eq!(further, [(10.0, 60.0), (1.0, 3_600.0)]);
    is_fault(
        &limit("[\"600/min\", \"50/s\"]"),
        "throttle[0].rate: expected each rate over a longer",
    );
    is_fault(&limit("[\"50/s\", \"many\"]"), "throttle[0].rate: expected a rate like \"50/s\"");
    is_fault(&limit("[]"), "throttle[0].rate");
}

// --- reload -----------------------------------------------------------------------

#[test]
fn a_reload_applies_what_may_change_and_names_what_may_not() {
    let limit = |rate: &str| format!("[[throttle]]\nscope = \"tenant\"\nrate = \"{rate}\"\n");
    let (_folder, path) = written(&limit("50/s"));
    let loader = Loader::new(Some(&path), no_variables());
    let initial = loader.load().expect("sound").settings;
    let (reloader, watching) = Reloader::new(loader, initial);
    let rate = || watching.borrow().throttles[0].rate;

    assert_eq!(reloader.reload(), ReloadOutcome::Unchanged);

    fs::write(&path, limit("80/s")).expect("write");
    assert_eq!(reloader.reload(), ReloadOutcome::Applied { changed: vec!["throttle"] });
    assert_eq!(rate(), Some(80.0));
    assert_eq!(watching.borrow().throttles[0].scope, ThrottleScope::Tenant { tenant: None });

    fs::write(&path, limit("90/s").replace("rate", "ratee")).expect("write");
    let ReloadOutcome::Refused(error) = reloader.reload() else { panic!("a typo must be refused") };
    assert!(
        error.to_string().contains(":3: throttle[0].ratee: unknown key; did you mean \"rate\"?")
    );
    assert_eq!(rate(), Some(80.0));

    fs::write(&path, format!("[worker]\nconcurrency = 7\n{}", limit("90/s"))).expect("write");
    let expected = ReloadOutcome::NeedsRestart { changed: vec!["throttle"], keys: vec!["worker"] };
    assert_eq!(reloader.reload(), expected);
    assert_eq!(rate(), Some(90.0));
    assert_eq!(watching.borrow().worker.concurrency, 512);
}

#[test]
fn cells_are_told_apart_and_take_from_the_home_cell_what_they_leave_out() {
    let base = "[database]\ncell = \"a\"\npool_size = 7\n";
    let cell = |name: &str, number: u8, url: &str| {
        format!("[[cell]]\nname = \"{name}\"\nnumber = {number}\nurl = \"postgres://{url}\"\n")
    };
    let (_folder, path) = written(&format!("{base}{}", cell("b", 1, "h/b")));
    let settings = load(Some(&path), no_variables()).expect("sound");
    assert_eq!(settings.cells[0].pool_size, 7);
    let served: Vec<_> = settings.served_cells().map(|cell| &*cell.cell).collect();
    assert_eq!(served, ["a", "b"]);

    is_fault(&format!("{base}{}", cell("a", 1, "h/b")), "cell[0].name: \"a\" is that of the cell");
    is_fault(&format!("{base}{}", cell("b", 0, "h/b")), "cell[0].number: 0 is that of the cell");
    is_fault(&format!("{base}{}", cell("b", 64, "h/b")), "cell[0].number: expected a whole number");
    let two = format!("{base}{}{}", cell("b", 1, "h/b"), cell("c", 2, "h/b"));
    is_fault(&two, "cell[1].url: this database is that of the cell");
    is_fault("[[cell]]\nname = \"b\"\n", "cell[0].number: missing");
    is_fault("[[cell]]\nname = \"b\"\n", "cell[0].url: missing");
    is_fault(
        &format!("{}[worker]\ncells = [\"c\"]\n", cell("b", 1, "h/b")),
        "worker.cells: expected the name of a cell (main, b), found \"c\"",
    );
    let secret = "[[cell]]\nname = \"b\"\nnumber = 1\nurl = \"postgres://u:p@h/b\"\n";
    is_fault(secret, "cell[0].url: a password does not belong in this file");
}
