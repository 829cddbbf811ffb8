//! Other tools and ours on the same traffic.
//!
//! Each runs as its user would run it, as a process with all its threads on the worker's CPU, on the same
//! frames from the same generator into the same interface. It is started for each trial and ended by SIGINT;
//! the counts that it prints are compared with those of the generator, and with the size of the file if it
//! wrote one.

mod closing;
mod contestants;
mod measure;
mod stage;

use std::{collections::BTreeMap, env, path::PathBuf};

use anyhow::{Context as _, Result};
use mirror_lab::generator::MAX_FRAME;

use self::{
    contestants::{BUFFER_MIB, Contestant, DEFAULT_RING, RING_OF_FILES},
    measure::{Effort, Subject},
    stage::Stage,
};
use crate::{
    bed::{JUMBO_MTU, MTU},
    mounted::Mounted,
    options::Options,
    progress::Progress,
    report::schema::{Goal, Peer, Report, Spread},
};

/// Outer frame size of the goals.
const GOAL_BYTES: usize = 114;
/// Outer frame sizes of a full run, and the MTU for each.
const SIZES: [(usize, u32); 3] = [(GOAL_BYTES, MTU), (LARGE_BYTES, MTU), (MAX_FRAME, JUMBO_MTU)];
/// The goal: our rate over that of the best peer.
const GOAL: f64 = 3.0;
/// The same for captures of real sizes.
const GOAL_LARGE: f64 = 2.0;
const LARGE_BYTES: usize = 1450;
/// The same with our default ring.
const GOAL_DEFAULT_RING: f64 = 2.5;
/// Most that all files of a run have, in bytes.
const MEMORY: u64 = 4 << 30;
/// Our program.
const OURS: &str = "mirror";
/// Installs missing tools.
const INSTALL: &str = "cargo xtask bench peers --install";

/// Measures each tool that is installed, and ours, into `report`.
///
/// # Errors
///
/// Without root, if the lab cannot be created, and after a signal to stop. A tool that fails is reported in
/// [`Report::not_measured`].
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let contestants = contestants::all(options.quick, options.worker_cpu);
    let mut installed = Vec::new();
    for (program, version_option) in programs(&contestants) {
        let path = path_of(program)?;
        match measure::version(&path, version_option)? {
            Some(version) => installed.push((program, path, version)),
            None if program == OURS => {
                report.not_measured.push(format!("{OURS}: there is no {}", path.display()));
            }
            None => report.not_measured.push(format!("{program} is not installed: `{INSTALL}`")),
        }
    }
    // No disk is measured, and no huge page that a virtual machine has to be given first.
    let one_file = Mounted::tmpfs(MEMORY, ",huge=never")?;
    let ring = Mounted::tmpfs(MEMORY, ",huge=always")?;
    let progress = Progress::start();
    for &(frame_len, mtu) in if options.quick { &SIZES[..1] } else { &SIZES } {
        let stage = Stage::raise(options, mtu)?;
        let effort = Effort::of(options, frame_len);
        for contestant in &contestants {
            if contestant.output.is_ring() && frame_len != LARGE_BYTES {
                continue;
            }
            let Some((_, program, version)) = installed.iter().find(|tool| tool.0 == contestant.program)
            else {
                continue;
            };
            progress.show(format_args!("peers: {}, frames of {frame_len} bytes", contestant.name));
            let memory = if contestant.output.is_ring() { ring.path() } else { one_file.path() };
            let subject = Subject { stage: &stage, contestant, program, memory, frame_len, options };
            let measured = subject.measure(effort, version);
            options.go_on()?;
            match measured {
                Ok(peer) => report.peers.push(peer),
                Err(error) => {
                    let name = &contestant.name;
                    report.not_measured.push(format!("{name} on frames of {frame_len} bytes: {error:#}"));
                }
            }
        }
    }
    report.settings.insert("peers.host".to_owned(), Stage::SETTINGS.to_owned());
    report.settings.insert("peers.trial".to_owned(), trials(options));
    judge(report);
    Ok(())
}

