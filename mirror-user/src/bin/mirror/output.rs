//! What `ingest` and `replay` share: sinks, selection, and where the account goes.

use std::{
    io::{self, IsTerminal, Write},
    iter,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context as _;
use clap::{ArgGroup, Args, ValueEnum};
use mirror_user::{
    Report, escape,
    hidden_file::{self, HiddenFile, HiddenFileError},
    select::{Allow, Filter, Selection},
    sink::{
        self, Counters, LatencySink, SinkFactory,
        pcap::{Format, Pcap, Rotator, Target},
    },
};

use crate::{
    FAILED, Usage, closing,
    config::SinkTable,
    files::FilesArgs,
    lists, places,
    postrotate::Postrotate,
    print::PrintArgs,
    privileges::Threads,
    sandbox::{Kind, Places, SandboxArg},
    streams::{self, Stream, Streams},
    terminal,
};
use crate::{forward::ForwardArgs, privileges};
use mirror_user::sink::forward::Readers;

/// Output and selection, the same for live ingest and for capture files.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("packets").args(["write", "print"]).multiple(true))]
pub(crate) struct OutputArgs {
    /// Take settings from a TOML file, whose keys are the names of the flags; see `mirror config --help`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// UDP destination ports of the tunnel, at most four on an interface
    #[arg(long, help_heading = "Selection", value_name = "LIST", default_value = "4789", value_parser = lists::ports)]
    port: lists::Ports,
    /// Let in only these VNIs
    #[arg(long, help_heading = "Selection", value_name = "LIST", value_parser = lists::vnis)]
    vni: Option<lists::Vnis>,
    /// Let in only these outer sources: addresses or prefixes
    #[arg(long, help_heading = "Selection", value_name = "CIDR[,CIDR…]", value_parser = lists::sources)]
    source: Option<lists::Sources>,
    /// Do not reassemble outer packets that were fragmented on their way: on an interface they go to the host, from a file
    /// they are rejected
    #[arg(long, help_heading = "Selection")]
    pub(crate) no_reassemble: bool,
    /// Let in only packets that match as they came, outer headers included: an expression as below
    #[arg(long, help_heading = "Selection", value_name = "EXPR")]
    outer_filter: Option<String>,
    /// Let in only inner packets that match: an expression as tcpdump has them, see pcap-filter(7)
    #[arg(help_heading = "Selection", value_name = "EXPR")]
    expression: Vec<String>,
    /// Write the inner packets to a capture file, - for standard output; to a named pipe or a device as to standard output
    #[arg(short = 'w', help_heading = "Output", value_name = "FILE")]
    write: Option<PathBuf>,
    /// Format of the capture [default: pcap where the name ends in .pcap, .pcap.gz or .pcap.zst, else pcapng]
    #[arg(long, help_heading = "Output", value_enum, requires = "write")]
    format: Option<FileFormat>,
    /// Write the packets as they came, outer headers included; with --print, a line for the outer headers before each
    #[arg(long, help_heading = "Output", requires = "packets")]
    outer: bool,
    /// Write each packet within 100 ms instead of 1 s; -w - always does
    #[arg(short = 'U', help_heading = "Output", requires = "write")]
    unbuffered: bool,
    /// Write at most this many bytes of a packet; 0 is the most, 262144; `headers` is all but the payload
    #[arg(
        short = 's',
        long,
        help_heading = "Output",
        value_name = "SNAPLEN|headers",
        default_value = "0",
        value_parser = lists::snap,
        requires = "write"
    )]
    snap: lists::Snap,
    #[command(flatten)]
    files: FilesArgs,
    #[command(flatten)]
    print: PrintArgs,
    #[command(flatten)]
    forward: ForwardArgs,
    /// Print the report to standard output at the end, as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Write the report to a file at the end, as JSON, in the place of an earlier report that may be there
    #[arg(long, help_heading = "Output", value_name = "FILE")]
    report: Option<PathBuf>,
    /// Measure the time from receive time to sink
    #[arg(long, help_heading = "Output")]
    latency: bool,
    /// Where root runs this, change to this user before any file is created
    #[arg(short = 'Z', long, help_heading = "Run", value_name = "USER")]
    pub(crate) relinquish_privileges: Option<String>,
    /// Confine threads and commands, beside giving up capabilities: files are written only where outputs are, TCP goes only
    /// where packets are forwarded to, and threads that handle packets make only the system calls they need
    #[arg(long, help_heading = "Run", value_enum, default_value_t = SandboxArg::Auto)]
    pub(crate) sandbox: SandboxArg,
    /// Let commands of -z write beneath this directory, too; may be given several times
    #[arg(long, help_heading = "Run", value_name = "DIR")]
    command_write: Vec<PathBuf>,
    /// Let commands of -z connect to these TCP ports
    #[arg(long, help_heading = "Run", value_name = "LIST", value_parser = lists::ports)]
    command_connect: Option<lists::Ports>,
    /// When every output has ended, because its reader has gone or it cannot be written
    #[arg(long, help_heading = "Run", value_enum, default_value_t = OnOutputEnd::Stop)]
    on_output_end: OnOutputEnd,
    /// End after exactly this many inner packets
    #[arg(short = 'c', help_heading = "Run", value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Say nothing but errors and the closing lines
    #[arg(short = 'q', help_heading = "Run")]
    pub(crate) quiet: bool,
    /// Say what is done; twice: in detail. With --print, print more of each packet instead
    #[arg(short = 'v', help_heading = "Run", action = clap::ArgAction::Count)]
    verbose: u8,
    /// Further sinks, each with a selection of its own: from a configuration file only.
    #[arg(skip)]
    pub(crate) tables: Vec<SinkTable>,
    /// Taken for tcpdump's sake, as are -p, -K and -l, and without effect
    #[arg(short = 'n', help_heading = "Run", short_aliases = ['p', 'K', 'l'], action = clap::ArgAction::Count)]
    _tcpdump: u8,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum OnOutputEnd {
    /// End the run, with exit code 1
    Stop,
    /// Go on counting
    Continue,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum FileFormat {
    /// One interface per origin, nanosecond times, statistics at the end
    Pcapng,
    /// Classic pcap, nanosecond times
    Pcap,
    /// Classic pcap, microsecond times
    PcapUs,
}

impl FileFormat {
    /// What a name asks for: classic pcap by its ending, in front of that of a compressed file.
    fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let name = name.strip_suffix(b".gz").or_else(|| name.strip_suffix(b".zst")).unwrap_or(name);
        if name.ends_with(b".pcap") { Self::Pcap } else { Self::Pcapng }
    }
}

