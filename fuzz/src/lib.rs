//! Shared by the fuzz targets: inputs that resemble valid ones, made by code instead of a corpus of files.
//!
//! A fuzzer that starts from nothing spends its time guessing magic numbers and ports. Here an input selects
//! a template and the bits that are flipped in it; template 0 is empty, for arbitrary bytes.

use std::io::{self, Read, Write as _};

use arbitrary::Arbitrary;
use etherparse::PacketBuilder;
use mirror_user::source::{CaptureReader, MAX_FRAME};

/// An input: a template and its changes.
#[derive(Arbitrary, Debug)]
pub struct Near<'a> {
    template: u8,
    /// Bytes kept; 0 for all.
    keep: u16,
    /// XORed over the template, from its start; what is longer is appended.
    edits: &'a [u8],
}

impl Near<'_> {
    /// The bytes to be fuzzed with.
    pub fn bytes(&self, templates: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = match usize::from(self.template) % (templates.len() + 1) {
            0 => Vec::new(),
            number => templates[number - 1].clone(),
        };
        bytes.resize(bytes.len().max(self.edits.len()), 0);
        for (byte, edit) in bytes.iter_mut().zip(self.edits) {
            *byte ^= edit;
        }
        if self.keep > 0 {
            bytes.truncate(usize::from(self.keep));
        }
        bytes
    }
}

