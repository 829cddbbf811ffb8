//! Intrusive lists of datagrams by age: one of all, and one for each source.

use super::blocks::NONE;

/// A datagram's neighbours in one list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    pub(super) before: u32,
    pub(super) after: u32,
}

/// Oldest and newest of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) oldest: u32,
    pub(super) newest: u32,
}

impl Links {
    pub(super) const NONE: Self = Self { before: NONE, after: NONE };
}

impl Ends {
    pub(super) const EMPTY: Self = Self { oldest: NONE, newest: NONE };

    /// Appends `place`; `links` gives a place's links in this list.
    pub(super) fn push<T>(&mut self, all: &mut [T], links: impl Fn(&mut T) -> &mut Links, place: u32) {
        let before = std::mem::replace(&mut self.newest, place);
        *links(&mut all[place as usize]) = Links { before, after: NONE };
        match before {
            NONE => self.oldest = place,
            before => links(&mut all[before as usize]).after = place,
        }
    }

    /// Removes `place`.
    pub(super) fn remove<T>(&mut self, all: &mut [T], links: impl Fn(&mut T) -> &mut Links, place: u32) {
        let Links { before, after } = *links(&mut all[place as usize]);
        match before {
            NONE => self.oldest = after,
            before => links(&mut all[before as usize]).after = after,
        }
        match after {
            NONE => self.newest = before,
            after => links(&mut all[after as usize]).before = before,
        }
    }
}
