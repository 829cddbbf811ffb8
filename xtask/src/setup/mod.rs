//! `cargo xtask setup`: lists what this host lacks, and installs it.

mod needs;
mod plan;

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use self::plan::Plan;
use crate::host::{self, Distro};
use crate::process;

/// A purpose that needs packages or tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// To build library and command: a C compiler, and libpcap.
    Build,
    /// To run labs and the demonstration.
    Lab,
    /// For tests only: programs that verify what is forwarded, and the build tools of libxdp.
    Test,
    /// The pinned toolchain of the eBPF programs.
    Ebpf,
    /// For `cargo xtask lint`.
    Lint,
    /// For `cargo xtask fuzz`.
    Fuzz,
    /// For `cargo xtask bench`.
    Bench,
    /// For `cargo xtask vmtest`.
    Vm,
    /// For `cargo xtask deploy`.
    Deploy,
    /// The tools that `cargo xtask bench peers` compares with.
    Peers,
    /// For `cargo xtask dist`.
    Dist,
    /// For development: all except the peers and packages, which are large and serve one comparison and
    /// releases.
    All,
}

impl Group {
    const EACH: [Self; 11] = [
        Self::Build,
        Self::Lab,
        Self::Test,
        Self::Ebpf,
        Self::Lint,
        Self::Fuzz,
        Self::Bench,
        Self::Vm,
        Self::Deploy,
        Self::Peers,
        Self::Dist,
    ];

    /// From a word of the command line.
    pub(crate) fn parse(word: &str) -> Result<Self, String> {
        Ok(match word {
            "build" => Self::Build,
            "lab" => Self::Lab,
            "test" => Self::Test,
            "ebpf" => Self::Ebpf,
            "lint" => Self::Lint,
            "fuzz" => Self::Fuzz,
            "bench" => Self::Bench,
            "vm" => Self::Vm,
            "deploy" => Self::Deploy,
            "peers" => Self::Peers,
            "dist" => Self::Dist,
            "all" => Self::All,
            _ => {
                return Err(
                    "the groups are build, lab, test, ebpf, lint, fuzz, bench, vm, deploy, peers, dist, all"
                        .into(),
                );
            }
        })
    }

    /// The requested groups, unique and sorted; without any, what demo and test need.
    pub(crate) fn expand(asked: &[Self]) -> Vec<Self> {
        if asked.is_empty() {
            return vec![Self::Build, Self::Lab, Self::Test];
        }
        let mut groups: BTreeSet<_> = asked.iter().copied().collect();
        if groups.remove(&Self::All) {
            groups.extend(Self::EACH.into_iter().filter(|group| !matches!(group, Self::Peers | Self::Dist)));
        }
        groups.into_iter().collect()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Lab => "lab",
            Self::Test => "test",
            Self::Ebpf => "ebpf",
            Self::Lint => "lint",
            Self::Fuzz => "fuzz",
            Self::Bench => "bench",
            Self::Vm => "vm",
            Self::Deploy => "deploy",
            Self::Peers => "peers",
            Self::Dist => "dist",
            Self::All => "all",
        }
    }
}

/// The command itself.
///
/// # Errors
/// As [`ensure`].
pub(crate) fn run(groups: &[Group], dry_run: bool, yes: bool) -> Result<ExitCode> {
    let names: Vec<_> = groups.iter().map(|group| group.name()).collect();
    let distro = Distro::of_this_host();
    let plan = look(groups, distro)?;
    if plan.is_empty() {
        println!("setup: nothing to do: this host has all that {} needs", names.join(", "));
        return Ok(ExitCode::SUCCESS);
    }
    if dry_run {
        eprint!("{plan}");
        return Ok(ExitCode::SUCCESS);
    }
    carry_out(&plan, yes, &format!("setup {}", names.join(" ")))?;
    confirm(groups, distro)?;
    println!("setup: done: this host has all that {} needs", names.join(", "));
    Ok(ExitCode::SUCCESS)
}

/// Installs what `groups` need and this host lacks, before `command` continues; silent if nothing is missing.
///
/// # Errors
/// Without root where root is needed (the message holds the command), when the answer was no, when an
/// installation fails, and when something can only be installed by hand.
pub(crate) fn ensure(groups: &[Group], yes: bool, command: &str) -> Result<()> {
    let distro = Distro::of_this_host();
    let plan = look(groups, distro)?;
    if plan.is_empty() {
        return Ok(());
    }
    carry_out(&plan, yes, command)?;
    confirm(groups, distro)
}

fn look(groups: &[Group], distro: Distro) -> Result<Plan> {
    let mut missing = Vec::new();
    for &group in groups {
        for need in needs::of(group, distro) {
            if !need.is_met()? {
                missing.push(need);
            }
        }
    }
    Ok(Plan::new(distro, &missing))
}

/// A package may install without providing what was missing: that must be noticed here, not in the middle of
/// a build.
fn confirm(groups: &[Group], distro: Distro) -> Result<()> {
    let left = look(groups, distro)?;
    if !left.is_empty() {
        bail!("the installation went through, and this is still missing:\n{left}");
    }
    Ok(())
}

fn carry_out(plan: &Plan, yes: bool, command: &str) -> Result<()> {
    eprint!("{plan}");
    // First, because the commands may need it.
    if !plan.by_hand().is_empty() {
        bail!("do by hand what is listed so, then run this again");
    }
    if plan.needs_root() && !host::is_root() {
        bail!(
            "installing packages needs root; run\n  {}\nor `{}` again",
            plan.as_root(),
            host::as_root(command)
        );
    }
    if !yes && io::stdin().is_terminal() && !ask("Go ahead? [Y/n] ")? {
        bail!("nothing was installed");
    }
    for step in plan.steps() {
        process::check(&mut step.command())?;
    }
    Ok(())
}

fn ask(question: &str) -> Result<bool> {
    eprint!("{question}");
    io::stderr().flush().context("cannot ask")?;
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    // End of input means no.
    Ok(read > 0 && matches!(answer.trim().to_ascii_lowercase().as_str(), "" | "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_group_means_what_demo_and_test_need() {
        assert_eq!(Group::expand(&[]), [Group::Build, Group::Lab, Group::Test]);
    }

    #[test]
    fn groups_are_unique_and_sorted() {
        assert_eq!(Group::expand(&[Group::Lint, Group::Build, Group::Lint]), [Group::Build, Group::Lint]);
    }

    #[test]
    fn peers_and_tools_of_packages_are_installed_only_by_name() {
        assert_eq!(Group::expand(&[Group::Lab, Group::All]), Group::EACH[..9]);
        assert_eq!(Group::expand(&[Group::All, Group::Peers, Group::Dist]), Group::EACH);
    }

    #[test]
    fn every_group_is_parsed_as_it_is_printed() {
        for group in Group::EACH.into_iter().chain([Group::All]) {
            assert_eq!(Group::parse(group.name()), Ok(group));
        }
        assert!(Group::parse("everything").is_err());
    }
}
