//! On which CPUs a thread runs: sched_setaffinity(2).

use std::{io, panic, thread};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// Runs an action on a thread of this name that keeps off these CPUs, if the process may use others. The
/// calling thread, which waits, keeps its CPUs, as do those that it starts later.
///
/// # Errors
///
/// The thread cannot be started.
pub(crate) fn keeping_off<T: Send>(
    cpus: &[usize],
    name: &str,
    action: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    let run = || {
        if let Err(error) = keep_off(cpus) {
            tracing::debug!(%error, name, "a thread does not keep off the CPUs of workers");
        }
        action()
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, run)?;
        Ok(thread.join().unwrap_or_else(|payload| panic::resume_unwind(payload)))
    })
}

/// Has the calling thread keep off these CPUs; it stays where it is if there are no others.
fn keep_off(cpus: &[usize]) -> io::Result<()> {
    let own = Pid::from_raw(0);
    let mut left = sched_getaffinity(own)?;
    for cpu in cpus {
        left.unset(*cpu)?;
    }
    if left == CpuSet::new() {
        return Ok(());
    }
    Ok(sched_setaffinity(own, &left)?)
}

/// Has the calling thread run on this CPU only.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<usize> {
        let set = sched_getaffinity(Pid::from_raw(0)).unwrap();
        (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap()).collect()
    }

    #[test]
    fn an_action_keeps_off_the_cpus_of_others_and_its_caller_does_not() {
        let before = own();
        let (last, others) = before.split_last().unwrap();
        let used = keeping_off(&[*last], "off-one", own).unwrap();
        // On the only one it has no choice.
        assert_eq!(used, if others.is_empty() { &before[..] } else { others });
        assert_eq!(keeping_off(&before, "off-all", own).unwrap(), before);
        assert_eq!(own(), before);
    }

    #[test]
    fn an_action_that_panics_does_so_in_its_caller() {
        let caught = panic::catch_unwind(|| keeping_off(&[], "panics", || panic!("on purpose")));
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"on purpose"));
    }
}
