//! pcapng: sections of blocks (draft-ietf-opsawg-pcapng).
//!
//! Only blocks that matter to the frames are looked into: section headers, interface descriptions, and the three kinds
//! of packet blocks. The rest is skipped by its length.

use pcap_parser::{
    Block, EPB_MAGIC, IDB_MAGIC, InterfaceDescriptionBlock, OptionCode, PcapNGOption, SHB_MAGIC, SPB_MAGIC,
    parse_block_be, parse_block_le,
};

use super::{
    CaptureError, MAX_BLOCK, MAX_FRAME,
    file::{Packet, Step},
    link::Link,
};

/// Obsolete packet block (appendix A of the draft).
const PACKET_BLOCK: u32 = 2;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// Type and total length before a block's body, and the length again after it.
const BLOCK_HEADER: usize = 8;
const BLOCK_OVERHEAD: usize = 12;

/// Where packet data starts in a block, enhanced and obsolete, and simple.
const PACKET_DATA: usize = 28;
const SIMPLE_PACKET_DATA: usize = 12;

/// More interfaces than this in one section are taken for damage: real captures have one for each NIC or tunnel.
const MAX_INTERFACES: usize = 1 << 16;

/// What is known of the section at hand.
#[derive(Debug, Default)]
pub(super) struct PcapNg {
    big_endian: bool,
    interfaces: Vec<Interface>,
}

/// An interface description.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link_type: u16,
    /// 0 for no limit.
    snap_len: u32,
    resolution: Resolution,
    /// Added to every timestamp, in seconds.
    offset_s: i64,
}

/// What a timestamp's unit is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Resolution {
    /// So many ns to the unit.
    Nanoseconds(u64),
    /// So many units to the second, where that is no divisor of 10⁹.
    PerSecond(u128),
    /// Units too small for any 64-bit count of them to reach a nanosecond.
    Infinitesimal,
}

impl PcapNg {
    /// Whether a file that starts with these bytes, read as a little-endian number, is one.
    pub(super) fn knows(magic: u32) -> bool {
        magic == SHB_MAGIC
    }

    /// Reads the block that the window starts with, at byte `at` of the file.
    pub(super) fn step(&mut self, window: &[u8], at: u64) -> Result<Step, CaptureError> {
        let Some(header) = window.first_chunk::<BLOCK_OVERHEAD>() else { return Ok(Step::Incomplete) };
        let [kind, length, first] =
            [0, 4, 8].map(|at| [header[at], header[at + 1], header[at + 2], header[at + 3]]);
        // The type of a section header reads the same in both byte orders, of which its first field then tells.
        if u32::from_le_bytes(kind) == SHB_MAGIC {
            self.big_endian = match (u32::from_le_bytes(first), u32::from_be_bytes(first)) {
                (BYTE_ORDER_MAGIC, _) => false,
                (_, BYTE_ORDER_MAGIC) => true,
                _ => return Err(CaptureError::malformed(at, "the section header has no byte-order magic")),
            };
        }
        let len = self.u32(length) as usize;
        if len > MAX_BLOCK {
            return Err(CaptureError::block_too_large(at, len));
        }
        if len < BLOCK_OVERHEAD || !len.is_multiple_of(4) {
            return Err(CaptureError::malformed(at, "the block length is below 12 or no multiple of 4"));
        }
        let Some(block) = window.get(..len) else { return Ok(Step::Incomplete) };
        if block[4..BLOCK_HEADER] != block[len - 4..] {
            return Err(CaptureError::malformed(at, "the block's two lengths differ"));
        }
        match self.u32(kind) {
            PACKET_BLOCK => self.obsolete_packet(block, at),
            SHB_MAGIC | IDB_MAGIC | EPB_MAGIC | SPB_MAGIC => self.block(block, at),
            _ => Ok(Step::Skip { len }),
        }
    }

    fn block(&mut self, block: &[u8], at: u64) -> Result<Step, CaptureError> {
        let parse = if self.big_endian { parse_block_be } else { parse_block_le };
        // The block is all there, so a parser that wants more has found a length that lies.
        let (_, parsed) = parse(block)
            .map_err(|_| CaptureError::malformed(at, "the block's fields do not fit its length"))?;
        match parsed {
            Block::SectionHeader(section) => {
                if section.major_version != 1 {
                    return Err(CaptureError::malformed(at, "the pcapng version is not 1"));
                }
                self.interfaces.clear();
            }
            Block::InterfaceDescription(description) => self.describe(&description, at)?,
            Block::EnhancedPacket(packet) => {
                let interface = self.interface(packet.if_id, at)?;
                let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let lengths = (packet.caplen, packet.origlen);
                return frame(block, at, PACKET_DATA, lengths, interface, interface.time(ticks));
            }
            Block::SimplePacket(packet) => {
                let interface = self.interface(0, at)?;
                let limit = if interface.snap_len == 0 { u32::MAX } else { interface.snap_len };
                let lengths = (packet.origlen.min(limit), packet.origlen);
                // It has no timestamp.
                return frame(block, at, SIMPLE_PACKET_DATA, lengths, interface, 0);
            }
            _ => {}
        }
        Ok(Step::Skip { len: block.len() })
    }

    fn describe(&mut self, description: &InterfaceDescriptionBlock<'_>, at: u64) -> Result<(), CaptureError> {
        if self.interfaces.len() == MAX_INTERFACES {
            return Err(CaptureError::malformed(at, "more than 65536 interfaces in one section"));
        }
        let mut interface = Interface {
            link_type: u16::try_from(description.linktype.0).unwrap_or(u16::MAX),
            snap_len: description.snaplen,
            resolution: Resolution::Nanoseconds(1000),
            offset_s: 0,
        };
        for option in description.options.iter().take_while(|option| option.code != OptionCode::EndOfOpt) {
            match option.code {
                OptionCode::IfTsresol => {
                    let [value] = value_of(option, at)?;
                    interface.resolution = Resolution::from_option(value);
                }
                OptionCode::IfTsoffset => {
                    let value = value_of(option, at)?;
                    let read = if self.big_endian { i64::from_be_bytes } else { i64::from_le_bytes };
                    interface.offset_s = read(value);
                }
                _ => {}
            }
        }
        self.interfaces.push(interface);
        Ok(())
    }

