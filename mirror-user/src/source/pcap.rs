//! Classic pcap: one header, then records (draft-ietf-opsawg-pcap).

use pcap_parser::{
    LegacyPcapBlock, PcapError,
    nom::{Err as NomError, IResult, Needed},
    parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified, parse_pcap_header,
};

use super::{
    CaptureError, MAX_FRAME,
    file::{Packet, Step},
    link::Link,
};

const FILE_HEADER: usize = 24;

type ParseRecord = for<'a> fn(&'a [u8]) -> IResult<&'a [u8], LegacyPcapBlock<'a>, PcapError<&'a [u8]>>;

/// What the file header tells about the records.
#[derive(Debug)]
pub(super) struct Pcap {
    parse_record: ParseRecord,
    record_header: usize,
    /// Length of the unit of the records' sub-second field, in ns.
    unit_ns: u64,
    link_type: u16,
}

impl Pcap {
    /// Whether a file that starts with these bytes, read as a little-endian number, is one.
    pub(super) fn knows(magic: u32) -> bool {
        // Microseconds and nanoseconds in both byte orders, and Kuznetzov's "modified" records.
        matches!(magic, 0xa1b2_c3d4 | 0xa1b2_3c4d | 0xd4c3_b2a1 | 0x4d3c_b2a1 | 0xa1b2_cd34)
    }

    /// Reads the file header; `None` as long as it is not all there.
    pub(super) fn read_header(window: &[u8]) -> Result<Option<(Self, usize)>, CaptureError> {
        let Some(header) = window.first_chunk::<FILE_HEADER>() else { return Ok(None) };
        let (_, header) = parse_pcap_header(header)
            .map_err(|_| CaptureError::malformed(0, "the pcap file header cannot be read"))?;
        if header.version_major != 2 {
            return Err(CaptureError::malformed(0, "the pcap version is not 2"));
        }
        let (parse_record, record_header): (ParseRecord, _) = if header.is_modified_format() {
            (parse_pcap_frame_modified, 24)
        } else if header.is_bigendian() {
            (parse_pcap_frame_be, 16)
        } else {
            (parse_pcap_frame, 16)
        };
        // The upper bits tell about frame check sequences, which are padding to us.
        let [low, high, _, _] = header.network.0.to_le_bytes();
        let pcap = Self {
            parse_record,
            record_header,
            unit_ns: if header.is_nanosecond_precision() { 1 } else { 1000 },
            link_type: u16::from_le_bytes([low, high]),
        };
        Ok(Some((pcap, FILE_HEADER)))
    }

    /// Reads the record that the window starts with, at byte `at` of the file.
    pub(super) fn step(&self, window: &[u8], at: u64) -> Result<Step, CaptureError> {
        let record = match (self.parse_record)(window) {
            Ok((_, record)) => record,
            Err(NomError::Incomplete(Needed::Size(missing))) => {
                let needed = window.len().saturating_add(missing.get());
                let frame = needed.saturating_sub(self.record_header);
                return if frame > MAX_FRAME {
                    Err(CaptureError::frame_too_large(at, frame))
                } else {
                    Ok(Step::Incomplete)
                };
            }
            Err(_) => return Err(CaptureError::malformed(at, "the record header cannot be read")),
        };
        let captured = record.data.len();
        if captured > MAX_FRAME {
            return Err(CaptureError::frame_too_large(at, captured));
        }
        let link =
            Link::from_number(self.link_type).ok_or_else(|| CaptureError::link_type(at, self.link_type))?;
        let time = u64::from(record.ts_sec) * 1_000_000_000 + u64::from(record.ts_usec) * self.unit_ns;
        Ok(Step::Frame {
            len: self.record_header + captured,
            packet: Packet {
                data: self.record_header..self.record_header + captured,
                wire_len: record.origlen.max(record.caplen),
                time,
                link,
            },
        })
    }
}
