//! The bytes of capture files: pcapng (draft-ietf-opsawg-pcapng) and classic pcap (draft-ietf-opsawg-pcap).
//!
//! Not from a crate: `pcap-file` and `pcap-parser` allocate and copy for each packet, while this writes into
//! a block's bytes. For the other blocks, one needs a newer compiler than ours and the other an async
//! runtime. Tests read the output back with these crates.

use crate::{
    account::Origin,
    frame::Segments,
    sink::origin::{OriginKey, OriginNames},
    tunnels::Encapsulation,
};

/// Format of a capture file.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Format {
    /// pcapng: an interface per origin, times in ns, statistics at the end.
    #[default]
    Pcapng,
    /// Classic pcap with times in ns (magic number 0xa1b23c4d). It cannot store VNI, outer source or
    /// statistics.
    Pcap,
    /// The same with times in µs (magic number 0xa1b2c3d4), for readers that need it.
    PcapMicros,
}

/// Largest captured length that every reader accepts; tcpdump's default snap length.
pub(super) const MAX_SNAPLEN: u32 = 262_144;

// Block types: draft-ietf-opsawg-pcapng section 4.
const SHB_TYPE: u32 = 0x0a0d_0d0a;
const IDB_TYPE: u32 = 1;
const ISB_TYPE: u32 = 5;
const EPB_TYPE: u32 = 6;

// Options: sections 3.5, 4.1, 4.2 and 4.6.
const END_OF_OPTIONS: u16 = 0;
pub(super) const COMMENT: u16 = 1;
const SHB_HARDWARE: u16 = 2;
const SHB_OS: u16 = 3;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_DESCRIPTION: u16 = 3;
const IF_TSRESOL: u16 = 9;
const ISB_STARTTIME: u16 = 2;
const ISB_ENDTIME: u16 = 3;
const ISB_IFRECV: u16 = 4;
const ISB_IFDROP: u16 = 5;
const ISB_OSDROP: u16 = 7;
const ISB_USRDELIV: u16 = 8;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// Major 1 in the low half, minor 0 in the high one.
const PCAPNG_VERSION: u32 = 1;
const LINKTYPE_ETHERNET: u32 = 1;
/// Block type, block length, interface, time high and low, captured and original length.
pub(super) const EPB_HEAD: usize = 28;
/// Offset of the captured length in it; the original length follows.
const EPB_CAPTURED: usize = 20;
/// The block length again.
const EPB_TAIL: usize = 4;
/// Seconds, nanoseconds, captured and original length (draft-ietf-opsawg-pcap section 5).
const RECORD_HEAD: usize = 16;
/// Units of 10^-9 s (draft-ietf-opsawg-pcapng section 4.2, if_tsresol).
const TSRESOL_NS: u8 = 9;
const NS: u64 = 1_000_000_000;
const PCAP_NS_MAGIC: u32 = 0xa1b2_3c4d;
const PCAP_US_MAGIC: u32 = 0xa1b2_c3d4;

/// Fields of a packet's header.
#[derive(Clone, Copy, Debug)]
pub(super) struct PacketHead {
    pub(super) interface: u32,
    /// ns since the epoch.
    pub(super) time: u64,
    pub(super) captured: u32,
    pub(super) original: u32,
}

impl Format {
    /// Bytes of a packet with this captured length.
    pub(super) fn packet_len(self, captured: usize) -> usize {
        match self {
            Self::Pcapng => EPB_HEAD + captured.next_multiple_of(4) + EPB_TAIL,
            Self::Pcap | Self::PcapMicros => RECORD_HEAD + captured,
        }
    }

    /// Writes a packet into `out`, which is [`packet_len`](Self::packet_len) bytes.
    pub(super) fn put_packet(self, out: &mut [u8], head: PacketHead, data: Segments<'_>) {
        let PacketHead { interface, time, captured, original } = head;
        let rest = match self {
            Self::Pcapng => {
                #[expect(clippy::cast_possible_truncation, reason = "a packet's block is far below 4 GiB")]
                let len = out.len() as u32;
                let (high, low) = halves(time);
                let (head, rest) = out.split_at_mut(EPB_HEAD);
                head.copy_from_slice(
                    [EPB_TYPE, len, interface, high, low, captured, original]
                        .map(u32::to_le_bytes)
                        .as_flattened(),
                );
                let (body, tail) = rest.split_at_mut(rest.len() - EPB_TAIL);
                tail.copy_from_slice(&len.to_le_bytes());
                body
            }
            Self::Pcap | Self::PcapMicros => {
                self.put_record_head(out, time, captured, original);
                &mut out[RECORD_HEAD..]
            }
        };
        let at = data.copy_to(&mut rest[..captured as usize]);
        // Padding to 32 bits "should be filled with zeroes" (section 3.1); the block still holds older
        // packets there.
        if at < rest.len() {
            rest[at..].fill(0);
        }
    }

