//! Names and layouts of the XDP program that redirects mirrored packets to AF_XDP.

/// Program for hosts whose MTU fits one buffer.
pub const PROGRAM: &str = "mirror";
/// The same program in an `xdp.frags` section: frames may span several buffers (kernel 5.18 and later).
pub const PROGRAM_FRAGS: &str = "mirror_frags";
/// Raw tracepoint program that counts redirects that failed after the XDP program had returned.
pub const PROGRAM_REDIRECT_ERR: &str = "redirect_err";
/// The tracepoint [`PROGRAM_REDIRECT_ERR`] and [`PROGRAM_FORWARD_ERR`] attach to.
pub const TRACEPOINT_REDIRECT_ERR: &str = "xdp_redirect_err";
/// [`PROGRAM`], with frames that it can decapsulate forwarded to the devices in [`MAP_TARGETS`].
pub const PROGRAM_FORWARD: &str = "mirror_forward";
/// Raw tracepoint program that counts frames refused by [`MAP_TARGETS`] after the XDP program had returned.
pub const PROGRAM_FORWARD_ERR: &str = "forward_err";
/// Raw tracepoint program that counts frames that the devices in [`MAP_TARGETS`] have taken or refused.
pub const PROGRAM_FORWARD_SENT: &str = "forward_sent";
/// The tracepoint [`PROGRAM_FORWARD_SENT`] attaches to.
pub const TRACEPOINT_DEVMAP_XMIT: &str = "xdp_devmap_xmit";

/// XSKMAP: AF_XDP socket by RX queue index.
pub const MAP_XSKS: &str = "XSKS";
/// Per-CPU array of one value, [`PerCpu`].
pub const MAP_COUNTERS: &str = "COUNTERS";
/// Hash set of the allowed VNIs, with [`FLAG_VNI_FILTER`]. Key: the VNI in host order.
pub const MAP_VNIS: &str = "VNIS";
/// LPM trie of the allowed outer IPv4 sources, with [`FLAG_SOURCE_FILTER`]. Key: the address as on the wire.
pub const MAP_SOURCES_V4: &str = "SOURCES_V4";
/// LPM trie of the allowed outer IPv6 sources, with [`FLAG_SOURCE_FILTER`]. Key: the address as on the wire.
pub const MAP_SOURCES_V6: &str = "SOURCES_V6";
/// Array of one `u32`: the kernel's id of [`MAP_XSKS`], by which the tracepoint program selects our failures.
pub const MAP_XSKS_ID: &str = "XSKS_ID";
/// Per-CPU array of one `u64`: redirects into [`MAP_XSKS`] that failed and that no socket counts.
pub const MAP_REDIRECT_FAILED: &str = "REDIRECT_FAILED";
/// Array of one [`Own`]: the addresses that frames must be sent to, with [`FLAG_OWN`].
pub const MAP_OWN: &str = "OWN";
/// Hash set of the interface's IPv4 addresses, with [`FLAG_OWN`]. Key: the address as on the wire.
pub const MAP_ADDRESSES_V4: &str = "ADDRESSES_V4";
/// Hash set of the interface's IPv6 addresses, with [`FLAG_OWN`]. Key: the address as on the wire.
pub const MAP_ADDRESSES_V6: &str = "ADDRESSES_V6";

/// LRU hash, shared by all CPUs (kernel 4.10): datagrams whose first fragment was ours or refused. Key:
/// [`FragmentKey`], value: [`Announced`].
pub const MAP_FRAGMENTS: &str = "FRAGMENTS";

