//! The package, in a Debian guest of its own: installed, started, upgraded and purged by dpkg, and what the
//! guide has typed on a target.

use std::fs;

use anyhow::{Context as _, Result};

use super::initramfs::Placed;
use super::kernel::Kernel;
use super::service::{KERNELS, Scenario};
use crate::{deploy, dist, host};

/// Each installs the package anew. None is for every change: the package is built for old hosts, twice.
const SCENARIOS: [Scenario; 5] = [
    Scenario { name: "package is installed", key: "installs", usual: false },
    Scenario { name: "package starts again", key: "starts_again", usual: false },
    Scenario { name: "package is upgraded under load", key: UPGRADES, usual: false },
    Scenario { name: "package is purged", key: "purges", usual: false },
    Scenario { name: "package by docs/deploy.md", key: "guide", usual: false },
];

const UPGRADES: &str = "upgrades";

/// All of them; on a newer kernel only what depends on the kernel.
pub(super) fn scenarios(kernel: Kernel) -> Vec<Scenario> {
    SCENARIOS.into_iter().filter(|scenario| kernel == KERNELS[0] || scenario.key == UPGRADES).collect()
}

/// The packages of both versions on the guest's disk.
///
/// # Errors
/// If one does not build.
pub(super) fn packages() -> Result<Vec<Placed>> {
    let names = ["mirror.deb", "mirror-next.deb"];
    let packages = names.iter().zip(dist::two_versions()?).map(|(name, deb)| {
        let bytes = fs::read(&deb).with_context(|| format!("cannot read {}", deb.display()))?;
        Ok((format!("disk-files/vmtest/{name}"), bytes))
    });
    packages.collect()
}

/// What is typed, as text: the guide is what is run.
///
/// # Errors
/// If the guide has nothing.
pub(super) fn files() -> Result<Vec<(String, String)>> {
    let commands = deploy::on_target(&host::workspace())?;
    Ok(vec![("disk-files/vmtest/guide.json".to_owned(), serde_json::to_string(&commands)?)])
}
