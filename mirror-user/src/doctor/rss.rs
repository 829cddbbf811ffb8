//! Which RSS table entries mirrored traffic can reach.
//!
//! AWS Traffic Mirroring has been seen to use outer UDP source ports 0xFF80 to 0xFFFF only, so that between
//! one source and one target everything but 7 bits of the hash's input is constant. How many of a table's
//! entries those 7 bits reach depends on the key alone.

use std::collections::{BTreeMap, BTreeSet};

/// The key of Microsoft's RSS specification, "Verifying the RSS Hash Calculation"; its bits under the source
/// port make all 128 ports end in different low 7 bits of the hash.
pub const MICROSOFT_KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
    0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
    0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// The outer source ports of mirrored traffic.
const FIRST_PORT: u16 = 0xFF80;
/// How many there are.
pub(super) const PORTS: usize = 128;
/// VXLAN's port, the outer destination port.
const DESTINATION: u16 = crate::wire::vxlan::PORT;

/// The Toeplitz hash of `input` under `key` (Microsoft, "RSS Hashing Functions"); bits past the key's end
/// count as 0.
#[must_use]
pub fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    let byte = |at: usize| u64::from(key.get(at).copied().unwrap_or(0));
    let mut hash = 0;
    for (at, &value) in input.iter().enumerate() {
        // The 40 bits of key that this byte's eight 32-bit windows lie in.
        let window = (0..5).fold(0, |bits, next| bits << 8 | byte(at + next));
        for bit in 0..8 {
            if value & (0x80 >> bit) != 0 {
                hash ^= window >> (8 - bit) & 0xFFFF_FFFF;
            }
        }
    }
    u32::try_from(hash).unwrap_or_default()
}

/// What the outer source ports of mirrored traffic between one source and one target reach.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Reach {
    /// Table entries reached, the same for any pair of addresses.
    pub entries: usize,
    /// Table entries there are.
    pub table: usize,
    /// Queues reached, for the worst pair of addresses.
    pub queues: usize,
    /// How many of the 128 source ports the busiest queue gets, for the worst pair of addresses.
    pub busiest: usize,
    /// Queues the table names.
    pub all_queues: usize,
}

