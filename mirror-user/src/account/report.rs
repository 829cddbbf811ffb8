//! The report of a run: `mirror.report/1`, as `--json` and `--report` write it.
//!
//! Fields may be added, never renamed. What a run did not have is null.

use std::{borrow::Cow, collections::BTreeMap, fmt, net::IpAddr, time::SystemTime};

use pcap_parser::Linktype;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{
    counters::FrameCounters,
    reasons::{Dropped, NotSent, Passed, Rejected},
    stats::{Reasons, SinkState, SinkStats},
};
use crate::tunnels::Encapsulation;

/// The schema of these reports.
const SCHEMA: &str = "mirror.report/1";

/// Frames by reason, in the sink's own words.
pub type Losses = BTreeMap<Cow<'static, str>, u64>;

/// A run in numbers.
///
/// Reports of other releases can be read: unknown fields are ignored, missing ones have their default.
/// `schema`, `source` and `started` are required, and `schema` must be `mirror.report/1`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// `mirror.report/1`.
    #[serde(deserialize_with = "schema")]
    pub schema: Cow<'static, str>,
    /// Source of the frames: `af_xdp`, `file`, or `custom` for the embedder's own.
    pub source: Cow<'static, str>,
    /// Start of the run, RFC 3339.
    pub started: String,
    /// Length of the run, in seconds.
    #[serde(default)]
    pub duration_s: f64,
    /// Why the run, or the reading of a capture file, ended early; null if neither did.
    #[serde(default)]
    pub ended_by: Option<String>,
    /// How the run took packets after it was asked to stop; null if it stopped at once.
    #[serde(default)]
    pub drain: Option<Drain>,
    /// How often the run passed from one process to the next.
    #[serde(default)]
    pub upgrades: Upgrades,
    /// How often it went on after its process was killed.
    #[serde(default)]
    pub restarts: Restarts,
    /// Warnings, as sentences.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The filter expression for inner frames; null without one.
    #[serde(default)]
    pub filter: Option<String>,
    /// The filter expression for outer frames; null without one.
    #[serde(default)]
    pub outer_filter: Option<String>,
    /// One entry per interface; empty for capture files.
    #[serde(default)]
    pub interfaces: Vec<InterfaceReport>,
    /// One entry per capture file, in the order given; empty for interfaces.
    #[serde(default)]
    pub files: Vec<FileReport>,
    /// Frames between source and sinks, over all workers.
    #[serde(default)]
    pub frames: Frames,
    /// Frames by origin, most first; empty without the counters sink.
    #[serde(default)]
    pub origins: Vec<Origin>,
    /// Frames of origins that did not fit the table.
    #[serde(default)]
    pub origins_other: OtherOrigins,
    /// The sessions that are known, silent ones too; absent where none are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Vec<SessionReport>>,
    /// Frames that the kernel forwarded, an entry per interface, while sinks add to a report: one that
    /// reports origins adds them to its own.
    #[serde(skip)]
    pub(crate) forwarded_origins: Vec<ForwardedOrigins>,
    /// One entry per sink.
    #[serde(default)]
    pub sinks: Vec<SinkReport>,
    /// Time from receipt to sink, in ns; null unless measured.
    #[serde(default)]
    pub latency_ns: Option<Latency>,
    /// The accounting laws.
    #[serde(default)]
    pub accounting: Accounting,
}

/// The time between the request to stop and the stop, in which packets were still taken.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Drain {
    /// Whether it ended because no packet came any more.
    pub quiet: bool,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// How a run passed from one process to the next, so far.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Upgrades {
    /// How often with its sockets: frames waited in the rings meanwhile.
    pub count: u64,
    /// The longest time in which nobody took frames of a queue then, in ns.
    pub longest_pause_ns: u64,
    /// How often without them, because the kernel does not let another process use them (before 6.4), or for
    /// others in their place.
    pub cold: u64,
    /// For how long packets passed to the host then, in seconds.
    pub cold_s: f64,
    /// How many: the `no_socket_at_upgrade` of all interfaces.
    pub cold_frames: u64,
}

/// How a run went on after its process was killed, because a service manager had kept its sockets.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Restarts {
    /// How often.
    pub count: u64,
    /// The longest time from the last account that was left until a new process took frames, in seconds.
    pub longest_s: f64,
    /// Frames that were taken in between, before the process was killed: the `lost_at_restart` of all queues.
    pub lost_frames: u64,
}

