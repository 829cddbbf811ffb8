//! pcapng: sections of blocks (draft-ietf-opsawg-pcapng).
//!
//! Only section headers, interface descriptions and the three kinds of packet blocks are parsed; other blocks
//! are skipped by their length. All is read in place: a parser's representation of a block's options takes
//! many times the block's own bytes, and hardly any option matters here.

use super::{
    error::CaptureError,
    limits::{MAX_BLOCK, MAX_FRAME},
    record::{Packet, Step},
};

// Block types: sections 4.1 to 4.4 and appendix A of the draft.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
/// The highest of the consecutive block types; blocks of others are rare.
const LAST_COMMON: u32 = 12;
/// Custom blocks, and those that must not be copied (section 4.7).
const CUSTOM: [u32; 2] = [0xbad, 0x4000_0bad];

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// Type and total length before a block's body, and the length again after it.
const BLOCK_HEADER: usize = 8;
const BLOCK_OVERHEAD: usize = 12;

/// Where packet data starts in a block's body, enhanced and obsolete, and simple.
const PACKET_DATA: usize = 20;
const SIMPLE_PACKET_DATA: usize = 4;

// Options: sections 3.5 and 4.2.
const END_OF_OPTIONS: u16 = 0;
const IF_TSRESOL: u16 = 9;
const IF_TSOFFSET: u16 = 14;

/// More interfaces than this in one section mean damage: real captures have one for each NIC or tunnel.
const MAX_INTERFACES: usize = 1 << 16;

/// The longest block that is skipped without being held: longer ones usually mean damage.
const MAX_PASSED_OVER: usize = 16 * MAX_BLOCK;

const UNDESCRIBED: &str = "a packet of an interface that was not described";
const VERSION: &str = "the pcapng version is not 1";

/// The current section.
#[derive(Debug, Default)]
pub(super) struct PcapNg {
    big_endian: bool,
    /// It is of an unknown version: nothing in it is read.
    is_foreign: bool,
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

/// The unit of timestamps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Resolution {
    /// This many ns to the unit.
    Nanoseconds(u64),
    /// This many units to the second, if that does not divide 10⁹.
    PerSecond(u128),
    /// So small that no 64-bit count reaches a nanosecond.
    Infinitesimal,
}

/// What is wrong with a block whose length is right.
type Wrong = &'static str;

impl PcapNg {
    /// Whether a file that starts with these bytes, read as a little-endian number, is one.
    pub(super) fn knows(magic: u32) -> bool {
        magic == SECTION_HEADER
    }

    /// Whether the window may start with a block, as random bytes hardly ever do; `None` if more bytes are
    /// needed.
    pub(super) fn is_plausible(&self, window: &[u8]) -> Option<bool> {
        let [kind, len, first] = header(window)?;
        if u32::from_le_bytes(kind) == SECTION_HEADER {
            return Some(byte_order(first).is_some());
        }
        let (kind, len) = (self.u32(kind), self.u32(len) as usize);
        let is_known = (1..=LAST_COMMON).contains(&kind) || CUSTOM.contains(&kind);
        Some(is_known && (BLOCK_OVERHEAD..=MAX_BLOCK).contains(&len) && len.is_multiple_of(4))
    }

