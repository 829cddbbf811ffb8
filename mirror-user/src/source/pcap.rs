//! Classic pcap: one header, then records (draft-ietf-opsawg-pcap).

use pcap_parser::parse_pcap_header;

use super::{
    error::CaptureError,
    limits::{MAX_BLOCK, MAX_FRAME},
    record::{Packet, Step},
};

const FILE_HEADER: usize = 24;
/// Seconds, fraction of a second, captured and original length.
const RECORD_HEADER: usize = 16;
/// With an interface index, protocol and packet type that Kuznetzov's format adds.
const MODIFIED_HEADER: usize = 24;
const NS_PER_S: u64 = 1_000_000_000;

/// What the file header says about the records.
#[derive(Debug)]
pub(super) struct Pcap {
    big_endian: bool,
    record_header: usize,
    /// Length of the unit of the records' sub-second field, in ns.
    unit_ns: u64,
    link_type: u16,
}

/// The fields of a record's header that every format has.
struct Fields {
    s: u32,
    fraction: u32,
    captured: u32,
    original: u32,
}

impl Pcap {
    /// Whether a file that starts with these bytes, read as a little-endian number, is one.
    pub(super) fn knows(magic: u32) -> bool {
        // Microseconds and nanoseconds in both byte orders, and Kuznetzov's "modified" records.
        matches!(magic, 0xa1b2_c3d4 | 0xa1b2_3c4d | 0xd4c3_b2a1 | 0x4d3c_b2a1 | 0xa1b2_cd34)
    }

    /// Reads the file header; `None` if more bytes are needed.
    pub(super) fn read_header(window: &[u8]) -> Result<Option<(Self, usize)>, CaptureError> {
        let Some(header) = window.first_chunk::<FILE_HEADER>() else { return Ok(None) };
        let (_, header) = parse_pcap_header(header)
            .map_err(|_| CaptureError::malformed(0, "the pcap file header cannot be read"))?;
        if header.version_major != 2 {
            return Err(CaptureError::malformed(0, "the pcap version is not 2"));
        }
        // The upper bits describe frame check sequences, which are treated as padding.
        let [low, high, _, _] = header.network.0.to_le_bytes();
        let pcap = Self {
            big_endian: header.is_bigendian(),
            record_header: if header.is_modified_format() { MODIFIED_HEADER } else { RECORD_HEADER },
            unit_ns: if header.is_nanosecond_precision() { 1 } else { 1000 },
            link_type: u16::from_le_bytes([low, high]),
        };
        Ok(Some((pcap, FILE_HEADER)))
    }

    fn fields(&self, window: &[u8]) -> Option<Fields> {
        let [s, fraction, captured, original] =
            [0, 4, 8, 12].map(|at| window.get(at..at + 4)?.try_into().ok().map(self.read()));
        Some(Fields { s: s?, fraction: fraction?, captured: captured?, original: original? })
    }

    fn read(&self) -> fn([u8; 4]) -> u32 {
        if self.big_endian { u32::from_be_bytes } else { u32::from_le_bytes }
    }

    /// Whether the window may start with a record, as random bytes hardly ever do; `None` if more bytes are
    /// needed.
    pub(super) fn is_plausible(&self, window: &[u8]) -> Option<bool> {
        let Fields { fraction, captured, .. } = self.fields(window)?;
        Some(captured as usize <= MAX_FRAME && u64::from(fraction) < NS_PER_S / self.unit_ns)
    }

    /// Reads the record that the window starts with, at byte `at` of the file.
    pub(super) fn step(&self, window: &[u8], at: u64) -> Result<Step, CaptureError> {
        let Some(Fields { s, fraction, captured, original }) = self.fields(window) else {
            return Ok(Step::Incomplete);
        };
        let captured_len = captured as usize;
        let len = self.record_header.saturating_add(captured_len);
        if captured_len > MAX_FRAME {
            let error = CaptureError::frame_too_large(at, captured_len);
            // Such a length usually means damage; then no record follows.
            return if captured_len > MAX_BLOCK {
                Err(error)
            } else {
                Ok(Step::Unsure { len, error, is_loss: true })
            };
        }
        if window.len() < len {
            return Ok(Step::Incomplete);
        }
        Ok(Step::Packet {
            len,
            packet: Packet {
                data: self.record_header..len,
                wire_len: original.max(captured),
                time: u64::from(s) * NS_PER_S + u64::from(fraction) * self.unit_ns,
                link_type: self.link_type,
            },
        })
    }
}