impl Drain {
    /// A drain that has ended.
    #[must_use]
    pub fn new(quiet: bool, seconds: f64) -> Self {
        Self { quiet, seconds }
    }
}

/// One interface.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct InterfaceReport {
    /// Name, as given.
    pub name: String,
    /// Driver, if the kernel names it.
    pub driver: Option<String>,
    /// `native` or `generic`.
    pub xdp_mode: Cow<'static, str>,
    /// `copy` or `zerocopy`: how frames get into the UMEM. Decapsulation never copies.
    pub bind: Cow<'static, str>,
    /// Receive time: `kernel` if the XDP program stamps the frames, `user` if the worker does.
    pub time: Cow<'static, str>,
    /// Frames that the XDP program could not stamp; they have the worker's time.
    pub unstamped: u64,
    /// Whether all RX queues were requested; then `xdp.passed.no_socket` is loss, otherwise it is intended.
    pub all_queues: bool,
    /// Whether it was deleted during the run, or moved to another network namespace.
    pub lost: bool,
    /// What the XDP program counted.
    pub xdp: XdpReport,
    /// Where frames are forwarded; null without a forwarder.
    pub forward_path: Option<ForwardPathReport>,
    /// The interface's and driver's own counters, as deltas over the run.
    pub nic: BTreeMap<String, u64>,
    /// One entry per queue.
    pub queues: Vec<QueueReport>,
}

/// Where the frames of an interface are forwarded.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ForwardPathReport {
    /// `kernel`: by the XDP program, if it can decapsulate the frame; or `user`: by the sink.
    pub path: Cow<'static, str>,
    /// Why.
    pub reason: String,
    /// The targets of the kernel path; empty on the user path.
    pub targets: Vec<ForwardTargetReport>,
}

/// Frames that the kernel forwarded to a target.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ForwardTargetReport {
    /// The target, as given.
    pub name: String,
    /// Forwarded frames that its interface has taken; null where the kernel does not say (before 5.13, or
    /// without BTF).
    pub sent: Option<u64>,
    /// Forwarded frames that it has not taken, by reason; null as `sent`.
    pub not_sent: Option<NotSent>,
}

/// Which path, and why.
impl fmt::Display for ForwardPathReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "forward path {}: {}", self.path, self.reason)
    }
}

#[cfg(feature = "af-xdp")]
impl ForwardPathReport {
    /// The user path.
    pub(crate) fn user(reason: String) -> Self {
        Self { path: "user".into(), reason, ..Self::default() }
    }

    /// The kernel path. What was sent is not known yet.
    pub(crate) fn kernel(reason: String, targets: impl IntoIterator<Item = String>) -> Self {
        let targets = targets.into_iter().map(|name| ForwardTargetReport { name, ..Default::default() });
        Self { path: "kernel".into(), reason, targets: targets.collect() }
    }
}

impl ForwardPathReport {
    /// Frames that the targets have not taken, as far as the kernel says.
    #[must_use]
    pub fn not_sent(&self) -> u64 {
        self.targets.iter().map(ForwardTargetReport::not_sent).sum()
    }

    /// Frames that the targets have taken, as far as the kernel says.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.targets.iter().filter_map(|target| target.sent).sum()
    }
}

impl ForwardTargetReport {
    /// Frames that it has not taken, as far as the kernel says.
    fn not_sent(&self) -> u64 {
        self.not_sent.as_ref().map_or(0, NotSent::total)
    }

    /// Whether it received none of the frames that the kernel was to forward to it.
    pub(super) fn got_nothing(&self) -> bool {
        self.not_sent() > 0 && self.sent == Some(0)
    }
}

impl InterfaceReport {
    /// Whether a target received none of the frames that the kernel was to forward to it.
    fn a_target_got_nothing(&self) -> bool {
        let Some(path) = &self.forward_path else { return false };
        let deleted =
            self.xdp.dropped.no_target > 0 && path.targets.iter().all(|target| target.sent == Some(0));
        deleted || path.targets.iter().any(ForwardTargetReport::got_nothing)
    }

    /// Frames that the kernel forwarded and of which it says what became.
    pub(super) fn forwarded_explained(&self) -> u64 {
        self.forward_path.as_ref().map_or(0, |path| path.sent() + path.not_sent())
    }
}

