//! `mirror source`: mirrors interfaces of this host, as AWS does those of instances.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use mirror_user::{
    agent::{self, AgentOptions, Source, SourceError, SourceOptions, SourceReport, TargetAddress},
    hidden_file::HiddenFile,
    host::limits::Memlock,
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1},
    flag,
};

use crate::{
    exit::{FAILED, Usage},
    filter,
    hooks::Threads,
    privileges::RetainedCaps,
    sandbox::{Places, Sandbox, SandboxArg, ThreadKind},
    terminal,
};

/// How late a signal is noticed.
const POLL: Duration = Duration::from_millis(50);
/// The port of VXLAN, to which AWS sends.
const VXLAN: u16 = mirror_ebpf::wire::VXLAN_PORT;

/// Arguments of `mirror source`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SourceArgs {
    /// Targets, filters and sessions: as of `mirror filter`; may be repeated
    #[arg(long, required_unless_present = "clean", value_name = "FILE")]
    config: Vec<PathBuf>,
    /// A source, and the interface of this host that it is; may be repeated
    #[arg(long, required = true, value_parser = pair, value_name = "ENI=NAME")]
    interface: Vec<(String, String)>,
    /// The address of a target, with another port than 4789 behind it. Of several, the one in the
    /// availability zone that the files have for the source's interface, else the first. Without it, the
    /// addresses that the files have for the interfaces of the target or of its Network Load Balancer
    #[arg(long, value_parser = target, value_name = "ID=ADDR[:PORT][@ZONE][,…]")]
    target: Vec<(String, Vec<TargetAddress>)>,
    /// A packet that is too long for one packet to the target is truncated, as AWS does, or dropped
    #[arg(long, value_enum, default_value = "truncate")]
    oversize: Oversize,
    /// The most bits a second of each interface's copies, with their outer headers, such as 100M
    #[arg(long, value_parser = rate, value_name = "BITS")]
    max_rate: Option<u64>,
    /// The most copies a second of each interface, such as 50k
    #[arg(long, value_parser = rate, value_name = "PACKETS")]
    max_pps: Option<u64>,
    /// How the programs are attached: by tcx (Linux 6.6), or as filters of a clsact qdisc, which stay after a
    /// kill but do nothing then [default: tcx if the kernel has it]
    #[arg(long, value_enum)]
    attach: Option<Hook>,
    /// Whether packets are seen before or after other tc programs, which may drop or redirect them
    #[arg(long, value_enum, default_value = "first")]
    order: Order,
    /// Frames that wait for the agent's thread at most, of each session
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    queue: u32,
    /// Nice level of the agent's thread
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(i32).range(-20..=19))]
    nice: i32,
    /// The CPU of the agent's thread [default: any]
    #[arg(long)]
    cpu: Option<usize>,
    /// Stop after this time, such as 10s
    #[arg(long, value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Restrict the thread that reads packets beyond dropping its capabilities: it writes no file, connects
    /// nowhere by TCP, and makes only the system calls it needs
    #[arg(long, value_enum, default_value_t)]
    sandbox: SandboxArg,
    /// Write the account as JSON at the end
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Remove what a source that was killed has left on these interfaces, and exit: filters of a clsact qdisc
    #[arg(long)]
    clean: bool,
    /// Print warnings and errors only
    #[arg(short, long)]
    quiet: bool,
    /// Log more; twice for all
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

const EXAMPLES: &str = "\
Examples:
  mirror source --config mirroring.json --interface eni-0123=eth0
  mirror source --config mirroring.json --interface eni-0123=eth0 --target tmt-0d4e=10.0.0.9 --max-rate 100M
  mirror source --config mirroring.json --interface eni-0123=eth0 \\
      --target tmt-0d4e=10.0.1.9@us-east-1a,10.0.2.9@us-east-1b
  mirror source --clean --interface eni-0123=eth0

Ctrl-C and TERM stop it, HUP has it read the files again, USR1 prints the account.";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Oversize {
    Truncate,
    Drop,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Hook {
    Tcx,
    Clsact,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    First,
    Last,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((id, name)) if !id.is_empty() && !name.is_empty() => Ok((id.to_owned(), name.to_owned())),
        _ => Err("such as eni-0123=eth0".to_owned()),
    }
}

