//! The bed that everything is measured on: two namespaces and a veth between them.

use mirror_lab::{Generator, Lab, Namespace, Result, Traffic, VethEnd, VethOptions, VethPair};

/// Name of the interface frames arrive on.
pub const RECEIVING: &str = "rx0";
/// Its driver.
pub const DRIVER: &str = "veth";
/// The XDP mode that everything is measured in.
pub const XDP_MODE: &str = "native";
const SENDING: &str = "tx0";
/// Room for 1500 bytes and the encapsulation; frames of this size fit a chunk of 2048 bytes.
const MTU: u32 = 1600;

/// A lab with a cable in it. Everything is removed when it is dropped.
#[derive(Debug)]
pub struct Bed {
    /// Where frames are sent from.
    pub sender: Namespace,
    /// Where they arrive.
    pub receiver: Namespace,
    /// The cable: `a` sends, `b` receives.
    pub cable: VethPair,
    /// Dropped last.
    _lab: Lab,
}

impl Bed {
    /// Lays a cable with this many queues on either end.
    ///
    /// # Errors
    ///
    /// Without root, or where the lab cannot be raised.
    pub fn new(queues: u32) -> Result<Self> {
        let lab = Lab::new()?;
        let sender = lab.namespace("sender")?;
        let receiver = lab.namespace("receiver")?;
        let ends = (VethEnd::new(&sender, SENDING), VethEnd::new(&receiver, RECEIVING));
        let options = VethOptions { mtu: MTU, queues, ..VethOptions::default() };
        let cable = VethPair::create(ends.0, ends.1, &options)?;
        Ok(Self { sender, receiver, cable, _lab: lab })
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
