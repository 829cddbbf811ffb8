//! `mirror ingest`: mirrored packets off the NIC.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use mirror_user::{
    Engine, Report,
    engine::{
        BindMode, Destination, EngineBuilder, EngineError, Event, Mode, OnInterfaceLost, Plan, Queues,
        Running, Wait,
    },
    escape,
    host::limits::OpenFiles,
    log_limit::LogLimit,
};

use crate::{
    Usage, lists,
    memory::{self, MIB},
    output::{self, Opening, OutputArgs, Outputs},
    privileges::{self, Keep, Threads},
    sandbox::{Kind, Sandbox},
    signals::{self, Asked},
    status::Status,
    terminal, user,
};

/// Arguments of `mirror ingest`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct IngestArgs {
    /// Interfaces to read
    #[arg(
        short = 'i',
        long,
        help_heading = "Source",
        value_name = "IF[,IF…]",
        value_delimiter = ',',
        required_unless_present = "list_interfaces"
    )]
    interface: Vec<String>,
    /// List the interfaces, and exit
    #[arg(short = 'D', long, help_heading = "Source")]
    list_interfaces: bool,
    /// RX queues to read; the others' packets go to the host
    #[arg(long, help_heading = "Source", value_name = "all|LIST", default_value = "all", value_parser = lists::queues)]
    queues: lists::QueueList,
    /// CPUs for the workers, one a queue, in turn [default: all allowed, from the last down]
    #[arg(long, help_heading = "Source", value_name = "LIST", value_parser = lists::cpus)]
    cpus: Option<lists::Cpus>,
    /// XDP mode
    #[arg(long, help_heading = "Source", value_enum, default_value_t = ModeArg::Auto)]
    mode: ModeArg,
    /// How packets get from the NIC to the ring
    #[arg(long, help_heading = "Source", value_enum, default_value_t = BindArg::Auto)]
    bind: BindArg,
    /// How workers wait for packets
    #[arg(long, help_heading = "Source", value_enum, default_value_t = WaitArg::Poll)]
    wait: WaitArg,
    /// Packets to take: those addressed to the interface, by MAC and IP address, or all (SPAN ports, promiscuous mode)
    #[arg(long, help_heading = "Source", value_enum, default_value_t = DestinationArg::Own)]
    destination: DestinationArg,
    /// Packets an RX ring holds, a power of two: a longer one outlasts a worker that is late, a shorter one stays in
    /// the caches
    #[arg(long, help_heading = "Source", value_name = "64-32768", default_value_t = EngineBuilder::DEFAULT_RX_RING)]
    rx_ring: u32,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// End after this time, such as 10s or 5m
    #[arg(long, help_heading = "Run", value_name = "TIME", value_parser = lists::duration)]
    duration: Option<Duration>,
    /// How often to log a line where standard error is no terminal
    #[arg(long, help_heading = "Run", value_name = "TIME", default_value = "10s", value_parser = lists::duration)]
    stats: Duration,
}

const EXAMPLES: &str = "\
Examples:
  mirror ingest -i ens6                              count, by VNI and source
  mirror ingest -i ens6 -w inner.pcapng              write the inner packets
  mirror ingest -i ens6 -w web.pcapng tcp port 443   those that match
  mirror ingest -i ens6 --print tcp port 443         print them, as tcpdump does
  mirror ingest -i ens6 --vni 12345 -w - | tshark -n -r -
  mirror ingest -i ens6 -C 100 -W 10 -w ring.pcapng  ten files of 100 MB
  mirror ingest -i ens6 --outer -w - | tcpdump -n -r -
  mirror ingest -i ens6 --forward tap:ids0           for Suricata, Zeek, tcpdump
  mirror ingest -i ens6,ens7 --duration 1m -q --json

Lists are numbers and ranges: 0,2-4.

