//! Generic Network Virtualization Encapsulation (RFC 8926 section 3).

use super::{Error, be16, be32, split};

/// Length of the header without options, in bytes.
pub const HEADER_LEN: usize = 8;

/// UDP destination port (RFC 8926 section 3.3, IANA); what AWS Gateway Load Balancers send to.
pub const PORT: u16 = 6081;

/// The most bytes of options: the header has their length in 6 bits, in units of 4 bytes.
pub const MAX_OPTIONS: usize = 63 * 4;

/// Protocol of the payload: bridged Ethernet (IANA "IEEE 802 Numbers", Trans Ether Bridging).
pub const ETHERNET: u16 = 0x6558;

/// Option class of Amazon (IANA "Geneve Option Class").
pub(crate) const CLASS_AMAZON: u16 = 0x0108;

/// Options of a Gateway Load Balancer, each with its length in bytes (AWS: "Gateway Load Balancers",
/// appliances and GENEVE).
pub(crate) mod amazon {
    /// The endpoint's network interface.
    pub(crate) const ENDPOINT: (u8, usize) = (1, 8);
    /// The attachment.
    pub(crate) const ATTACHMENT: (u8, usize) = (2, 8);
    /// The flow.
    pub(crate) const FLOW_COOKIE: (u8, usize) = (3, 4);
    /// Bytes of all three, with what is before their data.
    pub(crate) const OPTIONS_LEN: usize = 3 * super::OPTION_HEAD + ENDPOINT.1 + ATTACHMENT.1 + FLOW_COOKIE.1;
}

/// Bytes of an option before its data.
pub(crate) const OPTION_HEAD: usize = 4;

/// In an option's type: whoever does not know the option must not take the packet (section 3.5).
const CRITICAL: u8 = 0x80;
/// The O bit: a control packet.
const CONTROL: u8 = 0x80;
/// The reserved bits beside the O and C bits.
const RESERVED: u8 = 0x3f;

mod field {
    use std::ops::Range;

    /// Version and length of the options.
    pub(super) const VERSION_LENGTH: usize = 0;
    pub(super) const FLAGS: usize = 1;
    pub(super) const PROTOCOL: Range<usize> = 2..4;
    pub(super) const VNI_RESERVED: Range<usize> = 4..8;
}

/// A GENEVE packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; HEADER_LEN],
    options: &'a [u8],
    payload: &'a [u8],
}

/// An option (section 3.5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TunnelOption<'a> {
    /// Who defines the type.
    pub class: u16,
    /// Type, with the bit that says whether the option is critical.
    pub kind: u8,
    /// What the option says: up to 124 bytes.
    pub data: &'a [u8],
}

/// What the options of an AWS Gateway Load Balancer say. It sends all three; none is required here.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Gateway {
    /// Network interface of the load balancer's endpoint, through which the packet came in: it tells VPCs
    /// apart whose addresses overlap.
    pub endpoint: Option<u64>,
    /// The attachment of the endpoint.
    pub attachment: Option<u64>,
    /// The load balancer's number of the flow, the same in both directions.
    pub flow_cookie: Option<u32>,
}

