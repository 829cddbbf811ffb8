//! Names and layouts of the traffic generator: an XDP program, run by `BPF_PROG_TEST_RUN` with live frames,
//! that numbers frames, spreads them over flows and VNIs, and redirects them to an interface.
//!
//! The frame it edits is a template of Ethernet, IPv4 without options, UDP, VXLAN, Ethernet, IPv4 without
//! options, UDP, and a payload of at least [`SEQUENCE_LEN`] bytes.

/// The program.
pub const PROGRAM: &str = "generate";
/// Per-CPU array of one `u64`: frames generated so far.
pub const MAP_GENERATED: &str = "GENERATED";
/// Per-CPU array of one [`Pace`]. User space zeroes it before a run, so that the pause since the last one is
/// not made up for.
pub const MAP_PACE: &str = "PACE";
/// Per-CPU array of one [`Marks`]. User space zeroes it before a run.
pub const MAP_MARKS: &str = "MARKS";

/// When the next frame is due and when the last one was sent, CLOCK_MONOTONIC in ns.
pub type Pace = [u64; 2];

/// When the first and the last marked frame were sent, CLOCK_MONOTONIC in ns, and how many were marked: the
/// rate between the two leaves out what the system call does before and after.
pub type Marks = [u64; 3];
/// One frame of so many is marked.
pub const MARK_EVERY: u64 = 1 << 12;

/// Setting, `u32`: index of the interface that transmits.
pub const SETTING_IFINDEX: &str = "IFINDEX";
/// Setting, `u32`: number of flows, from 1 to [`MAX_FLOWS`].
pub const SETTING_FLOWS: &str = "FLOWS";
/// Setting, `u32`: number of VNIs, at least 1.
pub const SETTING_VNIS: &str = "VNIS";
/// Setting, `u32`: the first VNI.
pub const SETTING_VNI_BASE: &str = "VNI_BASE";
/// Setting, `u64`: nanoseconds from one frame to the next on a CPU; 0 is as fast as possible. At most
/// [`MAX_INTERVAL_NS`].
pub const SETTING_INTERVAL_NS: &str = "INTERVAL_NS";

/// The longest interval: the program waits in a loop, which the verifier wants bounded.
pub const MAX_INTERVAL_NS: u64 = 50_000;

/// Offset of the outer UDP source port: one a flow, from 65535 downwards (AWS was seen to use the first 128).
pub const OUTER_SOURCE_PORT: usize = 34;
/// Offset of the VNI, three bytes in network order.
pub const VNI: usize = 46;
/// Offset of the low half of the inner IPv4 source address, which holds the flow.
pub const INNER_SOURCE_LOW: usize = 78;
/// Offset of the low half of the inner IPv4 destination address, which holds the flow's one's complement: the
/// two add up to 0xffff whatever the flow, so the header checksum of the template stays right (RFC 1624
/// section 3).
pub const INNER_DESTINATION_LOW: usize = 82;
/// Offset of the inner UDP source port: [`INNER_PORT_BASE`] plus the flow.
pub const INNER_SOURCE_PORT: usize = 84;
/// Offset of the sequence number: a `u64` in network order, the CPU in its upper 16 bits, the count from 0
/// below.
pub const SEQUENCE: usize = 92;
/// Bytes of the sequence number.
pub const SEQUENCE_LEN: usize = 8;
/// The shortest frame the program edits; shorter ones it drops.
pub const MIN_FRAME: usize = SEQUENCE + SEQUENCE_LEN;
/// Bits of the sequence number that count; the CPU is above them.
pub const SEQUENCE_CPU_SHIFT: u32 = 48;
/// The most flows: as many as there are dynamic ports (RFC 6335 section 6), which no dissector takes for a
/// known protocol.
pub const MAX_FLOWS: u32 = 1 << 14;
/// The first dynamic port.
pub const INNER_PORT_BASE: u16 = 0xc000;
