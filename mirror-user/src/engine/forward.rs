//! Which path forwarded frames take: by the XDP program, or by a worker and its sink.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{Bind, BindMode, EngineError, InterfacePlan, Mode, OptionsError, XdpMode, options::Options};
use crate::{
    account::ForwardPathReport,
    error::with_causes,
    host::{egress::Egress, xdp::XdpFeatures},
    sink::{Interfaces, SinkFactory, SinkNeeds, needs::Member},
    xdp::Targets,
};

/// Which path frames take to the target of a sink that forwards them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum ForwardPath {
    /// The kernel path if nothing needs the frames in user space, the target takes them, and all of them are
    /// accounted for; else the user path. The report says which and why.
    #[default]
    Auto,
    /// The XDP program decapsulates and redirects frames, or the run does not start. Frames that it cannot
    /// decapsulate, such as fragments, take the user path.
    Kernel,
    /// Workers decapsulate, and the sink sends.
    User,
}

/// Why the XDP program does not forward frames.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ForwardObstacle {
    /// The user path was requested.
    Requested,
    /// No sink forwards.
    NoTarget,
    /// Several sinks forward: the kernel does not report all copies of a frame that are lost.
    SeveralTargets,
    /// The kernel cannot send to the target.
    Target {
        /// The sink.
        sink: String,
        /// Its reason.
        reason: String,
    },
    /// A sink needs each frame.
    NeedsFrames {
        /// The sink.
        sink: String,
    },
    /// A sink gets a part of the frames only.
    Selects {
        /// The sink.
        sink: String,
    },
    /// A filter expression selects frames.
    Filter,
    /// The run ends after a number of frames.
    Count,
    /// In generic mode the kernel does not report which frames were sent.
    Generic,
    /// In zero-copy mode frames are in memory of user space, and the kernel would copy each of them.
    ZeroCopy,
    /// The driver may deliver frames in several buffers, which the program does not forward.
    SeveralBuffers {
        /// The interface's MTU, in bytes.
        mtu: u32,
    },
    /// The target's interface cannot be queried.
    NotQueried {
        /// Its name.
        target: String,
        /// The error.
        error: String,
    },
    /// Two targets are reached by one interface.
    SameInterface {
        /// The targets.
        targets: [String; 2],
    },
    /// The target's driver takes no redirected frames.
    NoRedirect {
        /// The interface.
        target: String,
    },
    /// The kernel refused the program that forwards, or the target.
    Refused {
        /// What it said.
        error: String,
    },
    /// The kernel does not report whether the target's driver takes redirected frames (before 6.3).
    NotKnown {
        /// The interface.
        target: String,
    },
    /// The kernel does not report what becomes of forwarded frames (before 5.13, or without BTF).
    NotReported {
        /// Why.
        reason: String,
    },
}

impl ForwardObstacle {
    /// The first of these sinks, or the lack of one, that excludes the kernel path. Of each: its name, what
    /// it needs, and whether it has a selection of its own.
    pub fn of_sinks(sinks: impl IntoIterator<Item = (String, SinkNeeds, bool)>) -> Option<Self> {
        let (mut obstacle, mut targets) = (None, 0);
        for (sink, needs, selects) in sinks {
            targets += usize::from(needs.is_to_forward());
            let own = match needs {
                SinkNeeds::Frames => Some(Self::NeedsFrames { sink }),
                SinkNeeds::Forwarded { reason } => Some(Self::Target { sink, reason }),
                SinkNeeds::Interfaces(_) | SinkNeeds::Origins { .. } if selects => {
                    Some(Self::Selects { sink })
                }
                SinkNeeds::Interfaces(_) | SinkNeeds::Origins { .. } => None,
            };
            obstacle = obstacle.or(own);
        }
        match targets {
            0 => Some(Self::NoTarget),
            1 => obstacle,
            _ => Some(Self::SeveralTargets),
        }
    }

