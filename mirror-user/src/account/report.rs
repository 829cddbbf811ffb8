//! The report of a run: `mirror.report/1`, as `--json` and `--report` write it.
//!
//! Fields may be added, never renamed. What a run did not have is null.

use std::{collections::BTreeMap, net::IpAddr, time::SystemTime};

use pcap_parser::Linktype;
use serde::Serialize;

use super::{
    counters::{FrameCounters, Reject, Rejections},
    stats::{SinkState, SinkStats},
};

/// A run in numbers.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// `mirror.report/1`.
    pub schema: &'static str,
    /// Where the frames came from: `af_xdp`, `file`, or `custom` for a source of the embedder's own.
    pub source: &'static str,
    /// Start of the run, RFC 3339.
    pub started: String,
    /// Length of the run, in seconds.
    pub duration_s: f64,
    /// Why the run, or the reading of a capture file, ended before it was asked to; null where neither did.
    pub ended_by: Option<String>,
    /// What was not as good as it could be, in words.
    pub warnings: Vec<String>,
    /// The expression that inner frames had to match; null without.
    pub filter: Option<String>,
    /// The expression that frames had to match as they came; null without.
    pub outer_filter: Option<String>,
    /// One entry an interface; empty for capture files.
    pub interfaces: Vec<InterfaceReport>,
    /// One entry a capture file that was to be read, in order; empty for interfaces.
    pub files: Vec<FileReport>,
    /// Frames between source and sinks, over all workers.
    pub frames: Frames,
    /// Frames by origin, most first; empty without the counters sink.
    pub origins: Vec<Origin>,
    /// What did not fit the table of origins.
    pub origins_other: OtherOrigins,
    /// One entry a sink.
    pub sinks: Vec<SinkReport>,
    /// Receive time to sink, in ns; null unless asked for.
    pub latency_ns: Option<Latency>,
    /// The law, closed.
    pub accounting: Accounting,
}

/// One interface.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct InterfaceReport {
    /// Name, as given.
    pub name: String,
    /// Driver, where the kernel tells.
    pub driver: Option<String>,
    /// `native` or `generic`.
    pub xdp_mode: &'static str,
    /// `copy` or `zerocopy`: how the kernel hands frames to the ring. Decapsulation never copies.
    pub bind: &'static str,
    /// `kernel` where the XDP program stamped the frames, `user` where the worker did.
    pub time: &'static str,
    /// Frames that the XDP program should have stamped and could not; they have the worker's time.
    pub unstamped: u64,
    /// Whether all RX queues were asked for; then `xdp.passed.no_socket` is loss, and not choice.
    pub all_queues: bool,
    /// What the XDP program counted.
    pub xdp: XdpReport,
    /// The interface's and driver's own counters, as deltas over the run.
    pub nic: BTreeMap<String, u64>,
    /// One entry a queue.
    pub queues: Vec<QueueReport>,
}

/// What the XDP program counted.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct XdpReport {
    /// Frames that entered the program.
    pub seen: u64,
    /// Frames handed to a socket.
    pub redirected: u64,
    /// Redirects that failed afterwards and that no socket counts; null where the kernel has no tracepoint for it.
    pub redirect_failed: Option<u64>,
    /// Frames left to the kernel.
    pub passed: Passed,
    /// Of `passed.no_socket`, those that came after the program was attached and before the sockets were there.
    pub no_socket_at_start: u64,
    /// Frames dropped because they were not allowed.
    pub dropped: Refused,
}

/// Frames left to the kernel, by reason.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Passed {
    /// Not UDP to a tunnel port.
    pub not_tunnel: u64,
    /// Fragments of UDP datagrams.
    pub fragment: u64,
    /// Shorter than their headers say.
    pub malformed: u64,
    /// IPv6 extension headers before UDP.
    pub extension: u64,
    /// To a tunnel port, but not to this interface's MAC or IP address, or from a loopback address
    /// ([`Destination::Own`](crate::engine::Destination::Own)).
    pub not_local: u64,
    /// GENEVE (UDP port 6081), which is not decapsulated.
    pub geneve: u64,
    /// No socket on the queue.
    pub no_socket: u64,
}

