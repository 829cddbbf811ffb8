//! `report.json`: what a run measured, and on what. Fields may be added, never renamed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The value of [`Report::schema`].
pub const SCHEMA: &str = "mirror.bench/1";

/// A run of the benchmarks. A part that was not run is empty.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// When it began, RFC 3339.
    pub started: String,
    /// How long it took, in seconds.
    pub duration_s: f64,
    /// Whether it was the short form, with fewer rounds and points.
    pub quick: bool,
    /// Where it ran.
    pub host: Host,
    /// What was set, by name: rounds, ring sizes, CPUs.
    pub settings: BTreeMap<String, String>,
    /// The parts that were asked for, in their order.
    #[serde(default)]
    pub parts: Vec<PartRun>,
    /// The ladder, one entry a rung and traffic.
    pub rungs: Vec<Rung>,
    /// Ring and UMEM sizes tried.
    #[serde(default)]
    pub sweep: Vec<SweepPoint>,
    /// Our own highest rates without loss.
    #[serde(default)]
    pub no_drop: Vec<NoDrop>,
    /// Long runs below the highest rate.
    #[serde(default)]
    pub soak: Vec<Soak>,
    /// Runs beside a busy neighbour.
    #[serde(default)]
    pub neighbour: Vec<Neighbour>,
    /// Losses at full speed, beside what the worker's CPU did.
    #[serde(default)]
    pub gaps: Vec<Gaps>,
    /// Captures into files.
    #[serde(default)]
    pub captures: Vec<Capture>,
    /// A mirror source: what it costs and sustains.
    #[serde(default)]
    pub source: Vec<SourceFigure>,
    /// Time from XDP to sink.
    pub latency: Vec<Latency>,
    /// Other tools on the same traffic.
    pub peers: Vec<Peer>,
    /// Parts by themselves.
    pub micro: Vec<Micro>,
    /// What was to be reached, and what was.
    #[serde(default)]
    pub goals: Vec<Goal>,
    /// What could not be measured here, and why.
    #[serde(default)]
    pub not_measured: Vec<String>,
}

impl Report {
    /// A run that begins now, with nothing measured yet.
    #[must_use]
    pub fn begin(quick: bool, host: Host) -> Self {
        let now = jiff::Timestamp::now();
        // Fractions of a second say nothing about a run of minutes.
        let started = now.round(jiff::Unit::Second).unwrap_or(now).to_string();
        Self { schema: SCHEMA.into(), started, quick, host, ..Self::default() }
    }

    /// Whether nothing was measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rungs.is_empty()
            && self.sweep.is_empty()
            && self.no_drop.is_empty()
            && self.soak.is_empty()
            && self.neighbour.is_empty()
            && self.gaps.is_empty()
            && self.captures.is_empty()
            && self.source.is_empty()
            && self.latency.is_empty()
            && self.peers.is_empty()
            && self.micro.is_empty()
    }
}

/// What became of a part.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct PartRun {
    /// Its name: `micro`, `lab`, `peers`, `neighbour`, `gaps`, `captures`, `source`, `sweep`.
    pub part: String,
    /// Why there is not all of it: it failed, or a signal came. Null where it is complete.
    pub incomplete: Option<String>,
}

/// The host of a run.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Host {
    /// Model name of the first CPU.
    pub cpu: String,
    /// CPUs online.
    pub cpus: usize,
    /// `uname -r` and machine.
    pub kernel: String,
    /// Distribution, from os-release(5).
    pub os: String,
    /// Driver of the interface under test.
    pub driver: String,
    /// XDP mode of the interface under test.
    pub mode: String,
    /// Commit of this repository; `-dirty` behind it where the work tree differs.
    pub commit: String,
    /// Version of the compiler.
    pub rustc: String,
}

/// Median and quartiles over the rounds.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the rounds are below.
    pub median: f64,
    /// A quarter of the rounds is below.
    pub q1: f64,
    /// Three quarters of the rounds are below.
    pub q3: f64,
}