/// Frames that end where a payload begins that is parsed, by a port, an IP protocol, an ethertype, an LLC
/// address or a SNAP number.
pub fn announced() -> Vec<Vec<u8>> {
    const SEGMENTS: [u16; 13] = [2049, 21, 22, 23, 25, 43, 53, 80, 179, 554, 6379, 8080, 8554];
    const DATAGRAMS: [u16; 27] = [
        53, 67, 69, 88, 123, 161, 319, 514, 520, 521, 547, 1812, 1985, 3784, 4789, 4790, 5060, 5353, 6081,
        6343, 6635, 6696, 8472, 49152, 3785, 750, 2049,
    ];
    const PROTOCOLS: [u8; 8] = [47, 77, 88, 89, 103, 112, 132, 143];
    const TYPES: [u16; 19] = [
        0x8863, 0x8864, 0x880b, 0x8809, 0x8847, 0x8848, 0x886f, 0x8870, 0x888e, 0x88a2, 0x88cc, 0x88f7,
        0x8902, 0x8947, 0x894f, 0x9000, 0xfefe, 0x1111, 0x0707,
    ];
    let ip = || PacketBuilder::ethernet2([6; 6], [7; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
    let mut frames: Vec<_> =
        SEGMENTS.iter().map(|port| built(ip().tcp(*port, *port, 3, 4).ack(5), &[0; 64])).collect();
    frames.extend(DATAGRAMS.iter().map(|port| built(ip().udp(*port, *port), &[0; 64])));
    for protocol in PROTOCOLS {
        let mut frame = built(ip().udp(1, 2), &[0; 64]);
        frame[23] = protocol;
        frames.push(frame);
    }
    let ethernet = |kind: [u8; 2], payload: &[u8]| [&[7; 6][..], &[6; 6], &kind, payload].concat();
    frames.extend(TYPES.iter().map(|kind| ethernet(kind.to_be_bytes(), &[0; 64])));
    for address in [0x42, 0xfe] {
        frames.push(ethernet([0, 60], &[&[address, address, 3][..], &[0; 60]].concat()));
    }
    for number in [0x2000_u16, 0x2003, 0x2004, 0x0111, 0x010b] {
        let head = [&[0xaa, 0xaa, 3, 0, 0, 0x0c][..], &number.to_be_bytes()].concat();
        frames.push(ethernet([0, 60], &[&head[..], &[0; 60]].concat()));
    }
    frames
}

/// Outer frames with an inner one, over each shape of outer headers.
pub fn packets() -> Vec<Vec<u8>> {
    let inner_v4 = built(
        PacketBuilder::ethernet2([6; 6], [7; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(1, 2, 3, 4),
        b"GET /",
    );
    let inner_v6 = built(
        PacketBuilder::ethernet2([6; 6], [7; 6])
            .double_vlan(vlan(1), vlan(2))
            .ipv6([1; 16], [2; 16], 64)
            .udp(1, 2),
        b"query",
    );
    let mut packets = Vec::new();
    for inner in [inner_v4, inner_v6] {
        let datagram = [&[8, 0, 0, 0, 0x54, 0xfa, 0x11, 0], &inner[..]].concat();
        let link = || PacketBuilder::ethernet2([1; 6], [2; 6]);
        let (source, target) = ([10, 10, 10, 252], [10, 10, 10, 20]);
        let mut with_options = etherparse::Ipv4Header::new(0, 255, etherparse::IpNumber::UDP, source, target)
            .expect("an empty payload fits");
        with_options.options = [1; 8].into();
        let options = etherparse::IpHeaders::Ipv4(with_options, etherparse::Ipv4Extensions::default());
        packets.extend([
            built(link().ipv4(source, target, 255).udp(0xff80, 4789), &datagram),
            built(link().ip(options).udp(0xff80, 4789), &datagram),
            built(link().single_vlan(vlan(7)).ipv4(source, target, 255).udp(0xff80, 4789), &datagram),
            built(
                link().double_vlan(vlan(7), vlan(8)).ipv4(source, target, 255).udp(0xff80, 4789),
                &datagram,
            ),
            built(link().ipv6([0x20; 16], [0x21; 16], 255).udp(0xff80, 4789), &datagram),
        ]);
    }
    packets
}

/// Frames in GENEVE: each of those packets without its Ethernet header, with the options of a Gateway Load
/// Balancer, with others or none; and an Ethernet frame.
pub fn in_geneve() -> Vec<Vec<u8>> {
    const GATEWAY: [u8; 32] = [
        1, 8, 1, 2, 0, 1, 2, 3, 4, 5, 6, 7, // endpoint
        1, 8, 2, 2, 0, 0, 0, 0, 8, 9, 10, 11, // attachment
        1, 8, 3, 1, 12, 13, 14, 15, // flow cookie
    ];
    let others = [&[0, 1, 0x81, 0][..], &[2, 0, 7, 1, 9, 9, 9, 9], &GATEWAY].concat();
    let mut frames = Vec::new();
    for packet in packets() {
        // Of those behind VLAN tags, what is left begins with one.
        let inside = match packet[12..14] {
            [0x08, 0x00] => ([0x08, 0x00], &packet[14..]),
            [0x86, 0xdd] => ([0x86, 0xdd], &packet[14..]),
            _ => ([0x65, 0x58], &packet[..]),
        };
        for options in [&[][..], &GATEWAY, &others] {
            let (protocol, payload) = inside;
            let words = u8::try_from(options.len() / 4).expect("few options");
            let header = [words, 0, protocol[0], protocol[1], 0, 0, 7, 0];
            let datagram = [&header[..], options, payload].concat();
            let link = || PacketBuilder::ethernet2([1; 6], [2; 6]);
            frames.push(built(link().ipv4([10, 0, 0, 5], [10, 0, 0, 9], 64).udp(50_000, 6081), &datagram));
            frames.push(built(link().ipv6([0x20; 16], [0x21; 16], 64).udp(50_000, 6081), &datagram));
        }
    }
    frames
}

/// Super-frames behind virtio headers: TCP and UDP over IPv4 and IPv6, with and without a VLAN tag, with a
/// checksum that is there or is to be completed; and a frame that is not segmented.
pub fn super_frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let payload = [7; 300];
    for is_v4 in [true, false] {
        for tag in [false, true] {
            let link = || PacketBuilder::ethernet2([6; 6], [7; 6]);
            let (v4, v6) = (([10, 0, 0, 1], [10, 0, 0, 2]), ([1; 16], [2; 16]));
            let ip = || match (is_v4, tag) {
                (true, false) => link().ipv4(v4.0, v4.1, 64),
                (true, true) => link().single_vlan(vlan(7)).ipv4(v4.0, v4.1, 64),
                (false, false) => link().ipv6(v6.0, v6.1, 64),
                (false, true) => link().single_vlan(vlan(7)).ipv6(v6.0, v6.1, 64),
            };
            let transport: u16 = 14 + if tag { 4 } else { 0 } + if is_v4 { 20 } else { 40 };
            let tcp = built(ip().tcp(1, 2, 3, 4).fin().cwr(), &payload);
            let udp = built(ip().udp(1, 2), &payload);
            for (frame, kind, offset) in [(tcp, if is_v4 { 1 } else { 4 }, 16_u16), (udp, 5, 6)] {
                for (flags, start, offset) in [(0, 0, 0), (1, transport, offset)] {
                    for (kind, size) in [(kind, 100), (0, 0_u16)] {
                        let mut read = vec![flags, kind, 0, 0];
                        for field in [size, start, offset] {
                            read.extend(field.to_ne_bytes());
                        }
                        read.extend(&frame);
                        frames.push(read);
                    }
                }
            }
        }
    }
    frames
}

/// Fragments of those packets: each in three, over IPv4 with id 0 and another, over IPv6, and an atomic one.
pub fn fragments() -> Vec<Vec<u8>> {
    let mut fragments = Vec::new();
    for (number, packet) in packets().into_iter().enumerate() {
        let mut at = 12;
        while matches!(packet[at..at + 2], [0x81, 0x00] | [0x88, 0xa8]) {
            at += 4;
        }
        at += 2;
        let v6 = packet[at] >> 4 == 6;
        let header = if v6 { 40 } else { usize::from(packet[at] & 15) * 4 };
        let (headers, payload) = packet.split_at(at + header);
        for (start, end) in [(0, 32), (32, 48), (48, payload.len()), (0, payload.len())] {
            let (more, short) = (u16::from(end < payload.len()), "templates are small");
            let [start_field, len] = [start, end - start].map(|value| u16::try_from(value).expect(short));
            let mut frame = headers.to_vec();
            if v6 {
                frame[at + 4..at + 6].copy_from_slice(&(len + 8).to_be_bytes());
                frame[at + 6] = 44;
                frame.extend([17, 0]);
                frame.extend((start_field | more).to_be_bytes());
                frame.extend([0, 0, 0, 7]);
            } else {
                let total = u16::try_from(header).expect(short) + len;
                frame[at + 2..at + 4].copy_from_slice(&total.to_be_bytes());
                frame[at + 4..at + 6].copy_from_slice(&[0, u8::from(number % 2 == 0)]);
                frame[at + 6..at + 8].copy_from_slice(&((start_field / 8) | (more << 13)).to_be_bytes());
            }
            frame.extend(&payload[start..end]);
            fragments.push(frame);
        }
    }
    fragments
}

/// Captures of some of those packets, under each link type and in both byte orders: classic pcap, and pcapng
/// with every kind of packet block.
pub fn captures() -> Vec<Vec<u8>> {
    let packets: Vec<Vec<u8>> = packets().into_iter().take(3).collect();
    let mut captures = Vec::new();
    for order in [Order::Little, Order::Big] {
        for link_type in [1, 113, 276, 101] {
            captures.extend([classic(order, link_type, &packets), pcapng(order, link_type, &packets)]);
        }
    }
    captures
}

fn classic(order: Order, link_type: u16, packets: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = order.words(&[0xa1b2_c3d4]);
    bytes.extend([order.u16(2), order.u16(4)].concat());
    bytes.extend(order.words(&[0, 0, 65535, link_type.into()]));
    for packet in packets {
        let len = length(packet);
        bytes.extend(order.words(&[1, 2, len, len]));
        bytes.extend(packet);
    }
    bytes
}

fn pcapng(order: Order, link_type: u16, packets: &[Vec<u8>]) -> Vec<u8> {
    let block = |kind: u32, body: &[&[u8]]| {
        let mut body = body.concat();
        body.resize(body.len().next_multiple_of(4), 0);
        let len = length(&body) + 12;
        [order.words(&[kind, len]), body, order.words(&[len])].concat()
    };
    let version = [order.u16(1), order.u16(0)].concat();
    let mut bytes = block(0x0a0d_0d0a, &[&order.words(&[0x1a2b_3c4d]), &version, &[0xff; 8]]);
    // Time resolution, option 9, of nanoseconds.
    let option = [order.u16(9), order.u16(1), [9, 0], [0, 0]].concat();
    bytes.extend(block(1, &[&order.u16(link_type), &[0; 2], &[0; 4], &option]));
    for packet in packets {
        let len = length(packet);
        let fields = order.words(&[0, 1, 2, len, len]);
        bytes.extend(block(6, &[&fields, packet]));
        bytes.extend(block(3, &[&order.words(&[len]), packet]));
        bytes.extend(block(2, &[&fields, packet]));
        bytes.extend(block(0xbad, &[&[1; 5]]));
    }
    bytes
}

/// The same captures compressed, in one member or frame and in several.
pub fn packed() -> Vec<Vec<u8>> {
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("a vector takes everything");
        encoder.finish().expect("a vector takes everything")
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).expect("a vector takes everything");
    let mut packed = Vec::new();
    for capture in captures() {
        packed.extend([gzip(&capture), zstd(&capture)]);
        packed.push(capture.chunks(100).flat_map(gzip).collect());
        packed.push(capture.chunks(100).flat_map(zstd).collect());
    }
    packed
}

/// Gives a few bytes at a time.
pub struct Pieces<'a> {
    pub bytes: &'a [u8],
    pub most: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.most.min(buffer.len()).min(self.bytes.len());
        let (now, later) = self.bytes.split_at(len);
        buffer[..len].copy_from_slice(now);
        self.bytes = later;
        Ok(len)
    }
}

