//! What a TLSA record says of a certificate (RFC 6698, RFC 7672 3.1); pure.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use hickory_resolver::proto::rr::rdata::TLSA;
use hickory_resolver::proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};

/// One certificate or key that is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    usage: Usage,
    selector: Selector,
    matching: Matching,
    data: Vec<u8>,
}

/// Whose certificate it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Usage {
    /// An authority's above the host's: DANE-TA(2).
    Authority,
    /// The host's own: DANE-EE(3).
    Host,
}

/// All that is named for one host. When none can be used, TLS is asked for all the same, with
/// any certificate (RFC 7672 2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pins(Vec<Pin>);

impl Pins {
    /// Those of the records that SMTP can use: PKIX-TA(0) and PKIX-EE(1) it cannot
    /// (RFC 7672 3.1.3), and nobody can use numbers yet to be given out.
    pub(in crate::route) fn usable(records: &[TLSA]) -> Self {
        Self(records.iter().filter_map(Pin::read).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the host's own certificate is named. Then neither its name nor its time matters.
    pub fn name_host(&self, certificate: &[u8], key: &[u8]) -> bool {
        self.any(Usage::Host, certificate, key)
    }

    /// Whether this certificate is named as an authority.
    pub fn name_authority(&self, certificate: &[u8], key: &[u8]) -> bool {
        self.any(Usage::Authority, certificate, key)
    }

    /// Authorities whose whole certificates are in the DNS, so that a host need not send them.
    pub fn authorities(&self) -> impl Iterator<Item = &[u8]> {
        let whole = |pin: &&Pin| {
            pin.usage == Usage::Authority
                && pin.selector == Selector::Full
                && pin.matching == Matching::Raw
        };
        self.0.iter().filter(whole).map(|pin| &*pin.data)
    }

    /// As zone files have them, one a line, in an order of their own.
    pub fn text(&self) -> String {
        let mut lines: Vec<String> = self.0.iter().map(Pin::text).collect();
        lines.sort_unstable();
        lines.join("\n")
    }

    fn any(&self, usage: Usage, certificate: &[u8], key: &[u8]) -> bool {
        self.0.iter().any(|pin| pin.usage == usage && pin.is(certificate, key))
    }
}

impl Pin {
    fn read(record: &TLSA) -> Option<Self> {
        let usage = match record.cert_usage {
            CertUsage::DaneTa => Usage::Authority,
            CertUsage::DaneEe => Usage::Host,
            _ => return None,
        };
        let length = match record.matching {
            Matching::Raw => record.cert_data.len().max(1),
            Matching::Sha256 => 32,
            Matching::Sha512 => 64,
            _ => return None,
        };
        let readable = matches!(record.selector, Selector::Full | Selector::Spki)
            && record.cert_data.len() == length;
        readable.then(|| Self {
            usage,
            selector: record.selector,
            matching: record.matching,
            data: record.cert_data.clone(),
        })
    }

    /// Whether it names a certificate, given in DER and with its key's SPKI in DER.
    fn is(&self, certificate: &[u8], key: &[u8]) -> bool {
        let what = if self.selector == Selector::Full { certificate } else { key };
        match self.matching {
            Matching::Sha256 => digest(&SHA256, what).as_ref() == self.data,
            Matching::Sha512 => digest(&SHA512, what).as_ref() == self.data,
            _ => what == self.data,
        }
    }

    fn text(&self) -> String {
        let usage = match self.usage {
            Usage::Authority => 2,
            Usage::Host => 3,
        };
        let mut text = format!("{usage} {} {} ", u8::from(self.selector), u8::from(self.matching));
        for byte in &self.data {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &[u8] = b"certificate";
    const KEY: &[u8] = b"key";

    fn record(usage: u8, selector: u8, matching: u8, data: &[u8]) -> TLSA {
        TLSA::new(usage.into(), selector.into(), matching.into(), data.to_vec())
    }

    #[test]
    fn every_form_matches_what_it_names_and_nothing_else() {
        for (selector, what) in [(0, CERTIFICATE), (1, KEY)] {
            for matching in 0..=2 {
                let data = match matching {
                    0 => what.to_vec(),
                    1 => digest(&SHA256, what).as_ref().to_vec(),
                    _ => digest(&SHA512, what).as_ref().to_vec(),
                };
                let host = Pins::usable(&[record(3, selector, matching, &data)]);
                assert!(host.name_host(CERTIFICATE, KEY) && !host.name_host(b"other", b"other"));
                assert!(!host.name_authority(CERTIFICATE, KEY));
                let authority = Pins::usable(&[record(2, selector, matching, &data)]);
                assert!(authority.name_authority(CERTIFICATE, KEY));
                assert!(!authority.name_host(CERTIFICATE, KEY));
                let whole = usize::from(selector == 0 && matching == 0);
                assert_eq!(authority.authorities().count(), whole);
                assert_eq!(host.authorities().count(), 0);
            }
        }
    }

    #[test]
    fn what_smtp_cannot_use_is_left_out() {
        let hash = digest(&SHA256, KEY);
        let hash = hash.as_ref();
        for record in [
            record(0, 1, 1, hash),
            record(1, 1, 1, hash),
            record(4, 1, 1, hash),
            record(3, 2, 1, hash),
            record(3, 1, 3, hash),
            record(3, 1, 1, &hash[1..]),
            record(3, 1, 2, hash),
            record(3, 0, 0, b""),
        ] {
            assert!(Pins::usable(&[record]).is_empty());
        }
        let text = Pins::usable(&[record(3, 1, 1, hash), record(2, 0, 0, b"\x01\xff")]).text();
        assert!(text.starts_with("2 0 0 01ff\n3 1 1 "), "{text}");
    }
}
