//! Which path forwarded frames take: by the XDP program, or by a worker and its sink.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{Bind, BindMode, EngineError, InterfacePlan, Mode, OptionsError, XdpMode, options::Options};
use crate::{
    account::ForwardPathReport,
    error::with_causes,
    host::{egress::Egress, xdp::XdpFeatures},
    select::{
        Allow, Selection,
        split::{Split, TooMany},
    },
    sink::{Interfaces, SinkFactory, SinkNeeds, needs::Member},
    xdp::Targets,
};

/// Which path frames take to the target of a sink that forwards them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum ForwardPath {
    /// The kernel path if no other sink needs the same frames, the target takes them, and all of them are
    /// accounted for; else the user path. The report says which and why.
    #[default]
    Auto,
    /// The XDP program decapsulates and redirects frames, or the run does not start. Frames that it cannot
    /// decapsulate, such as fragments, and those that other sinks select as well, take the user path.
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
    /// Several sinks forward each frame: the kernel does not report all copies that are lost.
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
    /// A filter expression selects the frames of the sink that forwards.
    Filters {
        /// The sink.
        sink: String,
    },
    /// Other sinks need each frame that the sink forwards, or the run selects none of them.
    NothingAlone {
        /// The sink.
        sink: String,
    },
    /// The kernel's tables of what sinks select are too small.
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        given: usize,
        /// How many there may be.
        most: usize,
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
    /// What excludes the kernel path for a run with this selection and these sinks. Of each sink: its name,
    /// what it needs, and its own selection.
    pub fn of_sinks(allow: &Allow, sinks: impl IntoIterator<Item = SinkUse>) -> Option<Self> {
        Forwarder::among(allow, sinks).err()
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
            | Self::Filters { .. }
            | Self::NothingAlone { .. }
            | Self::TooMany { .. }
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
            Self::Filters { sink } => write!(f, "a filter expression selects frames of sink {sink}"),
            Self::NothingAlone { sink } => write!(f, "no frame is for sink {sink} alone"),
            Self::TooMany { what, given, most } => {
                write!(f, "{given} {what}, which are more than the {most} that the kernel looks up")
            }
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

/// A sink, what it needs, and its own selection.
type SinkUse = (String, SinkNeeds, Option<Arc<Selection>>);

/// The sink that the kernel can forward for.
struct Forwarder {
    sink: String,
    interfaces: Interfaces,
    /// Which of the frames; `None` for all.
    split: Option<Split>,
}

impl Forwarder {
    /// The first sink for which that is so in a run with this selection, or what excludes it.
    fn among(allow: &Allow, sinks: impl IntoIterator<Item = SinkUse>) -> Result<Self, ForwardObstacle> {
        let sinks: Vec<_> = sinks.into_iter().collect();
        let forwards = sinks.iter().enumerate().filter(|(_, (_, needs, _))| needs.is_to_forward());
        let mut obstacle = None;
        for (place, target) in forwards {
            let others = sinks.iter().enumerate().filter(|(other, _)| *other != place);
            match Self::of(allow, target, others.map(|(_, sink)| sink)) {
                Ok(forwarder) => return Ok(forwarder),
                Err(other) => obstacle = obstacle.or(Some(other)),
            }
        }
        Err(obstacle.unwrap_or(ForwardObstacle::NoTarget))
    }

    /// A sink that forwards, beside others.
    fn of<'a>(
        allow: &Allow,
        (sink, needs, selection): &SinkUse,
        others: impl Iterator<Item = &'a SinkUse>,
    ) -> Result<Self, ForwardObstacle> {
        let sink = sink.clone();
        let others = others.filter_map(selected_by_other).collect::<Result<Vec<_>, _>>()?;
        let interfaces = match needs {
            SinkNeeds::Interfaces(interfaces) => interfaces.clone(),
            SinkNeeds::Forwarded { reason } => {
                return Err(ForwardObstacle::Target { sink, reason: reason.clone() });
            }
            SinkNeeds::Frames | SinkNeeds::Origins { .. } => return Err(ForwardObstacle::NoTarget),
        };
        let selection = selection.as_deref().cloned().unwrap_or_default();
        if selection.filter.is_some() || selection.outer_filter.is_some() {
            return Err(ForwardObstacle::Filters { sink });
        }
        if selection.allow.is_all() && others.is_empty() {
            return Ok(Self { sink, interfaces, split: None });
        }
        let too_many = |TooMany { what, given, most }| ForwardObstacle::TooMany { what, given, most };
        let split = Split::between(&selection.allow, others).map_err(too_many)?;
        if !split.leaves_any(allow) {
            return Err(ForwardObstacle::NothingAlone { sink });
        }
        Ok(Self { sink, interfaces, split: Some(split) })
    }
}

