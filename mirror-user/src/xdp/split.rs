//! The tables by which the program forwards frames that only the sink of its targets selects.

use aya::{
    Ebpf,
    maps::{HashMap, LpmTrie, MapData, lpm_trie::Key},
};
use ipnet::IpNet;
use mirror_ebpf::mirror::{self as abi, Sinks};

use super::{ProgramSetupError, take};
use crate::select::split::Split;

/// The program's setting beside the tables.
pub(super) fn other_sinks(split: &Split) -> abi::OtherSinks {
    let mut others = abi::OtherSinks::default();
    others[abi::OTHER_VNIS] = split.other_vnis();
    others[abi::OTHER_SOURCES] = split.other_sources();
    others
}

/// Sizes of the tables of VNIs and of sources. A map has room for an entry at least.
pub(super) fn sizes(split: Option<&Split>) -> [u32; 2] {
    let size = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).max(1);
    split.map_or([1; 2], |split| [size(split.vnis().len()), size(split.sources().len())])
}

/// Fills the tables.
pub(super) fn fill(ebpf: &mut Ebpf, split: &Split) -> Result<(), ProgramSetupError> {
    let failed = ProgramSetupError::map;
    let mut vnis: HashMap<MapData, u32, Sinks> = take(ebpf, abi::MAP_SINKS_OF_VNI)?;
    for (vni, sinks) in split.vnis() {
        vnis.insert(vni, sinks, 0).map_err(failed(abi::MAP_SINKS_OF_VNI))?;
    }
    let mut v4: LpmTrie<MapData, [u8; 4], Sinks> = take(ebpf, abi::MAP_SINKS_OF_V4)?;
    let mut v6: LpmTrie<MapData, [u8; 16], Sinks> = take(ebpf, abi::MAP_SINKS_OF_V6)?;
    for (source, sinks) in split.sources() {
        let len = source.prefix_len().into();
        match source {
            IpNet::V4(net) => {
                let key = Key::new(len, net.network().octets());
                v4.insert(&key, sinks, 0).map_err(failed(abi::MAP_SINKS_OF_V4))?;
            }
            IpNet::V6(net) => {
                let key = Key::new(len, net.network().octets());
                v6.insert(&key, sinks, 0).map_err(failed(abi::MAP_SINKS_OF_V6))?;
            }
        }
    }
    Ok(())
}
