//! Any sequence of frames through reassembly: no panic, every frame is counted, memory is freed, and
//! etherparse can read the whole frames.
#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use libfuzzer_sys::fuzz_target;
use mirror_fuzz::Near;
use mirror_user::{
    Tunnels,
    reassembly::{MAX_JOINED, MEMORY, Outcome, Reassembler},
};

/// A frame that resembles a fragment, after a delay, on a queue.
#[derive(Arbitrary, Debug)]
struct Step<'a> {
    near: Near<'a>,
    /// In units of 1 ms.
    later: u16,
    queue: bool,
}

static TEMPLATES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(mirror_fuzz::fragments);

fuzz_target!(|steps: Vec<Step<'_>>| {
    let mut reassembler = Reassembler::new(Tunnels::default(), 1);
    assert!(reassembler.memory() <= MEMORY);
    let (mut now, mut received, mut completed, mut rejected) = (0, 0, 0, 0);
    for Step { near, later, queue } in &steps {
        now += u64::from(*later) * 1_000_000;
        let bytes = near.bytes(&TEMPLATES);
        let wire_len = u32::try_from(bytes.len()).expect("the fuzzer makes no inputs of 4 GiB");
        let mut joined = Vec::new();
        received += 1;
        match reassembler.insert(&bytes, wire_len, u32::from(*queue), now, &mut joined) {
            Outcome::Taken => assert!(joined.is_empty()),
            Outcome::Complete { frames } => {
                completed += frames;
                check(&joined);
            }
        }
        rejected += reassembler.take_rejected().total();
        assert_eq!(received, completed + rejected + reassembler.held());
    }
    reassembler.clear();
    rejected += reassembler.take_rejected().total();
    assert_eq!((reassembler.held(), received), (0, completed + rejected));
});

/// A whole frame has consistent lengths, and no fragment field.
fn check(frame: &[u8]) {
    assert!(frame.len() <= MAX_JOINED);
    let Ok(sliced) = SlicedPacket::from_ethernet(frame) else { return };
    match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            assert!(!header.is_fragmenting_payload());
            assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
        }
        Some(NetSlice::Ipv6(ip)) => assert!(!ip.is_payload_fragmented()),
        _ => {}
    }
    if let Some(TransportSlice::Udp(udp)) = &sliced.transport {
        assert!(usize::from(udp.length()) <= udp.slice().len());
    }
}