fn target(text: &str) -> Result<(String, Vec<TargetAddress>), String> {
    let (id, addresses) = pair(text).map_err(|_| "such as tmt-0d4e=10.0.0.9".to_owned())?;
    let addresses = addresses.split(',').map(target_address).collect::<Result<Vec<_>, _>>()?;
    let mut zones = BTreeSet::new();
    if let Some(twice) = addresses.iter().filter_map(|it| it.zone.as_ref()).find(|zone| !zones.insert(*zone))
    {
        return Err(format!("{id} has two addresses in {twice}, of which only one would be used"));
    }
    Ok((id, addresses))
}

fn target_address(text: &str) -> Result<TargetAddress, String> {
    let (address, zone) = match text.split_once('@') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let is_zone = |zone: &str| {
        let is_of_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !zone.is_empty() && zone.bytes().all(is_of_name)
    };
    if zone.is_some_and(|zone| !is_zone(zone)) {
        return Err(format!("{text}: a zone has a name such as us-east-1a, or an id such as use1-az1"));
    }
    let with_port = address.parse::<SocketAddr>();
    let address = with_port.or_else(|_| address.parse::<IpAddr>().map(|it| SocketAddr::new(it, VXLAN)));
    let address = address.map_err(|_| {
        format!("{text}: such as 10.0.0.9, 10.0.0.9:4789 or [2001:db8::9]:4789, and @us-east-1a behind it")
    })?;
    Ok(TargetAddress { zone: zone.map(str::to_owned), ..TargetAddress::from(address) })
}

/// A number of so many a second, with k, M or G for thousands, millions and milliards.
fn rate(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 'k')) => (&text[..at], 1_000),
        Some((at, 'M')) => (&text[..at], 1_000_000),
        Some((at, 'G')) => (&text[..at], 1_000_000_000),
        _ => (text, 1),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    number.filter(|number| *number > 0).ok_or_else(|| "such as 500k, 100M or 1G".to_owned())
}

/// What signals have asked for.
#[derive(Default)]
struct Signals {
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    statistics: Arc<AtomicBool>,
}

impl Signals {
    fn catch() -> anyhow::Result<Self> {
        let signals = Self::default();
        let catch = || {
            for signal in [SIGINT, SIGTERM] {
                // The second one, while the first is being obeyed.
                flag::register_conditional_shutdown(signal, FAILED.into(), Arc::clone(&signals.stop))?;
                flag::register(signal, Arc::clone(&signals.stop))?;
            }
            flag::register(SIGHUP, Arc::clone(&signals.reload))?;
            flag::register(SIGUSR1, Arc::clone(&signals.statistics))
        };
        catch().context("cannot catch signals")?;
        Ok(signals)
    }
}

