//! Starts a run, and ends it.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use mirror_user::{
    Engine, Report,
    account::Restarts,
    engine::{EngineBuilder, HandOverError, Inheritance, Plan, SocketsPass, Wait},
    escape,
    host::{limits::OpenFiles, scheduling},
    settings::Settings,
};

use super::{
    IngestRun,
    fd_store::{FdStore, NOT_CONTINUED, StoredAccount},
    notify::Notifier,
    usage,
    watch::{Reload, Watch},
};
use crate::{
    conclude::{conclude, conclude_part},
    config::ConfigSource,
    control,
    exit::Usage,
    hooks::Threads,
    http::{self, Board, Listening},
    memory::{self, MIB},
    monitor::Monitor,
    observed::{Observed, Phase},
    outputs::{OpenContext, Outputs},
    privileges::{self, RetainedCaps},
    reload::Reloader,
    requests::Requests,
    sandbox::{Sandbox, ThreadKind},
    signals, terminal,
    upgrade::{Account, Left, Predecessor, Standing, Successor, Upgrader},
    user,
    writers::WriterPlan,
};

/// Runs, from the start or in the place of another process.
pub(crate) fn run(
    args: &IngestRun,
    settings: &Settings,
    source: &ConfigSource,
    mut predecessor: Option<&mut Predecessor>,
) -> anyhow::Result<ExitCode> {
    terminal::start_log(args.output.log_verbosity(), args.output.quiet);
    let streams = args.output.validate()?;
    args.require_interface(source.file.as_deref())?;
    args.validate_http()?;
    args.validate_forward_path()?;
    args.control.validate()?;
    args.builder()?.validate().map_err(usage)?;
    // Connected while this is root; and before other programs are executed, which must not have what systemd
    // passes.
    let notifier = Notifier::connect();
    let mut kept = if predecessor.is_none() { FdStore::take(&notifier) } else { None };
    // BPF maps count against it before kernel 5.11, a UMEM without CAP_IPC_LOCK. If it is too low, the kernel
    // reports that.
    if let Err(error) = mirror_user::host::limits::Memlock::raise() {
        tracing::debug!(%error, "cannot raise the limit of locked memory");
    }
    if args.wait == Wait::Poll
        && let Err(error) = scheduling::limit_realtime(LONGEST_AT_REALTIME)
    {
        tracing::debug!(%error, "cannot set the limits of real-time scheduling");
    }
    // Before anything is changed, and as the user who may listen there.
    let socket = predecessor.as_mut().and_then(|before| before.http());
    let listening = args.http.as_ref().map(|http| http.listen(socket)).transpose()?;
    let http = listening.as_ref().map(Listening::lend).transpose()?.map(Arc::new);
    // Before anything is dropped, and before there are threads.
    let wants_monitor = source.file.is_some() && !args.no_monitor;
    let monitor = wants_monitor.then(Monitor::start).transpose()?.map(Arc::new);
    let user = user::to_change_to(args.output.relinquish_privileges.as_deref())?;
    // A login shell's limit is enough for most runs; what is missing is known once there is a plan.
    if let Err(error) = OpenFiles::raise(USUAL_FILES) {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
    // Before the sandbox, which needs its directory to exist, and while this is root.
    let socket = predecessor.as_mut().and_then(|before| before.control());
    let control = args.control.open(&args.interfaces, socket)?;
    let control_name = control.as_ref().map(|socket| socket.name().to_owned());
    let mut places = args.output.places()?;
    let permitted = args.output.permitted();
    if args.wait == Wait::BusyPoll {
        places.restored.clone_from(&args.interfaces);
    }
    // While all directories can still be opened.
    let sandbox = Sandbox::prepare(args.output.sandbox, &places)?;
    let engines = Threads::new(RetainedCaps::nothing(), &sandbox);
    let build = |inheritance: Option<Inheritance>| {
        let builder = args.builder()?.on_thread_ready(Arc::new(engines.hook(ThreadKind::Worker)));
        let builder = inheritance.into_iter().fold(builder, EngineBuilder::take_over);
        builder.build().map_err(usage)
    };
    let inheritance = match (&mut predecessor, &mut kept) {
        (Some(before), _) => before.inheritance(),
        (None, kept) => kept.as_mut().and_then(|kept| kept.inheritance.take()),
    };
    let mut elapsed = inheritance.as_ref().map(Inheritance::elapsed).unwrap_or_default();
    let engine = match build(inheritance) {
        Err(error) if kept.is_some() => {
            tracing::warn!("{NOT_CONTINUED}: {error:#}");
            (kept, elapsed) = (None, Duration::ZERO);
            build(None)?
        }
        built => built?,
    };
    let writers = WriterPlan::of(engine.plan()).context("cannot read which CPUs this process may use")?;
    let is_new = predecessor.is_none() && kept.is_none();
    let needed = files_needed(engine.plan(), args, &writers, is_new)?;
    if let Some(most) = OpenFiles::raise(needed)?.soft.filter(|most| *most < needed) {
        return Err(anyhow::anyhow!(
            "this run needs {needed} open files, and the limit is {most}: raise it (`ulimit -n 1024`, in a \
            unit file `LimitNOFILE=1024`), or use fewer interfaces and queues"
        ));
    }
    if is_new {
        memory::refuse_beyond_limit(engine.plan().umem_bytes(), 1)?;
    }
    const RAISED: &str = "cannot keep capabilities for the start";
    if let Some(user) = &user {
        privileges::outlast_change_of_user().context(RAISED)?;
        user::change_to(user)?;
    }
    let keep = RetainedCaps::to_end_a_run(args.wait, user.is_some(), args.output.directories())?;
    let threads = Threads::new(keep, &sandbox);
    threads.supervise()?;
    let requests = signals::spawn_listener(threads.hook(ThreadKind::Main))?;
    // Those that come before the run has started wait until it has.
    let reloads = source.file.is_some().then(|| {
        let (sender, reloads) = Requests::new();
        requests.reload.get_or_init(|| sender);
        reloads
    });
    let upgrades = monitor.is_some().then(|| {
        let (sender, upgrades) = Requests::new();
        requests.upgrade.get_or_init(|| sender);
        upgrades
    });
    let observed = Arc::new(Observed::default());
    // Until this process takes the packets, the other one answers.
    observed.withhold(predecessor.is_some());
    let control = control
        .map(|socket| socket.serve(&threads, args.drain, &observed, &requests).map(Arc::new))
        .transpose()?;
    let address = listening.as_ref().map(Listening::address).transpose()?;
    let board =
        listening.map(|listening| listening.serve(&observed, threads.hook(ThreadKind::Http))).transpose()?;
    let follows = predecessor.as_mut().map(|before| before.captures()).unwrap_or_default();
    let cx = OpenContext {
        threads: &threads,
        stop: &requests.stop,
        streams: &streams,
        writers: &writers,
        by_packets: false,
        monitor: None,
        is_upgrade: predecessor.is_some(),
        follows: &follows,
        patient: false,
        sessions: args.output.sessions.table().cloned(),
    };
    let opened = args.output.open(engine.plan().max_frame(), &cx);
    let mut outputs = user::naming(user.as_ref(), opened)?;
    if user.is_some() {
        privileges::raise().context(RAISED)?;
    }
    let memory = Memory::of(engine.plan(), &outputs);
    if is_new {
        memory.refuse_beyond_limit()?;
    }
    if !args.output.quiet {
        announce(engine.plan(), &outputs, &memory);
        if let Some(address) = address {
            terminal::say!("HTTP at http://{address}/");
        }
    }
    let (max_frame, workers) = (engine.plan().max_frame(), memory.workers);
    let mut prepared = outputs.sinks().fold(engine, Engine::sink).prepare().map_err(usage)?;
    let fd_store = FdStore::of_environment();
    if fd_store.is_some() {
        prepared.engine().check_offer(SocketsPass::Kept).map_err(|reason| cannot_be_kept(&reason))?;
    }
    threads.confine(ThreadKind::Main).context("cannot drop privileges")?;
    if !args.output.quiet {
        announce_forward_path(&prepared.engine().report());
    }
    if let Some(predecessor) = &mut predecessor {
        let (Account { report, cpu }, standing) = predecessor.go(&prepared, &requests.stop)?;
        let Standing { captures, listed } = standing;
        prepared.engine().continue_account(report);
        outputs.follow(captures);
        if let Some(board) = &board {
            board.follow(cpu);
            board.list(listed);
        }
    }
    if let Some(StoredAccount { account, cpu, listed }) = kept.map(|kept| kept.account) {
        let Restarts { longest_s, lost_frames, .. } = prepared.recover(account);
        tracing::warn!(
            "the process before was killed, and this one goes on with its sockets: {lost_frames} packets \
            that it had taken after its last account are lost; for at most {:.1?} none were taken",
            Duration::from_secs_f64(longest_s)
        );
        if let Some(board) = &board {
            board.follow(cpu);
            board.list(listed);
        }
    }
    let running = match &mut predecessor {
        Some(predecessor) => predecessor.begin(prepared),
        None => prepared.go(),
    };
    let running = running.map_err(usage)?;
    control.iter().for_each(|entry| entry.take());
    let (stopper, restored, entry) = (running.stopper(), running.stopper(), control.clone());
    if args.drain.is_some() {
        let observed = Arc::clone(&observed);
        requests.drain_first(move || observed.enter(Phase::Draining));
    }
    let abort = move || {
        restored.put_settings_back();
        entry.iter().for_each(|entry| entry.remove());
    };
    requests.started(&outputs, move || stopper.stop(), abort);
    observed.enter(Phase::Ingesting);
    let reload = reloads.map(|requests| Reload {
        requests,
        reloader: Reloader {
            source,
            settings: settings.clone(),
            output: args.output.clone(),
            permitted,
            cx: OpenContext { monitor: monitor.clone(), follows: &[], ..cx },
            max_frame,
            workers,
        },
    });
    let left = Left { control: control_name.zip(control.clone()), http };
    let upgrader = upgrades.zip(monitor).map(|(requests, monitor)| Upgrader::new(requests, monitor, left));
    let watch = Watch {
        args,
        requests: &requests,
        outputs: &mut outputs,
        reload,
        upgrader,
        predecessor,
        elapsed,
        fd_store,
        workers: usize::try_from(workers).unwrap_or(usize::MAX),
        observed: &observed,
        notifier: &notifier,
        board: board.as_ref(),
    };
    let (report, successor) = watch.watch(running);
    if let Some(successor) = successor {
        control.iter().for_each(|entry| entry.leave());
        return pass_on(&outputs, &report, &successor, &observed, board.as_deref());
    }
    let concluded = conclude(&outputs, &report);
    // The signal thread has the entry, too.
    control.iter().for_each(|entry| entry.remove());
    concluded
}

/// Ends this process's part of a run that another process has now.
fn pass_on(
    outputs: &Outputs,
    report: &Report,
    successor: &Successor,
    observed: &Observed,
    board: Option<&Board>,
) -> anyhow::Result<ExitCode> {
    /// For clients that were accepted before.
    const PATIENCE: Duration = Duration::from_secs(2);
    let finished = successor.finish(report, board.map(Board::cpu).unwrap_or_default());
    let code = conclude_part(outputs, report, successor.pid());
    observed.finish(PATIENCE);
    finished?;
    Ok(code)
}

/// Whoever gives the unit a file descriptor store relies on it.
fn cannot_be_kept(reason: &HandOverError) -> Usage {
    Usage(format!(
        "the run cannot be kept in the unit's file descriptor store: {reason}; remove \
        FileDescriptorStoreMax= and FDSTORE= (drop-ins/fd-store.conf)"
    ))
}

/// How long a real-time worker may run without sleeping: many times what one does before it lowers its
/// priority or rests by itself, so that only a worker that hangs in a sink exceeds it.
const LONGEST_AT_REALTIME: Duration = Duration::from_millis(500);
/// Descriptors that are enough for most runs.
const USUAL_FILES: u64 = 1024;

/// How many files a run has open at once, at most while it starts: those open already, of the engine and of
/// signals, and of each interface, queue and output.
fn files_needed(plan: &Plan, args: &IngestRun, writers: &WriterPlan, is_new: bool) -> anyhow::Result<u64> {
    /// Netlink, signals, ports.
    const RUN: u64 = 5;
    /// Connections to the control socket; it is open already.
    const CONTROL: u64 = control::CONNECTIONS as u64;
    /// Maps, programs, links, and the descriptors that load them; netlink for its addresses.
    const INTERFACE: u64 = 35;
    /// A link and two maps that another process has left, twice while they are taken over.
    const LEFT: u64 = 6;
    /// A socket and its UMEM, and three more while the run passes to another process, or from one.
    const QUEUE: u64 = 8;
    let queues: u64 = plan.interfaces.iter().map(|interface| interface.queues.len() as u64).sum();
    let in_use = OpenFiles::in_use()?;
    Ok(in_use
        + RUN
        + CONTROL
        + plan.interfaces.len() as u64 * if is_new { INTERFACE } else { INTERFACE + LEFT }
        + queues * QUEUE
        + args.output.files_needed(writers)
        + args.http.as_ref().map_or(0, |_| http::FILES))
}

/// The memory that a run takes at most, in bytes.
struct Memory {
    frames: u64,
    sinks: u64,
    fragments: u64,
    workers: u64,
    captures: u64,
}

impl Memory {
    fn of(plan: &Plan, outputs: &Outputs) -> Self {
        let workers: u64 = plan.interfaces.iter().map(|interface| interface.queues.len() as u64).sum();
        Self {
            frames: plan.umem_bytes(),
            sinks: workers * outputs.memory_per_worker() as u64,
            fragments: if plan.reassemble { mirror_user::reassembly::MEMORY as u64 } else { 0 },
            workers,
            captures: outputs.captures().count() as u64,
        }
    }

    /// See [`memory`].
    fn refuse_beyond_limit(&self) -> anyhow::Result<()> {
        /// Beside workers: main, signals, control, links, and one thread of an output.
        const THREADS: u64 = 4;
        let Self { frames, sinks, fragments, workers, captures } = self;
        let threads = workers + THREADS + captures.saturating_sub(1);
        memory::refuse_beyond_limit(frames + sinks + fragments, threads)
    }
}

/// Prints which path forwarded packets take, and why.
fn announce_forward_path(report: &Report) {
    for interface in &report.interfaces {
        if let Some(path) = &interface.forward_path {
            terminal::say!("{}", escape::line(&format!("{}: {path}", interface.name)));
        }
    }
}

/// Prints what the run is about to do, as tcpdump does.
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
    } else if outputs.captures().next().is_none() && outputs.forwards().is_empty() {
        terminal::say!(
            "counting only; -w FILE writes the inner frames to a capture file, --print prints them, \
            --forward TARGET forwards them"
        );
    }
    for path in outputs.captures().filter_map(|capture| capture.path.as_ref()) {
        terminal::say!("writing to {}", escape::path(path));
    }
    for forward in outputs.forwards() {
        terminal::say!("{forward}");
    }
}
