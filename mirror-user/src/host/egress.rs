//! Interfaces to send on, in whichever network namespace they are.

use std::{
    io,
    sync::{Arc, Weak},
};

use super::{HostError, interface::Interface, veth::Veth};

/// An interface that frames are sent on.
#[derive(Clone, Debug)]
pub(crate) enum Egress {
    /// One of the calling thread's network namespace, by its name.
    Interface(String),
    /// The near end of a pair, which is its sink's.
    Veth(Weak<Veth>),
}

impl Egress {
    /// Runs a closure in the network namespace of the interface, with its index.
    pub(crate) fn enter<T: Send>(&self, inside: impl FnOnce(u32) -> T + Send) -> Result<T, HostError> {
        match self {
            Self::Interface(name) => Ok(inside(Interface::named(name)?.index)),
            Self::Veth(veth) => Self::pair(veth)?.at_near_end(|index, _| inside(index)),
        }
    }

    /// Runs a closure in the network namespace of the pair's far end, with its index; `None` if it is no pair
    /// of ours.
    pub(crate) fn at_far_end<T: Send>(
        &self,
        inside: impl FnOnce(u32) -> T + Send,
    ) -> Result<Option<T>, HostError> {
        match self {
            Self::Interface(_) => Ok(None),
            Self::Veth(veth) => Self::pair(veth)?.at_far_end(inside).map(Some),
        }
    }

    fn pair(veth: &Weak<Veth>) -> Result<Arc<Veth>, HostError> {
        let gone = || io::Error::from_raw_os_error(libc::ENODEV);
        veth.upgrade()
            .ok_or_else(|| HostError::Veth { name: "a sink that has ended".to_owned(), source: gone() })
    }
}
