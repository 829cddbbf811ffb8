//! `mirror ingest`: mirrored packets from the NIC.

mod drain;
mod fd_store;
mod notify;
mod run;
mod vitals;
mod watch;
mod watchdog;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use mirror_user::{
    engine::{EngineBuilder, EngineError, ForwardObstacle, OnInterfaceLost, OptionsError, Queues, Wait},
    settings::{
        self, Bind, Control, Cpus, Destination, DrainMax, DrainQuiet, ForwardPath, HttpAddress, Interface,
        Interval, Many, Mode, Percent, Priority, QueueList, RxRing, Settings, Sources, Time, Written,
    },
};

pub(crate) use self::{drain::DrainLimits, run::run};
use crate::{
    config,
    control::ControlConfig,
    exit::Usage,
    flag_values::{given, paths},
    http::HttpConfig,
    output::OutputArgs,
    output_config::{OutputConfig, SinkTable},
    remedy::of_options,
};

/// Arguments of `mirror ingest`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct IngestArgs {
    /// Interfaces to capture from
    #[arg(short = 'i', long, help_heading = "Source", value_name = "IF[,IF…]", value_delimiter = ',')]
    interface: Vec<Written<Interface>>,
    /// List the interfaces and exit
    #[arg(short = 'D', long, help_heading = "Source")]
    pub(crate) list_interfaces: bool,
    /// RX queues to read; packets of the other queues are passed to the kernel
    #[arg(long, help_heading = "Source", value_name = "all|LIST")]
    queues: Option<Written<QueueList>>,
    /// CPUs to pin workers to, one per queue, in this order [default: all allowed, last first]
    #[arg(long, help_heading = "Source", value_name = "LIST")]
    cpus: Option<Written<Cpus>>,
    /// XDP mode
    #[arg(long, help_heading = "Source", value_enum)]
    mode: Option<Mode>,
    /// How packets get from the NIC to the AF_XDP ring
    #[arg(long, help_heading = "Source", value_enum)]
    bind: Option<Bind>,
    /// How workers wait for packets
    #[arg(long, help_heading = "Source", value_enum)]
    wait: Option<settings::Wait>,
    /// How workers compete with other processes for their CPUs
    #[arg(long, help_heading = "Source", value_enum)]
    priority: Option<Priority>,
    /// Which tunnel packets to capture, by their destination address
    #[arg(long, help_heading = "Source", value_enum)]
    destination: Option<Destination>,
    /// RX ring size in descriptors, a power of two: larger absorbs scheduling delays, smaller stays in cache
    #[arg(long, help_heading = "Source", value_name = "64-32768")]
    rx_ring: Option<Written<RxRing>>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Which path forwarded packets take
    #[arg(long, help_heading = "Output", value_enum)]
    forward_path: Option<ForwardPath>,
    /// Do not start a second process that keeps privileges for reloads: what needs them cannot change then
    #[arg(long, help_heading = "Run")]
    no_monitor: bool,
    /// Let `mirror reload` and HUP also open outputs beneath this directory; may be repeated
    #[arg(long, help_heading = "Run", value_name = "DIR")]
    writable: Vec<PathBuf>,
    /// Stop after this time, such as 10s or 5m
    #[arg(long, help_heading = "Run", value_name = "TIME")]
    duration: Option<Written<Time>>,
    /// How often to log statistics if standard error is not a terminal
    #[arg(long, help_heading = "Run", value_name = "TIME")]
    stats: Option<Written<Interval>>,
    /// After TERM, keep taking packets until no more come, at most for this time; 0 stops at once
    #[arg(long, help_heading = "Run", value_name = "TIME")]
    drain_max: Option<Written<DrainMax>>,
    /// How long no packet must have come for the run to stop then
    #[arg(long, help_heading = "Run", value_name = "TIME")]
    drain_quiet: Option<Written<DrainQuiet>>,
    /// Name of the control socket, /run/mirror/NAME.sock [default: the interfaces, joined by commas]
    #[arg(long, help_heading = "Run", value_name = "NAME|off")]
    control: Option<Written<Control>>,
    /// Group that may read the status over the control socket; only root may change anything
    #[arg(long, help_heading = "Run", value_name = "GROUP")]
    control_group: Option<Written<String>>,
    /// Serve /health, /live, /metrics, /report and a page over HTTP
    #[arg(long, help_heading = "Run", value_name = "ADDR:PORT")]
    http: Option<Written<HttpAddress>>,
    /// Clients that may have more than /health and /live from an address that is not loopback
    #[arg(long, help_heading = "Run", value_name = "CIDR,…")]
    http_allow: Option<Written<Sources>>,
    /// Share of lost packets, over 30 s, at which /health fails [default: losses do not]
    #[arg(long, help_heading = "Run", value_name = "PERCENT")]
    health_loss: Option<Written<Percent>>,
}

