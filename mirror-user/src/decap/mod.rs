//! Decapsulation in place: finds the inner frame in an outer one, or the reason why there is none.
//!
//! Accepted: outer Ethernet, up to two VLAN tags, IPv4 with or without options or IPv6 without extension
//! headers, UDP to a tunnel port, VXLAN (RFC 7348), an inner Ethernet frame. Checksums are not verified:
//! mirrors send the outer one as 0 (RFC 7348 section 5), and a truncated inner packet has no valid one.
//!
//! To a port of GENEVE (RFC 8926): a header with any options, and in it an Ethernet frame; or IP, UDP to a
//! port of VXLAN, VXLAN and an Ethernet frame, as mirrored traffic has behind an AWS Gateway Load Balancer.
//! VXLAN is opened once: GENEVE in a mirrored frame is what was mirrored.
//!
//! Two implementations give the same result. `fast` handles the shapes that mirrors nearly always send, each
//! after a single bounds check; `general` walks the headers one by one and gives the reason of a rejection.
//! Tests compare the two.

mod fast;
mod general;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use general::{inner_start, untag};

use crate::{
    account::Reject,
    frame::{Captured, Frame, Layout, Segments},
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
    // The first slice of a frame may hold all of it, and the others padding.
    if let Some(layout) = fast::decapsulate(captured.first(), tunnels.vxlan()) {
        return Ok(layout);
    }
    // Not the frame itself: a reference to it would put it in memory on the fast path, too.
    // Its result is moved, not returned as it is: else the call would fill the memory of this function's
    // result, and the fast path's layout would go through it, too (6 ns a frame: stores that a wider load
    // waits for).
    let layout = decapsulate_other(&captured.bytes(), captured.wire_len(), tunnels)?;
    Ok(layout)
}

/// The same for all other shapes. It is one call: each more would take registers from the fast path.
#[inline(never)]
fn decapsulate_other(bytes: &Segments<'_>, wire_len: u32, tunnels: &Tunnels) -> Result<Layout, Reject> {
    match tunnels.geneve() {
        [] => general::decapsulate(bytes, wire_len, tunnels),
        _ => decapsulate_with_geneve(bytes, wire_len, tunnels),
    }
}

#[inline(never)]
fn decapsulate_with_geneve(bytes: &Segments<'_>, wire_len: u32, tunnels: &Tunnels) -> Result<Layout, Reject> {
    match fast::decapsulate_geneve(bytes.first(), tunnels.geneve()) {
        Some(layout) => Ok(layout),
        None => general::decapsulate(bytes, wire_len, tunnels),
    }
}
