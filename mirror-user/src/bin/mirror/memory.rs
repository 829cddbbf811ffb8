//! Whether a run fits the limit of its address space (`ulimit -v`), told before it begins: memory that cannot
//! be had in the middle of it ends the process.

use mirror_user::host::limits::AddressSpace;

pub(crate) const MIB: u64 = 1 << 20;

/// Refuses what may take more than this process may map: so many bytes beside what is mapped by now, and
/// threads.
pub(crate) fn refuse_beyond_limit(bytes: u64, threads: u64) -> anyhow::Result<()> {
    /// Its stack, and the heap that glibc reserves for each thread.
    const THREAD: u64 = if cfg!(target_env = "gnu") { 66 * MIB } else { 2 * MIB };
    /// What programs, maps and files are read into, and one heap that is being reserved at twice its size.
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