/// What outputs are opened with.
pub(crate) struct Opening<'r> {
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
    report: Option<Arc<HiddenFile>>,
    json: bool,
    captures: Vec<Capture>,
    postrotate: Option<Postrotate>,
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

impl OutputArgs {
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.port.0.clone()
    }

    /// Which packets are let in.
    pub(crate) fn selection(&self) -> Result<Selection, Usage> {
        let allow = Allow::all()
            .vnis(self.vni.iter().flat_map(|list| list.0.iter().copied()))
            .sources(self.source.iter().flat_map(|list| list.0.iter().copied()));
        let compile =
            |expression: &str| Filter::compile(expression).map_err(|error| Usage(error.to_string()));
        let mut selection = Selection::all().allow(allow);
        if let Some(expression) = &self.outer_filter {
            selection = selection.outer_filter(compile(expression)?);
        }
        if !self.expression.is_empty() {
            selection = selection.filter(compile(&self.expression.join(" "))?);
        }
        Ok(selection)
    }

    /// The words of the filter expression.
    pub(crate) fn expression(&self) -> &[String] {
        &self.expression
    }

    /// The directories in which files will be completed.
    pub(crate) fn directories(&self) -> impl Iterator<Item = &Path> {
        let captures = self.writes().filter(|path| streams::is_file(path));
        captures.chain(self.report.as_deref()).map(hidden_file::directory_of)
    }

    /// What the run writes and where, and what its commands may.
    ///
    /// # Errors
    ///
    /// What is said of commands contradicts the rest, or names no directory.
    pub(crate) fn places(&self) -> anyhow::Result<Places> {
        let commands = self.all().any(|output| output.files.postrotate_command.is_some());
        for (flag, given) in [
            ("--command-write", !self.command_write.is_empty()),
            ("--command-connect", self.command_connect.is_some()),
        ] {
            if given && !commands {
                return Err(
                    Usage(format!("{flag} is for commands, and there is none; give one with -z")).into()
                );
            }
        }
        for directory in &self.command_write {
            let found = directory
                .metadata()
                .with_context(|| format!("--command-write {}", escape::path(directory)))?;
            if !found.is_dir() {
                return Err(
                    Usage(format!("--command-write {}: no directory", escape::path(directory))).into()
                );
            }
        }
        Ok(Places {
            outputs: self.writes().filter(|path| !streams::is_stdout(path)).map(Path::to_owned).collect(),
            sockets: self.all().flat_map(|output| output.forward.sockets()).map(Path::to_owned).collect(),
            report: self.report.clone(),
            connect: self.all().flat_map(|output| output.forward.connects()).collect(),
            restored: Vec::new(),
            commands,
            command_write: self.command_write.clone(),
            command_connect: self.command_connect.iter().flat_map(|list| list.0.iter().copied()).collect(),
        })
    }

    /// How much of itself the run is to log.
    pub(crate) fn log_verbosity(&self) -> u8 {
        if self.print.is_asked_for() { 0 } else { self.verbose }
    }

    /// Whether any packets are printed, as flags and tables have it.
    fn prints(&self) -> bool {
        self.all().any(|output| output.print.is_asked_for())
    }

    /// Whether packets are printed where a live line would tear them.
    pub(crate) fn prints_to_terminal(&self) -> bool {
        self.prints() && io::stdout().is_terminal()
    }

    /// What is said of outputs by flags, and by each table.
    fn all(&self) -> impl Iterator<Item = &Self> {
        iter::once(self).chain(self.tables.iter().map(|table| &table.output))
    }

    /// Whether packets are written, printed or forwarded by these flags themselves; and to where first.
    pub(crate) fn first_output(&self) -> Option<String> {
        let write = self.write.as_ref().map(|path| escape::path(path).to_string());
        let write = write.or_else(|| self.print.is_asked_for().then(|| "print".to_owned()));
        let write = write.or_else(|| self.forward.targets().next());
        write
    }

    /// How many files its outputs have open at once, beside those of `--per-origin` and of readers.
    pub(crate) fn files_needed(&self) -> u64 {
        /// A file, and its directory.
        const FILE: u64 = 2;
        /// A device with its program and link, or sockets with a UMEM.
        const TARGET: u64 = 5;
        let files = self.writes().count() + usize::from(self.report.is_some());
        let prints = self.all().filter(|output| output.print.is_asked_for()).count();
        let targets = self.all().map(|output| output.forward.targets().count()).sum::<usize>();
        files as u64 * FILE + prints as u64 + targets as u64 * TARGET
    }

    /// Where captures are written to, from flags and tables.
    pub(crate) fn writes(&self) -> impl Iterator<Item = &Path> {
        self.all().filter_map(|output| output.write.as_deref())
    }

    /// What is wrong with it on any host: the one judge of flags, of a configuration file, and of a run before it opens
    /// anything. Of the file system it asks what paths stand for, and have in common. Gives those of outputs that are no files.
    pub(crate) fn judge(&self) -> anyhow::Result<Streams> {
        if self.quiet && self.log_verbosity() > 0 {
            let message = "-q cannot be used with -v; with --print it can, where -v is about packets";
            return Err(Usage(message.into()).into());
        }
        let streams = Streams::look(self.writes())?;
        for output in self.all() {
            let stream = output.write.as_deref().filter(|path| streams.of(path).is_some());
            output.files.check(stream)?;
            if let Some(path) = &output.write {
                let target = if stream.is_some() { Target::stdout() } else { Target::file(path) };
                output.files.apply(Pcap::builder(target), false, || {}).validate()?;
            }
            output.forward.check()?;
        }
        self.share_stdout(streams.to_stdout())?;
        if self.report.as_deref().is_some_and(streams::is_stdout) {
            let message = "--report takes a file; --json prints the report to standard output";
            return Err(Usage(message.into()).into());
        }
        self.share_files(&streams)?;
        self.share_names()?;
        Ok(streams)
    }

    /// Each file is for one output.
    fn share_files(&self, streams: &Streams) -> Result<(), Usage> {
        let captures = self.all().filter_map(|output| Some((output, output.write.as_deref()?)));
        let has_place = |path| matches!(streams.of(path), None | Some(Stream::Special));
        let captures = captures.filter(|(_, path)| has_place(path)).map(|(output, path)| places::Output {
            flag: "-w",
            path,
            is_series: output.files.are_numbered(),
        });
        let report =
            self.report.iter().map(|path| places::Output { flag: "--report", path, is_series: false });
        let files = captures.chain(report);
        let files =
            files.chain(self.all().flat_map(|output| output.forward.sockets()).map(|path| places::Output {
                flag: "--forward pcap-over-ip:listen=",
                path,
                is_series: false,
            }));
        places::distinct(&files.collect::<Vec<_>>())
    }

    /// The names that its sinks have in the report.
    fn sink_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        names.extend(self.write.is_some().then(|| "pcap".to_owned()));
        names.extend(self.print.is_asked_for().then(|| "print".to_owned()));
        names.extend(self.forward.sink_names());
        names
    }

    /// Each sink has a name of its own.
    fn share_names(&self) -> Result<(), Usage> {
        let mut names = vec!["counters".to_owned()];
        names.extend(self.sink_names());
        for SinkTable { name, output, .. } in &self.tables {
            let own = output.sink_names();
            names.extend(own.iter().enumerate().map(|(nth, sink)| in_table(name, nth + 1, sink)));
        }
        match names.iter().enumerate().find(|(nth, name)| names[..*nth].contains(name)) {
            Some((_, name)) => {
                Err(Usage(format!("there are two sinks {}; one is enough", escape::line(name))))
            }
            None => Ok(()),
        }
    }

    /// Opens everything that is written to, which has been [judged](Self::judge).
    pub(crate) fn open(&self, max_frame: usize, opening: &Opening<'_>) -> anyhow::Result<Outputs> {
        for output in self.all() {
            output.files.allow()?;
        }
        self.refuse_terminal()?;
        let commands = self.all().any(|output| output.files.postrotate_command.is_some());
        let postrotate =
            commands.then(|| Postrotate::start(opening.threads.hook(Kind::Command))).transpose()?;
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
        self.add_sinks(&mut outputs, max_frame, opening, |sink| sink)?;
        for SinkTable { name, selection, output } in &self.tables {
            // A table may have several sinks: the first has its name.
            let mut nth = 0;
            output.add_sinks(&mut outputs, max_frame, opening, |sink| {
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
}

impl OutputArgs {
    /// Standard output carries one thing.
    fn share_stdout(&self, writes: usize) -> Result<(), Usage> {
        let prints = self.all().filter(|output| output.print.is_asked_for()).count();
        let (message, mend) = match (writes, prints, self.json) {
            (0, 0, _) | (0, 1, false) => return Ok(()),
            (1, 0, false) => return Ok(()),
            (1, 0, true) => ("-w - and --json both want standard output", "use --report FILE for the report"),
            (0, 1, true) => {
                ("--print and --json both want standard output", "use --report FILE for the report")
            }
            (1, 1, _) => ("-w - and --print both want standard output", "write the capture to a file"),
            _ => ("two sinks both want standard output", "write the captures to files, and print once"),
        };
        Err(Usage(format!("{message}; {mend}")))
    }

    /// What is for a program is not for a terminal.
    fn refuse_terminal(&self) -> Result<(), Usage> {
        if self.writes().any(streams::is_stdout) && io::stdout().is_terminal() {
            let message = "-w - would write a capture to the terminal; pipe it: `… -w - | tshark -r -`";
            return Err(Usage(message.to_owned()));
        }
        Ok(())
    }

    /// Opens what packets are written to, printed to and forwarded to; `dressed` makes of each the sink of the run.
    fn add_sinks(
        &self,
        outputs: &mut Outputs,
        max_frame: usize,
        opening: &Opening<'_>,
        mut dressed: impl FnMut(Arc<dyn SinkFactory>) -> Arc<dyn SinkFactory>,
    ) -> anyhow::Result<()> {
        if let Some((pcap, capture)) = self.capture(opening, outputs.postrotate.as_ref())? {
            outputs.memory_per_worker += pcap.memory_per_worker(max_frame);
            outputs.captures.push(capture);
            outputs.sinks.push(dressed(Arc::new(pcap)));
        }
        if self.print.is_asked_for() {
            let print = self.print.open(self.verbose, self.outer, opening.threads)?;
            outputs.memory_per_worker += print.memory_per_worker(max_frame);
            outputs.sinks.push(dressed(Arc::new(print)));
        }
        {
            outputs.forwards.extend(self.forward.announcement());
            let vnis = self.vni.as_ref().map_or(&[][..], |list| &list.0);
            // Devices and raw sockets take rights that files are not to be opened with.
            let forwards =
                privileges::raised(|| self.forward.open(vnis, max_frame, opening.patient, opening.threads))?;
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
        opening: &Opening<'_>,
        postrotate: Option<&Postrotate>,
    ) -> anyhow::Result<Option<(Pcap, Capture)>> {
        let Some(path) = &self.write else { return Ok(None) };
        let stream = opening.streams.of(path);
        let target =
            stream.map_or_else(|| Ok(Target::file(path)), |stream| stream.open(path, opening.stop))?;
        let format = self.format.unwrap_or_else(|| FileFormat::of(path));
        let mut builder = Pcap::builder(target)
            .format(match format {
                FileFormat::Pcapng => Format::Pcapng,
                FileFormat::Pcap => Format::Pcap,
                FileFormat::PcapUs => Format::PcapMicros,
            })
            .outer(self.outer);
        builder = match self.snap {
            lists::Snap::Bytes(bytes) => builder.snaplen(bytes),
            lists::Snap::Headers => builder.headers_only(true),
        };
        let stop = Arc::clone(opening.stop);
        builder = self.files.apply(builder, opening.by_packets, move || {
            tracing::info!(target: "mirror", "as many files as -W says: the run ends");
            stop.store(true, Ordering::Relaxed);
        });
        if let (Some(command), Some(postrotate)) = (&self.files.postrotate_command, postrotate) {
            builder = builder.on_file(postrotate.hook(command)).keep_while(postrotate.keeps());
        }
        if self.unbuffered {
            builder = builder.unbuffered(true);
        }
        let pcap = builder.on_thread_start(opening.threads.or_panic(Kind::Writer)).build()?;
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

    /// Writes the report where it was asked for; one place that fails keeps none of the others from it.
    fn deliver(&self, report: &Report) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec_pretty(report).context("report")?;
        text.push(b'\n');
        let file = self.report.as_ref().map_or(Ok(()), |hidden| {
            let written = hidden.file().write_all(&text).and_then(|()| hidden.complete());
            written.with_context(|| format!("{}", escape::path(hidden.path())))
        });
        if self.json {
            io::stdout().lock().write_all(&text).context("standard output")?;
        }
        file
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

/// What is said of [that](Outputs::are_over).
pub(crate) const ALL_ENDED: &str =
    "mirror: every output has ended, and so does the run (`--on-output-end continue` goes on counting)";

/// Delivers the report, tells how a run went, and gives the exit code it deserves.
pub(crate) fn conclude(outputs: &Outputs, report: &Report) -> anyhow::Result<ExitCode> {
    let delivered = outputs.deliver(report);
    terminal::clear_live_line();
    terminal::say!("{}", closing::lines(report, outputs.captures()).trim_end());
    let commands_succeeded = outputs.postrotate.as_ref().is_none_or(Postrotate::finish);
    delivered?;
    Ok(if report.is_clean() && commands_succeeded { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// The report's file, which may take the place of an earlier report's and of nothing else.
fn create_report(path: &Path) -> Result<HiddenFile, HiddenFileError> {
    HiddenFile::create_over(path, Report::begins)
}

/// The name of a table's sink: its first has the table's.
fn in_table(table: &str, nth: usize, sink: &str) -> String {
    if nth == 1 { table.to_owned() } else { format!("{table} {sink}") }
}
