//! The open outputs of a run.

mod open;
mod planned;

use std::{
    iter,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use mirror_user::{
    Report,
    hidden_file::{HiddenFile, HiddenFileError},
    mirroring::SessionTable,
    settings::OnOutputEnd,
    sink::{
        self, Counters, LatencySink, SinkFactory,
        forward::Readers,
        pcap::{CaptureState, Rotator},
    },
};

pub(crate) use self::planned::PlannedOutput;
use crate::{
    hooks::Threads, monitor::Monitor, output_config::OutputConfig, postrotate::Postrotate,
    sandbox::ThreadKind, streams::Streams, writers::WriterPlan,
};

/// What outputs need to be opened.
pub(crate) struct OpenContext<'r> {
    /// What their threads do first.
    pub(crate) threads: &'r Threads,
    /// Set when the last file of -W is written, and when the run is to stop.
    pub(crate) stop: &'r Arc<AtomicBool>,
    /// The outputs that are streams.
    pub(crate) streams: &'r Streams,
    /// How many threads write a capture.
    pub(crate) writers: &'r WriterPlan,
    /// Files rotate by packet timestamps.
    pub(crate) by_packets: bool,
    /// Opens targets after the start.
    pub(crate) monitor: Option<Arc<Monitor>>,
    /// Whether another process has the run until the outputs are open.
    pub(crate) is_upgrade: bool,
    /// Captures whose current file another process has.
    pub(crate) follows: &'r [PathBuf],
    /// Whether slow readers are waited for: over capture files, nothing is lost by that.
    pub(crate) patient: bool,
    /// What names origins, if that is known.
    pub(crate) sessions: Option<Arc<SessionTable>>,
}

/// The open outputs of a run, and its other sinks.
pub(crate) struct Outputs {
    counters: Arc<dyn SinkFactory>,
    /// By the flags and tables that they are of.
    open: Vec<OpenOutput>,
    latency: Option<Arc<dyn SinkFactory>>,
    on_output_end: OnOutputEnd,
    /// Memory that the sinks of each worker take, in bytes, besides those of outputs.
    memory_per_worker: usize,
    pub(crate) report: Option<Arc<HiddenFile>>,
    pub(crate) json: bool,
    pub(crate) postrotate: Option<Postrotate>,
    prints: bool,
    /// One line per output that forwards.
    forwards: Vec<String>,
    /// Of outputs that were removed during the run.
    removed: Vec<(String, Capture)>,
}

/// An open output: a sink that writes, prints or forwards packets.
pub(crate) struct OpenOutput {
    /// Its name in the report.
    pub(crate) name: String,
    /// Whether the run is unhealthy without it.
    required: bool,
    pub(crate) sink: Arc<dyn SinkFactory>,
    pub(crate) memory_per_worker: usize,
    captures: Vec<Capture>,
    /// Whether its streams have readers.
    readers: Option<Readers>,
}

/// A capture, for the closing lines.
#[derive(Clone, Debug)]
pub(crate) struct Capture {
    /// `None` for standard output.
    pub(crate) path: Option<PathBuf>,
    /// Gives the files it has completed. `None` for standard output.
    pub(crate) rotator: Option<Rotator>,
    /// Whether packets have their outer headers, which alone identify the origin.
    pub(crate) outer: bool,
    /// Whether it has an interface for each origin.
    pub(crate) pcapng: bool,
}

impl OutputConfig {
    /// Opens all outputs, which have been [validated](Self::validate).
    pub(crate) fn open(&self, max_frame: usize, cx: &OpenContext<'_>) -> anyhow::Result<Outputs> {
        self.refuse_terminal()?;
        let commands = self.all().any(|output| output.files.postrotate_command.is_some());
        let postrotate =
            commands.then(|| Postrotate::start(cx.threads.hook(ThreadKind::Command))).transpose()?;
        let counters = cx.sessions.iter().cloned().fold(Counters::default(), Counters::sessions);
        let mut outputs = Outputs {
            memory_per_worker: counters.memory_per_worker(),
            counters: Arc::new(counters),
            open: Vec::new(),
            latency: self.latency.then(|| Arc::new(LatencySink::new()) as Arc<dyn SinkFactory>),
            on_output_end: self.on_output_end,
            report: self.report.as_deref().map(|path| create_report(path, cx)).transpose()?.map(Arc::new),
            json: self.json,
            postrotate,
            prints: self.prints(),
            forwards: self.all().filter_map(|output| output.forward.announcement()).collect(),
            removed: Vec::new(),
        };
        for planned in self.outputs() {
            outputs.open.push(planned.open(max_frame, cx, outputs.postrotate.as_ref())?);
        }
        Ok(outputs)
    }
}