/// DEVMAP: the devices that [`PROGRAM_FORWARD`] forwards to, by member. The kernel removes a device from it
/// when it is deleted.
pub const MAP_TARGETS: &str = "TARGETS";
/// Array of one `u32`: the kernel's id of [`MAP_TARGETS`].
pub const MAP_TARGETS_ID: &str = "TARGETS_ID";
/// Hash: the members by their devices. Key: [`Device`], value: the index in [`MAP_TARGETS`], a `u32`.
pub const MAP_DEVICES: &str = "DEVICES";
/// Per-CPU array by member, [`FateCounts`].
pub const MAP_FATES: &str = "FATES";
/// Array of one [`Assignment`](crate::flow::Assignment), with [`FLAG_GROUP`].
pub const MAP_ASSIGNMENT: &str = "ASSIGNMENT";
/// Array by member, [`Tunnel`], with [`FLAG_TUNNELS`].
pub const MAP_TUNNELS: &str = "TUNNELS";
/// Per-CPU hash: forwarded frames by origin, with [`FLAG_ORIGINS`]. Key: [`OriginKey`], value: [`Tally`]. Its
/// size is set when it is made.
pub const MAP_ORIGINS: &str = "ORIGINS";
/// Per-CPU array of one [`Run`]: forwarded frames that [`MAP_ORIGINS`] does not have yet.
pub const MAP_RUN: &str = "RUN";
/// Per-CPU array of one [`OtherOrigins`]: forwarded frames of origins for which [`MAP_ORIGINS`] had no room.
pub const MAP_OTHER_ORIGINS: &str = "OTHER_ORIGINS";

/// Hash: which sinks select a VNI, with [`FLAG_SPLIT_VNIS`]. Key: the VNI in host order, value: [`Sinks`].
/// Its size is set when it is made, as those of the next two.
pub const MAP_SINKS_OF_VNI: &str = "SINKS_OF_VNI";
/// LPM trie: which sinks select an outer IPv4 source, with [`FLAG_SPLIT_SOURCES`]. Key: the address as on the
/// wire, value: [`Sinks`], of a prefix with those of each shorter one that contains it.
pub const MAP_SINKS_OF_V4: &str = "SINKS_OF_V4";
/// The same of outer IPv6 sources.
pub const MAP_SINKS_OF_V6: &str = "SINKS_OF_V6";

/// Setting, [`OtherSinks`]: which sinks select what is in none of these maps.
pub const SETTING_OTHER_SINKS: &str = "OTHER_SINKS";
/// Setting, [`Path`]: by what [`PROGRAM_FORWARD_SENT`] recognises our frames.
pub const SETTING_PATH: &str = "PATH";
/// Setting, `u64`: seed of the hashes of flows ([`FLAG_GROUP`], [`FLAG_TUNNELS`]) and of other origins
/// ([`FLAG_ORIGINS`]).
pub const SETTING_SEED: &str = "SEED";
/// Setting, `[u16; MAX_PORTS]` in network byte order: UDP destination ports of VXLAN; 0 is an unused entry.
pub const SETTING_PORTS: &str = "PORTS";
/// The same of GENEVE. Frames to these are redirected to the ring whatever the lists of VNIs and sources say,
/// which are of the VXLAN inside: user space finds that, and refuses what is not allowed.
pub const SETTING_GENEVE_PORTS: &str = "GENEVE_PORTS";
/// Setting, `u32`: the sum of the flags below that are on.
pub const SETTING_FLAGS: &str = "FLAGS";
/// Flag: VNIs that are not in [`MAP_VNIS`] are dropped.
pub const FLAG_VNI_FILTER: u32 = 1;
/// Flag: outer sources that are not in [`MAP_SOURCES_V4`] or [`MAP_SOURCES_V6`] are dropped.
pub const FLAG_SOURCE_FILTER: u32 = 1 << 1;
/// Flag: the receive time is written to the metadata area, see [`STAMP_LEN`].
pub const FLAG_STAMP: u32 = 1 << 2;
/// Flag: rare states are logged through aya-log, once per CPU and state.
pub const FLAG_LOG: u32 = 1 << 3;
/// Flag: fragments of our datagrams are redirected, see [`MAP_FRAGMENTS`]; without it, all are passed.
pub const FLAG_FRAGMENTS: u32 = 1 << 4;
/// Flag: frames that are not addressed to the interface, see [`Own`], are passed.
pub const FLAG_OWN: u32 = 1 << 5;
/// Flag: forwarded frames are counted by origin.
pub const FLAG_ORIGINS: u32 = 1 << 6;
/// Flag: frames are forwarded to the member that [`MAP_ASSIGNMENT`] has for their flow; without it, to the
/// first. Frames whose flow takes more than their fixed headers to find (fragments, IPv6 extension headers,
/// VLAN tags, no IP), and those without a member, are redirected to the ring.
pub const FLAG_GROUP: u32 = 1 << 7;

