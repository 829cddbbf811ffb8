//! Records as lines of text.

mod write;

pub use write::TextWriter;

#[cfg(test)]
mod tests;