/// Frames that a sink beside the one that forwards needs in user space, if it needs any. It cannot need all.
/// The filter of its selection is left out: its worker applies that.
fn selected_by_other((sink, needs, selection): &SinkUse) -> Option<Result<&Allow, ForwardObstacle>> {
    match (needs, selection) {
        // Of what the kernel forwards, it counts the origins.
        (SinkNeeds::Origins { .. }, None) => None,
        (_, Some(selection)) if !selection.allow.is_all() => Some(Ok(&selection.allow)),
        (needs, _) if needs.is_to_forward() => Some(Err(ForwardObstacle::SeveralTargets)),
        _ => Some(Err(ForwardObstacle::NeedsFrames { sink: sink.clone() })),
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
    /// Which frames are forwarded; `None` for all.
    pub(super) split: Option<Arc<Split>>,
    /// The sink that they are for.
    sink: String,
    /// Whether the kernel path was requested; else any obstacle leads to the user path.
    requested: bool,
    /// Obstacles to `auto` in spite of which it was requested.
    pub(super) doubts: Vec<ForwardObstacle>,
}

impl Choice {
    /// The path of a run with these options.
    pub(super) fn of(options: &Options) -> Result<Self, EngineError> {
        let forwards = || options.sinks.iter().any(|sink| sink.needs().is_to_forward());
        let requested = match options.forward_path {
            ForwardPath::Auto | ForwardPath::User if !forwards() => {
                return Ok(Self::Nothing);
            }
            ForwardPath::User => return Ok(Self::User(ForwardObstacle::Requested)),
            ForwardPath::Auto => false,
            ForwardPath::Kernel => true,
        };
        let of_sinks =
            options.sinks.iter().map(|sink| (sink.name().to_owned(), sink.needs(), sink.selection()));
        let refuse = |obstacle| match requested {
            true => Err(OptionsError::ForwardPath(obstacle).into()),
            false => Ok(Self::User(obstacle)),
        };
        let forwarder = match (Forwarder::among(&options.selection.allow, of_sinks), of_options(options)) {
            (Err(obstacle), _) | (_, Some(obstacle)) => return refuse(obstacle),
            (Ok(forwarder), None) => forwarder,
        };
        let origins = options.sinks.iter().filter_map(|sink| match sink.needs() {
            SinkNeeds::Origins { most } if sink.selection().is_none() => Some(most),
            _ => None,
        });
        match KernelPath::open(forwarder, origins.max(), requested) {
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
            Self::Kernel(path) => Some(ForwardPathReport::kernel(path.reason(), path.names.clone())),
        }
    }
}

impl KernelPath {
    /// Prepares the targets, each of which takes redirected frames as far as the kernel says.
    fn open(forwarder: Forwarder, origins: Option<usize>, requested: bool) -> Result<Self, ForwardObstacle> {
        let Forwarder { sink, interfaces, split } = forwarder;
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
        let (targets, split) = (Arc::new(targets), split.map(Arc::new));
        Ok(Self { names, targets, origins, split, sink, requested, doubts })
    }

    /// Why it is taken, and for which frames.
    fn reason(&self) -> String {
        let Self { split, sink, requested, .. } = self;
        match (requested, split) {
            (true, None) => "as requested".to_owned(),
            (false, None) => "nothing needs the frames in user space".to_owned(),
            (_, Some(_)) => {
                let requested = if *requested { "as requested, " } else { "" };
                format!("{requested}frames that only sink {sink} selects; all others go through user space")
            }
        }
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
    use crate::select::Filter;

    fn interface() -> SinkNeeds {
        SinkNeeds::Interfaces(Interfaces::single("dev:out0", "out0"))
    }

    /// What excludes the kernel path for sinks, each with the VNIs that it selects, if not all.
    fn of(sinks: &[(&str, SinkNeeds, &[u32])]) -> Option<ForwardObstacle> {
        let uses = sinks.iter().cloned().map(|(sink, needs, vnis)| {
            let selection = Selection::from(Allow::all().vnis(vnis.iter().copied()));
            (sink.to_owned(), needs, (!vnis.is_empty()).then(|| Arc::new(selection)))
        });
        ForwardObstacle::of_sinks(&Allow::all(), uses)
    }

    fn sink() -> String {
        "a".to_owned()
    }

    fn tagged() -> SinkNeeds {
        SinkNeeds::Forwarded { reason: "tags".to_owned() }
    }

    #[test]
    fn the_kernel_forwards_for_one_sink_beside_those_that_count_origins() {
        let counters = ("counters", SinkNeeds::Origins { most: 7 }, &[][..]);
        assert_eq!(of(&[counters.clone(), ("forward", interface(), &[])]), None);
        let target = ForwardObstacle::Target { sink: sink(), reason: "tags".to_owned() };
        for (sinks, obstacle) in [
            (vec![counters], ForwardObstacle::NoTarget),
            (vec![("a", SinkNeeds::Frames, &[][..])], ForwardObstacle::NoTarget),
            (vec![("a", tagged(), &[])], target),
            (vec![("a", interface(), &[]), ("b", interface(), &[])], ForwardObstacle::SeveralTargets),
            (vec![("a", interface(), &[]), ("b", tagged(), &[])], ForwardObstacle::SeveralTargets),
            (
                vec![("b", interface(), &[]), ("a", SinkNeeds::Frames, &[])],
                ForwardObstacle::NeedsFrames { sink: sink() },
            ),
        ] {
            assert_eq!(of(&sinks), Some(obstacle), "{sinks:?}");
        }
    }

    #[test]
    fn the_kernel_forwards_what_no_other_sink_selects() {
        let alone = || Some(ForwardObstacle::NothingAlone { sink: sink() });
        let needed = Some(ForwardObstacle::NeedsFrames { sink: "b".to_owned() });
        let origins = || SinkNeeds::Origins { most: 7 };
        for (target, other, obstacle) in [
            (&[][..], (SinkNeeds::Frames, &[7][..]), None),
            (&[7, 8], (SinkNeeds::Frames, &[7]), None),
            (&[8], (tagged(), &[7]), None),
            (&[8], (interface(), &[7]), None),
            (&[7], (SinkNeeds::Frames, &[7]), alone()),
            (&[7], (SinkNeeds::Frames, &[6, 7, 8]), alone()),
            (&[7], (SinkNeeds::Frames, &[]), needed),
            (&[7], (origins(), &[7]), alone()),
            (&[7], (origins(), &[]), None),
        ] {
            let sinks = [("a", interface(), target), ("b", other.0, other.1)];
            assert_eq!(of(&sinks), obstacle, "{sinks:?}");
        }
        // Where nothing is left for one target, there may be for another.
        assert_eq!(of(&[("a", interface(), &[7]), ("b", interface(), &[7, 8])]), None);
        let within = |vni| {
            let sinks = [("a", interface(), 7), ("b", SinkNeeds::Frames, 8)];
            let uses = sinks.map(|(sink, needs, vni)| {
                (sink.to_owned(), needs, Some(Arc::new(Selection::from(Allow::all().vnis([vni])))))
            });
            ForwardObstacle::of_sinks(&Allow::all().vnis([vni]), uses)
        };
        assert_eq!((within(7), within(8)), (None, alone()), "the run's own selection");
    }

    #[test]
    fn for_a_sink_with_a_filter_the_kernel_does_not_forward_and_beside_one_it_does() {
        // Returns 0 for every frame.
        let filter = || Filter::from_bpf("never", [(0x06, 0, 0, 0)]).unwrap();
        let of = |target: Selection, other: Selection| {
            let of = |sink: &str, needs, selection| (sink.to_owned(), needs, Some(Arc::new(selection)));
            let sinks = [of("a", interface(), target), of("b", SinkNeeds::Frames, other)];
            ForwardObstacle::of_sinks(&Allow::all(), sinks)
        };
        let vni = |vni| Selection::from(Allow::all().vnis([vni]));
        let filters = Some(ForwardObstacle::Filters { sink: sink() });
        assert_eq!(of(vni(7).filter(filter()), vni(8)), filters);
        assert_eq!(of(vni(7).outer_filter(filter()), vni(8)), filters);
        assert_eq!(of(vni(7), vni(8).filter(filter())), None);
        // What it does not match is known to its worker only.
        let alone = Some(ForwardObstacle::NothingAlone { sink: sink() });
        assert_eq!(of(vni(7), vni(7).filter(filter())), alone);
    }

    /// An obstacle that the kernel path exists in spite of is a warning on request; any is enough for `auto`.
    #[test]
    fn doubts_are_overridden_by_a_request_and_other_obstacles_are_not() {
        let target = |requested| KernelPath {
            names: vec!["dev:out0".to_owned()],
            targets: Arc::new(Targets::prepare(Vec::new(), None, 0).unwrap()),
            origins: None,
            split: None,
            sink: "forward".to_owned(),
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
