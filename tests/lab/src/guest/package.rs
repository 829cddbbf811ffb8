//! The package under dpkg and the systemd that is PID 1 of the guest, in two versions of the same source; and
//! what the guide has typed on a target.

use std::{
    collections::BTreeSet,
    fs,
    num::NonZeroU32,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use nix::{sys::signal::Signal, unistd::User};

use super::{
    Verdict,
    card::Raised,
    numbered::Sent,
    plan::{Package, PackageScenario},
    service::{
        CONFIGURATION, Checked, OUTPUT, PASSED, TAKEN, UNIT, captured, complete, end, fails_once, files,
        forget_log, frames, hands_over, log, number, pid, property, read, report, send, signal, systemctl,
        unless, until, wait_for, write,
    },
};
use crate::{Injector, capture, command::run as run_command};

/// The package, and the same source as a later version.
const PACKAGE: &str = "/vmtest/mirror.deb";
const NEXT: &str = "/vmtest/mirror-next.deb";
/// Blocks of commands, as `cargo xtask vmtest` has found them in the guide.
const GUIDE: &str = "/vmtest/guide.json";
/// Interfaces as an instance has them, and the ends that send to them.
const MANAGEMENT: [&str; 2] = ["ens5", "source5"];
const CAPTURE: [&str; 2] = ["ens6", "source6"];
/// As packages have it.
const NO_INTERFACE: &str = "#interface = [\"ens6\"]";
/// What the workshop of the guide mirrors with.
const WORKSHOP_VNI: u32 = 12345;
/// Frames a second while a later version is installed: about what an emulated CPU takes beside dpkg.
const PACE: u32 = 1_500;
/// Frames that come after all is over.
const AFTER: usize = 500;

/// Carries out a scenario; what dpkg and commands of the guide said is among the papers.
pub(super) fn run(package: &Package, papers: &Path) -> Verdict {
    let paper = papers.join(format!("{}.txt", super::file_stem(&package.name)));
    let mut said = String::new();
    let verdict = match package.scenario {
        PackageScenario::Installs => installs(&mut said),
        PackageScenario::StartsAgain => starts_again(&mut said),
        PackageScenario::Upgrades => upgrades(&mut said),
        PackageScenario::Purges => purges(&mut said),
        PackageScenario::Guide => guide(&mut said),
    };
    said.push_str(&systemctl(&["status", "--no-pager", "--lines=40", UNIT]).unwrap_or_else(|said| said));
    fs::write(&paper, said).map_err(|error| format!("{}: {error}", paper.display()))?;
    verdict
}

/// Neither enabled nor started; a start as it is fails once, and names the line to edit.
fn installs(said: &mut String) -> Verdict {
    let card = begin(said)?;
    let (file, state, main) = (property("UnitFileState")?, property("ActiveState")?, property("MainPID")?);
    unless(file == "disabled" && state == "inactive" && main == "0", || {
        format!("{file}, {state}, main process {main} after the package was installed")
    })?;
    unless(!card.has_program(), || "there is an XDP program".into())?;
    let version = program_is_of(PACKAGE)?;
    let next = version_of(NEXT)?;
    unless(version != next, || format!("both packages are of version {version}"))?;
    let named = fails_once()?;
    unless(named.contains(CONFIGURATION), || format!("the log does not name the file: {named}"))?;
    Ok(format!("{version}: {named}"))
}

/// Whatever earlier runs have left is there at the end, and keeps none from its start.
fn starts_again(said: &mut String) -> Verdict {
    let card = begin(said)?;
    configure(&card.interface)?;
    let frames = frames(&card, 100)?;
    for _ in 0..2 {
        systemctl(&["start", UNIT])?;
        send(&card, &frames)?;
        wait_for(100)?;
        systemctl(&["stop", UNIT])?;
        unless(!card.has_program(), || "its program is still there".into())?;
    }
    systemctl(&["start", UNIT])?;
    send(&card, &frames)?;
    wait_for(100)?;
    let (killed, before) = (pid()?, files()?);
    let partial = before.iter().filter(|file| file.to_string_lossy().contains(".partial")).count();
    unless(partial == 1, || format!("not one file is incomplete: {before:?}"))?;
    signal(killed, Signal::SIGKILL)?;
    until("it has died", || Ok((pid()? != killed).then_some(())))?;
    systemctl(&["start", UNIT])?;
    let (state, after) = (property("ActiveState")?, pid()?);
    unless(state == "active" && after != killed, || format!("{state} after kill -9"))?;
    send(&card, &frames)?;
    wait_for(100)?;
    let lost: Vec<_> = before.difference(&files()?).cloned().collect();
    unless(lost.is_empty(), || format!("files are gone: {lost:?}"))?;
    end()?;
    complete(300)?;
    accounted()?;
    Ok(format!("2 starts in a row, and 1 after kill -9: 300 frames, {} files are left", before.len()))
}

/// The service goes on in the later version while packets come, without a stop. Before 6.4 packets pass to
/// the host for a moment, and are counted.
fn upgrades(said: &mut String) -> Verdict {
    let card = begin(said)?;
    configure(&card.interface)?;
    systemctl(&["start", UNIT])?;
    let before = pid()?;
    // More than are sent in any case.
    let frames = Sent { pace: PACE, ..frames(&card, 60_000)? };
    let over = AtomicBool::new(false);
    let ((sent, lasted), took) = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let start = Instant::now();
            send_until(&card, &frames, &over).map(|sent| (sent, start.elapsed().as_secs_f64()))
        });
        let installed = until("packets are captured", || Ok((number(&report()?, TAKEN) > 0).then_some(())));
        let installed = installed.and_then(|()| {
            let start = Instant::now();
            dpkg(&["--install", NEXT], said)?;
            Ok(start.elapsed().as_secs_f64())
        });
        over.store(true, Ordering::Relaxed);
        let sent = sending.join().map_err(|_| "the source ends early")??;
        Ok::<_, String>((sent, installed?))
    })?;
    let (state, restarts) = (property("ActiveState")?, property("NRestarts")?);
    unless(state == "active" && restarts == "0", || format!("{state} after {restarts} restarts"))?;
    let version = program_is_of(NEXT)?;
    let running = run_command(Command::new("mirror").args(["status", "mirror"]));
    let running = running.map_err(|error| error.to_string())?;
    unless(running.contains(&format!("mirror {version}\n")), || format!("not {version}: {running}"))?;
    unless(pid()? != before, || "systemd has the main process of before".into())?;
    let report = until(&format!("{sent} frames are accounted for"), || {
        let report = report()?;
        Ok((number(&report, TAKEN) + number(&report, PASSED) == sent as u64).then_some(report))
    })?;
    let passed = number(&report, PASSED);
    unless(passed == 0 || !hands_over()?, || format!("{passed} frames passed to the host"))?;
    end()?;
    accounted()?;
    let captured = captured_once(&frames.inner()[..sent])?;
    unless(captured as u64 + passed == sent as u64, || {
        format!("{captured} of {sent} frames are in files, {passed} passed to the host")
    })?;
    let how = said.lines().rfind(|line| line.starts_with("mirror: ")).unwrap_or("nothing of the upgrade");
    let rate = sent as f64 / lasted;
    Ok(format!("{captured} of {sent} frames at {rate:.0} a second, dpkg took {took:.1} s and said {how}"))
}