/// Flag: members may be tunnels, see [`MAP_TUNNELS`]. Frames without a flow are redirected to the ring, as
/// with [`FLAG_GROUP`], because a tunnel's source port is a hash of the flow.
pub const FLAG_TUNNELS: u32 = 1 << 8;

/// Flag: sinks select VNIs. Frames that any sink but [`TARGET_SINK`] selects, or none at all, are redirected
/// to the ring.
pub const FLAG_SPLIT_VNIS: u32 = 1 << 9;
/// Flag: sinks select outer sources, as with [`FLAG_SPLIT_VNIS`].
pub const FLAG_SPLIT_SOURCES: u32 = 1 << 10;

/// Not a setting, but added to the flags of a frame by the program: it came to a port of GENEVE, and is not
/// to be forwarded.
pub const FLAG_GENEVE: u32 = 1 << 31;

/// The value of [`SETTING_FLAGS`] with each of these flags on or off.
#[must_use]
pub fn flags<const N: usize>(each: [(u32, bool); N]) -> u32 {
    each.into_iter().fold(0, |flags, (flag, on)| if on { flags | flag } else { flags })
}

/// The most tunnel ports of each protocol that the program compares with.
pub const MAX_PORTS: usize = 4;
/// The most VNIs in the allow-list.
pub const MAX_VNIS: u32 = 4096;
/// In the allow-list it stands for every VNI: no VNI has more than 24 bits.
pub const EVERY_VNI: u32 = u32::MAX;
/// The most prefixes per family in the allow-list of outer sources.
pub const MAX_SOURCES: u32 = 1024;
/// The most addresses per family of an interface; EC2 allows at most 50.
pub const MAX_ADDRESSES: u32 = 1024;

/// Value of [`MAP_OWN`]: addresses of the interface, in network byte order. Its MAC address; the address
/// families it has, a sum of [`HAS_V4`] and [`HAS_V6`] (for a family it does not have, the MAC address alone
/// decides); one IPv4 address, because most interfaces have no other, and a lookup takes longer.
pub type Own = [u16; 6];
/// Index of the families in [`Own`].
pub const OWN_FAMILIES: usize = 3;
/// Index of the IPv4 address in [`Own`].
pub const OWN_V4: usize = 4;
/// Family: IPv4 destinations must be in [`MAP_ADDRESSES_V4`].
pub const HAS_V4: u16 = 1;
/// Family: IPv6 destinations must be in [`MAP_ADDRESSES_V6`].
pub const HAS_V6: u16 = 1 << 1;

/// The value of [`MAP_OWN`] for an interface with this MAC address and these addresses.
#[must_use]
pub fn own(mac: [u8; 6], v4: Option<[u8; 4]>, has_v6: bool) -> Own {
    let word = |a, b| u16::from_ne_bytes([a, b]);
    let [a, b, c, d, e, f] = mac;
    let [g, h, i, j] = v4.unwrap_or_default();
    let families = if v4.is_some() { HAS_V4 } else { 0 } | if has_v6 { HAS_V6 } else { 0 };
    [word(a, b), word(c, d), word(e, f), families, word(g, h), word(i, j)]
}

/// The most datagrams in [`MAP_FRAGMENTS`]. A flood of 100,000 first fragments a second fills it in 160 ms,
/// while the fragments of a datagram arrive within µs. About 2 MiB of kernel memory.
pub const MAX_FRAGMENTED: u32 = 16_384;
/// How long an entry of [`MAP_FRAGMENTS`] is valid, in ns; user space waits for fragments as long. After
/// that, fragments with this key are taken for the host's own, whose datagrams use the same ids.
pub const FRAGMENT_LIFETIME: u64 = 2_000_000_000;

/// What the fragments of a datagram have in common, in network byte order: outer source and destination (IPv4
/// in the first word, the rest 0), identification (that of IPv4 in the lower half), and 4 or 6. The protocol
/// is not part of it: over IPv4 it is always UDP here, and over IPv6 only that of the first fragment counts
/// (RFC 8200 section 4.5).
pub type FragmentKey = [u32; 10];

/// Value of [`MAP_FRAGMENTS`].
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Announced {
    /// Arrival of the first fragment, CLOCK_MONOTONIC in ns.
    pub time: u64,
    /// Offset of the next fragment in bytes, if all so far arrived in sequence.
    pub next: u32,
    /// Verdict on the other fragments: 0 if they are ours, else the [`Counter`] by which the first was
    /// refused.
    pub refused: u32,
}