/// Frames dropped in the XDP program, by reason.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Refused {
    /// VNI not allowed.
    pub vni: u64,
    /// Outer source not allowed.
    pub source: u64,
}

/// One RX queue.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct QueueReport {
    /// RX queue index.
    pub queue: u32,
    /// CPU of its worker; null if it was not pinned.
    pub cpu: Option<usize>,
    /// Frames its worker took off the ring.
    pub received: u64,
    /// XDP_STATISTICS: frames dropped for want of a place in the UMEM or because they do not fit a chunk.
    pub rx_dropped: u64,
    /// XDP_STATISTICS: frames dropped because the RX ring was full.
    pub rx_ring_full: u64,
    /// XDP_STATISTICS: descriptors the kernel refused; no part of the sum.
    pub rx_invalid_descs: u64,
    /// XDP_STATISTICS: of `rx_dropped`, those for which the fill ring was empty.
    pub fill_ring_empty: u64,
    /// `rx_dropped - fill_ring_empty`: frames larger than a chunk takes. Null where frames may come in several
    /// descriptors: there is no such loss then, and a frame that finds the fill ring short is in `rx_dropped` alone.
    pub oversize: Option<u64>,
    /// Time per frame spent on non-empty batches, in ns.
    pub busy_ns_per_frame: f64,
    /// Share of the run spent on non-empty batches.
    pub busy_ratio: f64,
}

/// One capture file.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct FileReport {
    /// Path, as given.
    pub path: String,
    /// `gzip` or `zstd`; null where the file is not compressed, or nothing of it was read.
    pub compression: Option<&'static str>,
    /// Packets read, those of link types that are not read included.
    pub packets: u64,
    /// Of these, those of link types that are not read, by the number of the link type.
    pub link_types: BTreeMap<u16, u64>,
    /// Packets and blocks that were passed over, because they contradict themselves or the format.
    pub skipped: u64,
    /// What was wrong with the first of these, and where; null where there is none.
    pub first_skipped: Option<String>,
    /// Why the rest of the file, or all of it, could not be read, and where it begins; null where all was.
    pub ended_by: Option<String>,
}

impl FileReport {
    /// What was not read of the file, and why, in words: a sentence each.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        /// Link types that are named.
        const LINK_TYPES: usize = 10;
        let Self { packets, link_types, skipped, first_skipped, ended_by, .. } = self;
        let s = |count: u64| if count == 1 { "" } else { "s" };
        let mut complaints = Vec::new();
        if let Some(reason) = ended_by {
            complaints.push(format!("ended early: {reason}; {packets} packet{} read before", s(*packets)));
        }
        if let Some(first) = first_skipped {
            let what = if *skipped == 1 { "packet or block" } else { "packets or blocks" };
            complaints.push(format!("{skipped} {what} passed over, the first {first}"));
        }
        for (link_type, count) in link_types.iter().take(LINK_TYPES) {
            let name = Linktype(i32::from(*link_type));
            complaints.push(format!(
                "{count} packet{} of link type {link_type} ({name}), which is not read",
                s(*count)
            ));
        }
        let more = link_types.len().saturating_sub(LINK_TYPES);
        if more > 0 {
            complaints.push(format!("{more} further link types that are not read"));
        }
        complaints
    }

    /// Whether nothing was wrong with the file. Packets of link types that are not read are as they should be.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.skipped == 0 && self.ended_by.is_none()
    }
}

/// Frames between source and sinks.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Frames {
    /// Taken off the rings, or read from files.
    pub received: u64,
    /// Inner frames found.
    pub decapsulated: u64,
    /// In a batch whose worker died.
    pub abandoned: u64,
    /// Fragments of completed datagrams beyond the one frame that each datagram became.
    pub fragments_consumed: u64,
    /// Datagrams completed from fragments; no frames received, so outside the sum.
    pub reassembled: u64,
    /// Captured bytes of the outer frames.
    pub outer_bytes: u64,
    /// Captured bytes of the inner frames.
    pub inner_bytes: u64,
    /// Frames, of those received, that came in several descriptors (`XDP_USE_SG`).
    pub multi_descriptor: u64,
    /// Frames that held no inner frame, by reason.
    pub rejected: Rejected,
    /// Decapsulated all the same.
    pub odd: Odd,
}

