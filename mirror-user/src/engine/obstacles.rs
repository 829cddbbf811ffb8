//! What is known to keep a driver from taking the program in native mode, apart from the MTU.

use super::layout::{Advice, Host, Remedy};
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

/// Whether the driver has native XDP with redirect, and if not, what to know of that.
pub(super) fn support(host: &Host) -> Option<Advice> {
    if host.is_driver("veth") {
        // It always has, but says so only while its queues allow an attach (`veth_set_xdp_features`).
        let refuses = host.peer.is_none() && host.xdp_features.is_some_and(|features| !features.redirect);
        return refuses.then(|| Advice {
            says:
                "the other end, in another network namespace, has more TX queues than this end has RX queues"
                    .to_owned(),
            remedy: None,
        });
    }
    let listed = host.driver.as_ref().is_some_and(|driver| has_native(&driver.name));
    let has = host.xdp_features.map_or(listed, |features| features.basic && features.redirect);
    (!has).then(|| {
        let verdict = if host.xdp_features.is_some() { "has no" } else { "is not known for" };
        Advice {
            says: format!(
                "{} {verdict} native XDP with redirect; in generic mode each frame first becomes a socket \
                buffer",
                host.driver_name()
            ),
            remedy: None,
        }
    })
}

/// What else a driver wants before it takes the program.
pub(super) fn of_driver(host: &Host) -> Option<Advice> {
    match host.driver.as_ref()?.name.as_str() {
        "ena" => ena_channels(host),
        "veth" => veth_queues(host),
        "virtio_net" => virtio_offloads(host),
        _ => None,
    }
}

/// RX queues while the program is attached. virtio_net adds a queue pair for each CPU, to transmit, where the
/// device has them, and tells the device, which spreads over all (`virtnet_xdp_set`).
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
fn ena_channels(host: &Host) -> Option<Advice> {
    let ena = Ena::of(host.driver.as_ref()).filter(|ena| !ena.at_least((2, 17, 0)))?;
    let channels = host.channels?;
    let (now, max) = (channels.combined, channels.max_combined);
    if now.saturating_mul(2) <= max {
        return None;
    }
    let which = if ena == Ena::InBox { "the in-box driver" } else { "ena before 2.17" };
    let says = format!(
        "{} of at most {max} in use: {which} attaches XDP only up to half of them, for it needs the others \
        to transmit",
        counted(now, "channel")
    );
    Some(if max >= 2 {
        Advice {
            says,
            remedy: Some(Remedy::Combined { interface: host.interface.clone(), channels: max / 2 }),
        }
    } else {
        Advice { says: format!("{says}; an instance type with more vCPUs has more"), remedy: None }
    })
}

/// `veth_xdp_set`: "XDP expects number of rx queues not less than peer tx queues".
fn veth_queues(host: &Host) -> Option<Advice> {
    let peer = host.peer.as_ref()?;
    let tx = peer.tx_queues.filter(|&tx| tx > host.rx_queues)?;
    Some(Advice {
        says: format!(
            "{} here and {} at the other end, {}: veth takes a native program only if there are no more \
            there than here",
            counted(host.rx_queues, "RX queue"),
            counted(tx, "TX queue"),
            peer.name
        ),
        remedy: Some(Remedy::TxQueues { interface: peer.name.clone(), queues: host.rx_queues }),
    })
}

/// `virtnet_xdp_set`: offloads that the host will not switch off.
fn virtio_offloads(host: &Host) -> Option<Advice> {
    let agreed = host.virtio_features.as_ref()?;
    let has = |bit: u32| agreed.contains(&bit);
    let stuck: Vec<&str> = [
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
    if has(virtio::CTRL_GUEST_OFFLOADS) || stuck.is_empty() {
        return None;
    }
    let off: Vec<String> = stuck.iter().map(|name| format!("{name}=off")).collect();
    Some(Advice {
        says: format!(
            "the hypervisor offers {} and no way to switch them off (ctrl_guest_offloads), so virtio_net \
            refuses XDP; start the guest with {} on its virtio-net device",
            stuck.join(", "),
            off.join(",")
        ),
        remedy: None,
    })
}

/// `1 queue`, `2 queues`.
pub(crate) fn counted(number: impl Into<u64>, what: &str) -> String {
    let number = number.into();
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
