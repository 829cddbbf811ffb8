//! The closing lines: tcpdump's own sentences first, then what only this tool knows.

use std::{collections::BTreeMap, fmt::Write as _};

use mirror_user::{
    Report,
    account::{FileReport, MemberReport, Origin, SinkReport, SinkState, VlanReport},
    escape,
    sink::pcap::Rotator,
};

use crate::output::Capture;

/// Origins that are listed; the report has them all.
const ORIGINS: usize = 10;

/// Files that are listed with what is wrong with them; the report has them all.
const FILES: usize = 20;

/// The closing lines of a run.
pub(crate) fn lines(report: &Report, captures: &[Capture]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_lines(&mut text, report, captures);
    text
}

fn write_lines(text: &mut String, report: &Report, captures: &[Capture]) -> std::fmt::Result {
    let captured = report.sinks.first().map_or(report.frames.decapsulated, |sink| sink.offered);
    for (count, what) in [
        (captured, "captured"),
        (report.frames.decapsulated, "received by filter"),
        (report.dropped_by_kernel(), "dropped by kernel"),
        (report.dropped_by_interface(), "dropped by interface"),
    ] {
        let s = if count == 1 { "" } else { "s" };
        writeln!(text, "{count} packet{s} {what}")?;
    }
    writeln!(text)?;

    // That a file ended early is told with the file.
    if let Some(reason) =
        report.ended_by.as_ref().filter(|_| report.files.iter().all(|file| file.ended_by.is_none()))
    {
        writeln!(text, "ended early: {}", escape::line(reason))?;
    }
    write_files(text, &report.files)?;
    for interface in &report.interfaces {
        let xdp = &interface.xdp;
        let (mode, bind, time) = (interface.xdp_mode, interface.bind, interface.time);
        write!(text, "{} ({mode} XDP, {bind} mode, {time} time): {} seen", interface.name, xdp.seen)?;
        let parts = [
            (xdp.redirected, "to the rings"),
            (xdp.passed.total(), "passed to the host"),
            (xdp.dropped.total(), "refused"),
        ];
        write_parts(text, " = ", " + ", &parts)?;
        let passed = &xdp.passed;
        let no_socket = passed.no_socket.saturating_sub(xdp.no_socket_at_start);
        let (lost, not_chosen) = if interface.all_queues { (no_socket, 0) } else { (0, no_socket) };
        let reasons = [
            (passed.not_tunnel, "passed: not UDP to a tunnel port"),
            (passed.fragment, "passed: IP fragments that nothing shows to be of a tunnel"),
            (passed.malformed, "passed: malformed"),
            (passed.extension, "passed: IPv6 extension headers"),
            (passed.not_local, "passed: addressed to others, or from a loopback address (see --destination)"),
            (passed.geneve, "passed: GENEVE, which is not decapsulated"),
            (xdp.no_socket_at_start, "passed: came before the sockets were there"),
            (not_chosen, "passed: no socket on the queue (see --queues)"),
            (xdp.dropped.vni, "refused: VNI not in --vni"),
            (xdp.dropped.source, "refused: outer source not in --source"),
        ];
        write_causes(text, &reasons)?;
        if lost > 0 {
            writeln!(
                text,
                "  {lost} lost: passed to the host, for their RX queue has no socket: it came after the start (`ethtool -l {}` \
                 lists queues); start mirror again to read them all",
                escape::shell(&interface.name)
            )?;
        }
        let known = interface.dropped_by_kernel() + xdp.dropped.total();
        for (name, count) in losses_of(&interface.nic) {
            let among = if known > 0 && name.contains("drop") {
                " (what program and rings dropped may be among them)"
            } else {
                ""
            };
            writeln!(
                text,
                "  {count} {}, as the interface's own counters have it{among}",
                escape::line(&name)
            )?;
        }
        for queue in &interface.queues {
            let causes = [
                (queue.rx_ring_full, "lost: RX ring full (the worker is too slow, or has too little CPU)"),
                (
                    queue.rx_dropped.saturating_sub(queue.oversize.unwrap_or(0)),
                    "lost: fill ring empty (likewise)",
                ),
                (
                    queue.oversize.unwrap_or(0),
                    "lost: larger than a UMEM chunk takes (see --mode and the MTU)",
                ),
            ];
            for (count, cause) in causes {
                if count > 0 {
                    writeln!(text, "  {count} {cause}, queue {}", queue.queue)?;
                }
            }
        }
        write_causes(text, &[(xdp.redirect_failed.unwrap_or(0), "lost: redirect failed")])?;
    }
    let frames = &report.frames;
    write!(text, "{} received", frames.received)?;
    let rejected = frames.rejected.total();
    let parts = [
        (frames.decapsulated, "decapsulated"),
        (rejected, "rejected"),
        (frames.abandoned, "abandoned by a dead worker"),
        (frames.fragments_consumed, "fragments joined with others"),
    ];
    write_parts(text, " = ", " + ", &parts)?;
    let why = &frames.rejected;
    let reasons = [
        (why.short, "rejected: too short for VXLAN and an inner Ethernet header"),
        (why.snapped, "rejected: cut by the snaplen of the capture before its inner Ethernet header ends"),
        (why.bad_outer, "rejected: outer headers contradict each other"),
        (why.no_vni_flag, "rejected: VXLAN without a VNI (I flag missing)"),
        (why.vni, "rejected: VNI not in --vni"),
        (why.source, "rejected: outer source not in --source"),
        (why.multi_descriptor, "rejected: in several descriptors"),
        (why.not_tunnel, "rejected: not UDP to a tunnel port (see --port)"),
        (why.geneve, "rejected: GENEVE, which is not decapsulated"),
        (why.extension, "rejected: IPv6 extension headers"),
        (why.not_ethernet, "rejected: VXLAN-GPE whose next protocol is not Ethernet"),
        (why.link_type, "rejected: of a link type that is not read"),
        (why.fragment, "rejected: IP fragments (--no-reassemble)"),
        (why.fragment_timeout, "rejected: IP fragments whose others did not come in time"),
        (why.overlap, "rejected: IP fragments that overlap"),
        (why.ambiguous, "rejected: IP fragments that fit more than one datagram"),
        (why.table_full, "rejected: IP fragments, for want of memory"),
        (frames.reassembled, "of the decapsulated or rejected were datagrams reassembled from fragments"),
        (
            report.sinks.first().map_or(0, |sink| sink.deselected),
            "of the decapsulated were not asked for (filter, -c)",
        ),
        (frames.odd.truncated_inner, "of the decapsulated were truncated by their mirror session"),
        (
            frames.odd.impossible_length,
            "of the decapsulated have an inner IP length that is more than the packet had (printed as truncated-ip)",
        ),
        (frames.odd.reserved_bits, "of the decapsulated had reserved VXLAN bits set"),
    ];
    write_causes(text, &reasons)?;
    // Frames cut by a NIC have an outer header that promises more than is there.
    let zero_copy = report.interfaces.iter().any(|interface| interface.bind == "zerocopy");
    if zero_copy && why.bad_outer * 100 > frames.received {
        writeln!(
            text,
            "  over 1 % contradict: in zero-copy mode that is most likely a driver that cuts frames at another size than its \
             chunks'; `--bind copy` shows whether it is"
        )?;
    }

    for sink in &report.sinks {
        let state = match sink.state {
            SinkState::Done => "",
            SinkState::Waiting => " still waiting",
            SinkState::Ended => " ended early",
            _ => " failed",
        };
        write!(text, "sink {}{state}: {} offered", escape::line(&sink.name), sink.offered)?;
        let parts = [
            (sink.written, "written"),
            (sink.dropped.values().sum(), "dropped"),
            (sink.failed.values().sum(), "failed"),
            (sink.pending, "pending"),
        ];
        write_parts(text, " = ", " + ", &parts)?;
        // The counters have no selection of their own: what they were not given, nobody was.
        let nobody = report.sinks.first().map_or(0, |sink| sink.deselected);
        write_causes(text, &[(sink.deselected.saturating_sub(nobody), "not of its selection")])?;
        for (reason, count) in sink
            .dropped
            .iter()
            .map(|(reason, count)| (format!("dropped: {reason}"), count))
            .chain(sink.failed.iter().map(|(reason, count)| (format!("failed: {reason}"), count)))
        {
            if *count > 0 {
                writeln!(text, "  {count} {reason}")?;
            }
        }
        if let Some(reason) = &sink.reason {
            writeln!(text, "  {}", escape::line(reason))?;
        }
        write_members(text, sink)?;
    }
    if let Some(latency) = &report.latency_ns {
        let us = |ns: u64| format!("{}.{:03} µs", ns / 1000, ns % 1000);
        writeln!(
            text,
            "latency: p50 {}, p99 {}, p99.9 {}, max {}",
            us(latency.p50),
            us(latency.p99),
            us(latency.p999),
            us(latency.max)
        )?;
    }
    for origin in report.origins.iter().take(ORIGINS) {
        let Origin { source, vni, frames, inner_bytes, at_least, .. } = origin;
        let bound = if *at_least { "at least " } else { "" };
        writeln!(
            text,
            "origin {source} VNI {vni}: {bound}{frames} frames, {inner_bytes} bytes; Wireshark: {}",
            filter(origin, captures.first())
        )?;
    }
    let (more, other) = (report.origins.len().saturating_sub(ORIGINS), &report.origins_other);
    if more > 0 || other.frames > 0 {
        let frames: u64 = report.origins.iter().skip(ORIGINS).map(|origin| origin.frames).sum();
        writeln!(
            text,
            "origins besides: {} with {} frames (--report lists up to the bound)",
            more as u64 + other.origins,
            frames + other.frames
        )?;
    }
    let accounting = &report.accounting;
    writeln!(
        text,
        "accounting: {} seen, {} explained, residue {}",
        accounting.seen, accounting.explained, accounting.residue
    )?;
    for (law, left) in accounting.laws.iter().filter(|(_, left)| **left != 0) {
        writeln!(text, "  {law}: {left:+}")?;
    }
    for Capture { path, rotator, .. } in captures {
        let completed = rotator.as_ref().map(Rotator::completed).unwrap_or_default();
        match (completed.files, completed.last.as_ref().or(path.as_ref())) {
            (_, None) => {}
            (0 | 1, Some(path)) => writeln!(text, "capture: {}", escape::path(path))?,
            (files, Some(last)) => {
                writeln!(text, "captures: {files} files, the last {}", escape::path(last))?;
            }
        }
    }
    Ok(())
}