/// Nothing of it is left but captures, and their user; the user alone where there are none.
fn purges(said: &mut String) -> Verdict {
    let card = begin(said)?;
    dpkg(&["--purge", "mirror"], said)?;
    let left = left_over()?;
    unless(left.is_empty(), || format!("a package that never ran has left {left:?}"))?;
    dpkg(&["--install", PACKAGE], said)?;
    configure(&card.interface)?;
    systemctl(&["enable", "--now", UNIT])?;
    send(&card, &frames(&card, 100)?)?;
    wait_for(100)?;
    dpkg(&["--purge", "mirror"], said)?;
    let (loaded, state) = (property("LoadState")?, property("ActiveState")?);
    unless(loaded == "not-found" && state == "inactive", || format!("the unit is {loaded}, {state}"))?;
    unless(!card.has_program(), || "its program is still there".into())?;
    let user = User::from_name("mirror").map_err(|error| error.to_string())?.ok_or("the user is gone")?;
    let captures = files()?;
    let of_user =
        |file: &std::path::PathBuf| fs::metadata(file).is_ok_and(|it| it.uid() == user.uid.as_raw());
    unless(captures.iter().all(of_user), || format!("captures are not the user's: {captures:?}"))?;
    complete(100)?;
    let left: Vec<_> = left_over()?.into_iter().filter(|path| !path.starts_with(OUTPUT)).collect();
    unless(left.is_empty(), || format!("purged, there is {left:?}"))?;
    Ok(format!("{} capture is left, with its user", captures.len()))
}

