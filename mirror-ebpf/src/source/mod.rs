//! Names and layouts of the tc programs of a mirror source, and what they decide by: [`Packet::of`] reads the
//! headers of a frame, [`decide()`] asks the rules. Both are the programs' own code, and run on any host.

mod decide;
mod packet;

pub use decide::{Decision, decide};
pub use packet::{Address, Frame, MAX_EXTENSIONS, Packet};
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes};

/// Classifier for what an interface receives.
pub const PROGRAM_INGRESS: &str = "source_ingress";
/// Classifier for what an interface sends.
pub const PROGRAM_EGRESS: &str = "source_egress";

/// Array of maps by direction, [`INGRESS`] or [`EGRESS`]: in each one of [`MAP_RULE_SETS`]. A direction
/// changes in one step, when the other map takes the place of the present one (kernel 4.12).
pub const MAP_RULES: &str = "RULES";
/// By direction: the two arrays of one [`RuleSet`] that take turns. They are part of the object because maps
/// within a map must be alike, and kernels before 6.2 tell maps with types (BTF) from maps without.
pub const MAP_RULE_SETS: [[&str; 2]; DIRECTIONS as usize] =
    [["INGRESS_RULES", "OTHER_INGRESS_RULES"], ["EGRESS_RULES", "OTHER_EGRESS_RULES"]];
/// Per-CPU array by direction: packets by [`Count`], [`Counts`].
pub const MAP_COUNTS: &str = "COUNTS";
/// Per-CPU array by [`Session::place`]: packets by [`OfSession`], [`SessionCounts`].
pub const MAP_SESSIONS: &str = "SESSIONS";
/// Array of two words: until when bytes, and packets, that were mirrored take at the highest rates of their
/// [`RuleSet`], CLOCK_MONOTONIC in ns.
pub const MAP_PACE: &str = "PACE";
/// Array of one word: when user space was last seen, CLOCK_MONOTONIC in ns, with [`FLAG_HEARTBEAT`].
pub const MAP_HEARTBEAT: &str = "HEARTBEAT";
/// Array by direction: the last [`Decision`], with [`FLAG_RECORD`].
pub const MAP_DECISIONS: &str = "DECISIONS";

/// Index of packets that the interface receives.
pub const INGRESS: u32 = 0;
/// Index of packets that the interface sends.
pub const EGRESS: u32 = 1;
/// How many directions there are.
pub const DIRECTIONS: u32 = 2;

/// Setting, `u32`: the sum of the flags below that are on.
pub const SETTING_FLAGS: &str = "FLAGS";
/// Flag: the program does nothing when [`MAP_HEARTBEAT`] is older than [`HEARTBEAT_LIFETIME`]. For filters
/// that are no `bpf_link`, and stay when their process is killed.
pub const FLAG_HEARTBEAT: u32 = 1;
/// Flag: each decision is written to [`MAP_DECISIONS`], for tests.
pub const FLAG_RECORD: u32 = 1 << 1;
/// Flag: the kernel has `bpf_ktime_get_coarse_ns` (5.11), which is cheaper than `bpf_ktime_get_ns`.
pub const FLAG_COARSE_CLOCK: u32 = 1 << 2;

/// How long a heartbeat is valid, in ns.
pub const HEARTBEAT_LIFETIME: u64 = 3_000_000_000;

/// The most sessions of an interface, as AWS has it.
pub const MAX_SESSIONS: usize = 3;
/// The most rules of a filter in one direction, as AWS has it.
pub const MAX_RULES: usize = 10;
/// The most addresses that copies are sent to.
pub const MAX_COPIES: usize = 12;
/// Entries of [`MAP_SESSIONS`].
pub const MAX_PLACES: u32 = 64;

/// What decides for one interface and direction.
#[derive(Clone, Copy, Debug, Eq, FromBytes, Immutable, IntoBytes, PartialEq)]
#[repr(C)]
pub struct RuleSet {
    /// Time that a byte of a copy takes at the highest rate, with its outer headers, in 2^-16 ns; 0 without
    /// a limit.
    pub byte_time: u64,
    /// Time that a copy takes at the highest rate of packets, in 2^-16 ns; 0 without a limit.
    pub packet_time: u64,
    /// How many of `sessions` there are.
    pub session_count: u32,
    /// How many of `copies` there are.
    pub copy_count: u32,
    /// In the sequence in which they are asked.
    pub sessions: [Session; MAX_SESSIONS],
    /// Where copies are sent to: these are not mirrored again.
    pub copies: [Destination; MAX_COPIES],
}

/// Where copies are sent to.
#[derive(Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, PartialEq)]
#[repr(C)]
pub struct Destination {
    /// Its address.
    pub address: Address,
    /// 4 or 6.
    pub version: u16,
    /// Its UDP port.
    pub port: u16,
}

