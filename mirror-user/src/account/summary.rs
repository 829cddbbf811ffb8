//! The closing lines of a run: tcpdump's own sentences first, then those of this engine.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter, Write as _},
};

use super::{
    Directions, Drain, InterfaceReport, MemberReport, Origin, Report, SessionReport, SinkReport, SinkState,
    VlanReport,
    report::{ForwardTargetReport, QueueReport},
};
use crate::escape;

/// Origins, sessions and VLANs that are listed; the report has them all.
const ORIGINS: usize = 10;

/// Files with errors that are listed; the report has them all.
const FILES: usize = 20;

/// The closing lines of a report, for people: [`Report::summary`]. Strings from outside have their control
/// characters escaped.
///
/// ```
/// let report = mirror_user::Dispatch::builder().build(&mirror_user::WorkerContext::single(2048))?.finish();
/// let hint = |field: &str| (field == "rejected.not_tunnel").then_some("another port?");
/// let text = report.summary().hints(&hint).to_string();
/// assert!(text.starts_with("0 packets captured\n"));
/// # Ok::<(), mirror_user::dispatch::BuildError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Summary<'a> {
    report: &'a Report,
    hints: &'a dyn Fn(&str) -> Option<&'static str>,
    display_filter: &'a dyn Fn(&Origin) -> String,
    is_closed: bool,
}

impl fmt::Debug for Summary<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Summary").field("report", &self.report).finish_non_exhaustive()
    }
}

impl Report {
    /// The closing lines of the run, to be printed. Remedies depend on the embedding program: see
    /// [`Summary::hints`].
    #[must_use]
    pub fn summary(&self) -> Summary<'_> {
        Summary { report: self, hints: &|_| None, display_filter: &Origin::tunnel_filter, is_closed: true }
    }

    /// Inner frames that were not selected, and so reached no sink.
    fn not_selected(&self) -> u64 {
        self.frames.decapsulated.saturating_sub(self.frames.selected)
    }
}

impl<'a> Summary<'a> {
    /// Adds a remedy to a line, in parentheses. Lines are named after the field of the report that they show:
    /// `passed.not_local`, `passed.no_socket`, `dropped.vni`, `dropped.source`, `rejected.vni` and so on,
    /// `oversize`, `zero_copy`, `not_selected`.
    #[must_use]
    pub fn hints(self, hints: &'a dyn Fn(&str) -> Option<&'static str>) -> Self {
        Self { hints, ..self }
    }

    /// Leaves the sum of the account out, which another process closes.
    #[must_use]
    pub fn unclosed(self) -> Self {
        Self { is_closed: false, ..self }
    }

    /// Sets the Wireshark display filter that selects an origin; by default, one by the tunnel's outer
    /// headers.
    #[must_use]
    pub fn display_filter(self, display_filter: &'a dyn Fn(&Origin) -> String) -> Self {
        Self { display_filter, ..self }
    }

    /// tcpdump's closing lines.
    fn packets(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let report = self.report;
        let forwarded = report.forwarded_by_kernel();
        for (count, what) in [
            (report.frames.selected + forwarded, "captured"),
            (report.frames.decapsulated + forwarded, "received by filter"),
            (report.dropped_by_kernel(), "dropped by kernel"),
            (report.dropped_by_interface(), "dropped by interface"),
        ] {
            writeln!(f, "{count} packet{} {what}", if count == 1 { "" } else { "s" })?;
        }
        writeln!(f)
    }

    /// The drain, why the run ended early, and the capture files that were not read completely, each with
    /// what is missing.
    fn early_ends(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Report { ended_by, files, .. } = self.report;
        if let Some(Drain { quiet, seconds }) = self.report.drain {
            let end = if quiet { "until no more packets came" } else { "ended before packets had stopped" };
            writeln!(f, "drained for {seconds:.1} s, {end}")?;
        }
        // If a file ended early, its own line has the reason.
        if let Some(reason) = ended_by.as_ref().filter(|_| files.iter().all(|file| file.ended_by.is_none())) {
            writeln!(f, "ended early: {}", escape::line(reason))?;
        }
        let complaints = files.iter().map(|file| (&file.path, file.complaints()));
        let mut complaints = complaints.filter(|(_, complaints)| !complaints.is_empty());
        for (path, complaints) in complaints.by_ref().take(FILES) {
            let path = escape::line(path);
            complaints.iter().try_for_each(|complaint| writeln!(f, "{path}: {}", escape::line(complaint)))?;
        }
        let more = complaints.count();
        if more > 0 {
            writeln!(f, "{more} more files were not read completely (the report lists all)")?;
        }
        Ok(())
    }