/// Frames that were not decapsulated, by reason; see [`Reject`].
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Rejected {
    /// [`Reject::Short`].
    pub short: u64,
    /// [`Reject::Snapped`].
    pub snapped: u64,
    /// [`Reject::BadOuter`].
    pub bad_outer: u64,
    /// [`Reject::NoVniFlag`].
    pub no_vni_flag: u64,
    /// [`Reject::Vni`].
    pub vni: u64,
    /// [`Reject::Source`].
    pub source: u64,
    /// [`Reject::MultiDescriptor`].
    pub multi_descriptor: u64,
    /// [`Reject::NotTunnel`].
    pub not_tunnel: u64,
    /// [`Reject::Geneve`].
    pub geneve: u64,
    /// [`Reject::Extension`].
    pub extension: u64,
    /// [`Reject::NotEthernet`].
    pub not_ethernet: u64,
    /// [`Reject::LinkType`]; by the number of the link type in `files`.
    pub link_type: u64,
    /// [`Reject::Fragment`].
    pub fragment: u64,
    /// [`Reject::FragmentTimeout`].
    pub fragment_timeout: u64,
    /// [`Reject::Overlap`].
    pub overlap: u64,
    /// [`Reject::Ambiguous`].
    pub ambiguous: u64,
    /// [`Reject::TableFull`].
    pub table_full: u64,
}

impl Rejected {
    /// Sum over all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Self {
            short,
            snapped,
            bad_outer,
            no_vni_flag,
            vni,
            source,
            multi_descriptor,
            not_tunnel,
            geneve,
            extension,
            not_ethernet,
            link_type,
            fragment,
            fragment_timeout,
            overlap,
            ambiguous,
            table_full,
        } = self;
        let not_ours = not_tunnel + geneve + extension + not_ethernet + link_type;
        let frames = short + snapped + bad_outer + no_vni_flag + vni + source + multi_descriptor + not_ours;
        frames + fragment + fragment_timeout + overlap + ambiguous + table_full
    }
}

/// Frames that were decapsulated although something was unusual.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Odd {
    /// Reserved bits of the VXLAN header were set.
    pub reserved_bits: u64,
    /// The mirror session had truncated the inner frame.
    pub truncated_inner: u64,
    /// The inner IP header tells of more than the frame had at its source.
    pub impossible_length: u64,
}

/// Frames of one origin. A VNI is unique per account only, so the outer source is part of the key.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Origin {
    /// Outer source address.
    pub source: IpAddr,
    /// VXLAN network identifier.
    pub vni: u32,
    /// Inner frames.
    pub frames: u64,
    /// Captured bytes of the inner frames.
    pub inner_bytes: u64,
    /// Both may be more: what came of it while the table of origins was full may be in [`Report::origins_other`].
    pub at_least: bool,
}

impl Origin {
    /// An origin's account.
    #[must_use]
    pub fn new(source: IpAddr, vni: u32, frames: u64, inner_bytes: u64) -> Self {
        Self { source, vni, frames, inner_bytes, at_least: false }
    }
}

/// What did not fit the table of origins.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OtherOrigins {
    /// Lower bound of the number of origins that have frames in this bucket, and may have others in [`Report::origins`].
    pub origins: u64,
    /// Inner frames.
    pub frames: u64,
    /// Captured bytes of the inner frames.
    pub inner_bytes: u64,
}

