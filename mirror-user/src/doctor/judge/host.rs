//! Findings about the whole host.

use super::{Findings, Remedy, counted, listed};
use crate::{
    doctor::{
        facts::{Facts, Realtime},
        plan::{self, FRAMES, umem_bytes, umem_pages},
    },
    escape::shell,
    host::{
        kernel::{KernelVersion, since},
        limits::Capability,
        settings::Sysctl,
    },
    tunnels::Encapsulation,
    wire::vxlan,
};

/// Locked memory that programs and their maps take before kernel 5.11, an upper bound.
const BPF_MEMORY: u64 = 16 << 20;

pub(super) fn judge(facts: &Facts, findings: &mut Findings) {
    kernel(facts, findings);
    capabilities(facts, findings);
    bpf(facts, findings);
    memlock(facts, findings);
    huge_pages(facts, findings);
    realtime(facts, findings);
    ports(facts, findings);
}

fn kernel(facts: &Facts, findings: &mut Findings) {
    let Some(version) = facts.kernel_version() else {
        findings.unreadable("kernel version", facts.kernel.reason());
        return;
    };
    let lacking = |all: &[(KernelVersion, &str)]| {
        let lacks = all.iter().filter(|(since, _)| version < *since);
        listed(&lacks.map(|&(_, what)| what.to_owned()).collect::<Vec<_>>())
    };
    if version < since::BPF_LINK {
        let lacks = lacking(&[
            (since::AF_XDP, "AF_XDP (4.18)"),
            (since::NEED_WAKEUP, "need_wakeup on its sockets (5.4)"),
            (since::BPF_LINK, "bpf_link for XDP (5.9), without which a killed run leaves its program behind"),
        ]);
        let amazon_linux_2 = facts.kernel.known().is_some_and(|release| release.contains(".amzn2."));
        findings.error(
            format!("kernel {version} lacks {lacks}"),
            amazon_linux_2.then(|| Remedy::command("amazon-linux-extras install -y kernel-5.10 && reboot")),
        );
        return;
    }
    findings.ok(format!("kernel {version}"));
    let lacks = lacking(&[
        (since::BUSY_POLL, "`--wait busy-poll` (5.11)"),
        (since::MAP_ID_IN_TRACEPOINT, "attributing failed redirects (5.13)"),
        (since::XDP_FEATURES, "querying the XDP features of drivers (6.3)"),
        (since::SCATTER_GATHER, "frames of several buffers and descriptors (6.6)"),
    ]);
    if !lacks.is_empty() {
        findings.note(format!("this kernel is too old for {lacks}"), None);
    }
}

fn capabilities(facts: &Facts, findings: &mut Findings) {
    let Some(set) = facts.capabilities.known() else {
        findings.unreadable("capabilities", facts.capabilities.reason());
        return;
    };
    let old = facts.kernel_version().is_some_and(|version| version < since::CAP_BPF);
    let has = |capability| {
        set.has(capability)
            || (!old
                && matches!(capability, Capability::Bpf | Capability::Perfmon)
                && set.has(Capability::SysAdmin))
    };
    let mut needs = vec![Capability::NetAdmin, Capability::NetRaw];
    needs.extend(if old { vec![Capability::SysAdmin] } else { vec![Capability::Bpf, Capability::Perfmon] });
    let missing = |wanted: &[Capability]| -> Vec<String> {
        wanted.iter().filter(|&&one| !has(one)).map(|one| one.name().to_owned()).collect()
    };
    let needed = missing(&needs);
    if !needed.is_empty() {
        let interface = facts.asked.as_ref().map_or_else(String::new, |name| format!(" -i {}", shell(name)));
        findings.error(
            format!("this process lacks {}, which ingest needs: run mirror as root", listed(&needed)),
            Some(Remedy::command(format!("sudo mirror doctor{interface}"))),
        );
    } else {
        findings.ok("the capabilities that ingest needs");
    }
}