/// A frame summed up: captured length, a sum over its bytes, wire length, time.
type Sum = (usize, u64, u32, u64);

/// The result of a capture of this many bytes: its frames, summed up, what was skipped, and how it ended. Of
/// one that unpacks without end, only the beginning.
pub fn read(reader: impl Read, most: usize, len: usize) -> (Vec<Sum>, Option<String>) {
    /// The most frames of a compressed capture.
    const FRAMES: usize = 5_000;
    let mut reader = CaptureReader::new(reader);
    let mut frames = Vec::new();
    // A batch consumes at least one byte, and before each there is at most one empty read.
    let mut batches = 0;
    let end = loop {
        match reader.next_batch(most) {
            Ok(Some(captures)) => frames.extend(captures.iter().map(|captured| {
                assert!(captured.len() <= MAX_FRAME + 14);
                let bytes = captured.bytes().first();
                let sum = bytes.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
                (bytes.len(), sum, captured.wire_len(), captured.time())
            })),
            Ok(None) => break None,
            Err(error) => break Some(error.to_string()),
        }
        batches += 1;
        match reader.compression() {
            Some(_) if frames.len() >= FRAMES => {
                frames.truncate(FRAMES);
                return (frames, None);
            }
            Some(_) => {}
            None => assert!(batches <= len, "the reader gives batches without end"),
        }
    };
    assert_eq!(reader.packets(), frames.len() as u64 + reader.unread().of_link_types());
    let unread = reader.into_unread();
    assert_eq!(unread.broken > 0, unread.first_broken.is_some());
    let outcome = end.map(|end| format!("{end}; skipped {} and {:?}", unread.broken, unread.link_types));
    (frames, outcome)
}

