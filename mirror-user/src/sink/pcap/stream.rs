//! Packets as a stream to readers that may join late, each of which is told what it has to know.

use super::{
    format::{self, COMMENT, EPB_HEAD, Format, Interface, MAX_SNAPLEN, PacketHead},
    interfaces::{InterfaceCache, Interfaces},
};
use crate::{batch::Frame, sink::origin::OriginKey};

/// Interfaces that a stream names; frames of further origins belong to one named `other`.
const MAX_INTERFACES: usize = 4096;

/// Code and length of an option.
const OPTION_HEAD: usize = 4;

/// The bytes of a capture, without a file.
#[derive(Debug)]
pub(crate) struct Stream {
    format: Format,
    interfaces: Interfaces,
    cache: InterfaceCache,
}

impl Stream {
    pub(crate) fn new(format: Format) -> Self {
        let interfaces = Interfaces::new(if format == Format::Pcapng { MAX_INTERFACES } else { 0 });
        Self { format, cache: InterfaceCache::new(interfaces.clone()), interfaces }
    }

    /// What a reader gets first.
    pub(crate) fn header(&self) -> Vec<u8> {
        self.format.file_header(MAX_SNAPLEN)
    }

    /// Adds the inner frame, with a comment where the format has them.
    pub(crate) fn put(&mut self, out: &mut Vec<u8>, frame: &Frame<'_>, comment: Option<&str>) {
        let (interface, comment) = match self.format {
            Format::Pcapng => (self.cache.number(OriginKey::of(frame)), comment),
            Format::Pcap => (0, None),
        };
        let captured = frame.inner().len();
        let len = self.format.packet_len(captured);
        let start = out.len();
        out.resize(start + len + comment.map_or(0, comment_len), 0);
        let captured = u32::try_from(captured).unwrap_or(u32::MAX);
        let head = PacketHead { interface, time: frame.time(), captured, original: frame.wire_len() };
        self.format.put_packet(&mut out[start..], head, frame.inner());
        if let Some(comment) = comment {
            put_comment(&mut out[start..], captured, comment);
        }
    }

    /// Adds the descriptions of all interfaces from this number on, and moves the number behind them.
    pub(crate) fn describe(&self, out: &mut Vec<u8>, described: &mut usize) {
        if self.format == Format::Pcapng {
            let numbers = self.interfaces.in_use();
            for number in *described..numbers {
                let origin = self.interfaces.origin(number);
                let interface = origin.map_or(Interface::Others, Interface::Origin);
                out.extend(format::interface_description(interface, MAX_SNAPLEN));
            }
            *described = numbers;
        }
    }

    /// What must be added at the end for a reader that was told of so many interfaces.
    pub(crate) fn end(&self, out: &mut Vec<u8>, described: usize) {
        if self.format == Format::Pcapng && described == 0 {
            out.extend(format::interface_description(Interface::Nobody, MAX_SNAPLEN));
        }
    }
}

/// Bytes that a comment of a packet takes: the option, and the end of options.
fn comment_len(comment: &str) -> usize {
    2 * OPTION_HEAD + comment.len().next_multiple_of(4)
}

/// Writes the comment of a packet of this captured length into `packet`, an enhanced packet block with zeros in its place
/// (draft-ietf-opsawg-pcapng sections 3.5 and 4.3).
fn put_comment(packet: &mut [u8], captured: u32, comment: &str) {
    let at = EPB_HEAD + (captured as usize).next_multiple_of(4);
    let len = u16::try_from(comment.len()).unwrap_or(u16::MAX);
    packet[at..at + 2].copy_from_slice(&COMMENT.to_le_bytes());
    packet[at + 2..at + 4].copy_from_slice(&len.to_le_bytes());
    packet[at + OPTION_HEAD..][..comment.len()].copy_from_slice(comment.as_bytes());
}