/// The capture files that were not read whole, each with what is missing.
fn write_files(text: &mut String, files: &[FileReport]) -> std::fmt::Result {
    let complaints = files.iter().map(|file| (&file.path, file.complaints()));
    let mut complaints = complaints.filter(|(_, complaints)| !complaints.is_empty());
    for (path, complaints) in complaints.by_ref().take(FILES) {
        let path = escape::line(path);
        complaints.iter().try_for_each(|complaint| writeln!(text, "{path}: {}", escape::line(complaint)))?;
    }
    let more = complaints.count();
    if more > 0 {
        writeln!(text, "files besides that were not read whole: {more} (--report lists all)")?;
    }
    Ok(())
}

/// The targets of a group, each with its part; that of a single one is told already.
fn write_members(text: &mut String, sink: &SinkReport) -> std::fmt::Result {
    if sink.members.len() > 1 {
        for MemberReport { target, written, dropped, failed, pending, .. } in &sink.members {
            write!(text, "  {}", escape::line(target))?;
            let causes = dropped.iter().chain(failed).map(|(reason, count)| (*count, *reason));
            let parts: Vec<_> =
                [(*written, "written"), (*pending, "pending")].into_iter().chain(causes).collect();
            write_parts(text, ": ", " + ", &parts)?;
        }
    }
    if sink.got_nothing() && sink.members.is_empty() {
        writeln!(text, "  it got nothing of what was for it")?;
    }
    for MemberReport { target, reason, .. } in sink.members.iter().filter(|member| member.got_nothing()) {
        write!(text, "  {} got nothing of what was for it", escape::line(target))?;
        match reason {
            Some(reason) => writeln!(text, ": {}", escape::line(reason))?,
            None => writeln!(text)?,
        }
    }
    for MemberReport { target, readers, .. } in &sink.members {
        if let Some(readers) = readers
            && readers.disconnected > 0
        {
            writeln!(
                text,
                "  {}: {} readers were disconnected for others that came",
                escape::line(target),
                readers.disconnected
            )?;
        }
    }
    for VlanReport { vni, vlan, .. } in sink.vlans.iter().take(ORIGINS) {
        writeln!(text, "  VNI {vni} as VLAN {vlan}")?;
    }
    let more = sink.vlans.len().saturating_sub(ORIGINS);
    if more > 0 {
        writeln!(text, "  VNIs besides: {more} (--report lists all)")?;
    }
    if sink.vlans_given_up > 0 {
        writeln!(text, "  VLANs given to another VNI, because none was free: {}", sink.vlans_given_up)?;
    }
    Ok(())
}