/// A rung of the ladder under one kind of traffic.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Rung {
    /// Its name: `xdp_drop`, `bare`, `touch`, `xsk-rs`, `program`, `null`, `counters`, `pcap`.
    pub rung: String,
    /// Bytes of an outer frame.
    pub frame_bytes: usize,
    /// Flows.
    pub flows: u32,
    /// VNIs.
    pub vnis: u32,
    /// RX queues.
    pub queues: u32,
    /// How the engine's workers wait in its round: `spin`, `poll`. Bare loops on a CPU of their own always
    /// spin.
    #[serde(default)]
    pub wait: String,
    /// Descriptors of the RX rings of its round.
    #[serde(default)]
    pub rx_ring: u32,
    /// Rounds measured.
    #[serde(default)]
    pub rounds: usize,
    /// Frames received, millions a second.
    pub mpps: Spread,
    /// The same in Gbit/s of outer frames, without preamble, FCS and gap; the median.
    pub gbps: f64,
    /// Frames sent over all rounds.
    #[serde(default)]
    pub offered: u64,
    /// Frames lost over all rounds.
    pub lost: u64,
    /// The same by stage: `tx` (never reached the program), `rx_dropped`, `rx_ring_full`, `redirect_failed`,
    /// `sink`.
    #[serde(default)]
    pub lost_by: BTreeMap<String, u64>,
    /// Its rate over that of `touch` in the same round.
    pub ratio_to_touch: Spread,
    /// The same over that of `null`.
    #[serde(default)]
    pub ratio_to_null: Spread,
    /// Time of the worker around batches that were not empty, a frame; the median.
    pub busy_ns_per_frame: f64,
    /// The same over that of `touch` in the same round.
    #[serde(default)]
    pub busy_ns_over_touch: Spread,
    /// Share of the time in which the worker was busy, 0 to 1; the median.
    #[serde(default)]
    pub busy_ratio: f64,
    /// Share of the time in softirq on the CPU that receives, 0 to 1; the median.
    #[serde(default)]
    pub kernel_share: f64,
}

/// A size of rings and UMEM that was tried.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct SweepPoint {
    /// The rung tried.
    pub rung: String,
    /// Descriptors of the RX ring.
    pub rx_ring: u32,
    /// Chunks of the UMEM.
    pub umem_frames: u32,
    /// Frames received, millions a second.
    pub mpps: Spread,
    /// Its rate over that of `bare` with the same sizes in the same round.
    pub ratio_to_bare: Spread,
    /// Frames sent over all rounds.
    pub offered: u64,
    /// Frames lost over all rounds.
    pub lost: u64,
}

/// The highest rate at which nothing was lost.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct NoDrop {
    /// What received: `touch`, `counters`, `pcap`.
    pub receiver: String,
    /// How its worker waits.
    pub wait: String,
    /// Bytes of an outer frame.
    pub frame_bytes: usize,
    /// Millions of frames a second.
    pub mpps: f64,
    /// Whether nothing was lost at the most the generator can send, so that the rate may be higher.
    pub generator_bound: bool,
    /// Frames of the longest trial at that rate.
    pub frames: u64,
}

/// A long run at a part of the highest rate.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Soak {
    /// What received.
    pub receiver: String,
    /// How its worker waits.
    pub wait: String,
    /// Bytes of an outer frame.
    pub frame_bytes: usize,
    /// The rate over the no-drop rate, 0 to 1.
    pub load: f64,
    /// How long, in seconds.
    pub seconds: f64,
    /// Frames sent.
    pub offered: u64,
    /// Frames lost.
    pub lost: u64,
}

/// Runs while another thread wants the worker's CPU all of the time.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Neighbour {
    /// What received; `pcap` has a writer thread on that CPU, too.
    pub receiver: String,
    /// Priority of the worker: `default`, `normal`.
    pub priority: String,
    /// Millions of frames a second that were sent.
    pub mpps: f64,
    /// Runs.
    pub rounds: usize,
    /// How long each, in seconds.
    pub seconds: u64,
    /// Frames sent over all rounds.
    pub offered: u64,
    /// Frames lost over all rounds.
    pub lost: u64,
    /// The same by stage, as of a rung.
    pub lost_by: BTreeMap<String, u64>,
    /// Share of the frames of a round that were lost, 0 to 1.
    pub lost_share: Spread,
    /// The same of the worst round.
    pub worst_lost_share: f64,
    /// Share of the CPU that the neighbour had, 0 to 1.
    pub neighbour_cpu: Spread,
}

/// Losses of a receiver at full speed and the default ring, by the gaps in which they were: times of at least
/// 0.25 ms in which its worker did not have its CPU, by the trace of the scheduler (`sched_switch`) and by
/// samples of `XDP_STATISTICS` each millisecond that were late.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Gaps {
    /// What received; `pcap` has a writer thread on that CPU, too.
    pub receiver: String,
    /// Bytes of an outer frame.
    pub frame_bytes: usize,
    /// Millions of frames a second that were sent.
    pub mpps: f64,
    /// How long, in seconds.
    pub seconds: f64,
    /// Frames sent.
    pub offered: u64,
    /// Frames that the socket lost, by XDP_STATISTICS.
    pub lost: u64,
    /// Of these those inside a gap, by what had the CPU: the name of a thread; `the host`, which did not run
    /// it; `asleep`, where the worker waited for frames.
    pub lost_by_cause: BTreeMap<String, u64>,
    /// Gaps, those asleep left out.
    pub gaps: usize,
    /// Share of the time that they took, 0 to 1.
    pub gaps_share: f64,
    /// The longest of them, in microseconds.
    pub longest_us: u64,
    /// Steal time of the CPU meanwhile (proc_stat(5)), in milliseconds.
    pub steal_ms: u64,
}

