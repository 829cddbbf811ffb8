//! Compressed captures: whole, cut, damaged, in members, and hostile.

use std::io::{self, ErrorKind, Write as _};

use flate2::{Compression, write::GzEncoder};

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[cfg(feature = "zstd")]
fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

type Pack = fn(&[u8]) -> Vec<u8>;

/// The kinds that are unpacked.
fn kinds() -> Vec<(&'static str, Pack)> {
    vec![
        ("gzip", gzip),
        #[cfg(feature = "zstd")]
        ("zstd", zstd),
    ]
}

fn capture() -> Vec<u8> {
    pcap_file(&(0..200).map(|number| vec![number; 60 + usize::from(number)]).collect::<Vec<_>>())
}

/// Gives one byte at a time, with a timeout before each.
struct Dripping<'a>(&'a [u8], bool);

impl Read for Dripping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(ErrorKind::TimedOut.into());
        }
        let len = self.0.len().min(1);
        buffer[..len].copy_from_slice(&self.0[..len]);
        self.0 = &self.0[len..];
        Ok(len)
    }
}

#[test]
fn a_compressed_capture_gives_the_same_frames_in_one_member_or_many_and_in_any_pieces() {
    let plain = capture();
    let expected = frames(&plain);
    for (tool, pack) in kinds() {
        let mut members: Vec<u8> = plain.chunks(777).flat_map(pack).collect();
        // A member may be empty, and a file padded with zeros.
        members.extend(pack(&[]));
        let filled = [&members[..], &[0; 100_000]].concat();
        for packed in [&pack(&plain), &members, &filled] {
            let mut reader = CaptureReader::new(&packed[..]);
            let (seen, error) = read_to_end(&mut reader, 64);
            assert!(error.is_none() && seen == expected, "{tool}: {error:?}");
            assert_eq!(reader.compression(), Some(tool));
        }
        let (seen, error) = read_all(Dripping(&members, false), 64);
        assert!(error.is_none() && seen == expected, "{tool}: {error:?}");
    }
    assert_eq!(CaptureReader::new(&plain[..]).compression(), None);
}

#[cfg(feature = "zstd")]
#[test]
fn skippable_frames_of_zstandard_are_skipped() {
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let bytes = [&skippable[..], &zstd(&capture()), &skippable].concat();
    assert_eq!(frames(&bytes), frames(&capture()));
}

#[test]
fn a_compressed_capture_cut_anywhere_gives_its_frames_and_an_error() {
    let all = frames(&capture());
    for (tool, pack) in kinds() {
        let packed: Vec<u8> = capture().chunks(9999).flat_map(pack).collect();
        let mut most = 0;
        for cut in 4..packed.len() {
            let (seen, error) = read_all(&packed[..cut], 64);
            assert_eq!(seen, all[..seen.len()]);
            assert!(seen.len() >= most);
            most = seen.len();
            let message = error.expect("it is not whole").to_string();
            let expected = format!("{tool} data cut short near byte {cut}, ");
            // Between two members, it is the capture that is cut.
            assert!(message.starts_with(&expected) || message.starts_with("cut short at byte"), "{message}");
        }
        assert!(most > 150, "{most} frames before the last cut");
    }
}

#[test]
fn damage_is_reported_with_both_places_and_the_frames_before_it_are_there() {
    for (tool, pack) in kinds() {
        let mut packed = [pack(&capture()[..5000]), pack(&capture()[5000..])].concat();
        let second = pack(&capture()[..5000]).len();
        let at = second + 40;
        packed[second + 20..at].fill(0xff);
        let (seen, error) = read_all(&packed[..], 64);
        assert!(seen.len() > 30, "{} frames", seen.len());
        let message = error.unwrap().to_string();
        assert!(message.starts_with(&format!("{tool} data damaged near byte ")), "{message}");
    }
}

#[test]
fn other_bytes_after_the_compressed_ones_are_reported_after_all_frames() {
    for (tool, pack) in kinds() {
        for garbage in [&b"garbage"[..], b"\0\0\0x", b"\x1e"] {
            let packed = [&pack(&capture()), garbage].concat();
            let (seen, error) = read_all(&packed[..], 64);
            assert_eq!(seen.len(), 200);
            let message = error.unwrap().to_string();
            assert!(message.contains(&format!("{tool} data damaged near byte ")), "{message}");
            assert!(message.ends_with("unexpected data after the last member"), "{message}");
        }
    }
}

#[test]
fn a_capture_compressed_twice_is_reported() {
    assert!(complaint(&gzip(&gzip(&capture()))).starts_with("compressed with gzip; run `gzip -dc FILE"));
}

#[test]
fn a_capture_that_unpacks_to_thousands_of_times_its_size_takes_no_more_memory() {
    let plain = [capture(), vec![0; 16 << 20]].concat();
    for (tool, pack) in kinds() {
        let packed = pack(&plain);
        assert!(packed.len() < 50_000, "{tool}: {}", packed.len());
        let allocated = allocation_counter::measure(|| {
            let mut reader = CaptureReader::new(&packed[..]);
            let mut frames = 0;
            while let Some(captures) = reader.next_batch(64).unwrap() {
                frames += captures.len();
            }
            assert_eq!(frames, 200 + (16 << 20) / 16);
        });
        assert!(allocated.bytes_max < 1 << 20, "{tool}: {allocated:?}");
    }
}

#[test]
fn data_that_unpacks_to_nothing_returns_control_to_the_reader() {
    for (tool, pack) in kinds() {
        let empty = pack(&[]);
        let packed = [pack(&capture()), empty.repeat((3 << 20) / empty.len())].concat();
        let mut reader = CaptureReader::new(&packed[..]);
        let mut batches = Vec::new();
        while let Some(captures) = reader.next_batch(64).unwrap() {
            batches.push(captures.len());
        }
        assert_eq!(batches.iter().sum::<usize>(), 200);
        let empty = batches.iter().filter(|frames| **frames == 0).count();
        assert!((2..20).contains(&empty), "{tool}: {empty} empty batches");
    }
}

#[cfg(feature = "zstd")]
#[test]
fn a_window_of_zstandard_beyond_the_bound_is_refused() {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    encoder.write_all(&capture()).unwrap();
    let packed = encoder.finish().unwrap();
    let message = complaint(&packed);
    assert!(message.starts_with("zstd data damaged near byte "), "{message}");
    assert!(message.contains("requires too much memory"), "{message}");
}

#[test]
fn a_failing_reader_is_not_reported_as_damage() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is on fire"))
        }
    }
    for (_, pack) in kinds() {
        let packed = pack(&capture());
        let (_, error) = read_all(packed[..100].chain(Failing), 64);
        let message = error.unwrap().to_string();
        assert!(
            message.starts_with("reading failed at byte ") && message.ends_with("the disk is on fire"),
            "{message}"
        );
    }
}