    /// Reads the block that the window starts with, at byte `at` of the file.
    pub(super) fn step(&mut self, window: &[u8], at: u64) -> Result<Step, CaptureError> {
        let Some([kind, length, first]) = header(window) else { return Ok(Step::Incomplete) };
        // The type of a section header reads the same in both byte orders, which its first field then gives.
        if u32::from_le_bytes(kind) == SECTION_HEADER {
            self.big_endian = byte_order(first)
                .ok_or_else(|| CaptureError::malformed(at, "the section header has no byte-order magic"))?;
        }
        let (kind, len) = (self.u32(kind), self.u32(length) as usize);
        if len < BLOCK_OVERHEAD || !len.is_multiple_of(4) {
            return Err(CaptureError::malformed(at, "the block length is below 12 or no multiple of 4"));
        }
        if len > MAX_BLOCK {
            let error = CaptureError::block_too_large(at, len);
            // Blocks without packets and interfaces may have any length.
            let holds_frames = matches!(
                kind,
                SECTION_HEADER | INTERFACE_DESCRIPTION | OBSOLETE_PACKET | SIMPLE_PACKET | ENHANCED_PACKET
            );
            return if len > MAX_PASSED_OVER {
                Err(error)
            } else {
                Ok(Step::Unsure { len, error, is_loss: holds_frames })
            };
        }
        let Some(block) = window.get(..len) else { return Ok(Step::Incomplete) };
        if block[4..BLOCK_HEADER] != block[len - 4..] {
            if kind == SECTION_HEADER {
                // Interfaces are numbered anew, even if the rest of it is malformed.
                let _ = self.begin_section(&block[BLOCK_HEADER..len - 4]);
            }
            let error = CaptureError::malformed(at, "the block's two lengths differ");
            return Ok(Step::Unsure { len, error, is_loss: true });
        }
        let body = &block[BLOCK_HEADER..len - 4];
        let done = match kind {
            SECTION_HEADER => self.begin_section(body),
            INTERFACE_DESCRIPTION | OBSOLETE_PACKET | SIMPLE_PACKET | ENHANCED_PACKET if self.is_foreign => {
                Err(VERSION)
            }
            INTERFACE_DESCRIPTION => self.describe(body),
            OBSOLETE_PACKET | SIMPLE_PACKET | ENHANCED_PACKET => match self.packet(kind, body) {
                Ok(Packet { data, .. }) if data.len() > MAX_FRAME => {
                    let error = CaptureError::frame_too_large(at, data.len());
                    return Ok(Step::Broken { len, error });
                }
                Ok(packet) => return Ok(Step::Packet { len, packet }),
                Err(wrong) => Err(wrong),
            },
            _ => Ok(()),
        };
        Ok(match done {
            Ok(()) => Step::Skip { len },
            Err(wrong) => Step::Broken { len, error: CaptureError::malformed(at, wrong) },
        })
    }

    /// Byte-order magic, version, section length (section 4.1).
    fn begin_section(&mut self, body: &[u8]) -> Result<(), Wrong> {
        self.interfaces.clear();
        let major = self.half(body, 4);
        self.is_foreign = major != Some(1);
        match major {
            Some(1) => Ok(()),
            Some(_) => Err(VERSION),
            None => Err("the section header is shorter than its fields"),
        }
    }

    /// Link type, two reserved bytes, snap length, options (section 4.2).
    ///
    /// Interfaces are numbered by their descriptions, so each is kept, even if it is malformed.
    fn describe(&mut self, body: &[u8]) -> Result<(), Wrong> {
        if self.interfaces.len() == MAX_INTERFACES {
            return Err("more than 65536 interfaces in one section");
        }
        let (link_type, snap_len) = (self.half(body, 0), self.word(body, 4));
        let mut interface = Interface {
            // An unassigned number: its packets are counted as unsupported.
            link_type: link_type.unwrap_or(u16::MAX),
            snap_len: snap_len.unwrap_or(0),
            resolution: Resolution::Nanoseconds(1000),
            offset_s: 0,
        };
        let options = body.get(8..).ok_or("the interface description is shorter than its fields");
        let described = options.and_then(|options| self.take_options(options, &mut interface));
        self.interfaces.push(interface);
        described
    }

