//! Header lengths and protocol numbers: the programs read frames by them, and those of `mirror-user` are
//! checked against them when it is compiled.

/// Bytes of an Ethernet header without tags.
pub const ETHERNET_HEADER: usize = 14;
/// Bytes of a VLAN tag (IEEE 802.1Q clause 9.6).
pub const VLAN_TAG: usize = 4;
/// Bytes of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// Bytes of an IPv6 header.
pub const IPV6_HEADER: usize = 40;
/// Bytes of an IPv6 fragment header.
pub const FRAGMENT_HEADER: usize = 8;
/// Bytes of a UDP header.
pub const UDP_HEADER: usize = 8;
/// Bytes of a VXLAN header.
pub const VXLAN_HEADER: usize = 8;

/// Ethertype of IPv4 (RFC 894).
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// Ethertype of IPv6 (RFC 2464 section 3).
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Ethertype of a VLAN tag (IEEE 802.1Q).
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// Ethertype of a service VLAN tag (IEEE 802.1ad).
pub const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;

/// The more-fragments flag in IPv4's word of flags and fragment offset (RFC 791 section 3.1).
pub const IPV4_MORE_FRAGMENTS: u16 = 0x2000;
/// The fragment offset in that word, in units of 8 bytes.
pub const IPV4_FRAGMENT_OFFSET: u16 = 0x1fff;

/// Protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// Protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// Protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// Next header of ICMPv6.
pub const PROTOCOL_ICMPV6: u8 = 58;
/// Next header of an IPv6 fragment header.
pub const PROTOCOL_FRAGMENT: u8 = 44;
/// Next header of ESP, behind which all is encrypted.
pub const PROTOCOL_ESP: u8 = 50;
/// Next header of AH.
pub const PROTOCOL_AH: u8 = 51;

/// Whether an IPv6 next header is an extension header other than [`PROTOCOL_FRAGMENT`]: hop-by-hop options,
/// routing, ESP, AH, destination options, mobility, HIP, shim6 (IANA's list of RFC 7045).
#[inline(always)]
#[must_use]
pub const fn is_extension(next_header: u8) -> bool {
    matches!(next_header, 0 | 43 | PROTOCOL_ESP | PROTOCOL_AH | 60 | 135 | 139 | 140)
}

/// Whether a protocol has ports in its first four bytes: TCP, UDP, DCCP, SCTP, UDP-Lite (IANA "Protocol
/// Numbers").
#[inline(always)]
#[must_use]
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP | 33 | 132 | 136)
}

/// IANA's port of VXLAN (RFC 7348 section 8), to which AWS Traffic Mirroring sends.
pub const VXLAN_PORT: u16 = 4789;
/// IANA's port of GENEVE (RFC 8926 section 3.3).
pub const GENEVE_PORT: u16 = 6081;
/// The I flag in the first byte of a VXLAN header: the VNI is valid (RFC 7348 section 5).
pub const VXLAN_FLAG_VNI: u8 = 0x08;
