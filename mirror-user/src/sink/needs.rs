//! What sinks need of frames.

#[cfg(feature = "af-xdp")]
use std::{
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

#[cfg(feature = "af-xdp")]
use crate::{flow::members::MemberTable, host::egress::Egress};

/// What a sink needs of the frames of a run. The kernel forwards frames only where no sink needs them in user
/// space.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SinkNeeds {
    /// Each frame, in user space.
    Frames,
    /// To count each frame for its origin. Of frames that it forwards, the kernel does that.
    Origins {
        /// Most origins that are counted apart.
        most: usize,
    },
    /// To send each frame on an interface, which the kernel may do. The sink still gets those that the XDP
    /// program cannot decapsulate, or assign to a flow.
    #[cfg(feature = "af-xdp")]
    Interfaces(Interfaces),
    /// To forward each frame, which the kernel cannot do.
    Forwarded {
        /// Why.
        reason: String,
    },
}

impl SinkNeeds {
    /// Whether the sink forwards frames.
    #[must_use]
    pub fn is_to_forward(&self) -> bool {
        match self {
            Self::Frames | Self::Origins { .. } => false,
            #[cfg(feature = "af-xdp")]
            Self::Interfaces(_) => true,
            Self::Forwarded { .. } => true,
        }
    }
}

/// Interfaces that a sink sends frames on: each frame on one of them.
#[cfg(feature = "af-xdp")]
#[derive(Clone, Debug)]
pub struct Interfaces {
    pub(crate) members: Vec<Member>,
    /// Which member has a flow, if there are several.
    pub(crate) table: Option<Arc<MemberTable>>,
    /// Seed of hashes of flows, that of the table if there is one.
    pub(crate) seed: u64,
}

#[cfg(feature = "af-xdp")]
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// The target's name in reports.
    pub(crate) name: String,
    pub(crate) egress: Egress,
}

#[cfg(feature = "af-xdp")]
impl Interfaces {
    /// A single interface of the calling thread's network namespace, for a sink that sends every frame there.
    /// `target` is its name in reports.
    #[must_use]
    pub fn single(target: &str, interface: &str) -> Self {
        let egress = Egress::Interface(interface.to_owned());
        let members = vec![Member { name: target.to_owned(), egress }];
        Self { members, table: None, seed: RandomState::new().hash_one(0) }
    }
}
