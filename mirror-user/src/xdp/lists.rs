//! The allow-lists of the XDP program: VNIs and outer sources.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr},
};

use aya::{
    Ebpf, Pod,
    maps::{HashMap, LpmTrie, MapData, MapError, lpm_trie::Key},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use mirror_ebpf::mirror as abi;

use super::{ProgramSetupError, take};
use crate::select::Allow;

/// The lists, which can change while the program is attached. A program that was loaded without a list
/// redirects every VNI, or every source, and workers select.
pub(super) struct Lists {
    vnis: Option<HashMap<MapData, u32, u8>>,
    sources: Option<Sources>,
}

struct Sources {
    v4: LpmTrie<MapData, [u8; 4], u8>,
    v6: LpmTrie<MapData, [u8; 16], u8>,
}

/// The entries of a list that accepts everything.
const EVERY_SOURCE: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
];

impl Lists {
    /// Takes the maps out of the object, and fills them.
    pub(super) fn open(ebpf: &mut Ebpf, allow: &Allow) -> Result<Self, ProgramSetupError> {
        let vnis = take(ebpf, abi::MAP_VNIS)?;
        let sources = Sources { v4: take(ebpf, abi::MAP_SOURCES_V4)?, v6: take(ebpf, abi::MAP_SOURCES_V6)? };
        let mut lists = Self {
            vnis: (!allow.vni_list().is_empty()).then_some(vnis),
            sources: (!allow.source_list().is_empty()).then_some(sources),
        };
        lists.widen(allow)?;
        Ok(lists)
    }

    /// Accepts what `allow` does, too.
    pub(super) fn widen(&mut self, allow: &Allow) -> Result<(), ProgramSetupError> {
        if let Some(vnis) = &mut self.vnis {
            let failed = ProgramSetupError::map(abi::MAP_VNIS);
            wanted_vnis(allow).into_iter().try_for_each(|vni| vnis.insert(vni, 1, 0)).map_err(failed)?;
        }
        let Some(Sources { v4, v6 }) = &mut self.sources else { return Ok(()) };
        for source in wanted_sources(allow) {
            let (name, inserted) = match source {
                IpNet::V4(_) => (abi::MAP_SOURCES_V4, v4_key(*source).map(|key| v4.insert(&key, 1, 0))),
                IpNet::V6(_) => (abi::MAP_SOURCES_V6, v6_key(*source).map(|key| v6.insert(&key, 1, 0))),
            };
            inserted.unwrap_or(Ok(())).map_err(ProgramSetupError::map(name))?;
        }
        Ok(())
    }

    /// Accepts nothing but what `allow` does.
    pub(super) fn narrow(&mut self, allow: &Allow) -> Result<(), ProgramSetupError> {
        if let Some(vnis) = &mut self.vnis {
            let failed = ProgramSetupError::map(abi::MAP_VNIS);
            let wanted = wanted_vnis(allow);
            let there: Vec<u32> = vnis.keys().collect::<Result<_, _>>().map_err(&failed)?;
            let mut others = there.into_iter().filter(|vni| !wanted.contains(vni));
            others.try_for_each(|vni| vnis.remove(&vni)).map_err(&failed)?;
        }
        let Some(Sources { v4, v6 }) = &mut self.sources else { return Ok(()) };
        let wanted = wanted_sources(allow);
        keep(v4, wanted.iter().filter_map(|net| v4_key(*net)))
            .map_err(ProgramSetupError::map(abi::MAP_SOURCES_V4))?;
        keep(v6, wanted.iter().filter_map(|net| v6_key(*net)))
            .map_err(ProgramSetupError::map(abi::MAP_SOURCES_V6))
    }
}

fn wanted_vnis(allow: &Allow) -> BTreeSet<u32> {
    match allow.vni_list() {
        [] => [abi::EVERY_VNI].into(),
        list => list.iter().copied().collect(),
    }
}

fn wanted_sources(allow: &Allow) -> &[IpNet] {
    match allow.source_list() {
        [] => &EVERY_SOURCE,
        list => list,
    }
}

fn v4_key(net: IpNet) -> Option<Key<[u8; 4]>> {
    let IpNet::V4(net) = net else { return None };
    Some(Key::new(net.prefix_len().into(), net.network().octets()))
}

fn v6_key(net: IpNet) -> Option<Key<[u8; 16]>> {
    let IpNet::V6(net) = net else { return None };
    Some(Key::new(net.prefix_len().into(), net.network().octets()))
}

/// Removes all prefixes but these.
fn keep<K: Pod + Ord>(
    map: &mut LpmTrie<MapData, K, u8>,
    wanted: impl Iterator<Item = Key<K>>,
) -> Result<(), MapError> {
    let of = |key: &Key<K>| (key.prefix_len(), key.data());
    let wanted: BTreeSet<_> = wanted.map(|key| of(&key)).collect();
    let there: Vec<_> = map.keys().collect::<Result<_, _>>()?;
    there.into_iter().filter(|key| !wanted.contains(&of(key))).try_for_each(|key| map.remove(&key))
}
