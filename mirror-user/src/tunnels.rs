//! Which UDP destination ports carry a tunnel, and of which protocol.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::wire::{geneve, vxlan};

/// A protocol that carries Ethernet frames over UDP.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Encapsulation {
    /// VXLAN (RFC 7348).
    #[default]
    Vxlan,
    /// GENEVE (RFC 8926): with an Ethernet frame, or with VXLAN over IP as mirrored traffic has behind an AWS
    /// Gateway Load Balancer.
    Geneve,
}

impl Encapsulation {
    /// The protocol that a port stands for where none is named: GENEVE on 6081 (IANA), VXLAN on any other.
    #[must_use]
    pub fn of_port(port: u16) -> Self {
        if port == geneve::PORT { Self::Geneve } else { Self::Vxlan }
    }
}

/// `vxlan` or `geneve`.
impl fmt::Display for Encapsulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
        })
    }
}

/// Tunnels to decapsulate: UDP destination ports, each with its protocol. Cheap to clone.
///
/// # Examples
///
/// ```
/// use mirror_user::{Encapsulation, Tunnels};
///
/// assert_eq!(Tunnels::default(), Tunnels::from([4789]));
///
/// let tunnels = Tunnels::default().with(8472, Encapsulation::Vxlan);
/// assert_eq!(tunnels, Tunnels::from([4789, 8472]));
/// assert_eq!(tunnels.encapsulation(8472), Some(Encapsulation::Vxlan));
/// assert_eq!(tunnels.encapsulation(53), None);
///
/// let behind_balancer = Tunnels::from([6081]);
/// assert_eq!(behind_balancer.encapsulation(6081), Some(Encapsulation::Geneve));
/// ```
#[derive(Clone, Eq, PartialEq)]
pub struct Tunnels {
    /// Ports of VXLAN, ascending: a plain array, because the port of every frame is looked up in it.
    vxlan: Arc<[u16]>,
    /// Ports of GENEVE, ascending.
    geneve: Arc<[u16]>,
}

impl Tunnels {
    /// No tunnel. An engine or a replay needs at least one.
    #[must_use]
    pub fn none() -> Self {
        Self { vxlan: Arc::default(), geneve: Arc::default() }
    }

    /// Adds a port. One that is there already gets this protocol.
    #[must_use]
    pub fn with(self, port: u16, encapsulation: Encapsulation) -> Self {
        self.into_iter().chain([(port, encapsulation)]).collect()
    }

    /// The protocol of a port; `None` for one that carries no tunnel.
    #[must_use]
    pub fn encapsulation(&self, port: u16) -> Option<Encapsulation> {
        if self.vxlan.contains(&port) {
            return Some(Encapsulation::Vxlan);
        }
        self.geneve.contains(&port).then_some(Encapsulation::Geneve)
    }

    /// Whether a port carries a tunnel.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.encapsulation(port).is_some()
    }

    /// Ports and their protocols, ascending by port.
    pub fn iter(&self) -> impl Iterator<Item = (u16, Encapsulation)> + '_ {
        let mut all: Vec<_> = self.vxlan.iter().map(|port| (*port, Encapsulation::Vxlan)).collect();
        all.extend(self.geneve.iter().map(|port| (*port, Encapsulation::Geneve)));
        all.sort_unstable();
        all.into_iter()
    }

    /// The ports, ascending.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.iter().map(|(port, _)| port)
    }

    /// How many ports there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.vxlan.len() + self.geneve.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ports of VXLAN, ascending.
    #[inline]
    pub(crate) fn vxlan(&self) -> &[u16] {
        &self.vxlan
    }

    /// Ports of GENEVE, ascending.
    #[inline]
    pub(crate) fn geneve(&self) -> &[u16] {
        &self.geneve
    }
}

impl Default for Tunnels {
    /// VXLAN on the port of RFC 7348 section 5, 4789.
    fn default() -> Self {
        [vxlan::PORT].into()
    }
}

/// Of a port that is given twice, the last protocol counts.
impl FromIterator<(u16, Encapsulation)> for Tunnels {
    fn from_iter<I: IntoIterator<Item = (u16, Encapsulation)>>(tunnels: I) -> Self {
        let tunnels: BTreeMap<_, _> = tunnels.into_iter().collect();
        let of = |encapsulation| {
            tunnels.iter().filter(|(_, of)| **of == encapsulation).map(|(port, _)| *port).collect()
        };
        Self { vxlan: of(Encapsulation::Vxlan), geneve: of(Encapsulation::Geneve) }
    }
}

/// Each port with the protocol that it stands for: [`Encapsulation::of_port`].
impl FromIterator<u16> for Tunnels {
    fn from_iter<I: IntoIterator<Item = u16>>(ports: I) -> Self {
        ports.into_iter().map(|port| (port, Encapsulation::of_port(port))).collect()
    }
}

/// Each port with the protocol that it stands for: [`Encapsulation::of_port`].
impl<const N: usize> From<[u16; N]> for Tunnels {
    fn from(ports: [u16; N]) -> Self {
        ports.into_iter().collect()
    }
}

/// Each port with the protocol that it stands for: [`Encapsulation::of_port`].
impl From<Vec<u16>> for Tunnels {
    fn from(ports: Vec<u16>) -> Self {
        ports.into_iter().collect()
    }
}

impl IntoIterator for Tunnels {
    type Item = (u16, Encapsulation);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter().collect::<Vec<_>>().into_iter()
    }
}

/// A map from ports to protocols: `{"4789": "vxlan"}`.
impl Serialize for Tunnels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Tunnels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(BTreeMap::<u16, Encapsulation>::deserialize(deserializer)?.into_iter().collect())
    }
}

impl fmt::Debug for Tunnels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_given_twice_is_there_once() {
        let tunnels = Tunnels::from([8472, 4789, 8472]);
        assert_eq!(
            tunnels.iter().collect::<Vec<_>>(),
            [(4789, Encapsulation::Vxlan), (8472, Encapsulation::Vxlan)]
        );
        assert_eq!(tunnels.ports().collect::<Vec<_>>(), tunnels.vxlan());
        assert_eq!((tunnels.len(), tunnels.is_empty()), (2, false));
        assert_eq!(tunnels.clone().with(4789, Encapsulation::Vxlan), tunnels);
        assert_eq!(format!("{tunnels:?}"), "{4789: Vxlan, 8472: Vxlan}");
    }

    #[test]
    fn no_ports_make_no_tunnel() {
        let none = Tunnels::none();
        assert_eq!((none.len(), none.is_empty(), none.contains(vxlan::PORT)), (0, true, false));
        assert_eq!(none, Tunnels::from([]));
        assert!(Tunnels::default().contains(vxlan::PORT));
    }

    #[test]
    fn the_port_decides_on_the_protocol_unless_it_is_named() {
        let tunnels = Tunnels::from([6081, 4789, 6082]);
        assert_eq!(format!("{tunnels:?}"), "{4789: Vxlan, 6081: Geneve, 6082: Vxlan}");
        assert_eq!((tunnels.vxlan(), tunnels.geneve()), (&[4789, 6082][..], &[6081][..]));
        let swapped = tunnels.with(6081, Encapsulation::Vxlan).with(4789, Encapsulation::Geneve);
        assert_eq!((swapped.vxlan(), swapped.geneve()), (&[6081, 6082][..], &[4789][..]));
        assert_eq!(swapped.len(), 3);
        assert_eq!(swapped.ports().collect::<Vec<_>>(), [4789, 6081, 6082]);
    }
}
