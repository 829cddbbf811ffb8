//! Whether the driver takes the program, and if not, why.

use super::{
    Severity, counted,
    driver::{Ena, has_native, max_mtu},
    kernel_version,
};
use crate::{
    doctor::{
        facts::{Facts, InterfaceFacts},
        plan::wants_frags,
    },
    engine::{ONE_CHUNK_MTU, SINGLE_BUFFER_MTU},
    host::kernel::KernelVersion,
};

/// virtio 1.2 section 5.1.3.
mod virtio {
    pub(super) const GUEST_CSUM: u32 = 1;
    pub(super) const CTRL_GUEST_OFFLOADS: u32 = 2;
    pub(super) const GUEST_TSO4: u32 = 7;
    pub(super) const GUEST_TSO6: u32 = 8;
    pub(super) const GUEST_ECN: u32 = 9;
    pub(super) const GUEST_UFO: u32 = 10;
}

/// What stands in the way of native mode, and what comes with it.
pub(in crate::doctor) struct Native {
    /// Reasons why an attach in native mode fails, each with its mend.
    pub(super) obstacles: Vec<(String, Option<String>)>,
    /// Things that native mode costs or needs here.
    pub(super) remarks: Vec<(Severity, String, Option<String>)>,
}

impl Native {
    /// Whether nothing stands in the way.
    pub(in crate::doctor) fn possible(&self) -> bool {
        self.obstacles.is_empty()
    }
}

/// Judges native mode on one interface.
pub(in crate::doctor) fn verdict(facts: &Facts, interface: &InterfaceFacts) -> Native {
    let mut native = Native { obstacles: Vec::new(), remarks: Vec::new() };
    let kernel = kernel_version(facts);
    if support(interface, &mut native) {
        mtu(facts, interface, kernel, &mut native);
        match interface.driver.as_ref().map(|driver| driver.name.as_str()) {
            Some("ena") => ena_channels(interface, &mut native),
            Some("veth") => veth_queues(interface, &mut native),
            Some("virtio_net") => {
                virtio_offloads(interface, &mut native);
                virtio_queues(facts, interface, kernel, &mut native);
            }
            _ => {}
        }
    }
    native
}

/// Whether the driver has native XDP with redirect.
fn support(interface: &InterfaceFacts, native: &mut Native) -> bool {
    let name = interface.driver.as_ref().map(|driver| driver.name.as_str());
    let told = interface.xdp_features.known().copied().flatten();
    if name == Some("veth") {
        // It always has, but says so only while its queues allow an attach (`veth_set_xdp_features`).
        if interface.peer.is_none() && told.is_some_and(|features| !features.redirect) {
            native.obstacles.push((
                "the other end, in another network namespace, has more TX queues than this end has RX queues"
                    .to_owned(),
                None,
            ));
        }
        return true;
    }
    let has =
        told.map_or_else(|| name.is_some_and(has_native), |features| features.basic && features.redirect);
    if !has {
        let driver = name.unwrap_or("the driver");
        let verdict = if told.is_some() { "has no" } else { "is not known for" };
        native.obstacles.push((
            format!(
                "{driver} {verdict} native XDP with redirect; in generic mode each frame first becomes a socket buffer"
            ),
            None,
        ));
    }
    has
}

