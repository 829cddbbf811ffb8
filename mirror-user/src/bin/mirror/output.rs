//! The flags that `ingest` and `replay` share: selection, outputs, and the course of a run.

use std::path::PathBuf;

use clap::Args;
use mirror_user::settings::{
    Count, FileFormat, Many, OnOutputEnd, Phrase, Ports, Settings, Snap, Sources, TunnelPorts, Vnis, Written,
};

use crate::{
    files::FilesArgs,
    flag_values::{given, path, paths, repeated},
    forward::ForwardArgs,
    print::PrintArgs,
    sandbox::SandboxArg,
};

/// Selection and outputs, the same for interfaces and capture files.
#[derive(Args, Debug)]
pub(crate) struct OutputArgs {
    /// Read settings from a TOML file, whose keys are the names of flags; see `mirror config --help`
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// UDP destination ports of tunnels, each with its protocol: vxlan, or geneve as from a Gateway Load
    /// Balancer. Without one, 6081 is geneve and any other port vxlan; ingest takes at most four
    #[arg(long, help_heading = "Selection", value_name = "PORT[=PROTOCOL],…")]
    port: Option<Written<TunnelPorts>>,
    /// Accept only these VNIs
    #[arg(long, help_heading = "Selection", value_name = "LIST")]
    vni: Option<Written<Vnis>>,
    /// Accept only these outer source addresses or prefixes
    #[arg(long, help_heading = "Selection", value_name = "CIDR[,CIDR…]")]
    source: Option<Written<Sources>>,
    /// Name origins by the sessions of Traffic Mirroring that FILE describes, and report those that are
    /// silent or unknown: JSON of the EC2 API, CloudFormation or Terraform, as for `mirror filter --config`;
    /// may be repeated
    #[arg(long, help_heading = "Selection", value_name = "FILE")]
    sessions: Vec<PathBuf>,
    /// Accept only the VNIs of this session of --sessions, by its id or the value of its tag Name; may be
    /// repeated
    #[arg(long, help_heading = "Selection", value_name = "NAME")]
    session: Vec<Written<String>>,
    /// Do not reassemble fragmented outer packets: ingest passes the fragments to the kernel, replay rejects
    /// them
    #[arg(long, help_heading = "Selection")]
    no_reassemble: bool,
    /// Select only packets that match EXPR, applied with outer headers; syntax as below
    #[arg(long, help_heading = "Selection", value_name = "EXPR")]
    outer_filter: Option<Written<String>>,
    /// Select only packets whose inner packet matches EXPR; tcpdump's syntax, see pcap-filter(7)
    #[arg(help_heading = "Selection", value_name = "EXPR")]
    expression: Vec<String>,
    /// Write the inner packets to a capture file, or to standard output if FILE is -; named pipes and devices
    /// are written to as standard output is
    #[arg(short = 'w', help_heading = "Output", value_name = "FILE")]
    write: Option<PathBuf>,
    /// Format of the capture [default: pcap if the name ends in .pcap, .pcap.gz or .pcap.zst, else pcapng]
    #[arg(long, help_heading = "Output", value_enum)]
    format: Option<FileFormat>,
    /// Write the packets with outer headers; with --print, print a line for the outer headers before each
    /// packet
    #[arg(long, help_heading = "Output")]
    outer: bool,
    /// Write each packet within 100 ms instead of 1 s; always on with -w -
    #[arg(short = 'U', help_heading = "Output")]
    unbuffered: bool,
    /// Write at most SNAPLEN bytes of each packet; 0 is the maximum, 262144; `headers` omits the payload
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
    /// Write the report to a file at the end, as JSON; an earlier report is replaced, any other file is not
    #[arg(long, help_heading = "Output", value_name = "FILE")]
    report: Option<PathBuf>,
    /// Measure the time from reception to the sinks
    #[arg(long, help_heading = "Output")]
    latency: bool,
    /// If run as root, change to this user before any file is created
    #[arg(short = 'Z', long, help_heading = "Run", value_name = "USER")]
    relinquish_privileges: Option<Written<String>>,
    /// Restrict threads and commands beyond dropping capabilities: they write only to the directories of
    /// outputs, connect by TCP only to forwarding targets, and threads that handle packets make only the
    /// system calls they need
    #[arg(long, help_heading = "Run", value_enum)]
    sandbox: Option<SandboxArg>,
    /// Let commands of -z also write beneath this directory; may be repeated
    #[arg(long, help_heading = "Run", value_name = "DIR")]
    command_write: Vec<PathBuf>,
    /// Let commands of -z connect to these TCP ports
    #[arg(long, help_heading = "Run", value_name = "LIST")]
    command_connect: Option<Written<Ports>>,
    /// What to do when every output has ended: its reader disconnected, or it cannot be written
    #[arg(long, help_heading = "Run", value_enum)]
    on_output_end: Option<OnOutputEnd>,
    /// Stop after exactly COUNT selected packets
    #[arg(short = 'c', help_heading = "Run", value_name = "COUNT")]
    count: Option<Written<Count>>,
    /// Print only errors and the closing lines
    #[arg(short = 'q', help_heading = "Run")]
    quiet: bool,
    /// Log what the run does; twice: in detail. With --print, print more of each packet instead
    #[arg(short = 'v', help_heading = "Run", action = clap::ArgAction::Count)]
    verbose: u8,
    /// Accepted for tcpdump compatibility, as are -p, -K and -l; no effect
    #[arg(short = 'n', help_heading = "Run", short_aliases = ['p', 'K', 'l'])]
    #[arg(action = clap::ArgAction::Count)]
    _tcpdump: u8,
}

impl OutputArgs {
    /// Stores the flags that were given.
    pub(crate) fn fill(self, settings: &mut Settings) {
        let Self {
            config: _,
            port,
            vni,
            source,
            sessions,
            session,
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
        settings.sessions = paths(&sessions);
        settings.session = Many::of(session);
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
        settings.verbose = repeated(verbose);
    }
}
