//! Which sinks select a frame, as tables by VNI and by outer source: the XDP program forwards those frames
//! that only the sink of its targets selects.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use mirror_ebpf::mirror::{MAX_SINKS, MAX_SOURCES, MAX_VNIS, Sinks, TARGET_SINK};

use super::Allow;

/// The tables. A frame's sinks are those that select both its VNI and its source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Split {
    /// Each VNI that a sink names.
    vnis: BTreeMap<u32, Sinks>,
    other_vnis: Sinks,
    /// Each prefix that a sink names, with the sinks that select all of it. The longest that contains an
    /// address is as long as the longest of each sink, so its sinks are all that select the address.
    sources: BTreeMap<IpNet, Sinks>,
    other_sources: Sinks,
}

/// More than the program's tables take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TooMany {
    pub(crate) what: &'static str,
    pub(crate) given: usize,
    pub(crate) most: usize,
}

impl Split {
    /// Between the sink of the targets and others.
    pub(crate) fn between<'a>(
        target: &'a Allow,
        others: impl IntoIterator<Item = &'a Allow>,
    ) -> Result<Self, TooMany> {
        let mut sinks = vec![target];
        sinks.extend(others);
        let within = |what, given, most| {
            let most = most as usize;
            if given > most { Err(TooMany { what, given, most }) } else { Ok(()) }
        };
        within("sinks", sinks.len(), MAX_SINKS)?;
        let vnis: BTreeSet<u32> = sinks.iter().flat_map(|sink| sink.vni_list()).copied().collect();
        within("VNIs of sinks", vnis.len(), MAX_VNIS)?;
        let sources: BTreeSet<IpNet> = sinks.iter().flat_map(|sink| sink.source_list()).copied().collect();
        within("outer sources of sinks", sources.len(), MAX_SOURCES)?;
        let all_of = |prefix: &IpNet, sink: &Allow| {
            let list = sink.source_list();
            list.is_empty() || list.iter().any(|own| own.contains(prefix))
        };
        Ok(Self {
            vnis: vnis.into_iter().map(|vni| (vni, those(&sinks, |sink| sink.allows_vni(vni)))).collect(),
            other_vnis: those(&sinks, |sink| sink.vni_list().is_empty()),
            sources: sources
                .into_iter()
                .map(|prefix| (prefix, those(&sinks, |sink| all_of(&prefix, sink))))
                .collect(),
            other_sources: those(&sinks, |sink| sink.source_list().is_empty()),
        })
    }

    /// Whether there are frames within `allow` that only the sink of the targets selects.
    pub(crate) fn leaves_any(&self, allow: &Allow) -> bool {
        let vnis = self.vni_sinks(allow);
        self.source_sinks(allow).into_iter().any(|source| vnis.iter().any(|vni| vni & source == TARGET_SINK))
    }

    /// Each set of sinks that select some VNI within `allow`.
    fn vni_sinks(&self, allow: &Allow) -> BTreeSet<Sinks> {
        let named = self.vnis.iter().filter(|(vni, _)| allow.allows_vni(**vni)).map(|(_, sinks)| *sinks);
        let others = match allow.vni_list() {
            [] => true,
            list => list.iter().any(|vni| !self.vnis.contains_key(vni)),
        };
        named.chain(others.then_some(self.other_vnis)).collect()
    }

    /// Each set of sinks that select some outer source within `allow`. It can change only where a prefix
    /// begins, and behind its end.
    fn source_sinks(&self, allow: &Allow) -> BTreeSet<Sinks> {
        let every = [IpAddr::from([0; 4]), IpAddr::from([0; 16])];
        let ends = |prefix: &IpNet| [Some(prefix.network()), after(prefix.broadcast())];
        let named = self.sources.keys().chain(allow.source_list()).flat_map(ends).flatten();
        every
            .into_iter()
            .chain(named)
            .filter(|address| allow.allows_source(*address))
            .map(|address| self.of_source(address))
            .collect()
    }

    /// The sinks that select an outer source, as the program looks them up.
    fn of_source(&self, address: IpAddr) -> Sinks {
        let containing = self.sources.iter().filter(|(prefix, _)| prefix.contains(&address));
        let longest = containing.max_by_key(|(prefix, _)| prefix.prefix_len());
        longest.map_or(self.other_sources, |(_, sinks)| *sinks)
    }

    /// VNIs that sinks name, with the sinks that select them.
    pub(crate) fn vnis(&self) -> &BTreeMap<u32, Sinks> {
        &self.vnis
    }

    /// The sinks that select any other VNI.
    pub(crate) fn other_vnis(&self) -> Sinks {
        self.other_vnis
    }

    /// Prefixes that sinks name, with the sinks that select all of them.
    pub(crate) fn sources(&self) -> &BTreeMap<IpNet, Sinks> {
        &self.sources
    }

    /// The sinks that select any other source.
    pub(crate) fn other_sources(&self) -> Sinks {
        self.other_sources
    }
}