/// Bytes of the receive time, right in front of a frame: CLOCK_MONOTONIC in ns, a `u64` in host byte order.
pub const STAMP_LEN: usize = 8;

/// Frames that a CPU stamps each in a kernel tick (1 to 10 ms, CONFIG_HZ).
pub const STAMP_EACH: u64 = 1024;
/// Beyond that, every `STAMP_EVERY`-th frame is stamped.
pub const STAMP_EVERY: u64 = 16;

/// What the XDP program counts: indices into the value of [`MAP_COUNTERS`].
///
/// The first eight share a cache line of 64 bytes; those of redirected frames come first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Counter {
    /// Frames that entered the program, counted apart from the verdicts.
    Seen,
    /// Redirected to an AF_XDP socket.
    Redirected,
    /// Passed: not UDP to a tunnel port.
    NotTunnel,
    /// Passed: ours, but its queue has no socket.
    NoSocket,
    /// Dropped: the VNI is not in the allow-list.
    VniRefused,
    /// Dropped: the outer source is not in the allow-list.
    SourceRefused,
    /// Passed: a fragment of a UDP datagram that is not ours, or whose first fragment was not seen.
    Fragment,
    /// Passed: shorter than its headers declare.
    Malformed,
    /// Passed: IPv6 with an extension header before UDP.
    Extension,
    /// Passed: to a tunnel port, and not addressed to this interface, or from a loopback address.
    NotLocal,
    /// Passed: GENEVE, to a port that is not a tunnel port.
    Geneve,
    /// Decapsulated and forwarded to a device in [`MAP_TARGETS`].
    Forwarded,
    /// Dropped: decapsulated, but [`MAP_TARGETS`] has no device for it any more.
    NoTarget,
}

/// How many counters there are.
pub const COUNTERS: usize = Counter::NoTarget as usize + 1;

/// Value of [`MAP_COUNTERS`] for each CPU: the counters in the order of [`Counter`], then three words by
/// which the program decides which frames to stamp, then two of [`Counter::Forwarded`]: bytes of the frames
/// with outer headers, and of the inner frames.
pub type PerCpu = [u64; COUNTERS + 5];
/// Index in [`PerCpu`]: bytes of forwarded frames with outer headers.
pub const FORWARDED_OUTER_BYTES: usize = COUNTERS + 3;
/// Index in [`PerCpu`]: bytes of forwarded inner frames.
pub const FORWARDED_INNER_BYTES: usize = COUNTERS + 4;

/// What became of forwarded frames: indices into the value of [`MAP_FATES`]. `Sent` and `Refused` are counted
/// when the device is given frames, the others before that.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Fate {
    /// Taken by the device.
    Sent,
    /// Not taken by the device: for a veth, its far end is down, or its ring is full.
    Refused,
    /// The device is down.
    Down,
    /// The device takes no redirected frames: for a veth, its far end has no XDP program (kernel 6.3).
    NoProgram,
    /// Longer than the MTU of the device.
    TooLarge,
    /// Another error.
    Other,
}

/// How many fates there are.
pub const FATES: usize = Fate::Other as usize + 1;

/// Value of [`MAP_FATES`] for each CPU: frames, in the order of [`Fate`].
pub type FateCounts = [u64; FATES];

/// Value of [`SETTING_PATH`], by the indices below.
pub type Path = [u32; 5];
/// Index in [`Path`]: offset of `ifindex` in the kernel's `struct net_device`.
pub const PATH_IFINDEX_AT: usize = 0;
/// Index in [`Path`]: offset of `nd_net`, a pointer, in `struct net_device`.
pub const PATH_NET_AT: usize = 1;
/// Index in [`Path`]: offset of `ns.inum` in `struct net`.
pub const PATH_INUM_AT: usize = 2;
/// Index in [`Path`]: the interface whose frames are forwarded, the two words of its [`Device`].
pub const PATH_FROM: usize = 3;

/// What identifies an interface: the inode of its network namespace, and its index there. Indices repeat
/// across namespaces.
pub type Device = [u32; 2];

