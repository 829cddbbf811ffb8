//! Reads a live host. What cannot be read stays unknown, with the reason. Nothing is changed, but for the
//! priority of a thread that ends at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{
    facts::{Fact, Facts, InterfaceFacts, Irq, PortHolder, Realtime, VxlanDevice},
    procfs,
};
use crate::{
    host::{
        HostError,
        interface::{Interface, interfaces},
        kernel,
        limits::{Capabilities, HugePages, Memlock},
        read_text, scheduling, tunables,
        vxlan::vxlan_devices,
    },
    tunnels::Tunnels,
};

/// Gathers the facts about this host, in the network namespace of the calling thread: of some interfaces, or
/// of all but loopback if none is named, for a run that takes these tunnels. Needs no privileges, but finds
/// less without.
#[must_use]
pub fn gather(names: &[&str], tunnels: &Tunnels) -> Facts {
    let route = read_text("/proc/thread-self/net/route").unwrap_or_default();
    let default_route = procfs::default_route(&route);
    let looked_at: Result<Vec<_>, _> = match names {
        [] => interfaces().map(|all| all.into_iter().filter(|one| one.name != "lo").collect()),
        names => names.iter().map(|name| Interface::named(name)).collect(),
    };
    let describe = |one: &Interface| describe(one, default_route == Some(&one.name));
    Facts {
        kernel: kernel::release().into(),
        machine: read_text("/sys/class/dmi/id/product_name").into(),
        cpus: match std::thread::available_parallelism() {
            Ok(cpus) => Fact::Known(u32::try_from(cpus.get()).unwrap_or(u32::MAX)),
            Err(error) => Fact::unknown(error),
        },
        possible_cpus: kernel::possible_cpus().ok(),
        page_size: kernel::page_size(),
        capabilities: Capabilities::effective().into(),
        memlock: Memlock::read().into(),
        huge_pages: HugePages::read().into(),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        bpf_jit: sysctl("bpf_jit_enable"),
        busy_poll: sysctl("busy_poll"),
        busy_read: sysctl("busy_read"),
        realtime: Some(Realtime {
            refused: scheduling::try_realtime().err().map(|error| error.to_string()),
            runtime_us: number("/proc/sys/kernel/sched_rt_runtime_us").ok(),
        }),
        vxlan: vxlan_devices().map(|devices| devices.into_iter().map(VxlanDevice::from).collect()).into(),
        tunnels: tunnels.clone(),
        port_holders: port_holders(tunnels).into(),
        asked: (!names.is_empty()).then(|| names.join(",")),
        interfaces: looked_at.map(|all| all.iter().map(describe).collect()).into(),
    }
}

impl From<crate::host::vxlan::Vxlan> for VxlanDevice {
    fn from(device: crate::host::vxlan::Vxlan) -> Self {
        let crate::host::vxlan::Vxlan { name, vni, port } = device;
        Self { name, vni, port }
    }
}

fn number<T: std::str::FromStr>(path: &str) -> Result<T, HostError> {
    let text = read_text(path)?;
    text.parse().map_err(|_| HostError::Unexpected { what: "a number", text })
}

fn sysctl(name: &str) -> Fact<u32> {
    number(&format!("/proc/sys/net/core/{name}")).into()
}

fn port_holders(tunnels: &Tunnels) -> Result<Vec<PortHolder>, HostError> {
    let mut sockets = procfs::udp_sockets(&read_text("/proc/thread-self/net/udp")?, tunnels);
    // Missing if IPv6 is.
    if let Ok(udp6) = read_text("/proc/thread-self/net/udp6") {
        sockets.extend(procfs::udp_sockets(&udp6, tunnels));
    }
    let mut owners = procfs::socket_owners(&sockets.iter().map(|socket| socket.inode).collect());
    let holders = sockets.into_iter().map(|socket| {
        let processes = owners.remove(&socket.inode).unwrap_or_default().into_iter().collect();
        PortHolder { port: socket.port, address: socket.address, processes }
    });
    Ok(holders.collect())
}

fn describe(interface: &Interface, default_route: bool) -> InterfaceFacts {
    let sysfs = interface.sysfs_is_ours().then(|| format!("/sys/class/net/{}/device", interface.name));
    let node = sysfs.as_deref().and_then(|device| number::<i32>(&format!("{device}/numa_node")).ok());
    InterfaceFacts {
        name: interface.name.clone(),
        mtu: interface.mtu,
        up: interface.up,
        carrier: Some(interface.carrier),
        default_route,
        kind: interface.kind.clone(),
        driver: interface.driver.clone(),
        rx_queues: interface.rx_queues().into(),
        channels: interface.channels().into(),
        rings: interface.rings().into(),
        rss: interface.rss().into(),
        xdp_features: interface.xdp_features().into(),
        xdp_hook: interface.xdp_hook().into(),
        irqs: irqs(interface, sysfs.as_deref()).into(),
        // -1: the machine has one node, or the firmware does not say.
        numa_node: node.and_then(|node| u32::try_from(node).ok()),
        offloads: interface.offloads().map(receive_side).into(),
        virtio_features: interface.virtio_features(),
        left_settings: left_settings(interface),
        peer: interface.peer(),
    }
}

/// If `/sys` belongs to another namespace, other findings report that.
fn left_settings(interface: &Interface) -> Fact<Vec<tunables::LeftSetting>> {
    match tunables::left(interface) {
        Err(HostError::OtherNamespace { .. }) => Fact::Known(Vec::new()),
        left => left.into(),
    }
}

fn receive_side(all: BTreeMap<String, bool>) -> BTreeMap<String, bool> {
    const REPORTED: [&str; 6] =
        ["rx-checksum", "rx-gro", "rx-gro-hw", "rx-hashing", "rx-lro", "rx-ntuple-filter"];
    all.into_iter().filter(|(name, _)| REPORTED.contains(&name.as_str())).collect()
}

/// The interrupts of an interface's queues: those of the PCI device below it, or those with its name, which
/// they may have had before a rename.
fn irqs(interface: &Interface, device: Option<&str>) -> Result<Vec<Irq>, HostError> {
    let Some(device) = device else {
        return Err(HostError::OtherNamespace { interface: interface.name.clone() });
    };
    // A virtio device's interrupts belong to its PCI device.
    let of_device: BTreeSet<u32> = ["msi_irqs", "../msi_irqs"]
        .iter()
        .flat_map(|directory| {
            std::fs::read_dir(format!("{device}/{directory}")).into_iter().flatten().flatten()
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    let table = read_text("/proc/interrupts")?;
    let ours = procfs::interrupts(&table).into_iter().filter(|(irq, name)| {
        let receives = !["config", "control", "mgmnt", "output"].iter().any(|other| name.contains(other));
        receives
            && (of_device.contains(irq) || name.split(['-', '@', ':']).any(|word| word == interface.name))
    });
    ours.map(|(irq, name)| {
        let cpus = read_text(format!("/proc/irq/{irq}/smp_affinity_list"))?;
        Ok(Irq { irq, name: name.to_owned(), cpus })
    })
    .collect()
}
