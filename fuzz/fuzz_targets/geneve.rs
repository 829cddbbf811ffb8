//! Any bytes through decapsulation of GENEVE: no panic, offsets within them, the same result however a frame
//! is split, and the inner frame where etherparse finds it.
#![no_main]

use std::sync::LazyLock;

use etherparse::{SlicedPacket, TransportSlice};
use libfuzzer_sys::fuzz_target;
use mirror_fuzz::Near;
use mirror_user::{Captured, Encapsulation, Frame, Slices, Tunnels, decap};

static TUNNELS: LazyLock<Tunnels> = LazyLock::new(|| [4789, 6081].into());

static TEMPLATES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(mirror_fuzz::in_geneve);

fuzz_target!(|input: (u16, u8, Near<'_>)| {
    let (beyond, split, near) = input;
    let bytes = &near.bytes(&TEMPLATES)[..];
    let present = u32::try_from(bytes.len()).expect("the fuzzer makes no inputs of 4 GiB");
    let whole = Captured::new(bytes, present, 0);
    if let Ok(frame) = decap::decapsulate_frame(whole, &TUNNELS) {
        check(&frame);
        agree(&frame, bytes);
    }
    // Bytes that a snap length cut off, and in two slices, which only the general path reads.
    let wire_len = present + u32::from(beyond);
    let cut = decap::decapsulate_frame(Captured::new(bytes, wire_len, 0), &TUNNELS);
    let (first, rest) = bytes.split_at(usize::from(split).min(bytes.len()));
    let slices = [first, rest];
    let slices = Slices::new(&slices);
    match (cut, decap::decapsulate_frame(Captured::in_several(&slices, wire_len, 0), &TUNNELS)) {
        (Ok(one), Ok(two)) => {
            check(&one);
            assert_eq!(&*two.inner().to_contiguous(), one.inner().first());
            assert_eq!((one.vni(), one.gateway()), (two.vni(), two.gateway()));
            assert_eq!(one.wire_len(), two.wire_len());
            assert_eq!(one.has_unknown_critical_option(), two.has_unknown_critical_option());
        }
        (one, two) => assert_eq!(one.err(), two.err()),
    }
});

/// The accessors read at the offsets of the layout, which proves that these are in bounds.
fn check(frame: &Frame<'_>) {
    let (inner, outer) = (frame.inner(), frame.outer());
    assert!(inner.len() >= 14, "an Ethernet header is there");
    assert!(inner.len() + 14 + 20 + 8 + 8 <= outer.len(), "after the smallest outer headers");
    assert!(frame.vni() < 1 << 24);
    let _ = (frame.source(), frame.destination(), frame.source_port(), frame.has_reserved_bits());
    assert!(frame.gateway().is_some() || frame.encapsulation() == Encapsulation::Vxlan);
}

/// Of a frame that came in GENEVE: etherparse finds the same inner frame behind the length that the header
/// has, and a walk over the options the same endpoint.
fn agree(frame: &Frame<'_>, bytes: &[u8]) {
    let Some(gateway) = frame.gateway() else { return };
    // It refuses lengths of 0, for which we take the bytes that are there.
    let Ok(sliced) = SlicedPacket::from_ethernet(bytes) else { return };
    let Some(TransportSlice::Udp(udp)) = &sliced.transport else { return };
    let geneve = udp.payload();
    let options_end = 8 + usize::from(geneve[0] & 0x3f) * 4;
    let (mut at, mut endpoint) = (8, None);
    while at < options_end {
        let len = usize::from(geneve[at + 3] & 0x1f) * 4;
        let data = &geneve[at + 4..at + 4 + len];
        if (&geneve[at..at + 2], geneve[at + 2] & 0x7f, len) == (&[1, 8], 1, 8) {
            endpoint = endpoint.or_else(|| data.try_into().ok().map(u64::from_be_bytes));
        }
        at += 4 + len;
    }
    assert_eq!((at, gateway.endpoint), (options_end, endpoint));
    let payload = &geneve[options_end..];
    if geneve[2..4] == [0x65, 0x58] {
        assert_eq!(frame.encapsulation(), Encapsulation::Geneve);
        assert_eq!(frame.inner().first(), payload);
        return;
    }
    let Ok(inside) = SlicedPacket::from_ip(payload) else { return };
    let Some(TransportSlice::Udp(udp)) = &inside.transport else { return };
    assert_eq!(udp.destination_port(), 4789);
    assert_eq!(&udp.payload()[8..], frame.inner().first());
}