const EXAMPLES: &str = "\
Examples:
  mirror ingest -i ens6                              count packets by VNI and source
  mirror ingest -i ens6 -w inner.pcapng              write the inner packets to a file
  mirror ingest -i ens6 -w web.pcapng tcp port 443   write those that match
  mirror ingest -i ens6 --print tcp port 443         print them, as tcpdump does
  mirror ingest -i ens6 --vni 12345 -w - | tshark -n -r -
  mirror ingest -i ens6 -C 100 -W 10 -w ring.pcapng  a ring of ten files of 100 MB
  mirror ingest -i ens6 --outer -w - | tcpdump -n -r -
  mirror ingest -i ens6 --forward veth:ids0          deliver to Suricata, Zeek or tcpdump
  mirror ingest -i ens6,ens7 --duration 1m -q --json

Lists are numbers and ranges: 0,2-4.

Signals: INT and TERM stop the run cleanly, a second one stops it at once. With
--drain-max the first TERM starts the drain. HUP starts a new capture file, and reads
the file of --config again; without either it acts as INT. USR1 prints statistics.
USR2 flushes buffered packets.";

impl IngestArgs {
    /// Stores the flags that were given.
    pub(crate) fn settings(self) -> Settings {
        let Self {
            interface,
            list_interfaces: _,
            queues,
            cpus,
            mode,
            bind,
            wait,
            priority,
            destination,
            rx_ring,
            output,
            forward_path,
            no_monitor,
            writable,
            duration,
            stats,
            drain_max,
            drain_quiet,
            control,
            control_group,
            http,
            http_allow,
            health_loss,
        } = self;
        let mut settings = Settings::default();
        settings.interface = Many::of(interface);
        settings.queues = queues;
        settings.cpus = cpus;
        settings.mode = mode;
        settings.bind = bind;
        settings.wait = wait;
        settings.priority = priority;
        settings.destination = destination;
        settings.rx_ring = rx_ring;
        output.fill(&mut settings);
        settings.forward_path = forward_path;
        settings.no_monitor = given(no_monitor);
        settings.writable = paths(&writable);
        settings.duration = duration;
        settings.stats = stats;
        settings.drain_max = drain_max;
        settings.drain_quiet = drain_quiet;
        settings.control = control;
        settings.control_group = control_group;
        settings.http = http;
        settings.http_allow = http_allow;
        settings.health_loss = health_loss;
        settings
    }
}

/// A run, with defaults applied.
#[derive(Debug)]
pub(crate) struct IngestRun {
    interfaces: Vec<String>,
    queues: Queues,
    cpus: Vec<usize>,
    mode: Mode,
    bind: Bind,
    wait: Wait,
    priority: Priority,
    destination: Destination,
    rx_ring: u32,
    output: OutputConfig,
    forward_path: ForwardPath,
    duration: Option<Duration>,
    stats: Duration,
    drain: Option<DrainLimits>,
    control: ControlConfig,
    no_monitor: bool,
    http: Option<HttpConfig>,
    /// A flag about the HTTP server without the server.
    http_flag_alone: Option<&'static str>,
}

