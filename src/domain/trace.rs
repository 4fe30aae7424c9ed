//! The ids of traces and spans, and the draw that says which are kept.
//!
//! Nothing is stored for a trace: the ids of a message's trace and of every span in it are
//! worked out from our own ids, so each process that has a delivery in hand knows them without
//! asking (docs/adr/0033). Only a context that a caller brought (W3C Trace Context) lies with
//! its message. All draws of one delivery use the same lot, so what is kept of it in one
//! process is kept in the others.

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use super::ids::{DeliveryId, MessageId};

/// A trace: never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// A span in a trace: never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

/// The context of a caller: the header `traceparent` (W3C Trace Context, 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traceparent {
    /// The caller's trace.
    pub trace: TraceId,
    /// The caller's span, under which ours belong.
    pub parent: SpanId,
    /// Whether the caller keeps its own spans.
    pub sampled: bool,
}

/// A text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoTraceparent;

/// The trace of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// Its id.
    pub trace: TraceId,
    /// What the caller decided; `None`: there was none, and the draw decides.
    pub caller: Option<bool>,
}

/// What an attempt notes on its way for its trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// What came with the message, once it has been read.
    pub caller: Option<Traceparent>,
    /// Whether more than one delivery was made of the message.
    pub many: bool,
    /// The attempt's own span, once it is over and kept: what comes of it belongs under it.
    pub kept: Option<Traceparent>,
    /// Points that were passed, in order; `None` while nobody asks for traces.
    marks: Option<Vec<Mark>>,
}

/// A point that was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Which: the name of the event in the span.
    pub what: &'static str,
    /// When.
    pub at: Instant,
}

/// Marks of an ordinary attempt.
const MARKS: usize = 12;

impl Context {
    /// The trace of a message: the caller's, where one came with it, else its own.
    pub fn of(message: MessageId, caller: Option<&Traceparent>) -> Self {
        match caller {
            Some(caller) => Self { trace: caller.trace, caller: Some(caller.sampled) },
            None => Self { trace: TraceId::of(message), caller: None },
        }
    }

    /// The lot of the trace, from 0 to below 1.
    pub fn lot(&self) -> f64 {
        let (_, low) = self.trace.halves();
        share(mixed(low ^ LOT))
    }
}

impl TraceId {
    /// The own trace of a message.
    pub fn of(message: MessageId) -> Self {
        let number = message.get() as u64;
        Self::from_halves(mixed(number ^ TRACE_HIGH), mixed(number ^ TRACE_LOW))
    }

    /// A trace that belongs to no message, of two random numbers.
    pub fn random(high: u64, low: u64) -> Self {
        Self::from_halves(high, low)
    }

    /// As it goes over the wire.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }

    fn from_halves(high: u64, low: u64) -> Self {
        Self(((u128::from(high) << 64) | u128::from(low.max(1))).to_be_bytes())
    }

    fn halves(self) -> (u64, u64) {
        let all = u128::from_be_bytes(self.0);
        ((all >> 64) as u64, all as u64)
    }
}

impl SpanId {
    /// The request that made a message.
    pub fn of_request(message: MessageId) -> Self {
        Self::made(message.get() as u64 ^ REQUEST)
    }

    /// The wait of a delivery for its n-th attempt.
    pub fn of_wait(delivery: DeliveryId, attempt: u16) -> Self {
        Self::made(mixed(delivery.get() as u64 ^ WAIT).wrapping_add(attempt.into()))
    }

    /// The n-th attempt of a delivery.
    pub fn of_attempt(delivery: DeliveryId, attempt: u16) -> Self {
        Self::made(mixed(delivery.get() as u64 ^ ATTEMPT).wrapping_add(attempt.into()))
    }

    /// A span that nobody else has to find, of a random number.
    pub fn random(number: u64) -> Self {
        Self::made(number)
    }

    /// As it goes over the wire.
    pub const fn bytes(self) -> [u8; 8] {
        self.0
    }

    fn made(number: u64) -> Self {
        Self(mixed(number).max(1).to_be_bytes())
    }
}

/// The lot of a delivery, from 0 to below 1; the same in every process.
pub fn lot(delivery: DeliveryId) -> f64 {
    share(mixed(delivery.get() as u64 ^ LOT))
}

impl Notes {
    /// Notes marks only where `wanted`.
    pub fn new(wanted: bool) -> Self {
        Self { marks: wanted.then(|| Vec::with_capacity(MARKS)), ..Self::default() }
    }

    /// A point was passed now. Costs nothing where nobody wants to know.
    pub fn mark(&mut self, what: &'static str) {
        if let Some(marks) = &mut self.marks {
            marks.push(Mark { what, at: Instant::now() });
        }
    }

    /// Takes over the points that were passed since, leaving none there.
    pub fn take_from(&mut self, later: &mut Self) {
        if let (Some(ours), Some(later)) = (&mut self.marks, &mut later.marks) {
            ours.append(later);
        }
    }