impl<'a> Packet<'a> {
    /// Takes bytes that start with a GENEVE header.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] where the version is not 0 (section 3.4: such packets are dropped), or where the
    /// options do not end where the header says (section 3.5); [`Error::Truncated`] where the bytes end
    /// within the header or the options.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, rest) = split::<HEADER_LEN>(bytes)?;
        let first = header[field::VERSION_LENGTH];
        if first >> 6 != 0 {
            return Err(Error::Malformed("GENEVE version is not 0"));
        }
        let options_len = usize::from(first & 0x3f) * 4;
        let Some((options, payload)) = rest.split_at_checked(options_len) else {
            return Err(Error::Truncated { needed: HEADER_LEN + options_len, present: bytes.len() });
        };
        let mut left = options;
        while !left.is_empty() {
            (_, left) =
                split_option(left).ok_or(Error::Malformed("a GENEVE option ends beyond the options"))?;
        }
        Ok(Self { header, options, payload })
    }

    /// Length of the header with its options, in bytes: 8 to 260.
    #[must_use]
    pub fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// Whether the O bit is set: a message between tunnel endpoints, whose payload is not to be forwarded.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.header[field::FLAGS] & CONTROL != 0
    }

    /// Ethertype of the payload, [`ETHERNET`] for an Ethernet frame.
    #[must_use]
    pub fn protocol(&self) -> u16 {
        be16(self.header, field::PROTOCOL)
    }

    /// Virtual network identifier, 24 bits.
    #[must_use]
    pub fn vni(&self) -> u32 {
        be32(self.header, field::VNI_RESERVED) >> 8
    }

    /// Whether a reserved bit is set. Section 3.4 requires them to be zero when sent and ignored on receipt.
    #[must_use]
    pub fn has_reserved_bits(&self) -> bool {
        self.header[field::FLAGS] & RESERVED != 0 || be32(self.header, field::VNI_RESERVED) & 0xff != 0
    }

    /// The options, in sequence.
    pub fn options(&self) -> impl Iterator<Item = TunnelOption<'a>> + use<'a> {
        let mut left = self.options;
        std::iter::from_fn(move || {
            let (option, rest) = split_option(left)?;
            left = rest;
            Some(option)
        })
    }

    /// Whether there is a critical option other than those of a [`Gateway`]. Section 3.5 has a tunnel
    /// endpoint drop such packets.
    #[must_use]
    pub fn has_unknown_critical_option(&self) -> bool {
        self.options().any(|option| option.is_critical() && !option.is_of_gateway())
    }

    /// What the options of a Gateway Load Balancer say; of an option that comes twice, the first counts.
    #[must_use]
    pub fn gateway(&self) -> Gateway {
        let mut gateway = Gateway::default();
        for option in self.options() {
            let Gateway { endpoint, attachment, flow_cookie } = &mut gateway;
            match option.amazon() {
                Some((amazon::ENDPOINT, data)) => *endpoint = endpoint.or(number(data)),
                Some((amazon::ATTACHMENT, data)) => *attachment = attachment.or(number(data)),
                Some((amazon::FLOW_COOKIE, data)) => {
                    *flow_cookie = flow_cookie.or(data.first_chunk().copied().map(u32::from_be_bytes));
                }
                _ => {}
            }
        }
        gateway
    }

    /// The payload, and whatever follows it.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

impl<'a> TunnelOption<'a> {
    /// Whether a receiver that does not know this option must not take the packet.
    #[must_use]
    pub fn is_critical(&self) -> bool {
        self.kind & CRITICAL != 0
    }

    /// Type and length of an option of Amazon, and its data.
    fn amazon(&self) -> Option<((u8, usize), &'a [u8])> {
        (self.class == CLASS_AMAZON).then_some(((self.kind & !CRITICAL, self.data.len()), self.data))
    }

    fn is_of_gateway(&self) -> bool {
        matches!(self.amazon(), Some((amazon::ENDPOINT | amazon::ATTACHMENT | amazon::FLOW_COOKIE, _)))
    }
}

/// The first option, and those that follow; `None` if it ends beyond the bytes.
fn split_option(bytes: &[u8]) -> Option<(TunnelOption<'_>, &[u8])> {
    let (&[class0, class1, kind, length], rest) = bytes.split_first_chunk::<OPTION_HEAD>()?;
    // The three bits above the length are reserved, and ignored on receipt.
    let (data, rest) = rest.split_at_checked(usize::from(length & 0x1f) * 4)?;
    Some((TunnelOption { class: u16::from_be_bytes([class0, class1]), kind, data }, rest))
}

