//! Name of the program that keeps what comes in by an interface from the host.

/// Classifier that drops every frame, for tc ingress.
pub const PROGRAM: &str = "discard";