impl Outputs {
    /// Opens further outputs, as their sinks are to be added to the run.
    pub(crate) fn open_more(
        &self,
        planned: &[&PlannedOutput<'_>],
        max_frame: usize,
        cx: &OpenContext<'_>,
    ) -> anyhow::Result<Vec<OpenOutput>> {
        planned.iter().map(|planned| planned.open(max_frame, cx, self.postrotate.as_ref())).collect()
    }

    /// Takes over outputs that were added to the run, and those that were removed from it, by name.
    pub(crate) fn change(&mut self, removed: &[&str], added: Vec<OpenOutput>) {
        for output in self.open.extract_if(.., |output| removed.contains(&output.name.as_str())) {
            let name = output.name;
            self.removed.extend(output.captures.into_iter().map(|capture| (name.clone(), capture)));
        }
        self.open.extend(added);
    }

    /// The captures of removed outputs of these names.
    pub(crate) fn removed(&self, names: &[String]) -> impl Iterator<Item = &Path> {
        let removed = self.removed.iter().filter(|(name, _)| names.contains(name));
        removed.filter_map(|(_, capture)| capture.path.as_deref())
    }

    /// Takes over whether outputs are required.
    pub(crate) fn require(&mut self, planned: &[PlannedOutput<'_>]) {
        for output in &mut self.open {
            output.required = planned.iter().any(|other| other.name == output.name && other.is_required());
        }
    }

    /// All sinks of the run.
    pub(crate) fn sinks(&self) -> impl Iterator<Item = Arc<dyn SinkFactory>> {
        let open = self.open.iter().map(|output| &output.sink);
        iter::once(&self.counters).chain(open).chain(&self.latency).cloned()
    }

    /// Memory that the sinks of each worker take, in bytes.
    pub(crate) fn memory_per_worker(&self) -> usize {
        self.memory_per_worker + self.open.iter().map(|output| output.memory_per_worker).sum::<usize>()
    }

    /// Whether the run is unhealthy without the sink of this name.
    pub(crate) fn requires(&self, name: &str) -> bool {
        self.open.iter().any(|output| output.name == name && output.required)
    }

    /// The captures, those of removed outputs first.
    pub(crate) fn captures(&self) -> impl Iterator<Item = &Capture> {
        self.removed
            .iter()
            .map(|(_, capture)| capture)
            .chain(self.open.iter().flat_map(|output| &output.captures))
    }

    /// Whether the run is to stop, because every output has failed or ended for good.
    pub(crate) fn are_over(&self) -> bool {
        let is_over = |output: &OpenOutput| output.sink.halted().is_some_and(|halt| halt.is_final());
        self.on_output_end == OnOutputEnd::Stop && !self.open.is_empty() && self.open.iter().all(is_over)
    }

    /// The handles that rotate files.
    pub(crate) fn rotators(&self) -> Vec<Rotator> {
        let captures = self.open.iter().flat_map(|output| &output.captures);
        captures.filter_map(|capture| capture.rotator.clone()).collect()
    }

    /// The paths of captures in files.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.files().map(|(path, _)| path.clone()).collect()
    }

    /// Hands the captures over to another process: no file is begun here any more.
    pub(crate) fn hand_over(&self) -> Vec<(PathBuf, CaptureState)> {
        self.files().map(|(path, rotator)| (path.clone(), rotator.hand_over())).collect()
    }

    /// The other process does not go on.
    pub(crate) fn take_back(&self) {
        self.files().for_each(|(_, rotator)| rotator.take_back());
    }

    /// Goes on with the captures of another process.
    pub(crate) fn follow(&self, left: Vec<(PathBuf, CaptureState)>) {
        for (path, state) in left {
            if let Some((_, rotator)) = self.files().find(|(own, _)| **own == path) {
                rotator.follow(state);
            }
        }
    }

    fn files(&self) -> impl Iterator<Item = (&PathBuf, &Rotator)> {
        let captures = self.open.iter().flat_map(|output| &output.captures);
        captures.filter_map(|capture| capture.path.as_ref().zip(capture.rotator.as_ref()))
    }

    /// Whether packets are printed.
    pub(crate) fn prints(&self) -> bool {
        self.prints
    }

    /// One line per output that forwards.
    pub(crate) fn forwards(&self) -> &[String] {
        &self.forwards
    }

    /// Streams that have had no reader yet.
    pub(crate) fn without_readers(&self) -> impl Iterator<Item = &sink::forward::Target> {
        self.open.iter().filter_map(|output| output.readers.as_ref()).flat_map(Readers::missing)
    }

    /// The report's file, which has a hidden name until it is complete.
    pub(crate) fn report(&self) -> Option<Arc<HiddenFile>> {
        self.report.clone()
    }
}

/// Removes a report that was never written.
impl Drop for Outputs {
    fn drop(&mut self) {
        if let Some(hidden) = &self.report {
            // If that fails, an empty hidden file remains.
            let _ = hidden.remove_if_empty();
        }
    }
}

/// Creates the report's file, which may replace an earlier report and nothing else.
fn create_report(path: &Path, cx: &OpenContext<'_>) -> Result<HiddenFile, HiddenFileError> {
    if cx.is_upgrade {
        HiddenFile::create_over_beside(path, Report::begins)
    } else {
        HiddenFile::create_over(path, Report::begins)
    }
}