    /// Whether the kernel path works all the same, with less in the report. Then it is taken on request only.
    fn is_doubt(&self) -> bool {
        match self {
            Self::NotKnown { .. } | Self::NotReported { .. } => true,
            Self::Requested
            | Self::NoTarget
            | Self::SeveralTargets
            | Self::Target { .. }
            | Self::NeedsFrames { .. }
            | Self::Selects { .. }
            | Self::Filter
            | Self::Count
            | Self::Generic
            | Self::ZeroCopy
            | Self::SeveralBuffers { .. }
            | Self::NotQueried { .. }
            | Self::SameInterface { .. }
            | Self::NoRedirect { .. }
            | Self::Refused { .. } => false,
        }
    }
}

impl fmt::Display for ForwardObstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested => f.write_str("as requested"),
            Self::NoTarget => f.write_str("there is no target to forward to"),
            Self::SeveralTargets => {
                f.write_str("several targets get each frame, and the kernel does not report all lost copies")
            }
            Self::Target { sink, reason } => write!(f, "sink {sink}: {reason}"),
            Self::NeedsFrames { sink } => write!(f, "sink {sink} needs each frame"),
            Self::Selects { sink } => write!(f, "sink {sink} has a selection of its own"),
            Self::Filter => f.write_str("a filter expression selects frames"),
            Self::Count => f.write_str("the run ends after a number of frames"),
            Self::Generic => f.write_str("generic mode, in which the kernel does not report what was sent"),
            Self::ZeroCopy => f.write_str("zero-copy mode, in which the kernel would copy each frame"),
            Self::SeveralBuffers { mtu } => {
                write!(f, "MTU {mtu}, at which frames may have several buffers: the kernel path takes one")
            }
            Self::NotQueried { target, error } => write!(f, "{target} cannot be queried: {error}"),
            Self::SameInterface { targets: [one, other] } => write!(
                f,
                "{one} and {other} are reached by the same interface, and the kernel reports only how many \
                frames that has sent for both"
            ),
            Self::NoRedirect { target } => write!(
                f,
                "{target} takes no redirected frames: for that the far end of a veth, and on most network \
                cards the interface that frames leave by, needs an XDP program"
            ),
            Self::Refused { error } => write!(f, "the kernel refuses it: {error}"),
            Self::NotKnown { target } => {
                write!(f, "the kernel does not report whether {target} takes redirected frames (needs 6.3)")
            }
            Self::NotReported { reason } => {
                write!(f, "the kernel does not report what becomes of forwarded frames: {reason}")
            }
        }
    }
}

/// Reasons in the options alone.
fn of_options(options: &Options) -> Option<ForwardObstacle> {
    let selection = &options.selection;
    if selection.filter.is_some() || selection.outer_filter.is_some() {
        return Some(ForwardObstacle::Filter);
    }
    if options.count.is_some() {
        return Some(ForwardObstacle::Count);
    }
    if options.mode == Mode::Generic {
        return Some(ForwardObstacle::Generic);
    }
    (options.bind == BindMode::ZeroCopy).then_some(ForwardObstacle::ZeroCopy)
}

/// Refuses options that contradict the kernel path.
pub(super) fn validate(options: &Options) -> Result<(), OptionsError> {
    let kernel = options.forward_path == ForwardPath::Kernel;
    match of_options(options).filter(|_| kernel) {
        Some(obstacle) => Err(OptionsError::ForwardPath(obstacle)),
        None => Ok(()),
    }
}

/// The choice of a run, before its interfaces are known to take it.
#[derive(Clone, Debug)]
pub(super) enum Choice {
    /// No sink forwards.
    Nothing,
    /// The user path.
    User(ForwardObstacle),
    /// The kernel path.
    Kernel(KernelPath),
}

/// The kernel path, with targets that take its frames.
#[derive(Clone, Debug)]
pub(super) struct KernelPath {
    /// As in reports.
    names: Vec<String>,
    pub(super) targets: Arc<Targets>,
    /// Most origins that are counted apart, if any are to be counted.
    pub(super) origins: Option<usize>,
    /// Whether the kernel path was requested; else any obstacle leads to the user path.
    requested: bool,
    /// Obstacles to `auto` in spite of which it was requested.
    pub(super) doubts: Vec<ForwardObstacle>,
}