#[derive(Clone, Copy)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn u16(self, value: u16) -> [u8; 2] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    fn words(self, values: &[u32]) -> Vec<u8> {
        let word = match self {
            Self::Little => u32::to_le_bytes,
            Self::Big => u32::to_be_bytes,
        };
        values.iter().copied().flat_map(word).collect()
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("templates are small")
}

fn vlan(id: u16) -> etherparse::VlanId {
    etherparse::VlanId::try_new(id).expect("below 4096")
}

/// A packet of a builder around a payload.
fn built<T: Build>(builder: T, payload: &[u8]) -> Vec<u8> {
    builder.build(payload)
}

/// The last step of etherparse's builders, which have a different type for each transport.
trait Build {
    fn build(self, payload: &[u8]) -> Vec<u8>;
}

impl Build for etherparse::PacketBuilderStep<etherparse::UdpHeader> {
    fn build(self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes, payload).expect("a vector takes everything");
        bytes
    }
}

impl Build for etherparse::PacketBuilderStep<etherparse::TcpHeader> {
    fn build(self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes, payload).expect("a vector takes everything");
        bytes
    }
}

#[cfg(test)]
mod tests {
    use mirror_user::{Captured, Tunnels, decap};

    use super::*;

    #[test]
    fn every_packet_decapsulates() {
        for packet in packets() {
            let captured = Captured::new(&packet, length(&packet), 0);
            let frame = decap::decapsulate_frame(captured, &Tunnels::default()).expect("templates are valid");
            assert_eq!(frame.vni(), 0x54fa11);
        }
    }

    #[test]
    fn every_packet_in_geneve_decapsulates() {
        let tunnels = Tunnels::from([6081]);
        let frames = in_geneve();
        let of = |frame: &Vec<u8>| {
            let captured = Captured::new(frame, length(frame), 0);
            decap::decapsulate_frame(captured, &tunnels).expect("templates are valid").gateway()
        };
        let endpoints = frames.iter().filter_map(|frame| of(frame)?.endpoint);
        assert_eq!(endpoints.count(), frames.len() / 3 * 2);
    }

    #[test]
    fn every_capture_is_read_to_its_end() {
        for (number, capture) in captures().iter().enumerate() {
            let mut reader = CaptureReader::new(&capture[..]);
            let mut frames = 0;
            while let Some(captures) = reader.next_batch(64).expect("templates are valid") {
                frames += captures.len();
            }
            assert_eq!(frames, if number % 2 == 0 { 3 } else { 9 });
        }
    }

    #[test]
    fn every_packed_capture_is_read_as_it_was() {
        for (capture, packed) in captures().iter().zip(packed().chunks(4)) {
            let expected = read(&capture[..], 64, capture.len());
            for packed in packed {
                assert_eq!(read(&packed[..], 64, packed.len()), expected);
            }
        }
    }
}