/// One sink, over all workers.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct SinkReport {
    /// Name of the sink.
    pub name: String,
    /// How it ended.
    pub state: SinkState,
    /// Why it did not end in order; null where it did.
    pub reason: Option<String>,
    /// Decapsulated frames that were not for this sink.
    pub deselected: u64,
    /// Frames handed to it.
    pub offered: u64,
    /// Frames that got where the sink sends them.
    pub written: u64,
    /// Frames the sink let go, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Frames lost to an error, by reason.
    pub failed: BTreeMap<&'static str, u64>,
    /// Frames the sink still held; 0 after an orderly end.
    pub pending: u64,
    /// A forwarder's targets, each with its part of the frames.
    pub members: Vec<MemberReport>,
    /// Which VNI a forwarder tags as which VLAN, at the end.
    pub vlans: Vec<VlanReport>,
    /// How often a VLAN went from the VNI that had been silent longest to a new one, because all were given: `vlans` has
    /// each VLAN's last VNI.
    pub vlans_given_up: u64,
}

/// One target of a forwarder, over all workers.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MemberReport {
    /// The target, as it is written on the command line.
    pub target: String,
    /// Frames that were sent.
    pub written: u64,
    /// Frames that were let go, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Frames lost to an error, by reason.
    pub failed: BTreeMap<&'static str, u64>,
    /// Frames still held; 0 after an orderly end.
    pub pending: u64,
    /// Why it could not be sent to when last it could not, and what to do about it; null where it always could.
    pub reason: Option<String>,
    /// Readers of a stream; null for targets that are none.
    pub readers: Option<ReaderReport>,
}

/// Readers that came to a stream.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReaderReport {
    /// How many came.
    pub came: u64,
    /// Those that were disconnected because all places were taken, another came, and they were furthest behind.
    pub disconnected: u64,
}

/// Whether all is lost: there was something, and nothing of it got there.
fn is_all_lost(
    written: u64,
    dropped: &BTreeMap<&'static str, u64>,
    failed: &BTreeMap<&'static str, u64>,
) -> bool {
    written == 0 && dropped.values().chain(failed.values()).any(|lost| *lost > 0)
}

impl SinkReport {
    /// Whether it, or a target of it, got nothing of what was for it.
    #[must_use]
    pub fn got_nothing(&self) -> bool {
        is_all_lost(self.written, &self.dropped, &self.failed)
            || self.members.iter().any(MemberReport::got_nothing)
    }
}

impl MemberReport {
    /// Whether it got nothing of what was for it.
    #[must_use]
    pub fn got_nothing(&self) -> bool {
        is_all_lost(self.written, &self.dropped, &self.failed)
    }

    /// What a target's account comes to.
    #[must_use]
    pub fn new(target: &str, stats: &SinkStats) -> Self {
        let SinkStats { written, dropped, failed, pending } = stats;
        Self {
            target: target.to_owned(),
            written: *written,
            dropped: dropped.iter().collect(),
            failed: failed.iter().collect(),
            pending: *pending,
            reason: None,
            readers: None,
        }
    }
}

/// The VLAN of a VNI.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct VlanReport {
    /// VXLAN network identifier.
    pub vni: u32,
    /// VLAN identifier, 1 to 4094.
    pub vlan: u16,
}

/// Quantiles of the time from receive time to sink, in ns.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Latency {
    /// Median.
    pub p50: u64,
    /// 99 of 100 frames took at most this.
    pub p99: u64,
    /// 999 of 1000 frames took at most this.
    pub p999: u64,
    /// The slowest frame.
    pub max: u64,
}

impl Latency {
    /// The four quantiles.
    #[must_use]
    pub fn new(p50: u64, p99: u64, p999: u64, max: u64) -> Self {
        Self { p50, p99, p999, max }
    }
}

/// The law, closed.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Accounting {
    /// Frames that entered.
    pub seen: u64,
    /// Frames of which the run says what became of them.
    pub explained: u64,
    /// What the laws leave over, each by its absolute value, summed. 0, or there is an error to find.
    pub residue: u64,
    /// Each law with what it leaves over: left side less right side.
    pub laws: BTreeMap<String, i64>,
}

