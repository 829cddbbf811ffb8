//! Decapsulation in place: where in an outer frame the inner one lies, and what is wrong with it if it does
//! not.
//!
//! What is taken: outer Ethernet, up to two VLAN tags, IPv4 with or without options or IPv6 without extension
//! headers, UDP to a tunnel port, VXLAN (RFC 7348), an inner Ethernet frame. Checksums are not looked at:
//! mirrors send the outer one as 0 (RFC 7348 section 5), and a truncated inner packet has no valid one.
//!
//! Two ways lead to the same answer. `fast` knows one shape, the one that a mirror sends nearly always, and
//! reads it after a single bounds check; `general` walks the headers one by one and names what is wrong.
//! Tests hold the two to each other.

mod fast;
mod general;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use general::untag;

use crate::{
    account::Reject,
    frame::{Captured, Frame, Layout},
    tunnels::Tunnels,
};

/// Finds the inner frame of one outer frame, as every worker does: for embedders with a source of their own.
///
/// `tunnels` are those that are decapsulated: as a rule [`Tunnels::default`].
///
/// # Errors
///
/// The reason for which the frame holds none.
///
/// # Examples
///
/// ```
/// use mirror_user::{Captured, Tunnels, decap};
///
/// let runt = Captured::new(&[0; 13], 13, 0);
/// let error = decap::decapsulate_frame(runt, &Tunnels::default()).unwrap_err();
/// assert_eq!(error, mirror_user::account::Reject::Short);
/// ```
#[expect(clippy::inline_always, reason = "as in `fast`: what embedders measure and call in their loops")]
#[inline(always)]
pub fn decapsulate_frame<'a>(captured: Captured<'a>, tunnels: &Tunnels) -> Result<Frame<'a>, Reject> {
    decapsulate(&captured, tunnels).map(|layout| Frame::new(captured, layout))
}

/// Finds the inner frame.
///
/// # Errors
///
/// The reason for which the frame holds none.
#[expect(clippy::inline_always, reason = "as in `fast`: each worker's loop has its own")]
#[inline(always)]
pub(crate) fn decapsulate(captured: &Captured<'_>, tunnels: &Tunnels) -> Result<Layout, Reject> {
    // Of a frame in several pieces the first may hold all that is asked for, and the others padding.
    if let Some(layout) = fast::decapsulate(captured.first(), tunnels.vxlan()) {
        return Ok(layout);
    }
    // Not the frame itself: a reference to it would have it go through memory on the fast way, too.
    general::decapsulate(&captured.bytes(), captured.wire_len(), tunnels)
}
