//! Packets as a stream to readers that may join late, each of which is announced what it has to know.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::{
    format::{self, COMMENT, EPB_HEAD, Format, Interface, MAX_SNAPLEN, PacketHead},
    idb_table::IdbTable,
};
use crate::{frame::Frame, sink::origin::OriginKey};

/// IdbTable that a reader is announced of by name; frames of further origins belong to one named `other`.
const MAX_INTERFACES: usize = 4096;

/// Code and length of an option.
const OPTION_HEAD: usize = 4;

/// The packets of a block as bytes of a capture, for any number of readers.
#[derive(Debug)]
pub(crate) struct Stream {
    format: Format,
    bytes: Vec<u8>,
    /// The origins of the packets, by the number that each has in these bytes.
    origins: Vec<OriginKey>,
    numbers: HashMap<OriginKey, u32, RandomState>,
}

/// What a reader has been announced of: the interfaces of its stream, which are its own, so that one that comes
/// after a flood of origins has names left.
#[derive(Debug)]
pub(crate) struct Announced {
    interfaces: IdbTable,
    described: usize,
}

impl Stream {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, bytes: Vec::new(), origins: Vec::new(), numbers: HashMap::default() }
    }

    /// Forgets the packets of the block before.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.origins.clear();
        self.numbers.clear();
    }

    /// Bytes of the packets.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What a reader gets first, and is announced by it.
    pub(crate) fn begin(&self) -> (Vec<u8>, Announced) {
        let announced = Announced { interfaces: IdbTable::new(MAX_INTERFACES), described: 0 };
        (self.format.file_header(MAX_SNAPLEN), announced)
    }

    /// Adds the inner frame, with a comment where the format has them.
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
            #[expect(clippy::cast_possible_truncation, reason = "a block has not so many packets")]
            let number = self.origins.len() as u32 - 1;
            number
        })
    }

    /// Adds the packets to what a reader is to get, and what it must know before.
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
            out.extend(format::interface_description(interface, MAX_SNAPLEN));
        }
        *described = interfaces.len();
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        interfaces.renumber(&mut out[start..], self.format.packets(&self.bytes), &self.origins);
    }

    /// What must be added at the end for a reader.
    pub(crate) fn end(&self, out: &mut Vec<u8>, announced: &Announced) {
        if self.format == Format::Pcapng && announced.described == 0 {
            out.extend(format::interface_description(Interface::Nobody, MAX_SNAPLEN));
        }
    }
}

/// Bytes that a comment of a packet takes: the option, and the end of options.
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
