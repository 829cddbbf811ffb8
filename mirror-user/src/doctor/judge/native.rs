//! What native mode needs or costs on one interface, beside its obstacles.

use super::{Remedy, Severity, counted};
use crate::{
    doctor::facts::InterfaceFacts,
    engine::{
        layout::{Host, Layout},
        obstacles::added_queues,
    },
    host::{driver, kernel::since, settings::Setting},
};

/// How much it matters, what it is, and a command that changes it.
pub(super) type Remark = (Severity, String, Option<Remedy>);

pub(super) fn remarks(interface: &InterfaceFacts, host: &Host, layout: &Layout) -> Vec<Remark> {
    let mut remarks = Vec::new();
    mtu(host, layout, &mut remarks);
    if host.is_driver("virtio_net") {
        offloads(interface, &mut remarks);
        queues(host, &mut remarks);
    }
    if let Some(seconds) = driver::link_reset(host.driver.as_ref()) {
        remarks.push((
            Severity::Note,
            format!(
                "{} resets its link for about {seconds} s when a program is attached or detached: frames of \
                that time do not reach this host",
                host.driver_name()
            ),
            None,
        ));
    }
    remarks
}

fn mtu(host: &Host, layout: &Layout, remarks: &mut Vec<Remark>) {
    let Some(limit) = driver::known_single_buffer(host.driver.as_ref(), host.page_size) else { return };
    let driver = host.driver_name();
    if driver == "veth" && host.peer.is_none() {
        let mtu =
            if layout.frags { String::new() } else { format!("its MTU to be at most {}, and ", limit.most) };
        remarks.push((
            Severity::Note,
            format!(
                "the other end is in another network namespace: native mode needs {mtu}its TX queues to be \
                no more than the RX queues here"
            ),
            None,
        ));
    }
    let (whose, mtu) = match &host.peer {
        Some(peer) => (format!(" of the other end, {},", peer.name), peer.mtu),
        None => (String::new(), host.mtu),
    };
    if layout.frags && mtu > limit.most {
        remarks.push((
            Severity::Note,
            format!(
                "MTU {mtu}{whose} is over {}, the most {driver} takes with an XDP program of a single \
                buffer: the multi-buffer program is attached, and large frames come in several descriptors",
                limit.most
            ),
            None,
        ));
    }
}

fn offloads(interface: &InterfaceFacts, remarks: &mut Vec<Remark>) {
    let is_on =
        |name: &str| interface.offloads.known().is_some_and(|all| all.get(name).copied().unwrap_or(false));
    let (which, offload) = match (is_on("rx-lro"), is_on("rx-gro-hw")) {
        (true, _) => ("lro", "rx-lro"),
        (false, true) => ("rx-gro-hw", "rx-gro-hw"),
        (false, false) => return,
    };
    remarks.push((
        Severity::Note,
        format!("{which} is on: virtio_net switches the offload off while an XDP program is attached"),
        Some(Remedy::setting(
            Setting::Offload { interface: interface.name.clone(), offload: offload.to_owned() },
            "off",
        )),
    ));
}

/// `virtnet_xdp_set` needs an additional queue per CPU, to transmit.
fn queues(host: &Host, remarks: &mut Vec<Remark>) {
    let (Some(channels), Some(cpus)) = (host.channels, host.cpus) else { return };
    let (now, max) = (channels.combined, channels.max_combined);
    if let Some(then) = added_queues(host) {
        remarks.push((
            Severity::Note,
            format!(
                "virtio_net adds a queue for each of {} while the program is attached, and the device \
                spreads over all {then}: all are read, unless `--queues` lists only some",
                counted(cpus, "CPU")
            ),
            None,
        ));
        return;
    }
    let wanted = now.saturating_add(cpus);
    let message = format!(
        "{} in use and {} make {wanted} queues, and the device has {max}",
        counted(now, "queue"),
        counted(cpus, "CPU")
    );
    if host.kernel.is_some_and(|kernel| kernel < since::VIRTIO_SHARED_QUEUES) {
        remarks.push((
            Severity::Warning,
            format!(
                "{message}: virtio_net before 5.13 may refuse XDP; some stable kernels share queues under a \
                lock instead, and ingest tries it"
            ),
            None,
        ));
    } else {
        remarks.push((
            Severity::Note,
            format!("{message}: XDP transmits under a lock; receiving is not affected"),
            None,
        ));
    }
}
