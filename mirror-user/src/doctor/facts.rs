//! The facts about a host, as they are recorded.

use std::{collections::BTreeMap, fmt};

use mirror_ebpf::mirror::{PROGRAM, PROGRAM_FORWARD, PROGRAM_FRAGS};
use serde::{Deserialize, Serialize};

pub use crate::host::interface::Peer;
use crate::host::{
    Channels, DriverInfo, HostError, Rings, Rss,
    kernel::KernelVersion,
    limits::{Capabilities, HugePages, Memlock},
    tunables::LeftSetting,
    xdp::{XdpFeatures, XdpHook},
};
use crate::{tunnels::Tunnels, wire::vxlan};

/// A fact, or the reason why it could not be read.
///
/// In JSON the value itself, or `{"unreadable": "reason"}`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Fact<T> {
    /// It could not be read.
    Unknown {
        /// Why not.
        unreadable: String,
    },
    /// What was read.
    Known(T),
}

impl<T> Fact<T> {
    /// The value, if it was readable.
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown { .. } => None,
        }
    }

    /// Why it was not readable, if it was not.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Known(_) => None,
            Self::Unknown { unreadable } => Some(unreadable),
        }
    }

    pub(super) fn unknown(why: impl fmt::Display) -> Self {
        Self::Unknown { unreadable: why.to_string() }
    }
}

impl<T> From<Result<T, HostError>> for Fact<T> {
    fn from(result: Result<T, HostError>) -> Self {
        result.map_or_else(Self::unknown, Self::Known)
    }
}

/// The facts about a host.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Facts {
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: Fact<String>,
    /// The machine's product name; on EC2 the instance type.
    pub machine: Fact<String>,
    /// CPUs this process may run on.
    pub cpus: Fact<u32>,
    /// CPUs that the kernel has room for, if recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub possible_cpus: Option<u32>,
    /// Bytes of a memory page.
    pub page_size: u32,
    /// The capabilities of this process.
    pub capabilities: Fact<Capabilities>,
    /// Its limit of locked memory.
    pub memlock: Fact<Memlock>,
    /// Huge pages of 2 MiB.
    pub huge_pages: Fact<HugePages>,
    /// Whether the kernel has BTF (`/sys/kernel/btf/vmlinux`).
    pub btf: bool,
    /// `net.core.bpf_jit_enable`: 0 off, 1 on, 2 on with debug output.
    pub bpf_jit: Fact<u32>,
    /// `net.core.busy_poll`, in µs: how long poll(2) busy-polls on sockets that do not set SO_BUSY_POLL.
    pub busy_poll: Fact<u32>,
    /// `net.core.busy_read`, in µs: the same for read(2).
    pub busy_read: Fact<u32>,
    /// Real-time scheduling, if recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realtime: Option<Realtime>,
    /// The kernel's VXLAN devices in this network namespace.
    pub vxlan: Fact<Vec<VxlanDevice>>,
    /// The tunnels that ingest is to take.
    #[serde(default)]
    pub tunnels: Tunnels,
    /// The sockets on the ports of these tunnels in this network namespace.
    pub port_holders: Fact<Vec<PortHolder>>,
    /// The requested interfaces, which are then the only ones in `interfaces`, with commas between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// The interfaces that were examined, or a reason if a requested one does not exist.
    pub interfaces: Fact<Vec<InterfaceFacts>>,
}

impl Facts {
    /// The kernel's version, where it is known.
    pub(super) fn kernel_version(&self) -> Option<KernelVersion> {
        self.kernel.known()?.parse().ok()
    }
}

/// Real-time scheduling: sched(7).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Realtime {
    /// What the kernel said when a thread of this process asked for `SCHED_FIFO`; `None` if it gave it.
    pub refused: Option<String>,
    /// `kernel.sched_rt_runtime_us`: how long real-time threads may run in each period of 1 s; -1 is
    /// unlimited. `None` if unreadable.
    pub runtime_us: Option<i64>,
}

/// A VXLAN device of the kernel.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct VxlanDevice {
    /// Its name.
    pub name: String,
    /// Its VNI; `None` when it takes every VNI (`external`).
    pub vni: Option<u32>,
    /// The UDP port it receives on.
    pub port: u16,
}

/// A UDP socket on a tunnel port.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PortHolder {
    /// The port.
    #[serde(default = "vxlan_port")]
    pub port: u16,
    /// The local address it is bound to.
    pub address: String,
    /// The processes that have it open, as `name (pid)`; none for the kernel's own.
    pub processes: Vec<String>,
}

/// For recordings without the field.
const fn vxlan_port() -> u16 {
    vxlan::PORT
}

/// The facts about one interface.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
pub struct InterfaceFacts {
    /// Its name.
    pub name: String,
    /// The largest layer-3 packet in bytes.
    pub mtu: u32,
    /// Whether it is administratively up; in recordings without `carrier`, whether it is up and has one.
    pub up: bool,
    /// Whether it has a carrier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<bool>,
    /// Whether the host's default route uses it.
    #[serde(default)]
    pub default_route: bool,
    /// Its rtnetlink kind, such as `veth`; `None` for physical ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its driver.
    pub driver: Option<DriverInfo>,
    /// RX queues in use.
    pub rx_queues: Fact<u32>,
    /// Channels, if the driver has them.
    pub channels: Fact<Channels>,
    /// RX ring sizes, if the driver has them.
    pub rings: Fact<Rings>,
    /// Its RSS configuration, if it has one.
    pub rss: Fact<Rss>,
    /// The driver's XDP features; `null` on kernels before 6.3.
    pub xdp_features: Fact<Option<XdpFeatures>>,
    /// The program on its XDP hook.
    pub xdp_hook: Fact<Option<XdpHook>>,
    /// Its queues' interrupts.
    pub irqs: Fact<Vec<Irq>>,
    /// Its NUMA node; `None` if there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u32>,
    /// Receive offloads, by the kernel's names.
    pub offloads: Fact<BTreeMap<String, bool>>,
    /// For virtio: the negotiated feature bits, by number (virtio 1.2 section 5.1.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtio_features: Option<Vec<u32>>,
    /// Settings that killed runs have left changed.
    #[serde(default = "nothing_left", skip_serializing_if = "is_nothing_left")]
    pub left_settings: Fact<Vec<LeftSetting>>,
    /// For veth: the other end, if it is in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Peer>,
}

impl InterfaceFacts {
    /// Whether a run of mirror captures here, by the name of the program on its XDP hook.
    #[must_use]
    pub fn is_captured(&self) -> bool {
        const OURS: [&str; 3] = [PROGRAM, PROGRAM_FRAGS, PROGRAM_FORWARD];
        let hook = self.xdp_hook.known().and_then(Option::as_ref);
        hook.and_then(|hook| hook.name.as_deref()).is_some_and(|name| OURS.contains(&name))
    }
}

/// For recordings without the field.
const fn nothing_left() -> Fact<Vec<LeftSetting>> {
    Fact::Known(Vec::new())
}

fn is_nothing_left(fact: &Fact<Vec<LeftSetting>>) -> bool {
    fact.known().is_some_and(Vec::is_empty)
}

/// An interrupt of an interface.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Irq {
    /// Its number in `/proc/irq`.
    pub irq: u32,
    /// Its name in `/proc/interrupts`.
    pub name: String,
    /// The CPUs that serve it, as a list of numbers and ranges.
    pub cpus: String,
}
