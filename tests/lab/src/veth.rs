//! A pair of veth interfaces: the lab's cable.

use std::fmt::Write as _;

use crate::{command::run, error::Result, frames::TARGET_MAC, namespace::Namespace};

/// Offloads that turn several frames into one, or leave checksums to be filled in later.
const OFFLOADS: [&str; 4] = ["tso", "gso", "gro", "tx"];

/// What one end of a [`veth`](VethPair) is.
#[derive(Clone, Debug)]
pub struct VethEnd {
    /// Where it stands.
    pub namespace: Namespace,
    /// Its name there.
    pub interface: String,
}

impl VethEnd {
    /// The end `interface` in `namespace`.
    pub fn new(namespace: &Namespace, interface: &str) -> Self {
        Self { namespace: namespace.clone(), interface: interface.to_owned() }
    }

    /// Gives it an IPv4 address with its prefix length, `10.0.0.1/24`.
    ///
    /// # Errors
    ///
    /// As [`Namespace::ip`].
    pub fn address(&self, address: &str) -> Result<()> {
        self.namespace.ip(&format!("address add {address} dev {}", self.interface)).map(drop)
    }

    /// Its hardware address, as `ip` prints it.
    ///
    /// # Errors
    ///
    /// As [`Namespace::ip`].
    pub fn hardware_address(&self) -> Result<String> {
        let shown = self.namespace.ip(&format!("-brief link show dev {}", self.interface))?;
        Ok(shown.split_ascii_whitespace().nth(2).unwrap_or_default().to_owned())
    }

    /// Turns segmentation, aggregation and transmit checksum offloads on or off, also of an interface of
    /// another kind.
    ///
    /// # Errors
    ///
    /// As [`run`].
    pub fn offloads(&self, on: bool) -> Result<()> {
        let state = if on { "on" } else { "off" };
        let mut ethtool = self.namespace.command("ethtool");
        ethtool.args(["-K", &self.interface]).args(OFFLOADS.iter().flat_map(|offload| [*offload, state]));
        run(&mut ethtool).map(drop)
    }

    /// Receives aggregated frames or not (`ethtool -K … gro`). Generic XDP sees nothing of what arrives by
    /// `ndo_xdp_xmit` unless it is on: only then does veth run NAPI without a native program.
    ///
    /// # Errors
    ///
    /// As [`run`].
    pub fn gro(&self, on: bool) -> Result<()> {
        let state = if on { "on" } else { "off" };
        run(self.namespace.command("ethtool").args(["-K", &self.interface, "gro", state])).map(drop)
    }
}

/// Two interfaces back to back, both up; IPv6 is off and neither has an address.
///
/// For XDP on one end, that end needs at least as many RX queues as the other has TX queues; both have the
/// same number here. It receives what an XDP program redirects into its peer only while it has a program
/// itself.
#[derive(Clone, Debug)]
pub struct VethPair {
    /// The one end.
    pub a: VethEnd,
    /// The other end, with the MAC address that generated frames are sent to.
    pub b: VethEnd,
}

/// Properties of both ends of a [`VethPair`].
#[derive(Clone, Debug)]
#[must_use]
pub struct VethOptions {
    /// MTU in bytes.
    pub mtu: u32,
    /// RX and TX queues of each end.
    pub queues: u32,
    /// Whether segmentation, aggregation and checksum offloads stay on, as a fresh veth has them.
    pub offloads: bool,
}

impl Default for VethOptions {
    /// One queue, MTU 1600 (1500 and the encapsulation, with room), offloads off.
    fn default() -> Self {
        Self { mtu: 1600, queues: 1, offloads: false }
    }
}

impl VethPair {
    /// Lays the cable and sets both ends up.
    ///
    /// # Errors
    ///
    /// As [`run`].
    pub fn create(a: VethEnd, b: VethEnd, options: &VethOptions) -> Result<Self> {
        let VethOptions { mtu, queues, offloads } = *options;
        let queues = format!("mtu {mtu} numrxqueues {queues} numtxqueues {queues}");
        let target = TARGET_MAC.map(|byte| format!("{byte:02x}")).join(":");
        let mut arguments = format!("link add {} {queues} type veth", a.interface);
        // Writing to a String cannot fail.
        let _ = write!(
            arguments,
            " peer name {} address {target} netns {} {queues}",
            b.interface,
            b.namespace.name()
        );
        a.namespace.ip(&arguments)?;
        for end in [&a, &b] {
            end.offloads(offloads)?;
            end.namespace.ip(&format!("link set dev {} up", end.interface))?;
        }
        Ok(Self { a, b })
    }
}
