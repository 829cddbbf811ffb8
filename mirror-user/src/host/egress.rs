//! Interfaces to send on, in whichever network namespace they are.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Weak},
};

use super::{HostError, interface::Interface, next_hop::NextHopWatch, veth::Veth};

/// An interface that frames are sent on.
#[derive(Clone, Debug)]
pub(crate) enum Egress {
    /// One of the calling thread's network namespace, by its name.
    Interface(String),
    /// The near end of a pair, which is its sink's.
    Veth(Weak<Veth>),
    /// The one by which the remote end of a tunnel is reached, of the calling thread's network namespace. The
    /// tunnel is its sink's.
    Tunnel(Weak<TunnelEgress>),
}

/// A VXLAN tunnel that frames are sent into.
#[derive(Debug)]
pub(crate) struct TunnelEgress {
    pub(crate) to: SocketAddr,
    /// The VNI of every frame; `None` to keep each frame's own.
    pub(crate) vni: Option<u32>,
    pub(crate) next_hop: NextHopWatch,
}

impl TunnelEgress {
    /// Needs a route, and CAP_NET_RAW.
    pub(crate) fn open(to: SocketAddr, vni: Option<u32>) -> Result<Self, HostError> {
        Ok(Self { to, vni, next_hop: NextHopWatch::open(to.ip())? })
    }
}

impl Egress {
    /// Runs a closure in the network namespace of the interface, with its index.
    pub(crate) fn enter<T: Send>(&self, inside: impl FnOnce(u32) -> T + Send) -> Result<T, HostError> {
        match self {
            Self::Interface(name) => Ok(inside(Interface::named(name)?.index)),
            Self::Veth(veth) => Self::pair(veth)?.at_near_end(|index, _| inside(index)),
            Self::Tunnel(tunnel) => Ok(inside(Self::tunnel(tunnel)?.next_hop.index())),
        }
    }

    /// Runs a closure in the network namespace of the pair's far end, with its index; `None` if it is no pair
    /// of ours.
    pub(crate) fn at_far_end<T: Send>(
        &self,
        inside: impl FnOnce(u32) -> T + Send,
    ) -> Result<Option<T>, HostError> {
        match self {
            Self::Interface(_) | Self::Tunnel(_) => Ok(None),
            Self::Veth(veth) => Self::pair(veth)?.at_far_end(inside).map(Some),
        }
    }

    fn pair(veth: &Weak<Veth>) -> Result<Arc<Veth>, HostError> {
        veth.upgrade().ok_or_else(|| HostError::Veth { name: ENDED.to_owned(), source: gone() })
    }

    fn tunnel(tunnel: &Weak<TunnelEgress>) -> Result<Arc<TunnelEgress>, HostError> {
        tunnel.upgrade().ok_or_else(|| HostError::NextHop { to: ENDED.to_owned(), source: gone() })
    }
}

const ENDED: &str = "a sink that has ended";

fn gone() -> io::Error {
    io::Error::from_raw_os_error(libc::ENODEV)
}