fn bpf(facts: &Facts, findings: &mut Findings) {
    if facts.bpf_jit.known() == Some(&0) {
        findings.warning(
            "the BPF JIT is off: the XDP program is interpreted, at several times the cost per frame",
            Some(Remedy::sysctls(&[(Sysctl::BpfJitEnable, 1)])),
        );
    }
    if !facts.btf {
        findings.note("the kernel has no BTF (/sys/kernel/btf/vmlinux); ingest does not need it", None);
    }
    let busy: Vec<String> = [("busy_poll", &facts.busy_poll), ("busy_read", &facts.busy_read)]
        .into_iter()
        .filter_map(|(name, fact)| {
            fact.known().filter(|&&us| us > 0).map(|us| format!("net.core.{name} is {us} µs"))
        })
        .collect();
    if !busy.is_empty() {
        findings.note(
            format!(
                "{}: every socket reader on this host busy-polls, not only the workers; ingest enables busy \
                polling itself",
                listed(&busy)
            ),
            Some(Remedy::sysctls(&[(Sysctl::BusyPoll, 0), (Sysctl::BusyRead, 0)])),
        );
    }
}

/// What a run takes: the sum of the requested interfaces, or without these the most of one.
fn needed(facts: &Facts, each: impl ExactSizeIterator<Item = u64>) -> Option<u64> {
    if each.len() == 0 {
        return None;
    }
    if facts.asked.is_some() { Some(each.sum()) } else { each.max() }
}

/// Bytes of UMEMs; of one queue of small chunks if there is no interface.
fn umem(facts: &Facts) -> u64 {
    let interfaces = facts.interfaces.known().map(Vec::as_slice).unwrap_or_default();
    let sizes = interfaces.iter().map(|one| umem_bytes(facts, one));
    needed(facts, sizes).unwrap_or(FRAMES * 2048)
}

fn memlock(facts: &Facts, findings: &mut Findings) {
    let (Some(limit), Some(set)) = (facts.memlock.known(), facts.capabilities.known()) else {
        findings.unreadable("limit of locked memory", facts.memlock.reason().or(facts.capabilities.reason()));
        return;
    };
    let before_5_11 = facts.kernel_version().is_some_and(|version| version < since::MAPS_IN_CGROUP);
    let mut needed = 0;
    let mut what = Vec::new();
    if !set.has(Capability::IpcLock) {
        needed += umem(facts);
        what.push("UMEMs (no CAP_IPC_LOCK)".to_owned());
    }
    if before_5_11 {
        needed += BPF_MEMORY;
        what.push("BPF maps (kernel before 5.11)".to_owned());
    }
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= needed);
    if enough(limit.soft) {
        return;
    }
    let mut message = format!(
        "locked memory is limited to {}, and {} count against it: {} are needed",
        mebibytes(limit.soft.unwrap_or(0)),
        listed(&what),
        mebibytes(needed)
    );
    if !before_5_11 {
        message
            .push_str("; CAP_IPC_LOCK lifts the limit, a smaller `--rx-ring` or fewer `--queues` need less");
    }
    if enough(limit.hard) || set.has(Capability::SysResource) {
        findings.note(format!("{message}; mirror raises the limit when it starts"), None);
    } else {
        findings.error(
            message,
            Some(Remedy::command("ulimit -l unlimited   # as root; in a unit file: LimitMEMLOCK=infinity")),
        );
    }
}

fn huge_pages(facts: &Facts, findings: &mut Findings) {
    let Some(pages) = facts.huge_pages.known() else {
        findings.unreadable("huge pages", facts.huge_pages.reason());
        return;
    };
    let interfaces = facts.interfaces.known().map(Vec::as_slice).unwrap_or_default();
    let each = interfaces.iter().map(|one| umem_pages(facts, one));
    let needed = needed(facts, each).unwrap_or(plan::pages(2048));
    if pages.free >= needed {
        findings.ok(format!("{} of 2 MiB free, {needed} needed", counted(pages.free, "huge page")));
        return;
    }
    let total = pages.total + (needed - pages.free);
    findings.note(
        format!(
            "{} of 2 MiB free, and the UMEM takes {needed}: small pages are used, with more TLB misses",
            if pages.free == 0 { "no huge pages".to_owned() } else { counted(pages.free, "huge page") }
        ),
        Some(Remedy::sysctls(&[(Sysctl::NrHugepages, i64::try_from(total).unwrap_or(i64::MAX))])),
    );
}

