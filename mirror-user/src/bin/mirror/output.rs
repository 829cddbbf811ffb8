//! What `ingest` and `replay` share of their flags: selection, outputs, and how a run goes.

use std::{
    io::{self, IsTerminal as _},
    iter,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{ArgGroup, Args, ValueEnum};
use mirror_user::{
    escape, hidden_file,
    select::{Allow, Filter, Selection},
};

use crate::{
    Usage,
    config::SinkTable,
    files::FilesArgs,
    forward::ForwardArgs,
    lists,
    print::PrintArgs,
    sandbox::{Places, SandboxArg},
    streams,
};

/// Output and selection, the same for live ingest and for capture files.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("packets").args(["write", "print"]).multiple(true))]
pub(crate) struct OutputArgs {
    /// Take settings from a TOML file, whose keys are the names of the flags; see `mirror config --help`
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// UDP destination ports of the tunnel, at most four on an interface
    #[arg(long, help_heading = "Selection", value_name = "LIST", default_value = "4789", value_parser = lists::ports)]
    pub(crate) port: lists::Ports,
    /// Let in only these VNIs
    #[arg(long, help_heading = "Selection", value_name = "LIST", value_parser = lists::vnis)]
    pub(crate) vni: Option<lists::Vnis>,
    /// Let in only these outer sources: addresses or prefixes
    #[arg(long, help_heading = "Selection", value_name = "CIDR[,CIDR…]", value_parser = lists::sources)]
    pub(crate) source: Option<lists::Sources>,
    /// Do not reassemble outer packets that were fragmented on their way: on an interface they go to the host, from a file
    /// they are rejected
    #[arg(long, help_heading = "Selection")]
    pub(crate) no_reassemble: bool,
    /// Let in only packets that match as they came, outer headers included: an expression as below
    #[arg(long, help_heading = "Selection", value_name = "EXPR")]
    pub(crate) outer_filter: Option<String>,
    /// Let in only inner packets that match: an expression as tcpdump has them, see pcap-filter(7)
    #[arg(help_heading = "Selection", value_name = "EXPR")]
    pub(crate) expression: Vec<String>,
    /// Write the inner packets to a capture file, - for standard output; to a named pipe or a device as to standard output
    #[arg(short = 'w', help_heading = "Output", value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
    /// Format of the capture [default: pcap where the name ends in .pcap, .pcap.gz or .pcap.zst, else pcapng]
    #[arg(long, help_heading = "Output", value_enum, requires = "write")]
    pub(crate) format: Option<FileFormat>,
    /// Write the packets as they came, outer headers included; with --print, a line for the outer headers before each
    #[arg(long, help_heading = "Output", requires = "packets")]
    pub(crate) outer: bool,
    /// Write each packet within 100 ms instead of 1 s; -w - always does
    #[arg(short = 'U', help_heading = "Output", requires = "write")]
    pub(crate) unbuffered: bool,
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
    pub(crate) snap: lists::Snap,
    #[command(flatten)]
    pub(crate) files: FilesArgs,
    #[command(flatten)]
    pub(crate) print: PrintArgs,
    #[command(flatten)]
    pub(crate) forward: ForwardArgs,
    /// Print the report to standard output at the end, as JSON
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// Write the report to a file at the end, as JSON, in the place of an earlier report that may be there
    #[arg(long, help_heading = "Output", value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Measure the time from receive time to sink
    #[arg(long, help_heading = "Output")]
    pub(crate) latency: bool,
    /// Where root runs this, change to this user before any file is created
    #[arg(short = 'Z', long, help_heading = "Run", value_name = "USER")]
    pub(crate) relinquish_privileges: Option<String>,
    /// Confine threads and commands, beside giving up capabilities: files are written only where outputs are, TCP goes only
    /// where packets are forwarded to, and threads that handle packets make only the system calls they need
    #[arg(long, help_heading = "Run", value_enum, default_value_t = SandboxArg::Auto)]
    pub(crate) sandbox: SandboxArg,
    /// Let commands of -z write beneath this directory, too; may be given several times
    #[arg(long, help_heading = "Run", value_name = "DIR")]
    pub(crate) command_write: Vec<PathBuf>,
    /// Let commands of -z connect to these TCP ports
    #[arg(long, help_heading = "Run", value_name = "LIST", value_parser = lists::ports)]
    pub(crate) command_connect: Option<lists::Ports>,
    /// When every output has ended, because its reader has gone or it cannot be written
    #[arg(long, help_heading = "Run", value_enum, default_value_t = OnOutputEnd::Stop)]
    pub(crate) on_output_end: OnOutputEnd,
    /// End after exactly this many inner packets
    #[arg(short = 'c', help_heading = "Run", value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Say nothing but errors and the closing lines
    #[arg(short = 'q', help_heading = "Run")]
    pub(crate) quiet: bool,
    /// Say what is done; twice: in detail. With --print, print more of each packet instead
    #[arg(short = 'v', help_heading = "Run", action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Further sinks, each with a selection of its own: from a configuration file only.
    #[arg(skip)]
    pub(crate) tables: Vec<SinkTable>,
    /// Taken for tcpdump's sake, as are -p, -K and -l, and without effect
    #[arg(short = 'n', help_heading = "Run", short_aliases = ['p', 'K', 'l'], action = clap::ArgAction::Count)]
    _tcpdump: u8,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum OnOutputEnd {
    /// End the run, with exit code 1
    Stop,
    /// Go on counting
    Continue,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum FileFormat {
    /// One interface per origin, nanosecond times, statistics at the end
    Pcapng,
    /// Classic pcap, nanosecond times
    Pcap,
    /// Classic pcap, microsecond times
    PcapUs,
}

impl FileFormat {
    /// What a name asks for: classic pcap by its ending, in front of that of a compressed file.
    pub(crate) fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let name = name.strip_suffix(b".gz").or_else(|| name.strip_suffix(b".zst")).unwrap_or(name);
        if name.ends_with(b".pcap") { Self::Pcap } else { Self::Pcapng }
    }
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
    pub(crate) fn prints(&self) -> bool {
        self.all().any(|output| output.print.is_asked_for())
    }

    /// Whether packets are printed where a live line would tear them.
    pub(crate) fn prints_to_terminal(&self) -> bool {
        self.prints() && io::stdout().is_terminal()
    }

    /// What is said of outputs by flags, and by each table.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Self> {
        iter::once(self).chain(self.tables.iter().map(|table| &table.output))
    }

    /// Whether packets are written, printed or forwarded by these flags themselves; and to where first.
    pub(crate) fn first_output(&self) -> Option<String> {
        let write = self.write.as_ref().map(|path| escape::path(path).to_string());
        let write = write.or_else(|| self.print.is_asked_for().then(|| "print".to_owned()));
        write.or_else(|| self.forward.targets().next())
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

    /// The names that its sinks have in the report.
    pub(crate) fn sink_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        names.extend(self.write.is_some().then(|| "pcap".to_owned()));
        names.extend(self.print.is_asked_for().then(|| "print".to_owned()));
        names.extend(self.forward.sink_names());
        names
    }
}
