//! `mirror-source.service` under systemd, as PID 1 of a container on the source.

use std::{fs, path::Path};

use mirror_lab::Systemd;
use nix::sys::signal::Signal;

use super::{
    ETHERNET, Subnet, TARGET, TCP, accept, accept_all,
    common::mirror::{MIRROR, balanced_report, until},
    filter, of_sessions, session,
};

const UNIT: &str = "mirror-source.service";

#[test]
fn the_unit_starts_reloads_and_stops_a_source_and_cleans_after_a_kill() {
    let subnet = Subnet::lay(true);
    let _servers = [80, 81].map(|port| subnet.serve(port));
    let systemd = Systemd::boot(&subnet.source, "systemd").expect("systemd");
    systemd.install(Path::new(MIRROR), "/usr/bin/mirror").expect("program");
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd").join(UNIT);
    let unit = fs::read_to_string(unit).expect("unit");
    systemd.write(&format!("/usr/lib/systemd/system/{UNIT}"), unit).expect("unit");
    let settings = format!(
        "SOURCE=--config /etc/mirror/mirroring.json --interface eni-1={ETHERNET} --target tmt-1={TARGET} \
        --attach clsact --report /var/lib/mirror/source.json\n"
    );
    systemd.write("/etc/mirror/source.conf", settings).expect("settings");
    let script = "install -d -m 0750 /var/lib/mirror && systemctl daemon-reload";
    mirror_lab::run(systemd.command("sh").args(["-ec", script])).expect("set up");
    let set_up = |ports: &[u16]| {
        let filters = [filter("tmf-1", &accept(TCP, ports), &[]), filter("tmf-2", &accept_all(), &[])];
        let sessions: Vec<_> =
            (1..).zip(["tmf-1", "tmf-2"]).map(|(number, id)| session(number, id)).take(ports.len()).collect();
        subnet.set_up(&filters, &sessions);
        let text = fs::read(subnet.path().join("mirroring.json")).expect("read");
        systemd.write("/etc/mirror/mirroring.json", text).expect("written");
    };
    let said = || {
        let journal = systemd.journal(UNIT).expect("journal");
        journal.into_iter().map(|(_, line)| line + "\n").collect::<String>()
    };
    let says = |words: &str, times: usize| {
        until(words, || (said().matches(words).count() == times).then_some(()));
    };
    let begun = format!("mirroring eni-1 at {ETHERNET}");
    set_up(&[80]);
    systemd.ctl(&["start", UNIT]).expect("started");
    says(&begun, 1);
    subnet.get(80, 10_000);
    // A new session has a carrier of its own, under the unit's restrictions, too.
    set_up(&[80, 81]);
    systemd.ctl(&["reload", UNIT]).expect("reloaded");
    says("reloaded", 1);
    subnet.get(81, 10_000);
    systemd.ctl(&["stop", UNIT]).expect("stopped");
    assert_eq!(systemd.property(UNIT, "Result").expect("property"), "success", "{}", said());
    let report = balanced_report(&systemd.path("/var/lib/mirror/source.json"));
    assert_ne!(of_sessions(&report, "sent"), 0, "{report:#}");
    assert_eq!(report["interfaces"][0]["sessions"].as_array().map(Vec::len), Some(2), "{report:#}");
    assert_eq!(subnet.in_kernel(), [0; 3]);
    systemd.ctl(&["start", UNIT]).expect("started");
    says(&begun, 2);
    systemd.ctl(&["kill", "--signal", Signal::SIGKILL.as_str(), UNIT]).expect("killed");
    says("filters removed", 1);
    // It starts again by itself.
    says(&begun, 3);
    systemd.ctl(&["stop", UNIT]).expect("stopped");
    assert_eq!(subnet.in_kernel(), [0; 3]);
    for words in ["sandbox: system call", "does not confine", "IPv6 stays on"] {
        assert!(!said().contains(words), "{}", said());
    }
}
