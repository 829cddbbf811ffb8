//! One tool under one kind of traffic: at full speed, and its no-drop rate.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Read as _},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tempfile::{NamedTempFile, TempDir};

use super::{
    closing::Counts,
    contestants::{BUFFER_MIB, Contestant, Output, RING_BYTES, Ready},
    stage::Stage,
};
use crate::{
    options::Options,
    process::Process,
    report::schema::Peer,
    search::{Search, Trial},
    stats::mega,
};

/// The directory of a run, in the report.
const DIRECTORY: &str = "DIR";
/// Bytes of encapsulation, which inner frames lack.
const ENCAPSULATION: usize = mirror_lab::frames::ENCAPSULATION;
/// Headers of a classic pcap and of a packet in it.
const PCAP: (u64, u64) = (24, 16);
/// Bytes the kernel puts before a frame in an `AF_PACKET` ring of version 3.
const RING_HEADER: u64 = 82;
/// A trial has this many times the frames that fit a tool's ring, which bounds the error by frames still in
/// the ring at the end.
const RINGS: u64 = 8;
/// No trial is longer than this many times its planned duration.
const LONGER: u64 = 4;
/// The largest file: trials at high rates are shortened to stay below.
const MOST_WRITTEN: u64 = 2 << 30;
/// Frames of the burst that measures full speed.
const BURST: u64 = 1 << 17;
/// Lowest rate tried, frames a second.
const LEAST: u64 = 20_000;

/// How thoroughly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Duration of the traffic in a trial.
    pub(super) seconds: f64,
    pub(super) resolution: f64,
    pub(super) trials: u32,
}

impl Effort {
    /// For a run's options and a frame size: full runs are most precise where the goals are.
    pub(super) fn of(options: &Options, frame_len: usize) -> Self {
        match (options.quick, frame_len) {
            (true, _) => Self { seconds: 0.5, resolution: 0.08, trials: 1 },
            (false, super::GOAL_BYTES) => Self { seconds: 2.0, resolution: 0.04, trials: 3 },
            (false, _) => Self { seconds: 1.0, resolution: 0.08, trials: 1 },
        }
    }
}

/// The version of a program; `None` if it is not installed.
pub(super) fn version(program: &Path, option: &str) -> Result<Option<String>> {
    let output = match Command::new(program).arg(option).stdin(Stdio::null()).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        output => output.with_context(|| program.display().to_string())?,
    };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Ok(Some(said.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()))
}

/// A tool and its traffic.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    pub(super) stage: &'a Stage,
    pub(super) contestant: &'a Contestant,
    pub(super) program: &'a Path,
    /// Where files are written.
    pub(super) memory: &'a Path,
    pub(super) frame_len: usize,
    pub(super) options: &'a Options,
}

/// One run of the tool.
#[derive(Clone, Copy, Debug)]
struct Run {
    offered: u64,
    counts: Counts,
    /// Frames a second, as sent.
    rate: u64,
    cpu: Duration,
}

impl Run {
    fn trial(&self) -> Trial {
        Trial {
            offered: self.offered,
            lost: self.offered.saturating_sub(self.counts.received),
            rate: self.rate,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "frames of seconds")]
    fn received_rate(&self) -> f64 {
        self.rate as f64 * self.counts.received as f64 / self.offered.max(1) as f64
    }

    #[expect(clippy::cast_precision_loss, reason = "frames of seconds")]
    fn cpu_s_per_mframe(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.counts.received.max(1) as f64
    }
}

