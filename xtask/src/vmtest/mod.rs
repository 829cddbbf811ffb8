//! `cargo xtask vmtest`: `mirror` and tests that need only the lab, in guests of several kernels, on several
//! kinds of NICs; and `mirror` as a service and as a package, in guests with systemd.

mod binaries;
mod card;
mod cell;
mod cpio;
mod debian;
mod fetch;
pub(crate) mod initramfs;
mod kernel;
mod modules;
mod package;
mod plan;
mod qemu;
mod results;
mod service;
mod taps;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use self::cell::Cell;
use self::initramfs::{Base, Contents, INIT, Placed};
use self::kernel::{Kernel, Machine};
use self::plan::{Extent, Tests};
use self::qemu::{Accelerator, Boot, End};
use self::results::{Outcome, Tally};
use self::service::Scenario;
use self::taps::{Crossed, Taps};
use crate::programs::{self, Built};
use crate::setup::{self, Group};
use crate::{dist, host, process};

/// How many crashes of QEMU one kernel's steps survive, in a new guest each.
const CRASHES: u32 = 2;
/// Seconds for a guest to boot and power off, and for each step beyond the time of its frames.
const BOOT_LIMIT: u64 = 60;
const STEP_LIMIT: u64 = 20;
/// Seconds for systemd to start, and for a scenario of the service.
const SYSTEMD_LIMIT: u64 = 120;
const SCENARIO_LIMIT: u64 = 120;
/// Seconds for a test program.
const TESTS_LIMIT: u64 = 420;

/// Modules that cells and tests use; a flavour without one has no such NIC.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_net",
    "veth",
    "bridge",
    "tun",
    "vxlan",
    "dummy",
    "igb",
    "vmxnet3",
    "e1000e",
    "cls_u32",
    "cls_bpf",
    "act_mirred",
    "sch_ingress",
];
/// Modules for the disk of a guest with systemd, in addition.
const DISK_MODULES: &[&str] = &["virtio_blk", "crc32c_generic", "ext4"];

pub(crate) fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    Command::new("vmtest")
        .about("Run mirror under several kernels in QEMU guests (root for multi-queue NICs)")
        .arg(Arg::new("kernel").num_args(0..).value_parser(Kernel::parse).help(
            "5.10 | 6.1 | 6.12 | newest | arm64 | arm64-16k [default: 5.10 6.1 newest, with --all 6.12 too]",
        ))
        .arg(flag("all", "Every NIC, mode, option, privilege and MTU, not only the usual selection"))
        .arg(
            Arg::new("only")
                .long("only")
                .value_name("WORD")
                .action(ArgAction::Append)
                .help("Only steps whose name contains WORD; may be repeated"),
        )
        .arg(flag("list", "List what would run, and exit"))
        .arg(flag("update", "Look for newer kernels than the cached ones"))
        .arg(flag("release", "Run release binaries instead of those of the tests"))
        .arg(flag("yes", "Install what is missing without asking"))
}

/// What a guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guest {
    /// A shell's tools and our programs.
    Bare,
    /// Debian with systemd, our programs, and the files of the package that the service needs.
    Service,
    /// Debian with systemd, to which the package is still to be installed.
    Package,
}

impl Guest {
    /// Of the folder below `out`.
    fn suffix(self) -> &'static str {
        match self {
            Self::Bare => "",
            Self::Service => "-systemd",
            Self::Package => "-package",
        }
    }
}

/// One guest and the steps to run in it.
struct Job {
    kernel: Kernel,
    guest: Guest,
    cells: Vec<Cell>,
    tests: Vec<Tests>,
    /// In a guest that has systemd and nothing else to run.
    scenarios: Vec<Scenario>,
}

impl Job {
    fn new(kernel: Kernel, extent: Extent, only: &[&String]) -> Self {
        let mut cells = plan::cells(kernel, extent);
        cells.retain(|cell| named(&cell.name, only));
        let mut tests = plan::tests(kernel, extent);
        tests.retain(|tests| named(&test_step(tests), only));
        Self { kernel, guest: Guest::Bare, cells, tests, scenarios: Vec::new() }
    }

    /// A guest with systemd.
    fn with_systemd(kernel: Kernel, guest: Guest, extent: Extent, only: &[&String]) -> Self {
        let mut scenarios = match guest {
            Guest::Bare => Vec::new(),
            Guest::Service => service::scenarios(kernel, extent),
            // Whoever names its steps need not ask for everything.
            Guest::Package if extent == Extent::All || !only.is_empty() => package::scenarios(kernel),
            Guest::Package => Vec::new(),
        };
        scenarios.retain(|scenario| named(scenario.name, only));
        Self { kernel, guest, cells: Vec::new(), tests: Vec::new(), scenarios }
    }