fn mtu(facts: &Facts, interface: &InterfaceFacts, kernel: Option<KernelVersion>, native: &mut Native) {
    let driver = interface.driver.as_ref();
    let Some(max) = max_mtu(driver, facts.page_size) else { return };
    let driver_name = driver.map_or("", |driver| driver.name.as_str());
    // veth looks at the end that frames come from.
    let (name, mtu) = match (&interface.peer, driver_name) {
        (Some(peer), "veth") => (peer.name.as_str(), peer.mtu),
        (None, "veth") => {
            native.remarks.push((
                Severity::Note,
                format!(
                    "the other end is in another network namespace: native mode needs its MTU to be at most {max}, and its TX \
                     queues no more than the RX queues here"
                ),
                None,
            ));
            return;
        }
        _ => (interface.name.as_str(), interface.mtu),
    };
    // An error speaks of it already, with the same mend.
    if mtu <= max || (name == interface.name && refused_mtu(facts, interface).is_some()) {
        return;
    }
    let whose = if name == interface.name { String::new() } else { format!(" of the other end, {name},") };
    let over = format!(
        "MTU {mtu}{whose} is over {max}, the most {driver_name} takes with an XDP program of a single buffer"
    );
    // The engine goes by this end's MTU when it chooses the program.
    let why_not = if wants_frags(interface.mtu) {
        why_no_frags(interface, kernel)
    } else {
        Some(format!("with an MTU of {} here, that is the program attached", interface.mtu))
    };
    let mend = Some(format!("ip link set {name} mtu {}", max.min(SINGLE_BUFFER_MTU)));
    match why_not {
        Some(why) => native.obstacles.push((format!("{over}; {why}"), mend)),
        None => native.remarks.push((
            Severity::Note,
            format!("{over}: the multi-buffer program is attached"),
            None,
        )),
    }
}

/// Why the engine refuses the interface's MTU, whatever the mode.
pub(super) fn refused_mtu(facts: &Facts, interface: &InterfaceFacts) -> Option<String> {
    let mtu = interface.mtu;
    let too_old = kernel_version(facts).is_some_and(|version| version < KernelVersion::new(5, 18));
    if mtu > ONE_CHUNK_MTU {
        let driver = interface.driver.as_ref().filter(|driver| driver.name != "veth");
        let also = max_mtu(driver, facts.page_size).zip(driver).map(|(max, driver)| {
            format!(", and over {max}, the most {} takes without multi-buffer XDP", driver.name)
        });
        let chunk =
            format!("MTU {mtu} is over {ONE_CHUNK_MTU}, the most whose frames fit one chunk of 4096 bytes");
        Some(chunk + &also.unwrap_or_default())
    } else if wants_frags(mtu) && too_old {
        Some(format!(
            "MTU {mtu} is over {SINGLE_BUFFER_MTU}, the most without multi-buffer XDP, which needs kernel 5.18"
        ))
    } else {
        None
    }
}

/// Why the multi-buffer program cannot be attached; `None` if it can.
fn why_no_frags(interface: &InterfaceFacts, kernel: Option<KernelVersion>) -> Option<String> {
    let since = |needed: KernelVersion, what: &str| {
        let older = kernel.is_none_or(|kernel| kernel < needed);
        older.then(|| format!("{what} needs kernel {}.{}", needed.major, needed.minor))
    };
    if let Some(why) = since(KernelVersion::new(5, 18), "multi-buffer XDP") {
        return Some(why);
    }
    if let Some(ena) = Ena::of(interface.driver.as_ref()) {
        if ena == Ena::InBox {
            return Some("the in-box driver has no multi-buffer XDP".to_owned());
        }
        if !ena.at_least((2, 14, 0)) {
            return Some("multi-buffer XDP needs driver 2.14".to_owned());
        }
        return since(KernelVersion::new(6, 6), "multi-buffer AF_XDP");
    }
    let told = interface.xdp_features.known().copied().flatten();
    let has = interface.kind.as_deref() == Some("veth") || told.is_some_and(|features| features.rx_sg);
    (!has).then(|| "the driver has no multi-buffer XDP".to_owned())
}

/// `ena_xdp_legal_queue_count`: as many channels again for frames that XDP sends.
fn ena_channels(interface: &InterfaceFacts, native: &mut Native) {
    let Some(ena) = Ena::of(interface.driver.as_ref()).filter(|ena| !ena.at_least((2, 17, 0))) else {
        return;
    };
    let Some(channels) = interface.channels.known() else { return };
    let (now, max) = (channels.combined, channels.max_combined);
    if now.saturating_mul(2) <= max {
        return;
    }
    let which = if ena == Ena::InBox { "the in-box driver" } else { "ena before 2.17" };
    let says = format!(
        "{} of at most {max} in use: {which} attaches XDP only up to half of them, for it needs the others to transmit",
        counted(now, "channel")
    );
    let (says, mend) = if max >= 2 {
        (says, Some(format!("ethtool -L {} combined {}", interface.name, max / 2)))
    } else {
        (format!("{says}; an instance type with more vCPUs has more"), None)
    };
    native.obstacles.push((says, mend));
}