    /// An indented line with its hint, unless the count is 0.
    fn cause(&self, f: &mut Formatter<'_>, field: &str, count: u64, cause: impl Display) -> fmt::Result {
        if count == 0 {
            return Ok(());
        }
        write!(f, "  {count} {cause}")?;
        match (self.hints)(field) {
            Some(hint) => writeln!(f, " ({hint})"),
            None => writeln!(f),
        }
    }

    fn reasons(
        &self,
        f: &mut Formatter<'_>,
        verdict: &str,
        mut reasons: impl Iterator<Item = (&'static str, u64, &'static str)>,
    ) -> fmt::Result {
        reasons.try_for_each(|(name, frames, words)| {
            self.cause(f, &format!("{verdict}.{name}"), frames, format_args!("{verdict}: {words}"))
        })
    }

    fn interface(&self, f: &mut Formatter<'_>, interface: &InterfaceReport) -> fmt::Result {
        let InterfaceReport { name, xdp_mode, bind, time, xdp, all_queues, .. } = interface;
        write!(f, "{} ({xdp_mode} XDP, {bind} mode, {time} time): {} seen", escape::line(name), xdp.seen)?;
        let parts = [
            (xdp.redirected, "redirected"),
            (xdp.forwarded, "forwarded"),
            (xdp.passed.total(), "passed to the kernel"),
            (xdp.dropped.refused(), "dropped: not allowed"),
            (xdp.dropped.no_target, "dropped: no target"),
        ];
        write_parts(f, " = ", " + ", &parts)?;
        if interface.lost {
            writeln!(f, "  the interface was deleted while it was read")?;
        }
        let explained = xdp.no_socket_at_start + xdp.no_socket_at_upgrade;
        let no_socket = xdp.passed.no_socket.saturating_sub(explained);
        let (lost, not_chosen) = if *all_queues { (no_socket, 0) } else { (0, no_socket) };
        let mut passed = xdp.passed.clone();
        passed.no_socket = not_chosen;
        self.reasons(f, "passed", passed.reasons())?;
        let at_start = (xdp.no_socket_at_start, "passed: arrived before the sockets were bound");
        self.cause(f, "no_socket_at_start", at_start.0, at_start.1)?;
        self.reasons(f, "dropped", xdp.dropped.reasons())?;
        let at_upgrade = (
            xdp.no_socket_at_upgrade,
            "lost: passed to the kernel, while a new process opened its sockets (cold upgrade)",
        );
        self.cause(f, "no_socket_at_upgrade", at_upgrade.0, at_upgrade.1)?;
        if lost > 0 {
            writeln!(
                f,
                "  {lost} lost: passed to the kernel, because their RX queue has no socket: it was added \
                after the start (`ethtool -l {}` lists queues); restart to read all queues",
                escape::shell(name)
            )?;
        }
        self.forward_path(f, interface)?;
        write_nic_losses(f, interface)?;
        interface.queues.iter().try_for_each(|queue| self.queue(f, queue))?;
        self.cause(f, "redirect_failed", xdp.redirect_failed.unwrap_or(0), "lost: redirect failed")
    }

    /// Where frames were forwarded, and what became of those that the kernel forwarded.
    fn forward_path(&self, f: &mut Formatter<'_>, interface: &InterfaceReport) -> fmt::Result {
        let Some(path) = &interface.forward_path else { return Ok(()) };
        writeln!(f, "  {}", escape::line(&path.to_string()))?;
        path.targets.iter().try_for_each(|target| self.target(f, target))
    }

