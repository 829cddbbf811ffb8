//! The open outputs of a run.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use mirror_user::{
    Report,
    hidden_file::{HiddenFile, HiddenFileError},
    settings::{FileFormat, OnOutputEnd, Snap},
    sink::{
        self, Counters, LatencySink, SinkFactory,
        forward::Readers,
        pcap::{FreeSpace, Pcap, PcapParts, Rotator, Target, part_path},
    },
};

use crate::{
    hooks::Threads,
    output_config::{OutputConfig, SinkTable},
    postrotate::Postrotate,
    privileges,
    sandbox::ThreadKind,
    streams::{Stream, Streams},
    validate::in_table,
    writers::{WriterPlan, keep_to},
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
    /// Whether slow readers are waited for: over capture files, nothing is lost by that.
    pub(crate) patient: bool,
}

/// The sinks of a run, and what outlives them.
pub(crate) struct Outputs {
    pub(crate) sinks: Vec<Arc<dyn SinkFactory>>,
    /// Which of them the run is unhealthy without.
    pub(crate) required: Vec<bool>,
    /// Those of them that write, print or forward packets.
    outputs: Vec<Arc<dyn SinkFactory>>,
    on_output_end: OnOutputEnd,
    /// Memory that the sinks of each worker take, in bytes.
    pub(crate) memory_per_worker: usize,
    pub(crate) report: Option<Arc<HiddenFile>>,
    pub(crate) json: bool,
    captures: Vec<Capture>,
    pub(crate) postrotate: Option<Postrotate>,
    prints: bool,
    /// One line per output that forwards.
    forwards: Vec<String>,
    /// Whether streams have readers.
    readers: Vec<Readers>,
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
        for output in self.all() {
            output.files.allow(cx.writers.count(output.files.writers))?;
        }
        self.refuse_terminal()?;
        let commands = self.all().any(|output| output.files.postrotate_command.is_some());
        let postrotate =
            commands.then(|| Postrotate::start(cx.threads.hook(ThreadKind::Command))).transpose()?;
        let counters = Counters::default();
        let mut outputs = Outputs {
            memory_per_worker: counters.memory_per_worker(),
            sinks: vec![Arc::new(counters)],
            required: Vec::new(),
            outputs: Vec::new(),
            on_output_end: self.on_output_end,
            report: self.report.as_deref().map(create_report).transpose()?.map(Arc::new),
            json: self.json,
            captures: Vec::new(),
            postrotate,
            prints: self.prints(),
            forwards: Vec::new(),
            readers: Vec::new(),
        };
        self.add_sinks(&mut outputs, max_frame, cx, |sink| sink)?;
        outputs.required.resize(outputs.sinks.len(), false);
        for SinkTable { name, required, selection, output } in &self.tables {
            // A table may have several sinks: the first has its name.
            let mut nth = 0;
            output.add_sinks(&mut outputs, max_frame, cx, |sink| {
                nth += 1;
                sink::selected(in_table(name, nth, sink.name()), selection.clone(), sink)
            })?;
            outputs.required.resize(outputs.sinks.len(), *required);
        }
        outputs.outputs = outputs.sinks[1..].to_vec();
        if self.latency {
            outputs.sinks.push(Arc::new(LatencySink::new()));
        }
        Ok(outputs)
    }

    /// Opens the outputs of these flags; `dressed` turns each into a sink of the run.
    fn add_sinks(
        &self,
        outputs: &mut Outputs,
        max_frame: usize,
        cx: &OpenContext<'_>,
        mut dressed: impl FnMut(Arc<dyn SinkFactory>) -> Arc<dyn SinkFactory>,
    ) -> anyhow::Result<()> {
        if let Some(path) = &self.write {
            let capture = self.capture(path, outputs, max_frame, cx)?;
            outputs.sinks.push(dressed(capture));
        }
        if self.print.is_enabled() {
            let print = self.print.open(self.verbose, self.outer, cx.threads)?;
            outputs.memory_per_worker += print.memory_per_worker(max_frame);
            outputs.sinks.push(dressed(Arc::new(print)));
        }
        {
            outputs.forwards.extend(self.forward.announcement());
            // Devices and raw sockets need capabilities that files must not be opened with.
            let forwards =
                privileges::raised(|| self.forward.open(&self.vnis, max_frame, cx.patient, cx.threads))?;
            for forward in forwards {
                outputs.memory_per_worker += forward.memory_per_worker(max_frame);
                outputs.readers.push(forward.readers());
                outputs.sinks.push(dressed(Arc::new(forward)));
            }
        }
        Ok(())
    }

    /// Opens the capture of these flags, in as many parts as it has writers.
    fn capture(
        &self,
        path: &Path,
        outputs: &mut Outputs,
        max_frame: usize,
        cx: &OpenContext<'_>,
    ) -> anyhow::Result<Arc<dyn SinkFactory>> {
        if let Some(stream) = cx.streams.of(path) {
            let (pcap, capture) = self.part(
                stream.open(path, cx.stop)?,
                path,
                &FreeSpace::default(),
                outputs.postrotate.as_ref(),
                cx,
            )?;
            let path = (!matches!(stream, Stream::Stdout)).then(|| path.to_owned());
            outputs.memory_per_worker += pcap.memory_per_worker(max_frame);
            outputs.captures.push(Capture { path, ..capture });
            return Ok(Arc::new(pcap));
        }
        let writers = cx.writers.count(self.files.writers);
        cx.writers.warn_if_fewer(self.files.writers);
        let (mut parts, free_space) = (Vec::with_capacity(writers), FreeSpace::default());
        for part in 0..writers {
            let path = part_path(path, part, writers);
            let (pcap, capture) =
                self.part(Target::file(&path), &path, &free_space, outputs.postrotate.as_ref(), cx)?;
            outputs.captures.push(capture);
            parts.push(pcap);
        }
        Ok(match <[Pcap; 1]>::try_from(parts) {
            Ok([only]) => {
                outputs.memory_per_worker += only.memory_per_worker(max_frame);
                Arc::new(only)
            }
            Err(parts) => {
                let parts = PcapParts::new(parts);
                outputs.memory_per_worker += parts.memory_per_worker(max_frame);
                Arc::new(parts)
            }
        })
    }

    /// A part of the capture, or all of it, with its data for the closing lines.
    fn part(
        &self,
        target: Target,
        path: &Path,
        free_space: &FreeSpace,
        postrotate: Option<&Postrotate>,
        cx: &OpenContext<'_>,
    ) -> anyhow::Result<(Pcap, Capture)> {
        let format = self.format.unwrap_or_else(|| format_of(path));
        let mut builder = Pcap::builder(target).format(format.into()).outer(self.outer);
        builder = match self.snap {
            Snap::Bytes(bytes) => builder.snaplen(bytes),
            Snap::Headers => builder.headers_only(true),
        };
        let stop = Arc::clone(cx.stop);
        builder = self.files.apply(builder, cx.by_packets, move || {
            // Each part has its last file.
            if !stop.swap(true, Ordering::Relaxed) {
                tracing::info!(target: "mirror", "file limit (-W) reached; stopping");
            }
        });
        if let (Some(command), Some(postrotate)) = (&self.files.postrotate_command, postrotate) {
            builder = builder.on_file(postrotate.hook(command)).keep_while(postrotate.keeps());
        }
        builder = builder.min_free_with(free_space);
        if self.unbuffered {
            builder = builder.unbuffered(true);
        }
        let confine = cx.threads.or_panic(ThreadKind::Writer);
        let cpus = cx.writers.cpus(cx.writers.count(self.files.writers));
        let pcap = builder
            .on_thread_start(move || {
                // Before system calls are filtered.
                keep_to(&cpus);
                confine();
            })
            .build()?;
        let capture = Capture {
            path: Some(path.to_owned()),
            rotator: pcap.rotator(),
            outer: self.outer,
            pcapng: format == FileFormat::Pcapng,
        };
        Ok((pcap, capture))
    }
}