/// `veth_xdp_set`: "XDP expects number of rx queues not less than peer tx queues".
fn veth_queues(interface: &InterfaceFacts, native: &mut Native) {
    let (Some(peer), Some(&rx)) = (&interface.peer, interface.rx_queues.known()) else { return };
    if let Some(tx) = peer.tx_queues.filter(|&tx| tx > rx) {
        native.obstacles.push((
            format!(
                "{} here and {} at the other end, {}: veth takes a native program only if there are no more there \
                 than here",
                counted(rx, "RX queue"),
                counted(tx, "TX queue"),
                peer.name
            ),
            Some(format!("ethtool -L {} tx {rx}", peer.name)),
        ));
    }
}

/// `virtnet_xdp_set`: offloads that the host will not let go of.
fn virtio_offloads(interface: &InterfaceFacts, native: &mut Native) {
    let Some(agreed) = &interface.virtio_features else { return };
    let has = |bit: u32| agreed.contains(&bit);
    let stuck: Vec<String> = [
        (virtio::GUEST_CSUM, "guest_csum"),
        (virtio::GUEST_TSO4, "guest_tso4"),
        (virtio::GUEST_TSO6, "guest_tso6"),
        (virtio::GUEST_ECN, "guest_ecn"),
        (virtio::GUEST_UFO, "guest_ufo"),
    ]
    .into_iter()
    .filter(|&(bit, _)| has(bit))
    .map(|(_, name)| name.to_owned())
    .collect();
    if !has(virtio::CTRL_GUEST_OFFLOADS) && !stuck.is_empty() {
        let off: Vec<String> = stuck.iter().map(|name| format!("{name}=off")).collect();
        native.obstacles.push((
            format!(
                "the hypervisor offers {} and no way to switch them off (ctrl_guest_offloads), so virtio_net refuses XDP; \
                 start the guest with {} on its virtio-net device",
                super::listed(&stuck),
                off.join(",")
            ),
            None,
        ));
    } else if ["rx-lro", "rx-gro-hw"].iter().any(|name| offload(interface, name)) {
        let which = if offload(interface, "rx-lro") { "lro" } else { "rx-gro-hw" };
        native.remarks.push((
            Severity::Note,
            format!("{which} is on: virtio_net switches the offload off while an XDP program is attached"),
            Some(format!("ethtool -K {} {which} off", interface.name)),
        ));
    }
}

fn offload(interface: &InterfaceFacts, name: &str) -> bool {
    interface.offloads.known().is_some_and(|all| all.get(name).copied().unwrap_or(false))
}

/// `virtnet_xdp_set` wants a queue for each CPU on top of those in use, to transmit.
fn virtio_queues(
    facts: &Facts,
    interface: &InterfaceFacts,
    kernel: Option<KernelVersion>,
    native: &mut Native,
) {
    let (Some(channels), Some(&cpus)) = (interface.channels.known(), facts.cpus.known()) else { return };
    let (now, max) = (channels.combined, channels.max_combined);
    let wanted = now.saturating_add(cpus);
    if wanted <= max {
        return;
    }
    let says = format!(
        "{} in use and {} make {wanted} queues, and the device has {max}",
        counted(now, "queue"),
        counted(cpus, "CPU")
    );
    // Commit 97c2c69e1926 in 5.13.
    if kernel.is_some_and(|kernel| kernel < KernelVersion::new(5, 13)) {
        let fewer = max.checked_sub(cpus).filter(|&fewer| fewer > 0);
        let mend = fewer.map(|fewer| format!("ethtool -L {} combined {fewer}", interface.name));
        native.obstacles.push((format!("{says}: virtio_net before 5.13 refuses XDP"), mend));
    } else {
        native.remarks.push((
            Severity::Note,
            format!("{says}: XDP transmits under a lock; receiving is not touched"),
            None,
        ));
    }
}
