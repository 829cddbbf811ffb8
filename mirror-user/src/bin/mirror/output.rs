//! The flags that `ingest` and `replay` share: selection, outputs, and how a run goes.

use std::path::{Path, PathBuf};

use clap::Args;
use mirror_user::settings::{
    Count, FileFormat, Many, OnOutputEnd, Phrase, Ports, Settings, Snap, Sources, Times, Vnis, Written,
};

use crate::{files::FilesArgs, forward::ForwardArgs, print::PrintArgs, sandbox::SandboxArg};

/// Output and selection, the same for live ingest and for capture files.
#[derive(Args, Debug)]
pub(crate) struct OutputArgs {
    /// Take settings from a TOML file, whose keys are the names of the flags; see `mirror config --help`
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// UDP destination ports of the tunnel, at most four on an interface
    #[arg(long, help_heading = "Selection", value_name = "LIST")]
    port: Option<Written<Ports>>,
    /// Let in only these VNIs
    #[arg(long, help_heading = "Selection", value_name = "LIST")]
    vni: Option<Written<Vnis>>,
    /// Let in only these outer sources: addresses or prefixes
    #[arg(long, help_heading = "Selection", value_name = "CIDR[,CIDR…]")]
    source: Option<Written<Sources>>,
    /// Do not reassemble outer packets that were fragmented on their way: on an interface they go to the
    /// host, from a file they are rejected
    #[arg(long, help_heading = "Selection")]
    no_reassemble: bool,
    /// Let in only packets that match as they came, outer headers included: an expression as below
    #[arg(long, help_heading = "Selection", value_name = "EXPR")]
    outer_filter: Option<Written<String>>,
    /// Let in only inner packets that match: an expression as tcpdump has them, see pcap-filter(7)
    #[arg(help_heading = "Selection", value_name = "EXPR")]
    expression: Vec<String>,
    /// Write the inner packets to a capture file, - for standard output; to a named pipe or a device as to
    /// standard output
    #[arg(short = 'w', help_heading = "Output", value_name = "FILE")]
    write: Option<PathBuf>,
    /// Format of the capture [default: pcap where the name ends in .pcap, .pcap.gz or .pcap.zst, else pcapng]
    #[arg(long, help_heading = "Output", value_enum)]
    format: Option<FileFormat>,
    /// Write the packets as they came, outer headers included; with --print, a line for the outer headers
    /// before each
    #[arg(long, help_heading = "Output")]
    outer: bool,
    /// Write each packet within 100 ms instead of 1 s; -w - always does
    #[arg(short = 'U', help_heading = "Output")]
    unbuffered: bool,
    /// Write at most this many bytes of a packet; 0 is the most, 262144; `headers` is all but the payload
    #[arg(short = 's', long, help_heading = "Output", value_name = "SNAPLEN|headers")]
    snap: Option<Written<Snap>>,
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
    relinquish_privileges: Option<Written<String>>,
    /// Confine threads and commands, beside giving up capabilities: files are written only where outputs are,
    /// TCP goes only where packets are forwarded to, and threads that handle packets make only the system
    /// calls they need
    #[arg(long, help_heading = "Run", value_enum)]
    sandbox: Option<SandboxArg>,
    /// Let commands of -z write beneath this directory, too; may be given several times
    #[arg(long, help_heading = "Run", value_name = "DIR")]
    command_write: Vec<PathBuf>,
    /// Let commands of -z connect to these TCP ports
    #[arg(long, help_heading = "Run", value_name = "LIST")]
    command_connect: Option<Written<Ports>>,
    /// When every output has ended, because its reader has gone or it cannot be written
    #[arg(long, help_heading = "Run", value_enum)]
    on_output_end: Option<OnOutputEnd>,
    /// End after exactly this many inner packets
    #[arg(short = 'c', help_heading = "Run", value_name = "COUNT")]
    count: Option<Written<Count>>,
    /// Say nothing but errors and the closing lines
    #[arg(short = 'q', help_heading = "Run")]
    quiet: bool,
    /// Say what is done; twice: in detail. With --print, print more of each packet instead
    #[arg(short = 'v', help_heading = "Run", action = clap::ArgAction::Count)]
    verbose: u8,
    /// Taken for tcpdump's sake, as are -p, -K and -l, and without effect
    #[arg(short = 'n', help_heading = "Run", short_aliases = ['p', 'K', 'l'])]
    #[arg(action = clap::ArgAction::Count)]
    _tcpdump: u8,
}

impl OutputArgs {
    /// What was typed.
    pub(crate) fn fill(self, settings: &mut Settings) {
        let Self {
            config: _,
            port,
            vni,
            source,
            no_reassemble,
            outer_filter,
            expression,
            write,
            format,
            outer,
            unbuffered,
            snap,
            files,
            print,
            forward,
            json,
            report,
            latency,
            relinquish_privileges,
            sandbox,
            command_write,
            command_connect,
            on_output_end,
            count,
            quiet,
            verbose,
            _tcpdump: _,
        } = self;
        settings.port = port;
        settings.vni = vni;
        settings.source = source;
        settings.no_reassemble = given(no_reassemble);
        settings.outer_filter = outer_filter;
        settings.filter = (!expression.is_empty()).then(|| Phrase(expression).into());
        settings.write = path(write.as_ref());
        settings.format = format;
        settings.outer = given(outer);
        settings.unbuffered = given(unbuffered);
        settings.snap = snap;
        files.fill(settings);
        print.fill(settings);
        forward.fill(settings);
        settings.json = given(json);
        settings.report = path(report.as_ref());
        settings.latency = given(latency);
        settings.relinquish_privileges = relinquish_privileges;
        settings.sandbox = sandbox;
        settings.command_write = paths(&command_write);
        settings.command_connect = command_connect;
        settings.on_output_end = on_output_end;
        settings.count = count;
        settings.quiet = given(quiet);
        settings.verbose = times(verbose);
    }
}

/// A flag without a value says something only where it is given.
pub(crate) fn given(flag: bool) -> Option<bool> {
    flag.then_some(true)
}

/// The same of one that may be given several times.
pub(crate) fn times(count: u8) -> Option<Written<Times>> {
    (count > 0).then(|| Times(count).into())
}

pub(crate) fn path(path: Option<&PathBuf>) -> Option<Written<PathBuf>> {
    path.map(|path| Written::from(path.as_path()))
}

pub(crate) fn paths(paths: &[PathBuf]) -> Option<Many<PathBuf>> {
    Many::of(paths.iter().map(|path| Written::from(Path::new(path))).collect())
}