    /// Reads the options about timestamps.
    fn take_options(&self, mut options: &[u8], interface: &mut Interface) -> Result<(), Wrong> {
        const LENGTH: &str = "an interface option has the wrong length";
        while let (Some(code), Some(len)) = (self.half(options, 0), self.half(options, 2)) {
            if code == END_OF_OPTIONS {
                break;
            }
            let len = usize::from(len);
            let value = options.get(4..4 + len).ok_or(LENGTH)?;
            match code {
                IF_TSRESOL => {
                    let [value] = value.try_into().map_err(|_| LENGTH)?;
                    interface.resolution = Resolution::from_option(value);
                }
                IF_TSOFFSET => {
                    let read = if self.big_endian { i64::from_be_bytes } else { i64::from_le_bytes };
                    interface.offset_s = read(value.try_into().map_err(|_| LENGTH)?);
                }
                _ => {}
            }
            options = options.get(4 + len.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }

    /// Fields of an enhanced packet block (section 4.3) are interface, time, captured and original length; of
    /// an obsolete one (appendix A) the same, but for an interface of 16 bits and a drop count. A simple one
    /// (section 4.4) has the original length alone, and no time.
    fn packet(&self, kind: u32, body: &[u8]) -> Result<Packet, Wrong> {
        const FIELDS: &str = "the packet block is shorter than its fields";
        let word = |at| self.word(body, at).ok_or(FIELDS);
        let (interface, start, captured, original, ticks) = if kind == SIMPLE_PACKET {
            let interface = self.interfaces.first().ok_or(UNDESCRIBED)?;
            let limit = if interface.snap_len == 0 { u32::MAX } else { interface.snap_len };
            let original = word(0)?;
            (interface, SIMPLE_PACKET_DATA, original.min(limit), original, None)
        } else {
            let id = match kind {
                OBSOLETE_PACKET => self.half(body, 0).map(u32::from).ok_or(FIELDS)?,
                _ => word(0)?,
            };
            let interface = self.interfaces.get(id as usize).ok_or(UNDESCRIBED)?;
            let ticks = u64::from(word(4)?) << 32 | u64::from(word(8)?);
            (interface, PACKET_DATA, word(12)?, word(16)?, Some(ticks))
        };
        let end = start.saturating_add(captured as usize);
        if end > body.len() {
            return Err("the packet is longer than its block");
        }
        Ok(Packet {
            data: BLOCK_HEADER + start..BLOCK_HEADER + end,
            wire_len: original.max(captured),
            time: ticks.map_or(0, |ticks| interface.time(ticks)),
            link_type: interface.link_type,
        })
    }

    fn word(&self, bytes: &[u8], at: usize) -> Option<u32> {
        bytes.get(at..at + 4)?.try_into().ok().map(|bytes| self.u32(bytes))
    }

    fn half(&self, bytes: &[u8], at: usize) -> Option<u16> {
        let read = if self.big_endian { u16::from_be_bytes } else { u16::from_le_bytes };
        bytes.get(at..at + 2)?.try_into().ok().map(read)
    }

    fn u32(&self, bytes: [u8; 4]) -> u32 {
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }
}

/// A block's type, its length, and the first field of its body, if it has a body.
fn header(window: &[u8]) -> Option<[[u8; 4]; 3]> {
    let header = window.first_chunk::<BLOCK_OVERHEAD>()?;
    Some([0, 4, 8].map(|at| [header[at], header[at + 1], header[at + 2], header[at + 3]]))
}

/// Whether a section is big-endian, by the first field of its header.
fn byte_order(first: [u8; 4]) -> Option<bool> {
    match (u32::from_le_bytes(first), u32::from_be_bytes(first)) {
        (BYTE_ORDER_MAGIC, _) => Some(false),
        (_, BYTE_ORDER_MAGIC) => Some(true),
        _ => None,
    }
}

impl Interface {
    /// A timestamp in ns since the epoch, clamped to 64 bits.
    fn time(&self, ticks: u64) -> u64 {
        let ticks = u128::from(ticks);
        let ns = match self.resolution {
            Resolution::Nanoseconds(ns) => ticks * u128::from(ns),
            Resolution::PerSecond(units) => ticks * NS_PER_S / units,
            Resolution::Infinitesimal => 0,
        };
        let offset = i128::from(self.offset_s) * NS_PER_S.cast_signed();
        // At most 2⁶⁴ seconds in ns, which fits 128 bits.
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
