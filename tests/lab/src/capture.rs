//! Capture files, read by a parser that shares no code with the engine's, and written for tests of readers.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
};

use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader, traits::PcapNGPacketBlock as _};

use crate::error::{LabError, Result};

/// One packet of a capture file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Captured {
    /// Index of the interface in its section; 0 in a classic file.
    pub interface: u32,
    /// Name of that interface, if the file has it (`if_name`).
    pub interface_name: Option<String>,
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// Bytes on the wire; more than in `bytes` if the packet was truncated.
    pub wire_len: u32,
    /// The bytes captured.
    pub bytes: Vec<u8>,
}

/// A pcapng interface statistics block.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Statistics {
    /// Index of the interface in its section.
    pub interface: u32,
    /// `isb_ifrecv`.
    pub received: Option<u64>,
    /// `isb_ifdrop`.
    pub interface_dropped: Option<u64>,
    /// `isb_filteraccept`.
    pub accepted: Option<u64>,
    /// `isb_osdrop`.
    pub kernel_dropped: Option<u64>,
    /// `isb_usrdeliv`.
    pub delivered: Option<u64>,
}

/// A whole capture file.
#[derive(Clone, Debug, Default)]
pub struct CaptureFile {
    /// Packets in file order.
    pub packets: Vec<Captured>,
    /// Names of interfaces in the order of their descriptions; empty in a classic file.
    pub interfaces: Vec<Option<String>>,
    /// Statistics blocks in file order.
    pub statistics: Vec<Statistics>,
    /// Whether the file ends within a block: its writer was stopped while it wrote.
    pub torn: bool,
}

impl CaptureFile {
    /// Only the bytes, in file order.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        self.packets.iter().map(|packet| packet.bytes.clone()).collect()
    }
}

/// Reads classic pcap (micro- or nanoseconds) or pcapng.
///
/// # Errors
///
/// Where the file is missing or is neither; a torn end is no error but reported in [`CaptureFile::torn`].
pub fn read(path: &Path) -> Result<CaptureFile> {
    let bad = |error: &dyn std::fmt::Debug| LabError::Unexpected(format!("{}: {error:?}", path.display()));
    let file = File::open(path).map_err(|error| LabError::file(path, error))?;
    let length = file.metadata().map_err(|error| LabError::file(path, error))?.len();
    // The whole file, so that no block is too large for the buffer, and one byte more to find the end.
    let capacity = usize::try_from(length).map_err(|error| bad(&error))? + 64;
    let mut reader = create_reader(capacity, file).map_err(|error| bad(&error))?;
    let mut capture = CaptureFile::default();
    let mut scales = Scales::default();
    let mut consumed = 0_u64;
    loop {
        match reader.next() {
            Ok((size, block)) => {
                capture.take(&block, &mut scales);
                reader.consume(size);
                consumed += size as u64;
            }
            Err(PcapError::Eof) => break,
            Err(PcapError::Incomplete(_)) => {
                if reader.reader_exhausted() {
                    break;
                }
                reader.refill().map_err(|error| bad(&error))?;
            }
            Err(PcapError::UnexpectedEof) => break,
            Err(error) => return Err(bad(&error)),
        }
    }
    capture.torn = consumed < length;
    Ok(capture)
}

/// Units of time of the interfaces of the section.
#[derive(Default)]
struct Scales {
    nanoseconds: bool,
    interfaces: Vec<(u64, u64)>,
    /// How many descriptions came before this section.
    earlier: usize,
}