    fn target(&self, f: &mut Formatter<'_>, target: &ForwardTargetReport) -> fmt::Result {
        let name = escape::line(&target.name);
        let (Some(sent), Some(not_sent)) = (target.sent, &target.not_sent) else {
            return writeln!(f, "  the kernel does not say how many were sent to {name}");
        };
        writeln!(f, "  {sent} sent to {name}")?;
        self.reasons(f, "not sent", not_sent.reasons())?;
        if target.got_nothing() {
            writeln!(f, "  {name} received none of its frames")?;
        }
        Ok(())
    }

    fn queue(&self, f: &mut Formatter<'_>, queue: &QueueReport) -> fmt::Result {
        let oversize = queue.oversize.unwrap_or(0);
        for (field, count, cause) in [
            (
                "rx_ring_full",
                queue.rx_ring_full,
                "lost: RX ring full (the worker is too slow, or has too little CPU)",
            ),
            ("rx_dropped", queue.rx_dropped.saturating_sub(oversize), "lost: fill ring empty (likewise)"),
            ("oversize", oversize, "lost: larger than a UMEM chunk"),
            (
                "lost_at_restart",
                queue.lost_at_restart,
                "lost: taken by a process that was killed, after the last account that it left",
            ),
        ] {
            self.cause(f, field, count, format_args!("{cause}, queue {}", queue.queue))?;
        }
        Ok(())
    }

