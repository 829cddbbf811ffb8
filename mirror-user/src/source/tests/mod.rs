//! Captures built byte by byte: what is read from them, and the errors of broken ones.

mod formats;
mod links;
mod packed;
mod streams;

use std::io::Read;

use super::{CaptureError, CaptureReader, Unread};

/// A frame as a test compares it: bytes, wire length, time.
type Seen = (Vec<u8>, u32, u64);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Endian {
    Little,
    Big,
}

impl Endian {
    fn u16(self, value: u16) -> [u8; 2] {
        if self == Self::Big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn u32(self, value: u32) -> [u8; 4] {
        if self == Self::Big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn u64(self, value: u64) -> [u8; 8] {
        if self == Self::Big { value.to_be_bytes() } else { value.to_le_bytes() }
    }
}

/// The header of a classic pcap.
fn pcap_header(endian: Endian, magic: u32, link_type: u32) -> Vec<u8> {
    let mut bytes = endian.u32(magic).to_vec();
    bytes.extend(endian.u16(2));
    bytes.extend(endian.u16(4));
    for field in [0, 0, 65535, link_type] {
        bytes.extend(endian.u32(field));
    }
    bytes
}

/// A record of it; `extra` bytes follow the record header in the "modified" format.
fn pcap_record(
    endian: Endian,
    (s, fraction): (u32, u32),
    wire_len: u32,
    extra: usize,
    data: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in [s, fraction, u32::try_from(data.len()).unwrap(), wire_len] {
        bytes.extend(endian.u32(field));
    }
    bytes.extend(vec![0; extra]);
    bytes.extend(data);
    bytes
}

/// A classic pcap of Ethernet frames, little-endian, µs, one frame a second.
pub(crate) fn pcap_file(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = pcap_header(Endian::Little, 0xa1b2_c3d4, 1);
    for (s, frame) in (1..).zip(frames) {
        bytes.extend(pcap_record(Endian::Little, (s, 0), u32::try_from(frame.len()).unwrap(), 0, frame));
    }
    bytes
}

/// A pcapng block around its body, which is padded.
fn block(endian: Endian, kind: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let len = endian.u32(u32::try_from(padded + 12).unwrap());
    let mut bytes = endian.u32(kind).to_vec();
    bytes.extend(len);
    bytes.extend(body);
    bytes.extend(vec![0; padded - body.len()]);
    bytes.extend(len);
    bytes
}

fn section(endian: Endian) -> Vec<u8> {
    let mut body = endian.u32(0x1a2b_3c4d).to_vec();
    body.extend(endian.u16(1));
    body.extend(endian.u16(0));
    body.extend([0xff; 8]);
    block(endian, 0x0a0d_0d0a, &body)
}

fn option(endian: Endian, code: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = endian.u16(code).to_vec();
    bytes.extend(endian.u16(u16::try_from(value.len()).unwrap()));
    bytes.extend(value);
    bytes.extend(vec![0; value.len().next_multiple_of(4) - value.len()]);
    bytes
}

fn interface(endian: Endian, link_type: u16, snap_len: u32, options: &[Vec<u8>]) -> Vec<u8> {
    let mut body = endian.u16(link_type).to_vec();
    body.extend([0; 2]);
    body.extend(endian.u32(snap_len));
    body.extend(options.concat());
    block(endian, 1, &body)
}

/// An enhanced packet block; `options` follow the padded data.
fn enhanced(endian: Endian, id: u32, ticks: u64, wire_len: u32, data: &[u8], options: &[u8]) -> Vec<u8> {
    let mut body = endian.u32(id).to_vec();
    body.extend(ticks_of(endian, ticks));
    body.extend(endian.u32(u32::try_from(data.len()).unwrap()));
    body.extend(endian.u32(wire_len));
    body.extend(data);
    body.extend(vec![0; data.len().next_multiple_of(4) - data.len()]);
    body.extend(options);
    block(endian, 6, &body)
}

fn simple(endian: Endian, wire_len: u32, data: &[u8]) -> Vec<u8> {
    let mut body = endian.u32(wire_len).to_vec();
    body.extend(data);
    block(endian, 3, &body)
}

fn obsolete(endian: Endian, id: u16, ticks: u64, wire_len: u32, data: &[u8]) -> Vec<u8> {
    let mut body = endian.u16(id).to_vec();
    body.extend(endian.u16(7));
    body.extend(ticks_of(endian, ticks));
    body.extend(endian.u32(u32::try_from(data.len()).unwrap()));
    body.extend(endian.u32(wire_len));
    body.extend(data);
    block(endian, 2, &body)
}

/// The high word first, in both byte orders.
fn ticks_of(endian: Endian, ticks: u64) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h] = ticks.to_be_bytes();
    let (high, low) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&endian.u32(high));
    bytes[4..].copy_from_slice(&endian.u32(low));
    bytes
}

/// Everything a reader gives, and how it ends.
fn read_all(reader: impl Read, most: usize) -> (Vec<Seen>, Option<CaptureError>) {
    read_to_end(&mut CaptureReader::new(reader), most)
}

fn read_to_end(reader: &mut CaptureReader<impl Read>, most: usize) -> (Vec<Seen>, Option<CaptureError>) {
    let mut seen = Vec::new();
    loop {
        match reader.next_batch(most) {
            Ok(Some(captures)) => {
                assert!(captures.len() <= most, "a batch is no longer than asked for");
                seen.extend(captures.iter().map(|c| (c.bytes().first().to_vec(), c.wire_len(), c.time())));
            }
            Ok(None) => return (seen, None),
            Err(error) => return (seen, Some(error)),
        }
    }
}

/// The frames of a capture without errors.
fn frames(bytes: &[u8]) -> Vec<Seen> {
    let (seen, error) = read_all(bytes, 64);
    assert!(error.is_none(), "{error:?}");
    seen
}

/// The frames of a capture of which a part is skipped, and that part.
fn passed_over(bytes: &[u8]) -> (Vec<Seen>, Unread) {
    let mut reader = CaptureReader::new(bytes);
    let (seen, error) = read_to_end(&mut reader, 64);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(reader.packets(), seen.len() as u64 + reader.unread().of_link_types());
    (seen, reader.into_unread())
}

/// The error of a broken one.
fn complaint(bytes: &[u8]) -> String {
    read_all(bytes, 64).1.expect("the capture is broken").to_string()
}
