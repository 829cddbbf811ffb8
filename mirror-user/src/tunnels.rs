//! Which UDP destination ports carry a tunnel, and of which protocol.

use std::{fmt, sync::Arc};

use crate::wire::vxlan;

/// A protocol that carries Ethernet frames over UDP.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Encapsulation {
    /// VXLAN (RFC 7348).
    Vxlan,
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
/// ```
#[derive(Clone, Eq, PartialEq)]
pub struct Tunnels {
    /// Ports of VXLAN, ascending: a plain array, because the port of every frame is looked up in it.
    vxlan: Arc<[u16]>,
}

impl Tunnels {
    /// No tunnel. An engine or a replay needs at least one.
    #[must_use]
    pub fn none() -> Self {
        Self { vxlan: Arc::default() }
    }

    /// Adds a port. One that is there already gets this protocol.
    #[must_use]
    pub fn with(self, port: u16, encapsulation: Encapsulation) -> Self {
        self.into_iter().chain([(port, encapsulation)]).collect()
    }

    /// The protocol of a port; `None` for one that carries no tunnel.
    #[must_use]
    pub fn encapsulation(&self, port: u16) -> Option<Encapsulation> {
        self.vxlan.contains(&port).then_some(Encapsulation::Vxlan)
    }

    /// Whether a port carries a tunnel.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.encapsulation(port).is_some()
    }

    /// Ports and their protocols, ascending by port.
    pub fn iter(&self) -> impl Iterator<Item = (u16, Encapsulation)> + '_ {
        self.vxlan.iter().map(|port| (*port, Encapsulation::Vxlan))
    }

    /// The ports, ascending.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.iter().map(|(port, _)| port)
    }

    /// How many ports there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.vxlan.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vxlan.is_empty()
    }

    /// Ports of VXLAN, ascending.
    #[inline]
    pub(crate) fn vxlan(&self) -> &[u16] {
        &self.vxlan
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
        // With a second protocol, this becomes a map.
        let mut vxlan: Vec<_> = tunnels.into_iter().map(|(port, Encapsulation::Vxlan)| port).collect();
        vxlan.sort_unstable();
        vxlan.dedup();
        Self { vxlan: vxlan.into() }
    }
}

/// VXLAN on these ports.
impl FromIterator<u16> for Tunnels {
    fn from_iter<I: IntoIterator<Item = u16>>(ports: I) -> Self {
        ports.into_iter().map(|port| (port, Encapsulation::Vxlan)).collect()
    }
}

/// VXLAN on these ports.
impl<const N: usize> From<[u16; N]> for Tunnels {
    fn from(ports: [u16; N]) -> Self {
        ports.into_iter().collect()
    }
}

/// VXLAN on these ports.
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
}
