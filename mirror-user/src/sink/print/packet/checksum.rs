//! The Internet checksum (RFC 1071), as a verdict.

use std::net::IpAddr;

use etherparse::{IpNumber, checksum::Sum16BitWords};

use super::network::Network;

/// The sum of bytes alone.
pub(super) fn of(bytes: &[u8]) -> Sum16BitWords {
    Sum16BitWords::new().add_slice(bytes)
}

/// The sum of a transport header, its payload, and the pseudo-header before it (RFC 9293 section 3.1, RFC
/// 8200 section 8.1).
pub(super) fn with_pseudo_header(bytes: &[u8], below: &Network, protocol: IpNumber) -> Sum16BitWords {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut sum = of(bytes).add_2bytes([0, protocol.0]).add_4bytes(len);
    for address in [below.first_source.0, below.last_destination.0] {
        sum = match address {
            IpAddr::V4(address) => sum.add_4bytes(address.octets()),
            IpAddr::V6(address) => sum.add_16bytes(address.octets()),
        };
    }
    sum
}

/// The correct value of the checksum `here`, which is included in the sum; `None` if it is correct.
pub(super) fn expected(sum: &Sum16BitWords, here: u16) -> Option<u16> {
    let residue = sum.ones_complement().to_be();
    let (total, carry) = here.overflowing_add(residue);
    (residue != 0).then(|| total.wrapping_add(carry.into()))
}
