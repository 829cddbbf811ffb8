//! A frame split into IP fragments, as by a router.

use crate::error::{LabError, Result};

const ETHERNET: usize = 14;
const TAG: usize = 4;
const IPV6_HEADER: usize = 40;
/// Number of the fragment header (RFC 8200 section 4.5).
const IPV6_FRAGMENT: u8 = 44;

/// Cuts a whole frame, over IPv4 or over IPv6 without extension headers, at these offsets of its IP payload:
/// multiples of 8 in ascending order. Over IPv6, no offsets give an atomic fragment (RFC 6946).
///
/// # Errors
///
/// [`LabError::Unexpected`] if the frame is not IP, or a length does not fit its field.
pub fn fragment(frame: &[u8], id: u32, cuts: &[usize]) -> Result<Vec<Vec<u8>>> {
    let mut at = ETHERNET;
    while matches!(frame.get(at - 2..at), Some([0x81, 0x00] | [0x88, 0xa8])) {
        at += TAG;
    }
    let first = frame.get(at).copied().unwrap_or_default();
    let header = if first >> 4 == 6 { IPV6_HEADER } else { usize::from(first & 15) * 4 };
    let Some((headers, payload)) = frame.split_at_checked(at + header) else {
        return Err(LabError::Unexpected(format!("a frame of {} bytes to cut up", frame.len())));
    };
    let starts = [0].into_iter().chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain([payload.len()]);
    starts
        .zip(ends)
        .map(|(start, end)| {
            let more = u16::from(end < payload.len());
            let (offset, len) = (field(start)?, field(end - start)?);
            let mut bytes = headers.to_vec();
            if first >> 4 == 6 {
                bytes[at + 4..at + 6].copy_from_slice(&(len + 8).to_be_bytes());
                let next = std::mem::replace(&mut bytes[at + 6], IPV6_FRAGMENT);
                bytes.extend([next, 0]);
                bytes.extend((offset | more).to_be_bytes());
                bytes.extend(id.to_be_bytes());
            } else {
                bytes[at + 2..at + 4].copy_from_slice(&field(header + end - start)?.to_be_bytes());
                bytes[at + 4..at + 6].copy_from_slice(&id.to_be_bytes()[2..]);
                bytes[at + 6..at + 8].copy_from_slice(&((offset / 8) | (more << 13)).to_be_bytes());
                bytes[at + 10..at + 12].fill(0);
                let checksum = etherparse::checksum::Sum16BitWords::new().add_slice(&bytes[at..]);
                bytes[at + 10..at + 12].copy_from_slice(&checksum.ones_complement().to_be().to_be_bytes());
            }
            bytes.extend_from_slice(&payload[start..end]);
            Ok(bytes)
        })
        .collect()
}

fn field(value: usize) -> Result<u16> {
    u16::try_from(value).map_err(|_| LabError::Unexpected(format!("a length of {value} bytes")))
}
