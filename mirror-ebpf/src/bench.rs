//! Names of the programs that benchmarks measure ours against: what XDP and tc themselves cost.

/// Program that drops every frame.
pub const PROGRAM_DROP: &str = "drop";
/// Program that redirects every frame to the AF_XDP socket of its queue, and does nothing else.
pub const PROGRAM_REDIRECT: &str = "redirect";
/// tc program that lets every packet go on.
pub const PROGRAM_EMPTY: &str = "empty";
/// XSKMAP: AF_XDP socket by RX queue index.
pub const MAP_XSKS: &str = "XSKS";