    /// The points that were passed.
    pub fn marks(&self) -> &[Mark] {
        self.marks.as_deref().unwrap_or_default()
    }
}

// Each use of a number has its own, so that no two spans of a trace are called the same.
const TRACE_HIGH: u64 = 0x7472_6163_6520_6869;
const TRACE_LOW: u64 = 0x7472_6163_6520_6c6f;
const REQUEST: u64 = 0x7265_7175_6573_7400;
const WAIT: u64 = 0x7761_6974_0000_0000;
const ATTEMPT: u64 = 0x6174_7465_6d70_7400;
const LOT: u64 = 0x6c6f_7400_0000_0000;

/// Spreads a number over all 64 bits (SplitMix64's last step: one to one, no secret).
const fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The upper 53 bits as a fraction.
fn share(number: u64) -> f64 {
    (number >> 11) as f64 / (1_u64 << 53) as f64
}

impl FromStr for Traceparent {
    type Err = NoTraceparent;

    /// Reads version 00, and of a later one the part that it shares with it, as the standard
    /// asks (3.2.4).
    fn from_str(text: &str) -> Result<Self, NoTraceparent> {
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or(NoTraceparent);
        let (version, trace, parent, flags) = (part()?, part()?, part()?, part()?);
        let is_last = parts.next().is_none();
        let [version] = hex::<1>(version)?;
        if version == 0xff || (version == 0 && !is_last) {
            return Err(NoTraceparent);
        }
        let (trace, parent, [flags]) = (hex::<16>(trace)?, hex::<8>(parent)?, hex::<1>(flags)?);
        if trace == [0; 16] || parent == [0; 8] {
            return Err(NoTraceparent);
        }
        Ok(Self { trace: TraceId(trace), parent: SpanId(parent), sampled: flags & 1 == 1 })
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.parent, u8::from(self.sampled))
    }
}

/// Lower case only (3.2.2.3).
fn hex<const N: usize>(text: &str) -> Result<[u8; N], NoTraceparent> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(NoTraceparent),
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return Err(NoTraceparent);
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = (digit(*high)? << 4) | digit(*low)?;
    }
    Ok(bytes)
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use proptest::prelude::*;

    const WRITTEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_callers_context_reads_and_is_written_back() {
        let read: Traceparent = WRITTEN.parse().expect("the standard's example");
        assert!(read.sampled);
        assert_eq!(read.to_string(), WRITTEN);
        let context = Context::of(MessageId::new(7), Some(&read));
        assert_eq!(context.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let later: Traceparent =
            format!("cc{}-what", &WRITTEN[2..]).parse().expect("a later version may have more");
        assert_eq!(later, read);
    }

    #[test]
    fn what_is_no_context_is_refused() {
        let with = |from: &str, to: &str| WRITTEN.replacen(from, to, 1);
        for bad in [
            String::new(),
            with("00-", "ff-"),
            with("4bf9", "4BF9"),
            with("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            with("00f067aa0ba902b7", &"0".repeat(16)),
            with("-01", ""),
            with("-01", "-01-more"),
            with("-01", "-1"),
            with("a3ce", "a3cé"),
        ] {
            assert_eq!(bad.parse::<Traceparent>(), Err(NoTraceparent), "{bad}");
        }
    }

    #[test]
    fn no_two_spans_of_a_trace_are_called_the_same() {
        let mut seen = HashSet::new();
        for id in 0..2_000 {
            assert!(seen.insert(SpanId::of_request(MessageId::new(id))));
            for attempt in 1..10 {
                assert!(seen.insert(SpanId::of_wait(DeliveryId::new(id), attempt)));
                assert!(seen.insert(SpanId::of_attempt(DeliveryId::new(id), attempt)));
            }
        }
    }

    #[test]
    fn lots_are_spread_evenly() {
        let below = |ratio: f64| {
            // Ids as the database gives them out: the low bits count, the rest is time.
            let ids = (0..100_000_i64).map(|n| DeliveryId::new(((n / 12) << 22) | (n % 65_536)));
            ids.filter(|id| lot(*id) < ratio).count()
        };
        assert!((900..1_100).contains(&below(0.01)), "{}", below(0.01));
        assert!((49_000..51_000).contains(&below(0.5)), "{}", below(0.5));
        assert_eq!((below(0.0), below(1.0)), (0, 100_000));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".*") {
            let _ = text.parse::<Traceparent>();
        }

        #[test]
        fn every_message_has_a_trace(id in any::<i64>()) {
            let id = MessageId::new(id);
            prop_assert_ne!(TraceId::of(id).bytes(), [0; 16]);
            prop_assert_ne!(SpanId::of_request(id).bytes(), [0; 8]);
            prop_assert!((0.0..1.0).contains(&Context::of(id, None).lot()));
        }
    }
}