/// The set of those for which this is so. The first has the bit of [`TARGET_SINK`].
fn those(sinks: &[&Allow], is_so: impl Fn(&Allow) -> bool) -> Sinks {
    sinks.iter().rev().fold(0, |set, sink| set << 1 | Sinks::from(is_so(sink)))
}

/// The next address, if there is one.
fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address.to_bits().checked_add(1).map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(address) => address.to_bits().checked_add(1).map(|next| IpAddr::V6(next.into())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    impl Split {
        /// The sinks of a frame, as the program computes them.
        fn of(&self, vni: u32, source: IpAddr) -> Sinks {
            self.vnis.get(&vni).unwrap_or(&self.other_vnis) & self.of_source(source)
        }
    }

    /// Few VNIs and addresses, so that lists overlap, and all of them can be tried.
    const VNIS: u32 = 6;
    const ADDRESSES: u8 = 32;

    fn address(number: u8, is_v6: bool) -> IpAddr {
        let mut octets = [0; 16];
        octets[15] = number;
        if is_v6 { octets.into() } else { [0, 0, 0, number].into() }
    }

    fn prefix() -> impl Strategy<Value = IpNet> {
        (0..ADDRESSES, 0_u8..=6, any::<bool>()).prop_map(|(number, host_bits, is_v6)| {
            let bits = if is_v6 { 128 } else { 32 };
            IpNet::new(address(number, is_v6), bits - host_bits).unwrap().trunc()
        })
    }

    fn allow() -> impl Strategy<Value = Allow> {
        (vec(0..VNIS, 0..4), vec(prefix(), 0..4))
            .prop_map(|(vnis, sources)| Allow::all().vnis(vnis).sources(sources))
    }

    fn selects(sink: &Allow, vni: u32, source: IpAddr) -> bool {
        sink.allows_vni(vni) && sink.allows_source(source)
    }

    /// Every VNI and address that lists may name, and some that they do not.
    fn frames() -> impl Iterator<Item = (u32, IpAddr)> {
        let addresses = || (0..2 * ADDRESSES + 1).flat_map(|n| [false, true].map(|is_v6| address(n, is_v6)));
        (0..=VNIS).flat_map(move |vni| addresses().map(move |address| (vni, address)))
    }

    proptest! {
        #[test]
        fn the_tables_have_exactly_the_sinks_that_select_a_frame(sinks in vec(allow(), 1..5)) {
            let split = Split::between(&sinks[0], &sinks[1..]).unwrap();
            for (vni, source) in frames() {
                let selecting: Vec<_> = sinks.iter().map(|sink| selects(sink, vni, source)).collect();
                let sinks = split.of(vni, source);
                let in_tables: Vec<_> = (0..selecting.len()).map(|bit| sinks >> bit & 1 == 1).collect();
                prop_assert_eq!(&in_tables, &selecting, "{} {}", vni, source);
                let only_target = selecting[0] && !selecting[1..].contains(&true);
                prop_assert_eq!(sinks == TARGET_SINK, only_target);
            }
        }

        #[test]
        fn it_is_known_whether_any_frame_is_for_the_target_alone(
            run in allow(),
            sinks in vec(allow(), 1..5),
        ) {
            let split = Split::between(&sinks[0], &sinks[1..]).unwrap();
            let is_left = |(vni, source): (u32, IpAddr)| {
                let others = sinks[1..].iter().any(|sink| selects(sink, vni, source));
                selects(&run, vni, source) && selects(&sinks[0], vni, source) && !others
            };
            prop_assert_eq!(split.leaves_any(&run), frames().any(is_left));
        }
    }

    #[test]
    fn the_last_addresses_have_none_behind_them() {
        let all = Allow::all();
        let ends = ["255.255.255.255/32", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"];
        let last = all.clone().sources(ends.map(|end| end.parse().unwrap()));
        assert!(Split::between(&all, [&last]).unwrap().leaves_any(&all));
        assert!(!Split::between(&last, [&last]).unwrap().leaves_any(&all));
        assert!(!Split::between(&all, [&last]).unwrap().leaves_any(&last));
    }

    #[test]
    fn what_the_tables_do_not_hold_is_refused() {
        let of = |sinks: &[Allow]| Split::between(&sinks[0], &sinks[1..]).err();
        let sinks = |number| vec![Allow::all(); number];
        assert_eq!(
            (of(&sinks(64)), of(&sinks(65))),
            (None, Some(TooMany { what: "sinks", given: 65, most: 64 }))
        );
        let vnis = |number| [Allow::all().vnis(0..number / 2), Allow::all().vnis(number / 2..number)];
        let too_many = TooMany { what: "VNIs of sinks", given: 4097, most: 4096 };
        assert_eq!((of(&vnis(4096)), of(&vnis(4097))), (None, Some(too_many)));
        // Every other address, so that none are joined.
        let sources = |number: u32| {
            let host = |n: u32| IpNet::from(IpAddr::V4((n * 2).into()));
            [Allow::all().sources((0..number).map(host))]
        };
        let too_many = TooMany { what: "outer sources of sinks", given: 1025, most: 1024 };
        assert_eq!((of(&sources(1024)), of(&sources(1025))), (None, Some(too_many)));
    }
}
