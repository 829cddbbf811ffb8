//! Records as lines of text.

mod read;
mod write;

pub use read::{Column, Line, MAX_LINE, Skipped, TextError, TextReader};
pub use write::TextWriter;

#[cfg(test)]
mod tests;