/// Hashes the 128 source ports of mirrored traffic with `key`, and looks them up in `table`.
///
/// `None` without a table or a key of 16 bytes (what an IPv4 4-tuple needs), and for tables whose length is
/// no power of two, which is not what the hash's low bits index.
#[must_use]
pub fn reach(key: &[u8], table: &[u32]) -> Option<Reach> {
    if !table.len().is_power_of_two() || key.len() < 16 {
        return None;
    }
    // The hash is linear: the addresses' part is a constant XORed onto the ports' part. So entries are
    // counted with addresses of zero, and queues with every constant there can be.
    let index = |port: u16| {
        let mut input = [0; 12];
        input[8..10].copy_from_slice(&port.to_be_bytes());
        input[10..12].copy_from_slice(&DESTINATION.to_be_bytes());
        toeplitz(key, &input) as usize % table.len()
    };
    let hits: Vec<usize> = (FIRST_PORT..=u16::MAX).map(index).collect();
    let spread = |constant: usize| {
        let mut ports: BTreeMap<u32, usize> = BTreeMap::new();
        for queue in hits.iter().filter_map(|entry| table.get(entry ^ constant)) {
            *ports.entry(*queue).or_default() += 1;
        }
        (ports.len(), ports.into_values().max().unwrap_or(0))
    };
    let spreads = (0..table.len()).map(spread);
    let (queues, busiest) = spreads
        .fold((usize::MAX, 0), |(fewest, most), (queues, ports)| (fewest.min(queues), most.max(ports)));
    Some(Reach {
        entries: hits.iter().collect::<BTreeSet<_>>().len(),
        table: table.len(),
        queues,
        busiest,
        all_queues: table.iter().collect::<BTreeSet<_>>().len(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    /// Microsoft, "Verifying the RSS Hash Calculation": destination, source, hash with ports, hash without.
    const IPV4: [(&str, u16, &str, u16, u32, u32); 5] = [
        ("161.142.100.80", 1766, "66.9.149.187", 2794, 0x51cc_c178, 0x323e_8fc2),
        ("65.69.140.83", 4739, "199.92.111.2", 14230, 0xc626_b0ea, 0xd718_262a),
        ("12.22.207.184", 38024, "24.19.198.95", 12898, 0x5c2b_394a, 0xd2d0_a5de),
        ("209.142.163.6", 2217, "38.27.205.30", 48228, 0xafc7_327f, 0x8298_9176),
        ("202.188.127.2", 1303, "153.39.163.191", 44251, 0x10e8_28a2, 0x5d18_09c5),
    ];
    const IPV6: [(&str, u16, &str, u16, u32, u32); 3] = [
        ("3ffe:2501:200:3::1", 1766, "3ffe:2501:200:1fff::7", 2794, 0x4020_7d3d, 0x2cc1_8cd5),
        ("ff02::1", 4739, "3ffe:501:8::260:97ff:fe40:efab", 14230, 0xdde5_1bbf, 0x0f0c_461c),
        (
            "fe80::200:f8ff:fe21:67cf",
            38024,
            "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
            44251,
            0x02d1_feef,
            0x4b61_e985,
        ),
    ];

    #[test]
    fn the_published_vectors_hash_as_published() {
        for (destination, destination_port, source, source_port, with_ports, without) in IPV4 {
            let octets = |text: &str| text.parse::<Ipv4Addr>().unwrap().octets();
            let addresses = [octets(source), octets(destination)].concat();
            assert_eq!(toeplitz(&MICROSOFT_KEY, &addresses), without, "{source}");
            let all = [&addresses[..], &source_port.to_be_bytes(), &destination_port.to_be_bytes()].concat();
            assert_eq!(toeplitz(&MICROSOFT_KEY, &all), with_ports, "{source}");
        }
        for (destination, destination_port, source, source_port, with_ports, without) in IPV6 {
            let octets = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
            let addresses = [octets(source), octets(destination)].concat();
            assert_eq!(toeplitz(&MICROSOFT_KEY, &addresses), without, "{source}");
            let all = [&addresses[..], &source_port.to_be_bytes(), &destination_port.to_be_bytes()].concat();
            assert_eq!(toeplitz(&MICROSOFT_KEY, &all), with_ports, "{source}");
        }
    }

    /// The default table of drivers: queues in turn.
    fn table(entries: u32, queues: u32) -> Vec<u32> {
        (0..entries).map(|entry| entry % queues).collect()
    }

    #[test]
    fn microsofts_key_reaches_every_entry_and_queue() {
        for queues in [1, 2, 3, 4, 8, 16, 32] {
            let reach = reach(&MICROSOFT_KEY, &table(128, queues)).unwrap();
            let queues = queues as usize;
            let busiest = 128usize.div_ceil(queues);
            assert_eq!(reach, Reach { entries: 128, table: 128, queues, busiest, all_queues: queues });
        }
    }

    #[test]
    fn a_key_of_zeros_reaches_one_entry() {
        let reach = reach(&[0; 40], &table(128, 4)).unwrap();
        assert_eq!(reach, Reach { entries: 1, table: 128, queues: 1, busiest: 128, all_queues: 4 });
    }

    #[test]
    fn a_key_that_repeats_every_sixteen_bits_is_poor() {
        // The "symmetric" key that many tools set.
        let key: Vec<u8> = [0x6d, 0x5a].repeat(20);
        let reach = reach(&key, &table(128, 32)).unwrap();
        assert_eq!((reach.entries, reach.queues, reach.busiest), by_brute_force(&key, 32));
        assert!(reach.entries < 128, "{reach:?}");
    }

    #[test]
    fn without_key_or_table_there_is_no_answer() {
        assert_eq!(reach(&[], &table(128, 4)), None);
        assert_eq!(reach(&MICROSOFT_KEY, &[]), None);
        assert_eq!(reach(&MICROSOFT_KEY, &table(100, 4)), None);
    }

    /// The same by trying many pairs of addresses: entries, fewest queues, most ports on a queue.
    fn by_brute_force(key: &[u8], queues: u32) -> (usize, usize, usize) {
        let table = table(128, queues);
        let (mut entries, mut fewest, mut most) = (0, usize::MAX, 0);
        for pair in 0..2048u32 {
            let source = pair.wrapping_mul(0x9E37_79B9).to_be_bytes();
            let hits: Vec<usize> = (FIRST_PORT..=u16::MAX)
                .map(|port| {
                    let ports = [port.to_be_bytes(), DESTINATION.to_be_bytes()].concat();
                    toeplitz(key, &[&source[..], &[10, 0, 0, 9], &ports].concat()) as usize % 128
                })
                .collect();
            entries = hits.iter().collect::<BTreeSet<_>>().len();
            let queues: BTreeSet<u32> = hits.iter().map(|&entry| table[entry]).collect();
            fewest = fewest.min(queues.len());
            let busiest =
                queues.iter().map(|&queue| hits.iter().filter(|&&entry| table[entry] == queue).count());
            most = most.max(busiest.max().unwrap());
        }
        (entries, fewest, most)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn entries_are_the_same_for_every_pair_of_addresses(
            key in proptest::collection::vec(any::<u8>(), 40),
            pair in any::<[u8; 8]>(),
        ) {
            let table = table(128, 128);
            let index = |port: u16| {
                let input = [&pair[..], &port.to_be_bytes(), &DESTINATION.to_be_bytes()].concat();
                toeplitz(&key, &input) as usize % 128
            };
            let entries: BTreeSet<usize> = (FIRST_PORT..=u16::MAX).map(index).collect();
            let reach = reach(&key, &table).unwrap();
            prop_assert_eq!(reach.entries, entries.len());
            prop_assert!(reach.entries.is_power_of_two());
        }
    }
}
