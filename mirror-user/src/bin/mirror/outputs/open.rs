//! Opens an output.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use mirror_user::{
    settings::{FileFormat, Snap},
    sink::{
        self, SinkFactory,
        forward::Readers,
        pcap::{FreeSpace, Pcap, PcapBuilder, PcapParts, Target, part_path},
    },
};

use super::{Capture, OpenContext, OpenOutput, PlannedOutput, planned::Kind};
use crate::{
    output_config::OutputConfig, postrotate::Postrotate, privileges, sandbox::ThreadKind, streams::Stream,
    writers::keep_to,
};

impl PlannedOutput<'_> {
    /// Opens it. `postrotate` runs the commands of -z.
    pub(crate) fn open(
        &self,
        max_frame: usize,
        cx: &OpenContext<'_>,
        postrotate: Option<&Postrotate>,
    ) -> anyhow::Result<OpenOutput> {
        let Opened { sink, memory_per_worker, captures, readers } = match self.kind {
            Kind::Capture(path) => self.config.open_capture(path, max_frame, cx, postrotate)?,
            Kind::Print => self.config.open_print(max_frame, cx)?,
            Kind::Forward(targets) => {
                let (forward, vnis) = (&self.config.forward, self.config.vnis());
                // Devices and raw sockets need capabilities that files must not be opened with.
                let open = || forward.open(targets, &vnis, max_frame, cx);
                let forward = privileges::raised(open)?;
                let readers = Some(forward.readers());
                let memory = forward.memory_per_worker(max_frame);
                Opened { readers, ..Opened::new(forward, memory) }
            }
        };
        let sink = match self.selection() {
            Some(selection) => sink::selected(&self.name, selection.clone(), sink),
            None => sink,
        };
        let (name, required) = (self.name.clone(), self.is_required());
        Ok(OpenOutput { name, required, sink, memory_per_worker, captures, readers })
    }
}

/// A sink that was opened, before its own selection.
struct Opened {
    sink: Arc<dyn SinkFactory>,
    memory_per_worker: usize,
    captures: Vec<Capture>,
    readers: Option<Readers>,
}

impl Opened {
    fn new(sink: impl SinkFactory + 'static, memory_per_worker: usize) -> Self {
        Self { sink: Arc::new(sink), memory_per_worker, captures: Vec::new(), readers: None }
    }
}

impl OutputConfig {
    fn open_print(&self, max_frame: usize, cx: &OpenContext<'_>) -> anyhow::Result<Opened> {
        let print = self.print.open(self.verbose, self.outer, cx)?;
        let memory = print.memory_per_worker(max_frame);
        Ok(Opened::new(print, memory))
    }

    /// Opens a capture, in as many parts as it has writers.
    fn open_capture(
        &self,
        path: &Path,
        max_frame: usize,
        cx: &OpenContext<'_>,
        postrotate: Option<&Postrotate>,
    ) -> anyhow::Result<Opened> {
        if let Some(stream) = cx.streams.of(path) {
            let target = stream.open(path, cx.stop)?;
            let (pcap, capture) = self.part(target, path, &FreeSpace::default(), postrotate, cx)?;
            let path = (!matches!(stream, Stream::Stdout)).then(|| path.to_owned());
            let memory = pcap.memory_per_worker(max_frame);
            return Ok(Opened { captures: vec![Capture { path, ..capture }], ..Opened::new(pcap, memory) });
        }
        let writers = cx.writers.count(self.files.writers);
        self.files.allow(writers)?;
        cx.writers.warn_if_fewer(self.files.writers);
        let free_space = FreeSpace::default();
        let part = |part| {
            let path = part_path(path, part, writers);
            self.part(Target::file(&path), &path, &free_space, postrotate, cx)
        };
        let parts = (0..writers).map(part).collect::<anyhow::Result<Vec<_>>>()?;
        let (parts, captures): (Vec<_>, _) = parts.into_iter().unzip();
        let opened = match <[Pcap; 1]>::try_from(parts) {
            Ok([only]) => {
                let memory = only.memory_per_worker(max_frame);
                Opened::new(only, memory)
            }
            Err(parts) => {
                let parts = PcapParts::new(parts);
                let memory = parts.memory_per_worker(max_frame);
                Opened::new(parts, memory)
            }
        };
        Ok(Opened { captures, ..opened })
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
        builder = cx.sessions.iter().cloned().fold(builder, PcapBuilder::sessions);
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
        builder = builder.follows(cx.follows.iter().any(|other| other == path));
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

/// The format that a file name implies: classic pcap for .pcap, .pcap.gz and .pcap.zst, else pcapng.
fn format_of(path: &Path) -> FileFormat {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let name = name.strip_suffix(b".gz").or_else(|| name.strip_suffix(b".zst")).unwrap_or(name);
    if name.ends_with(b".pcap") { FileFormat::Pcap } else { FileFormat::Pcapng }
}