/// What the XDP program counted.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct XdpReport {
    /// Frames that entered the program.
    pub seen: u64,
    /// Frames redirected to a socket.
    pub redirected: u64,
    /// Redirects that failed afterwards and that no socket counts; null if the kernel has no tracepoint for
    /// it.
    pub redirect_failed: Option<u64>,
    /// Frames passed to the kernel.
    pub passed: Passed,
    /// Of `passed.no_socket`, those that arrived after the program was attached and before the sockets were
    /// bound.
    pub no_socket_at_start: u64,
    /// Of `passed.no_socket`, those that arrived while sockets were opened anew in an [upgrade](Upgrades).
    pub no_socket_at_upgrade: u64,
    /// Frames dropped because they were not allowed, or because the target was deleted.
    pub dropped: Dropped,
    /// Frames decapsulated and forwarded by the program. They reach no sink and are not in `frames`.
    pub forwarded: u64,
    /// Their bytes with outer headers.
    pub forwarded_outer_bytes: u64,
    /// Bytes of their inner frames.
    pub forwarded_inner_bytes: u64,
}

/// One RX queue.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct QueueReport {
    /// RX queue index.
    pub queue: u32,
    /// CPU of its worker; null if it was not pinned.
    pub cpu: Option<usize>,
    /// Priority of its worker: `realtime` (`SCHED_FIFO`), `nice` (-20) or `normal`; null if unknown.
    pub priority: Option<Cow<'static, str>>,
    /// Frames that its worker received from the ring.
    pub received: u64,
    /// XDP_STATISTICS: frames dropped because no UMEM chunk was free or they do not fit one.
    pub rx_dropped: u64,
    /// XDP_STATISTICS: frames dropped because the RX ring was full.
    pub rx_ring_full: u64,
    /// XDP_STATISTICS: descriptors the kernel refused; not part of the sum.
    pub rx_invalid_descs: u64,
    /// XDP_STATISTICS: of `rx_dropped`, those for which the fill ring was empty.
    pub fill_ring_empty: u64,
    /// `rx_dropped - fill_ring_empty`: frames larger than a chunk. Null if frames may have several
    /// descriptors: then there is no such loss, and a frame for which the fill ring is short is in
    /// `rx_dropped` only.
    pub oversize: Option<u64>,
    /// Time per frame spent on non-empty batches, in ns.
    pub busy_ns_per_frame: f64,
    /// Share of the run spent on non-empty batches.
    pub busy_ratio: f64,
    /// How often its worker was saturated: it took frames for 10 ms without finding its ring empty.
    pub saturated: u64,
    /// Frames that a worker had taken from the ring before its process was killed, and after the last account
    /// that is left of it: what became of them is not known. Not in `received`.
    pub lost_at_restart: u64,
}

/// One capture file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct FileReport {
    /// Path, as given.
    pub path: String,
    /// `gzip` or `zstd`; null if the file is not compressed, or nothing of it was read.
    pub compression: Option<Cow<'static, str>>,
    /// Packets read, including those of unsupported link types.
    pub packets: u64,
    /// Of these, those of unsupported link types, by the number of the link type.
    pub link_types: BTreeMap<u16, u64>,
    /// Malformed packets and blocks that were skipped.
    pub skipped: u64,
    /// What was wrong with the first of these, and where; null if there is none.
    pub first_skipped: Option<String>,
    /// Why the rest of the file, or all of it, could not be read, and where it begins; null if all was read.
    pub ended_by: Option<String>,
}

impl FileReport {
    /// What was not read of the file, and why: a sentence each.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        /// The most link types that are named.
        const LINK_TYPES: usize = 10;
        let Self { packets, link_types, skipped, first_skipped, ended_by, .. } = self;
        let s = |count: u64| if count == 1 { "" } else { "s" };
        let mut complaints = Vec::new();
        if let Some(reason) = ended_by {
            complaints.push(format!("ended early: {reason}; {packets} packet{} read before", s(*packets)));
        }
        if let Some(first) = first_skipped {
            let what = if *skipped == 1 { "packet or block" } else { "packets or blocks" };
            complaints.push(format!("{skipped} {what} skipped, the first {first}"));
        }
        for (link_type, count) in link_types.iter().take(LINK_TYPES) {
            let name = Linktype(i32::from(*link_type));
            complaints
                .push(format!("{count} packet{} of unsupported link type {link_type} ({name})", s(*count)));
        }
        let more = link_types.len().saturating_sub(LINK_TYPES);
        if more > 0 {
            complaints.push(format!("{more} more unsupported link types"));
        }
        complaints
    }

    /// Whether the file was read completely. Packets of unsupported link types are no defect.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.skipped == 0 && self.ended_by.is_none()
    }
}

