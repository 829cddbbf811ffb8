//! From what is missing to the commands that install it: without I/O, so that every host can be tested on
//! any.

use std::collections::BTreeSet;
use std::fmt;
use std::process::Command;

use super::needs::{Need, Remedy};
use crate::deploy::tools;
use crate::host::{self, Distro};
use crate::pins;
use crate::process::quote;

/// What would be installed, and by which commands.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    missing: Vec<&'static str>,
    steps: Vec<Step>,
    by_hand: Vec<String>,
}

/// One command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    env: Vec<(&'static str, &'static str)>,
    argv: Vec<String>,
    root: bool,
}

impl Plan {
    /// The plan that installs `missing` on a host of `distro`.
    pub(super) fn new(distro: Distro, missing: &[Need]) -> Self {
        let mut plan = Self::default();
        let mut packages = BTreeSet::new();
        let (mut suricata, mut prometheus) = (false, false);
        let mut without_service = BTreeSet::new();
        let mut backports = BTreeSet::new();
        let mut rest = Vec::new();
        for need in missing {
            if plan.missing.contains(&need.name) {
                continue;
            }
            plan.missing.push(need.name);
            match need.remedy {
                Remedy::Packages(names) => packages.extend(names.iter().copied()),
                Remedy::Cargo(pins::BPF_LINKER) => rest.push(bpf_linker()),
                Remedy::Cargo(tool) => rest.push(cargo_install(tool.name, tool.version, &[])),
                Remedy::Rustup => rest.push(rustup()),
                Remedy::WithoutService(name) if matches!(distro, Distro::Debian12 | Distro::Apt) => {
                    without_service.insert(name);
                }
                // Other distributions start no service by themselves.
                Remedy::WithoutService(name) => {
                    packages.insert(name);
                }
                Remedy::Suricata => suricata = true,
                Remedy::Prometheus => prometheus = true,
                Remedy::Python(tools) => rest.extend(python(&tools)),
                Remedy::CloudInit => rest.push(cloud_init()),
                Remedy::Backports(names) if distro == Distro::Debian12 => {
                    backports.extend(names.iter().copied());
                }
                Remedy::Backports(names) => packages.extend(names.iter().copied()),
                Remedy::ByHand(sentence) => plan.by_hand.push(sentence.into()),
            }
        }
        if !packages.is_empty() {
            plan.add_packages(distro, &packages);
        }
        if !without_service.is_empty() {
            plan.steps.push(Step::root(&["apt-get", "update"]));
            plan.steps.extend(without_service.iter().map(|name| apt_install_without_service(&[], name)));
        }
        if prometheus {
            plan.add_prometheus(distro);
        }
        if distro == Distro::Debian12 && (suricata || !backports.is_empty()) {
            plan.steps.push(Step::root(&["sh", "-c", ADD_BACKPORTS]));
            plan.steps.push(Step::root(&["apt-get", "update"]));
        }
        if suricata {
            plan.add_suricata(distro);
        }
        if !backports.is_empty() {
            let names: Vec<_> = backports.into_iter().collect();
            plan.steps.push(apt_install(&[&FROM_BACKPORTS, &names[..]].concat()));
        }
        // Compiling the tools needs the packages.
        plan.steps.append(&mut rest);
        plan
    }

    fn add_packages(&mut self, distro: Distro, packages: &BTreeSet<&str>) {
        let names: Vec<_> = packages.iter().copied().collect();
        match distro {
            Distro::Debian12 | Distro::Apt => {
                self.steps.push(Step::root(&["apt-get", "update"]));
                self.steps.push(apt_install(&names));
            }
            Distro::Dnf => {
                self.steps.push(Step::root(&[&["dnf", "install", "--assumeyes"], &names[..]].concat()));
            }
            Distro::Unknown => self.by_hand.push(format!(
                "this host has neither apt nor dnf; install what Debian calls {}",
                names.join(", ")
            )),
        }
    }

