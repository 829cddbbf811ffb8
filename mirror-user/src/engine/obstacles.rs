//! Known obstacles to native mode, apart from the MTU.

use super::{cause::Obstacle, facts::Host};
use crate::host::driver::{Ena, has_native};

/// virtio 1.2 section 5.1.3.
mod virtio {
    pub(super) const GUEST_CSUM: u32 = 1;
    pub(super) const CTRL_GUEST_OFFLOADS: u32 = 2;
    pub(super) const GUEST_TSO4: u32 = 7;
    pub(super) const GUEST_TSO6: u32 = 8;
    pub(super) const GUEST_ECN: u32 = 9;
    pub(super) const GUEST_UFO: u32 = 10;
}

/// The lack of native XDP with redirect, if it is one.
pub(super) fn support(host: &Host) -> Option<Obstacle> {
    if host.is_driver("veth") {
        // It always has it, but reports it only while its queues allow an attach (`veth_set_xdp_features`).
        let refuses = host.peer.is_none() && host.xdp_features.is_some_and(|features| !features.redirect);
        return refuses.then_some(Obstacle::VethHidden);
    }
    let listed = host.driver.as_ref().is_some_and(|driver| has_native(&driver.name));
    let has = host.xdp_features.map_or(listed, |features| features.basic && features.redirect);
    (!has).then(|| Obstacle::NoNative { driver: host.known_driver(), reported: host.xdp_features.is_some() })
}

/// Other conditions of a driver that are not met.
pub(super) fn of_driver(host: &Host) -> Option<Obstacle> {
    match host.driver.as_ref()?.name.as_str() {
        "ena" => ena_channels(host),
        "veth" => veth_queues(host),
        "virtio_net" => virtio_offloads(host),
        _ => None,
    }
}

/// RX queues while the program is attached. virtio_net adds a queue pair for each CPU, to transmit, where the
/// device has them; the device then spreads over all (`virtnet_xdp_set`).
pub(super) fn queues_once_attached(host: &Host) -> u32 {
    added_queues(host).unwrap_or(host.rx_queues)
}

/// The queues that virtio_net will have while the program is attached, if that changes their number.
pub(crate) fn added_queues(host: &Host) -> Option<u32> {
    let (channels, cpus) = (host.channels.filter(|_| host.is_driver("virtio_net"))?, host.cpus?);
    let wanted = channels.combined.saturating_add(cpus);
    (channels.combined > 0 && wanted <= channels.max_combined).then_some(wanted)
}

/// `ena_xdp_legal_queue_count`: as many channels again for frames that XDP sends.
fn ena_channels(host: &Host) -> Option<Obstacle> {
    let ena = Ena::of(host.driver.as_ref()).filter(|ena| !ena.at_least((2, 17, 0)))?;
    let channels = host.channels?;
    let (now, max) = (channels.combined, channels.max_combined);
    if now.saturating_mul(2) <= max {
        return None;
    }
    Some(Obstacle::EnaChannels {
        in_box: ena == Ena::InBox,
        interface: host.interface.clone(),
        in_use: now,
        most: max,
    })
}

/// `veth_xdp_set`: "XDP expects number of rx queues not less than peer tx queues".
fn veth_queues(host: &Host) -> Option<Obstacle> {
    let peer = host.peer.as_ref()?;
    let tx = peer.tx_queues.filter(|&tx| tx > host.rx_queues)?;
    Some(Obstacle::VethQueues { rx_queues: host.rx_queues, other_end: peer.name.clone(), tx_queues: tx })
}

/// `virtnet_xdp_set`: offloads that the hypervisor does not switch off.
fn virtio_offloads(host: &Host) -> Option<Obstacle> {
    let agreed = host.virtio_features.as_ref()?;
    let has = |bit: u32| agreed.contains(&bit);
    let offloads: Vec<&'static str> = [
        (virtio::GUEST_CSUM, "guest_csum"),
        (virtio::GUEST_TSO4, "guest_tso4"),
        (virtio::GUEST_TSO6, "guest_tso6"),
        (virtio::GUEST_ECN, "guest_ecn"),
        (virtio::GUEST_UFO, "guest_ufo"),
    ]
    .into_iter()
    .filter(|&(bit, _)| has(bit))
    .map(|(_, name)| name)
    .collect();
    let fixed = !has(virtio::CTRL_GUEST_OFFLOADS) && !offloads.is_empty();
    fixed.then_some(Obstacle::VirtioOffloads { offloads })
}
