//! Files of procfs without a better interface.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
};

use crate::tunnels::Tunnels;

/// The interface of the IPv4 default route, from `/proc/net/route`.
pub(super) fn default_route(route: &str) -> Option<&str> {
    route.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Iface Destination Gateway Flags RefCnt Use Metric Mask …
        let (name, destination, mask) = (fields.first()?, fields.get(1)?, fields.get(7)?);
        (*destination == "00000000" && *mask == "00000000").then_some(*name)
    })
}

/// A UDP socket of `/proc/net/udp` or `/proc/net/udp6`.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Socket {
    pub(super) port: u16,
    pub(super) address: String,
    pub(super) inode: u64,
}

/// The sockets bound to ports of these tunnels.
pub(super) fn udp_sockets(table: &str, tunnels: &Tunnels) -> Vec<Socket> {
    let bound = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // sl local_address rem_address st queues tr:when retrnsmt uid timeout inode …
        let (address, port) = fields.get(1)?.split_once(':')?;
        let inode = fields.get(9)?.parse().ok()?;
        let port = u16::from_str_radix(port, 16).ok().filter(|port| tunnels.contains(*port))?;
        Some(Socket { port, address: address_text(address)?, inode })
    });
    bound.collect()
}

/// Addresses are printed as 32-bit words in the host's byte order.
fn address_text(hex: &str) -> Option<String> {
    let word = |at: usize| u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).to_string()),
        32 => {
            let mut octets = [0; 16];
            for (at, chunk) in octets.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?);
            }
            Some(Ipv6Addr::from(octets).to_string())
        }
        _ => None,
    }
}

/// The processes that have one of the sockets open, as `name (pid)` by inode. Processes of other users are
/// invisible without CAP_SYS_PTRACE.
pub(super) fn socket_owners(inodes: &BTreeSet<u64>) -> BTreeMap<u64, BTreeSet<String>> {
    let mut owners: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    if inodes.is_empty() {
        return owners;
    }
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        for descriptor in std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            let Ok(target) = std::fs::read_link(descriptor.path()) else { continue };
            let inode = target
                .to_str()
                .and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            let Some(inode) = inode.filter(|inode| inodes.contains(inode)) else { continue };
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            owners.entry(inode).or_default().insert(format!("{} ({pid})", name.trim_end()));
        }
    }
    owners
}

/// Numbers and names of the interrupts in `/proc/interrupts`.
pub(super) fn interrupts(table: &str) -> Vec<(u32, &str)> {
    let named = table.lines().skip(1).filter_map(|line| {
        let (number, rest) = line.split_once(':')?;
        Some((number.trim().parse().ok()?, rest.split_whitespace().next_back()?))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_is_distinguished_from_routes_to_networks() {
        let route = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            ens6\t00200A0A\t00000000\t0001\t0\t0\t0\t00F0FFFF\t0\t0\t0\n\
            ens5\t00000000\t0100200A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n";
        assert_eq!(default_route(route), Some("ens5"));
        assert_eq!(default_route("Iface\tDestination\n"), None);
        assert_eq!(default_route(""), None);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn sockets_are_found_by_port_in_both_families() {
        let udp = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  \
            timeout inode ref pointer drops\n\
            \x20 123: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 \
            17001 2 0 0\n\
            \x20 456: 00000000:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 \
            17002 2 0 0\n";
        let sockets = |table: &str, tunnels: &[u16]| udp_sockets(table, &tunnels.iter().copied().collect());
        let vxlan = Socket { port: 4789, address: "0.0.0.0".to_owned(), inode: 17002 };
        let other = Socket { port: 53, address: "127.0.0.1".to_owned(), inode: 17001 };
        assert_eq!(sockets(udp, &[4789, 6081])[..], [vxlan]);
        assert_eq!(sockets(udp, &[53])[..], [other]);
        assert_eq!(sockets(udp, &[4789, 53]).len(), 2);
        let udp6 = "  sl  local_address                         remote_address                        st \
            tx_queue rx_queue\n\
            \x20 9: 0000000000000000FFFF00000100007F:12B5 00000000000000000000000000000000:0000 07 0:0 00:0 \
            0 0 0 17003 2 0 0\n";
        assert_eq!(
            sockets(udp6, &[4789]),
            [Socket { port: 4789, address: "::ffff:127.0.0.1".to_owned(), inode: 17003 }]
        );
        assert_eq!(sockets("header\nnonsense\n 1: zz:12B5 a b c d e f g 1\n", &[4789]), []);
    }

    #[test]
    fn interrupts_are_numbers_with_names() {
        let table = "            CPU0       CPU1       \n\
            \x20  1:          9          0   IO-APIC   1-edge      i8042\n\
            \x20 27:     123456          7   PCI-MSI 81921-edge      ens5-Tx-Rx-0\n\
            NMI:          0          0   Non-maskable interrupts\n";
        assert_eq!(interrupts(table), [(1, "i8042"), (27, "ens5-Tx-Rx-0")]);
    }
}
