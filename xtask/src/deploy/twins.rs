//! Each check is shown to fail: on a copy of the tree in which one file is broken as people break it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use super::{CHECKS, files, tools};
use crate::process;

/// One broken file.
struct Twin {
    /// The check that must refuse it.
    check: &'static str,
    /// User data is broken in its copies in templates, too.
    file: &'static str,
    /// What is there, and what takes its place.
    edit: (&'static str, &'static str),
    /// What the check must say.
    says: &'static str,
}

const fn twin(
    check: &'static str,
    file: &'static str,
    edit: (&'static str, &'static str),
    says: &'static str,
) -> Twin {
    Twin { check, file, edit, says }
}

const FLEET: &str = "deploy/cloudformation/fleet.yaml";
const WORKSHOP: &str = "deploy/cloudformation/workshop.yaml";
const TARGET: &str = "deploy/cloud-init/target.yaml";
const GUIDE: &str = "docs/deploy.md";
const SOURCES: &str = "deploy/sources/mirror-sessions.sh";

const TWINS: &[Twin] = &[
    twin("cfn-lint", FLEET, ("HealthCheckPath", "HealthcheckPath"), "HealthcheckPath"),
    twin("checkov", FLEET, ("HttpTokens: required", "HttpTokens: optional"), "CKV_AWS_79"),
    twin("checkov", "deploy/terraform/fleet/main.tf", ("#checkov:skip=CKV_AWS_150", "#"), "CKV_AWS_150"),
    twin(
        "provider schema",
        "deploy/terraform/fleet/main.tf",
        ("enable_unhealthy_connection_termination", "unhealthy_connection_termination"),
        "enable_unhealthy_connection_termination` is required",
    ),
    twin(
        "provider schema",
        "deploy/terraform/workshop/main.tf",
        ("ssh_cidr       =", "ssh            ="),
        "no variable `ssh`",
    ),
    twin(
        "mirror objects",
        "deploy/terraform/gateway/variables.tf",
        ("default     = 3394", "default     = 3462"),
        "declare different mirror objects",
    ),
    twin("mirror objects", WORKSHOP, ("VirtualNetworkId: 12345", "VirtualNetworkId: 16777216"), "16777216"),
    twin("mirror objects", WORKSHOP, ("SessionNumber: 1", "SessionNumber: 40000"), "40000"),
    twin("mirror objects", FLEET, ("Default: 3462", "Default: 8000"), "8000"),
    twin("mirror objects", WORKSHOP, ("${action} ", ""), "flow log"),
    twin("user data", TARGET, ("permissions: \"0700\"", "permission: \"0700\""), "'permission'"),
    twin("user data", TARGET, ("dev \"$INTERFACE\"", "dev $INTERFACE"), "SC2086"),
    twin("user data", TARGET, ("mirror.service ||", "mirror.service #"), "lifecycle"),
    twin("user data", TARGET, ("min-free =", "min-fre ="), "min-fre"),
    twin(
        "user data",
        TARGET,
        ("rotate-seconds = 60", "rotate-seconds = 61"),
        "the fleet's user data changes",
    ),
    twin(
        "user data",
        WORKSHOP,
        ("systemctl stop mirror.service", "systemctl kill mirror.service"),
        "user data",
    ),
    twin(
        "user data",
        "deploy/terraform/modules/targets/main.tf",
        ("    Mtu              = \"3498\"\n", ""),
        "Mtu",
    ),
    twin("sources by tag", SOURCES, ("\"$interface\"", "$interface"), "SC2086"),
    twin("sources by tag", SOURCES, ("--session-number", "--session-nummer"), "required: --session-number"),
    twin("commands of the guide", GUIDE, ("--stack-name", "--stackname"), "Invalid choice"),
];

/// Runs each twin's check, and returns how many twins there are.
///
/// # Errors
/// If a check accepts a broken file, or refuses it for another reason.
pub(super) fn check(root: &Path) -> Result<usize> {
    let copy = tools::folder().join("twin");
    for Twin { check, file, edit: (from, to), says } in TWINS {
        let name = format!("{check}, {file}, `{from}` as `{to}`");
        let (_, run) =
            CHECKS.iter().find(|(known, _)| known == check).with_context(|| format!("no check {check}"))?;
        clone(root, &copy)?;
        let all = files(&copy, "deploy")?;
        let broken = if *file == TARGET { all } else { vec![file.into()] };
        let mut found = false;
        for path in broken.iter().map(|path| copy.join(path)) {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {file}"))?;
            found |= text.contains(from);
            fs::write(&path, text.replace(from, to)).with_context(|| format!("cannot write {file}"))?;
        }
        ensure!(found, "{name}: the file has no such text any more");
        match run(&copy) {
            Ok(_) => bail!("a broken file is accepted: {name}"),
            Err(error) => {
                let error = format!("{error:#}");
                ensure!(error.contains(says), "refused without `{says}`: {name}: {error}");
            }
        }
        process::stopped()?;
    }
    fs::remove_dir_all(&copy).with_context(|| format!("cannot remove {}", copy.display()))?;
    Ok(TWINS.len())
}

/// What the checks read.
fn clone(root: &Path, copy: &Path) -> Result<()> {
    if copy.exists() {
        fs::remove_dir_all(copy).with_context(|| format!("cannot empty {}", copy.display()))?;
    }
    let mut all = files(root, "deploy")?;
    all.push(GUIDE.into());
    for file in all {
        let to = copy.join(&file);
        let folder = to.parent().unwrap_or(copy);
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        fs::copy(root.join(&file), &to).with_context(|| format!("cannot copy {}", file.display()))?;
    }
    Ok(())
}
