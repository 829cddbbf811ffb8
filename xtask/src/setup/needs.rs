//! What each purpose needs, how to detect it, and how to install it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::Group;
use crate::deploy::tools;
use crate::host::{self, Distro};
use crate::pins::{self, CargoTool, PythonTools};
use crate::{ebpf, process};

/// One thing a host must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Need {
    /// Its name in the list.
    pub(super) name: &'static str,
    probe: Probe,
    /// How to install it.
    pub(super) remedy: Remedy,
}

/// How to detect it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    /// A program on the search path.
    Program(&'static str),
    /// A file, if a package has no program.
    File(&'static str),
    /// The package itself, for headers and libraries.
    Package,
    /// A program of cargo, with its version if that matters.
    CargoTool(CargoTool),
    /// A compiler with the source of `core`.
    EbpfCompiler,
    /// A QEMU with all NIC models of the guests.
    Qemu(&'static str),
    /// A virtual environment with these packages.
    Python(PythonTools),
    /// cloud-init's modules, without its services.
    CloudInit,
}

/// How to install it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// These packages of the distribution.
    Packages(&'static [&'static str]),
    /// `cargo install`.
    Cargo(CargoTool),
    /// `rustup toolchain install` of the pinned compiler.
    Rustup,
    /// A package of the distribution for its program, without the service that it starts.
    WithoutService(&'static str),
    /// Suricata as a program to run, without the service that its package starts.
    Suricata,
    /// Prometheus' tools, without the service that its package starts.
    Prometheus,
    /// A virtual environment below the target directory.
    Python(PythonTools),
    /// Debian's package of cloud-init, unpacked below the target directory.
    CloudInit,
    /// These packages, on Debian 12 from its backports.
    Backports(&'static [&'static str]),
    /// Not automatic: a sentence for the user.
    ByHand(&'static str),
}

impl Need {
    const fn program(name: &'static str, packages: &'static [&'static str]) -> Self {
        Self { name, probe: Probe::Program(name), remedy: Remedy::Packages(packages) }
    }

    const fn package(packages: &'static [&'static str]) -> Self {
        Self { name: packages[0], probe: Probe::Package, remedy: Remedy::Packages(packages) }
    }

    /// The checker of metrics.
    const fn promtool() -> Self {
        Self { name: "promtool", probe: Probe::Program("promtool"), remedy: Remedy::Prometheus }
    }

    /// The load balancer of the lab.
    const fn haproxy() -> Self {
        let remedy = Remedy::WithoutService("haproxy");
        Self { name: "haproxy", probe: Probe::Program("haproxy"), remedy }
    }

    const fn suricata() -> Self {
        Self { name: "suricata", probe: Probe::Program("suricata"), remedy: Remedy::Suricata }
    }

    /// QEMU has had a model of igb since version 8.
    const fn qemu(program: &'static str, packages: &'static [&'static str]) -> Self {
        Self { name: program, probe: Probe::Qemu(program), remedy: Remedy::Backports(packages) }
    }

    const fn cargo(tool: CargoTool) -> Self {
        Self { name: tool.name, probe: Probe::CargoTool(tool), remedy: Remedy::Cargo(tool) }
    }

    /// Whether this host has it.
    ///
    /// # Errors
    /// If the package manager cannot be asked.
    pub(super) fn is_met(&self) -> Result<bool> {
        Ok(match self.probe {
            Probe::Program(name) => host::program(name).is_some(),
            Probe::File(path) => Path::new(path).exists(),
            Probe::Package => match self.remedy {
                Remedy::Packages(packages) => packages_installed(packages)?,
                Remedy::Cargo(_)
                | Remedy::Rustup
                | Remedy::WithoutService(_)
                | Remedy::Suricata
                | Remedy::Prometheus
                | Remedy::Python(_)
                | Remedy::CloudInit
                | Remedy::Backports(_)
                | Remedy::ByHand(_) => false,
            },
            Probe::CargoTool(tool) => {
                installed_version(tool).is_some_and(|v| !tool.exact || v == tool.version)
            }
            Probe::EbpfCompiler => ebpf::toolchain::compiler().is_some(),
            Probe::Python(packages) => tools::installed(&packages),
            Probe::CloudInit => tools::cloud_init().join("usr/lib/python3/dist-packages/cloudinit").is_dir(),
            Probe::Qemu(name) => qemu_version(name).is_some_and(|major| major >= LEAST_QEMU),
        })
    }
}

/// What `group` needs on `distro`.
pub(super) fn of(group: Group, distro: Distro) -> Vec<Need> {
    let dnf = distro == Distro::Dnf;
    // The name on Debian's side, then the one on Fedora's.
    let pick = |apt: &'static [&'static str], rpm: &'static [&'static str]| if dnf { rpm } else { apt };
    match group {
        Group::Build => vec![
            Need::program("gcc", &["gcc"]),
            Need::package(pick(&["libc6-dev"], &["glibc-devel"])),
            Need::package(pick(&["libpcap-dev"], &["libpcap-devel"])),
        ],
        Group::Lab => vec![
            Need::program("ip", pick(&["iproute2"], &["iproute"])),
            Need::program("tc", pick(&["iproute2"], &["iproute-tc"])),
            Need::program("ethtool", &["ethtool"]),
            Need::program("nft", &["nftables"]),
            Need::program("tcpdump", &["tcpdump"]),
            Need::program("tshark", pick(&["tshark"], &["wireshark-cli"])),
            Need::program("curl", &["curl"]),
        ],
        // Amazon Linux has no packages of Suricata and Prometheus: `cargo xtask test` reports what it skips
        // there.
        Group::Test if dnf => {
            let tools = [
                Need::program("conntrack", &["conntrack-tools"]),
                Need::haproxy(),
                Need::program("openssl", &["openssl"]),
            ];
            tools.into_iter().chain(compressors()).chain(libxdp(dnf)).collect()
        }
        Group::Test => {
            let tools = [
                Need::suricata(),
                Need::promtool(),
                Need::program("conntrack", &["conntrack"]),
                Need::haproxy(),
                Need::program("openssl", &["openssl"]),
                // As PID 1 of containers in the lab.
                Need::program("systemd-analyze", &["systemd"]),
            ];
            // Elsewhere it is no package of apt's: `cargo xtask test` reports what it skips.
            let chromium = Need::program("chromium", &["chromium", "fonts-dejavu-core"]);
            let chromium = (distro == Distro::Debian12).then_some(chromium);
            tools.into_iter().chain(chromium).chain(compressors()).chain(libxdp(dnf)).collect()
        }
        Group::Ebpf => ebpf_needs(distro),
        Group::Lint => {
            let tools = [
                Need::program("git", &["git"]),
                Need::program("gcc", &["gcc"]),
                Need::cargo(pins::CARGO_DENY),
            ];
            tools.into_iter().chain(libxdp(dnf)).collect()
        }
        Group::Fuzz => vec![
            // libFuzzer itself is C++, built by libfuzzer-sys.
            Need::program("g++", pick(&["g++"], &["gcc-c++"])),
            Need::cargo(pins::CARGO_FUZZ),
        ],
        Group::Bench => {
            let tools = [Need::program("valgrind", &["valgrind"]), Need::program("iperf3", &["iperf3"])];
            tools.into_iter().chain(libxdp(dnf)).collect()
        }
        // Elsewhere there are neither Debian's kernels nor an apt to fetch them: `cargo xtask vmtest` reports
        // that.
        Group::Vm if matches!(distro, Distro::Dnf | Distro::Unknown) => Vec::new(),
        Group::Vm => vec![
            Need::qemu("qemu-system-x86_64", &["qemu-system-x86"]),
            Need::qemu("qemu-system-aarch64", &["qemu-system-arm"]),
            Need::program("busybox", &["busybox-static"]),
            Need::program("xz", &["xz-utils"]),
            Need::program("strip", &["binutils"]),
            Need::program("mmdebstrap", &["mmdebstrap"]),
            Need::program("mke2fs", &["e2fsprogs"]),
        ],
        Group::Deploy => deploy_needs(distro),
        Group::Peers => peers_needs(distro),
        Group::Dist => vec![
            Need::package(pick(&["python3-venv"], &["python3"])),
            Need::program("flex", &["flex"]),
            Need::program("bison", &["bison"]),
            Need::program("make", &["make"]),
            Need::program("strip", &["binutils"]),
            Need::program("dpkg-deb", &["dpkg"]),
            Need::program("lintian", &["lintian"]),
            Need::program("rpm", &["rpm"]),
            Need::program("rpmlint", &["rpmlint"]),
            Need::cargo(pins::CARGO_DEB),
            Need::cargo(pins::CARGO_GENERATE_RPM),
        ],
        Group::All => Vec::new(),
    }
}

