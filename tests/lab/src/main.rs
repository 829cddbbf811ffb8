//! `mirror-lab demo`: the whole path of a packet on this host, in namespaces that are removed afterwards. Its
//! other commands are for guests of `cargo xtask vmtest`.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use mirror_lab::{Exchange, Lab, MirrorSource, MirrorSourceOptions, Namespace, guest, mirror_source, tshark};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const VNI: u32 = 12345;
/// Inner packets shown.
const SHOWN: u32 = 12;
/// Traffic on the mirrored link: a page, a large answer, an upload, a small page.
const EXCHANGES: [Exchange; 4] =
    [Exchange::Get(2_000), Exchange::Get(1_000_000), Exchange::PostEcho(100_000), Exchange::Get(1)];
/// Timeout of attaching and ending.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["demo"] => demo(Path::new("target/demo")),
        ["demo", "--output", directory] => demo(Path::new(directory)),
        ["guest", plan, results, papers] => {
            guest::run(Path::new(plan), Path::new(results), Path::new(papers)).map_err(Into::into)
        }
        ["with-capabilities", names, program, ref arguments @ ..] => {
            guest::exec_with_capabilities(names, Command::new(program).args(arguments))
                .map(|never| match never {})
                .map_err(Into::into)
        }
        _ => {
            eprintln!("usage: mirror-lab demo [--output DIR]");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mirror-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(directory: &Path) -> Result<()> {
    // A signal ends the demo between two steps, so that the lab is removed; `mirror` receives it too and ends
    // by itself.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("cannot install signal handlers")?;
    }
    let go_on = || if stop.load(Ordering::Relaxed) { bail!("stopped by a signal") } else { Ok(()) };
    let mirror = mirror_binary()?;
    std::fs::create_dir_all(directory).with_context(|| format!("{}", directory.display()))?;
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let capture = directory.join(format!("http-{seconds}.pcapng"));

    say("raising the lab: a client, a host that mirrors its traffic, and a mirror target");
    let lab = Lab::new()?;
    let source =
        MirrorSource::raise(&lab, &MirrorSourceOptions { vni: VNI, ..MirrorSourceOptions::default() })?;
    let (target, interface) = (source.target(), source.capture_interface());
    say(&format!(
        "the kernel's VXLAN device sends copies from {} to {}, VNI {VNI}",
        mirror_source::SOURCE,
        mirror_source::TARGET
    ));
    go_on()?;

    let mut command = target.command(mirror.to_str().context("the path of mirror is not UTF-8")?);
    command.args(["ingest", "-i", interface, "--stats", "1s", "-w"]).arg(&capture);
    say(&format!("mirror ingest -i {interface} -w {}", capture.display()));
    let mut running = Running(command.stdin(Stdio::null()).spawn().context("mirror ingest")?);
    running.wait_until_attached(target, interface)?;
    go_on()?;

    say(&format!("curl fetches and posts over {}: {} exchanges", source.server(), EXCHANGES.len()));
    for exchange in EXCHANGES {
        source.http(&[exchange])?;
        // Spread over a few seconds, for the live line to show something.
        thread::sleep(Duration::from_millis(700));
        go_on()?;
    }
    let status = running.stop()?;
    ensure!(status.success(), "mirror ingest ended with {status}");

    say(&format!("the first {SHOWN} inner packets, as tshark reads them from the capture"));
    print!("{}", tshark::summary(&capture, SHOWN)?);
    drop(source);
    lab.teardown()?;
    say("the lab is removed; no interface or namespace is left");
    println!("{}", capture.canonicalize().unwrap_or(capture).display());
    Ok(())
}

fn say(what: &str) {
    println!("\n== {what}");
}

/// `mirror` as built beside this program.
fn mirror_binary() -> Result<PathBuf> {
    let mirror = env::current_exe()?.with_file_name("mirror");
    ensure!(mirror.is_file(), "{}: not built; run `cargo xtask demo`", mirror.display());
    Ok(mirror)
}

/// A `mirror ingest` that does not outlive the demo.
struct Running(Child);

impl Running {
    fn wait_until_attached(&mut self, target: &Namespace, interface: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !target.ip(&format!("-j link show dev {interface}"))?.contains("\"xdp\"") {
            if let Some(status) = self.0.try_wait()? {
                bail!("mirror ingest ended with {status} before it was attached");
            }
            ensure!(Instant::now() < deadline, "mirror ingest was not attached within {PATIENCE:?}");
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn stop(mut self) -> Result<std::process::ExitStatus> {
        self.interrupt();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "mirror ingest did not end within {PATIENCE:?} of SIGINT");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn interrupt(&self) {
        if let Ok(id) = i32::try_from(self.0.id()) {
            // One that has ended already needs no signal.
            let _ = kill(Pid::from_raw(id), Signal::SIGINT);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
