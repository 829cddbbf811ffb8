//! What a packet of production costs: time of the source's program, by the kernel's own account
//! (`BPF_ENABLE_STATS`), less that of an empty program on the same packets.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    programs::{LinkOrder, ProgramFd, SchedClassifier, TcAttachType, loaded_programs, tc::TcAttachOptions},
    sys::{Stats, enable_stats},
};
use mirror_ebpf::{BENCH_OBJECT, bench as floor, source as abi};
use mirror_user::agent::SourceOptions;
use rustix::fd::{AsFd as _, AsRawFd as _};

use super::{
    bed::{Hosts, PRODUCTION, Sessions, end, sum},
    less,
    load::{Load, Server},
    more,
};
use crate::{options::Options, progress::Progress, report::schema::Report, stats::ratio};

/// What is sent, what is mirrored of it, and what that may cost.
struct Case {
    what: &'static str,
    sessions: Sessions,
    load: Load,
    most_ns: f64,
}

/// Datagrams of 64 bytes, 20,000 a second.
const SMALL: Load = Load::Udp { rate: 20_000, payload: 64 };

const CASES: [Case; 3] = [
    Case {
        what: "a packet that is not mirrored, of 3 sessions of 10 rules",
        sessions: Sessions::NoneMatching,
        load: SMALL,
        most_ns: 150.0,
    },
    Case { what: "a packet that is mirrored", sessions: Sessions::All, load: SMALL, most_ns: 1_000.0 },
    Case {
        what: "a super-frame that is mirrored, TCP at 400 Mbit/s",
        sessions: Sessions::All,
        load: Load::Tcp { rate: Some(400_000_000) },
        most_ns: 1_600.0,
    },
];

/// Seconds of a round.
const SECONDS: u64 = 1;

pub(super) fn run(options: &Options, progress: &Progress, report: &mut Report) -> Result<()> {
    let hosts = Hosts::raise()?;
    let _server = Server::start(&hosts)?;
    let _empty = Empty::attach(&hosts)?;
    let _counted = enable_stats(Stats::RunTime).context("BPF_ENABLE_STATS needs kernel 5.8")?;
    let empty = Program::named(floor::PROGRAM_EMPTY, |_| true)?;
    let mut costs = CASES.map(|_| Vec::new());
    let (mut empties, mut segments) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        progress.show(format_args!(
            "mirror source, cost of a packet: round {} of {}",
            round + 1,
            options.rounds
        ));
        for (case, costs) in CASES.iter().zip(&mut costs) {
            options.go_on()?;
            let before: Vec<u32> = Program::ids()?;
            let source = hosts.mirror(case.sessions, SourceOptions::default())?;
            let ours = Program::named(abi::PROGRAM_EGRESS, |id| !before.contains(&id))?;
            let at_start = [ours.runs()?, empty.runs()?];
            case.load.send(&hosts, SECONDS)?;
            let at_end = [ours.runs()?, empty.runs()?];
            let account = end(source)?;
            let cloned = sum(&account, |session| session.cloned)?;
            ensure!((cloned > 0) == (case.sessions == Sessions::All), "{}: {cloned} cloned", case.what);
            let [ours, empty] = [0, 1].map(|which| at_end[which].a_run_since(at_start[which]));
            costs.push(ours - empty);
            empties.push(empty);
            if matches!(case.load, Load::Tcp { .. }) {
                let read = sum(&account, |session| session.carrier.frames.read)?;
                segments.push(ratio(sum(&account, |session| session.carrier.frames.segments)?, read));
            }
        }
    }
    for (case, costs) in CASES.iter().zip(&costs) {
        less(report, case.what, "ns", costs, Some(case.most_ns));
    }
    less(report, "the empty program, which is subtracted from these", "ns", &empties, None);
    let what = "segments of a frame at that TCP, both directions";
    more(report, what, "segments", &segments, None);
    Ok(())
}

/// A tc program on the host's interface that does nothing.
struct Empty {
    /// Dropped, it is detached.
    _object: Ebpf,
}

impl Empty {
    fn attach(hosts: &Hosts) -> Result<Self> {
        let mut object = EbpfLoader::new().load(BENCH_OBJECT).context("the benchmarks' object")?;
        let program = object.program_mut(floor::PROGRAM_EMPTY).context("no empty program")?;
        let program: &mut SchedClassifier = program.try_into()?;
        program.load()?;
        hosts
            .host
            .enter(|| {
                let last = TcAttachOptions::TcxOrder(LinkOrder::last());
                program.attach_with_options(PRODUCTION, TcAttachType::Egress, last)
            })?
            .context("an empty program beside the source's needs tcx (kernel 6.6)")?;
        Ok(Self { _object: object })
    }
}

/// A loaded program.
struct Program {
    descriptor: ProgramFd,
}

/// Runs of a program so far.
#[derive(Clone, Copy, Debug)]
struct Runs {
    ns: u64,
    count: u64,
}

impl Program {
    fn ids() -> Result<Vec<u32>> {
        Ok(loaded_programs().map(|program| program.map(|info| info.id())).collect::<Result<_, _>>()?)
    }

    /// The one with this name and such an id.
    fn named(name: &str, is_it: impl Fn(u32) -> bool) -> Result<Self> {
        for program in loaded_programs() {
            let info = program?;
            if info.name_as_str() == Some(name) && is_it(info.id()) {
                return Ok(Self { descriptor: info.fd()? });
            }
        }
        anyhow::bail!("no program {name} is loaded")
    }

    /// By `/proc/self/fdinfo`, which has them for a program.
    fn runs(&self) -> Result<Runs> {
        let path = format!("/proc/self/fdinfo/{}", self.descriptor.as_fd().as_raw_fd());
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        let field = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            found.and_then(|value| value.trim().parse().ok()).with_context(|| format!("{path}: no {name}"))
        };
        Ok(Runs { ns: field("run_time_ns")?, count: field("run_cnt")? })
    }
}

impl Runs {
    /// The mean time of a run since then, in ns.
    fn a_run_since(self, before: Self) -> f64 {
        ratio(self.ns - before.ns, self.count - before.count)
    }
}
