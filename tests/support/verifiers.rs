//! Two verifiers of DKIM that are not ours: the crate mail-auth and Python's dkimpy, which
//! `make setup` unpacks below target/tools. Neither asks a name server.
#![allow(unreachable_pub, dead_code, reason = "each test binary uses a part of it")]

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fs;
use std::hash::Hash;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mail_auth::{
    AuthenticatedMessage, DkimResult, MessageAuthenticator, Parameters, ResolverCache, Txt,
};
use postrider::message::dkim::{Algorithm, KeyPair, Signer};
use serde::Deserialize;

use crate::support::receivers::{libraries, tool};

/// The domain of every key.
pub const DOMAIN: &str = "shop.example";

/// A key that signs, and what the DNS says of it.
pub struct Key {
    pub signer: Arc<Signer>,
    record: String,
}

/// What the DNS says of a key.
#[derive(Debug, Clone)]
pub struct Record {
    /// `SELECTOR._domainkey.DOMAIN`
    pub name: String,
    pub text: String,
}

/// What dkimpy says of a mail's signatures, the topmost first.
#[derive(Debug, Deserialize)]
pub struct Verdict {
    pub passed: Vec<bool>,
    /// Names in `h=` of each, in lower case.
    pub signed: Vec<Vec<String>>,
    /// Why one did not pass.
    pub why: String,
}

impl Key {
    pub fn new(selector: &str, algorithm: Algorithm) -> Self {
        let key = KeyPair::generate(algorithm).expect("a key");
        let record = key.public_record().expect("a record");
        Self { signer: Arc::new(Signer::new(DOMAIN, selector, key)), record }
    }

    fn published(&self) -> Record {
        let name = format!("{}._domainkey.{DOMAIN}", self.signer.selector());
        Record { name, text: self.record.clone() }
    }
}

fn published(keys: &[Key]) -> Vec<Record> {
    keys.iter().map(Key::published).collect()
}

/// Whether each signature passes, by mail-auth. (This release of it misreads bodies in the
/// relaxed form whose last lines hold only white space.)
pub fn by_mail_auth(mails: &[&[u8]], keys: &[Key]) -> Vec<Vec<bool>> {
    records_by_mail_auth(mails, &published(keys))
}

/// The same with what the DNS says.
pub fn records_by_mail_auth(mails: &[&[u8]], records: &[Record]) -> Vec<Vec<bool>> {
    let half = mails.len().div_ceil(2).max(1);
    std::thread::scope(|scope| {
        let halves: Vec<_> = mails
            .chunks(half)
            .map(|some| scope.spawn(move || all_by_mail_auth(some, records)))
            .collect();
        halves.into_iter().flat_map(|half| half.join().expect("no panic")).collect()
    })
}

fn all_by_mail_auth(mails: &[&[u8]], records: &[Record]) -> Vec<Vec<bool>> {
    let published = Published::of(records);
    let verifier = MessageAuthenticator::new_cloudflare_tls().expect("no query is sent");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let one = |mail: &&[u8]| {
        let message = AuthenticatedMessage::parse(mail).expect("a message");
        let parameters: Parameters<'_, _, Published, Nothing, Nothing, Nothing, Nothing> =
            Parameters {
                params: &message,
                cache_txt: Some(&published),
                cache_mx: None,
                cache_ptr: None,
                cache_ipv4: None,
                cache_ipv6: None,
            };
        let results = runtime.block_on(verifier.verify_dkim(parameters));
        results.iter().map(|output| output.result() == &DkimResult::Pass).collect()
    };
    mails.iter().map(one).collect()
}

const DKIMPY: &str = r"
import json, sys
import dkim
records = json.load(open(sys.argv[1]))
def ask(name, timeout=5):
    return records.get(name.decode().rstrip('.'), '').encode()
with open(sys.argv[2], 'rb') as mails:
    while head := mails.read(4):
        message = dkim.DKIM(mails.read(int.from_bytes(head, 'big')))
        number = sum(name.lower() == b'dkim-signature' for name, _ in message.headers)
        passed, signed, why = [], [], ''
        for n in range(number):
            try:
                passed.append(bool(message.verify(n, dnsfunc=ask)))
            except dkim.DKIMException as fault:
                passed.append(False)
                why = repr(fault)
            signed.append([name.decode() for name in message.include_headers])
        print(json.dumps({'passed': passed, 'signed': signed, 'why': why}))
";

/// The verdicts of dkimpy: one process for each half of the mails.
pub fn by_dkimpy(mails: &[&[u8]], keys: &[Key]) -> Vec<Verdict> {
    records_by_dkimpy(mails, &published(keys))
}

/// The same with what the DNS says.
pub fn records_by_dkimpy(mails: &[&[u8]], records: &[Record]) -> Vec<Verdict> {
    tool("usr/lib/python3/dist-packages/dkim");
    let folder = tempfile::tempdir().expect("a folder");
    let records: HashMap<&str, &str> =
        records.iter().map(|record| (&*record.name, &*record.text)).collect();
    let of_keys = folder.path().join("keys");
    fs::write(&of_keys, serde_json::to_vec(&records).expect("JSON")).expect("write");
    let half = mails.len().div_ceil(2).max(1);
    let running: Vec<_> = mails
        .chunks(half)
        .enumerate()
        .map(|(n, some)| {
            let path = folder.path().join(format!("mails{n}"));
            let framed: Vec<u8> = some
                .iter()
                .flat_map(|mail| [&(mail.len() as u32).to_be_bytes()[..], *mail].concat())
                .collect();
            fs::write(&path, framed).expect("write");
            let mut command = Command::new("python3");
            command
                .args(["-c", DKIMPY])
                .args([&of_keys, &path])
                .env("PYTHONPATH", tool("usr/lib/python3/dist-packages"))
                .env("LD_LIBRARY_PATH", libraries())
                .stdout(Stdio::piped());
            let child = command.spawn().expect("python3");
            std::thread::spawn(move || child.wait_with_output().expect("it ends"))
        })
        .collect();
    let mut verdicts = Vec::with_capacity(mails.len());
    for half in running {
        let said = half.join().expect("no panic");
        assert!(said.status.success(), "dkimpy failed");
        let text = String::from_utf8(said.stdout).expect("UTF-8");
        verdicts.extend(text.lines().map(|line| serde_json::from_str(line).expect("a verdict")));
    }
    assert_eq!(verdicts.len(), mails.len());
    verdicts
}

/// What the DNS would say.
struct Published(HashMap<Box<str>, Txt>);

impl Published {
    fn of(records: &[Record]) -> Self {
        let known = |record: &Record| {
            let text = DomainKey::parse(record.text.as_bytes()).expect("parses");
            (format!("{}.", record.name).into_boxed_str(), Txt::from(text))
        };
        Self(records.iter().map(known).collect())
    }
}

impl ResolverCache<Box<str>, Txt> for Published {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.0.get(name).cloned()
    }

    fn remove<Q>(&self, _name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _name: Box<str>, _value: Txt, _valid_until: Instant) {}
}

/// A cache of a kind of record that DKIM has no use for.
struct Nothing;

impl<K, V> ResolverCache<K, V> for Nothing {
    fn get<Q>(&self, _name: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn remove<Q>(&self, _name: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _name: K, _value: V, _valid_until: Instant) {}
}