    /// The whole packets at the start of `bytes`: offset of the end, and interface.
    pub(super) fn packets(self, bytes: &[u8]) -> impl Iterator<Item = (usize, u32)> + use<'_> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (len, interface) = match self {
                Self::Pcapng => (word(bytes, at + 4)? as usize, word(bytes, at + 8)?),
                Self::Pcap | Self::PcapMicros => (RECORD_HEAD + word(bytes, at + 8)? as usize, 0),
            };
            at += len;
            (at <= bytes.len()).then_some((at, interface))
        })
    }

    /// The interface of the packet at the start of `bytes`, in formats that have interfaces.
    pub(super) fn interface(self, bytes: &[u8]) -> Option<u32> {
        if self == Self::Pcapng { word(bytes, 8) } else { None }
    }

    /// The time of the packet at the start of `bytes`, in ns since the epoch.
    pub(super) fn time(self, bytes: &[u8]) -> u64 {
        let field = |at| u64::from(word(bytes, at).unwrap_or(0));
        match self {
            Self::Pcapng => field(12) << 32 | field(16),
            Self::Pcap | Self::PcapMicros => field(0) * NS + field(4) * self.unit_ns(),
        }
    }

    /// Length of the unit of a record's sub-second field, in ns.
    fn unit_ns(self) -> u64 {
        if self == Self::PcapMicros { 1000 } else { 1 }
    }

    fn put_record_head(self, out: &mut [u8], time: u64, captured: u32, original: u32) {
        #[expect(clippy::cast_possible_truncation, reason = "seconds fit until 2106, ns are below 10^9")]
        let (s, fraction) = ((time / NS) as u32, (time % NS / self.unit_ns()) as u32);
        out[..RECORD_HEAD]
            .copy_from_slice([s, fraction, captured, original].map(u32::to_le_bytes).as_flattened());
    }

    /// Writes a packet's block as a record of this format into `out`, which is [`classic_len`] bytes.
    pub(super) fn to_classic(self, packet: &[u8], out: &mut [u8]) {
        let field = |at| word(packet, at).unwrap_or(0);
        let time = Self::Pcapng.time(packet);
        self.put_record_head(out, time, field(EPB_CAPTURED), field(EPB_CAPTURED + 4));
        let captured = out.len() - RECORD_HEAD;
        out[RECORD_HEAD..].copy_from_slice(&packet[EPB_HEAD..EPB_HEAD + captured]);
    }

    /// The header of a file.
    pub(super) fn file_header(self, snaplen: u32) -> Vec<u8> {
        match self {
            Self::Pcapng => {
                let mut block = RareBlock::new(SHB_TYPE);
                block.words(&[BYTE_ORDER_MAGIC, PCAPNG_VERSION]);
                // Section length not specified: the file is written in one pass.
                block.words(&[u32::MAX, u32::MAX]);
                block.text(SHB_HARDWARE, std::env::consts::ARCH);
                block.text(SHB_OS, &operating_system());
                block.text(SHB_USERAPPL, concat!("mirror ", env!("CARGO_PKG_VERSION")));
                block.end()
            }
            Self::Pcap | Self::PcapMicros => {
                let magic = if self == Self::Pcap { PCAP_NS_MAGIC } else { PCAP_US_MAGIC };
                // Magic number, version 2.4, two reserved words, snap length, link type (section 4).
                let header = [magic, 2 | 4 << 16, 0, 0, snaplen, LINKTYPE_ETHERNET];
                header.into_iter().flat_map(u32::to_le_bytes).collect()
            }
        }
    }
}

/// Changes the interface of a packet's block.
pub(super) fn renumber(packet: &mut [u8], interface: u32) {
    packet[8..12].copy_from_slice(&interface.to_le_bytes());
}

/// Bytes of a packet's block as a record of a classic file.
pub(super) fn classic_len(packet: &[u8]) -> usize {
    RECORD_HEAD + word(packet, EPB_CAPTURED).unwrap_or(0) as usize
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

/// What an interface description block is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Interface {
    /// An origin.
    Origin(OriginKey),
    /// All origins beyond the bound.
    Others,
    /// A capture without packets has this one, because libpcap refuses a file without interfaces.
    NoPackets,
}

/// The description of an interface.
pub(super) fn interface_description(interface: Interface, names: &OriginNames, snaplen: u32) -> Vec<u8> {
    let mut comments = [None, None];
    let (name, description) = match interface {
        Interface::Origin(key) => {
            let origin = names.origin(key, 0, 0);
            comments = [session_comment(&origin), gateway_comment(&origin)];
            let Origin { source, vni, encapsulation, .. } = &origin;
            let protocol = match encapsulation {
                Encapsulation::Vxlan => "VXLAN",
                Encapsulation::Geneve => "GENEVE",
            };
            let description = format!("mirrored by {source}, {protocol} network identifier {vni}");
            (origin.interface_name(), description)
        }
        Interface::Others => ("other".to_owned(), "origins beyond the bound on interfaces".to_owned()),
        Interface::NoPackets => ("none".to_owned(), "no packets".to_owned()),
    };
    let mut block = RareBlock::new(IDB_TYPE);
    block.words(&[LINKTYPE_ETHERNET, snaplen]);
    comments.iter().flatten().for_each(|comment| block.text(COMMENT, comment));
    block.text(IF_NAME, &name);
    block.text(IF_DESCRIPTION, &description);
    block.option(IF_TSRESOL, &[TSRESOL_NS]);
    block.end()
}

