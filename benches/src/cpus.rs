//! The two CPUs of a run.

use std::{fs, str::FromStr};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sched::{CpuSet, sched_getaffinity},
    unistd::Pid,
};

/// Two CPUs, as `KERNEL,WORKER` on the command line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cpus {
    /// Sends and receives.
    pub kernel: usize,
    /// Runs only the worker, or the other tool.
    pub worker: usize,
}

impl FromStr for Cpus {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (kernel, worker) = text.split_once(',').context("two CPUs are needed, as in 0,1")?;
        let number = |text: &str| text.parse().with_context(|| format!("{text:?} is not a CPU"));
        let cpus = Self { kernel: number(kernel)?, worker: number(worker)? };
        ensure!(cpus.kernel != cpus.worker, "the two CPUs must differ");
        Ok(cpus)
    }
}

impl Cpus {
    /// The first usable CPU, and the first other one on another core.
    ///
    /// # Errors
    ///
    /// If only one CPU may be used.
    pub fn of_this_host() -> Result<Self> {
        let usable = usable()?;
        let [kernel, ref others @ ..] = usable[..] else { bail!("no CPU may be used") };
        let path = format!("/sys/devices/system/cpu/cpu{kernel}/topology/thread_siblings_list");
        // If the kernel does not list them, any other will do.
        let siblings = siblings(&fs::read_to_string(path).unwrap_or_default());
        let alone = others.iter().find(|cpu| !siblings.contains(cpu)).or(others.first());
        let worker = *alone.context("two CPUs are needed, and only one may be used")?;
        Ok(Self { kernel, worker })
    }

    /// # Errors
    ///
    /// If one of them may not be used.
    pub fn check(self) -> Result<()> {
        let usable = usable()?;
        for cpu in [self.kernel, self.worker] {
            ensure!(usable.contains(&cpu), "CPU {cpu} may not be used; these may: {usable:?}");
        }
        Ok(())
    }
}

/// The CPUs this process may run on.
fn usable() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("cannot ask which CPUs may be used")?;
    Ok((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect())
}

/// `0,4` or `0-1`, as sysfs lists them.
fn siblings(list: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_different_cpus_are_accepted() {
        assert_eq!("2,7".parse::<Cpus>().unwrap(), Cpus { kernel: 2, worker: 7 });
        for text in ["", "1", "1,1", "a,1", "1,2,3"] {
            assert!(text.parse::<Cpus>().is_err(), "{text}");
        }
    }

    #[test]
    fn threads_of_one_core_are_read_in_both_formats_of_the_kernel() {
        assert_eq!(siblings("0,4\n"), [0, 4]);
        assert_eq!(siblings("0-1\n"), [0, 1]);
        assert_eq!(siblings("").len(), 0);
    }

    #[test]
    fn a_cpu_that_is_not_there_is_refused() {
        let error = Cpus { kernel: 0, worker: 1_000_000 }.check().unwrap_err().to_string();
        assert!(error.starts_with("CPU 1000000 may not be used"), "{error}");
    }
}
