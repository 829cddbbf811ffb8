//! The units of `packaging/systemd`, as systemd reads them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{host, process};

/// The most that `systemd-analyze security` may say, in tenths.
const MOST_EXPOSED: &str = "39";
const PAGE: &str = "docs/operation.md";

fn unit(name: &str) -> PathBuf {
    host::workspace().join("packaging/systemd").join(name)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn systemd_accepts_the_units_and_every_option_left_out_has_its_reason() {
    if host::program("systemd-analyze").is_none() {
        assert!(!host::is_ci(), "systemd-analyze is missing: `cargo xtask setup test` installs it");
        eprintln!("NOT checked: the units: there is no systemd-analyze on this host");
        return;
    }
    let folder = host::target_dir().join("units");
    fs::create_dir_all(&folder).unwrap();
    for name in ["mirror.service", "mirror@.service", "mirror-source.service"] {
        // Programs are looked for, and the package is not installed.
        let copy = folder.join(name);
        fs::write(&copy, text(&unit(name)).replace("/usr/bin/mirror", "/bin/true")).unwrap();
        let mut verify = Command::new("systemd-analyze");
        let verified = verify.args(["verify", "--man=no"]).arg(&copy).output().unwrap();
        let said = String::from_utf8_lossy(&verified.stderr);
        let own: Vec<_> =
            said.lines().filter(|line| line.contains(name.trim_end_matches(".service"))).collect();
        assert!(verified.status.success() && own.is_empty(), "{said}");
    }
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=true", "--threshold", MOST_EXPOSED, "--json=short"]);
    let shown = process::output(security.arg(unit("mirror.service"))).expect("not too exposed");
    let entries: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let page = text(&host::workspace().join(PAGE));
    let exposed = entries.as_array().unwrap().iter().filter(|entry| !entry["exposure"].is_null());
    let names: BTreeSet<_> = exposed.map(|entry| entry["name"].as_str().unwrap()).collect();
    assert!(!names.is_empty());
    let unexplained: Vec<_> =
        names.iter().filter(|name| !page.contains(&format!("`{}`", name.replace('|', "\\|")))).collect();
    assert!(unexplained.is_empty(), "{PAGE} gives no reason for {unexplained:?}");
}

#[test]
fn both_units_are_one_but_for_the_name_of_the_configuration() {
    let lines = |name: &str| -> Vec<String> {
        text(&unit(name)).lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    let of_instance = lines("mirror.service").into_iter().map(|line| {
        line.replace("/etc/mirror/mirror.toml", "/etc/mirror/%i.toml")
            .replace("--control mirror", "--control %i")
            .replace("reload mirror", "reload %i")
            .replace("mirrored traffic", "mirrored traffic (%i)")
    });
    assert_eq!(of_instance.collect::<Vec<_>>(), lines("mirror@.service"));
}

#[test]
fn the_unit_waits_longer_than_the_drain_of_the_configuration() {
    let configuration = text(&host::workspace().join("packaging/mirror.toml"));
    assert!(configuration.contains("\ndrain-max = \"3m\"\n"), "{configuration}");
    assert!(text(&unit("mirror.service")).contains("\nTimeoutStopSec=4min 30s\n"));
}