/// Each program once, with the option that prints its version.
fn programs(contestants: &[Contestant]) -> BTreeMap<&'static str, &'static str> {
    contestants.iter().map(|contestant| (contestant.program, contestant.version_option)).collect()
}

/// Ours is in the directory of this program, others are found by PATH.
fn path_of(program: &str) -> Result<PathBuf> {
    if program != OURS {
        return Ok(program.into());
    }
    Ok(env::current_exe().context("where this program is")?.with_file_name(program))
}

fn trials(options: &Options) -> String {
    let Effort { seconds, resolution, trials } = Effort::of(options, GOAL_BYTES);
    let plural = if trials == 1 { "" } else { "s" };
    format!(
        "{seconds} s of traffic, up to 4 times as long to send 8 times what a ring of {BUFFER_MIB} MiB \
        holds, {trials} trial{plural} at a rate, rates to {} %",
        resolution * 100.0
    )
}

/// Kinds of output that are compared with each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Counts,
    OneFile,
    RingOfFiles,
}

impl Kind {
    fn of(peer: &Peer) -> Self {
        match peer.writes {
            false => Self::Counts,
            true if peer.name.contains(RING_OF_FILES) => Self::RingOfFiles,
            true => Self::OneFile,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Counts => "counters",
            Self::OneFile => "pcap",
            Self::RingOfFiles => "pcap in a ring of files",
        }
    }

    /// Whether a peer of kind `other` does at least this work: one that writes frames counts them, too.
    fn is_done_by(self, other: Self) -> bool {
        self == other || self == Self::Counts
    }
}

/// Compares ours with the best of the others.
fn judge(report: &mut Report) {
    let mut goals = Vec::new();
    for (kind, setting, frame_bytes, goal) in [
        (Kind::Counts, "peers.best", GOAL_BYTES, GOAL),
        (Kind::OneFile, "peers.best_pcap", GOAL_BYTES, GOAL),
        (Kind::RingOfFiles, "peers.best_pcap_ring_1450", LARGE_BYTES, GOAL_LARGE),
    ] {
        let at_goal = || report.peers.iter().filter(|peer| peer.frame_bytes == frame_bytes);
        let ours = || at_goal().filter(is_ours).filter(|peer| Kind::of(peer) == kind);
        let theirs = at_goal().filter(|peer| !is_ours(peer) && kind.is_done_by(Kind::of(peer)));
        let Some(theirs) = best(theirs) else { continue };
        let over = |ours: &Peer| Spread::of(ours.no_drop_mpps / theirs.no_drop_mpps);
        let what = format!("{}: no-drop rate over the best peer's, {frame_bytes} bytes", kind.name());
        if let Some(ours) = best(ours()) {
            goals.push(Goal::at_least(&what, goal, over(ours)));
            report.settings.insert(setting.to_owned(), format!("{} over {}", ours.name, theirs.name));
        }
        let default_ring = best(ours().filter(|peer| peer.name.ends_with(DEFAULT_RING)));
        if let Some(ours) = default_ring.filter(|_| frame_bytes == GOAL_BYTES) {
            goals.push(Goal::at_least(format!("{what}, default ring"), GOAL_DEFAULT_RING, over(ours)));
        }
    }
    for (frame_bytes, _) in SIZES {
        for kind in [Kind::Counts, Kind::OneFile, Kind::RingOfFiles] {
            let all = || {
                let at_size = report.peers.iter().filter(|peer| peer.frame_bytes == frame_bytes);
                at_size.filter(|peer| Kind::of(peer) == kind)
            };
            let ours = thriftiest(all().filter(is_ours));
            let (Some(ours), Some(theirs)) = (ours, thriftiest(all().filter(|peer| !is_ours(peer)))) else {
                continue;
            };
            let name = kind.name();
            let what = format!("{name}: CPU time a frame over the thriftiest peer's, {frame_bytes} bytes");
            goals.push(Goal::at_most(what, 1.0, Spread::of(ours / theirs)));
        }
    }
    report.goals.extend(goals);
}