pub(crate) fn run(args: &SourceArgs) -> anyhow::Result<ExitCode> {
    terminal::start_log(args.verbose, args.quiet);
    if args.clean {
        return clean(args);
    }
    let signals = Signals::catch()?;
    let mirroring = filter::read(&args.config)?;
    let report = args.report.as_deref().map(ReportFile::create).transpose()?;
    // Maps count against it before 5.11; if it cannot be raised, the kernel says what it refuses.
    if let Err(error) = Memlock::raise() {
        tracing::debug!(%error, "RLIMIT_MEMLOCK");
    }
    let keep = RetainedCaps::to_mirror()?;
    let sandbox = Sandbox::prepare(args.sandbox, &Places::default())?;
    let threads = Threads::new(keep.clone(), &sandbox);
    threads.supervise()?;
    let mut source = Source::start(&mirroring, &args.interface, args.options(&threads)).map_err(refused)?;
    if !args.quiet {
        for line in source.lines() {
            terminal::say!("{line}");
        }
    }
    keep.drop_others().context("cannot drop privileges")?;
    let ended = mirror(&mut source, args, &signals);
    let account = source.stop()?;
    if !args.quiet {
        terminal::say!("{account}");
    }
    if let Some(report) = report {
        report.write(&account).context("report")?;
    }
    ended?;
    Ok(if account.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// Until a signal, the end of its time, or that of the last interface.
fn mirror(source: &mut Source, args: &SourceArgs, signals: &Signals) -> anyhow::Result<()> {
    let end = args.duration.map(|duration| Instant::now() + duration);
    while !signals.stop.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
        if signals.reload.swap(false, Ordering::Relaxed) {
            match filter::read(&args.config).and_then(|read| Ok(source.reload(&read)?)) {
                Ok(()) => tracing::info!(target: "mirror", "reloaded"),
                Err(error) => tracing::error!("reload refused, all stays as it was: {error:#}"),
            }
        }
        if signals.statistics.swap(false, Ordering::Relaxed) {
            terminal::say!("{}", source.report()?);
        }
        anyhow::ensure!(source.turn()?, "no interface is left");
        thread::sleep(POLL);
    }
    Ok(())
}

impl SourceArgs {
    fn options(&self, threads: &Threads) -> SourceOptions {
        let mut options = SourceOptions::default();
        options.targets = self.target.iter().cloned().collect::<BTreeMap<_, _>>();
        options.oversize = match self.oversize {
            Oversize::Truncate => agent::Oversize::Truncate,
            Oversize::Drop => agent::Oversize::Drop,
        };
        (options.max_rate, options.max_pps, options.queue) = (self.max_rate, self.max_pps, self.queue);
        options.hook = self.attach.map(|hook| match hook {
            Hook::Tcx => agent::Hook::Tcx,
            Hook::Clsact => agent::Hook::Clsact,
        });
        options.last = matches!(self.order, Order::Last);
        let mut thread = AgentOptions::default();
        (thread.nice, thread.cpu) = (self.nice, self.cpu);
        // It parses packets of strangers.
        thread.ready = Some(Arc::new(threads.hook(ThreadKind::Agent)));
        options.thread = thread;
        options
    }
}

/// Errors of the command line and of files are bad usage.
fn refused(error: SourceError) -> anyhow::Error {
    match error {
        SourceError::SetUp(_)
        | SourceError::NoSession(_)
        | SourceError::NoAddress { .. }
        | SourceError::NotEthernet(_) => Usage(filter::escaped(&error.to_string())).into(),
        other => other.into(),
    }
}

/// The file of `--report`, which has a hidden name until it is complete.
struct ReportFile(HiddenFile);

impl ReportFile {
    fn create(path: &Path) -> anyhow::Result<Self> {
        Ok(Self(HiddenFile::create_over(path, SourceReport::begins)?))
    }

    fn write(&self, account: &SourceReport) -> anyhow::Result<()> {
        let mut writer = self.0.file();
        serde_json::to_writer_pretty(&mut writer, account)?;
        writer.write_all(b"\n")?;
        self.0.complete()?;
        Ok(())
    }
}

/// Removes a report that was never written.
impl Drop for ReportFile {
    fn drop(&mut self) {
        // If that fails, an empty hidden file remains.
        let _ = self.0.remove_if_empty();
    }
}

fn clean(args: &SourceArgs) -> anyhow::Result<ExitCode> {
    for (_, name) in &args.interface {
        let were_any = agent::clean(name)?;
        terminal::say!("{name}: {}", if were_any { "filters removed" } else { "nothing to remove" });
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_addresses_each_with_a_port_and_a_zone_if_need_be() {
        let (id, addresses) =
            target("tmt-1=10.0.1.9@us-east-1a,10.0.2.9:8472@use1-az2,[2001:db8::9]:4789,2001:db8::a")
                .unwrap();
        let text: Vec<_> = addresses.iter().map(|it| (it.address.to_string(), it.zone.as_deref())).collect();
        let expected = [
            ("10.0.1.9:4789", Some("us-east-1a")),
            ("10.0.2.9:8472", Some("use1-az2")),
            ("[2001:db8::9]:4789", None),
            ("[2001:db8::a]:4789", None),
        ];
        assert_eq!((id.as_str(), text), ("tmt-1", expected.map(|(it, zone)| (it.to_owned(), zone)).to_vec()));
        for (wrong, expected) in [
            ("tmt-1", "such as tmt-0d4e=10.0.0.9"),
            ("tmt-1=", "such as tmt-0d4e=10.0.0.9"),
            ("tmt-1=host", "host: such as 10.0.0.9"),
            ("tmt-1=10.0.0.9,", ": such as 10.0.0.9"),
            ("tmt-1=10.0.0.9@", "10.0.0.9@: a zone has a name such as us-east-1a"),
            ("tmt-1=10.0.0.9@us east", "10.0.0.9@us east: a zone has a name"),
            ("tmt-1=10.0.0.9@a,10.0.1.9@b,10.0.2.9@a", "tmt-1 has two addresses in a"),
        ] {
            let said = target(wrong).unwrap_err();
            assert!(said.starts_with(expected), "{wrong}: {said}");
        }
    }
}
