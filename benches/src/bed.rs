//! The test bed: two namespaces and a veth between them.

use mirror_lab::{Generator, Lab, Namespace, Result, Traffic, VethEnd, VethOptions, VethPair};

/// Name of the interface frames arrive on.
pub const RECEIVING: &str = "rx0";
/// Its driver.
pub const DRIVER: &str = "veth";
/// The XDP mode of all measurements.
pub const XDP_MODE: &str = "native";
const SENDING: &str = "tx0";
/// Name of the interface that frames are forwarded to.
pub const FORWARDING: &str = "out0";
/// The other end of its cable, where nobody listens.
pub const BEYOND: &str = "far0";
/// The near end's address, and one that resolves to the far end's MAC address: frames sent there are
/// discarded.
const NEAR_ADDRESS: &str = "198.18.0.1/24";
/// Destination of tunnels.
pub const TUNNEL_END: &str = "198.18.0.2";
/// Fits 1500 bytes and the encapsulation; such frames fit a chunk of 2048 bytes.
const MTU: u32 = 1600;

/// A lab with a cable for ingest and another for forwarding. Everything is removed when it is dropped.
#[derive(Debug)]
pub struct Bed {
    /// Where frames are sent from.
    pub sender: Namespace,
    /// Where they arrive.
    pub receiver: Namespace,
    /// The cable: `a` sends, `b` receives.
    pub cable: VethPair,
    /// Where the other end of the interface to forward to is.
    pub beyond: Namespace,
    _forwarding: VethPair,
    /// Dropped last.
    _lab: Lab,
}

impl Bed {
    /// Creates a cable with this many queues on either end.
    ///
    /// # Errors
    ///
    /// Without root, or if the lab cannot be created.
    pub fn new(queues: u32) -> Result<Self> {
        let lab = Lab::new()?;
        let sender = lab.namespace("sender")?;
        let receiver = lab.namespace("receiver")?;
        let ends = (VethEnd::new(&sender, SENDING), VethEnd::new(&receiver, RECEIVING));
        let options = VethOptions { mtu: MTU, queues, ..VethOptions::default() };
        let cable = VethPair::create(ends.0, ends.1, &options)?;
        let beyond = lab.namespace("beyond")?;
        let ends = (VethEnd::new(&receiver, FORWARDING), VethEnd::new(&beyond, BEYOND));
        let forwarding =
            VethPair::create(ends.0, ends.1, &VethOptions { mtu: MTU, ..VethOptions::default() })?;
        forwarding.a.address(NEAR_ADDRESS)?;
        let far = forwarding.b.hardware_address()?;
        receiver.ip(&format!("neighbour add {TUNNEL_END} lladdr {far} dev {FORWARDING} nud permanent"))?;
        Ok(Self { sender, receiver, cable, beyond, _forwarding: forwarding, _lab: lab })
    }

    /// A generator that sends into the cable.
    ///
    /// # Errors
    ///
    /// As [`Generator::load`].
    pub fn generator(&self, traffic: Traffic) -> Result<Generator> {
        Generator::load(&self.sender, SENDING, traffic)
    }
}
