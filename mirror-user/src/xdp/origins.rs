//! Forwarded frames by origin, as the program counts them.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{Ipv4Addr, Ipv6Addr},
};

use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray, PerCpuHashMap},
};
use foldhash::fast::RandomState;
use mirror_ebpf::mirror as abi;

use super::{ProgramSetupError, take};
use crate::account::{ForwardedOrigins, Origin, OtherOrigins};

/// The maps of origins.
pub(super) struct Origins {
    known: PerCpuHashMap<MapData, abi::OriginKey, abi::Tally>,
    other: PerCpuArray<MapData, abi::OtherOrigins>,
    run: PerCpuArray<MapData, abi::Run>,
}

impl Origins {
    /// After the XDP program was loaded, which refers to the maps.
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Self, ProgramSetupError> {
        let (known, other) = (take(ebpf, abi::MAP_ORIGINS)?, take(ebpf, abi::MAP_OTHER_ORIGINS)?);
        Ok(Self { known, other, run: take(ebpf, abi::MAP_RUN)? })
    }

    /// The counts of all CPUs. A run that ends during the call may be missing.
    pub(super) fn read(&self) -> Result<ForwardedOrigins, ProgramSetupError> {
        let runs = || self.run.get(&0, 0).map_err(ProgramSetupError::map(abi::MAP_RUN));
        let before = runs()?;
        let (mut known, mut other) = self.ended()?;
        let after = runs()?;
        // One that has ended meanwhile may be among the others, or not.
        let stays = |(before, after): &(&abi::Run, &abi::Run)| {
            before[abi::RUN_NUMBER] == after[abi::RUN_NUMBER] && before[abi::RUN_TALLY] > 0
        };
        for (run, _) in before.iter().zip(after.iter()).filter(stays) {
            let [_, a, b, c, frames, inner_bytes] = *run;
            let is_full = other.frames > 0;
            match known.entry([a, b, c]) {
                Entry::Occupied(mut entry) => add(entry.get_mut(), [frames, inner_bytes]),
                Entry::Vacant(entry) if !is_full => {
                    entry.insert([frames, inner_bytes]);
                }
                // The program would add it to them.
                Entry::Vacant(_) => {
                    other.frames += frames;
                    other.inner_bytes += inner_bytes;
                }
            }
        }
        let known = known.into_iter().map(|(key, tally)| origin(key, tally)).collect();
        Ok(ForwardedOrigins { known, other })
    }

    /// All but the last run of each CPU.
    fn ended(&self) -> Result<(Known, OtherOrigins), ProgramSetupError> {
        let failed = ProgramSetupError::map;
        let mut known = Known::default();
        // Entries are never removed, so each is met once; those added meanwhile may be missed.
        for entry in &self.known {
            let (key, tallies) = entry.map_err(failed(abi::MAP_ORIGINS))?;
            tallies.iter().for_each(|tally| add(known.entry(key).or_default(), *tally));
        }
        let values = self.other.get(&0, 0).map_err(failed(abi::MAP_OTHER_ORIGINS))?;
        let sum = |word: usize| values.iter().map(|value| value[word]).sum();
        // The same origin has the same bit on every CPU.
        let bits = 2..size_of::<abi::OtherOrigins>() / size_of::<u64>();
        let all = |word: usize| values.iter().fold(0, |all, value| all | value[word]);
        let origins = bits.map(|word| u64::from(all(word).count_ones())).sum();
        Ok((known, OtherOrigins { origins, frames: sum(0), inner_bytes: sum(1) }))
    }
}

/// Origins that are counted apart.
type Known = HashMap<abi::OriginKey, abi::Tally, RandomState>;

fn add(sum: &mut abi::Tally, tally: abi::Tally) {
    sum.iter_mut().zip(tally).for_each(|(sum, more)| *sum += more);
}

/// An origin by its key.
fn origin(key: abi::OriginKey, [frames, inner_bytes]: abi::Tally) -> Origin {
    let [high, low, rest] = key.map(u64::to_le_bytes);
    let [first, middle, last, _, version, ..] = rest;
    let source = if version == 4 {
        let [a, b, c, d, ..] = high;
        Ipv4Addr::from([a, b, c, d]).into()
    } else {
        let word = u64::from_be_bytes;
        Ipv6Addr::from_bits(u128::from(word(high)) << 64 | u128::from(word(low))).into()
    };
    Origin::new(source, u32::from_be_bytes([0, first, middle, last]), frames, inner_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_source_and_vni_as_on_the_wire() {
        let word = |bytes: [u8; 8]| u64::from_le_bytes(bytes);
        let vni = |version| word([0x12, 0x34, 0x56, 0xff, version, 0, 0, 0]);
        let v4 = [word([10, 1, 2, 3, 0, 0, 0, 0]), 0, vni(4)];
        assert_eq!(origin(v4, [1, 2]), Origin::new([10, 1, 2, 3].into(), 0x12_3456, 1, 2));
        let address: Ipv6Addr = "2001:db8:1:2:3:4:5:6".parse().unwrap();
        let octets = address.octets();
        let (high, low) = octets.split_at(8);
        let half = |bytes: &[u8]| word(bytes.try_into().unwrap());
        let v6 = [half(high), half(low), vni(6)];
        assert_eq!(origin(v6, [3, 4]), Origin::new(address.into(), 0x12_3456, 3, 4));
    }
}