fn is_ours(peer: &&Peer) -> bool {
    peer.name.starts_with(OURS)
}

/// The least CPU time a frame, each at its own no-drop rate.
fn thriftiest<'a>(peers: impl Iterator<Item = &'a Peer>) -> Option<f64> {
    peers.map(|peer| peer.cpu_s_per_mframe).filter(|cpu| *cpu > 0.0).min_by(f64::total_cmp)
}

/// The one with the highest no-drop rate, if any has one.
fn best<'a>(peers: impl Iterator<Item = &'a Peer>) -> Option<&'a Peer> {
    peers.filter(|peer| peer.no_drop_mpps > 0.0).max_by(|a, b| a.no_drop_mpps.total_cmp(&b.no_drop_mpps))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, writes: bool, no_drop_mpps: f64) -> Peer {
        Peer { name: name.to_owned(), frame_bytes: GOAL_BYTES, writes, no_drop_mpps, ..Peer::default() }
    }

    #[test]
    fn our_better_wait_mode_is_compared_with_the_best_of_the_others() {
        let mut report = Report {
            peers: vec![
                peer("tcpdump", false, 1.0),
                peer("dumpcap", false, 0.5),
                peer("dumpcap-pcap", true, 0.5),
                Peer { frame_bytes: LARGE_BYTES, ..peer("suricata", false, 9.0) },
                Peer { frame_bytes: LARGE_BYTES, ..peer("dumpcap-pcap-files", true, 0.5) },
                Peer { frame_bytes: LARGE_BYTES, ..peer("dumpcap-pcap", true, 9.0) },
                Peer { frame_bytes: LARGE_BYTES, ..peer("mirror-pcap-files-default-ring", true, 1.25) },
                peer("mirror-counters", false, 2.0),
                peer("mirror-counters-spin", false, 3.0),
                peer("mirror-counters-default-ring", false, 2.5),
                peer("mirror-pcap", true, 1.0),
            ],
            ..Report::default()
        };
        judge(&mut report);
        let measured: Vec<_> = report.goals.iter().map(|goal| (goal.measured.median, goal.reached)).collect();
        assert_eq!(measured, [(3.0, true), (2.5, true), (2.0, false), (2.5, true)]);
        assert_eq!(report.settings["peers.best"], "mirror-counters-spin over tcpdump");
    }

    #[test]
    fn cpu_time_is_compared_at_each_size() {
        let peer = |name, writes, frame_bytes, cpu_s_per_mframe| Peer {
            frame_bytes,
            cpu_s_per_mframe,
            ..peer(name, writes, 0.0)
        };
        let mut report = Report {
            peers: vec![
                peer("tcpdump", false, 114, 0.1),
                peer("netsniff-ng", false, 114, 0.08),
                // Without a no-drop rate.
                peer("suricata", false, 114, 0.0),
                peer("mirror-counters", false, 114, 0.2),
                peer("mirror-counters-default-ring", false, 114, 0.04),
                peer("tcpdump-pcap", true, 1450, 1.0),
                peer("mirror-pcap", true, 1450, 1.5),
                peer("tcpdump-pcap-files", true, 1450, 0.5),
                peer("mirror-pcap-files", true, 1450, 0.5),
            ],
            ..Report::default()
        };
        judge(&mut report);
        let measured: Vec<_> = report.goals.iter().map(|goal| (goal.measured.median, goal.reached)).collect();
        assert_eq!(measured, [(0.5, true), (1.5, false), (1.0, true)]);
    }

    #[test]
    fn without_peers_there_is_no_goal() {
        let mut report = Report { peers: vec![peer("mirror-counters", false, 2.0)], ..Report::default() };
        judge(&mut report);
        assert!(report.goals.is_empty());
    }
}
