//! Which sinks select a frame: those that only the sink of the targets selects are forwarded.

use aya_ebpf::{
    macros::map,
    maps::{HashMap, LpmTrie, lpm_trie::Key},
};
use mirror_ebpf::{
    mirror::{
        ALL_SINKS, FLAG_ORIGINS, FLAG_SPLIT_SOURCES, FLAG_SPLIT_VNIS, ORIGIN_VERSION_SHIFT, ORIGIN_VNI,
        OTHER_SOURCES, OTHER_VNIS, OriginKey, OtherSinks, Sinks, TARGET_SINK,
    },
    setting,
};

use super::{BPF_F_NO_PREALLOC, origins};

// Their sizes are set by user space.
#[map]
static SINKS_OF_VNI: HashMap<u32, Sinks> = HashMap::with_max_entries(1, 0);
#[map]
static SINKS_OF_V4: LpmTrie<[u8; 4], Sinks> = LpmTrie::with_max_entries(1, BPF_F_NO_PREALLOC);
#[map]
static SINKS_OF_V6: LpmTrie<[u8; 16], Sinks> = LpmTrie::with_max_entries(1, BPF_F_NO_PREALLOC);

#[unsafe(no_mangle)]
static OTHER_SINKS: OtherSinks = [0; 2];

/// Flags with which some frames are not for the targets.
pub(super) const SPLITS: u32 = FLAG_SPLIT_VNIS | FLAG_SPLIT_SOURCES;

/// Whether the sink of the targets is the only one that selects frames of this origin. Where origins are
/// counted, the last that was forwarded is known.
#[inline(always)]
pub(super) fn is_for_target(origin: &OriginKey, flags: u32) -> bool {
    if flags & FLAG_ORIGINS != 0 && origins::is_last(origin) {
        return true;
    }
    let of_vni = if flags & FLAG_SPLIT_VNIS == 0 { ALL_SINKS } else { of_vni(origin) };
    let of_source = if flags & FLAG_SPLIT_SOURCES == 0 { ALL_SINKS } else { of_source(origin) };
    of_vni & of_source == TARGET_SINK
}

#[inline(always)]
fn of_vni(origin: &OriginKey) -> Sinks {
    #[expect(clippy::cast_possible_truncation, reason = "the VNI and a byte that is 0")]
    let vni = u32::from_be(origin[ORIGIN_VNI] as u32) >> 8;
    // SAFETY: written once, before the program is attached.
    match unsafe { SINKS_OF_VNI.get(vni) } {
        Some(sinks) => *sinks,
        None => setting!(OTHER_SINKS[OTHER_VNIS]),
    }
}

#[inline(always)]
fn of_source(origin: &OriginKey) -> Sinks {
    let sinks = if origin[ORIGIN_VNI] >> ORIGIN_VERSION_SHIFT == 4 {
        let [a, b, c, d, ..] = origin[0].to_le_bytes();
        SINKS_OF_V4.get(Key::new(32, [a, b, c, d]))
    } else {
        // SAFETY: two words of 8 bytes, as they lie in memory.
        let address = unsafe { *origin.as_ptr().cast::<[u8; 16]>() };
        SINKS_OF_V6.get(Key::new(128, address))
    };
    match sinks {
        Some(sinks) => *sinks,
        None => setting!(OTHER_SINKS[OTHER_SOURCES]),
    }
}