/// Frames between source and sinks.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Frames {
    /// Received from the rings, or read from files.
    pub received: u64,
    /// Frames that were decapsulated.
    pub decapsulated: u64,
    /// Of these, those selected by the run (filter, VNIs and sources for files, `count`): what sinks without
    /// a selection of their own are given.
    pub selected: u64,
    /// In the batch of a worker that panicked, or after it.
    pub abandoned: u64,
    /// Fragments of completed datagrams beyond the one frame that each datagram became.
    pub fragments_consumed: u64,
    /// Datagrams reassembled from fragments; not frames received, so outside the sum.
    pub reassembled: u64,
    /// Captured bytes of the outer frames.
    pub outer_bytes: u64,
    /// Captured bytes of the inner frames.
    pub inner_bytes: u64,
    /// Of the received, frames in several descriptors (`XDP_USE_SG`).
    pub multi_descriptor: u64,
    /// Frames that were not decapsulated, by reason.
    pub rejected: Rejected,
    /// Frames that were decapsulated, but were unusual.
    pub odd: Odd,
}

/// Frames that were decapsulated although something was unusual.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Odd {
    /// Reserved bits of the VXLAN or GENEVE header were set.
    pub reserved_bits: u64,
    /// The GENEVE header had a critical option that is not known (RFC 8926 section 3.5).
    pub critical_options: u64,
    /// The mirror session had truncated the inner frame.
    pub truncated_inner: u64,
    /// The inner IP header declares more bytes than the frame had at its source.
    pub impossible_length: u64,
}

/// Frames of one origin. A VNI is unique per account only, so the outer source is part of the key; and where
/// a Gateway Load Balancer sends the frames, its endpoint, because addresses may overlap between VPCs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Origin {
    /// Outer source address.
    pub source: IpAddr,
    /// VXLAN network identifier; that of GENEVE for frames that came in GENEVE without VXLAN.
    pub vni: u32,
    /// The protocol whose VNI it is, as in the origin's first frame.
    #[serde(default)]
    pub encapsulation: Encapsulation,
    /// Network interface of the endpoint of a Gateway Load Balancer, in JSON as 16 hexadecimal digits; `None`
    /// for frames that did not come through one.
    #[serde(default, with = "hex")]
    pub endpoint: Option<u64>,
    /// The attachment of the endpoint, as in the origin's first frame.
    #[serde(default, with = "hex")]
    pub attachment: Option<u64>,
    /// Inner frames.
    pub frames: u64,
    /// Captured bytes of the inner frames.
    pub inner_bytes: u64,
    /// Both are lower bounds: frames that arrived while the table was full may be in
    /// [`Report::origins_other`].
    pub at_least: bool,
    /// The id of the session that mirrors its packets; absent where none is known that does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The id of that session's source, an interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The account of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Tags of the session, and those of its interface under other keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Frames by direction, as the source saw them; absent where no sessions are known.
    #[serde(flatten)]
    pub directions: Option<Directions>,
}

/// Frames by direction, as their source saw them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Directions {
    /// It received them.
    pub ingress: u64,
    /// It sent them.
    pub egress: u64,
    /// It is not known which: neither the MAC address nor an address of the interface is in the frame, or
    /// nothing is known of them, or the kernel has forwarded it.
    pub unknown: u64,
}

impl Origin {
    /// An origin with its counters.
    #[must_use]
    pub fn new(source: IpAddr, vni: u32, frames: u64, inner_bytes: u64) -> Self {
        Self {
            source,
            vni,
            encapsulation: Encapsulation::default(),
            endpoint: None,
            attachment: None,
            frames,
            inner_bytes,
            at_least: false,
            session: None,
            interface: None,
            owner: None,
            tags: BTreeMap::new(),
            directions: None,
        }
    }

