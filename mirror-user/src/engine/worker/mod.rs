//! Workers: a pinned thread for each RX queue, which takes batches off its ring, finds the inner frames,
//! hands them to the sinks, and counts.

mod hand_over;
mod handle;
mod orders;
mod priority;
mod ring;
mod setup;

pub(super) use hand_over::{announce, await_announcement, new_signal};
pub(super) use handle::{Worker, start_workers};
pub(super) use orders::{Order, Yield};
pub(super) use ring::{Control, Published, RingOutcome, died_of};
pub(super) use setup::{Common, Inherited, Origin};
