//! Counters of an interface: a witness that shares nothing with the programs under test.

use std::collections::BTreeMap;

use crate::{
    command::run,
    error::{LabError, Result},
    namespace::Namespace,
};

/// Counters of an interface, from `ip -statistics` and `ethtool --statistics`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct InterfaceCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Received packets dropped.
    pub rx_dropped: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets dropped on sending: for a veth, because the other end's ring was full.
    pub tx_dropped: u64,
    /// The driver's own counters by name. Those of a veth with a native XDP program, per RX queue:
    /// `xdp_packets` (frames that entered the program), `xdp_drops`, `xdp_redirect`, and on the sending side
    /// `xdp_xmit` (frames redirected into the peer) and `xdp_xmit_errors` (the peer's ring was full).
    pub driver: BTreeMap<String, u64>,
}

impl InterfaceCounters {
    /// Reads them now.
    ///
    /// # Errors
    ///
    /// [`LabError::Command`] if there is no such interface.
    pub fn read(namespace: &Namespace, interface: &str) -> Result<Self> {
        let shown = namespace.ip(&format!("-statistics -json link show dev {interface}"))?;
        let bad = || LabError::Unexpected(format!("{interface}: no statistics in {shown}"));
        let parsed: serde_json::Value = serde_json::from_str(&shown).map_err(|_| bad())?;
        let counter = |direction: &str, name: &str| {
            parsed.pointer(&format!("/0/stats64/{direction}/{name}")).and_then(serde_json::Value::as_u64)
        };
        Ok(Self {
            rx_packets: counter("rx", "packets").ok_or_else(bad)?,
            rx_dropped: counter("rx", "dropped").ok_or_else(bad)?,
            tx_packets: counter("tx", "packets").ok_or_else(bad)?,
            tx_dropped: counter("tx", "dropped").ok_or_else(bad)?,
            driver: driver(namespace, interface)?,
        })
    }

    /// A driver counter summed over all queues: `queues("rx_queue_", "_xdp_packets")`.
    pub fn over_queues(&self, prefix: &str, suffix: &str) -> u64 {
        let is_queue = |name: &str| {
            name.strip_prefix(prefix)
                .and_then(|rest| rest.strip_suffix(suffix))
                .is_some_and(|queue| !queue.is_empty() && queue.bytes().all(|byte| byte.is_ascii_digit()))
        };
        self.driver.iter().filter(|(name, _)| is_queue(name)).map(|(_, value)| value).sum()
    }

    /// Frames that entered a native XDP program on this veth.
    pub fn xdp_packets(&self) -> u64 {
        self.over_queues("rx_queue_", "_xdp_packets")
    }

    /// Frames redirected to this veth's peer while the peer's ring was full.
    pub fn xdp_xmit_errors(&self) -> u64 {
        // Kept per queue of the receiving ring by the sender: `veth_xdp_xmit` counts on its own side.
        self.over_queues("tx_queue_", "_xdp_xmit_errors")
    }
}

fn driver(namespace: &Namespace, interface: &str) -> Result<BTreeMap<String, u64>> {
    let shown = run(namespace.command("ethtool").args(["--statistics", interface]))?;
    let counters = shown.lines().filter_map(|line| {
        let (name, value) = line.rsplit_once(':')?;
        Some((name.trim().to_owned(), value.trim().parse().ok()?))
    });
    Ok(counters.collect())
}