/// Each command as it is written, with the service on the interface that its block is about.
fn guide(said: &mut String) -> Verdict {
    let blocks: Vec<Vec<String>> =
        serde_json::from_str(&read(Path::new(GUIDE))?).map_err(|error| format!("{GUIDE}: {error}"))?;
    let capture = begin(said)?;
    let management = Raised::named_veth(MANAGEMENT).map_err(|error| error.to_string())?;
    let mut count = 0;
    for block in &blocks {
        let names = |card: &Raised| block.iter().any(|command| command.contains(&card.interface));
        let card = if names(&capture) { &capture } else { &management };
        end()?;
        systemctl(&["reset-failed"])?;
        configure(&card.interface)?;
        systemctl(&["start", UNIT])?;
        let frames = frames(card, 10_000)?.of_vni(WORKSHOP_VNI);
        for command in block {
            typed(command, card, &frames, said)?;
            count += 1;
        }
    }
    end()?;
    unless(count > 0, || format!("{GUIDE} has no command"))?;
    let inner = capture::read(Path::new("/root/inner.pcapng")).map_err(|error| error.to_string())?;
    unless(inner.frames().len() == 1_000, || format!("{} packets in inner.pcapng", inner.frames().len()))?;
    Ok(format!("{count} commands of {} blocks exit with 0", blocks.len()))
}

fn typed(command: &str, card: &Raised, frames: &Sent, said: &mut String) -> Checked<()> {
    let over = AtomicBool::new(false);
    let output = thread::scope(|scope| {
        // The others need none, and a drain waits until none comes.
        let sending =
            command.contains("mirror ingest").then(|| scope.spawn(|| send_until(card, frames, &over)));
        let mut shell = Command::new("sh");
        let output = shell.args(["-c", command]).current_dir("/root").stdin(Stdio::null()).output();
        over.store(true, Ordering::Relaxed);
        if let Some(sending) = sending {
            sending.join().map_err(|_| "the source ends early")??;
        }
        output.map_err(|error| format!("cannot start a shell: {error}"))
    })?;
    let shown =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    said.push_str(&format!("# {command}\n{shown}"));
    unless(output.status.success(), || format!("{command}: {}: {shown}", output.status))
}

/// No package, no captures, then the package and a card.
fn begin(said: &mut String) -> Checked<Raised> {
    if Path::new("/usr/bin/mirror").exists() {
        end()?;
        dpkg(&["--purge", "mirror"], said)?;
    }
    if Path::new(OUTPUT).exists() {
        fs::remove_dir_all(OUTPUT).map_err(|error| format!("{OUTPUT}: {error}"))?;
    }
    forget_log()?;
    dpkg(&["--install", PACKAGE], said)?;
    Raised::named_veth(CAPTURE).map_err(|error| error.to_string())
}