    /// Fields of an obsolete packet block: interface and drop count of 16 bits each, then as in an enhanced one.
    fn obsolete_packet(&self, block: &[u8], at: u64) -> Result<Step, CaptureError> {
        let Some(header) = block.first_chunk::<PACKET_DATA>() else {
            return Err(CaptureError::malformed(at, "the packet block is shorter than its fields"));
        };
        let word = |at: usize| self.u32([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let id = [header[8], header[9]];
        let id = if self.big_endian { u16::from_be_bytes(id) } else { u16::from_le_bytes(id) };
        let interface = self.interface(u32::from(id), at)?;
        let ticks = u64::from(word(12)) << 32 | u64::from(word(16));
        frame(block, at, PACKET_DATA, (word(20), word(24)), interface, interface.time(ticks))
    }

    fn interface(&self, id: u32, at: u64) -> Result<&Interface, CaptureError> {
        self.interfaces
            .get(id as usize)
            .ok_or_else(|| CaptureError::malformed(at, "a packet of an interface that was not described"))
    }

    fn u32(&self, bytes: [u8; 4]) -> u32 {
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }
}

/// A packet block as a frame; `lengths` are captured and original.
fn frame(
    block: &[u8],
    at: u64,
    data: usize,
    (captured, original): (u32, u32),
    interface: &Interface,
    time: u64,
) -> Result<Step, CaptureError> {
    let end = data.saturating_add(captured as usize);
    if end > block.len() - 4 {
        return Err(CaptureError::malformed(at, "the packet is longer than its block"));
    }
    if captured as usize > MAX_FRAME {
        return Err(CaptureError::frame_too_large(at, captured as usize));
    }
    let link = Link::from_number(interface.link_type)
        .ok_or_else(|| CaptureError::link_type(at, interface.link_type))?;
    let wire_len = original.max(captured);
    Ok(Step::Frame { len: block.len(), packet: Packet { data: data..end, wire_len, time, link } })
}

/// An option's value, of exactly the length that its code prescribes.
fn value_of<const N: usize>(option: &PcapNGOption<'_>, at: u64) -> Result<[u8; N], CaptureError> {
    option
        .as_bytes()
        .ok()
        .and_then(|value| value.try_into().ok())
        .ok_or_else(|| CaptureError::malformed(at, "an interface option has the wrong length"))
}

impl Interface {
    /// A timestamp in ns since the epoch, kept within what 64 bits hold.
    fn time(&self, ticks: u64) -> u64 {
        let ticks = u128::from(ticks);
        let ns = match self.resolution {
            Resolution::Nanoseconds(ns) => ticks * u128::from(ns),
            Resolution::PerSecond(units) => ticks * NS_PER_S / units,
            Resolution::Infinitesimal => 0,
        };
        let offset = i128::from(self.offset_s) * NS_PER_S.cast_signed();
        // At most 2⁶⁴ seconds in ns, which 128 bits hold with room to spare.
        let ns = ns.cast_signed() + offset;
        u64::try_from(ns.max(0)).unwrap_or(u64::MAX)
    }
}

const NS_PER_S: u128 = 1_000_000_000;

impl Resolution {
    /// `if_tsresol` (section 4.2): a negative power of ten, or of two where the highest bit is set.
    fn from_option(value: u8) -> Self {
        let base: u128 = if value & 0x80 == 0 { 10 } else { 2 };
        match base.checked_pow(u32::from(value & 0x7f)) {
            Some(units) if NS_PER_S.is_multiple_of(units) => {
                Self::Nanoseconds(u64::try_from(NS_PER_S / units).unwrap_or(u64::MAX))
            }
            Some(units) => Self::PerSecond(units),
            // Over 10³⁸: 2⁶⁴ units and 10⁹ ns are below 10²⁹.
            None => Self::Infinitesimal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(resolution: u8, offset_s: i64, ticks: u64) -> u64 {
        Interface { link_type: 1, snap_len: 0, resolution: Resolution::from_option(resolution), offset_s }
            .time(ticks)
    }

    #[test]
    fn timestamps_of_any_resolution_come_out_in_nanoseconds() {
        assert_eq!(time(6, 0, 1_700_000_000_123_456), 1_700_000_000_123_456_000);
        assert_eq!(time(9, 0, 1_700_000_000_123_456_789), 1_700_000_000_123_456_789);
        assert_eq!(time(0, 0, 1_700_000_000), 1_700_000_000_000_000_000);
        assert_eq!(time(12, 0, 5_000), 5);
        assert_eq!(time(0x80 | 10, 0, 1024 + 512), 1_500_000_000);
        assert_eq!(time(0x80 | 32, 0, 3 << 31), 1_500_000_000);
        assert_eq!((time(127, 0, u64::MAX), time(0xff, 0, u64::MAX)), (0, 0));
    }

    #[test]
    fn offsets_are_seconds_and_nothing_overflows() {
        assert_eq!(time(6, 1_700_000_000, 5), 1_700_000_000_000_005_000);
        assert_eq!(time(6, -1, 1_500_000), 500_000_000);
        assert_eq!(time(6, i64::MIN, u64::MAX), 0);
        assert_eq!(time(0, i64::MAX, u64::MAX), u64::MAX);
    }
}