    /// The name of its interface in a capture file: `vni-<VNI>@<source>`, and `%` and the endpoint for one
    /// behind a Gateway Load Balancer. Where the session is known, its [label](Self::session_label) and a dot
    /// come first.
    #[must_use]
    pub fn interface_name(&self) -> String {
        let Self { source, vni, endpoint, .. } = self;
        let label = self.session_label().map(|label| label + ".").unwrap_or_default();
        match endpoint {
            Some(endpoint) => format!("{label}vni-{vni}@{source}%{endpoint:016x}"),
            None => format!("{label}vni-{vni}@{source}"),
        }
    }

    /// The session in short, for names of files and in expressions: the value of its tag `Name`, else its id,
    /// with `-` for what is no letter, digit, `-`, `_` or `.`, and at most 64 bytes of it.
    #[must_use]
    pub fn session_label(&self) -> Option<String> {
        /// A file's name has at most 255 bytes.
        const MOST: usize = 64;
        let session = self.session.as_ref()?;
        let name = self.tags.get("Name").filter(|name| name.contains(char::is_alphanumeric));
        let mut label = String::new();
        for character in name.unwrap_or(session).chars() {
            let is_plain = character.is_alphanumeric() || matches!(character, '-' | '_' | '.');
            let character = if is_plain { character } else { '-' };
            if label.len() + character.len_utf8() > MOST {
                break;
            }
            label.push(character);
        }
        Some(label)
    }

    /// Wireshark's display filter that selects it by the outer headers.
    #[must_use]
    pub fn tunnel_filter(&self) -> String {
        let Self { source, vni, encapsulation, endpoint, .. } = self;
        let ip = if source.is_ipv6() { "ipv6" } else { "ip" };
        let tunnel = format!("{encapsulation}.vni == {vni} && {ip}.src == {source}");
        let Some(endpoint) = endpoint else { return tunnel };
        // Wireshark has no field for the option: its head and its data, as they are on the wire.
        let data: String = endpoint.to_be_bytes().iter().map(|byte| format!(":{byte:02x}")).collect();
        format!("{tunnel} && geneve.options contains 01:08:01:02{data}")
    }
}

/// Numbers as 16 hexadecimal digits: as AWS shows them, and as JSON numbers of 64 bits are not safe.
mod hex {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(super) fn serialize<S: Serializer>(number: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        number.map(|number| format!("{number:016x}")).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| u64::from_str_radix(&text, 16).map_err(D::Error::custom)).transpose()
    }
}

/// A session that is known, and what it has sent.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SessionReport {
    /// Such as `tms-0123456789abcdef0`.
    pub id: String,
    /// Its VXLAN network identifier.
    pub vni: u32,
    /// The id of its source, an interface.
    pub interface: String,
    /// Inner frames, of all its origins; 0 of one that is silent.
    pub frames: u64,
}

impl SessionReport {
    /// A session with its counter.
    #[must_use]
    pub fn new(id: &str, vni: u32, interface: &str, frames: u64) -> Self {
        Self { id: id.to_owned(), vni, interface: interface.to_owned(), frames }
    }
}

/// Frames of origins that did not fit the table.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct OtherOrigins {
    /// Lower bound of the number of origins that have frames in this bucket, and may have others in
    /// [`Report::origins`].
    pub origins: u64,
    /// Inner frames.
    pub frames: u64,
    /// Captured bytes of the inner frames.
    pub inner_bytes: u64,
}

/// Frames that an XDP program forwarded, by origin.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ForwardedOrigins {
    /// The origins that it saw first, as many as it has room for, each with all its frames.
    pub(crate) known: Vec<Origin>,
    /// All others.
    pub(crate) other: OtherOrigins,
}

/// One sink, over all workers.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SinkReport {
    /// Name of the sink.
    pub name: String,
    /// How it ended.
    pub state: SinkState,
    /// Why it did not end cleanly; null where it did.
    pub reason: Option<String>,
    /// Whether it was removed from the run.
    pub removed: bool,
    /// Decapsulated frames that came while the run did not have this sink, because it was added or removed
    /// meanwhile.
    pub absent: u64,
    /// Decapsulated frames that were not selected for this sink.
    pub deselected: u64,
    /// Frames offered to it.
    pub offered: u64,
    /// Frames that the sink has delivered.
    pub written: u64,
    /// Frames the sink dropped, by reason.
    pub dropped: Losses,
    /// Frames lost to an error, by reason.
    pub failed: Losses,
    /// Frames that the sink still held; 0 after a clean end.
    pub pending: u64,
    /// A forwarder's targets, or the parts of a capture, each with its share of the frames.
    pub members: Vec<MemberReport>,
    /// Which VNI a forwarder tags with which VLAN, at the end.
    pub vlans: Vec<VlanReport>,
    /// How often a VLAN was reassigned, because none was free, from the VNI that had been silent longest to a
    /// new one: `vlans` has each VLAN's last VNI.
    pub vlans_given_up: u64,
}

