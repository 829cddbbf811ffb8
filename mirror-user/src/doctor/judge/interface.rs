//! Findings about one interface.

use super::{Findings, Remedy, Severity, balancer, counted, native, spread};
use crate::{
    doctor::{
        facts::{Facts, InterfaceFacts},
        plan,
    },
    engine::{
        HostCommand,
        diagnose::VIRTIO_ACCESS_PLATFORM,
        layout::{Wanted, layout},
    },
    escape::shell,
    host::{driver::Ena, tunables::LeftSetting, xdp::XdpMode},
};

pub(super) fn judge(facts: &Facts, interface: &InterfaceFacts, findings: &mut Findings) {
    link(interface, findings);
    left_settings(interface, findings);
    hook(interface, findings);
    let host = plan::host(facts, interface);
    let possible = match layout(&host, &Wanted::DEFAULT) {
        Err(refusal) => {
            findings.error(format!("ingest refuses: {refusal}"), refusal.command().map(Remedy::from));
            false
        }
        Ok(layout) => {
            let possible = layout.mode == XdpMode::Native;
            if possible {
                let queues = host.rx_queues;
                let known = if host.xdp_features.is_some() { "has" } else { "is known for" };
                let driver = interface.driver.as_ref().map_or("its driver", |driver| driver.name.as_str());
                findings.ok(format!(
                    "{driver} {known} native XDP with redirect; {}",
                    counted(queues, "RX queue")
                ));
            }
            for obstacle in &layout.obstacles {
                findings.warning(
                    format!("native mode is refused: {obstacle}"),
                    obstacle.command().map(Remedy::from),
                );
            }
            for warning in &layout.warnings {
                findings.warning(warning.to_string(), warning.command(&interface.name).map(Remedy::from));
            }
            for (severity, message, remedy) in native::remarks(interface, &host, &layout) {
                // The costs of native mode matter only if it is possible.
                if possible || (severity > Severity::Note && layout.modes.contains(&XdpMode::Native)) {
                    findings.add(severity, message, remedy);
                }
            }
            balancer::judge(facts, &host, &layout, findings);
            possible
        }
    };
    if let Some(reason) = interface.rx_queues.reason() {
        findings.unreadable("number of RX queues", Some(reason));
    }
    if possible {
        zero_copy(interface, findings);
    }
    spread::judge(facts, interface, findings);
    if interface.default_route {
        findings.note(
            "it has the default route: other traffic still reaches the host, but a separate management \
             interface keeps the host reachable whatever you change on this one",
            None,
        );
    }
}

/// Settings that killed runs have left changed.
fn left_settings(interface: &InterfaceFacts, findings: &mut Findings) {
    let Some(left) = interface.left_settings.known() else {
        findings.unreadable("settings that killed runs left", interface.left_settings.reason());
        return;
    };
    for LeftSetting { name, value, before, pid } in left {
        let restore = |value: u64| {
            let file = format!("/sys/class/net/{}/{name}", interface.name);
            Some(Remedy::command(format!("echo {value} > {}", shell(&file))))
        };
        match (before, pid) {
            (Some(before), Some(pid)) => findings.warning(
                format!(
                    "{name} is {value}, and was {before} before a run that was killed (process {pid}); no \
                    process of mirror holds it any more, and the next start restores it"
                ),
                restore(*before),
            ),
            _ => findings.note(
                format!(
                    "{name} is {value}, as busy polling sets it, and no process of mirror holds it; unless \
                    that is intended, the kernel's default is 0"
                ),
                restore(0),
            ),
        }
    }
}

fn link(interface: &InterfaceFacts, findings: &mut Findings) {
    let up = || Some(HostCommand::Up { interface: interface.name.clone() }.into());
    match (interface.up, interface.carrier) {
        (true, None | Some(true)) => {}
        (false, None) => {
            findings.warning(
                "it is down, or has no carrier; ingest starts, and receives frames once it is \
                up",
                up(),
            );
        }
        (false, Some(_)) => {
            findings.warning("it is down; ingest starts, and receives frames once it is up", up());
        }
        (true, Some(false)) => findings.warning(
            "it is up, but has no carrier: the other end is down, or its driver is resetting the link; \
            ingest starts, and receives frames once the carrier is there",
            None,
        ),
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
    if interface.is_captured() {
        findings.error(format!("{held}: another mirror captures here; stop it first"), None);
        return;
    }
    let off = if hook.mode == XdpMode::Generic { "xdpgeneric" } else { "xdp" };
    findings.error(
        format!(
            "{held}; stop its owner, or take it off (refused if a bpf_link holds it: `bpftool link show`)"
        ),
        Some(Remedy::command(format!("ip link set dev {} {off} off", shell(&interface.name)))),
    );
}

fn zero_copy(interface: &InterfaceFacts, findings: &mut Findings) {
    const COPY: &str = "ingest runs in copy mode, its default and best-tested";
    let zero_copy = interface.xdp_features.known().copied().flatten().map(|features| features.zero_copy);
    match (Ena::of(interface.driver.as_ref()), zero_copy) {
        (Some(Ena::InBox), _) => {
            findings.note(format!("the in-box ena has no AF_XDP zero-copy: {COPY}"), None);
        }
        (Some(ena), _) if !ena.at_least((2, 13, 2)) => {
            findings.note(format!("AF_XDP zero-copy is not usable before ena 2.13.2: {COPY}"), None);
        }
        (Some(_), Some(true) | None) => {
            findings.note(
                format!(
                    "ena has AF_XDP zero-copy (`--bind zerocopy`), which one user measured at half the rate \
                    of copying on one queue: {COPY}"
                ),
                None,
            );
        }
        (None, Some(true)) if lacks_dma(interface) => {
            findings.note(
                format!(
                    "virtio_net has AF_XDP zero-copy, but only where the hypervisor offers \
                    VIRTIO_F_ACCESS_PLATFORM (feature 33, `iommu_platform=on`), which this one does not: \
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

/// A virtqueue has a DMA device only with this feature, and zero-copy needs one: bind(2) says EINVAL.
fn lacks_dma(interface: &InterfaceFacts) -> bool {
    interface.virtio_features.as_ref().is_some_and(|agreed| !agreed.contains(&VIRTIO_ACCESS_PLATFORM))
}