    /// Debian 12 has version 6 of it, and version 7 among its backports.
    fn add_suricata(&mut self, distro: Distro) {
        let release: &[&str] = match distro {
            Distro::Debian12 => &FROM_BACKPORTS,
            Distro::Apt => {
                self.steps.push(Step::root(&["apt-get", "update"]));
                &[]
            }
            Distro::Dnf | Distro::Unknown => {
                self.by_hand.push("Suricata 7, as suricata.io has it".into());
                return;
            }
        };
        // Its package starts it on eth0, now and at each boot; here it is only a program to compare with.
        self.steps.push(apt_install_without_service(release, "suricata"));
    }

    /// Of its package, only promtool is needed.
    fn add_prometheus(&mut self, distro: Distro) {
        match distro {
            Distro::Debian12 | Distro::Apt => {
                self.steps.push(Step::root(&["apt-get", "update"]));
                self.steps.push(apt_install_without_service(&[], "prometheus"));
            }
            Distro::Dnf | Distro::Unknown => {
                self.by_hand.push("promtool, as prometheus.io has it".into());
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.missing.is_empty()
    }

    pub(super) fn needs_root(&self) -> bool {
        self.steps.iter().any(|step| step.root)
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    pub(super) fn by_hand(&self) -> &[String] {
        &self.by_hand
    }

    /// The whole plan as one command line for root.
    pub(super) fn as_root(&self) -> String {
        let lines: Vec<_> = self.steps.iter().map(Step::with_sudo).collect();
        lines.join(" && ")
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "This host lacks {}. To be run:", self.missing.join(", "))?;
        for step in &self.steps {
            writeln!(f, "  {step}")?;
        }
        for sentence in &self.by_hand {
            writeln!(f, "To be done by hand: {sentence}")?;
        }
        Ok(())
    }
}

impl Step {
    fn root(argv: &[&str]) -> Self {
        Self { env: vec![], argv: argv.iter().map(|&word| word.to_owned()).collect(), root: true }
    }

    pub(super) fn command(&self) -> Command {
        let mut command = match self.argv[0].as_str() {
            "cargo" => host::cargo(),
            program => Command::new(program),
        };
        command.args(&self.argv[1..]).envs(self.env.iter().copied());
        command
    }

    fn with_sudo(&self) -> String {
        let prefix = match (self.root, self.env.is_empty()) {
            (false, _) => "",
            (true, true) => "sudo ",
            // sudo clears an environment set before it.
            (true, false) => "sudo env ",
        };
        format!("{prefix}{self}")
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let env = self.env.iter().map(|(name, value)| format!("{name}={}", quote(value)));
        let words: Vec<_> = env.chain(self.argv.iter().map(|word| quote(word))).collect();
        f.write_str(&words.join(" "))
    }
}

/// Adds the backports if no source names them; apt installs nothing from them by default.
const ADD_BACKPORTS: &str = "grep -qrs \"^[^#]*bookworm-backports\" /etc/apt/sources.list \
    /etc/apt/sources.list.d || echo \"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \
    http://deb.debian.org/debian bookworm-backports main\" > \
    /etc/apt/sources.list.d/bookworm-backports.list";

const FROM_BACKPORTS: [&str; 2] = ["--target-release", "bookworm-backports"];

/// Installs a package whose service is not wanted: neither now nor at each boot.
fn apt_install_without_service(release: &[&str], package: &str) -> Step {
    let files = [format!("/lib/systemd/system/{package}.service"), format!("/etc/init.d/{package}")];
    let options = files.map(|file| format!("DPkg::Options::=--path-exclude={file}"));
    let options: Vec<_> = options.iter().flat_map(|option| ["--option", option]).collect();
    apt_install(&[release, &options, &[package]].concat())
}

/// Options and names after those that keep it short and silent.
fn apt_install(arguments: &[&str]) -> Step {
    let install = ["apt-get", "install", "--yes", "--no-install-recommends"];
    let mut step = Step::root(&[&install, arguments].concat());
    // tshark asks whether all users may capture.
    step.env = vec![("DEBIAN_FRONTEND", "noninteractive")];
    step
}

fn cargo_install(name: &str, version: &str, more: &[&str]) -> Step {
    let argv = ["cargo", "install", name, "--version", version, "--locked"];
    Step { env: vec![], argv: argv.iter().chain(more).map(|&word| word.to_owned()).collect(), root: false }
}

/// bpf-linker's build script looks for libLLVM under `LLVM_PREFIX`, llvm-sys under its own variable.
fn bpf_linker() -> Step {
    let pins::CargoTool { name, version, .. } = pins::BPF_LINKER;
    let features = format!("llvm-{}", pins::EBPF_LLVM);
    let mut step = cargo_install(name, version, &["--no-default-features", "--features", &features]);
    step.env = vec![("LLVM_PREFIX", "/usr/lib/llvm-22"), ("LLVM_SYS_221_PREFIX", "/usr/lib/llvm-22")];
    step
}

/// A virtual environment anew, and the record that it is complete.
fn python(tools: &pins::PythonTools) -> [Step; 3] {
    let folder = tools::folder().join(tools.environment).display().to_string();
    let step = |argv: &[&str]| Step { root: false, ..Step::root(argv) };
    let pip = format!("{folder}/bin/python");
    let pip = [&[pip.as_str(), "-m", "pip", "install", "--quiet"], tools.packages].concat();
    let record =
        format!("echo {} > {}", quote(&tools.packages.join(" ")), quote(&format!("{folder}/installed")));
    [step(&["python3", "-m", "venv", "--clear", &folder]), step(&pip), step(&["sh", "-c", &record])]
}

/// Only its modules are wanted: the package would start at each boot.
fn cloud_init() -> Step {
    let folder = tools::cloud_init().display().to_string();
    let script =
        "mkdir -p \"$0\" && cd \"$0\" && apt-get -q -q download cloud-init && dpkg -x cloud-init_*.deb .";
    Step { root: false, ..Step::root(&["sh", "-c", script, &folder]) }
}

fn rustup() -> Step {
    let argv = ["rustup", "toolchain", "install", pins::EBPF_RUST, "--profile", "minimal"];
    let components = ["--component", "rust-src", "--component", "clippy"];
    Step {
        env: vec![],
        argv: argv.iter().chain(&components).map(|&word| word.to_owned()).collect(),
        root: false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Group;
    use super::super::needs;
    use super::*;

    fn all_of(group: Group, distro: Distro) -> Plan {
        Plan::new(distro, &needs::of(group, distro))
    }

    #[test]
    fn on_debian_build_and_lab_are_one_apt_command_that_asks_nothing() {
        let mut missing = needs::of(Group::Build, Distro::Apt);
        missing.extend(needs::of(Group::Lab, Distro::Apt));
        let plan = Plan::new(Distro::Apt, &missing);
        assert_eq!(
            plan.as_root(),
            "sudo apt-get update && sudo env DEBIAN_FRONTEND=noninteractive apt-get install --yes \
             --no-install-recommends curl ethtool gcc iproute2 libc6-dev libpcap-dev nftables tcpdump tshark"
        );
        assert!(plan.needs_root());
    }

    #[test]
    fn on_amazon_linux_they_are_one_dnf_command() {
        let mut missing = needs::of(Group::Build, Distro::Dnf);
        missing.extend(needs::of(Group::Lab, Distro::Dnf));
        assert_eq!(
            Plan::new(Distro::Dnf, &missing).as_root(),
            "sudo dnf install --assumeyes curl ethtool gcc glibc-devel iproute iproute-tc libpcap-devel \
            nftables tcpdump wireshark-cli"
        );
    }

    #[test]
    fn only_tests_and_benchmarks_need_the_build_tools_of_libxdp() {
        for (distro, packages) in [
            (Distro::Debian12, ["clang", "libelf-dev", "m4", "make", "pkg-config", "zlib1g-dev"]),
            (
                Distro::Dnf,
                ["clang", "elfutils-libelf-devel", "m4", "make", "pkgconf-pkg-config", "zlib-devel"],
            ),
        ] {
            for group in [Group::Build, Group::Lab, Group::Test, Group::Bench, Group::Lint] {
                let plan = all_of(group, distro).as_root();
                let words: Vec<_> = plan.split(' ').collect();
                let wanted = ![Group::Build, Group::Lab].contains(&group);
                for package in packages {
                    assert_eq!(words.contains(&package), wanted, "{package} for {group:?}: {plan}");
                }
            }
        }
    }

    #[test]
    fn only_what_is_missing_is_installed() {
        let missing: Vec<_> =
            needs::of(Group::Lab, Distro::Apt).into_iter().filter(|need| need.name == "ethtool").collect();
        let plan = Plan::new(Distro::Apt, &missing);
        assert!(plan.as_root().ends_with("--no-install-recommends ethtool"), "{plan}");
    }

    #[test]
    fn ebpf_on_debian_12_installs_packages_before_the_linker_is_built() {
        let lines: Vec<_> = all_of(Group::Ebpf, Distro::Debian12).steps.iter().map(Step::to_string).collect();
        assert_eq!(
            lines,
            [
                "apt-get update",
                "DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends cargo-web g++ \
                libpolly-22-dev libzstd-dev llvm-22 llvm-22-dev rust-web-clippy rust-web-src rustc-web \
                zlib1g-dev",
                "LLVM_PREFIX=/usr/lib/llvm-22 LLVM_SYS_221_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker \
                --version 0.13.0 --locked --no-default-features --features llvm-22",
            ]
        );
    }

    #[test]
    fn ebpf_elsewhere_takes_the_pinned_compiler_from_rustup_and_names_the_rest() {
        let plan = all_of(Group::Ebpf, Distro::Dnf);
        assert_eq!(
            plan.steps[0].to_string(),
            "rustup toolchain install 1.96.0 --profile minimal --component rust-src --component clippy"
        );
        assert!(plan.by_hand()[0].contains("LLVM 22"), "{plan}");
        assert!(!plan.needs_root());
    }

    #[test]
    fn tools_of_cargo_alone_need_no_root() {
        let plan = Plan::new(Distro::Apt, &[needs::of(Group::Lint, Distro::Apt).remove(2)]);
        assert_eq!(plan.as_root(), "cargo install cargo-deny --version 0.20.2 --locked");
        assert!(!plan.needs_root());
    }

    #[test]
    fn peers_on_debian_12_take_suricata_from_the_backports_and_no_service_of_it() {
        let lines: Vec<_> =
            all_of(Group::Peers, Distro::Debian12).steps.iter().map(Step::to_string).collect();
        let install = "DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends";
        assert_eq!(
            lines[..2],
            [
                "apt-get update".to_owned(),
                format!("{install} netsniff-ng tcpdump util-linux wireshark-common")
            ]
        );
        assert!(lines[2].starts_with("sh -c 'grep -qrs \"^[^#]*bookworm-backports\" /etc/apt/"), "{lines:?}");
        assert_eq!(
            lines[3..],
            [
                "apt-get update".to_owned(),
                format!(
                    "{install} --target-release bookworm-backports --option \
                 DPkg::Options::=--path-exclude=/lib/systemd/system/suricata.service --option \
                 DPkg::Options::=--path-exclude=/etc/init.d/suricata suricata"
                )
            ]
        );
    }

    #[test]
    fn guests_take_a_qemu_with_all_cards_and_on_debian_12_from_its_backports() {
        let lines = |distro| all_of(Group::Vm, distro).steps.iter().map(Step::to_string).collect::<Vec<_>>();
        let install = "DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends";
        let debian_12 = lines(Distro::Debian12);
        assert_eq!(debian_12[1], format!("{install} binutils busybox-static e2fsprogs mmdebstrap xz-utils"));
        assert!(debian_12[2].contains("bookworm-backports main"));
        assert_eq!(debian_12[3], "apt-get update");
        assert_eq!(
            debian_12[4..],
            [format!("{install} --target-release bookworm-backports qemu-system-arm qemu-system-x86")]
        );
        assert_eq!(
            lines(Distro::Apt)[1..],
            [format!(
                "{install} binutils busybox-static e2fsprogs mmdebstrap qemu-system-arm qemu-system-x86 \
                xz-utils"
            )]
        );
        assert!(lines(Distro::Dnf).is_empty());
    }

    #[test]
    fn tests_want_suricata_where_a_package_has_it() {
        let install = |distro| all_of(Group::Test, distro).steps.last().map(Step::to_string);
        assert!(install(Distro::Debian12).is_some_and(|line| line.contains(" suricata")));
        assert!(install(Distro::Apt).is_some_and(|line| line.contains(" suricata")));
        assert!(install(Distro::Dnf).is_some_and(|line| !line.contains("suricata")));
        let by_hand = all_of(Group::Test, Distro::Unknown);
        assert!(by_hand.by_hand().iter().any(|need| need == "Suricata 7, as suricata.io has it"));
    }

    #[test]
    fn tests_want_promtool_without_the_service_of_its_package() {
        let steps =
            |distro| all_of(Group::Test, distro).steps.iter().map(Step::to_string).collect::<Vec<_>>();
        for distro in [Distro::Debian12, Distro::Apt] {
            let install = "--path-exclude=/lib/systemd/system/prometheus.service --option \
                DPkg::Options::=--path-exclude=/etc/init.d/prometheus prometheus";
            assert!(steps(distro).iter().any(|step| step.ends_with(install)), "{:#?}", steps(distro));
        }
        assert!(steps(Distro::Dnf).iter().all(|step| !step.contains("prometheus")));
    }

    #[test]
    fn tests_want_haproxy_without_the_service_of_its_package() {
        let plan = |distro| all_of(Group::Test, distro).as_root();
        for distro in [Distro::Debian12, Distro::Apt] {
            let install = "--path-exclude=/lib/systemd/system/haproxy.service --option \
                DPkg::Options::=--path-exclude=/etc/init.d/haproxy haproxy && ";
            assert!(plan(distro).contains(install), "{}", plan(distro));
        }
        // dnf starts no service.
        assert!(plan(Distro::Dnf).contains(" elfutils-libelf-devel gzip haproxy "), "{}", plan(Distro::Dnf));
    }

    #[test]
    fn templates_are_checked_by_tools_in_environments_of_their_own() {
        let lines: Vec<_> =
            all_of(Group::Deploy, Distro::Debian12).steps.iter().map(Step::to_string).collect();
        assert!(lines[1].ends_with("--no-install-recommends python3-venv shellcheck"), "{lines:?}");
        assert!(lines[2].contains("apt-get -q -q download cloud-init"), "{lines:?}");
        for packages in [pins::TEMPLATE_TOOLS.packages, pins::CHECKOV.packages] {
            let install = |line: &&String| packages.iter().all(|package| line.contains(package));
            assert_eq!(lines.iter().filter(install).count(), 2, "installed, and recorded: {lines:?}");
        }
    }

    #[test]
    fn peers_on_amazon_linux_are_those_that_it_has() {
        assert_eq!(
            all_of(Group::Peers, Distro::Dnf).as_root(),
            "sudo dnf install --assumeyes tcpdump util-linux wireshark-cli"
        );
    }

    #[test]
    fn a_host_without_apt_or_dnf_gets_a_list_of_what_to_install() {
        let plan = all_of(Group::Build, Distro::Unknown);
        assert!(plan.steps().is_empty());
        assert!(plan.by_hand()[0].contains("libpcap-dev"), "{plan}");
    }

    #[test]
    fn nothing_missing_is_an_empty_plan() {
        assert!(Plan::new(Distro::Debian12, &[]).is_empty());
    }
}