    /// Its folder below `out`.
    fn folder(&self) -> String {
        format!("{}{}", self.kernel.name(), self.guest.suffix())
    }

    fn steps(&self) -> Vec<String> {
        let scenarios = self.scenarios.iter().map(|scenario| scenario.name.to_owned());
        let cells = self.cells.iter().map(|cell| cell.name.clone());
        self.tests.iter().map(test_step).chain(cells).chain(scenarios).collect()
    }

    /// The plan of a guest: all steps except those `reported` already.
    fn json(&self, reported: &[String]) -> String {
        let left = |name: &str| !reported.iter().any(|reported| reported == name);
        let cells = self.cells.iter().filter(|cell| left(&cell.name)).map(Cell::json);
        let tests = self.tests.iter().filter(|tests| left(&test_step(tests))).map(|tests| {
            json!({ "test": {
                "name": test_step(tests),
                "program": format!("/tests/{}", tests.program),
                "skip": tests.skipped(self.kernel),
                "threads": tests.threads(),
                "limit": TESTS_LIMIT,
            }})
        });
        let of = if self.guest == Guest::Package { "package" } else { "service" };
        let scenarios = self.scenarios.iter().filter(|scenario| left(scenario.name));
        let scenarios = scenarios.map(|scenario| scenario.json(of));
        json!({ "steps": tests.chain(cells).chain(scenarios).collect::<Vec<Value>>() }).to_string()
    }

    fn limit(&self) -> Duration {
        let cells: u64 = self.cells.iter().map(|cell| STEP_LIMIT + cell.seconds()).sum();
        let systemd = if self.scenarios.is_empty() { 0 } else { SYSTEMD_LIMIT };
        let scenarios = SCENARIO_LIMIT * self.scenarios.len() as u64;
        let tests = TESTS_LIMIT * self.tests.len() as u64;
        Duration::from_secs(BOOT_LIMIT + systemd + cells + tests + scenarios)
    }
}

/// Whether a step is among those that were asked for.
fn named(name: &str, only: &[&String]) -> bool {
    only.is_empty() || only.iter().any(|only| name.contains(only.as_str()))
}

fn test_step(tests: &Tests) -> String {
    format!("tests {}", tests.program)
}

