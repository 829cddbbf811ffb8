//! A mirror source on a host of one's own: what AWS does for its interfaces, done by tc programs and a
//! thread.

mod rules;

#[cfg(test)]
pub(crate) use rules::cases;
