//! Names of the programs on devices that are made for readers.

/// Classifier that drops every frame, for tc ingress.
pub const PROGRAM: &str = "discard";
/// XDP program that passes every frame, in an `xdp.frags` section (kernel 5.18 and later): with it, the far
/// end of a veth takes frames that a program redirects.
pub const PROGRAM_PASS: &str = "pass";