    fn frames(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let frames = &self.report.frames;
        write!(f, "{} received", frames.received)?;
        let parts = [
            (frames.decapsulated, "decapsulated"),
            (frames.rejected.total(), "rejected"),
            (frames.abandoned, "abandoned by a worker that panicked"),
            (frames.fragments_consumed, "fragments joined with others"),
        ];
        write_parts(f, " = ", " + ", &parts)?;
        self.reasons(f, "rejected", frames.rejected.reasons())?;
        let odd = &frames.odd;
        for (field, count, cause) in [
            (
                "reassembled",
                frames.reassembled,
                "of the decapsulated or rejected were datagrams reassembled from fragments",
            ),
            ("not_selected", self.report.not_selected(), "of the decapsulated were not selected"),
            (
                "truncated_inner",
                odd.truncated_inner,
                "of the decapsulated were truncated by their mirror session",
            ),
            (
                "impossible_length",
                odd.impossible_length,
                "of the decapsulated declare an inner IP length beyond the packet (printed as truncated-ip)",
            ),
            (
                "reserved_bits",
                odd.reserved_bits,
                "of the decapsulated had reserved bits set in VXLAN or GENEVE",
            ),
            (
                "critical_options",
                odd.critical_options,
                "of the decapsulated had critical GENEVE options that are not known",
            ),
        ] {
            self.cause(f, field, count, cause)?;
        }
        // The outer header of a frame that a NIC has split declares more bytes than are there.
        let zero_copy = self.report.interfaces.iter().any(|interface| interface.bind == "zerocopy");
        if zero_copy && frames.rejected.bad_outer.saturating_mul(100) > frames.received {
            write!(
                f,
                "  over 1 % contradict: in zero-copy mode most likely a driver that splits frames at another \
                size than that of its chunks; compare with copy mode"
            )?;
            match (self.hints)("zero_copy") {
                Some(hint) => writeln!(f, " ({hint})")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }

    fn sink(&self, f: &mut Formatter<'_>, sink: &SinkReport) -> fmt::Result {
        let state = match sink.state {
            SinkState::Done if sink.removed => " removed",
            SinkState::Done => "",
            SinkState::Waiting => " still waiting",
            SinkState::Ended => " ended early",
            SinkState::Failed => " failed",
        };
        write!(f, "sink {}{state}: {} offered", escape::line(&sink.name), sink.offered)?;
        let parts = [
            (sink.written, "written"),
            (sink.dropped.values().sum(), "dropped"),
            (sink.failed.values().sum(), "failed"),
            (sink.pending, "pending"),
        ];
        write_parts(f, " = ", " + ", &parts)?;
        // Frames that no sink was given have a line above.
        let not_its_own = sink.deselected.saturating_sub(self.report.not_selected());
        self.cause(f, "deselected", not_its_own, "not of its selection")?;
        for (fate, losses) in [("dropped", &sink.dropped), ("failed", &sink.failed)] {
            for (reason, count) in losses {
                let field = format!("sinks.{fate}.{reason}");
                self.cause(f, &field, *count, format_args!("{fate}: {}", escape::line(reason)))?;
            }
        }
        if let Some(reason) = &sink.reason {
            writeln!(f, "  {}", escape::line(reason))?;
        }
        write_members(f, self.report, sink)?;
        write_vlans(f, sink)
    }

    fn latency(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(latency) = &self.report.latency_ns else { return Ok(()) };
        let us = |ns: u64| format!("{}.{:03} µs", ns / 1000, ns % 1000);
        let [p50, p99, p999, max] = [latency.p50, latency.p99, latency.p999, latency.max].map(us);
        writeln!(f, "latency: p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}")
    }

    fn origins(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Report { origins, origins_other, .. } = self.report;
        for origin in origins.iter().take(ORIGINS) {
            let Origin { source, vni, endpoint, frames, inner_bytes, at_least, .. } = origin;
            let (session, directions) = (session_of(origin), directions_of(origin));
            let endpoint = endpoint.map(|endpoint| format!(" endpoint {endpoint:016x}")).unwrap_or_default();
            let bound = if *at_least { "at least " } else { "" };
            writeln!(
                f,
                "origin {source} VNI {vni}{endpoint}{session}: {bound}{frames} frames{directions}, \
                {inner_bytes} bytes; Wireshark: {}",
                (self.display_filter)(origin)
            )?;
        }
        let more = origins.len().saturating_sub(ORIGINS);
        if more > 0 || origins_other.frames > 0 {
            let frames: u64 = origins.iter().skip(ORIGINS).map(|origin| origin.frames).sum();
            writeln!(
                f,
                "{} more origins with {} frames (the report lists up to its limit)",
                more as u64 + origins_other.origins,
                frames + origins_other.frames
            )?;
        }
        Ok(())
    }

    /// The sessions that have sent nothing, and the origins that are of none.
    fn sessions(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Report { sessions: Some(sessions), origins, .. } = self.report else { return Ok(()) };
        let silent: Vec<_> = sessions.iter().filter(|session| session.frames == 0).collect();
        let s = if sessions.len() == 1 { "" } else { "s" };
        writeln!(f, "{} session{s}, {} silent", sessions.len(), silent.len())?;
        for SessionReport { id, vni, interface, .. } in silent.iter().take(ORIGINS) {
            let (id, interface) = (escape::line(id), escape::line(interface));
            writeln!(f, "  silent: session {id} of {interface}, VNI {vni}")?;
        }
        write_more(f, silent.len(), "silent sessions")?;
        let unknown: Vec<_> = origins.iter().filter(|origin| origin.session.is_none()).collect();
        for Origin { source, vni, frames, .. } in unknown.iter().take(ORIGINS) {
            writeln!(
                f,
                "  unknown: {frames} frames from {source}, VNI {vni}, are of none of these sessions"
            )?;
        }
        write_more(f, unknown.len(), "unknown origins")
    }

    fn accounting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let accounting = &self.report.accounting;
        writeln!(
            f,
            "accounting: {} seen, {} explained, residue {}",
            accounting.seen, accounting.explained, accounting.residue
        )?;
        let mut unequal = accounting.laws.iter().filter(|(_, left)| **left != 0);
        unequal.try_for_each(|(law, left)| writeln!(f, "  {}: {left:+}", escape::line(law)))
    }
}

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.packets(f)?;
        self.early_ends(f)?;
        self.report.interfaces.iter().try_for_each(|interface| self.interface(f, interface))?;
        self.frames(f)?;
        self.report.sinks.iter().try_for_each(|sink| self.sink(f, sink))?;
        self.latency(f)?;
        self.origins(f)?;
        self.sessions(f)?;
        if self.is_closed { self.accounting(f) } else { Ok(()) }
    }
}

