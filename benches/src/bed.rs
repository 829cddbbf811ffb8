//! The test bed: two namespaces and a veth between them.

use mirror_lab::{Generator, Lab, Namespace, Result, Traffic, VethEnd, VethOptions, VethPair};

/// Name of the interface frames arrive on.
pub const RECEIVING: &str = "rx0";
/// Its driver.
pub const DRIVER: &str = "veth";
/// The XDP mode of all measurements.
pub const XDP_MODE: &str = "native";
const SENDING: &str = "tx0";
/// Cables to forward to: `out0` to `out3` with the far ends `far0` to `far3`.
pub const CABLES: usize = 4;
/// The near end's address.
const NEAR_ADDRESS: &str = "198.18.0.1/24";
/// Destination of tunnels.
pub const TUNNEL_END: &str = "198.18.0.2";
/// The MAC address that it resolves to. Nobody has it, so that the far end discards frames at the first look:
/// it works on the sender's time, and without a route to the address it took half a microsecond for each.
pub const TUNNEL_END_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Fits 1500 bytes and the encapsulation; such frames fit a chunk of 2048 bytes.
pub const MTU: u32 = 1600;
/// Most that drivers take for an XDP program whose frames have one buffer.
pub const JUMBO_MTU: u32 = 3498;

/// The end of a cable that frames are forwarded to.
#[must_use]
pub fn near_end(number: usize) -> String {
    format!("out{number}")
}

/// The far end of a cable that frames are forwarded to.
#[must_use]
pub fn far_end(number: usize) -> String {
    format!("far{number}")
}

/// A lab with a cable for ingest and others for forwarding. Everything is removed when it is dropped.
#[derive(Debug)]
pub struct Bed {
    /// Where frames are sent from.
    pub sender: Namespace,
    /// Where they arrive.
    pub receiver: Namespace,
    /// The cable: `a` sends, `b` receives.
    pub cable: VethPair,
    /// Where the far ends of the cables to forward to are.
    pub beyond: Namespace,
    /// Of the cables, in bytes.
    pub mtu: u32,
    _forwarding: Vec<VethPair>,
    /// Dropped last.
    _lab: Lab,
}

impl Bed {
    /// Creates cables of this MTU, the one for ingest with this many queues on either end.
    ///
    /// # Errors
    ///
    /// Without root, or if the lab cannot be created.
    pub fn new(queues: u32, mtu: u32) -> Result<Self> {
        let lab = Lab::new()?;
        let sender = lab.namespace("sender")?;
        let receiver = lab.namespace("receiver")?;
        let ends = (VethEnd::new(&sender, SENDING), VethEnd::new(&receiver, RECEIVING));
        let options = VethOptions { mtu, queues, ..VethOptions::default() };
        let cable = VethPair::create(ends.0, ends.1, &options)?;
        let beyond = lab.namespace("beyond")?;
        let forward = |number: usize| {
            let ends = (VethEnd::new(&receiver, &near_end(number)), VethEnd::new(&beyond, &far_end(number)));
            VethPair::create(ends.0, ends.1, &VethOptions { mtu, ..VethOptions::default() })
        };
        let forwarding: Vec<_> = (0..CABLES).map(forward).collect::<Result<_>>()?;
        forwarding[0].a.address(NEAR_ADDRESS)?;
        let mac = TUNNEL_END_MAC.map(|byte| format!("{byte:02x}")).join(":");
        receiver.ip(&format!("neighbour add {TUNNEL_END} lladdr {mac} dev {} nud permanent", near_end(0)))?;
        Ok(Self { sender, receiver, cable, beyond, mtu, _forwarding: forwarding, _lab: lab })
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