fn realtime(facts: &Facts, findings: &mut Findings) {
    let Some(Realtime { refused, runtime_us }) = &facts.realtime else { return };
    match refused {
        None => findings.ok("workers can be real-time threads (SCHED_FIFO)"),
        Some(refused) => findings.warning(
            format!(
                "workers cannot be real-time threads (SCHED_FIFO: {refused}): other processes can make them \
                late, and packets are lost then; CAP_SYS_NICE or RLIMIT_RTPRIO permits it, and in a control \
                group with real-time limits also cpu.rt_runtime_us"
            ),
            Some(Remedy::command("ulimit -r 1   # as root; in a unit file: LimitRTPRIO=1")),
        ),
    }
    if *runtime_us == Some(-1) {
        findings.note(
            "the kernel does not throttle real-time threads (kernel.sched_rt_runtime_us is -1): one that \
            never sleeps takes its CPU from all other threads",
            Some(Remedy::sysctls(&[(Sysctl::SchedRtRuntime, 950_000)])),
        );
    }
}

/// Other receivers of the packets that XDP redirects.
fn ports(facts: &Facts, findings: &mut Findings) {
    for port in facts.tunnels.ports() {
        let devices = devices(facts, port);
        if !devices.is_empty() {
            let verb = if devices.len() == 1 { "receives" } else { "receive" };
            findings.warning(
                format!(
                    "{} {verb} on UDP {port}: packets of a captured interface no longer reach it; keep its \
                     underlay on another interface",
                    listed(&devices)
                ),
                None,
            );
        }
    }
    if let Some(reason) = facts.vxlan.reason() {
        findings.unreadable("VXLAN devices", Some(reason));
    }
    let Some(holders) = facts.port_holders.known() else {
        let ports: Vec<_> = facts.tunnels.ports().map(|port| port.to_string()).collect();
        findings.unreadable(&format!("holders of UDP {}", listed(&ports)), facts.port_holders.reason());
        return;
    };
    for (port, encapsulation) in facts.tunnels.iter() {
        let holders: Vec<_> = holders.iter().filter(|holder| holder.port == port).collect();
        // The engine binds the port while it runs.
        let mut processes: Vec<String> = holders
            .iter()
            .flat_map(|holder| holder.processes.iter().cloned())
            .filter(|name| !name.starts_with("mirror ("))
            .collect();
        processes.sort();
        processes.dedup();
        if !processes.is_empty() {
            findings.warning(
                format!(
                    "UDP {port} is bound by {}: it receives no datagrams of a captured interface",
                    listed(&processes)
                ),
                None,
            );
        }
        let is_of_device = !devices(facts, port).is_empty();
        let is_kernels = holders.iter().any(|holder| holder.processes.is_empty());
        if is_kernels && !is_of_device {
            held_by_kernel(port, encapsulation, findings);
        } else if !is_kernels && processes.is_empty() && !is_of_device {
            findings.ok(format!("no other socket on UDP {port}"));
        }
    }
}

/// The VXLAN devices of this network namespace that receive on a port.
fn devices(facts: &Facts, port: u16) -> Vec<String> {
    let devices = facts.vxlan.known().into_iter().flatten().filter(|device| device.port == port);
    let named = devices.map(|device| match device.vni {
        Some(vni) => format!("{} (VNI {vni})", device.name),
        None => format!("{} (every VNI)", device.name),
    });
    named.collect()
}

/// A socket of the kernel's, of no VXLAN device in this network namespace.
fn held_by_kernel(port: u16, encapsulation: Encapsulation, findings: &mut Findings) {
    match (encapsulation, port) {
        (Encapsulation::Vxlan, vxlan::PORT) => findings.warning(
            "UDP 4789 is bound by the kernel for a VXLAN device of another network namespace, as Docker's \
            overlay networks do: they lose the packets of a captured interface",
            Some(Remedy::command(
                "docker swarm init --data-path-port 7789   # when the swarm is made; a port of its own",
            )),
        ),
        (Encapsulation::Vxlan, _) => findings.warning(
            format!(
                "UDP {port} is bound by the kernel for a VXLAN device of another network namespace, which \
                loses the packets of a captured interface"
            ),
            None,
        ),
        (Encapsulation::Geneve, _) => findings.warning(
            format!(
                "UDP {port} is bound by the kernel, as for a GENEVE device: it loses the packets of a \
                captured interface; `ip -d link show type geneve` lists those of this network namespace"
            ),
            None,
        ),
    }
}

fn mebibytes(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 20) {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{} KiB", bytes >> 10)
    }
}
