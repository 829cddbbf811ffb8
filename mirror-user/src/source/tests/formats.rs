//! Both formats, valid and broken.

use super::{
    super::{CaptureError, CaptureReader, MAX_BLOCK},
    Endian::{Big, Little},
    *,
};

const NS: u64 = 1_000_000_000;

#[test]
fn classic_pcap_is_read_in_every_byte_order_and_resolution() {
    for (endian, magic, extra, unit_ns) in [
        (Little, 0xa1b2_c3d4, 0, 1000),
        (Big, 0xa1b2_c3d4, 0, 1000),
        (Little, 0xa1b2_3c4d, 0, 1),
        (Big, 0xa1b2_3c4d, 0, 1),
        (Little, 0xa1b2_cd34, 8, 1000),
    ] {
        let mut bytes = pcap_header(endian, magic, 1);
        bytes.extend(pcap_record(endian, (1_700_000_000, 999_999), 1500, extra, &[1; 60]));
        bytes.extend(pcap_record(endian, (u32::MAX, 7), 0, extra, &[2; 15]));
        bytes.extend(pcap_record(endian, (0, 0), 5, extra, &[]));
        let seen = frames(&bytes);
        assert_eq!(seen[0], (vec![1; 60], 1500, 1_700_000_000 * NS + 999_999 * unit_ns), "{magic:x}");
        // A wire length below the captured length is wrong.
        assert_eq!(seen[1], (vec![2; 15], 15, 4_294_967_295 * NS + 7 * unit_ns));
        assert_eq!(seen[2], (vec![], 5, 0));
        assert_eq!(seen.len(), 3);
    }
}

#[test]
fn check_sequence_bits_beside_the_link_type_are_ignored() {
    let mut bytes = pcap_header(Little, 0xa1b2_c3d4, 0x5400_0001);
    bytes.extend(pcap_record(Little, (0, 0), 60, 0, &[1; 60]));
    assert_eq!(frames(&bytes).len(), 1);
}

/// Two sections of different byte order, all packet blocks, resolutions, offsets, and blocks that are
/// skipped.
fn rich_pcapng() -> (Vec<u8>, Vec<Seen>) {
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    for endian in [Little, Big] {
        let offset = endian.u64(1_700_000_000);
        bytes.extend(section(endian));
        bytes.extend(interface(endian, 1, 20, &[option(endian, 2, b"ens5")]));
        bytes.extend(interface(
            endian,
            1,
            0,
            &[option(endian, 9, &[9]), option(endian, 14, &offset), option(endian, 0, &[]), vec![0xff; 8]],
        ));
        // Name resolution, statistics, custom, and an unknown type, with bodies that no parser would accept.
        for kind in [4, 5, 0xbad, 0x7fff_ffff] {
            bytes.extend(block(endian, kind, &[0xff; 21]));
        }
        bytes.extend(enhanced(
            endian,
            0,
            1_700_000_000_000_001,
            1514,
            &[1; 61],
            &option(endian, 1, b"a comment"),
        ));
        bytes.extend(enhanced(endian, 1, 5, 62, &[2; 62], &[]));
        bytes.extend(simple(endian, 90, &[3; 20]));
        bytes.extend(simple(endian, 10, &[4; 10]));
        bytes.extend(obsolete(endian, 1, NS, 99, &[5; 33]));
        expected.extend([
            (vec![1; 61], 1514, 1_700_000_000_000_001_000),
            (vec![2; 62], 62, 1_700_000_000 * NS + 5),
            (vec![3; 20], 90, 0),
            (vec![4; 10], 10, 0),
            (vec![5; 33], 99, 1_700_000_001 * NS),
        ]);
    }
    (bytes, expected)
}

#[test]
fn pcapng_is_read_in_sections_of_any_byte_order() {
    let (bytes, expected) = rich_pcapng();
    assert_eq!(frames(&bytes), expected);
    for most in [1, 2, 3] {
        assert_eq!(read_all(&bytes[..], most).0, expected, "in batches of {most}");
    }
}

#[test]
fn a_capture_cut_anywhere_gives_the_frames_before_and_the_place() {
    let classic = pcap_file(&[vec![1; 60], vec![2; 33], vec![3; 14]]);
    for whole in [classic, rich_pcapng().0] {
        let all = frames(&whole);
        let mut complete = 0;
        for cut in 0..whole.len() {
            let (seen, error) = read_all(&whole[..cut], 64);
            assert_eq!(seen, all[..seen.len()], "cut at {cut}");
            assert!(seen.len() >= complete, "a longer file holds no fewer frames");
            complete = seen.len();
            match error {
                // Between two records nothing is missing.
                None => assert!(cut >= 24),
                Some(CaptureError::Empty) => assert_eq!(cut, 0),
                Some(CaptureError::CutShort { at, start, .. }) => {
                    assert!(at == cut as u64 && start <= at, "cut at {cut}: {start}, {at}");
                }
                Some(other) => panic!("cut at {cut}: {other}"),
            }
        }
        assert_eq!(complete, all.len() - 1);
    }
}

