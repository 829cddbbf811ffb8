//! Whole frames as records, so that the thread can rebuild the frame that the worker had.

use crate::frame::{Captured, Frame, Headers, Layout, Oddities};

/// Bytes of the header that [`put`] writes.
const HEAD: usize = 10 * size_of::<u32>();

/// Bytes of the record of a frame.
pub(crate) fn len(frame: &Frame<'_>) -> usize {
    len_of(frame.outer().len())
}

/// Bytes of the record of a frame of this many bytes, outer headers included.
pub(crate) fn len_of(outer: usize) -> usize {
    HEAD + outer.next_multiple_of(size_of::<u32>())
}

/// Writes a frame into `out`, which is [`len`] bytes.
pub(crate) fn put(frame: &Frame<'_>, out: &mut [u8]) {
    let (outer, (captured, layout)) = (frame.outer(), frame.parts());
    let Layout { vni, inner_len, wire_len, inner_start, odd, headers } = layout;
    let [start0, start1] = inner_start.to_le_bytes();
    let [t0, t1, t2, t3, t4, t5, t6, t7] = captured.time().to_le_bytes();
    let [h0, h1, h2, h3, h4, h5, h6, h7] = headers.bits().to_le_bytes();
    #[expect(clippy::cast_possible_truncation, reason = "no frame is as long as 4 GiB")]
    let len = outer.len() as u32;
    let words = [
        len.to_le_bytes(),
        captured.wire_len().to_le_bytes(),
        [t0, t1, t2, t3],
        [t4, t5, t6, t7],
        [h0, h1, h2, h3],
        [h4, h5, h6, h7],
        vni.to_le_bytes(),
        inner_len.to_le_bytes(),
        wire_len.to_le_bytes(),
        [start0, start1, odd.bits(), 0],
    ];
    out[..HEAD].copy_from_slice(words.as_flattened());
    outer.copy_to(&mut out[HEAD..]);
}

/// The frames of a block, in sequence.
pub(crate) fn frames(mut records: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let head: &[u8; HEAD] = records.first_chunk()?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let captured = word(0) as usize;
        let bytes = records.get(HEAD..HEAD + captured)?;
        records = records.get(len_of(captured)..)?;
        let two_words = |at: usize| u64::from(word(at + 4)) << 32 | u64::from(word(at));
        let layout = Layout {
            vni: word(24),
            inner_len: word(28),
            wire_len: word(32),
            inner_start: u16::from_le_bytes([head[36], head[37]]),
            odd: Oddities::from_bits(head[38]),
            headers: Headers::from_bits(two_words(16)),
        };
        Some(Frame::new(Captured::new(bytes, word(4), two_words(8)), layout))
    })
}

#[cfg(test)]
mod tests {
    use super::{super::Block, *};
    use crate::{
        decap::{decapsulate_frame, tests::Packet},
        frame::Network,
        sink::testing::Outer,
        tunnels::Tunnels,
    };

    #[test]
    fn a_record_gives_back_the_same_frame() {
        let frames = [
            Outer::new([10, 0, 0, 1], 0x00ff_ffff, &[7; 61]).at(u64::MAX - 5),
            Outer::new([10, 0, 0, 2], 0, &[]).cut_by(9),
            Outer::new([10, 0, 0, 3], 5, &[1; 1400]).at(1),
        ];
        let mut block = Block::new(4096, 0);
        for frame in &frames {
            let frame = frame.frame();
            put(&frame, block.push(len(&frame)).unwrap());
        }
        let read: Vec<_> = super::frames(block.bytes()).collect();
        assert_eq!(read.len(), frames.len());
        for (read, frame) in read.iter().zip(&frames) {
            let frame = frame.frame();
            assert_eq!(format!("{read:?}"), format!("{frame:?}"));
        }
    }

    #[test]
    fn a_record_keeps_every_shape_of_outer_headers() {
        for (tags, v6, options) in
            [(vec![], false, 10), (vec![0x88a8, 0x8100], false, 0), (vec![0x8100], true, 0)]
        {
            let bytes = Packet { tags, v6, options, padding: 5, ..Packet::default() }.bytes();
            let captured = Captured::new(&bytes, u32::try_from(bytes.len()).unwrap() + 1, 3);
            let frame = decapsulate_frame(captured, &Tunnels::default()).unwrap();
            assert_round_trip(&frame);
        }
    }

    fn assert_round_trip(frame: &Frame<'_>) {
        let mut out = vec![0; len(frame)];
        put(frame, &mut out);
        assert_eq!(format!("{:?}", frames(&out).next().unwrap()), format!("{frame:?}"));
    }

    /// As with an outer GENEVE header with all options.
    #[test]
    fn a_record_keeps_offsets_beyond_a_byte() {
        let bytes = [0; 700];
        let odd = Oddities::NONE.with(Oddities::RESERVED_BITS, true);
        for (geneve, odd) in [(0, odd), (90, odd.with(Oddities::CRITICAL_OPTION, true))] {
            for network in [Network::Ipv4 { at: 0x1fe }, Network::Ipv6 { at: 0x101 }] {
                let layout = Layout {
                    vni: 0x00ff_fffe,
                    inner_len: 100,
                    wire_len: 100,
                    inner_start: 600,
                    odd,
                    headers: Headers::new(network, 0x1ff).with_geneve(geneve),
                };
                assert_round_trip(&Frame::new(Captured::new(&bytes, 700, 9), layout));
            }
        }
    }
}