impl Choice {
    /// The path of a run with these options.
    pub(super) fn of(options: &Options) -> Result<Self, EngineError> {
        let sinks = || options.sinks.iter().map(|sink| (sink.name(), sink.needs()));
        let requested = match options.forward_path {
            ForwardPath::Auto | ForwardPath::User if !sinks().any(|(_, needs)| needs.is_to_forward()) => {
                return Ok(Self::Nothing);
            }
            ForwardPath::User => return Ok(Self::User(ForwardObstacle::Requested)),
            ForwardPath::Auto => false,
            ForwardPath::Kernel => true,
        };
        let of_sinks = options
            .sinks
            .iter()
            .map(|sink| (sink.name().to_owned(), sink.needs(), sink.selection().is_some()));
        let refuse = |obstacle| match requested {
            true => Err(OptionsError::ForwardPath(obstacle).into()),
            false => Ok(Self::User(obstacle)),
        };
        if let Some(obstacle) = ForwardObstacle::of_sinks(of_sinks).or_else(|| of_options(options)) {
            return refuse(obstacle);
        }
        let wanted = sinks().find_map(|(_, needs)| match needs {
            SinkNeeds::Interfaces(interfaces) => Some(interfaces),
            _ => None,
        });
        // There is one, or it were an obstacle.
        let Some(interfaces) = wanted else { return refuse(ForwardObstacle::NoTarget) };
        let origins = sinks().filter_map(|(_, needs)| match needs {
            SinkNeeds::Origins { most } => Some(most),
            _ => None,
        });
        match KernelPath::open(interfaces, origins.max(), requested) {
            Ok(path) => match path.doubts.first() {
                Some(doubt) if !requested => Ok(Self::User(doubt.clone())),
                _ => Ok(Self::Kernel(path)),
            },
            Err(obstacle) if requested => {
                Err(EngineError::ForwardPath { interface: options.interfaces.join(","), obstacle })
            }
            Err(obstacle) => Ok(Self::User(obstacle)),
        }
    }

    /// The choice on an interface in a mode; or why the kernel path was requested in vain.
    pub(super) fn on(&self, plan: &InterfacePlan, mode: XdpMode) -> Result<Self, ForwardObstacle> {
        let Self::Kernel(path) = self else { return Ok(self.clone()) };
        let obstacle = match () {
            () if mode != XdpMode::Native => ForwardObstacle::Generic,
            () if plan.bind == Bind::ZeroCopy => ForwardObstacle::ZeroCopy,
            () if plan.frags => ForwardObstacle::SeveralBuffers { mtu: plan.interface.mtu },
            () => return Ok(self.clone()),
        };
        path.without(obstacle)
    }

    /// As the report has it. What was sent is added when it is known.
    pub(super) fn report(&self) -> Option<ForwardPathReport> {
        match self {
            Self::Nothing => None,
            Self::User(obstacle) => Some(ForwardPathReport::user(obstacle.to_string())),
            Self::Kernel(KernelPath { names, requested, .. }) => {
                let reason =
                    if *requested { "as requested" } else { "nothing needs the frames in user space" };
                Some(ForwardPathReport::kernel(reason.to_owned(), names.clone()))
            }
        }
    }
}

impl KernelPath {
    /// Prepares the targets, each of which takes redirected frames as far as the kernel says.
    fn open(
        interfaces: Interfaces,
        origins: Option<usize>,
        requested: bool,
    ) -> Result<Self, ForwardObstacle> {
        let Interfaces { members, table, seed } = interfaces;
        let (names, egress): (Vec<_>, Vec<_>) =
            members.into_iter().map(|Member { name, egress }| (name, egress)).unzip();
        let targets = Targets::prepare(egress.clone(), table, seed)
            .map_err(|error| ForwardObstacle::Refused { error: with_causes(&error) })?;
        if let Some(targets) = of_one_interface(&names, &egress) {
            return Err(ForwardObstacle::SameInterface { targets });
        }
        let mut doubts = Vec::new();
        for (name, egress) in names.iter().zip(&egress) {
            let target = name.clone();
            let features = egress.enter(XdpFeatures::of_index).and_then(|features| features);
            match features {
                Err(error) => return Err(ForwardObstacle::NotQueried { target, error: error.to_string() }),
                // Of a pair it is known: its far end has the program that it needs.
                Ok(None) if matches!(egress, Egress::Veth(_)) => {}
                Ok(None) => doubts.push(ForwardObstacle::NotKnown { target }),
                Ok(Some(features)) if !features.ndo_xmit => {
                    return Err(ForwardObstacle::NoRedirect { target });
                }
                Ok(Some(_)) => {}
            }
        }
        Ok(Self { names, targets: Arc::new(targets), origins, requested, doubts })
    }

