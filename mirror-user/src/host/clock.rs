//! Clocks of the host.

use nix::time::{ClockId, clock_gettime};

/// CLOCK_REALTIME in ns since the epoch.
pub(crate) fn realtime() -> u64 {
    nanoseconds(ClockId::CLOCK_REALTIME)
}

/// CLOCK_MONOTONIC in ns, the clock that the XDP program can read.
pub(crate) fn monotonic() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC)
}

/// What to add to CLOCK_MONOTONIC to have CLOCK_REALTIME. Sampled anew each tick,
/// because the latter is stepped and slewed.
pub(crate) fn realtime_offset() -> i64 {
    let before = monotonic();
    let realtime = nanoseconds(ClockId::CLOCK_REALTIME);
    let after = monotonic();
    realtime.wrapping_sub(before.midpoint(after)).cast_signed()
}

fn nanoseconds(clock: ClockId) -> u64 {
    // Both clocks are there on every Linux; the call fails only for clocks it does not know.
    clock_gettime(clock).map_or(0, |time| {
        time.tv_sec().unsigned_abs().wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec().unsigned_abs())
    })
}
