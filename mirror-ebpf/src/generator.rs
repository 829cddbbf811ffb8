//! Names and layouts of the traffic generator: an XDP program run by `BPF_PROG_TEST_RUN` with live frames, that
//! numbers each frame, spreads it over flows and VNIs, and redirects it to an interface.
//!
//! The frame it edits is a template of Ethernet, IPv4 without options, UDP, VXLAN, Ethernet, IPv4 without options,
//! UDP, and a payload of at least [`SEQUENCE_LEN`] bytes.

/// The program.
pub const PROGRAM: &str = "generate";
/// Per-CPU array of one `u64`: frames generated so far.
pub const MAP_GENERATED: &str = "GENERATED";

/// Setting, `u32`: index of the interface that transmits.
pub const SETTING_IFINDEX: &str = "IFINDEX";
/// Setting, `u32`: number of flows, at least 1.
pub const SETTING_FLOWS: &str = "FLOWS";
/// Setting, `u32`: number of VNIs, at least 1.
pub const SETTING_VNIS: &str = "VNIS";
/// Setting, `u32`: the first VNI.
pub const SETTING_VNI_BASE: &str = "VNI_BASE";

/// Offset of the outer UDP source port.
pub const OUTER_SOURCE_PORT: usize = 34;
/// Offset of the VNI, three bytes in network order.
pub const VNI: usize = 46;
/// Offset of the low half of the inner IPv4 source address.
pub const INNER_SOURCE_LOW: usize = 78;
/// Offset of the inner UDP source port.
pub const INNER_SOURCE_PORT: usize = 84;
/// Offset of the sequence number: a `u64` in network order, the CPU in its upper 16 bits, the count from 0 below.
pub const SEQUENCE: usize = 92;
/// Bytes of the sequence number.
pub const SEQUENCE_LEN: usize = 8;
/// The shortest frame the program edits; shorter ones it drops.
pub const MIN_FRAME: usize = SEQUENCE + SEQUENCE_LEN;
/// Bits of the sequence number that count; the CPU is above them.
pub const SEQUENCE_CPU_SHIFT: u32 = 48;
/// The first of the outer source ports, one a flow: the seven bits seen in AWS, then downwards.
pub const OUTER_PORT_MASK: u16 = 0x3fff;
