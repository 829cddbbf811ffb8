//! What holds for one interface.

use super::{Findings, Severity, counted, driver::Ena, native, spread};
use crate::{
    doctor::facts::{Facts, InterfaceFacts},
    engine::SINGLE_BUFFER_MTU,
    host::xdp::XdpMode,
};

/// Names of our own programs.
const OURS: [&str; 2] = [mirror_ebpf::mirror::PROGRAM, mirror_ebpf::mirror::PROGRAM_FRAGS];

pub(super) fn judge(facts: &Facts, interface: &InterfaceFacts, findings: &mut Findings) {
    if !interface.up {
        findings.warning(
            "it is down, or has no carrier; ingest starts, and has frames once it is up",
            Some(format!("ip link set {} up", interface.name)),
        );
    }
    if let Some(refused) = native::refused_mtu(facts, interface) {
        findings.error(refused, Some(format!("ip link set {} mtu {SINGLE_BUFFER_MTU}", interface.name)));
    }
    hook(interface, findings);
    let native = native::verdict(facts, interface);
    let possible = native.possible();
    if possible {
        let queues = interface.rx_queues.known().copied().unwrap_or(1);
        let told =
            if interface.xdp_features.known().copied().flatten().is_some() { "has" } else { "is known for" };
        let driver = interface.driver.as_ref().map_or("its driver", |driver| driver.name.as_str());
        findings.ok(format!("{driver} {told} native XDP with redirect; {}", counted(queues, "RX queue")));
    }
    for (says, mend) in native.obstacles {
        findings.add(Severity::Warning, format!("native mode is refused: {says}"), mend);
    }
    for (severity, says, mend) in native.remarks {
        // What native mode merely costs is of interest once it is to be had.
        if possible || severity > Severity::Note {
            findings.add(severity, says, mend);
        }
    }
    if let Some(reason) = interface.rx_queues.reason() {
        findings.unreadable("number of RX queues", Some(reason));
    }
    if possible {
        zero_copy(interface, findings);
    }
    spread::judge(facts, interface, findings);
    if interface.default_route {
        findings.note(
            "the default route leaves by it: what is not tunnel traffic still reaches the host, but a management interface of \
             its own keeps the host reachable whatever is changed here",
            None,
        );
    }
}

fn hook(interface: &InterfaceFacts, findings: &mut Findings) {
    let Some(hook) = interface.xdp_hook.known() else {
        findings.unreadable("XDP hook", interface.xdp_hook.reason());
        return;
    };
    let Some(hook) = hook else {
        findings.ok("the XDP hook is free");
        return;
    };
    let name = hook.name.as_deref().map_or_else(String::new, |name| format!(" ({name})"));
    let mode = hook.mode.name();
    let held = format!("the XDP hook is held by program {}{name} in {mode} mode", hook.program);
    if hook.name.as_deref().is_some_and(|name| OURS.contains(&name)) {
        findings.error(format!("{held}: another mirror ingests here; stop it first"), None);
        return;
    }
    let off = if hook.mode == XdpMode::Generic { "xdpgeneric" } else { "xdp" };
    findings.error(
        format!(
            "{held}; stop its owner, or take it off (refused if a bpf_link holds it: `bpftool link show`)"
        ),
        Some(format!("ip link set dev {} {off} off", interface.name)),
    );
}

fn zero_copy(interface: &InterfaceFacts, findings: &mut Findings) {
    const COPY: &str = "ingest runs in copy mode, its default and best-tested";
    let told = interface.xdp_features.known().copied().flatten().map(|features| features.zero_copy);
    match (Ena::of(interface.driver.as_ref()), told) {
        (Some(Ena::InBox), _) => {
            findings.note(format!("the in-box ena has no AF_XDP zero-copy: {COPY}"), None);
        }
        (Some(ena), _) if !ena.at_least((2, 13, 2)) => {
            findings.note(format!("AF_XDP zero-copy is not usable before ena 2.13.2: {COPY}"), None);
        }
        (Some(_), Some(true) | None) => {
            findings.note(
                format!(
                    "ena has AF_XDP zero-copy (`--bind zerocopy`), which one user measured at half the rate of copying on one queue: \
                     {COPY}"
                ),
                None,
            );
        }
        (None, Some(true)) => {
            findings.note(format!("the driver has AF_XDP zero-copy (`--bind zerocopy`): {COPY}"), None);
        }
        _ => {}
    }
}