/// The interface's counters of loss that grew, those of its queues as one: `rx_queue_*_xdp_drops`.
fn losses_of(nic: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    const WORDS: [&str; 12] = [
        "drop",
        "discard",
        "err",
        "miss",
        "overrun",
        "exceed",
        "fifo",
        "fail",
        "abort",
        "exception",
        "empty_rx_ring",
        "OOB",
    ];
    let mut losses = BTreeMap::new();
    for (name, count) in nic {
        if *count > 0 && WORDS.iter().any(|word| name.contains(word)) {
            *losses.entry(of_all_queues(name)).or_default() += count;
        }
    }
    losses
}

/// A counter's name with `*` for the number of its queue.
fn of_all_queues(name: &str) -> String {
    let mut general = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            '0'..='9' if general.ends_with('*') => {}
            '0'..='9' => general.push('*'),
            other => general.push(other),
        }
    }
    general
}

/// `= 5 this + 3 that`, leaving out what is 0 unless all is.
fn write_parts(text: &mut String, first: &str, between: &str, parts: &[(u64, &str)]) -> std::fmt::Result {
    let mut separator = first;
    for (position, (count, what)) in parts.iter().enumerate() {
        if *count > 0 || position == 0 {
            write!(text, "{separator}{count} {what}")?;
            separator = between;
        }
    }
    writeln!(text)
}

