//! The key of an origin, packed so that hashing and comparing it costs little.

use std::{
    fmt,
    hash::{Hash, Hasher},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::frame::Frame;

/// Outer source and VNI. A VNI is unique per AWS account only, so the two together name an origin.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct OriginKey {
    high: u64,
    low: u64,
    /// The VNI, 24 bits, and above it whether the address is IPv6.
    tag: u32,
}

const IPV6: u32 = 1 << 24;

impl OriginKey {
    pub(super) fn of(frame: &Frame<'_>) -> Self {
        Self::new(frame.source(), frame.vni())
    }

    pub(super) fn new(source: IpAddr, vni: u32) -> Self {
        match source {
            IpAddr::V4(address) => Self { high: 0, low: address.to_bits().into(), tag: vni },
            IpAddr::V6(address) => {
                let (high, low) = split(address.to_bits());
                Self { high, low, tag: vni | IPV6 }
            }
        }
    }

    pub(super) fn source(self) -> IpAddr {
        if self.tag & IPV6 == 0 {
            #[expect(clippy::cast_possible_truncation, reason = "an IPv4 address was put in")]
            return Ipv4Addr::from_bits(self.low as u32).into();
        }
        Ipv6Addr::from_bits(u128::from(self.high) << 64 | u128::from(self.low)).into()
    }

    pub(super) fn vni(self) -> u32 {
        self.tag & !IPV6
    }
}

/// `vni-<VNI>@<source>`, the name of the origin's interface in a capture file.
impl fmt::Display for OriginKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vni-{}@{}", self.vni(), self.source())
    }
}

impl Hash for OriginKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Every bit is hashed as it is: folding bits first would let senders choose keys that collide. An
        // IPv4 key fits one word; its tag differs from the first word of any IPv6 key.
        if self.tag & IPV6 == 0 {
            state.write_u64(u64::from(self.tag) << 32 | self.low);
        } else {
            state.write_u64(u64::from(self.tag) << 32);
            state.write_u64(self.high);
            state.write_u64(self.low);
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of a word twice as long")]
fn split(bits: u128) -> (u64, u64) {
    ((bits >> 64) as u64, bits as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gives_back_its_source_and_vni() {
        for source in ["192.0.2.1", "::ffff:192.0.2.1", "::", "0.0.0.0", "2001:db8::1:2:3:4"] {
            let source: IpAddr = source.parse().unwrap();
            for vni in [0, 1, 0xff_ffff] {
                let key = OriginKey::new(source, vni);
                assert_eq!((key.source(), key.vni()), (source, vni));
            }
        }
    }

    #[test]
    fn an_ipv4_source_differs_from_the_ipv6_address_of_the_same_bits() {
        let v6 = OriginKey::new(Ipv6Addr::from_bits(0xc000_0201).into(), 7);
        assert_ne!(OriginKey::new(Ipv4Addr::from_bits(0xc000_0201).into(), 7), v6);
    }

    #[test]
    fn the_name_holds_vni_and_source() {
        let key = OriginKey::new("10.10.10.252".parse().unwrap(), 16_398_363);
        assert_eq!(key.to_string(), "vni-16398363@10.10.10.252");
    }
}
