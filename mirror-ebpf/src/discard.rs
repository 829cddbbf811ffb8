//! Name of the program that keeps the frames of an interface from the host's stack.

/// Classifier that drops every frame, for tc ingress.
pub const PROGRAM: &str = "discard";