fn write_causes(text: &mut String, causes: &[(u64, &str)]) -> std::fmt::Result {
    causes
        .iter()
        .filter(|(count, _)| *count > 0)
        .try_for_each(|(count, cause)| writeln!(text, "  {count} {cause}"))
}

/// The display filter that selects an origin: in a capture of inner frames its interface, elsewhere its tunnel.
fn filter(origin: &Origin, capture: Option<&Capture>) -> String {
    let Origin { source, vni, .. } = origin;
    match capture {
        Some(Capture { outer: false, pcapng: true, .. }) => {
            format!("frame.interface_name == \"vni-{vni}@{source}\"")
        }
        Some(Capture { outer: false, pcapng: false, .. }) => {
            "none, a classic pcap of inner frames does not keep it (use --format pcapng)".to_owned()
        }
        _ => {
            let ip = if source.is_ipv6() { "ipv6" } else { "ip" };
            format!("vxlan.vni == {vni} && {ip}.src == {source}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_loss_are_named_those_of_queues_as_one_and_others_not() {
        let nic = [
            ("rx_packets", 9),
            ("rx_dropped", 5),
            ("rx_missed_errors", 0),
            ("rx_queue_0_xdp_drops", 2),
            ("rx_queue_11_xdp_drops", 3),
            ("rx_queue_0_xdp_redirects", 7),
            ("rx_overruns", 1),
        ];
        let nic = nic.map(|(name, count)| (name.to_owned(), count)).into();
        let losses: Vec<_> = losses_of(&nic).into_iter().collect();
        let expected = [("rx_dropped", 5), ("rx_overruns", 1), ("rx_queue_*_xdp_drops", 5)];
        assert_eq!(losses, expected.map(|(name, count)| (name.to_owned(), count)));
    }
}
