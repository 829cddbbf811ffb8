//! The key of an origin, packed so that hashing and comparing it costs little.

use std::{
    fmt,
    hash::{Hash, Hasher},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{account::Origin, frame::Frame, tunnels::Encapsulation};

/// Outer source, VNI, and the endpoint of a Gateway Load Balancer, if the frame came through one. A VNI is
/// unique per AWS account only, and addresses may overlap between VPCs, so only all of them name an origin.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OriginKey {
    high: u64,
    low: u64,
    /// 0 without one.
    endpoint: u64,
    /// The VNI, 24 bits, and above it whether the address is IPv6, and whether there is an endpoint.
    tag: u32,
    about: About,
}

/// What else is known of an origin, from its first frame, and is no part of its name.
#[derive(Clone, Copy, Debug, Default)]
struct About {
    encapsulation: Encapsulation,
    attachment: Option<u64>,
}

const IPV6: u32 = 1 << 24;
const ENDPOINT: u32 = 1 << 25;

impl OriginKey {
    pub(super) fn of(frame: &Frame<'_>) -> Self {
        let mut key = Self::new(frame.source(), frame.vni());
        if let Some(gateway) = frame.gateway() {
            if let Some(endpoint) = gateway.endpoint {
                (key.endpoint, key.tag) = (endpoint, key.tag | ENDPOINT);
            }
            key.about = About { encapsulation: frame.encapsulation(), attachment: gateway.attachment };
        }
        key
    }

    pub(super) fn new(source: IpAddr, vni: u32) -> Self {
        match source {
            IpAddr::V4(address) => Self { low: address.to_bits().into(), tag: vni, ..Self::default() },
            IpAddr::V6(address) => {
                let (high, low) = split(address.to_bits());
                Self { high, low, tag: vni | IPV6, ..Self::default() }
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
        self.tag & !(IPV6 | ENDPOINT)
    }

    pub(super) fn endpoint(self) -> Option<u64> {
        (self.tag & ENDPOINT != 0).then_some(self.endpoint)
    }

    /// As it is reported.
    pub(super) fn origin(self, frames: u64, inner_bytes: u64) -> Origin {
        let About { encapsulation, attachment } = self.about;
        let endpoint = self.endpoint();
        let origin = Origin::new(self.source(), self.vni(), frames, inner_bytes);
        Origin { encapsulation, endpoint, attachment, ..origin }
    }
}

impl PartialEq for OriginKey {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        let Self { high, low, endpoint, tag, about: _ } = *self;
        low == other.low && tag == other.tag && high == other.high && endpoint == other.endpoint
    }
}

impl Eq for OriginKey {}

/// The name of the origin's interface in a capture file.
impl fmt::Display for OriginKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin(0, 0).interface_name())
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
        if self.tag & ENDPOINT != 0 {
            state.write_u64(self.endpoint);
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

    #[test]
    fn an_endpoint_is_part_of_the_key_and_an_attachment_is_told_of_it() {
        let key = OriginKey::new("10.10.10.252".parse().unwrap(), 7);
        let behind = |endpoint, attachment| OriginKey {
            endpoint,
            tag: key.tag | ENDPOINT,
            about: About { attachment, ..About::default() },
            ..key
        };
        let first = behind(0x0ab1, Some(5));
        assert_eq!(first, behind(0x0ab1, Some(6)));
        // An endpoint of 0 is one.
        for other in [key, behind(0, Some(5)), behind(0x0ab2, Some(5))] {
            assert_ne!(first, other);
        }
        assert_ne!(key, behind(0, None));
        assert_eq!((first.vni(), first.source()), (7, key.source()));
        assert_eq!(first.to_string(), "vni-7@10.10.10.252%0000000000000ab1");
        let origin = first.origin(3, 180);
        assert_eq!((origin.endpoint, origin.attachment, origin.frames), (Some(0x0ab1), Some(5), 3));
    }
}