/// A session, with the rules of one direction.
#[derive(Clone, Copy, Debug, Eq, FromBytes, Immutable, IntoBytes, PartialEq)]
#[repr(C)]
pub struct Session {
    /// Its index in [`MAP_SESSIONS`], which stays the same when others come and go; below [`MAX_PLACES`].
    pub place: u32,
    /// The interface that packets are cloned to.
    pub carrier: u32,
    /// Bytes of a packet that are mirrored, from its Ethernet header on.
    pub packet_length: u32,
    /// Bytes of the outer headers.
    pub overhead: u32,
    /// Whether queries to Amazon's resolver are mirrored: 0 or 1.
    pub amazon_dns: u32,
    /// How many of `rules` there are.
    pub rule_count: u32,
    /// In the sequence in which they are asked.
    pub rules: [Rule; MAX_RULES],
}

/// A rule. What most packets differ in comes first, in one cache line.
#[derive(Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, PartialEq)]
#[repr(C)]
pub struct Rule {
    /// What [`Packet::kind`] must be under `kind_mask`.
    pub kind: u32,
    /// Of all packets of the version of its blocks, or of those of a protocol.
    pub kind_mask: u32,
    /// Of the source.
    pub source_ports: Ports,
    /// Of the destination.
    pub destination_ports: Ports,
    /// Whether what matches is not mirrored: 0 or 1.
    pub rejects: u32,
    /// Where packets come from.
    pub source: Block,
    /// Where they go to.
    pub destination: Block,
}

impl Rule {
    /// `kind_mask` of a rule for all protocols.
    pub const OF_VERSION: u32 = 0xff00;
    /// `kind_mask` of a rule for a protocol.
    pub const OF_PROTOCOL: u32 = 0xffff;

    /// Its `kind`, or that of a packet.
    #[inline(always)]
    #[must_use]
    pub const fn kind(version: u8, protocol: u8) -> u32 {
        (version as u32) << 8 | protocol as u32
    }
}

/// A range of ports.
#[derive(Clone, Copy, Debug, Eq, FromBytes, Immutable, IntoBytes, PartialEq)]
#[repr(C)]
pub struct Ports {
    /// The first.
    pub first: u32,
    /// The last, less the first.
    pub span: u32,
}

impl Ports {
    /// Every packet, with ports or without.
    pub const ALL: Self = Self { first: 0, span: Packet::NO_PORT };
}

impl Default for Ports {
    fn default() -> Self {
        Self::ALL
    }
}

/// A prefix: addresses that are alike under its mask.
#[derive(Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, PartialEq)]
#[repr(C)]
pub struct Block {
    /// The address, under the mask.
    pub address: Address,
    /// The mask.
    pub mask: Address,
}

/// What becomes of packets: indices into [`Counts`]. [`Seen`](Self::Seen) is counted apart; each packet has
/// one of the others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Count {
    /// Packets that entered the program; of a super-frame (GSO, GRO), one.
    Seen,
    /// Neither IPv4 nor IPv6, or not to be read as such: ARP, for example.
    NotIp,
    /// Not mirrored: IPv6 neighbour discovery.
    NeighborDiscovery,
    /// Not mirrored: DHCP.
    Dhcp,
    /// Not mirrored: instance metadata.
    Metadata,
    /// Not mirrored: time from the link-local address.
    Time,
    /// Not mirrored: activation of Windows.
    WindowsActivation,
    /// Not mirrored: queries to Amazon's resolver, without `amazon-dns`.
    Resolver,
    /// Not mirrored: a copy of ours, or an ICMP error about one.
    Copy,
    /// No rule of any session matches.
    NoMatch,
    /// A rule rejects it.
    Rejected,
    /// Not mirrored: it would exceed the highest rate.
    Rate,
    /// Cloned to its carrier.
    Cloned,
    /// The kernel could not clone it.
    CloneFailed,
}

/// How many there are.
pub const COUNTS: usize = Count::CloneFailed as usize + 1;

/// Value of [`MAP_COUNTS`] for each CPU, in the order of [`Count`].
pub type Counts = [u64; COUNTS];

/// What becomes of packets that a session decides: indices into [`SessionCounts`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum OfSession {
    /// A rule rejects it.
    Rejected,
    /// It would exceed the highest rate.
    Rate,
    /// Cloned to its carrier.
    Cloned,
    /// The kernel could not clone it.
    CloneFailed,
}

/// Value of [`MAP_SESSIONS`] for each CPU, in the order of [`OfSession`].
pub type SessionCounts = [u64; OfSession::CloneFailed as usize + 1];

/// [`RuleSet`] as bytes: the value of a map.
pub type RuleSetBytes = [u8; size_of::<RuleSet>()];

impl RuleSet {
    /// It, as the value of a map.
    #[must_use]
    pub fn bytes(&self) -> RuleSetBytes {
        zerocopy::transmute!(*self)
    }
}

impl Default for RuleSet {
    /// Nothing is mirrored.
    fn default() -> Self {
        Self::new_zeroed()
    }
}

impl Default for Session {
    fn default() -> Self {
        Self::new_zeroed()
    }
}
