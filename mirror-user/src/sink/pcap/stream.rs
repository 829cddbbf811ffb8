//! Packets as a stream for readers that may join late; each gets its own header and interface descriptions.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::{
    format::{self, COMMENT, EPB_HEAD, Format, Interface, MAX_SNAPLEN, PacketHead},
    idb_table::IdbTable,
};
use crate::{
    frame::Frame,
    sink::origin::{OriginKey, OriginNames},
};

/// Interfaces that are announced to a reader by name; frames of further origins belong to one named `other`.
const MAX_INTERFACES: usize = 4096;

/// Code and length of an option.
const OPTION_HEAD: usize = 4;

/// The packets of a block in capture format, for any number of readers.
#[derive(Debug)]
pub(crate) struct Stream {
    format: Format,
    names: OriginNames,
    bytes: Vec<u8>,
    /// The origins of the packets, by their number in these bytes.
    origins: Vec<OriginKey>,
    numbers: HashMap<OriginKey, u32, RandomState>,
}

/// The interfaces of one reader's stream. Each reader has its own, so one that connects after a flood of
/// origins still has room for names.
#[derive(Debug)]
pub(crate) struct Announced {
    interfaces: IdbTable,
    described: usize,
}

impl Stream {
    pub(crate) fn new(format: Format, names: OriginNames) -> Self {
        Self { format, names, bytes: Vec::new(), origins: Vec::new(), numbers: HashMap::default() }
    }

    /// Removes the packets of the previous block.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.origins.clear();
        self.numbers.clear();
    }

    /// Bytes of the packets.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The header for a new reader, and its interfaces.
    pub(crate) fn begin(&self) -> (Vec<u8>, Announced) {
        let announced = Announced { interfaces: IdbTable::new(MAX_INTERFACES), described: 0 };
        (self.format.file_header(MAX_SNAPLEN), announced)
    }

    /// Adds the inner frame, with a comment if the format has comments.
    pub(crate) fn put(&mut self, frame: &Frame<'_>, comment: Option<&str>) {
        let (interface, comment) = match self.format {
            Format::Pcapng => (self.number(OriginKey::of(frame)), comment),
            Format::Pcap | Format::PcapMicros => (0, None),
        };
        let captured = frame.inner().len();
        let len = self.format.packet_len(captured);
        let start = self.bytes.len();
        self.bytes.resize(start + len + comment.map_or(0, comment_len), 0);
        let captured = u32::try_from(captured).unwrap_or(u32::MAX);
        let head = PacketHead { interface, time: frame.time(), captured, original: frame.wire_len() };
        let out = &mut self.bytes[start..];
        self.format.put_packet(out, head, frame.inner());
        if let Some(comment) = comment {
            put_comment(out, captured, comment);
        }
    }

    fn number(&mut self, origin: OriginKey) -> u32 {
        *self.numbers.entry(origin).or_insert_with(|| {
            self.origins.push(origin);
            #[expect(clippy::cast_possible_truncation, reason = "a block has far fewer packets")]
            let number = self.origins.len() as u32 - 1;
            number
        })
    }

    /// Appends the packets for a reader, after descriptions of interfaces that are new to it.
    pub(crate) fn add_to(&self, out: &mut Vec<u8>, announced: &mut Announced) {
        let Announced { interfaces, described } = announced;
        if self.format != Format::Pcapng {
            out.extend_from_slice(&self.bytes);
            return;
        }
        self.origins.iter().for_each(|origin| {
            interfaces.number(*origin);
        });
        for origin in interfaces.from(*described) {
            let interface = origin.map_or(Interface::Others, Interface::Origin);
            out.extend(format::interface_description(interface, &self.names, MAX_SNAPLEN));
        }
        *described = interfaces.len();
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        interfaces.renumber(&mut out[start..], self.format.packets(&self.bytes), &self.origins);
    }

    /// Appends what a reader's stream needs at its end.
    pub(crate) fn end(&self, out: &mut Vec<u8>, announced: &Announced) {
        if self.format == Format::Pcapng && announced.described == 0 {
            out.extend(format::interface_description(Interface::NoPackets, &self.names, MAX_SNAPLEN));
        }
    }
}

/// Bytes of a packet's comment: the option and the end of options.
fn comment_len(comment: &str) -> usize {
    2 * OPTION_HEAD + comment.len().next_multiple_of(4)
}

/// Writes the comment of a packet of this captured length into `packet`, an enhanced packet block with zeros
/// in its place (draft-ietf-opsawg-pcapng sections 3.5 and 4.3).
fn put_comment(packet: &mut [u8], captured: u32, comment: &str) {
    let at = EPB_HEAD + (captured as usize).next_multiple_of(4);
    let len = u16::try_from(comment.len()).unwrap_or(u16::MAX);
    packet[at..at + 2].copy_from_slice(&COMMENT.to_le_bytes());
    packet[at + 2..at + 4].copy_from_slice(&len.to_le_bytes());
    packet[at + OPTION_HEAD..][..comment.len()].copy_from_slice(comment.as_bytes());
}