/// Which session mirrors an origin's packets, if it is known.
fn session_comment(origin: &Origin) -> Option<String> {
    let Origin { session, interface, owner, tags, .. } = origin;
    let part = |name, value: &Option<String>| value.as_ref().map(|value| format!("{name} {value}"));
    let parts = [part("session", session), part("interface", interface), part("owner", owner)];
    let tags = tags.iter().map(|(key, value)| format!("{key}={value}"));
    let parts: Vec<_> = parts.into_iter().flatten().chain(tags).collect();
    session.as_ref().map(|_| parts.join(", "))
}

/// Through which endpoint of a Gateway Load Balancer an origin's packets came, if they did.
fn gateway_comment(origin: &Origin) -> Option<String> {
    let part = |name, id: Option<u64>| id.map(|id| format!("{name} {id:016x}"));
    let parts = [part("endpoint", origin.endpoint), part("attachment", origin.attachment)];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("Gateway Load Balancer: {}", parts.join(", ")))
}

/// Fields of an interface statistics block (draft-ietf-opsawg-pcapng section 4.6).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Statistics {
    /// ns since the epoch.
    pub(super) start: u64,
    /// ns since the epoch.
    pub(super) end: u64,
    /// Frames of this origin in the file.
    pub(super) delivered: u64,
    /// Frames of this origin that the sink lost in that time.
    pub(super) lost_here: u64,
    /// Frames of all origins that the kernel dropped in the whole run, if known.
    pub(super) lost_in_kernel: Option<u64>,
}

/// The statistics block of an interface.
///
/// As in dumpcap, `isb_ifdrop` is everything that may be missing from the interface; readers show it.
pub(super) fn interface_statistics(interface: u32, statistics: &Statistics) -> Vec<u8> {
    let Statistics { start, end, delivered, lost_here, lost_in_kernel } = *statistics;
    let (high, low) = halves(end);
    let mut block = RareBlock::new(ISB_TYPE);
    block.words(&[interface, high, low]);
    if lost_in_kernel.is_some_and(|lost| lost > 0) {
        block.text(
            COMMENT,
            "isb_osdrop counts frames of all origins in the whole run: they were lost before decapsulation; \
             isb_ifdrop includes them",
        );
    }
    block.time(ISB_STARTTIME, start);
    block.time(ISB_ENDTIME, end);
    block.option(ISB_IFRECV, &(delivered + lost_here).to_le_bytes());
    block.option(ISB_IFDROP, &(lost_here + lost_in_kernel.unwrap_or(0)).to_le_bytes());
    if let Some(lost) = lost_in_kernel {
        block.option(ISB_OSDROP, &lost.to_le_bytes());
    }
    block.option(ISB_USRDELIV, &delivered.to_le_bytes());
    block.end()
}

/// A pcapng block with options (draft-ietf-opsawg-pcapng sections 3.1 and 3.5), not for packets.
struct RareBlock(Vec<u8>);

impl RareBlock {
    /// The block's type, and room for its length.
    fn new(block_type: u32) -> Self {
        let mut block = Self(Vec::with_capacity(256));
        block.words(&[block_type, 0]);
        block
    }

    fn words(&mut self, words: &[u32]) {
        self.0.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }

    /// Adds an option: code, length, value, padding to 32 bits. Values are short names and numbers.
    fn option(&mut self, code: u16, value: &[u8]) {
        let value = &value[..value.len().min(u16::MAX.into())];
        #[expect(clippy::cast_possible_truncation, reason = "cut to fit just above")]
        let len = value.len() as u16;
        self.0.extend(code.to_le_bytes());
        self.0.extend(len.to_le_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn text(&mut self, code: u16, text: &str) {
        let mut end = text.len().min(u16::MAX.into());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.option(code, &text.as_bytes()[..end]);
    }

    /// High word first, each in the byte order of the file.
    fn time(&mut self, code: u16, time: u64) {
        let (high, low) = halves(time);
        self.option(code, [high.to_le_bytes(), low.to_le_bytes()].as_flattened());
    }

    /// Adds the end of options, and the length at both ends.
    fn end(mut self) -> Vec<u8> {
        self.option(END_OF_OPTIONS, &[]);
        #[expect(clippy::cast_possible_truncation, reason = "a handful of short options")]
        let len = (self.0.len() + 4) as u32;
        self.words(&[len]);
        self.0[4..8].copy_from_slice(&len.to_le_bytes());
        self.0
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of a word twice as long")]
fn halves(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

fn operating_system() -> String {
    let name = std::env::consts::OS;
    // Only Linux has this file; elsewhere the name is enough.
    match std::fs::read_to_string("/proc/sys/kernel/osrelease") {
        Ok(release) => format!("{name} {}", release.trim()),
        Err(_) => name.to_owned(),
    }
}