impl Outputs {
    pub(crate) fn captures(&self) -> &[Capture] {
        &self.captures
    }

    /// Whether the run is to stop, because every output has failed or ended for good.
    pub(crate) fn are_over(&self) -> bool {
        let is_over = |output: &Arc<dyn SinkFactory>| output.halted().is_some_and(|halt| halt.is_final());
        self.on_output_end == OnOutputEnd::Stop
            && !self.outputs.is_empty()
            && self.outputs.iter().all(is_over)
    }

    /// The handles that rotate files.
    pub(crate) fn rotators(&self) -> Vec<Rotator> {
        self.captures.iter().filter_map(|capture| capture.rotator.clone()).collect()
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
        self.readers.iter().flat_map(Readers::missing)
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
fn create_report(path: &Path) -> Result<HiddenFile, HiddenFileError> {
    HiddenFile::create_over(path, Report::begins)
}

/// The format that a file name implies: classic pcap for .pcap, .pcap.gz and .pcap.zst, else pcapng.
fn format_of(path: &Path) -> FileFormat {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let name = name.strip_suffix(b".gz").or_else(|| name.strip_suffix(b".zst")).unwrap_or(name);
    if name.ends_with(b".pcap") { FileFormat::Pcap } else { FileFormat::Pcapng }
}