/// The most members of a group.
pub const MAX_MEMBERS: u32 = 64;

/// A set of sinks, a bit each.
pub type Sinks = u64;
/// The most sinks in a set.
pub const MAX_SINKS: u32 = Sinks::BITS;
/// The sink that the targets in [`MAP_TARGETS`] are of, alone.
pub const TARGET_SINK: Sinks = 1;
/// Every sink there may be.
pub const ALL_SINKS: Sinks = Sinks::MAX;
/// Value of [`SETTING_OTHER_SINKS`].
pub type OtherSinks = [Sinks; 2];
/// Index in [`OtherSinks`]: sinks that select VNIs that are not in [`MAP_SINKS_OF_VNI`].
pub const OTHER_VNIS: usize = 0;
/// Index in [`OtherSinks`]: sinks that select outer sources in no prefix of their map.
pub const OTHER_SOURCES: usize = 1;

/// Value of [`MAP_TUNNELS`]: how the frames of a member are encapsulated in VXLAN. By the indices below, then
/// the outer headers up to the UDP checksum as they lie in memory, with these fields 0: lengths, the checksum
/// of IPv4, the UDP source port.
pub type Tunnel = [u32; TUNNEL_HEADERS + 15];
/// Index in [`Tunnel`]: one of the kinds below. User space changes one word only, or the kind was
/// [`TUNNEL_UNRESOLVED`] for at least one of its polls: no frame gets half of two values.
pub const TUNNEL_KIND: usize = 0;
/// Index in [`Tunnel`]: the VNI of all frames and the byte behind it as they lie in memory, or
/// [`TUNNEL_KEEPS_VNI`].
pub const TUNNEL_VNI: usize = 1;
/// Index in [`Tunnel`]: the longest IP packet, in bytes.
pub const TUNNEL_MTU: usize = 2;
/// Index in [`Tunnel`]: sum of the 16-bit words as they lie in memory, of the IPv4 header, or of the fixed
/// part of the pseudo-header of IPv6.
pub const TUNNEL_SUM: usize = 3;
/// Index in [`Tunnel`] of the first word of the outer headers.
pub const TUNNEL_HEADERS: usize = 4;
/// Kind: the member is no tunnel, but an interface that gets the inner frames.
pub const TUNNEL_NONE: u32 = 0;
/// Kind: its next hop is not known, and frames are redirected to the ring.
pub const TUNNEL_UNRESOLVED: u32 = 1;
/// Kind: VXLAN over UDP over IPv4, with a UDP checksum of 0.
pub const TUNNEL_V4: u32 = 4;
/// Kind: VXLAN over UDP over IPv6, with a UDP checksum.
pub const TUNNEL_V6: u32 = 6;
/// No VNI: its last byte is always 0.
pub const TUNNEL_KEEPS_VNI: u32 = u32::MAX;

/// Key of [`MAP_ORIGINS`], as little-endian loads give it: the outer source in two words, of IPv4 in the
/// lower half of the first; then the VNI, the byte behind it and, from bit [`ORIGIN_VERSION_SHIFT`] on, the
/// IP version.
pub type OriginKey = [u64; 3];
/// Index in [`OriginKey`] of the VNI.
pub const ORIGIN_VNI: usize = 2;
/// Bits below the IP version.
pub const ORIGIN_VERSION_SHIFT: u32 = 32;

/// Frames, and bytes of the inner frames.
pub type Tally = [u64; 2];

/// The last frames of a CPU, all of one origin: frames come in runs, and each run is added to [`MAP_ORIGINS`]
/// or [`MAP_OTHER_ORIGINS`] when the next begins. Its number, the three words of its [`OriginKey`], and the
/// two of its [`Tally`] so far.
pub type Run = [u64; 6];
/// Index in [`Run`]: its number.
pub const RUN_NUMBER: usize = 0;
/// Index in [`Run`]: the two words of the [`Tally`] so far.
pub const RUN_TALLY: usize = 4;

/// Bits of [`OtherOrigins`], by which distinct origins are counted.
pub const OTHER_BITS: usize = 1 << 16;
/// Value of [`MAP_OTHER_ORIGINS`]: the two words of a [`Tally`], then a bit for each hash of an origin.
pub type OtherOrigins = [u64; 2 + OTHER_BITS / 64];
