//! Which addresses mail may be sent to (pure).
//!
//! Whoever owns a domain chooses what its DNS says, so an address found there
//! must not lead into our own network: the loopback, private and link-local
//! ones are refused unless the operator allows them. Forms that carry an IPv4
//! address inside an IPv6 one are judged by what they carry.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether addresses inside a network may be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Private {
    Allowed,
    Refused,
}

/// Whether an address may be sent to. One that is no single host never may.
pub(super) fn is_reachable(address: IpAddr, private: Private) -> bool {
    let place = match address {
        IpAddr::V4(address) => place_of_v4(address),
        IpAddr::V6(address) => place_of_v6(address),
    };
    match place {
        Place::Public => true,
        Place::Private => private == Private::Allowed,
        Place::Nowhere => false,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Public,
    /// This machine, this link, this organisation.
    Private,
    /// Unspecified, multicast, reserved.
    Nowhere,
}

fn place_of_v4(address: Ipv4Addr) -> Place {
    match address.octets() {
        // "This network" (RFC 1122), multicast (RFC 5771), reserved and broadcast (RFC 1112).
        [0 | 224..=255, ..] => Place::Nowhere,
        // Loopback; RFC 1918; link-local (RFC 3927, where clouds keep their secrets);
        // shared by carriers (RFC 6598); protocol assignments (RFC 6890); benchmarks (RFC 2544).
        [127 | 10, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [169, 254, ..]
        | [100, 64..=127, ..]
        | [192, 0, 0, _]
        | [198, 18..=19, ..] => Place::Private,
        _ => Place::Public,
    }
}

#[allow(clippy::match_same_arms, reason = "::1 must stand before the forms that carry IPv4")]
fn place_of_v6(address: Ipv6Addr) -> Place {
    let low = || {
        let [.., a, b, c, d] = address.octets();
        place_of_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Place::Private,
        // Unspecified as well: IPv4-mapped and -compatible (RFC 4291), translated (RFC 2765, RFC 6052).
        [0, 0, 0, 0, 0, 0xffff | 0, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, ..] => low(),
        // 6to4 (RFC 3056) has it behind the prefix.
        [0x2002, high, low, ..] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            place_of_v4(Ipv4Addr::new(a, b, c, d))
        }
        // Local-use translation (RFC 8215), unique local (RFC 4193), link-local, once site-local.
        [0x64, 0xff9b, 1, ..] | [0xfc00..=0xfdff | 0xfe80..=0xfeff, ..] => Place::Private,
        // Discard-only (RFC 6666), Teredo (RFC 4380), multicast.
        [0x100, 0, 0, 0, ..] | [0x2001, 0, ..] | [0xff00..=0xffff, ..] => Place::Nowhere,
        _ => Place::Public,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(text: &str) -> Place {
        match text.parse().expect("an address") {
            IpAddr::V4(address) => place_of_v4(address),
            IpAddr::V6(address) => place_of_v6(address),
        }
    }

    #[test]
    fn addresses_stand_where_the_registries_put_them() {
        for text in [
            "8.8.8.8",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "192.0.2.1",
            "2001:db8::1",
            "2a00:1450:4001::1a",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            assert_eq!(place(text), Place::Public, "{text}");
        }
        for text in [
            "127.0.0.1",
            "127.255.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "198.18.0.1",
            "192.0.0.8",
            "::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "::ffff:0:10.0.0.1",
        ] {
            assert_eq!(place(text), Place::Private, "{text}");
        }
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "ff02::1",
            "::ffff:0.0.0.0",
            "100::1",
            "2001::1",
        ] {
            assert_eq!(place(text), Place::Nowhere, "{text}");
        }
    }

    #[test]
    fn only_the_private_ones_can_be_allowed() {
        let reachable =
            |text: &str, private| is_reachable(text.parse().expect("an address"), private);
        assert!(reachable("127.0.0.1", Private::Allowed));
        assert!(!reachable("127.0.0.1", Private::Refused));
        assert!(!reachable("0.0.0.0", Private::Allowed));
        assert!(reachable("8.8.8.8", Private::Refused));
    }

    proptest! {
        #[test]
        fn a_mapped_address_stands_where_the_plain_one_does(bits: u32) {
            let plain = Ipv4Addr::from_bits(bits);
            prop_assert_eq!(place_of_v6(plain.to_ipv6_mapped()), place_of_v4(plain));
        }
    }
}