impl CaptureFile {
    fn take(&mut self, block: &PcapBlockOwned<'_>, scales: &mut Scales) {
        match block {
            PcapBlockOwned::LegacyHeader(header) => scales.nanoseconds = header.is_nanosecond_precision(),
            PcapBlockOwned::Legacy(packet) => {
                let fraction = u64::from(packet.ts_usec) * if scales.nanoseconds { 1 } else { 1_000 };
                self.packets.push(Captured {
                    interface: 0,
                    interface_name: None,
                    time_ns: u64::from(packet.ts_sec) * 1_000_000_000 + fraction,
                    wire_len: packet.origlen,
                    bytes: packet.data.to_vec(),
                });
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                scales.interfaces.clear();
                scales.earlier = self.interfaces.len();
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(description)) => {
                let resolution = description.ts_resolution().unwrap_or(1_000_000);
                let offset = u64::try_from(description.ts_offset()).unwrap_or_default();
                scales.interfaces.push((offset, resolution));
                let name = description.if_name().and_then(std::result::Result::ok).map(str::to_owned);
                self.interfaces.push(name);
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let place = packet.if_id as usize;
                let (offset, resolution) = scales.interfaces.get(place).copied().unwrap_or((0, 1_000_000));
                let units = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let (seconds, rest) = (units / resolution, units % resolution);
                let fraction = u128::from(rest) * 1_000_000_000 / u128::from(resolution);
                self.packets.push(Captured {
                    interface: packet.if_id,
                    interface_name: self.interfaces.get(scales.earlier + place).cloned().flatten(),
                    time_ns: (offset + seconds) * 1_000_000_000 + u64::try_from(fraction).unwrap_or_default(),
                    wire_len: packet.origlen,
                    bytes: packet.packet_data().to_vec(),
                });
            }
            PcapBlockOwned::NG(Block::InterfaceStatistics(block)) => {
                self.statistics.push(Statistics {
                    interface: block.if_id,
                    received: block.isb_ifrecv().and_then(std::result::Result::ok),
                    interface_dropped: block.isb_ifdrop().and_then(std::result::Result::ok),
                    accepted: block.isb_filteraccept().and_then(std::result::Result::ok),
                    kernel_dropped: block.isb_osdrop().and_then(std::result::Result::ok),
                    delivered: block.isb_usrdeliv().and_then(std::result::Result::ok),
                });
            }
            PcapBlockOwned::NG(_) => {}
        }
    }
}

/// Writes a classic pcap file of Ethernet frames with nanosecond times, one microsecond apart from 1 s on.
///
/// # Errors
///
/// [`LabError::Io`] if the file cannot be written.
pub fn write_pcap(path: &Path, frames: &[Vec<u8>]) -> Result<()> {
    const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
    const LINKTYPE_ETHERNET: u32 = 1;
    let mut bytes = Vec::new();
    for word in [MAGIC_NANOSECONDS, 4 << 16 | 2, 0, 0, 262_144, LINKTYPE_ETHERNET] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    for (frame, number) in frames.iter().zip(0_u32..) {
        let len = u32::try_from(frame.len())
            .map_err(|_| LabError::Unexpected(format!("a frame of {} bytes", frame.len())))?;
        for word in [1 + number / 1_000_000, number % 1_000_000 * 1_000, len, len] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(frame);
    }
    let file = File::create(path).map_err(|error| LabError::file(path, error))?;
    let mut file = BufWriter::new(file);
    file.write_all(&bytes).and_then(|()| file.flush()).map_err(|error| LabError::file(path, error))
}

/// The frames of a list, sorted: two such lists are equal where the multisets are.
pub fn multiset(mut frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    frames.sort_unstable();
    frames
}

/// Compares two lists of frames, byte for byte and in sequence; compare their [`multiset`]s to ignore the
/// order.
///
/// # Errors
///
/// [`LabError::Unexpected`] that names the first frame that differs, by its place from 1, and where.
pub fn same_frames(wanted: &[Vec<u8>], seen: &[Vec<u8>]) -> Result<()> {
    for ((wanted, seen), number) in wanted.iter().zip(seen).zip(1_u64..) {
        if wanted == seen {
            continue;
        }
        let same = wanted.iter().zip(seen).take_while(|(wanted, seen)| wanted == seen).count();
        return Err(LabError::Unexpected(format!(
            "frame {number} has {} bytes of {} and differs from byte {same} on",
            seen.len(),
            wanted.len()
        )));
    }
    if wanted.len() != seen.len() {
        return Err(LabError::Unexpected(format!("{} frames of {}", seen.len(), wanted.len())));
    }
    Ok(())
}

/// Whether there is a file with something in it.
pub(crate) fn size(path: &Path) -> u64 {
    fs::metadata(path).map(|metadata| metadata.len()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_frame_that_differs_is_named() {
        let wanted = [vec![1, 2, 3], vec![4, 5]];
        same_frames(&wanted, &wanted).unwrap();
        let differs = |seen: &[Vec<u8>]| same_frames(&wanted, seen).unwrap_err().to_string();
        assert_eq!(
            differs(&[wanted[0].clone(), vec![4, 6]]),
            "frame 2 has 2 bytes of 2 and differs from byte 1 on"
        );
        assert_eq!(
            differs(&[vec![1, 2], wanted[1].clone()]),
            "frame 1 has 2 bytes of 3 and differs from byte 2 on"
        );
        assert_eq!(differs(&wanted[..1]), "1 frames of 2");
        assert_eq!(differs(&[wanted.to_vec(), vec![vec![7]]].concat()), "3 frames of 2");
    }
}