impl Gaps {
    /// Frames lost inside a gap.
    #[must_use]
    pub fn lost_in_gaps(&self) -> u64 {
        self.lost_by_cause.values().sum()
    }
}

/// Captures into files in one place, worker and writer on one CPU, more sent than can be written.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Capture {
    /// File system: `tmpfs, huge=always`, `tmpfs`, `disk`.
    pub place: String,
    /// `one file`; of a ring of files (`-C`, `-W`) the `first pass` and after it `steady`.
    pub files: String,
    /// Bytes of an outer frame.
    pub frame_bytes: usize,
    /// Rounds measured.
    pub rounds: usize,
    /// Frames written, millions a second.
    pub mpps: Spread,
    /// The same in bytes of the files, 10^9 a second.
    pub gigabytes_per_s: Spread,
    /// Its rate over that of `touch` in the same round.
    pub ratio_to_touch: Spread,
    /// On a disk: bytes over those of a sequential writer with `O_DIRECT` in the same round.
    pub ratio_to_disk: Option<Spread>,
    /// Of a ring on a disk, `steady`: bytes over those of such a writer of the same ring in the same round.
    #[serde(default)]
    pub ratio_to_disk_ring: Option<Spread>,
    /// CPU time of worker and writer for a million frames written, in seconds.
    pub cpu_s_per_mframe: Spread,
}

/// A figure of a mirror source, or of production beside it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct SourceFigure {
    /// What.
    pub what: String,
    /// Of what: `ns`, `Gbit/s`; empty for a ratio.
    pub unit: String,
    /// Rounds measured.
    pub rounds: usize,
    /// What they took.
    pub measured: Spread,
    /// Whether more is better.
    pub more_is_better: bool,
}

/// Time from the XDP program to the sink at one rate.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Latency {
    /// How the worker waits.
    pub wait: String,
    /// The rate over the no-drop rate, 0 to 1.
    pub load: f64,
    /// Millions of frames a second that were sent.
    pub mpps: f64,
    /// Frames measured.
    pub frames: u64,
    /// Frames lost.
    pub lost: u64,
    /// Nanoseconds half of the frames took at most.
    pub p50_ns: u64,
    /// The same for 99 %.
    pub p99_ns: u64,
    /// The same for 99.9 %.
    pub p999_ns: u64,
    /// The most a frame took.
    pub max_ns: u64,
    /// Percentiles (0 to 100) and their nanoseconds, for the plot.
    #[serde(default)]
    pub curve: Vec<(f64, u64)>,
}

/// Another tool, or ours measured as one.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Peer {
    /// Tool and where it listened: `tcpdump-vxlan`.
    pub name: String,
    /// Its version, as it says itself.
    #[serde(default)]
    pub version: String,
    /// The command it was run by.
    pub settings: String,
    /// Bytes of an outer frame.
    #[serde(default)]
    pub frame_bytes: usize,
    /// Whether it wrote packets.
    #[serde(default)]
    pub writes: bool,
    /// Frames sent at full speed.
    pub offered: u64,
    /// Frames of these that it counted.
    pub received: u64,
    /// Frames of these that it says it lost, where it says so.
    #[serde(default)]
    pub reported_lost: Option<u64>,
    /// Millions of frames a second received, at full speed.
    #[serde(default)]
    pub received_mpps: f64,
    /// The highest rate without loss, millions of frames a second.
    pub no_drop_mpps: f64,
    /// CPU time of the tool alone (user and system) for a million frames received, at the no-drop rate, in
    /// seconds.
    pub cpu_s_per_mframe: f64,
}

/// A part measured by itself.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Micro {
    /// What: `decap/ipv4/114`.
    pub name: String,
    /// Of what: `ns`, `instructions`, `allocations`.
    pub unit: String,
    /// A frame's.
    pub per_frame: Spread,
}

/// Something that was to be reached.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Goal {
    /// What.
    pub what: String,
    /// `>=` or `<=`.
    pub relation: String,
    /// The bound.
    pub bound: f64,
    /// What was measured.
    pub measured: Spread,
    /// Whether it was reached.
    pub reached: bool,
}

impl Spread {
    /// One value, measured once.
    #[must_use]
    pub fn of(value: f64) -> Self {
        Self { median: value, q1: value, q3: value }
    }
}

impl Goal {
    /// A median that is to be at least `bound`.
    #[must_use]
    pub fn at_least(what: impl Into<String>, bound: f64, measured: Spread) -> Self {
        let reached = measured.median >= bound;
        Self { what: what.into(), relation: ">=".into(), bound, measured, reached }
    }

    /// A median that is to be at most `bound`.
    #[must_use]
    pub fn at_most(what: impl Into<String>, bound: f64, measured: Spread) -> Self {
        let reached = measured.median <= bound;
        Self { what: what.into(), relation: "<=".into(), bound, measured, reached }
    }
}
