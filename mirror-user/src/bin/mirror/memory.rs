//! Checks before the start that a run fits the limit of its address space (`ulimit -v`): an allocation that
//! fails later aborts the process.

use mirror_user::host::limits::AddressSpace;

pub(crate) const MIB: u64 = 1 << 20;

/// Fails if this many bytes and threads, beside what is mapped already, may exceed the limit.
pub(crate) fn refuse_beyond_limit(bytes: u64, threads: u64) -> anyhow::Result<()> {
    /// A thread's stack, and the heap that glibc reserves for each thread.
    const THREAD: u64 = if cfg!(target_env = "gnu") { 66 * MIB } else { 2 * MIB };
    /// Buffers for programs, maps and files, and one heap that glibc reserves at twice its size.
    const BESIDE: u64 = 64 * MIB;
    let Some(limit) = AddressSpace::limit() else { return Ok(()) };
    let needed = AddressSpace::in_use()? + bytes + threads * THREAD + BESIDE;
    if needed <= limit {
        return Ok(());
    }
    Err(anyhow::anyhow!(
        "this run needs up to {} MiB of address space, and the limit is {}: raise it (`ulimit -v unlimited`, \
        in a unit file `LimitAS=infinity`), or use fewer `--queues` and outputs",
        needed.div_ceil(MIB),
        limit / MIB
    ))
}