impl Report {
    /// An empty report of a run that starts now.
    pub(crate) fn new(source: &'static str, started: SystemTime) -> Self {
        Self {
            schema: "mirror.report/1",
            source,
            started: jiff::Timestamp::try_from(started)
                .map_or_else(|_| String::new(), |time| time.to_string()),
            duration_s: 0.0,
            ended_by: None,
            warnings: Vec::new(),
            filter: None,
            outer_filter: None,
            interfaces: Vec::new(),
            files: Vec::new(),
            frames: Frames::default(),
            origins: Vec::new(),
            origins_other: OtherOrigins::default(),
            sinks: Vec::new(),
            latency_ns: None,
            accounting: Accounting::default(),
        }
    }

    /// Whether these are the first bytes of a report, as [`serde_json`] writes it.
    #[must_use]
    pub fn begins(bytes: &[u8]) -> bool {
        [&b"{"[..], b"\"schema\"", b":", b"\"mirror.report/"]
            .iter()
            .try_fold(bytes, |rest, word| rest.trim_ascii_start().strip_prefix(*word))
            .is_some()
    }

    /// Whether the run ended as it was asked to, every sink with it, none of which got nothing of what was for it, every
    /// capture file was whole, and the books are closed: what `mirror` exits with 0 by.
    #[must_use]
    pub fn ended_in_order(&self) -> bool {
        self.ended_by.is_none()
            && self.files.iter().all(FileReport::is_whole)
            && self.accounting.residue == 0
            && self.sinks.iter().all(|sink| sink.state == SinkState::Done && !sink.got_nothing())
    }
}

impl Passed {
    /// Sum over all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Self { not_tunnel, fragment, malformed, extension, not_local, geneve, no_socket } = self;
        not_tunnel + fragment + malformed + extension + not_local + geneve + no_socket
    }
}

impl Refused {
    /// Sum over all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Self { vni, source } = self;
        vni + source
    }
}

impl From<&FrameCounters> for Frames {
    fn from(counters: &FrameCounters) -> Self {
        let FrameCounters {
            received,
            decapsulated,
            abandoned,
            fragments_consumed,
            reassembled,
            outer_bytes,
            inner_bytes,
            multi_descriptor,
            rejected,
            reserved_bits,
            impossible_length,
            truncated_inner,
        } = counters.clone();
        Self {
            received,
            decapsulated,
            abandoned,
            fragments_consumed,
            reassembled,
            outer_bytes,
            inner_bytes,
            multi_descriptor,
            rejected: Rejected::from(&rejected),
            odd: Odd { reserved_bits, truncated_inner, impossible_length },
        }
    }
}

impl From<&Rejections> for Rejected {
    fn from(rejections: &Rejections) -> Self {
        let of = |reason: Reject| rejections[reason as usize];
        Self {
            short: of(Reject::Short),
            snapped: of(Reject::Snapped),
            bad_outer: of(Reject::BadOuter),
            no_vni_flag: of(Reject::NoVniFlag),
            vni: of(Reject::Vni),
            source: of(Reject::Source),
            multi_descriptor: of(Reject::MultiDescriptor),
            not_tunnel: of(Reject::NotTunnel),
            geneve: of(Reject::Geneve),
            extension: of(Reject::Extension),
            not_ethernet: of(Reject::NotEthernet),
            link_type: of(Reject::LinkType),
            fragment: of(Reject::Fragment),
            fragment_timeout: of(Reject::FragmentTimeout),
            overlap: of(Reject::Overlap),
            ambiguous: of(Reject::Ambiguous),
            table_full: of(Reject::TableFull),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_told_by_its_beginning_and_nothing_else_is() {
        let report = Report::new("file", SystemTime::UNIX_EPOCH);
        assert!(Report::begins(&serde_json::to_vec(&report).unwrap()));
        assert!(Report::begins(&serde_json::to_vec_pretty(&report).unwrap()));
        for other in ["", "{", "{}", r#"{"schema":"mirror.bench/1"}"#, r#"["schema","mirror.report/1"]"#] {
            assert!(!Report::begins(other.as_bytes()), "{other}");
        }
    }
}
