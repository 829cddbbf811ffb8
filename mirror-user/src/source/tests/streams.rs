//! Readers that give their bytes in pieces, late, or not at all; and arbitrary bytes.

use std::io::{self, ErrorKind};

use proptest::prelude::*;

use super::{super::CaptureReader, Endian::Little, *};

/// Gives a few bytes at a time, with a timeout or an interruption before some.
struct Pieces<'a> {
    bytes: &'a [u8],
    sizes: std::iter::Cycle<std::slice::Iter<'a, usize>>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.sizes.next() {
            Some(0) => Err(ErrorKind::Interrupted.into()),
            Some(1) => Err(ErrorKind::WouldBlock.into()),
            size => {
                let len = size.copied().unwrap_or(1).min(buffer.len()).min(self.bytes.len());
                let (now, later) = self.bytes.split_at(len);
                buffer[..len].copy_from_slice(now);
                self.bytes = later;
                Ok(len)
            }
        }
    }
}

fn captures() -> impl Strategy<Value = Vec<u8>> {
    let frames = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..40);
    (frames, any::<bool>()).prop_map(|(frames, classic)| {
        if classic {
            return pcap_file(&frames);
        }
        let mut bytes = [section(Little), interface(Little, 1, 0, &[])].concat();
        for frame in &frames {
            bytes.extend(enhanced(Little, 0, 9, 0, frame, &[]));
        }
        bytes
    })
}

proptest! {
    #[test]
    fn pieces_of_any_size_give_the_same_frames(
        bytes in captures(), sizes in prop::collection::vec(0_usize..200, 0..20), last in 2_usize..50,
    ) {
        let sizes: Vec<usize> = sizes.into_iter().chain([last]).collect();
        let (seen, error) = read_all(Pieces { bytes: &bytes, sizes: sizes.iter().cycle() }, 64);
        prop_assert!(error.is_none(), "{:?}", error);
        prop_assert_eq!(seen, frames(&bytes));
    }

    #[test]
    fn damaged_captures_end_in_bounded_memory(
        mut bytes in captures(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let mut reader = CaptureReader::new(&bytes[..]);
        let mut batches = 0;
        while let Ok(Some(captures)) = reader.next_batch(64) {
            let _ = captures.iter().map(|captured| captured.len()).sum::<usize>();
            batches += 1;
            prop_assert!(batches <= bytes.len());
        }
        prop_assert!(reader.memory() <= 1 << 20);
    }
}

#[test]
fn a_frame_is_delivered_before_the_reader_waits_for_the_next() {
    let bytes = pcap_file(&[vec![1; 60], vec![2; 60]]);
    // All of the first frame, half of the second, then nothing but timeouts.
    let sizes = [140, 1, 1, 1, 1];
    let mut reader = CaptureReader::new(Pieces { bytes: &bytes[..140], sizes: sizes.iter().cycle() });
    assert_eq!(reader.next_batch(64).unwrap().unwrap().len(), 1);
    assert!(reader.next_batch(64).unwrap().unwrap().is_empty(), "nothing came in time");
}

#[test]
fn the_error_of_a_failing_reader_is_reported() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is on fire"))
        }
    }
    let bytes = pcap_file(&[vec![1; 60]]);
    let (seen, error) = read_all((&bytes[..]).chain(Failing), 64);
    assert_eq!(seen.len(), 1);
    assert_eq!(error.unwrap().to_string(), "reading failed at byte 100: the disk is on fire");
}

#[test]
fn files_open_by_name() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pcap_file(&[vec![1; 60]])).unwrap();
    let mut reader = CaptureReader::open(file.path()).unwrap();
    assert_eq!(reader.next_batch(64).unwrap().unwrap().len(), 1);
    assert!(reader.next_batch(64).unwrap().is_none());
    let missing = CaptureReader::open("/nowhere/at/all.pcap").unwrap_err();
    assert!(missing.to_string().starts_with("cannot be opened: No such file"), "{missing}");
    assert!(CaptureReader::open("/").is_err(), "a folder is no capture");
}