/// The session of an origin, if it is known: its id, and its name.
fn session_of(origin: &Origin) -> String {
    let Some(session) = &origin.session else { return String::new() };
    let name = origin.tags.get("Name").map(|name| format!(" ({})", escape::line(name))).unwrap_or_default();
    format!(" session {}{name}", escape::line(session))
}

/// An origin's frames by direction, if its session is known.
fn directions_of(origin: &Origin) -> String {
    let (Some(_), Some(directions)) = (&origin.session, origin.directions) else { return String::new() };
    let Directions { ingress, egress, unknown } = directions;
    format!(" ({ingress} ingress, {egress} egress, {unknown} of unknown direction)")
}

/// How many are not listed.
fn write_more(f: &mut Formatter<'_>, all: usize, what: &str) -> fmt::Result {
    match all.saturating_sub(ORIGINS) {
        0 => Ok(()),
        more => writeln!(f, "  {more} more {what} (the report lists all)"),
    }
}

/// Losses by the interface's own counters.
fn write_nic_losses(f: &mut Formatter<'_>, interface: &InterfaceReport) -> fmt::Result {
    let known = interface.dropped_by_kernel() + interface.xdp.dropped.total();
    for (name, count) in losses_of(&interface.nic) {
        let among = if known > 0 && name.contains("drop") {
            " (may include frames dropped by the program or the rings)"
        } else {
            ""
        };
        let name = escape::line(&name);
        writeln!(f, "  {count} {name} by the interface's counters{among}")?;
    }
    Ok(())
}

/// The targets of a group, each with its counters; those of a single target are the sink's.
fn write_members(f: &mut Formatter<'_>, report: &Report, sink: &SinkReport) -> fmt::Result {
    if sink.members.len() > 1 {
        for MemberReport { target, written, dropped, failed, pending, .. } in &sink.members {
            write!(f, "  {}", escape::line(target))?;
            let causes = dropped.iter().chain(failed).map(|(reason, count)| (*count, escape::line(reason)));
            let sent = [(*written, "written"), (*pending, "pending")];
            let sent = sent.map(|(count, what)| (count, escape::line(what)));
            let parts: Vec<_> = sent.into_iter().chain(causes).collect();
            write_parts(f, ": ", " + ", &parts)?;
        }
    }
    if sink.got_nothing() && sink.members.is_empty() {
        writeln!(f, "  it received none of its frames")?;
    }
    let without = sink.members.iter().filter(|member| report.member_got_nothing(member));
    for MemberReport { target, reason, .. } in without {
        write!(f, "  {} received none of its frames", escape::line(target))?;
        match reason {
            Some(reason) => writeln!(f, ": {}", escape::line(reason))?,
            None => writeln!(f)?,
        }
    }
    for MemberReport { target, readers, .. } in &sink.members {
        if let Some(readers) = readers
            && readers.disconnected > 0
        {
            writeln!(
                f,
                "  {}: {} readers were disconnected in favour of newer ones",
                escape::line(target),
                readers.disconnected
            )?;
        }
    }
    Ok(())
}

fn write_vlans(f: &mut Formatter<'_>, sink: &SinkReport) -> fmt::Result {
    for VlanReport { vni, vlan, .. } in sink.vlans.iter().take(ORIGINS) {
        writeln!(f, "  VNI {vni} as VLAN {vlan}")?;
    }
    write_more(f, sink.vlans.len(), "VNIs")?;
    if sink.vlans_given_up > 0 {
        writeln!(f, "  VLANs reassigned to another VNI, because none was free: {}", sink.vlans_given_up)?;
    }
    Ok(())
}

/// Counters of loss of the interface that have grown, with those of its queues summed:
/// `rx_queue_*_xdp_drops`.
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

/// `= 5 this + 3 that`, leaving out what is 0, but for the first.
fn write_parts(
    f: &mut Formatter<'_>,
    first: &str,
    between: &str,
    parts: &[(u64, impl Display)],
) -> fmt::Result {
    let mut separator = first;
    for (position, (count, what)) in parts.iter().enumerate() {
        if *count > 0 || position == 0 {
            write!(f, "{separator}{count} {what}")?;
            separator = between;
        }
    }
    f.write_char('\n')
}

#[cfg(test)]
mod tests;