    /// The choice in view of an obstacle.
    pub(super) fn without(&self, obstacle: ForwardObstacle) -> Result<Choice, ForwardObstacle> {
        if !self.requested {
            return Ok(Choice::User(obstacle));
        }
        if !obstacle.is_doubt() {
            return Err(obstacle);
        }
        let mut path = self.clone();
        path.doubts.push(obstacle);
        Ok(Choice::Kernel(path))
    }
}

/// Two targets of one interface, if there are any. Both ends of a pair are its own.
fn of_one_interface(names: &[String], egress: &[Egress]) -> Option<[String; 2]> {
    let mut known = BTreeMap::new();
    let shared = names.iter().zip(egress).filter(|(_, egress)| !matches!(egress, Egress::Veth(_)));
    // Of one that cannot be queried the next query tells.
    shared
        .filter_map(|(name, egress)| Some((name, egress.enter(|index| index).ok()?)))
        .find_map(|(name, index)| known.insert(index, name).map(|other| [other.clone(), name.clone()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface() -> SinkNeeds {
        SinkNeeds::Interfaces(Interfaces::single("dev:out0", "out0"))
    }

    fn of(sinks: &[(&str, SinkNeeds, bool)]) -> Option<ForwardObstacle> {
        let sinks = sinks.iter().cloned();
        ForwardObstacle::of_sinks(sinks.map(|(sink, needs, selects)| (sink.to_owned(), needs, selects)))
    }

    #[test]
    fn the_kernel_forwards_for_one_sink_beside_those_that_count_origins() {
        let counters = ("counters", SinkNeeds::Origins { most: 7 }, false);
        assert_eq!(of(&[counters.clone(), ("forward", interface(), false)]), None);
        let sink = || "a".to_owned();
        let tagged = SinkNeeds::Forwarded { reason: "tags".to_owned() };
        let target = ForwardObstacle::Target { sink: sink(), reason: "tags".to_owned() };
        for (sinks, obstacle) in [
            (vec![counters], ForwardObstacle::NoTarget),
            (vec![("a", SinkNeeds::Frames, false)], ForwardObstacle::NoTarget),
            (vec![("a", interface(), true)], ForwardObstacle::Selects { sink: sink() }),
            (vec![("a", tagged.clone(), false)], target),
            (vec![("a", interface(), false), ("b", interface(), false)], ForwardObstacle::SeveralTargets),
            (vec![("a", interface(), false), ("b", tagged, false)], ForwardObstacle::SeveralTargets),
            (
                vec![("b", interface(), false), ("a", SinkNeeds::Frames, false)],
                ForwardObstacle::NeedsFrames { sink: sink() },
            ),
        ] {
            assert_eq!(of(&sinks), Some(obstacle), "{sinks:?}");
        }
    }

    /// An obstacle that the kernel path exists in spite of is a warning on request; any is enough for `auto`.
    #[test]
    fn doubts_are_overridden_by_a_request_and_other_obstacles_are_not() {
        let target = |requested| KernelPath {
            names: vec!["dev:out0".to_owned()],
            targets: Arc::new(Targets::prepare(Vec::new(), None, 0).unwrap()),
            origins: None,
            requested,
            doubts: Vec::new(),
        };
        let doubt = || ForwardObstacle::NotReported { reason: "needs 5.13".to_owned() };
        for obstacle in [doubt(), ForwardObstacle::Generic] {
            let choice = target(false).without(obstacle.clone());
            assert!(matches!(&choice, Ok(Choice::User(reason)) if *reason == obstacle), "{choice:?}");
        }
        let choice = target(true).without(doubt());
        assert!(matches!(&choice, Ok(Choice::Kernel(target)) if target.doubts == [doubt()]), "{choice:?}");
        let choice = target(true).without(ForwardObstacle::Generic);
        assert!(matches!(&choice, Err(ForwardObstacle::Generic)), "{choice:?}");
    }
}