/// The one key that has to be set.
fn configure(interface: &str) -> Checked<()> {
    let text = read(Path::new(CONFIGURATION))?;
    let is_key = |line: &&str| line.starts_with("interface = ") || *line == NO_INTERFACE;
    let line = text.lines().find(is_key).ok_or_else(|| format!("{CONFIGURATION} has no {NO_INTERFACE}"))?;
    write(CONFIGURATION, &text.replacen(line, &format!("interface = [\"{interface}\"]"), 1))
}

/// Sends until it is over and a moment longer, and returns how many frames there were.
fn send_until(card: &Raised, frames: &Sent, over: &AtomicBool) -> Checked<usize> {
    let mut after = AFTER;
    let goes_on = |_: &&[u8]| {
        after -= usize::from(over.load(Ordering::Relaxed));
        after > 0
    };
    let send = || {
        let pace = NonZeroU32::new(frames.pace).unwrap_or(NonZeroU32::MIN);
        let injector = Injector::new(&card.source_namespace, &card.source)?.pace(pace);
        injector.send(frames.outer.iter().map(Vec::as_slice).take_while(goes_on))
    };
    let sent = send().map_err(|error| error.to_string())?;
    unless(sent < frames.count(), || format!("{sent} frames are too few"))?;
    usize::try_from(sent).map_err(|error| error.to_string())
}

/// Every run has accounted for its frames, and at least one has ended.
fn accounted() -> Checked<()> {
    let log = log()?;
    let mut residues = log.lines().filter(|line| line.contains("residue ")).peekable();
    unless(residues.peek().is_some(), || format!("no residue: {log}"))?;
    let wrong: Vec<_> = residues.filter(|line| !line.contains("residue 0")).collect();
    unless(wrong.is_empty(), || format!("{wrong:?}"))
}

/// How many of these frames are in captures, each once and nothing else.
fn captured_once(sent: &[Vec<u8>]) -> Checked<usize> {
    let captured = capture::multiset(captured()?);
    let twice = captured.windows(2).filter(|pair| pair[0] == pair[1]).count();
    let sent: BTreeSet<_> = sent.iter().collect();
    let strange = captured.iter().filter(|frame| !sent.contains(frame)).count();
    unless(twice == 0 && strange == 0, || {
        format!("{twice} frames are there twice, {strange} were not sent")
    })?;
    Ok(captured.len())
}

/// The version of a package, whose program says the same.
fn program_is_of(package: &str) -> Checked<String> {
    let version = version_of(package)?;
    let shown = run_command(Command::new("mirror").arg("--version")).map_err(|error| error.to_string())?;
    let named = shown.lines().next().unwrap_or_default();
    unless(named == format!("mirror {version}"), || format!("{named}, of a package of {version}"))?;
    Ok(version)
}

/// Without the part that is Debian's.
fn version_of(package: &str) -> Checked<String> {
    let shown = run_command(Command::new("dpkg-deb").args(["--field", package, "Version"]));
    let shown = shown.map_err(|error| error.to_string())?;
    let (version, _) = shown.trim().rsplit_once('-').ok_or_else(|| format!("{package}: version {shown}"))?;
    Ok(version.to_owned())
}

/// What has a name of ours on this host, beside the tests.
fn left_over() -> Checked<Vec<String>> {
    let mut find = Command::new("find");
    find.args(["/", "/run", "-xdev", "-name", "mirror*", "-not", "-path", "/vmtest/*"]);
    // The end of a veth bears no such name, papers do.
    let found = run_command(find.args(["-not", "-path", "/papers/*"])).map_err(|error| error.to_string())?;
    Ok(found.lines().map(str::to_owned).collect())
}

/// Keeps what it said, which is returned as the error if it failed.
fn dpkg(arguments: &[&str], said: &mut String) -> Checked<()> {
    let output = Command::new("dpkg").args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot start dpkg: {error}"))?;
    let shown =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    said.push_str(&format!("dpkg {}\n{shown}", arguments.join(" ")));
    unless(output.status.success(), || format!("dpkg {}: {}: {shown}", arguments.join(" "), output.status))
}