/// One target of a forwarder, or one part of a capture, over all workers.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct MemberReport {
    /// The target, as it is written on the command line; the path of a part.
    pub target: String,
    /// Frames that were sent, or written.
    pub written: u64,
    /// Frames that were dropped, by reason.
    pub dropped: Losses,
    /// Frames lost to an error, by reason.
    pub failed: Losses,
    /// Frames still held; 0 after a clean end.
    pub pending: u64,
    /// Why the last failed delivery failed, or why the part takes no frames, and the remedy; null if there is
    /// no such reason.
    pub reason: Option<String>,
    /// Readers of a stream; null for other targets.
    pub readers: Option<ReaderReport>,
}

/// Readers of a stream.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ReaderReport {
    /// Readers that have connected.
    pub came: u64,
    /// Readers that were disconnected in favour of newer ones, because all places were taken and they were
    /// furthest behind.
    pub disconnected: u64,
}

/// Whether there were frames, and none was delivered.
fn is_all_lost(written: u64, dropped: &Losses, failed: &Losses) -> bool {
    written == 0 && dropped.values().chain(failed.values()).any(|lost| *lost > 0)
}

fn losses(reasons: &Reasons) -> Losses {
    reasons.iter().map(|(reason, frames)| (reason.into(), frames)).collect()
}

impl SinkReport {
    /// Whether the sink, or one of its targets, received none of its frames.
    #[must_use]
    pub fn got_nothing(&self) -> bool {
        is_all_lost(self.written, &self.dropped, &self.failed)
            || self.members.iter().any(MemberReport::got_nothing)
    }
}

impl MemberReport {
    /// Whether it received none of its frames.
    #[must_use]
    pub fn got_nothing(&self) -> bool {
        is_all_lost(self.written, &self.dropped, &self.failed)
    }

    /// A target's entry.
    #[must_use]
    pub fn new(target: &str, stats: &SinkStats) -> Self {
        let SinkStats { written, dropped, failed, pending } = stats;
        Self {
            target: target.to_owned(),
            written: *written,
            dropped: losses(dropped),
            failed: losses(failed),
            pending: *pending,
            reason: None,
            readers: None,
        }
    }
}

/// The VLAN of a VNI.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct VlanReport {
    /// VXLAN network identifier.
    pub vni: u32,
    /// VLAN identifier, 1 to 4094.
    pub vlan: u16,
}

/// Quantiles of the time from receipt to sink, in ns.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
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

/// The accounting laws.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Accounting {
    /// Frames that entered.
    pub seen: u64,
    /// Frames whose fate is counted.
    pub explained: u64,
    /// Sum of the absolute differences of all laws. If it is not 0, there is an error to find.
    pub residue: u64,
    /// The difference of each law: left side minus right side.
    pub laws: BTreeMap<String, i64>,
}

/// The schema of these reports; no other is accepted.
fn schema<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'static, str>, D::Error> {
    let schema = String::deserialize(deserializer)?;
    if schema != SCHEMA {
        return Err(de::Error::invalid_value(de::Unexpected::Str(&schema), &SCHEMA));
    }
    Ok(Cow::Borrowed(SCHEMA))
}

/// Whether these are the first bytes of a document whose schema, in quotes, begins so.
pub(crate) fn begins_with_schema(bytes: &[u8], schema: &[u8]) -> bool {
    let words = [&b"{"[..], b"\"schema\"", b":", schema];
    words.iter().try_fold(bytes, |rest, word| rest.trim_ascii_start().strip_prefix(*word)).is_some()
}

impl Report {
    /// An empty report of a run that starts now.
    pub(crate) fn new(source: &'static str, started: SystemTime) -> Self {
        Self {
            schema: Cow::Borrowed(SCHEMA),
            source: Cow::Borrowed(source),
            started: jiff::Timestamp::try_from(started)
                .map_or_else(|_| String::new(), |time| time.to_string()),
            duration_s: 0.0,
            ended_by: None,
            drain: None,
            upgrades: Upgrades::default(),
            restarts: Restarts::default(),
            warnings: Vec::new(),
            filter: None,
            outer_filter: None,
            interfaces: Vec::new(),
            files: Vec::new(),
            frames: Frames::default(),
            origins: Vec::new(),
            origins_other: OtherOrigins::default(),
            sessions: None,
            forwarded_origins: Vec::new(),
            sinks: Vec::new(),
            latency_ns: None,
            accounting: Accounting::default(),
        }
    }

