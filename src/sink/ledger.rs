//! What a sink kept and counted.
//!
//! Counting is cut off, not wrong, when the bounds are reached: `complete` in
//! the counts then turns false.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::faults::{Fault, FaultMix};
use crate::domain::clock::Clock;

/// Recipients and (recipient, Message-ID) pairs remembered: about 400 MB at the bound.
const MOST_REMEMBERED: usize = 10_000_000;

/// Domains counted by name; the rest together as `other`.
const MOST_DOMAINS: usize = 10_000;

/// Seconds counted per domain, the newest.
const MOST_SECONDS: usize = 3_600;

/// One mail as it came.
#[derive(Debug, Clone)]
pub(super) struct Received {
    /// Envelope sender, without brackets.
    pub(super) from: String,
    /// Envelope recipients, without brackets.
    pub(super) to: Vec<String>,
    /// The bytes between DATA and the dot, dots still doubled.
    pub(super) stuffed: Bytes,
    /// Whether the client was told 250.
    pub(super) acknowledged: bool,
}

/// A mail that is still kept.
#[derive(Debug, Clone, Serialize)]
pub struct KeptMail {
    /// Its number, from 1 in the order of arrival.
    pub n: u64,
    /// When it came.
    pub at: DateTime<Utc>,
    /// Envelope sender.
    pub from: String,
    /// Envelope recipients.
    pub to: Vec<String>,
    /// Whether the client was told that it was taken.
    pub acknowledged: bool,
    /// Its size on the wire.
    pub bytes: usize,
    #[serde(skip)]
    stuffed: Bytes,
}

impl KeptMail {
    /// The mail as its sender meant it.
    pub fn raw(&self) -> Vec<u8> {
        unstuff(&self.stuffed)
    }

    /// The first header of this name, unfolded, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        let value = header(&self.stuffed, name)?;
        Some(String::from_utf8_lossy(value).replace("\r\n", "").trim().to_owned())
    }
}

/// What a sink counted since it started.
#[derive(Debug, Clone, Serialize)]
pub struct Stats {
    /// Connections taken.
    pub connections: u64,
    /// Mails kept at their dot, once per recipient; the unacknowledged among them.
    pub accepted: u64,
    /// Kept, but the connection was dropped in place of the 250.
    pub unacknowledged: u64,
    /// Refused for now, at any stage.
    pub deferred: u64,
    /// Refused for good, at any stage.
    pub refused: u64,
    /// Connections dropped on purpose.
    pub dropped: u64,
    /// Recipients that got at least one mail.
    pub distinct_recipients: u64,
    /// Mails whose recipient had got one with the same Message-ID before.
    pub duplicates: u64,
    /// False when a bound was reached and the two counts above are too low.
    pub complete: bool,
    /// Body bytes of the accepted.
    pub bytes: u64,
    /// Faults made on purpose, by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// Per recipient domain.
    pub domains: BTreeMap<String, DomainStats>,
}

/// What came for one domain.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DomainStats {
    /// Mails kept.
    pub accepted: u64,
    /// The same by second since 1970, the last hour of it.
    pub per_second: BTreeMap<u64, u32>,
}

#[derive(Debug)]
pub(super) struct Ledger {
    keep: usize,
    kept: VecDeque<KeptMail>,
    arrived: u64,
    stats: Stats,
    domains: HashMap<Box<str>, DomainStats>,
    hasher: RandomState,
    recipients: HashSet<u64>,
    pairs: HashSet<u64>,
    /// How often a recipient was named, for the roll of its next fault.
    named: HashMap<u64, u32>,
}

impl Ledger {
    pub(super) fn new(keep: usize) -> Self {
        Self {
            keep,
            kept: VecDeque::with_capacity(keep.min(1_000)),
            arrived: 0,
            stats: Stats {
                connections: 0,
                accepted: 0,
                unacknowledged: 0,
                deferred: 0,
                refused: 0,
                dropped: 0,
                distinct_recipients: 0,
                duplicates: 0,
                complete: true,
                bytes: 0,
                faults: BTreeMap::new(),
                domains: BTreeMap::new(),
            },
            domains: HashMap::new(),
            hasher: RandomState::new(),
            recipients: HashSet::new(),
            pairs: HashSet::new(),
            named: HashMap::new(),
        }
    }

    /// A connection was taken.
    pub(super) fn connected(&mut self) {
        self.stats.connections += 1;
    }

    /// A mail was kept at its dot.
    pub(super) fn accepted(&mut self, mail: Received) {
        let now = Clock::System.now();
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let id = header(&mail.stuffed, "message-id").map(<[u8]>::trim_ascii);
        for recipient in &mail.to {
            self.stats.accepted += 1;
            self.stats.unacknowledged += u64::from(!mail.acknowledged);
            self.stats.bytes += mail.stuffed.len() as u64;
            self.count_distinct(recipient, id);
            self.count_domain(recipient, second);
        }
        self.arrived += 1;
        if self.keep == 0 {
            return;
        }
        if self.kept.len() == self.keep {
            self.kept.pop_front();
        }
        self.kept.push_back(KeptMail {
            n: self.arrived,
            at: now.into(),
            from: mail.from,
            to: mail.to,
            acknowledged: mail.acknowledged,
            bytes: mail.stuffed.len(),
            stuffed: mail.stuffed,
        });
    }

    /// `recipients` were refused with this code.
    pub(super) fn refused(&mut self, code: u16, recipients: usize) {
        let count = if code < 500 { &mut self.stats.deferred } else { &mut self.stats.refused };
        *count += recipients as u64;
    }

    /// A connection is dropped on purpose.
    pub(super) fn dropped(&mut self) {
        self.stats.dropped += 1;
    }

