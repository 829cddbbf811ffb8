//! What `parse` looks for in a text.

use memchr::{memchr_iter, memmem::Finder};
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

    /// Hands over the parts of a text by their number, those of number `parts` and above left out. Whether the
    /// text matches: if not, parts may have been handed over before that was known.
    ///
    /// A `*` is the shortest text up to the literal behind it; at the end of the pattern, the rest.
    #[inline]
    pub(super) fn parts<'t>(
        &self,
        text: &'t str,
        room: &mut Option<CaptureLocations>,
        parts: usize,
        mut put: impl FnMut(usize, &'t str),
    ) -> bool {
        match self {
            Self::Split(count) => {
                let mut blanks = memchr_iter(b' ', text.as_bytes());
                let mut start = 0;
                for part in 0..count - 1 {
                    let Some(end) = blanks.next() else { return false };
                    if part < parts {
                        put(part, text.get(start..end).unwrap_or_default());
                    }
                    start = end + 1;
                }
                if *count <= parts {
                    put(count - 1, text.get(start..).unwrap_or_default());
                }
                true
            }
            Self::Glob(literals) => glob(literals, text, parts, put),
            Self::Regex(regex, groups) => {
                let places = room.get_or_insert_with(|| regex.capture_locations());
                if regex.captures_read(places, text).is_none() {
                    return false;
                }
                for (part, group) in groups.iter().enumerate().take(parts) {
                    if let Some((start, end)) = places.get(*group) {
                        put(part, text.get(start..end).unwrap_or_default());
                    }
                }
                true
            }
        }
    }
}

fn glob<'t>(
    literals: &[Finder<'_>],
    text: &'t str,
    parts: usize,
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
        if part < parts {
            put(part, rest.get(..length).unwrap_or_default());
        }
        start += length + literal.needle().len();
    }
    true
}

#[cfg(test)]
mod tests;