Signals: INT and TERM end the run in order, a second one at once. HUP completes the
capture file and begins the next one; without a file it is as INT. USR1 prints how
it goes. USR2 has buffered packets written.";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArg {
    /// Native, or generic with a warning
    Auto,
    /// In the driver, or not at all
    Native,
    /// In the kernel's stack: any driver, several times slower
    Generic,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BindArg {
    /// Copy
    Auto,
    /// The kernel copies each packet once
    Copy,
    /// The NIC writes into the ring's memory, or not at all
    Zerocopy,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WaitArg {
    /// Sleep while there is nothing
    Poll,
    /// Never sleep: a CPU for each queue
    Spin,
    /// Poll the NIC's queue from the worker (kernel 5.11)
    BusyPoll,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DestinationArg {
    /// To the interface's MAC address, and to one of its IP addresses if it has any of the family
    Own,
    /// To whomever
    Any,
}

impl IngestArgs {
    fn wait(&self) -> Wait {
        match self.wait {
            WaitArg::Poll => Wait::Poll,
            WaitArg::Spin => Wait::Spin,
            WaitArg::BusyPoll => Wait::BusyPoll,
        }
    }

    /// What is wrong with what is read, and how, on any host.
    pub(crate) fn judge_source(&self) -> anyhow::Result<()> {
        self.builder()?.validate().map_err(usage)
    }

    /// What is wrong with it on any host.
    pub(crate) fn judge(&self) -> anyhow::Result<()> {
        self.judge_source()?;
        self.output.judge().map(drop)
    }

    fn builder(&self) -> Result<EngineBuilder, Usage> {
        let (first, others) =
            self.interface.split_first().ok_or_else(|| Usage("no interface is named".to_owned()))?;
        let mut builder = Engine::builder(first)
            .queues(self.queues.0.clone().map_or(Queues::All, Queues::List))
            .cpus(self.cpus.iter().flat_map(|list| list.0.iter().copied()))
            .mode(match self.mode {
                ModeArg::Auto => Mode::Auto,
                ModeArg::Native => Mode::Native,
                ModeArg::Generic => Mode::Generic,
            })
            .bind(match self.bind {
                BindArg::Auto => BindMode::Auto,
                BindArg::Copy => BindMode::Copy,
                BindArg::Zerocopy => BindMode::ZeroCopy,
            })
            .wait(self.wait())
            .destination(match self.destination {
                DestinationArg::Own => Destination::Own,
                DestinationArg::Any => Destination::Any,
            })
            .on_interface_lost(OnInterfaceLost::GoOn)
            .rx_ring(self.rx_ring)
            .tunnels(self.output.ports())
            .select(self.output.selection()?)
            .reassemble(!self.output.no_reassemble)
            .kernel_log(self.output.log_verbosity() > 1);
        for interface in others {
            builder = builder.interface(interface);
        }
        if let Some(count) = self.output.count {
            builder = builder.count(count);
        }
        Ok(builder)
    }
}

pub(crate) fn run(args: &IngestArgs) -> anyhow::Result<ExitCode> {
    if args.list_interfaces {
        return crate::interfaces::list();
    }
    terminal::start_log(args.output.log_verbosity(), args.output.quiet);
    let streams = args.output.judge()?;
    let builder = args.builder()?;
    builder.validate().map_err(usage)?;
    // BPF maps count against it before kernel 5.11, a UMEM without CAP_IPC_LOCK. If it does not suffice, the kernel says so.
    if let Err(error) = mirror_user::host::limits::Memlock::raise() {
        tracing::debug!(%error, "the limit of locked memory stays as it is");
    }
    let user = user::wanted(args.output.relinquish_privileges.as_deref())?;
    // What a login shell has for a limit suits most runs; what is missing beyond, is counted once the plan is known.
    if let Err(error) = OpenFiles::raise(USUAL_FILES) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    let mut places = args.output.places()?;
    if args.wait() == Wait::BusyPoll {
        places.restored.clone_from(&args.interface);
    }
    // While all directories can be opened, whoever's they are.
    let sandbox = Sandbox::prepare(args.output.sandbox, &places)?;
    let engines = Threads::new(Keep::nothing(), &sandbox);
    let engine = builder.on_thread_ready(Arc::new(engines.hook(Kind::Worker))).build().map_err(usage)?;
    let needed = files_needed(engine.plan(), &args.output)?;
    if let Some(most) = OpenFiles::raise(needed)?.soft.filter(|most| *most < needed) {
        return Err(anyhow::anyhow!(
            "this run needs {needed} open files, and may have {most}: raise the limit (`ulimit -n 1024`, in a unit file \
             `LimitNOFILE=1024`), or read fewer interfaces and queues"
        ));
    }
    memory::refuse_beyond_limit(engine.plan().umem_bytes(), 1)?;
    const RAISED: &str = "capabilities cannot be kept for the start";
    if let Some(user) = &user {
        privileges::outlast_change_of_user().context(RAISED)?;
        user::change_to(user)?;
    }
    let keep = Keep::to_end_a_run(args.wait(), user.is_some(), args.output.directories())?;
    let threads = Threads::new(keep, &sandbox);
    threads.supervise()?;
    let asked = signals::hear(threads.hook(Kind::Main))?;
    let opening = Opening {
        threads: &threads,
        stop: &asked.stop,
        streams: &streams,
        by_packets: false,
        patient: false,
    };
    let opened = args.output.open(engine.plan().max_frame(), &opening);
    let outputs = user::naming(user.as_ref(), opened)?;
    if user.is_some() {
        privileges::raise().context(RAISED)?;
    }
    let memory = Memory::of(engine.plan(), &outputs);
    memory.refuse_beyond_limit()?;
    if !args.output.quiet {
        announce(engine.plan(), &outputs, &memory);
    }
    let running = outputs.sinks.iter().cloned().fold(engine, Engine::sink).start().map_err(usage)?;
    threads.confine(Kind::Main).context("privileges cannot be given up")?;
    let (stopper, settings) = (running.stopper(), running.stopper());
    asked.begun(&outputs, move || stopper.stop(), move || settings.put_settings_back());
    let report = watch(running, args, &asked, &outputs);
    output::conclude(&outputs, &report)
}

/// Descriptors that most runs do with.
const USUAL_FILES: u64 = 1024;

/// How many files a run has open at once, at most while it starts: what is open already, those of the engine and of
/// signals, and of each interface, queue and output.
fn files_needed(plan: &Plan, output: &OutputArgs) -> anyhow::Result<u64> {
    /// Netlink, signals, ports.
    const RUN: u64 = 5;
    /// Maps, programs, links, and what they are loaded through; netlink for its addresses.
    const INTERFACE: u64 = 18;
    /// A socket and its UMEM.
    const QUEUE: u64 = 2;
    let queues: u64 = plan.interfaces.iter().map(|interface| interface.queues.len() as u64).sum();
    let in_use = OpenFiles::in_use()?;
    Ok(in_use + RUN + plan.interfaces.len() as u64 * INTERFACE + queues * QUEUE + output.files_needed())
}

/// Options that contradict each other, or the host, are wrong usage.
fn usage(error: EngineError) -> anyhow::Error {
    match error {
        EngineError::Options(text) => Usage(text).into(),
        error => error.into(),
    }
}

/// What a run takes at most, in bytes.
struct Memory {
    frames: u64,
    sinks: u64,
    fragments: u64,
    workers: u64,
}

impl Memory {
    fn of(plan: &Plan, outputs: &Outputs) -> Self {
        let workers: u64 = plan.interfaces.iter().map(|interface| interface.queues.len() as u64).sum();
        Self {
            frames: plan.umem_bytes(),
            sinks: workers * outputs.memory_per_worker as u64,
            fragments: if plan.reassemble { mirror_user::reassembly::MEMORY as u64 } else { 0 },
            workers,
        }
    }

    /// See [`memory`].
    fn refuse_beyond_limit(&self) -> anyhow::Result<()> {
        /// Beside workers: main, signals, links, and one of an output.
        const THREADS: u64 = 3;
        let Self { frames, sinks, fragments, workers } = self;
        memory::refuse_beyond_limit(frames + sinks + fragments, workers + THREADS)
    }
}

/// Says what is about to happen, as tcpdump does.
fn announce(plan: &Plan, outputs: &Outputs, memory: &Memory) {
    for interface in &plan.interfaces {
        let queues: Vec<_> =
            interface.queues.iter().map(|queue| format!("{} on CPU {}", queue.queue, queue.cpu)).collect();
        let s = if queues.len() == 1 { "" } else { "s" };
        terminal::say!(
            "listening on {}, MTU {}, queue{s} {}",
            interface.interface.name,
            interface.interface.mtu,
            queues.join(", ")
        );
    }
    let fragments = match memory.fragments {
        0 => String::new(),
        bytes => format!(", up to {} MiB for fragments", bytes.div_ceil(MIB)),
    };
    terminal::say!(
        "memory: {} MiB for frames, up to {} MiB for sinks{fragments}",
        memory.frames.div_ceil(MIB),
        memory.sinks.div_ceil(MIB)
    );
    if outputs.prints() {
        terminal::say!("printing to standard output");
    } else if outputs.captures().is_empty() && outputs.forwards().is_empty() {
        terminal::say!(
            "counting only; -w FILE writes the inner frames to a capture file, --print prints them, --forward TARGET \
             forwards them"
        );
    }
    for path in outputs.captures().iter().filter_map(|capture| capture.path.as_ref()) {
        terminal::say!("writing to {}", escape::path(path));
    }
    for forward in outputs.forwards() {
        terminal::say!("{forward}");
    }
}

/// Watches a run until there is a reason to end it, and ends it.
fn watch(running: Running, args: &IngestArgs, asked: &Asked, outputs: &Outputs) -> Report {
    /// How late a signal other than INT and TERM may be heard.
    const GLANCE: Duration = Duration::from_millis(100);
    let end = args.duration.map(|duration| Instant::now() + duration);
    let mut status = Status::new(args.stats, args.output.quiet || args.output.prints_to_terminal());
    let mut links = Links::new();
    loop {
        let now = Instant::now();
        if end.is_some_and(|end| now >= end) || asked.stop.load(Ordering::Relaxed) {
            return running.stop();
        }
        if outputs.are_over() {
            terminal::say!("{}", output::ALL_ENDED);
            return running.stop();
        }
        status.tell_if_due(now, || running.report());
        links.log_left_out(now);
        if asked.statistics.swap(false, Ordering::Relaxed) {
            status.tell(now, &running.report());
        }
        if asked.flush.swap(false, Ordering::Relaxed) {
            running.flush();
        }
        let next = [end, status.due()].into_iter().flatten().min();
        let wait = next.map_or(GLANCE, |next| next.saturating_duration_since(now).min(GLANCE));
        match running.wait(wait) {
            None => {}
            Some(Event::InterfaceDown { interface }) => links.is_down(&interface),
            Some(Event::InterfaceNoCarrier { interface }) => links.lost_carrier(interface),
            Some(Event::InterfaceUp { interface }) => links.is_up(&interface),
            Some(Event::QueuesUnread { interface, queues, read, frames }) => {
                tracing::warn!(
                    "{interface}: {queues} RX queues, of which {read} are read: what comes by the others passes to the host \
                     ({frames} frames so far); start mirror again to read them all"
                );
            }
            Some(Event::NotLocal { interface, frames }) => {
                tracing::warn!(
                    "{interface}: every tunnel packet of the last 5 s was addressed to another MAC or IP address and went to the \
                     host ({frames} so far); if they are meant to be read here (a SPAN port, promiscuous mode), start with \
                     `--destination any`"
                );
            }
            Some(Event::InterfaceDeleted { interface, goes_on: true }) => {
                tracing::error!("{interface}: the interface was deleted; ingest goes on with the others");
            }
            Some(Event::InterfaceDeleted { interface, .. }) => {
                tracing::error!("{interface}: the interface was deleted");
                return running.stop();
            }
            Some(Event::InterfaceReturned { interface }) => {
                tracing::warn!(
                    "{interface}: there is an interface of this name again, which is not read; start mirror again \
                     to read it"
                );
            }
            Some(_) => return running.stop(),
        }
    }
}

/// What is said of links that lose their carrier.
struct Links {
    begun: Instant,
    /// Those that lost it because the program was attached, and whether it is back.
    reset: BTreeMap<String, bool>,
    /// The other end of a cable may go up and down as it likes.
    limit: LogLimit,
}

impl Links {
    /// How long after the attach a carrier that goes is most likely the driver's doing: it closes the device in the attach
    /// itself, and the message comes at once.
    const RESET: Duration = Duration::from_secs(1);

    fn new() -> Self {
        Self { begun: Instant::now(), reset: BTreeMap::new(), limit: LogLimit::default() }
    }

    /// Whether one more line is logged.
    fn log(&mut self) -> bool {
        self.limit.passes(Instant::now())
    }

    /// Logs how many were not.
    fn log_left_out(&mut self, now: Instant) {
        if let Some(lines) = self.limit.left_out(now) {
            tracing::warn!("{lines} more lines about links that went up and down were not logged");
        }
    }

    fn is_down(&mut self, interface: &str) {
        if self.log() {
            tracing::warn!("{interface}: the link is down; ingest goes on when it is up again");
        }
    }

    fn lost_carrier(&mut self, interface: String) {
        if self.begun.elapsed() < Self::RESET && !self.reset.contains_key(&interface) {
            tracing::info!(
                "{interface}: the link lost its carrier right after the attach, for which some drivers reset it; ingest begins \
                 when it is back"
            );
            self.reset.insert(interface, false);
        } else if self.log() {
            tracing::warn!("{interface}: the link has no carrier; ingest goes on when it is back");
        }
    }

    fn is_up(&mut self, interface: &str) {
        match self.reset.get_mut(interface) {
            Some(back) if !*back => {
                *back = true;
                tracing::info!("{interface}: the link is up");
            }
            _ => {
                if self.log() {
                    tracing::warn!("{interface}: the link is up, ingest goes on");
                }
            }
        }
    }
}