    /// The fault that this recipient meets now.
    pub(super) fn next_fault(&mut self, faults: &FaultMix, recipient: &str) -> Option<Fault> {
        let key = stable_hash(recipient.as_bytes());
        let before = self.named.get(&key).copied().unwrap_or(0);
        if before > 0 || self.named.len() < MOST_REMEMBERED {
            self.named.insert(key, before.saturating_add(1));
        }
        let fault = faults.roll(key, before)?;
        *self.stats.faults.entry(fault.as_str()).or_default() += 1;
        Some(fault)
    }

    pub(super) fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        stats.distinct_recipients = self.recipients.len() as u64;
        stats.domains =
            self.domains.iter().map(|(name, domain)| (name.to_string(), domain.clone())).collect();
        stats
    }

    /// Newest first.
    pub(super) fn mails(&self) -> Vec<KeptMail> {
        self.kept.iter().rev().cloned().collect()
    }

    pub(super) fn mail(&self, n: u64) -> Option<KeptMail> {
        let first = self.kept.front()?.n;
        self.kept.get(usize::try_from(n.checked_sub(first)?).ok()?).cloned()
    }

    fn count_distinct(&mut self, recipient: &str, id: Option<&[u8]>) {
        if self.pairs.len() >= MOST_REMEMBERED {
            self.stats.complete = false;
            return;
        }
        let key = self.hasher.hash_one(recipient);
        self.recipients.insert(key);
        if let Some(id) = id
            && !self.pairs.insert(self.hasher.hash_one((key, id)))
        {
            self.stats.duplicates += 1;
        }
    }

    fn count_domain(&mut self, recipient: &str, second: u64) {
        let domain = recipient.rsplit_once('@').map_or("other", |(_, domain)| domain);
        let known = self.domains.contains_key(domain) || self.domains.len() < MOST_DOMAINS;
        let domain = if known { domain } else { "other" };
        // Looked up by &str first: no allocation for a domain that is known.
        let counts = match self.domains.get_mut(domain) {
            Some(counts) => counts,
            None => self.domains.entry(domain.into()).or_default(),
        };
        counts.accepted += 1;
        *counts.per_second.entry(second).or_default() += 1;
        if counts.per_second.len() > MOST_SECONDS {
            counts.per_second.pop_first();
        }
    }
}

/// The value of the first header of this name, folded as it came.
fn header<'m>(mail: &'m [u8], name: &str) -> Option<&'m [u8]> {
    let mut rest = mail;
    loop {
        let mut end = memchr::memmem::find(rest, b"\r\n")?;
        if end == 0 {
            return None;
        }
        while matches!(rest.get(end + 2), Some(b' ' | b'\t')) {
            end += 2 + memchr::memmem::find(&rest[end + 2..], b"\r\n")?;
        }
        let line = &rest[..end];
        if line.get(name.len()) == Some(&b':')
            && line[..name.len()].eq_ignore_ascii_case(name.as_bytes())
        {
            return Some(&line[name.len() + 1..]);
        }
        rest = &rest[end + 2..];
    }
}

/// Takes away the dot that transparency (RFC 5321 4.5.2) put before a line's own.
fn unstuff(stuffed: &[u8]) -> Vec<u8> {
    let mut mail = Vec::with_capacity(stuffed.len());
    let mut rest = stuffed.strip_prefix(b".").unwrap_or(stuffed);
    while let Some(at) = memchr::memmem::find(rest, b"\r\n.") {
        mail.extend_from_slice(&rest[..at + 2]);
        rest = &rest[at + 3..];
    }
    mail.extend_from_slice(rest);
    mail
}

/// FNV-1a: the same in every run and build, which the faults need.
fn stable_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(to: &str, id: &str) -> Received {
        Received {
            from: "a@x.test".into(),
            to: vec![to.into()],
            stuffed: format!("Subject: x\r\nMessage-ID:\r\n <{id}>\r\n\r\n..dot\r\n").into(),
            acknowledged: true,
        }
    }

    #[test]
    fn only_the_same_message_to_the_same_recipient_is_a_duplicate() {
        let mut ledger = Ledger::new(2);
        for (to, id) in [("b@y.test", "1"), ("c@y.test", "1"), ("b@y.test", "2"), ("b@y.test", "1")]
        {
            ledger.accepted(mail(to, id));
        }
        let stats = ledger.stats();
        assert_eq!((stats.accepted, stats.distinct_recipients, stats.duplicates), (4, 2, 1));
        assert_eq!(stats.domains["y.test"].accepted, 4);
        assert_eq!(stats.domains["y.test"].per_second.values().sum::<u32>(), 4);
    }

    #[test]
    fn the_last_mails_are_kept_and_read_as_they_were_meant() {
        let mut ledger = Ledger::new(2);
        for n in 0..3 {
            ledger.accepted(mail("b@y.test", &n.to_string()));
        }
        assert_eq!(ledger.mails().iter().map(|mail| mail.n).collect::<Vec<_>>(), [3, 2]);
        assert!(ledger.mail(1).is_none() && ledger.mail(4).is_none());
        let last = ledger.mail(3).unwrap();
        assert!(last.raw().ends_with(b"\r\n\r\n.dot\r\n"));
        assert_eq!(last.header("message-id").as_deref(), Some("<2>"));
        assert_eq!(last.header("to"), None);
    }

    #[test]
    fn dots_are_taken_away_at_the_start_of_lines_only() {
        for (stuffed, meant) in [
            ("..a\r\n...b\r\nc.d\r\n", ".a\r\n..b\r\nc.d\r\n"),
            ("", ""),
            ("a\r\n..\r\n", "a\r\n.\r\n"),
        ] {
            assert_eq!(unstuff(stuffed.as_bytes()), meant.as_bytes());
        }
    }
}
