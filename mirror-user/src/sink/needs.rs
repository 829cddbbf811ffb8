//! What sinks need of frames.

/// What a sink needs of the frames of a run. The kernel forwards frames only where no sink needs them in user
/// space.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum SinkNeeds {
    /// Each frame, in user space.
    Frames,
    /// To count each frame. Frames that the kernel forwards are missing from its counts.
    Counts,
    /// To send each frame on an interface, which the kernel may do. The sink still gets those that the XDP
    /// program cannot decapsulate.
    Interface {
        /// Its name.
        name: String,
    },
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
        matches!(self, Self::Interface { .. } | Self::Forwarded { .. })
    }
}
