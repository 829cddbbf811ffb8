//! `mirror replay`: outer frames from capture files, through the same pipeline. Needs no root.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::Ordering,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Args;
use mirror_user::{
    Replay, Report,
    replay::{MAX_FRAME, ReplayBuilder, ReplayError},
    settings::{Many, Settings, Time, Written},
};
use rustix::fs::{Access, AtFlags, CWD};

use crate::{
    conclude::{ALL_ENDED, conclude},
    exit::{FAILED, Usage},
    flag_values::paths,
    hooks::Threads,
    memory::{self, MIB},
    output::OutputArgs,
    output_config::{OutputConfig, SinkTable},
    outputs::{OpenContext, Outputs},
    privileges::{self, RetainedCaps},
    readers,
    sandbox::{Sandbox, ThreadKind},
    signals,
    status::Statistics,
    terminal, user,
    writers::WriterPlan,
};

/// Arguments of `mirror replay`.
#[derive(Args, Debug)]
#[command(override_usage = "mirror replay [OPTIONS] -r <FILE> [EXPR]...", after_help = EXAMPLES)]
pub(crate) struct ReplayArgs {
    /// Capture files with the outer packets (pcap, pcapng, also as .gz or .zst), read one after the other; -
    /// is standard input
    #[arg(short = 'r', help_heading = "Source", value_name = "FILE")]
    read: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Wait at most this time for the first reader of each pcap-over-ip target, then start without [default:
    /// no limit for targets that listen, no wait for others]
    #[arg(long, help_heading = "Run", value_name = "TIME")]
    wait_reader: Option<Written<Time>>,
}

const EXAMPLES: &str = "\
Examples:
  mirror replay -r outer.pcap                          count packets by VNI and source
  mirror replay -r a.pcap -r b.pcap -w inner.pcapng
  mirror replay -r outer.pcap -w web.pcapng tcp port 443 or tcp port 80
  mirror replay -r outer.pcap --print -e udp port 53   print those that match
  tcpdump -i ens6 -U -w - udp port 4789 | mirror replay -r - -w - | tshark -n -r -

Lists are numbers and ranges: 7,100-199.

Signals: INT and TERM stop the run cleanly, a second one stops it at once. HUP starts
a new capture file; without a file it acts as INT. USR1 prints statistics. USR2
flushes buffered packets.";

/// Read buffers (a block of pcapng), and reassembly.
const READING: u64 = 32 * MIB + mirror_user::reassembly::MEMORY as u64;
/// Main, signals, and one thread of an output.
const THREADS: u64 = 2;

impl ReplayArgs {
    /// Stores the flags that were given.
    pub(crate) fn settings(self) -> Settings {
        let Self { read, output, wait_reader } = self;
        let mut settings = Settings::default();
        settings.read = paths(&read);
        output.fill(&mut settings);
        settings.wait_reader = wait_reader;
        settings
    }
}

/// A replay, with defaults applied.
#[derive(Debug)]
pub(crate) struct ReplayRun {
    read: Vec<PathBuf>,
    output: OutputConfig,
    wait_reader: Option<Duration>,
}

impl ReplayRun {
    pub(crate) fn of(settings: &Settings, tables: Vec<SinkTable>) -> Self {
        Self {
            read: settings.read.iter().flat_map(Many::values).cloned().collect(),
            output: OutputConfig::of(settings, tables),
            wait_reader: settings.wait_reader.as_deref().map(|time| time.0),
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
        self.refuse_writers()?;
        self.output.validate().map(drop)
    }

    /// One thread reads, so that there is work for one writer. A configuration file without a source may be
    /// for `ingest`.
    fn refuse_writers(&self) -> Result<(), Usage> {
        if self.read.is_empty() || !self.output.all().any(|output| output.files.writes_parts()) {
            return Ok(());
        }
        let message = "--writers: capture files are read by one thread, in their sequence, and written by \
            one; omit it, or give `auto`";
        Err(Usage(message.into()))
    }

    fn builder(&self) -> Result<ReplayBuilder, Usage> {
        let words = &self.output.expression;
        // Before it is compiled: the compiler may look such a name up as a host name.
        let selection = match missing_flag(words.iter().filter(|word| is_named_as_capture(word))) {
            Some(usage) => Err(usage),
            None => self.output.selection().map_err(|usage| {
                missing_flag(words.iter().filter(|word| Path::new(word).is_file())).unwrap_or(usage)
            }),
        }?;
        let builder = Replay::builder()
            .tunnels(self.output.tunnels.clone())
            .select(selection)
            .count(self.output.count)
            .reassemble(!self.output.no_reassemble);
        Ok(self.read.iter().fold(builder, ReplayBuilder::file))
    }
}

pub(crate) fn run(args: &ReplayRun) -> anyhow::Result<ExitCode> {
    terminal::start_log(args.output.log_verbosity(), args.output.quiet);
    args.refuse_writers()?;
    let streams = args.output.validate()?;
    let builder = args.builder()?;
    if args.read.is_empty() {
        return Err(usage(ReplayError::NoFile));
    }
    builder.validate().map_err(usage)?;
    let user = user::to_change_to(args.output.relinquish_privileges.as_deref())?;
    let places = args.output.places()?;
    let unreadable = unreadable(&args.read)?;
    // Another user, or root without capabilities, may not be able to open them later.
    let builder = builder.hold_open(user.is_some() || unreadable.files);
    memory::refuse_beyond_limit(READING, 1)?;
    // Before anything is created: a file that cannot be read leaves nothing behind.
    let replay = builder.build().map_err(usage)?;
    // While all directories can still be opened.
    let sandbox = Sandbox::prepare(args.output.sandbox, &places)?;
    if let Some(user) = &user {
        // For the devices that are forwarded to.
        privileges::outlast_change_of_user()?;
        user::change_to(user)?;
    }
    let keep = RetainedCaps::to_complete_files(user.is_some(), args.output.directories())?;
    let read =
        if unreadable.streams { RetainedCaps::to_read_others_files() } else { RetainedCaps::nothing() };
    let threads = Threads::new(keep, &sandbox).reading(read);
    threads.supervise()?;
    let requests = signals::spawn_listener(threads.hook(ThreadKind::Main))?;
    let cx = OpenContext {
        threads: &threads,
        stop: &requests.stop,
        streams: &streams,
        writers: &WriterPlan::single(),
        by_packets: true,
        monitor: None,
        is_upgrade: false,
        follows: &[],
        patient: true,
        sessions: args.output.sessions.table().cloned(),
    };
    let outputs = user::naming(user.as_ref(), args.output.open(MAX_FRAME, &cx))?;
    memory::refuse_beyond_limit(READING + outputs.memory_per_worker() as u64, THREADS)?;
    let replay = outputs.sinks().fold(replay, Replay::sink);
    let (progress, flusher, ending) = (replay.progress(), replay.flusher(), replay.stop_handle());
    let statistics = Mutex::new(Statistics::new());
    requests.on_statistics(move || {
        let mut statistics = statistics.lock().unwrap_or_else(PoisonError::into_inner);
        statistics.print(Instant::now(), &progress.report());
    });
    requests.on_flush(move || flusher.flush());
    let on_stop = ending.clone();
    requests.started(&outputs, move || on_stop.stop(), || {});
    // A signal may have come before.
    if requests.stop.load(Ordering::Relaxed) {
        ending.stop();
    }
    let stopped_waiting = readers::wait(args.wait_reader, args.output.quiet, &outputs, &requests.stop);
    let report = read_through(replay, &threads, &outputs)?;
    let code = conclude(&outputs, &report)?;
    Ok(if stopped_waiting { ExitCode::from(FAILED) } else { code })
}

/// The error if a capture file is among the words of the filter expression.
fn missing_flag<'w>(mut files: impl Iterator<Item = &'w String>) -> Option<Usage> {
    let file = files.next()?;
    Some(Usage(format!(
        "{file:?} is taken as part of the filter expression: each capture file needs a flag of its own, -r \
        {file:?}"
    )))
}

/// Whether a word ends like the name of a capture file.
fn is_named_as_capture(word: &str) -> bool {
    let name = word.strip_suffix(".gz").or_else(|| word.strip_suffix(".zst")).unwrap_or(word);
    name.len() < word.len() || [".pcap", ".pcapng", ".cap"].iter().any(|ending| name.ends_with(ending))
}

/// Runs the replay on a thread that is confined to reading, and confines this one to ending the run.
fn read_through(replay: Replay, threads: &Threads, outputs: &Outputs) -> anyhow::Result<Report> {
    /// How often to check whether an output is left.
    const POLL: Duration = Duration::from_millis(100);
    let (done, is_done) = mpsc::channel();
    let (confine, stop) = (threads.hook(ThreadKind::Reader), replay.stop_handle());
    thread::Builder::new()
        .name("mirror-replay".to_owned())
        .spawn(move || {
            let report = confine().map_err(anyhow::Error::from).and_then(|()| Ok(replay.run()?));
            // The starting thread waits.
            drop(done.send(report));
        })
        .context("cannot start the reader thread")?;
    threads.confine(ThreadKind::Main).context("cannot drop privileges")?;
    loop {
        match is_done.recv_timeout(POLL) {
            Ok(report) => return report,
            Err(RecvTimeoutError::Timeout) if outputs.are_over() && !stop.is_stopped() => {
                stop.stop();
                terminal::say!("{}", ALL_ENDED);
            }
            Err(RecvTimeoutError::Timeout) => {}
            // It panicked outside of all sinks, and its message is on standard error.
            Err(error) => return Err(error).context("the reader thread panicked"),
        }
    }
}

/// Whether files are readable for root only by its capabilities: regular files, and others, which are opened
/// when they are read.
struct Unreadable {
    files: bool,
    streams: bool,
}

fn unreadable(files: &[PathBuf]) -> anyhow::Result<Unreadable> {
    let mut found = Unreadable { files: false, streams: false };
    // Files that are missing, or that nobody may read, are reported when they are opened.
    let kept = |path: &&PathBuf| {
        *path != Path::new("-")
            && rustix::fs::accessat(CWD, *path, Access::READ_OK, AtFlags::EACCESS).is_err()
    };
    let kept: Vec<_> = privileges::without_any(|| files.iter().filter(kept).collect())?;
    for metadata in kept.into_iter().filter_map(|path| path.metadata().ok()) {
        *(if metadata.is_file() { &mut found.files } else { &mut found.streams }) = true;
    }
    Ok(found)
}

fn usage(error: ReplayError) -> anyhow::Error {
    match error {
        error @ (ReplayError::NoFile | ReplayError::StdinTwice | ReplayError::NoPort) => {
            Usage(error.to_string()).into()
        }
        error => error.into(),
    }
}
