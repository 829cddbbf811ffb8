//! How the XDP program encapsulates frames for tunnels: next hops, as they are found and followed.

use std::{net::IpAddr, sync::Weak, time::Instant};

use aya::{
    Ebpf,
    maps::{Array, MapData},
};
use mirror_ebpf::mirror as abi;

use super::{ProgramSetupError, take};
use crate::{
    host::{
        egress::{Egress, TunnelEgress},
        next_hop::NextHop,
    },
    log_limit::LogLimit,
    wire::{
        encapsulation::{Style, ip_header},
        ethernet::ethertype,
        ipv4, udp, vxlan,
    },
};

/// The map of the program, and the tunnels in it.
pub(super) struct Tunnels {
    map: Array<MapData, abi::Tunnel>,
    members: Vec<Member>,
}

struct Member {
    index: u32,
    tunnel: Weak<TunnelEgress>,
    /// As the program has it.
    value: abi::Tunnel,
    /// The neighbour can cause many changes.
    log: LogLimit,
}

impl Tunnels {
    /// Fills the map; `None` without tunnels.
    pub(super) fn open(ebpf: &mut Ebpf, egress: &[Egress]) -> Result<Option<Self>, ProgramSetupError> {
        let member = |(index, egress): (u32, &Egress)| match egress {
            Egress::Tunnel(tunnel) => Some(Member {
                index,
                tunnel: Weak::clone(tunnel),
                value: unresolved(&abi::Tunnel::default()),
                log: LogLimit::default(),
            }),
            Egress::Interface(_) | Egress::Veth(_) => None,
        };
        let members: Vec<_> = (0..).zip(egress).filter_map(member).collect();
        if members.is_empty() {
            return Ok(None);
        }
        let mut tunnels = Self { map: take(ebpf, abi::MAP_TUNNELS)?, members };
        for member in &tunnels.members {
            tunnels
                .map
                .set(member.index, member.value, 0)
                .map_err(ProgramSetupError::map(abi::MAP_TUNNELS))?;
        }
        tunnels.follow()?;
        Ok(Some(tunnels))
    }

    /// Has the program send to the present next hops.
    pub(super) fn follow(&mut self) -> Result<(), ProgramSetupError> {
        for member in &mut self.members {
            // Its sink has ended: nothing is sent any more.
            let Some(tunnel) = member.tunnel.upgrade() else { continue };
            let next = member.next(&tunnel, Instant::now());
            if next != member.value {
                self.map.set(member.index, next, 0).map_err(ProgramSetupError::map(abi::MAP_TUNNELS))?;
                member.value = next;
            }
        }
        Ok(())
    }
}

impl Member {
    /// The value that follows the present one: see [`abi::TUNNEL_KIND`].
    fn next(&mut self, tunnel: &TunnelEgress, now: Instant) -> abi::Tunnel {
        let TunnelEgress { to, next_hop, .. } = tunnel;
        if let Some(lines) = self.log.left_out(now) {
            tracing::warn!("vxlan:{to}: {lines} more lines about it were not logged");
        }
        let was_resolved = self.value[abi::TUNNEL_KIND] != abi::TUNNEL_UNRESOLVED;
        let reason = match next_hop.look() {
            Ok(hop) => match value(tunnel, &hop) {
                Some(value) if !was_resolved || differing(&value, &self.value) <= 1 => {
                    if !was_resolved && self.log.passes(now) {
                        let mac = hop.neighbour.map(|byte| format!("{byte:02x}")).join(":");
                        tracing::info!("vxlan:{to}: the kernel forwards to {mac}");
                    }
                    return value;
                }
                Some(_) => return unresolved(&self.value),
                None => "its addresses are of two families".to_owned(),
            },
            Err(reason) => reason,
        };
        if was_resolved && self.log.passes(now) {
            tracing::warn!("vxlan:{to}: {reason}; until then its frames take the user path");
        }
        unresolved(&self.value)
    }
}

/// Words that differ: one is replaced at once, so that no frame gets half of it.
fn differing(one: &abi::Tunnel, other: &abi::Tunnel) -> usize {
    one.iter().zip(other).filter(|(one, other)| one != other).count()
}

/// The value without a next hop: all other words stay, because a frame may be about to be sent by them.
fn unresolved(value: &abi::Tunnel) -> abi::Tunnel {
    let mut value = *value;
    value[abi::TUNNEL_KIND] = abi::TUNNEL_UNRESOLVED;
    value
}

/// The value for a next hop; `None` if its source is of another family than the tunnel.
fn value(tunnel: &TunnelEgress, hop: &NextHop) -> Option<abi::Tunnel> {
    let TunnelEgress { to, vni, .. } = tunnel;
    let mut ip = ip_header(hop.source, to.ip(), 0, Style::FORWARDED)?;
    let (kind, protocol, sum) = match (hop.source, to.ip()) {
        (IpAddr::V4(_), _) => {
            ip[ipv4::field::TOTAL_LENGTH].fill(0);
            (abi::TUNNEL_V4, ethertype::IPV4, sum(&ip))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let pseudo_header = [from.octets(), to.octets()].concat();
            (abi::TUNNEL_V6, ethertype::IPV6, sum(&pseudo_header) + sum(&[0, udp::PROTOCOL]))
        }
        (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    let source_port = [0; 2];
    let headers =
        [&hop.neighbour[..], &hop.mac, &protocol.to_be_bytes(), &ip, &source_port, &to.port().to_be_bytes()]
            .concat();
    let mut value = abi::Tunnel::default();
    value[abi::TUNNEL_KIND] = kind;
    let vni = vni.map(vxlan::header).and_then(|header| header.last_chunk().copied());
    value[abi::TUNNEL_VNI] = vni.map_or(abi::TUNNEL_KEEPS_VNI, u32::from_ne_bytes);
    value[abi::TUNNEL_MTU] = hop.mtu;
    value[abi::TUNNEL_SUM] = sum;
    for (word, bytes) in value[abi::TUNNEL_HEADERS..].iter_mut().zip(headers.chunks(4)) {
        let mut all = [0; 4];
        all[..bytes.len()].copy_from_slice(bytes);
        *word = u32::from_ne_bytes(all);
    }
    Some(value)
}

/// Sum of 16-bit words as they lie in memory.
fn sum(bytes: &[u8]) -> u32 {
    bytes.as_chunks().0.iter().map(|word| u32::from(u16::from_ne_bytes(*word))).sum()
}
