//! The outputs of a run, opened.

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
        pcap::{Pcap, Rotator, Target},
    },
};

use crate::{
    hooks::Threads,
    output_config::{OutputConfig, SinkTable},
    postrotate::Postrotate,
    privileges,
    sandbox::Kind,
    streams::{Stream, Streams},
    validate::in_table,
};

/// What outputs are opened with.
pub(crate) struct OpenContext<'r> {
    /// What their threads do first.
    pub(crate) threads: &'r Threads,
    /// Set when all files are written that were asked for, and when the run is to end.
    pub(crate) stop: &'r Arc<AtomicBool>,
    /// What outputs name that is no file.
    pub(crate) streams: &'r Streams,
    /// Files rotate by the times of packets.
    pub(crate) by_packets: bool,
    /// Whether readers that are behind are waited for: over capture files nothing is lost by that.
    pub(crate) patient: bool,
}

/// The sinks of a run and what outlives it.
pub(crate) struct Outputs {
    pub(crate) sinks: Vec<Arc<dyn SinkFactory>>,
    /// Those of them that packets go out by.
    outputs: Vec<Arc<dyn SinkFactory>>,
    on_output_end: OnOutputEnd,
    /// Bytes of memory each worker's sinks take.
    pub(crate) memory_per_worker: usize,
    pub(crate) report: Option<Arc<HiddenFile>>,
    pub(crate) json: bool,
    captures: Vec<Capture>,
    pub(crate) postrotate: Option<Postrotate>,
    prints: bool,
    /// What is forwarded where, in words.
    forwards: Vec<String>,
    /// Whether anybody reads what is streamed.
    readers: Vec<Readers>,
}

/// A capture as the closing lines speak of it.
#[derive(Clone, Debug)]
pub(crate) struct Capture {
    /// `None` for standard output.
    pub(crate) path: Option<PathBuf>,
    /// The same: what knows its files.
    pub(crate) rotator: Option<Rotator>,
    /// Whether its packets tell their origin only by the outer headers.
    pub(crate) outer: bool,
    /// Whether it names an interface for each origin.
    pub(crate) pcapng: bool,
}