#[test]
fn a_cut_names_the_byte_and_the_part() {
    let bytes = pcap_file(&[vec![1; 60], vec![2; 60]]);
    assert_eq!(complaint(&bytes[..130]), "cut short at byte 130, within the record that starts at byte 100");
    assert_eq!(complaint(&bytes[..9]), "cut short at byte 9, within the file header that starts at byte 0");
    assert_eq!(complaint(&[]), "empty file; check whether its capture was started");
}

#[test]
fn lengths_beyond_the_limits_are_refused_before_memory_is_allocated() {
    let mut classic = pcap_file(&[vec![1; 60]]);
    let record = classic.len();
    classic.extend([0; 8]);
    classic.extend([0xff; 8]);
    classic.extend([0; 1000]);
    let mut pcapng = section(Little);
    let start = pcapng.len();
    pcapng.extend([6, 0, 0, 0]);
    pcapng.extend(u32::try_from(MAX_BLOCK + 4).unwrap().to_le_bytes());
    pcapng.extend([0; 1000]);
    for (bytes, at, what) in [(classic, record, "frame"), (pcapng, start, "block")] {
        let mut reader = CaptureReader::new(&bytes[..]);
        let error = loop {
            match reader.next_batch(64) {
                Ok(batch) => assert!(batch.is_some(), "the length is refused"),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().starts_with(&format!("{what} at byte {at} declares ")), "{error}");
        assert!(reader.memory() < 300_000, "{} bytes held", reader.memory());
    }
}

#[test]
fn the_longest_frame_is_read_and_a_longer_one_is_skipped() {
    let longest = vec![7; super::super::MAX_FRAME];
    assert_eq!(frames(&pcap_file(std::slice::from_ref(&longest))), [(longest.clone(), 262_144, NS)]);
    let longer = vec![7; longest.len() + 1];
    let (seen, unread) = passed_over(&pcap_file(&[vec![1; 60], longer.clone(), vec![2; 60]]));
    assert_eq!(seen, [(vec![1; 60], 60, NS), (vec![2; 60], 60, 3 * NS)]);
    assert_eq!(unread.broken, 1);
    assert!(unread.first_broken.unwrap().to_string().starts_with("frame at byte 100 declares 262145 bytes"));
    let mut pcapng = section(Little);
    pcapng.extend(interface(Little, 1, 0, &[]));
    let start = pcapng.len();
    pcapng.extend(enhanced(Little, 0, 0, 0, &longer, &[]));
    pcapng.extend(enhanced(Little, 0, 1, 60, &[2; 60], &[]));
    let (seen, unread) = passed_over(&pcapng);
    assert_eq!((seen, unread.broken), (vec![(vec![2; 60], 60, 1000)], 1));
    let message = unread.first_broken.unwrap().to_string();
    assert!(message.starts_with(&format!("frame at byte {start} declares 262145 bytes")), "{message}");
}

#[test]
fn a_doubtful_length_without_a_record_after_it_ends_the_capture() {
    // Over a record's limit, and not followed by a record.
    let mut bytes = pcap_file(&[vec![1; 60], vec![7; 300_000], vec![2; 60]]);
    let at = bytes.len() - 60 - 16;
    bytes[at + 11] = 0xff;
    let (seen, error) = read_all(&bytes[..], 64);
    assert_eq!(seen.len(), 1);
    assert!(error.unwrap().to_string().starts_with("frame at byte 100 declares 300000 bytes"));
    // Two lengths that differ, and no block after the first.
    let mut pcapng = [section(Little), interface(Little, 1, 0, &[])].concat();
    let start = pcapng.len();
    pcapng.extend(enhanced(Little, 0, 1, 60, &[1; 60], &[]));
    pcapng[start + 4] -= 4;
    pcapng.extend(enhanced(Little, 0, 2, 60, &[2; 60], &[]));
    assert_eq!(complaint(&pcapng), format!("malformed at byte {start}: the block's two lengths differ"));
}

#[test]
fn frames_longer_than_the_snaplen_that_was_announced_are_read() {
    let mut classic = pcap_file(&[vec![1; 600]]);
    classic[16..20].copy_from_slice(&96_u32.to_le_bytes());
    assert_eq!(frames(&classic).len(), 1);
    let bytes = [section(Little), interface(Little, 1, 96, &[]), enhanced(Little, 0, 0, 600, &[1; 600], &[])];
    assert_eq!(frames(&bytes.concat())[0].0.len(), 600);
}

#[test]
fn a_block_of_many_mebibytes_is_skipped() {
    let mut bytes = section(Little);
    bytes.extend(interface(Little, 1, 0, &[]));
    bytes.extend(enhanced(Little, 0, 1, 60, &[1; 60], &[]));
    bytes.extend(block(Little, 10, &vec![0xab; 10 << 20]));
    bytes.extend(enhanced(Little, 0, 2, 60, &[2; 60], &[]));
    assert_eq!(frames(&bytes).len(), 2);
}

#[test]
fn a_block_without_frames_may_be_longer_than_what_is_held() {
    let head = [section(Little), interface(Little, 1, 0, &[])].concat();
    let long = block(Little, 10, &vec![0xab; MAX_BLOCK + 1000]);
    let packet = enhanced(Little, 0, 2, 60, &[2; 60], &[]);
    let bytes = [&head[..], &long, &packet].concat();
    let mut reader = CaptureReader::new(&bytes[..]);
    let (seen, error) = read_to_end(&mut reader, 64);
    assert!(error.is_none(), "{error:?}");
    assert_eq!((seen.len(), reader.unread().broken), (1, 0));
    assert!(reader.memory() < 300_000, "{} bytes held", reader.memory());
    assert_eq!(
        complaint(&bytes[..head.len() + 5000]),
        format!(
            "cut short at byte {}, within the record that starts at byte {}",
            head.len() + 5000,
            head.len()
        )
    );
}

#[test]
fn options_are_read_in_place() {
    // A block of empty options: parsed into a list, they would take five times as much.
    let empty = option(Little, 1, &[]).repeat(MAX_BLOCK / 4 - 100);
    let bytes = [
        section(Little),
        interface(Little, 1, 0, std::slice::from_ref(&empty)),
        enhanced(Little, 0, 2, 60, &[2; 60], &empty),
    ]
    .concat();
    let mut reader = CaptureReader::new(&bytes[..]);
    let allocated = allocation_counter::measure(|| {
        assert_eq!(read_to_end(&mut reader, 64).0.len(), 1);
    });
    assert!(allocated.bytes_max <= 48 << 20, "{allocated:?}");
}

#[test]
fn errors_are_reported_with_their_place() {
    let head = [section(Little), interface(Little, 1, 0, &[])].concat();
    let at = head.len();
    let patched = |mut bytes: Vec<u8>, at: usize, value: u8| {
        bytes[at] = value;
        bytes
    };
    // What is skipped, and how much of the packet after it.
    let cases = [
        (
            "no such interface",
            enhanced(Little, 1, 0, 4, &[0; 4], &[]),
            "a packet of an interface that was not described",
        ),
        ("lengths that differ", patched(block(Little, 9, &[]), 8, 16), "the block's two lengths differ"),
        (
            "a packet longer than its block",
            patched(enhanced(Little, 0, 0, 4, &[0; 4], &[]), 20, 200),
            "the packet is longer than its block",
        ),
        ("a packet as long as no number", enhanced_of(u32::MAX), "the packet is longer than its block"),
        (
            "an obsolete packet longer than its block",
            patched(obsolete(Little, 0, 0, 4, &[0; 4]), 20, 200),
            "the packet is longer than its block",
        ),
        (
            "a simple packet longer than its block",
            simple(Little, 400, &[0; 4]),
            "the packet is longer than its block",
        ),
        (
            "an enhanced packet without fields",
            block(Little, 6, &[0; 12]),
            "the packet block is shorter than its fields",
        ),
        (
            "an obsolete packet without fields",
            block(Little, 2, &[0; 12]),
            "the packet block is shorter than its fields",
        ),
        (
            "an interface description without fields",
            block(Little, 1, &[]),
            "the interface description is shorter than its fields",
        ),
        (
            "an option longer than its block",
            interface(Little, 1, 0, &[vec![1, 0, 200, 0]]),
            "an interface option has the wrong length",
        ),
        (
            "a resolution of two bytes",
            interface(Little, 1, 0, &[option(Little, 9, &[9, 9])]),
            "an interface option has the wrong length",
        ),
        (
            "an offset of four bytes",
            interface(Little, 1, 0, &[option(Little, 14, &[0; 4])]),
            "an interface option has the wrong length",
        ),
    ];
    for (what, block, cause) in cases {
        let bytes = [head.clone(), block, enhanced(Little, 0, 7, 4, &[0; 4], &[])].concat();
        let (seen, unread) = passed_over(&bytes);
        assert_eq!((seen, unread.broken), (vec![(vec![0; 4], 4, 7000)], 1), "{what}");
        let message = unread.first_broken.unwrap().to_string();
        assert_eq!(message, format!("malformed at byte {at}: {cause}"), "{what}");
    }
    // What follows these is unknown.
    let cases = [
        (
            "block of 8 bytes",
            patched(block(Little, 9, &[]), 4, 8),
            "the block length is below 12 or no multiple of 4",
        ),
        (
            "block of 13 bytes",
            patched(block(Little, 9, &[0; 8]), 4, 13),
            "the block length is below 12 or no multiple of 4",
        ),
        (
            "a section of no byte order",
            block(Little, 0x0a0d_0d0a, &[0; 16]),
            "the section header has no byte-order magic",
        ),
    ];
    for (what, block, cause) in cases {
        let packet = enhanced(Little, 0, 7, 4, &[0; 4], &[]);
        let bytes = [&head[..], &packet, &block, &packet].concat();
        let (seen, error) = read_all(&bytes[..], 64);
        assert_eq!(seen.len(), 1, "{what}");
        let at = at + packet.len();
        assert_eq!(error.unwrap().to_string(), format!("malformed at byte {at}: {cause}"), "{what}");
    }
    let version = patched(pcap_file(&[]), 4, 3);
    assert_eq!(complaint(&version), "malformed at byte 0: the pcap version is not 2");
}

/// An enhanced packet block that declares this many captured bytes.
fn enhanced_of(captured: u32) -> Vec<u8> {
    let mut bytes = enhanced(Little, 0, 0, 4, &[0; 4], &[]);
    bytes[20..24].copy_from_slice(&captured.to_le_bytes());
    bytes
}

#[test]
fn a_section_of_another_version_is_skipped_and_the_next_one_is_read() {
    let packet = enhanced(Little, 0, 7, 4, &[0; 4], &[]);
    let head = [section(Little), interface(Little, 1, 0, &[])].concat();
    let mut other = head.clone();
    other[12] = 2;
    let (seen, unread) = passed_over(&[&head[..], &packet, &other, &packet, &head, &packet].concat());
    assert_eq!((seen.len(), unread.broken), (2, 3));
    assert!(unread.first_broken.unwrap().to_string().ends_with("the pcapng version is not 1"));
}

#[test]
fn a_malformed_interface_keeps_its_number_and_its_packets() {
    let bytes = [
        section(Little),
        interface(Little, 1, 0, &[option(Little, 9, &[9, 9])]),
        interface(Little, 1, 0, &[option(Little, 9, &[9])]),
        enhanced(Little, 0, 7, 4, &[1; 4], &[]),
        enhanced(Little, 1, 7, 4, &[2; 4], &[]),
    ];
    let (seen, unread) = passed_over(&bytes.concat());
    assert_eq!((seen, unread.broken), (vec![(vec![1; 4], 4, 7000), (vec![2; 4], 4, 7)], 1));
}

#[test]
fn interfaces_are_bounded() {
    let mut bytes = section(Little);
    for _ in 0..=65536 {
        bytes.extend(interface(Little, 1, 0, &[]));
    }
    bytes.extend(enhanced(Little, 65535, 7, 4, &[1; 4], &[]));
    bytes.extend(enhanced(Little, 65536, 7, 4, &[2; 4], &[]));
    let (seen, unread) = passed_over(&bytes);
    assert_eq!((seen, unread.broken), (vec![(vec![1; 4], 4, 7000)], 2));
    assert!(unread.first_broken.unwrap().to_string().ends_with("more than 65536 interfaces in one section"));
}

#[test]
fn a_file_that_is_not_a_capture_is_refused_with_the_remedy() {
    assert_eq!(
        complaint(b"GIF89a"),
        "not a capture file: starts with 0x47494638, which is neither pcap nor pcapng; convert it with \
        `editcap -F pcapng`"
    );
    for (tool, magic) in
        [("xz", &[0xfd, b'7', b'z', b'X'][..]), ("bzip2", b"BZh9"), ("lz4", &[0x04, 0x22, 0x4d, 0x18])]
    {
        assert_eq!(
            complaint(magic),
            format!("compressed with {tool}; run `{tool} -dc FILE | mirror replay -r -`")
        );
    }
}