impl Subject<'_> {
    /// Measures it.
    ///
    /// # Errors
    ///
    /// If the tool does not start, ends early or prints no counts, and after a signal to stop.
    pub(super) fn measure(&self, effort: Effort, version: &str) -> Result<Peer> {
        let _prepared = self.stage.prepare(self.contestant.place)?;
        let full = self.run(None, effort)?;
        let mut runs = vec![full];
        let mut found = self.search(half(full.received_rate()), effort, &mut runs)?;
        if found == 0 {
            found = self.search(LEAST, effort, &mut runs)?;
        }
        let at_no_drop = runs.iter().find(|run| run.trial().lost == 0 && run.rate == found);
        Ok(Peer {
            name: self.contestant.name.clone(),
            version: version.to_owned(),
            settings: self.settings(),
            frame_bytes: self.frame_len,
            writes: self.contestant.writes(),
            offered: full.offered,
            received: full.counts.received,
            reported_lost: full.counts.lost,
            received_mpps: full.received_rate() / 1e6,
            no_drop_mpps: mega(found),
            cpu_s_per_mframe: at_no_drop.map_or(0.0, Run::cpu_s_per_mframe),
        })
    }

    /// The no-drop rate in frames a second, 0 if `least` has losses. The run at full speed is the first of
    /// `runs`.
    fn search(&self, least: u64, effort: Effort, runs: &mut Vec<Run>) -> Result<u64> {
        let Effort { resolution, trials, .. } = effort;
        let mut first = runs.first().copied();
        let found = Search { least, resolution, trials }.run(|rate| {
            let run = match first.take() {
                Some(run) => run,
                None => self.run(rate, effort)?,
            };
            runs.push(run);
            Ok(run.trial())
        })?;
        Ok(found.rate)
    }

    /// Starts the tool, sends at a rate, ends the tool.
    fn run(&self, rate: Option<u64>, effort: Effort) -> Result<Run> {
        self.options.go_on()?;
        let Self { stage, contestant, frame_len, .. } = *self;
        let directory = tempfile::Builder::new().prefix("mirror-bench-").tempdir_in(self.memory)?;
        let held = contestant.output.is_ring().then(|| hold(self.memory)).transpose()?;
        let process = self.start(&directory)?;
        drop(held);
        let before = process.cpu_time()?;
        let mut offered = 0;
        let pace = match rate {
            Some(rate) => rate,
            None => {
                let burst = stage.send(frame_len, None, BURST)?;
                offered += burst.total();
                whole(burst.sending_rate)
            }
        };
        let sent = stage.send(frame_len, rate, self.frames(pace, effort))?;
        offered += sent.total();
        thread::sleep(contestant.settles);
        let cpu = process.cpu_time()?.saturating_sub(before);
        let said = process.end()?;
        let mut counts = contestant.counts(&said, directory.path())?;
        if let Some(written) = self.written(directory.path())? {
            counts.received = counts.received.min(written);
        }
        Ok(Run { offered, counts, rate: whole(sent.sending_rate), cpu })
    }

    fn start(&self, directory: &TempDir) -> Result<Process> {
        let Self { stage, contestant, program, options, .. } = *self;
        contestant.settle_in(directory.path())?;
        let mut command = stage.command(options.worker_cpu, program);
        command.args(contestant.arguments(directory.path()));
        let mut process = Process::start(command, directory.path())?;
        process.wait_until(|said| match contestant.ready {
            Ready::Says(words) => Ok(said.contains(words)),
            Ready::Program => stage.has_program(),
        })?;
        Ok(process)
    }

    /// Frames of a trial.
    fn frames(&self, rate: u64, effort: Effort) -> u64 {
        let len = self.frame_len as u64;
        let least = RINGS * (BUFFER_MIB << 20) / (len + RING_HEADER);
        let one_file = self.contestant.writes() && !self.contestant.output.is_ring();
        let most = if one_file { MOST_WRITTEN / (len + PCAP.1) } else { u64::MAX };
        #[expect(clippy::cast_precision_loss, reason = "frames of seconds")]
        let frames = whole(rate as f64 * effort.seconds);
        // At such a low rate the tool is not the bottleneck.
        frames.max(least.min(LONGER * frames)).min(most)
    }

    /// Frames in the file it has written, computed from its size.
    fn written(&self, directory: &Path) -> Result<Option<u64>> {
        let len = match self.contestant.output {
            Output::Counts | Output::InnerPcapng | Output::OuterRing | Output::InnerRing => return Ok(None),
            Output::OuterPcap => self.frame_len,
            Output::InnerPcap => self.frame_len - ENCAPSULATION,
        };
        let file = Contestant::capture(directory);
        let size = fs::metadata(&file).with_context(|| format!("{}: nothing written", file.display()))?.len();
        Ok(Some(size.saturating_sub(PCAP.0) / (PCAP.1 + len as u64)))
    }

    /// The command, without the paths of this host.
    fn settings(&self) -> String {
        let program = self.program.file_name().unwrap_or(self.program.as_os_str());
        let cpu = self.options.worker_cpu.to_string();
        let arguments = self.contestant.arguments(Path::new(DIRECTORY));
        let words = ["taskset", "-c", &cpu].map(OsStr::new).into_iter().chain([program]);
        let words = words.map(|word| word.to_string_lossy().into_owned()).chain(arguments);
        words.collect::<Vec<_>>().join(" ")
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts, and never negative")]
fn whole(count: f64) -> u64 {
    count as u64
}

/// A file as large as a ring of files, whose memory the ring takes when it is dropped.
///
/// A virtual machine gives free huge pages back to its host after two seconds, and gets them again at the
/// tenth of the speed at which they are written: a ring that runs for longer than a trial has its pages.
fn hold(memory: &Path) -> Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix("held-").tempfile_in(memory)?;
    io::copy(&mut io::repeat(1).take(RING_BYTES), &mut file)?;
    Ok(file)
}

/// Start of the search: half of the rate received at full speed is nearly always free of loss.
fn half(rate: f64) -> u64 {
    whole(rate / 2.0).max(LEAST)
}