/// Programs that decompress captures.
fn compressors() -> [Need; 2] {
    [Need::program("gzip", &["gzip"]), Need::program("zstd", &["zstd"])]
}

/// The build tools of libxdp, which is under the sockets that ours are tested against and compared with; the
/// engine does not need it.
fn libxdp(dnf: bool) -> [Need; 6] {
    let pick = |apt: &'static [&'static str], rpm: &'static [&'static str]| if dnf { rpm } else { apt };
    [
        Need::program("clang", &["clang"]),
        Need::program("make", &["make"]),
        Need::program("m4", &["m4"]),
        Need::program("pkg-config", pick(&["pkg-config"], &["pkgconf-pkg-config"])),
        Need::package(pick(&["libelf-dev"], &["elfutils-libelf-devel"])),
        Need::package(pick(&["zlib1g-dev"], &["zlib-devel"])),
    ]
}

fn ebpf_needs(distro: Distro) -> Vec<Need> {
    let strip = ebpf::toolchain::STRIP;
    if distro == Distro::Debian12 {
        return vec![
            Need {
                name: "rustc with the source of core",
                probe: Probe::EbpfCompiler,
                remedy: Remedy::Packages(&["rustc-web", "cargo-web", "rust-web-src"]),
            },
            Need {
                name: "clippy of that rustc",
                probe: Probe::File("/usr/bin/clippy-driver"),
                remedy: Remedy::Packages(&["rust-web-clippy"]),
            },
            Need { name: "llvm-strip", probe: Probe::File(strip), remedy: Remedy::Packages(&["llvm-22"]) },
            Need::program("g++", &["g++"]),
            Need::package(&["llvm-22-dev", "libpolly-22-dev", "libzstd-dev", "zlib1g-dev"]),
            Need::cargo(pins::BPF_LINKER),
        ];
    }
    vec![
        Need { name: "rustc with the source of core", probe: Probe::EbpfCompiler, remedy: Remedy::Rustup },
        Need {
            name: "llvm-strip",
            probe: Probe::File(strip),
            remedy: Remedy::ByHand(
                "LLVM 22 in /usr/lib/llvm-22, as the packages llvm-22 and llvm-22-dev of apt.llvm.org have \
                it",
            ),
        },
        Need::cargo(pins::BPF_LINKER),
    ]
}