    /// Whether these are the first bytes of a report, as [`serde_json`] writes it.
    #[must_use]
    pub fn begins(bytes: &[u8]) -> bool {
        begins_with_schema(bytes, b"\"mirror.report/")
    }

    /// Whether the run ended as requested, no interface was lost, every sink ended cleanly and received
    /// frames if there were any for it, every capture file was read completely, and the residue is 0: then
    /// `mirror` exits with 0.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.ended_by.is_none()
            && self.interfaces.iter().all(|interface| !interface.lost && !interface.a_target_got_nothing())
            && self.files.iter().all(FileReport::is_whole)
            && self.accounting.residue == 0
            && self.sinks.iter().all(|sink| sink.state == SinkState::Done && !self.got_nothing(sink))
    }

    /// Whether a sink, or one of its targets, received none of its frames, from the kernel neither.
    fn got_nothing(&self, sink: &SinkReport) -> bool {
        let by_kernel = sink.members.iter().any(|member| self.has_sent_to(&member.target));
        is_all_lost(sink.written, &sink.dropped, &sink.failed) && !by_kernel
            || sink.members.iter().any(|member| self.member_got_nothing(member))
    }

    /// Whether a target received none of its frames, from the kernel neither.
    pub(super) fn member_got_nothing(&self, member: &MemberReport) -> bool {
        member.got_nothing() && !self.has_sent_to(&member.target)
    }

    /// Whether the kernel has sent frames to a target.
    fn has_sent_to(&self, target: &str) -> bool {
        let paths = self.interfaces.iter().filter_map(|interface| interface.forward_path.as_ref());
        paths.flat_map(|path| &path.targets).any(|entry| entry.name == target && entry.sent > Some(0))
    }
}