/// Boots each kernel in turn, prints the outcome of each step, and exits with 1 if any failed.
///
/// # Errors
/// If something cannot be set up, fetched, built or started, or a signal came.
pub(crate) fn run(matches: &ArgMatches) -> Result<ExitCode> {
    let all = matches.get_flag("all");
    let extent = if all { Extent::All } else { Extent::Usual };
    let mut kernels: Vec<Kernel> = matches.get_many("kernel").unwrap_or_default().copied().collect();
    if kernels.is_empty() {
        kernels = if all { Kernel::ALL.into() } else { Kernel::DEFAULT.into() };
    }
    let only: Vec<&String> = matches.get_many("only").unwrap_or_default().collect();
    let mut jobs: Vec<_> = kernels.iter().map(|kernel| Job::new(*kernel, extent, &only)).collect();
    let of_service = service::KERNELS.into_iter().filter(|kernel| kernels.contains(kernel));
    jobs.extend(of_service.flat_map(|kernel| {
        [Guest::Service, Guest::Package].map(|guest| Job::with_systemd(kernel, guest, extent, &only))
    }));
    if !host::is_root() {
        without_root(&mut jobs);
    }
    if jobs.iter().all(|job| job.steps().is_empty()) {
        bail!("no step name contains this word; `--list` shows all");
    }
    if matches.get_flag("list") {
        for job in &jobs {
            job.steps().iter().for_each(|step| println!("{:<9}  {step}", job.kernel));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut groups = vec![Group::Build, Group::Lab, Group::Vm];
    let with_package = jobs.iter().any(|job| job.guest == Guest::Package && !job.scenarios.is_empty());
    if with_package {
        groups.push(Group::Dist);
    }
    setup::ensure(&groups, matches.get_flag("yes"), "vmtest")?;
    let folder = host::target_dir().join("vmtest");
    let packages = if with_package { package::packages()? } else { Vec::new() };
    let mut machines =
        Machines { folder: &folder, release: matches.get_flag("release"), bases: Vec::new(), packages };
    let mut tally = Tally::default();
    for job in &jobs {
        boot(job, matches.get_flag("update"), &folder, &mut machines, &jobs, &mut tally)?;
    }
    println!("\n{}", tally.summary());
    if !tally.is_clean() {
        println!("consoles, reports and standard error of each run: {}", folder.join("out").display());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Without root there are no TAPs and no file system of Debian; what is skipped is reported.
fn without_root(jobs: &mut [Job]) {
    let before: usize = jobs.iter().map(|job| job.cells.len()).sum();
    for job in &mut *jobs {
        if !job.scenarios.is_empty() {
            job.scenarios.clear();
            eprintln!("vmtest: NOT checked: the service, whose file system needs root to be made");
        }
        job.cells.retain(|cell| !cell.card.needs_taps());
    }
    let after: usize = jobs.iter().map(|job| job.cells.len()).sum();
    if after < before {
        eprintln!("vmtest: NOT checked: multi-queue NICs, whose TAPs need root");
    }
}

fn boot(
    job: &Job,
    update: bool,
    folder: &Path,
    machines: &mut Machines<'_>,
    jobs: &[Job],
    tally: &mut Tally,
) -> Result<()> {
    let (kernel, steps) = (job.kernel, job.steps());
    if steps.is_empty() {
        return Ok(());
    }
    let unpacked = fetch::kernel(folder, kernel, update)?;
    let (base, packages) = machines.base(kernel.machine(), jobs)?;
    let on_disk = OnDisk::of(job.guest, base, packages)?;
    let disk = if on_disk.is_some() { Some(debian::disk(folder, update)?) } else { None };
    let (init, base, files) = match &on_disk {
        Some(OnDisk { base, files }) => (service::INIT, base, files.as_slice()),
        None => (INIT, base, [].as_slice()),
    };
    let wanted: Vec<_> =
        MODULES.iter().chain(DISK_MODULES.iter().filter(|_| disk.is_some())).copied().collect();
    let modules = modules::in_order(&unpacked.modules, &wanted)?;
    let out = folder.join("out").join(job.folder());
    let initramfs = folder.join("initramfs");
    let mut cards: Vec<_> = job.cells.iter().map(|cell| cell.card).collect();
    cards.sort_unstable();
    cards.dedup();
    let taps = if cards.iter().any(|card| card.needs_taps()) { Some(Taps::raise()?) } else { None };
    let start = Instant::now();
    let (mut reported, mut crossed) = (Vec::new(), Crossed::default());
    let mut crashes = 0;
    let why = loop {
        if out.exists() {
            fs::remove_dir_all(&out).with_context(|| format!("cannot empty {}", out.display()))?;
        }
        fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
        let plan = job.json(&reported);
        base.write(&initramfs, &Contents { init, modules: &modules, plan: &plan, files })?;
        let accelerator = Accelerator::probe(kernel.machine(), &unpacked.image, &out)?;
        let left = steps.len() - reported.len();
        println!("{kernel:<9}  Linux {}, {}, {left} steps", unpacked.title, accelerator.name());
        let boot = Boot {
            machine: kernel.machine(),
            image: &unpacked.image,
            initramfs: &initramfs,
            disk: disk.as_deref(),
            out: &out,
            cards: cards.iter().flat_map(|card| card.arguments()).collect(),
            taps: taps.as_ref(),
            limit: job.limit(),
        };
        let end = boot.run(accelerator, |line| {
            if let Some(mut outcome) = Outcome::parse(line) {
                if let Some(taps) = &taps {
                    let now = taps.crossed()?;
                    let since = now.since(crossed);
                    crossed = now;
                    // The side of the NIC on which frames were lost.
                    if !outcome.ok && since != Crossed::default() {
                        outcome.detail = format!("{}; {since}", outcome.detail);
                    }
                }
                tally.take(kernel, &outcome);
                reported.push(outcome.step);
            }
            Ok(())
        })?;
        unpack_papers(&out);
        if let Some(taps) = &taps {
            fs::write(out.join("taps"), taps.counters()?).context("cannot write the counters of TAPs")?;
        }
        match end {
            End::Off => break format!("the guest ended before this{}", kernels_last_words(&out)),
            End::Limit => break format!("not over within {:?} of booting", job.limit()),
            End::Crashed(how) if crashes == CRASHES => break format!("QEMU crashed again: {how}"),
            End::Crashed(how) => {
                crashes += 1;
                println!("{kernel:<9}  QEMU CRASHED ({how}); the steps that are left run in a new guest");
            }
        }
    };
    tally.missing(kernel, &steps, &reported, &format!("{why}; see {}", out.join("console").display()));
    println!("{kernel:<9}  {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// What a guest with systemd has beyond Debian.
struct OnDisk {
    /// The initramfs: a shell's tools, and what is to go to the disk.
    base: Base,
    /// More of that, as text.
    files: Vec<(String, String)>,
}

impl OnDisk {
    fn of(guest: Guest, base: &Base, packages: &[Placed]) -> Result<Option<Self>> {
        let (packages, files) = match guest {
            Guest::Bare => return Ok(None),
            Guest::Service => (&[][..], service::files()?),
            Guest::Package => (packages, package::files()?),
        };
        let place = |(program, bytes): &Placed| {
            let is_in_package = guest == Guest::Package && program == "bin/mirror";
            let place = service::place_of(program).filter(|_| !is_in_package)?;
            Some((place.to_owned(), bytes.clone()))
        };
        let base = Base {
            busybox: base.busybox.clone(),
            applets: base.applets.clone(),
            programs: base.programs.iter().filter_map(place).chain(packages.iter().cloned()).collect(),
            libraries: Vec::new(),
            links: service::links(),
        };
        Ok(Some(Self { base, files: service::files_of_all().into_iter().chain(files).collect() }))
    }
}

/// The first line of a kernel's failure.
fn kernels_last_words(out: &Path) -> String {
    let console = fs::read(out.join("console")).unwrap_or_default();
    let text = String::from_utf8_lossy(&console).into_owned();
    let failure =
        text.lines().find(|line| ["BUG: ", "Oops: ", "Kernel panic"].iter().any(|word| line.contains(word)));
    failure.map_or_else(String::new, |line| format!(": {}", line.trim()))
}

/// A guest that was killed has none, and its failures report that.
fn unpack_papers(out: &Path) {
    let papers = out.join("papers.tgz");
    let mut tar = Process::new("tar");
    tar.arg("-C").arg(out).arg("-xzf").arg(&papers);
    if process::output_quietly(&mut tar).is_some() {
        // Its contents are extracted.
        let _kept = fs::remove_file(&papers);
    }
}

/// The base of guests of each machine, made once.
struct Machines<'a> {
    folder: &'a Path,
    release: bool,
    bases: Vec<(Machine, Base)>,
    /// Both packages, for guests that install them.
    packages: Vec<Placed>,
}

impl Machines<'_> {
    /// The base, and the packages.
    fn base(&mut self, machine: Machine, jobs: &[Job]) -> Result<(&Base, &[Placed])> {
        if !self.bases.iter().any(|(of, _)| *of == machine) {
            let base = match machine {
                Machine::X86_64 => self.native(jobs)?,
                Machine::Aarch64 => dist::guest_base()?,
            };
            self.bases.push((machine, base));
        }
        let found = self.bases.iter().find(|(of, _)| *of == machine);
        let (_, base) = found.context("the base file system is missing")?;
        Ok((base, &self.packages))
    }

    /// For guests of this host's machine.
    fn native(&self, jobs: &[Job]) -> Result<Base> {
        if cfg!(not(target_arch = "x86_64")) {
            bail!("guests of x86-64 need an x86-64 host, whose programs they run");
        }
        let mut tests: Vec<_> = jobs.iter().flat_map(|job| &job.tests).map(|tests| tests.program).collect();
        tests.sort_unstable();
        tests.dedup();
        let Built { mirror, lab, tests } = programs::build(&tests, self.release)?;
        let tool = |name: &str| host::program(name).with_context(|| format!("{name} is not installed"));
        let busybox = tool("busybox")?;
        // The real programs instead of busybox's reduced ones.
        let tools =
            ["ip", "ethtool", "setpriv", "prlimit"].map(tool).into_iter().collect::<Result<Vec<_>>>()?;
        let strip = |program: &Path| binaries::stripped(program, self.folder, "strip");
        let mut programs =
            vec![("bin/mirror".to_owned(), strip(&mirror)?), ("bin/mirror-lab".to_owned(), strip(&lab)?)];
        for tool in &tools {
            let name = tool.file_name().unwrap_or_default().to_string_lossy();
            programs.push((format!("bin/{name}"), strip(tool)?));
        }
        for (name, path) in &tests {
            programs.push((format!("tests/{name}"), strip(path)?));
        }
        let needing: Vec<&Path> = [&mirror, &lab]
            .into_iter()
            .chain(&tools)
            .chain(tests.iter().map(|(_, path)| path))
            .map(PathBuf::as_path)
            .collect();
        let libraries = binaries::libraries(&needing)?;
        // Tests start the command by the path at which it was built.
        let links = vec![(mirror.to_string_lossy().into_owned(), "/bin/mirror".to_owned())];
        Ok(Base {
            applets: Base::applets_of(&busybox)?,
            busybox,
            programs,
            libraries: libraries
                .into_iter()
                .map(|path| (path.to_string_lossy().into_owned(), path))
                .collect(),
            links,
        })
    }
}
