//! Findings about how frames spread over queues and CPUs.

use super::{Findings, Remedy, counted, listed};
use crate::{
    doctor::{
        facts::{Facts, InterfaceFacts},
        rss::{MICROSOFT_KEY, PORTS, reach},
    },
    host::{hex_key, settings::Setting},
};

/// `ETH_RSS_HASH_TOP`.
const TOEPLITZ: u8 = 1;

pub(super) fn judge(facts: &Facts, interface: &InterfaceFacts, findings: &mut Findings) {
    let queues = interface.rx_queues.known().copied().unwrap_or(1);
    rings(interface, queues, findings);
    if let Some(&cpus) = facts.cpus.known().filter(|&&cpus| queues > cpus) {
        findings.note(
            format!("{} and {}: workers share CPUs", counted(queues, "queue"), counted(cpus, "CPU")),
            None,
        );
    }
    if queues > 1 {
        rss(facts, interface, findings);
        irqs(facts, interface, findings);
    }
}

fn rings(interface: &InterfaceFacts, queues: u32, findings: &mut Findings) {
    let Some(rings) = interface.rings.known().filter(|rings| rings.rx < rings.max_rx) else { return };
    // A page a descriptor.
    let memory = u64::from(rings.max_rx) * u64::from(queues) / 256;
    findings.note(
        format!(
            "RX rings have {} of at most {} descriptors: longer bursts are lost as rx_overruns or \
            rx_dropped; the maximum takes {memory} MiB for {}",
            rings.rx,
            rings.max_rx,
            counted(queues, "queue")
        ),
        Some(Remedy::setting(Setting::RxRing { interface: interface.name.clone() }, rings.max_rx)),
    );
}

fn rss(facts: &Facts, interface: &InterfaceFacts, findings: &mut Findings) {
    if interface.kind.as_deref() == Some("veth") {
        findings
            .note("veth has no RSS: a frame's queue is the sending CPU modulo the number of queues", None);
        return;
    }
    if !facts.tunnels.geneve().is_empty() {
        findings.note(
            "how a Gateway Load Balancer chooses outer source ports is not documented: only the report of a \
            run shows how its packets spread over the queues",
            None,
        );
    }
    if facts.tunnels.vxlan().is_empty() {
        return;
    }
    let Some(rss) = interface.rss.known() else {
        findings.unreadable("RSS key and table", interface.rss.reason());
        return;
    };
    let Some(reach) = reach(&rss.key, &rss.table).filter(|_| rss.function == TOEPLITZ) else {
        findings.unreadable("spread over queues", Some("the driver shows no Toeplitz key with a table"));
        return;
    };
    let spread = format!(
        "the RSS key spreads mirrored traffic, whose outer source ports differ in 7 bits, over {} of {} \
        table entries",
        reach.entries, reach.table
    );
    let all_queues = reach.queues == reach.all_queues;
    // A table whose size is not a multiple of the number of queues is slightly uneven.
    let even = all_queues && reach.busiest * reach.all_queues * 4 <= PORTS * 5;
    if even && reach.entries == reach.table.min(PORTS) {
        findings.ok(format!("{spread} and all {} queues", reach.all_queues));
        return;
    }
    // Drivers accept only keys of their own length.
    let key: Vec<u8> = MICROSOFT_KEY.iter().copied().cycle().take(rss.key.len()).collect();
    let setting = Setting::RssKey { interface: interface.name.clone() };
    let remedy = Some(Remedy::setting(setting, hex_key(&key)));
    let advice = "Microsoft's default key reaches all, if the driver supports setting it (c5n does)";
    if even {
        findings
            .note(format!("{spread}, though evenly over all {} queues; {advice}", reach.all_queues), remedy);
    } else {
        findings.warning(
            format!(
                "{spread}: at worst {} of {} queues, the busiest with {} of {PORTS} ports; {advice}",
                reach.queues, reach.all_queues, reach.busiest
            ),
            remedy,
        );
    }
}

fn irqs(facts: &Facts, interface: &InterfaceFacts, findings: &mut Findings) {
    let Some(irqs) = interface.irqs.known() else { return };
    let [first, rest @ ..] = irqs.as_slice() else { return };
    let single = first.cpus.parse::<u32>();
    let Ok(cpu) = single else { return };
    if rest.is_empty() || rest.iter().any(|irq| irq.cpus != first.cpus) {
        return;
    }
    let Some(&cpus) = facts.cpus.known().filter(|&&cpus| cpus > 1) else { return };
    let commands: Vec<String> = irqs
        .iter()
        .zip((0..cpus).cycle())
        .map(|(irq, cpu)| format!("echo {cpu} > /proc/irq/{}/smp_affinity_list", irq.irq))
        .collect();
    let numbers: Vec<String> = irqs.iter().map(|irq| irq.irq.to_string()).collect();
    findings.warning(
        format!(
            "the interrupts of all queues ({}) go to CPU {cpu}, which does the kernel's work for all of them",
            listed(&numbers)
        ),
        Some(Remedy::command(commands.join("; "))),
    );
}
