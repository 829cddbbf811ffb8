//! Both formats, whole and broken.

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
        // A wire length below what is there is a lie.
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

/// Two sections of different byte order, all packet blocks, resolutions, offsets, and blocks that are skipped.
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
        // Name resolution, statistics, custom, and a type nobody knows, with bodies that no parser would take.
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
fn a_capture_cut_anywhere_gives_the_frames_before_and_says_where() {
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
    assert_eq!(complaint(&[]), "cut short at byte 0, within the file header that starts at byte 0");
}

#[test]
fn lengths_beyond_reason_are_refused_before_any_memory_is_taken() {
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
        assert!(error.to_string().starts_with(&format!("{what} at byte {at} claims ")), "{error}");
        assert!(reader.memory() < 300_000, "{} bytes held", reader.memory());
    }
}

#[test]
fn the_longest_frame_is_read_and_one_more_byte_refused() {
    let longest = vec![7; super::super::MAX_FRAME];
    assert_eq!(frames(&pcap_file(std::slice::from_ref(&longest))), [(longest.clone(), 262_144, NS)]);
    let longer = vec![7; longest.len() + 1];
    assert!(complaint(&pcap_file(std::slice::from_ref(&longer))).contains("claims 262145 bytes"));
    let mut pcapng = section(Little);
    pcapng.extend(interface(Little, 1, 0, &[]));
    let start = pcapng.len();
    pcapng.extend(enhanced(Little, 0, 0, 0, &longer, &[]));
    assert!(complaint(&pcapng).starts_with(&format!("frame at byte {start} claims 262145 bytes")));
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
fn what_is_wrong_is_named_with_its_place() {
    let head = [section(Little), interface(Little, 1, 0, &[])].concat();
    let at = head.len();
    let patched = |mut bytes: Vec<u8>, at: usize, value: u8| {
        bytes[at] = value;
        bytes
    };
    let cases = [
        (
            "no such interface",
            enhanced(Little, 1, 0, 4, &[0; 4], &[]),
            "a packet of an interface that was not described",
        ),
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
        ("lengths that differ", patched(block(Little, 9, &[]), 8, 16), "the block's two lengths differ"),
        (
            "a packet longer than its block",
            patched(enhanced(Little, 0, 0, 4, &[0; 4], &[]), 20, 200),
            "the block's fields do not fit its length",
        ),
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
            "the block's fields do not fit its length",
        ),
        (
            "an obsolete packet without fields",
            block(Little, 2, &[0; 12]),
            "the packet block is shorter than its fields",
        ),
        (
            "a section of no byte order",
            block(Little, 0x0a0d_0d0a, &[0; 16]),
            "the section header has no byte-order magic",
        ),
        ("a section of another version", patched(section(Little), 12, 2), "the pcapng version is not 1"),
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
        let bytes = [head.clone(), block, enhanced(Little, 0, 0, 4, &[0; 4], &[])].concat();
        assert_eq!(complaint(&bytes), format!("malformed at byte {at}: {cause}"), "{what}");
    }
    let version = patched(pcap_file(&[]), 4, 3);
    assert_eq!(complaint(&version), "malformed at byte 0: the pcap version is not 2");
}

#[test]
fn interfaces_are_bounded() {
    let mut bytes = section(Little);
    for _ in 0..=65536 {
        bytes.extend(interface(Little, 1, 0, &[]));
    }
    assert!(complaint(&bytes).ends_with("more than 65536 interfaces in one section"));
}

#[test]
fn what_is_no_capture_is_told_with_the_mend() {
    assert_eq!(
        complaint(b"GIF89a"),
        "no capture file: starts with 0x47494638, which is neither pcap nor pcapng; convert it with `editcap -F pcapng`"
    );
    for (tool, magic) in [
        ("gzip", &[0x1f, 0x8b, 8, 0][..]),
        ("xz", &[0xfd, b'7', b'z', b'X']),
        ("zstd", &[0x28, 0xb5, 0x2f, 0xfd]),
        ("bzip2", b"BZh9"),
        ("lz4", &[0x04, 0x22, 0x4d, 0x18]),
    ] {
        assert_eq!(
            complaint(magic),
            format!("compressed with {tool}; run `{tool} -dc FILE | mirror replay -r -`")
        );
    }
}