fn deploy_needs(distro: Distro) -> Vec<Need> {
    let python = |tools: PythonTools| Need {
        name: tools.packages[0],
        probe: Probe::Python(tools),
        remedy: Remedy::Python(tools),
    };
    let apt = matches!(distro, Distro::Debian12 | Distro::Apt);
    let cloud_init = Need {
        name: "cloud-init",
        probe: Probe::CloudInit,
        remedy: if apt { Remedy::CloudInit } else { Remedy::ByHand("cloud-init, as Debian has it") },
    };
    let venv = if apt { Need::package(&["python3-venv"]) } else { Need::program("python3", &["python3"]) };
    let shellcheck = Need::program("shellcheck", if apt { &["shellcheck"] } else { &["ShellCheck"] });
    vec![venv, shellcheck, cloud_init, python(pins::TEMPLATE_TOOLS), python(pins::CHECKOV)]
}

/// The first QEMU with all NIC models of the guests.
const LEAST_QEMU: u32 = 8;

/// The first number in `QEMU emulator version 10.0.2 (…)`.
fn qemu_version(program: &str) -> Option<u32> {
    let shown = process::output_quietly(Command::new(host::program(program)?).arg("--version"))?;
    let version = shown.split_once("version ")?.1;
    version.split('.').next()?.parse().ok()
}

/// Peers that are missing are left out of the comparison.
fn peers_needs(distro: Distro) -> Vec<Need> {
    let dnf = distro == Distro::Dnf;
    let mut needs = vec![
        Need::program("taskset", &["util-linux"]),
        Need::program("tcpdump", &["tcpdump"]),
        Need::program("dumpcap", if dnf { &["wireshark-cli"] } else { &["wireshark-common"] }),
    ];
    // Amazon Linux has no package of these.
    if !dnf {
        needs.push(Need::program("netsniff-ng", &["netsniff-ng"]));
        needs.push(Need::suricata());
    }
    needs
}

/// The rest of the output of `NAME --version` after the name.
fn installed_version(tool: CargoTool) -> Option<String> {
    let program = host::program(tool.name)?;
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.split_whitespace().nth(1)?.trim_start_matches('v').to_owned())
}

fn packages_installed(packages: &[&str]) -> Result<bool> {
    if host::program("dpkg-query").is_some() {
        // It fails for unknown names, and also knows removed packages.
        let output = Command::new("dpkg-query")
            .args(["--show", "--showformat=${db:Status-Status}\n"])
            .args(packages)
            .output()
            .context("cannot run dpkg-query")?;
        let states = String::from_utf8_lossy(&output.stdout);
        return Ok(output.status.success() && states.lines().all(|state| state == "installed"));
    }
    if let Some(rpm) = host::program("rpm") {
        let mut command = Command::new(rpm);
        command.arg("--query").args(packages).stdout(Stdio::null());
        let status =
            command.status().with_context(|| format!("cannot run `{}`", process::display(&command)))?;
        return Ok(status.success());
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_of_a_known_distribution_has_a_remedy_or_a_sentence() {
        for distro in [Distro::Debian12, Distro::Apt, Distro::Dnf] {
            for group in Group::EACH {
                for need in of(group, distro) {
                    match need.remedy {
                        Remedy::Packages(packages) | Remedy::Backports(packages) => {
                            assert!(!packages.is_empty(), "{need:?}");
                        }
                        Remedy::ByHand(sentence) => assert!(!sentence.is_empty(), "{need:?}"),
                        Remedy::Cargo(_)
                        | Remedy::Rustup
                        | Remedy::WithoutService(_)
                        | Remedy::Suricata
                        | Remedy::Prometheus
                        | Remedy::Python(_)
                        | Remedy::CloudInit => {}
                    }
                }
            }
        }
    }

    #[test]
    fn an_unknown_program_is_missing_and_the_shell_is_not() {
        assert!(!Need::program("no-such-program-anywhere", &["x"]).is_met().unwrap());
        assert!(Need::program("sh", &["dash"]).is_met().unwrap());
    }

    #[test]
    fn an_exact_tool_in_another_version_is_missing() {
        let tool = CargoTool { name: "git", version: "0.0.1", exact: true };
        assert!(!Need::cargo(tool).is_met().unwrap());
    }
}