fn number(data: &[u8]) -> Option<u64> {
    data.first_chunk().copied().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 0, 32 bytes of options, IPv4, VNI 0x123456, and the options of a Gateway Load Balancer.
    const AWS: [u8; 41] = [
        8, 0, 8, 0, 0x12, 0x34, 0x56, 0, // fixed
        1, 8, 1, 2, 0, 1, 2, 3, 4, 5, 6, 7, // endpoint
        1, 8, 2, 2, 8, 9, 10, 11, 12, 13, 14, 15, // attachment
        1, 8, 3, 1, 16, 17, 18, 19, // flow cookie
        0x45,
    ];

    fn with(change: impl Fn(&mut [u8; 41])) -> [u8; 41] {
        let mut bytes = AWS;
        change(&mut bytes);
        bytes
    }

    fn refused(bytes: &[u8]) -> Error {
        Packet::new_checked(bytes).unwrap_err()
    }

    #[test]
    fn fields_are_read_where_rfc_8926_puts_them() {
        let packet = Packet::new_checked(&AWS).unwrap();
        assert_eq!((packet.header_len(), packet.protocol(), packet.vni()), (40, 0x0800, 0x12_3456));
        assert!(!packet.is_control() && !packet.has_reserved_bits());
        assert_eq!(packet.payload(), [0x45]);
        assert!(Packet::new_checked(&with(|b| b[1] = 0x80)).unwrap().is_control());
        let kinds: Vec<_> = packet.options().map(|option| (option.class, option.kind)).collect();
        assert_eq!(kinds, [(0x0108, 1), (0x0108, 2), (0x0108, 3)]);
    }

    #[test]
    fn the_options_of_a_gateway_load_balancer_are_known_in_any_sequence_and_none_is_required() {
        let gateway = |bytes: &[u8]| Packet::new_checked(bytes).unwrap().gateway();
        let (endpoint, attachment) = (Some(0x0001_0203_0405_0607), Some(0x0809_0a0b_0c0d_0e0f));
        let expected = Gateway { endpoint, attachment, flow_cookie: Some(0x1011_1213) };
        assert_eq!(gateway(&AWS), expected);
        let critical = with(|b| b[10] |= 0x80);
        assert_eq!(gateway(&critical), expected);
        assert!(!Packet::new_checked(&critical).unwrap().has_unknown_critical_option(), "it is known");
        let mut turned = AWS;
        turned[8..16].copy_from_slice(&AWS[32..40]);
        turned[16..40].copy_from_slice(&AWS[8..32]);
        assert_eq!(gateway(&turned), expected);
        assert_eq!(gateway(&with(|b| b[9] = 9)), Gateway { endpoint: None, ..expected }, "another class");
        assert_eq!(gateway(&with(|b| b[10] = 4)), Gateway { endpoint: None, ..expected }, "another type");
        let twice = with(|b| b[22] = 1);
        assert_eq!(gateway(&twice), Gateway { attachment: None, ..expected }, "the first counts");
        assert_eq!(gateway(&[0; 8]), Gateway::default());
        // Eight bytes are expected.
        assert_eq!(gateway(&[2, 0, 8, 0, 0, 0, 0, 0, 1, 8, 1, 1, 1, 2, 3, 4]), Gateway::default());
    }

    #[test]
    fn only_an_unknown_option_with_the_critical_bit_is_critical() {
        for (class, kind, expected) in [
            (0x0108, 1, false),
            (0x0108, 0x81, false),
            (0x0108, 0x84, true),
            (0, 4, false),
            (0xffff, 0x80, true),
        ] {
            let bytes = with(|b| {
                b[8..10].copy_from_slice(&u16::to_be_bytes(class));
                b[10] = kind;
            });
            let packet = Packet::new_checked(&bytes).unwrap();
            assert_eq!(packet.has_unknown_critical_option(), expected, "{class:#x} {kind:#x}");
        }
    }

    #[test]
    fn an_option_that_ends_beyond_the_options_is_malformed() {
        for (at, length) in [(11, 31), (23, 5), (35, 2), (35, 0)] {
            let error = refused(&with(|b| b[at] = length));
            assert!(matches!(error, Error::Malformed(_)), "{length} at {at}");
        }
        // The three reserved bits are no part of the length.
        assert!(Packet::new_checked(&with(|b| b[11] |= 0xe0)).is_ok());
        let longest = [&[63, 0, 0, 0, 0, 0, 0, 0][..], &[0; MAX_OPTIONS]].concat();
        let packet = Packet::new_checked(&longest).unwrap();
        assert_eq!((packet.header_len(), packet.options().count()), (260, 63));
    }

    #[test]
    fn another_version_is_malformed_and_missing_bytes_are_truncated() {
        for version in 1..4 {
            assert!(matches!(refused(&with(|b| b[0] |= version << 6)), Error::Malformed(_)));
        }
        assert_eq!(refused(&AWS[..7]), Error::Truncated { needed: 8, present: 7 });
        assert_eq!(refused(&AWS[..39]), Error::Truncated { needed: 40, present: 39 });
    }

    #[test]
    fn every_bit_beside_the_defined_ones_is_reserved() {
        for bit in 0..64_u32 {
            let header = (1_u64 << bit).to_be_bytes();
            let Ok(packet) = Packet::new_checked(&header) else { continue };
            let defined = (8..48).contains(&bit) || bit >= 54;
            assert_eq!(packet.has_reserved_bits(), !defined, "bit {bit}");
        }
    }
}