impl From<&FrameCounters> for Frames {
    fn from(counters: &FrameCounters) -> Self {
        let FrameCounters {
            received,
            decapsulated,
            selected,
            abandoned,
            fragments_consumed,
            reassembled,
            outer_bytes,
            inner_bytes,
            multi_descriptor,
            rejected,
            reserved_bits,
            critical_options,
            impossible_length,
            truncated_inner,
        } = counters.clone();
        Self {
            received,
            decapsulated,
            selected,
            abandoned,
            fragments_consumed,
            reassembled,
            outer_bytes,
            inner_bytes,
            multi_descriptor,
            rejected: Rejected::from(&rejected),
            odd: Odd { reserved_bits, critical_options, truncated_inner, impossible_length },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_recognised_by_its_first_bytes() {
        let report = Report::new("file", SystemTime::UNIX_EPOCH);
        assert!(Report::begins(&serde_json::to_vec(&report).unwrap()));
        assert!(Report::begins(&serde_json::to_vec_pretty(&report).unwrap()));
        for other in ["", "{", "{}", r#"{"schema":"mirror.bench/1"}"#, r#"["schema","mirror.report/1"]"#] {
            assert!(!Report::begins(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_report_comes_back_as_it_was_with_names_and_counts_of_any_kind() {
        use proptest::prelude::*;

        type Sink = (String, Losses, Losses, u64, u16, Option<String>);
        let text = || ".{0,12}";
        let losses = || prop::collection::btree_map(text().prop_map(Cow::Owned), any::<u64>(), 0..3);
        let sinks = (text(), losses(), losses(), any::<u64>(), any::<u16>(), prop::option::of(text()));
        let strategy = (sinks, any::<[u64; 4]>(), any::<u128>(), 0.0..1e9, text());
        let property = |(sink, counts, address, duration_s, name): (Sink, [u64; 4], u128, f64, String)| {
            let (sink_name, dropped, failed, written, vlan, reason) = sink;
            let mut report = Report::new("af_xdp", SystemTime::UNIX_EPOCH);
            report.duration_s = duration_s;
            report.frames.selected = counts[0];
            report.frames.rejected.table_full = counts[1];
            report.accounting.laws.insert(name.clone(), counts[2].cast_signed());
            let member =
                MemberReport { dropped: failed.clone(), reason: reason.clone(), ..MemberReport::default() };
            let mut sink =
                SinkReport { name: sink_name, dropped, failed, written, reason, ..Default::default() };
            sink.state = SinkState::Waiting;
            sink.vlans.push(VlanReport { vni: 7, vlan });
            sink.members.push(member);
            report.sinks.push(sink);
            let origin = Origin::new(std::net::Ipv6Addr::from_bits(address).into(), 7, counts[3], 60);
            let (encapsulation, endpoint) = (Encapsulation::Geneve, Some(counts[1]));
            report.origins.push(Origin { endpoint, encapsulation, ..origin.clone() });
            let directions = Some(Directions { ingress: counts[2], ..Directions::default() });
            let tags = [(name.clone(), origin.interface_name())].into();
            let session = Some(name.clone());
            report.origins.push(Origin { session, tags, directions, ..origin.clone() });
            report.origins.push(origin);
            report.sessions = Some(vec![SessionReport::new(&name, 7, &name, counts[0])]);
            report.drain = Some(Drain::new(vlan % 2 == 0, duration_s / 3.0));
            report.latency_ns = Some(Latency::new(1, 2, 3, counts[3]));
            let mut interface = InterfaceReport { name, bind: "zerocopy".into(), ..Default::default() };
            interface.queues.push(QueueReport { busy_ratio: duration_s / 1e10, ..Default::default() });
            report.interfaces.push(interface);
            report.files.push(FileReport { link_types: [(vlan, counts[0])].into(), ..Default::default() });
            let json = serde_json::to_string(&report).unwrap();
            prop_assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
            Ok(())
        };
        proptest::test_runner::TestRunner::default().run(&strategy, property).unwrap();
    }

    #[test]
    fn the_label_of_a_session_is_safe_in_names_of_files() {
        let label = |id: &str, name: Option<&str>| {
            let mut origin = Origin::new([10, 0, 0, 9].into(), 7, 1, 60);
            origin.session = Some(id.to_owned());
            origin.tags.extend(name.map(|name| ("Name".to_owned(), name.to_owned())));
            assert!(origin.interface_name().ends_with(".vni-7@10.0.0.9"));
            origin.session_label().unwrap()
        };
        assert_eq!(label("tms-0a", None), "tms-0a");
        assert_eq!(label("tms-0a", Some("web 1/\"é\n%.")), "web-1--é--.");
        assert_eq!(label("tms-0a", Some("../..")), "tms-0a", "nothing of it could be read");
        assert_eq!(label("tms-0a", Some(&"é".repeat(256))).len(), 64);
        assert_eq!(Origin::new([10, 0, 0, 9].into(), 7, 1, 60).session_label(), None);
    }

    #[test]
    fn a_report_without_sessions_has_no_fields_of_them() {
        let mut report = Report::new("file", SystemTime::UNIX_EPOCH);
        report.origins.push(Origin::new([10, 0, 0, 9].into(), 7, 1, 60));
        let json = serde_json::to_value(&report).unwrap();
        let keys: Vec<_> = json["origins"][0].as_object().unwrap().keys().map(String::as_str).collect();
        let expected = "at_least attachment encapsulation endpoint frames inner_bytes source vni";
        assert_eq!(keys.join(" "), expected);
        assert!(json.get("sessions").is_none());
    }

    #[test]
    fn a_report_of_another_release_is_read_and_one_of_another_kind_is_not() {
        let text = r#"{"schema": "mirror.report/1", "source": "file", "started": "2026-01-01T00:00:00Z",
            "new": [1], "frames": {"received": 7, "newer": {}}, "sinks": [{"name": "a", "state": "ended"}]}"#;
        let report: Report = serde_json::from_str(text).unwrap();
        assert_eq!((report.frames.received, report.frames.selected), (7, 0));
        assert_eq!((report.sinks[0].state, report.sinks[0].pending), (SinkState::Ended, 0));
        let other = text.replace("mirror.report/1", "mirror.bench/1");
        let error = serde_json::from_str::<Report>(&other).unwrap_err().to_string();
        assert!(error.contains("mirror.bench/1") && error.contains("expected mirror.report/1"), "{error}");
        assert!(serde_json::from_str::<Report>("{}").unwrap_err().to_string().contains("schema"));
    }
}
