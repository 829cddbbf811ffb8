//! Which sinks select a frame: those that only the sink of the targets selects are forwarded.

use aya_ebpf::{
    macros::map,
    maps::{HashMap, LpmTrie, lpm_trie::Key},
};
use mirror_ebpf::{
    mirror::{
        ALL_SINKS, FLAG_SPLIT_SOURCES, FLAG_SPLIT_VNIS, OTHER_SOURCES, OTHER_VNIS, OtherSinks, Sinks,
        TARGET_SINK,
    },
    programs::{headers::vni, packet::Packet},
    setting,
};

use super::BPF_F_NO_PREALLOC;

// Their sizes are set by user space.
#[map]
static SINKS_OF_VNI: HashMap<u32, Sinks> = HashMap::with_max_entries(1, 0);
#[map]
static SINKS_OF_V4: LpmTrie<[u8; 4], Sinks> = LpmTrie::with_max_entries(1, BPF_F_NO_PREALLOC);
#[map]
static SINKS_OF_V6: LpmTrie<[u8; 16], Sinks> = LpmTrie::with_max_entries(1, BPF_F_NO_PREALLOC);

#[unsafe(no_mangle)]
static OTHER_SINKS: OtherSinks = [0; 2];

/// Sinks that select the outer source of a packet over IPv4.
#[inline(always)]
pub(super) fn of_source_v4(packet: &Packet, network: usize, flags: u32) -> Sinks {
    if flags & FLAG_SPLIT_SOURCES == 0 {
        return ALL_SINKS;
    }
    match SINKS_OF_V4.get(Key::new(32, packet.bytes(network + 12))) {
        Some(sinks) => *sinks,
        None => setting!(OTHER_SINKS[OTHER_SOURCES]),
    }
}

/// As [`of_source_v4`].
#[inline(always)]
pub(super) fn of_source_v6(packet: &Packet, network: usize, flags: u32) -> Sinks {
    if flags & FLAG_SPLIT_SOURCES == 0 {
        return ALL_SINKS;
    }
    match SINKS_OF_V6.get(Key::new(128, packet.bytes(network + 8))) {
        Some(sinks) => *sinks,
        None => setting!(OTHER_SINKS[OTHER_SOURCES]),
    }
}

/// Whether the sink of the targets is the only one that selects a frame, by its VXLAN header and the sinks
/// that select its source.
#[inline(always)]
pub(super) fn is_for_target(vxlan: &Packet, of_source: Sinks, flags: u32) -> bool {
    if flags & (FLAG_SPLIT_VNIS | FLAG_SPLIT_SOURCES) == 0 {
        return true;
    }
    let of_vni = if flags & FLAG_SPLIT_VNIS == 0 { ALL_SINKS } else { of_vni(vxlan) };
    of_vni & of_source == TARGET_SINK
}

#[inline(always)]
fn of_vni(vxlan: &Packet) -> Sinks {
    // The caller has checked the header.
    let Some(vni) = vni(vxlan) else { return 0 };
    // SAFETY: written once, before the program is attached.
    match unsafe { SINKS_OF_VNI.get(vni) } {
        Some(sinks) => *sinks,
        None => setting!(OTHER_SINKS[OTHER_VNIS]),
    }
}
