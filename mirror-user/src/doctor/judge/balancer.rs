//! What a Gateway Load Balancer in front of an interface asks of its MTU and of mirror sessions.

use super::Findings;
use crate::{
    doctor::facts::Facts,
    engine::{
        HostCommand, Obstacle, Warning,
        layout::{Host, Layout},
    },
    wire::{geneve, ipv4, udp, vxlan},
};

/// Bytes of an IP packet before a mirrored frame in VXLAN.
#[expect(clippy::cast_possible_truncation, reason = "36")]
const VXLAN: u32 = (ipv4::HEADER_LEN + udp::HEADER_LEN + vxlan::HEADER_LEN) as u32;
/// What the load balancer puts before that packet.
#[expect(clippy::cast_possible_truncation, reason = "68")]
const GENEVE: u32 =
    (ipv4::HEADER_LEN + udp::HEADER_LEN + geneve::HEADER_LEN + geneve::amazon::OPTIONS_LEN) as u32;
/// The largest packet that the load balancer's endpoints take from a mirror session (AWS: "Traffic Mirroring
/// quotas").
const ENDPOINT_MTU: u32 = 8500;
/// The largest frame of a mirror source with the usual MTU, 1500.
const USUAL_FRAME: u32 = 1514;

pub(super) fn judge(facts: &Facts, host: &Host, layout: &Layout, findings: &mut Findings) {
    if facts.tunnels.geneve().is_empty() {
        return;
    }
    // The MTU that the other findings advise.
    let obstacles = layout.obstacles.iter().filter_map(|obstacle| match obstacle {
        Obstacle::Mtu(mtu) => Some(mtu.lossless),
        _ => None,
    });
    let warnings = layout.warnings.iter().filter_map(|warning| match warning {
        Warning::Oversize { lossless, .. } => *lossless,
        _ => None,
    });
    let mtu = obstacles.chain(warnings).chain([host.mtu]).min().unwrap_or(host.mtu);
    let most = mtu.saturating_sub(GENEVE).min(ENDPOINT_MTU).saturating_sub(VXLAN);
    let fits = format!("at MTU {mtu}, mirrored frames of up to {most} bytes fit");
    let session = format!("set the packet length of mirror sessions to {most} or less");
    let headers =
        format!("behind a Gateway Load Balancer, whose headers and VXLAN's take {}", GENEVE + VXLAN);
    if most < USUAL_FRAME {
        findings.warning(
            format!(
                "{fits} {headers}: the largest of a source with MTU 1500 have {USUAL_FRAME}, and are lost"
            ),
            Some(HostCommand::Mtu { interface: host.interface.clone(), mtu: host.lossless_mtu() }.into()),
        );
    } else if mtu < ENDPOINT_MTU + GENEVE {
        findings.note(format!("{fits} {headers}: longer ones are lost; {session}"), None);
    } else {
        findings.ok(format!(
            "{fits}, the most that a Gateway Load Balancer passes; for sources with longer ones, {session}"
        ));
    }
}