impl IngestRun {
    pub(crate) fn of(settings: &Settings, tables: Vec<SinkTable>) -> Self {
        let queues = settings.queues.as_deref().cloned().unwrap_or_default();
        let interfaces = settings.interface.iter().flat_map(Many::values);
        Self {
            interfaces: interfaces.map(|interface| interface.0.clone()).collect(),
            queues: queues.0.map_or(Queues::All, Queues::List),
            cpus: settings.cpus.as_deref().map(|list| list.0.clone()).unwrap_or_default(),
            mode: settings.mode.unwrap_or_default(),
            bind: settings.bind.unwrap_or_default(),
            wait: settings.wait.unwrap_or_default().into(),
            priority: settings.priority.unwrap_or_default(),
            destination: settings.destination.unwrap_or_default(),
            rx_ring: settings.rx_ring.as_deref().copied().unwrap_or_default().0,
            output: OutputConfig::of(settings, tables),
            forward_path: settings.forward_path.unwrap_or_default(),
            duration: settings.duration.as_deref().map(|time| time.0),
            stats: settings.stats.as_deref().copied().unwrap_or_default().0,
            drain: DrainLimits::of(settings),
            control: ControlConfig::of(settings),
            no_monitor: settings.no_monitor.unwrap_or_default(),
            http: HttpConfig::of(settings),
            http_flag_alone: HttpConfig::flag_alone(settings),
        }
    }

    /// The same with the sessions that name origins, of which the files are read.
    pub(crate) fn read(settings: &Settings, tables: Vec<SinkTable>) -> anyhow::Result<Self> {
        let mut run = Self::of(settings, tables);
        run.output.check_sessions()?;
        run.output.sessions.read()?;
        Ok(run)
    }

    /// Validates the source, as far as it is given, and its selection, without this host.
    pub(crate) fn validate_source(&self) -> anyhow::Result<()> {
        self.builder()?.validate().map_err(usage)
    }

    /// Validates all of it, without this host.
    pub(crate) fn validate(&self) -> anyhow::Result<()> {
        self.validate_source()?;
        self.output.validate()?;
        self.control.validate()?;
        self.validate_http()?;
        Ok(self.validate_forward_path()?)
    }

    /// Validates the path of forwarding by the outputs there are.
    fn validate_forward_path(&self) -> Result<(), Usage> {
        let of_sinks = || ForwardObstacle::of_sinks(&self.output.allow(), self.output.sink_needs());
        let obstacle = match self.forward_path {
            ForwardPath::Auto => return Ok(()),
            ForwardPath::Kernel => of_sinks(),
            ForwardPath::User => of_sinks().filter(|obstacle| *obstacle == ForwardObstacle::NoTarget),
        };
        match obstacle {
            Some(obstacle) => Err(Usage(of_options(&OptionsError::ForwardPath(obstacle)))),
            None => Ok(()),
        }
    }

    /// Validates that what is about the HTTP server comes with one.
    fn validate_http(&self) -> Result<(), Usage> {
        match self.http_flag_alone {
            Some(flag) => Err(Usage(format!("{flag} applies to --http, which is not given"))),
            None => Ok(()),
        }
    }

    /// A configuration file may leave the interfaces to the command line; a run needs one.
    fn require_interface(&self, file: Option<&Path>) -> Result<(), Usage> {
        match file {
            _ if !self.interfaces.is_empty() => Ok(()),
            None => Err(Usage(of_options(&OptionsError::NoInterface))),
            Some(file) => Err(Usage(format!(
                "{}: no interface is given: write `interface = [\"ens6\"]` there, for one; `mirror -D` lists \
                the interfaces",
                config::place_of_key(file, "interface"),
            ))),
        }
    }

    fn builder(&self) -> Result<EngineBuilder, Usage> {
        let builder = EngineBuilder::default()
            .queues(self.queues.clone())
            .cpus(self.cpus.iter().copied())
            .mode(self.mode.into())
            .bind(self.bind.into())
            .wait(self.wait)
            .priority(self.priority.into())
            .destination(self.destination.into())
            .rx_ring(self.rx_ring)
            .forward_path(self.forward_path.into())
            .on_interface_lost(OnInterfaceLost::GoOn)
            .tunnels(self.output.tunnels.clone())
            .select(self.output.selection()?)
            .reassemble(!self.output.no_reassemble)
            .kernel_log(self.output.log_verbosity() > 1);
        let builder = match self.output.count {
            Some(count) => builder.count(count),
            None => builder,
        };
        Ok(self.interfaces.iter().fold(builder, EngineBuilder::interface))
    }
}

/// Options that contradict each other, or the host, are bad usage.
fn usage(error: EngineError) -> anyhow::Error {
    match error {
        EngineError::Options(error) => Usage(of_options(&error)).into(),
        error => error.into(),
    }
}
