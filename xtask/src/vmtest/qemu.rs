//! A guest: starts QEMU, watches it, and always ends it.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::kernel::Machine;
use super::taps::Taps;
use crate::{host, process};

/// The polling interval.
const PAUSE: Duration = Duration::from_millis(100);
/// By then a kernel under working KVM has panicked for want of a root.
const PROBE_LIMIT: Duration = Duration::from_secs(20);
/// CPUs of a guest.
pub(super) const CPUS: u32 = 2;
/// Memory of a guest: its root is in it, and captures.
const MEMORY: &str = "2048";

/// The accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accelerator {
    Kvm,
    /// QEMU's translator: 20 times slower, and always available.
    Tcg,
}

impl Accelerator {
    /// KVM, if a kernel boots with it: its device may exist without working, as in a guest without nesting.
    pub(super) fn probe(machine: Machine, image: &Path, scratch: &Path) -> Result<Self> {
        if machine != Machine::X86_64 || cfg!(not(target_arch = "x86_64")) || File::open("/dev/kvm").is_err()
        {
            return Ok(Self::Tcg);
        }
        let console = scratch.join("probe");
        let mut command = Self::Kvm.command(machine, None);
        command.arg("-serial").arg(format!("file:{}", console.display()));
        command.arg("-kernel").arg(image).args(["-append", "console=ttyS0 panic=-1"]);
        command.stderr(Stdio::null());
        // If it fails to start or to run, TCG is used.
        let ended = Guest::start(command).and_then(|mut guest| guest.wait(PROBE_LIMIT, || Ok(())));
        process::stopped()?;
        let booted =
            fs::read(&console).is_ok_and(|text| String::from_utf8_lossy(&text).contains("Linux version"));
        Ok(if booted && matches!(ended, Ok(End::Off)) { Self::Kvm } else { Self::Tcg })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Tcg => "TCG",
        }
    }

    /// QEMU with a bare machine. It ends with this process, however that ends.
    fn command(self, machine: Machine, taps: Option<&Taps>) -> Command {
        let mut words: Vec<&str> = Vec::new();
        if let Some(taps) = taps {
            words.extend(["ip", "netns", "exec", taps.namespace()]);
        }
        if host::program("setpriv").is_some() {
            words.extend(["setpriv", "--pdeathsig", "KILL"]);
        }
        words.extend(["nice", "-n", "5"]);
        words.push(match machine {
            Machine::X86_64 => "qemu-system-x86_64",
            Machine::Aarch64 => "qemu-system-aarch64",
        });
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        let (kind, cpu) = match machine {
            Machine::X86_64 => ("q35", "max"),
            Machine::Aarch64 => ("virt", "max,pauth-impdef=on"),
        };
        command.args(["-machine", kind]);
        match self {
            Self::Kvm => command.args(["-accel", "kvm", "-cpu", "host"]),
            Self::Tcg => command.args(["-accel", "tcg,thread=multi", "-cpu", cpu]),
        };
        command.args(["-smp", &CPUS.to_string(), "-m", MEMORY]);
        command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        command.arg("-no-reboot").stdin(Stdio::null());
        command
    }
}

/// Files of one boot.
#[derive(Debug)]
pub(super) struct Boot<'a> {
    pub(super) machine: Machine,
    pub(super) image: &'a Path,
    pub(super) initramfs: &'a Path,
    /// An image of a file system, which stays as it is: what the guest writes is discarded.
    pub(super) disk: Option<&'a Path>,
    /// The directory for console, results and papers.
    pub(super) out: &'a Path,
    pub(super) cards: Vec<String>,
    pub(super) taps: Option<&'a Taps>,
    pub(super) limit: Duration,
}

/// How a boot ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The guest powered off.
    Off,
    /// It was killed at its time limit.
    Limit,
    /// QEMU was ended by a signal: a fault of the emulator, independent of the guest's programs. TCG hits its
    /// own assertions now and then (`iotlb_to_section`, in 10.0).
    Crashed(String),
}

