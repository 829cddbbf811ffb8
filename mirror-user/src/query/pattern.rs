//! What `parse` looks for in a text.

use memchr::memmem::Finder;
use regex::{CaptureLocations, Regex};

use super::ast::Pattern;

/// A pattern, ready to match.
#[derive(Debug)]
pub(super) enum Matcher {
    /// Only `*` between single blanks: a split, with so many parts.
    Split(usize),
    /// Texts, with a `*` between each two.
    Glob(Vec<Finder<'static>>),
    /// A regular expression, and its groups that have names here.
    Regex(Regex, Vec<usize>),
}

impl Matcher {
    pub(super) fn new(pattern: &Pattern) -> Self {
        match pattern {
            Pattern::Glob(glob) => {
                let literals: Vec<_> = glob.split('*').collect();
                match literals.as_slice() {
                    ["", between @ .., ""] if between.iter().all(|literal| *literal == " ") => {
                        Self::Split(between.len() + 1)
                    }
                    literals => {
                        let finders =
                            literals.iter().map(|literal| Finder::new(literal.as_bytes()).into_owned());
                        Self::Glob(finders.collect())
                    }
                }
            }
            Pattern::Regex(regex) => {
                let named: Vec<_> =
                    regex.capture_names().enumerate().filter_map(|(i, name)| name.and(Some(i))).collect();
                let groups = if named.is_empty() { (1..regex.captures_len()).collect() } else { named };
                Self::Regex(regex.clone(), groups)
            }
        }
    }

    /// Room for the places of groups, which matching uses again for each text.
    pub(super) fn room(&self) -> Option<CaptureLocations> {
        match self {
            Self::Regex(regex, _) => Some(regex.capture_locations()),
            Self::Split(_) | Self::Glob(_) => None,
        }
    }

    /// Hands over the parts of a text that have a slot, each with it. Whether the text matches: if not, parts
    /// may have been handed over before that was known.
    ///
    /// A `*` is the shortest text up to the literal behind it; at the end of the pattern, the rest.
    #[inline]
    pub(super) fn parts<'t>(
        &self,
        text: &'t str,
        room: &mut Option<CaptureLocations>,
        slots: &[Option<usize>],
        mut put: impl FnMut(usize, &'t str),
    ) -> bool {
        match self {
            Self::Split(count) => split(*count, text, slots, put),
            Self::Glob(literals) => glob(literals, text, slots, put),
            Self::Regex(regex, groups) => {
                let places = room.get_or_insert_with(|| regex.capture_locations());
                if regex.captures_read(places, text).is_none() {
                    return false;
                }
                for (slot, group) in slots.iter().zip(groups) {
                    if let (Some(slot), Some((start, end))) = (slot, places.get(*group)) {
                        put(*slot, text.get(start..end).unwrap_or_default());
                    }
                }
                true
            }
        }
    }
}

/// One pass over the text. Fields of log lines are a few bytes long, so blanks are found eight bytes at a
/// time in place of a call for each.
#[inline]
fn split<'t>(
    count: usize,
    text: &'t str,
    slots: &[Option<usize>],
    mut put: impl FnMut(usize, &'t str),
) -> bool {
    let bytes = text.as_bytes();
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    if let Some(room) = last.get_mut(..rest.len()) {
        room.copy_from_slice(rest);
    }
    let (mut part, mut start, mut offset) = (0, 0, 0);
    for word in words.iter().chain([&last]) {
        let mut blanks = blanks(u64::from_le_bytes(*word));
        while blanks != 0 && part + 1 < count {
            if part >= slots.len() {
                // Nothing more is wanted than that there are as many.
                part += blanks.count_ones() as usize;
                break;
            }
            let end = offset + blanks.trailing_zeros() as usize / 8;
            if let Some(Some(slot)) = slots.get(part) {
                put(*slot, text.get(start..end).unwrap_or_default());
            }
            blanks &= blanks - 1;
            part += 1;
            start = end + 1;
        }
        offset += 8;
    }
    if part + 1 < count {
        return false;
    }
    if let Some(Some(slot)) = slots.get(count - 1) {
        put(*slot, text.get(start..).unwrap_or_default());
    }
    true
}

/// The highest bit of each byte that is a blank.
fn blanks(word: u64) -> u64 {
    const LOW: u64 = u64::from_ne_bytes([0x7f; 8]);
    let zeros = word ^ u64::from_ne_bytes([b' '; 8]);
    !(((zeros & LOW) + LOW) | zeros | LOW)
}

fn glob<'t>(
    literals: &[Finder<'_>],
    text: &'t str,
    slots: &[Option<usize>],
    mut put: impl FnMut(usize, &'t str),
) -> bool {
    let Some((first, others)) = literals.split_first() else { return false };
    let Some(found) = first.find(text.as_bytes()) else { return false };
    let mut start = found + first.needle().len();
    for (part, literal) in others.iter().enumerate() {
        let rest = text.get(start..).unwrap_or_default();
        let is_rest = literal.needle().is_empty() && part + 1 == others.len();
        let found = if is_rest { Some(rest.len()) } else { literal.find(rest.as_bytes()) };
        let Some(length) = found else { return false };
        if let Some(Some(slot)) = slots.get(part) {
            put(*slot, rest.get(..length).unwrap_or_default());
        }
        start += length + literal.needle().len();
    }
    true
}

#[cfg(test)]
mod tests;