impl OutputConfig {
    /// Opens everything that is written to, which has been [judged](Self::validate).
    pub(crate) fn open(&self, max_frame: usize, cx: &OpenContext<'_>) -> anyhow::Result<Outputs> {
        for output in self.all() {
            output.files.allow()?;
        }
        self.refuse_terminal()?;
        let commands = self.all().any(|output| output.files.postrotate_command.is_some());
        let postrotate = commands.then(|| Postrotate::start(cx.threads.hook(Kind::Command))).transpose()?;
        let counters = Counters::default();
        let mut outputs = Outputs {
            memory_per_worker: counters.memory_per_worker(),
            sinks: vec![Arc::new(counters)],
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
        for SinkTable { name, selection, output } in &self.tables {
            // A table may have several sinks: the first has its name.
            let mut nth = 0;
            output.add_sinks(&mut outputs, max_frame, cx, |sink| {
                nth += 1;
                sink::selected(in_table(name, nth, sink.name()), selection.clone(), sink)
            })?;
        }
        outputs.outputs = outputs.sinks[1..].to_vec();
        if self.latency {
            outputs.sinks.push(Arc::new(LatencySink::new()));
        }
        Ok(outputs)
    }

    /// Opens what packets are written to, printed to and forwarded to; `dressed` makes of each the sink of
    /// the run.
    fn add_sinks(
        &self,
        outputs: &mut Outputs,
        max_frame: usize,
        cx: &OpenContext<'_>,
        mut dressed: impl FnMut(Arc<dyn SinkFactory>) -> Arc<dyn SinkFactory>,
    ) -> anyhow::Result<()> {
        if let Some((pcap, capture)) = self.capture(cx, outputs.postrotate.as_ref())? {
            outputs.memory_per_worker += pcap.memory_per_worker(max_frame);
            outputs.captures.push(capture);
            outputs.sinks.push(dressed(Arc::new(pcap)));
        }
        if self.print.is_enabled() {
            let print = self.print.open(self.verbose, self.outer, cx.threads)?;
            outputs.memory_per_worker += print.memory_per_worker(max_frame);
            outputs.sinks.push(dressed(Arc::new(print)));
        }
        {
            outputs.forwards.extend(self.forward.announcement());
            // Devices and raw sockets take rights that files are not to be opened with.
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

    /// The capture that is asked for, opened, and what the closing lines say of it.
    fn capture(
        &self,
        cx: &OpenContext<'_>,
        postrotate: Option<&Postrotate>,
    ) -> anyhow::Result<Option<(Pcap, Capture)>> {
        let Some(path) = &self.write else { return Ok(None) };
        let stream = cx.streams.of(path);
        let target = stream.map_or_else(|| Ok(Target::file(path)), |stream| stream.open(path, cx.stop))?;
        let format = self.format.unwrap_or_else(|| format_of(path));
        let mut builder = Pcap::builder(target).format(format.into()).outer(self.outer);
        builder = match self.snap {
            Snap::Bytes(bytes) => builder.snaplen(bytes),
            Snap::Headers => builder.headers_only(true),
        };
        let stop = Arc::clone(cx.stop);
        builder = self.files.apply(builder, cx.by_packets, move || {
            tracing::info!(target: "mirror", "file limit (-W) reached; stopping");
            stop.store(true, Ordering::Relaxed);
        });
        if let (Some(command), Some(postrotate)) = (&self.files.postrotate_command, postrotate) {
            builder = builder.on_file(postrotate.hook(command)).keep_while(postrotate.keeps());
        }
        if self.unbuffered {
            builder = builder.unbuffered(true);
        }
        let pcap = builder.on_thread_start(cx.threads.or_panic(Kind::Writer)).build()?;
        let capture = Capture {
            path: (!matches!(stream, Some(Stream::Stdout))).then(|| path.clone()),
            rotator: pcap.rotator(),
            outer: self.outer,
            pcapng: format == FileFormat::Pcapng,
        };
        Ok(Some((pcap, capture)))
    }
}

impl Outputs {
    pub(crate) fn captures(&self) -> &[Capture] {
        &self.captures
    }

    /// Whether the run is to end, because there is no output left that may ever take a packet.
    pub(crate) fn are_over(&self) -> bool {
        let is_over = |output: &Arc<dyn SinkFactory>| output.halted().is_some_and(|halt| halt.is_final());
        self.on_output_end == OnOutputEnd::Stop
            && !self.outputs.is_empty()
            && self.outputs.iter().all(is_over)
    }

    /// What has files rotated.
    pub(crate) fn rotators(&self) -> Vec<Rotator> {
        self.captures.iter().filter_map(|capture| capture.rotator.clone()).collect()
    }

    /// Whether packets are printed.
    pub(crate) fn prints(&self) -> bool {
        self.prints
    }

    /// What is forwarded where, in words.
    pub(crate) fn forwards(&self) -> &[String] {
        &self.forwards
    }

    /// Streams that nobody has come to read yet.
    pub(crate) fn without_readers(&self) -> impl Iterator<Item = &sink::forward::Target> {
        self.readers.iter().flat_map(Readers::missing)
    }

    /// The report's file, under its hidden name until it is complete.
    pub(crate) fn report(&self) -> Option<Arc<HiddenFile>> {
        self.report.clone()
    }
}

/// A report that was never written is nothing to keep.
impl Drop for Outputs {
    fn drop(&mut self) {
        if let Some(hidden) = &self.report {
            // One that cannot be removed is empty, hidden, and in nobody's way.
            let _ = hidden.remove_if_empty();
        }
    }
}

/// The report's file, which may take the place of an earlier report's and of nothing else.
fn create_report(path: &Path) -> Result<HiddenFile, HiddenFileError> {
    HiddenFile::create_over(path, Report::begins)
}

/// What a name asks for: classic pcap by its ending, in front of that of a compressed file.
fn format_of(path: &Path) -> FileFormat {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let name = name.strip_suffix(b".gz").or_else(|| name.strip_suffix(b".zst")).unwrap_or(name);
    if name.ends_with(b".pcap") { FileFormat::Pcap } else { FileFormat::Pcapng }
}