impl Boot<'_> {
    /// Boots, and passes each line of the results to `each` as it arrives.
    ///
    /// # Errors
    /// If QEMU cannot be started or fails, a signal came, or `each` fails.
    pub(super) fn run(
        &self,
        accelerator: Accelerator,
        mut each: impl FnMut(&str) -> Result<()>,
    ) -> Result<End> {
        let results = self.out.join("results");
        let mut command = accelerator.command(self.machine, self.taps);
        let port = |name: &str| format!("file:{}", self.out.join(name).display());
        // The first serial port of `virt` is of another kind, of which there is only one.
        let append = match self.machine {
            Machine::X86_64 => {
                for name in ["console", "results", "papers.tgz"] {
                    command.args(["-serial", &port(name)]);
                }
                "console=ttyS0 results=ttyS1 papers=ttyS2"
            }
            Machine::Aarch64 => {
                command.args(["-serial", &port("console")]);
                for (id, name) in [("r", "results"), ("p", "papers.tgz")] {
                    command
                        .arg("-chardev")
                        .arg(format!("file,id={id},path={}", self.out.join(name).display()));
                    command.args(["-device", &format!("pci-serial,chardev={id}")]);
                }
                "console=ttyAMA0 results=ttyS0 papers=ttyS1"
            }
        };
        command.arg("-kernel").arg(self.image).arg("-initrd").arg(self.initramfs);
        command
            .arg("-append")
            .arg(format!("{append} quiet loglevel=4 oops=panic panic=-1 mitigations=off net.ifnames=0"));
        if let Some(disk) = self.disk {
            let disk = format!("file={},if=virtio,format=raw,snapshot=on", disk.display());
            command.args(["-drive", &disk]);
        }
        command.args(&self.cards);
        let said = self.out.join("qemu");
        let file = File::create(&said).with_context(|| format!("cannot create {}", said.display()))?;
        command.stdout(file.try_clone().context("cannot share a file")?).stderr(file);
        let shown = process::display(&command);
        fs::write(self.out.join("command"), format!("{shown}\n")).context("cannot write the command")?;
        let mut lines = Lines::default();
        let mut guest = Guest::start(command)?;
        let words = || fs::read_to_string(&said).unwrap_or_default();
        let end = guest
            .wait(self.limit, || lines.read(&results, &mut each))
            .with_context(|| format!("the guest of {}: {}", self.out.display(), words().trim()))?;
        lines.read(&results, &mut each)?;
        Ok(match end {
            End::Crashed(signal) => {
                End::Crashed(format!("{signal}: {}", words().lines().last().unwrap_or_default()))
            }
            end => end,
        })
    }
}

/// Complete lines of a growing file.
#[derive(Debug, Default)]
struct Lines {
    read: u64,
    rest: String,
}

impl Lines {
    fn read(&mut self, file: &Path, each: &mut impl FnMut(&str) -> Result<()>) -> Result<()> {
        // QEMU creates it when it starts.
        let Ok(mut file) = File::open(file) else { return Ok(()) };
        file.seek(SeekFrom::Start(self.read)).context("cannot read results")?;
        let mut bytes = Vec::new();
        self.read += file.read_to_end(&mut bytes).context("cannot read results")? as u64;
        self.rest.push_str(&String::from_utf8_lossy(&bytes));
        while let Some((line, rest)) = self.rest.split_once('\n') {
            each(line.trim())?;
            self.rest = rest.to_owned();
        }
        Ok(())
    }
}

/// A running QEMU. Killed when dropped.
#[derive(Debug)]
struct Guest(Child);

impl Guest {
    fn start(mut command: Command) -> Result<Self> {
        let child =
            command.spawn().with_context(|| format!("cannot start `{}`", process::display(&command)))?;
        Ok(Self(child))
    }

    /// Waits for its end, and calls `meanwhile` at each poll.
    fn wait(&mut self, limit: Duration, mut meanwhile: impl FnMut() -> Result<()>) -> Result<End> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.0.try_wait().context("cannot wait for QEMU")? {
                process::stopped()?;
                return match status.signal() {
                    Some(signal) => Ok(End::Crashed(format!("signal {signal}"))),
                    None if status.success() => Ok(End::Off),
                    None => bail!("QEMU ended with {status}"),
                };
            }
            process::stopped()?;
            meanwhile()?;
            if Instant::now() > deadline {
                return Ok(End::Limit);
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // A process that has ended has been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    #[test]
    fn each_line_is_returned_once_and_whole() {
        let file = env::temp_dir().join(format!("mirror-lines-{}", std::process::id()));
        let mut seen = Vec::new();
        let mut lines = Lines::default();
        for text in ["one\ntw", "one\ntwo\nthr", "one\ntwo\nthree\n"] {
            fs::write(&file, text).unwrap();
            lines
                .read(&file, &mut |line: &str| {
                    seen.push(line.to_owned());
                    Ok(())
                })
                .unwrap();
        }
        fs::remove_file(&file).unwrap();
        assert_eq!(seen, ["one", "two", "three"]);
    }

    #[test]
    fn a_guest_is_killed_at_its_limit() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let mut guest = Guest::start(command).unwrap();
        let id = guest.0.id();
        assert_eq!(guest.wait(Duration::ZERO, || Ok(())).unwrap(), End::Limit);
        drop(guest);
        assert!(!Path::new("/proc").join(id.to_string()).exists());
    }

    #[test]
    fn qemu_that_fails_is_an_error() {
        let mut guest = Guest::start(Command::new("false")).unwrap();
        assert!(guest.wait(Duration::from_secs(5), || Ok(())).is_err());
    }

    #[test]
    fn a_crash_of_qemu_is_distinguished_from_a_guest_that_ends() {
        let mut command = Command::new("sh");
        command.args(["-c", "kill -ABRT $$"]);
        let mut guest = Guest::start(command).unwrap();
        let end = guest.wait(Duration::from_secs(5), || Ok(())).unwrap();
        assert_eq!(end, End::Crashed("signal 6".into()));
    }
}
