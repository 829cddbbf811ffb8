//! Settings of an interface that busy polling wants changed while it runs, and their way back.

use std::{fs, path::PathBuf};

use super::{HostError, interface::Interface, read_text};

/// How long the kernel leaves a queue's interrupt off for the sake of a polling process.
///
/// See `Documentation/networking/napi.rst`, "IRQ mitigation" and "Busy polling"; kernel 5.10 and later. With both at 0, the
/// kernel's default, interrupts come back after each poll and softirq competes with the worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BusyPollTunables {
    /// Empty polls before the interrupt is on again.
    pub napi_defer_hard_irqs: u32,
    /// Nanoseconds after which the kernel polls by itself if nobody else did.
    pub gro_flush_timeout: u64,
}

impl Default for BusyPollTunables {
    /// What the kernel's documentation of AF_XDP busy polling uses: 2 and 200 µs.
    fn default() -> Self {
        Self { napi_defer_hard_irqs: 2, gro_flush_timeout: 200_000 }
    }
}

/// Holds an interface's settings changed; puts the old values back when dropped.
#[derive(Debug)]
#[must_use = "the old values come back when this is dropped"]
pub struct TunablesGuard {
    /// Files with the value each had, in the order they were changed.
    changed: Vec<(PathBuf, String)>,
}

impl TunablesGuard {
    /// Sets `tunables` on `interface`.
    ///
    /// # Errors
    ///
    /// When `/sys` shows another network namespace, or a file is not there (kernel before 5.10) or not writable; what had
    /// been changed until then is put back.
    pub fn set(interface: &Interface, tunables: BusyPollTunables) -> Result<Self, HostError> {
        if !interface.sysfs_is_ours() {
            return Err(HostError::OtherNamespace { interface: interface.name.clone() });
        }
        let file = |name: &str| PathBuf::from(format!("/sys/class/net/{}/{name}", interface.name));
        let wanted = [
            (file("napi_defer_hard_irqs"), tunables.napi_defer_hard_irqs.to_string()),
            (file("gro_flush_timeout"), tunables.gro_flush_timeout.to_string()),
        ];
        let mut guard = Self { changed: Vec::with_capacity(wanted.len()) };
        for (path, value) in wanted {
            let old = read_text(&path)?;
            if old != value {
                write(&path, &value)?;
                guard.changed.push((path, old));
            }
        }
        Ok(guard)
    }

    /// Puts the old values back.
    ///
    /// # Errors
    ///
    /// When a file is not writable, the interface being gone for one; the others are put back nonetheless.
    pub fn restore(mut self) -> Result<(), HostError> {
        self.put_back()
    }

    fn put_back(&mut self) -> Result<(), HostError> {
        let mut result = Ok(());
        for (path, old) in self.changed.drain(..).rev() {
            result = result.and(write(&path, &old));
        }
        result
    }
}

impl Drop for TunablesGuard {
    fn drop(&mut self) {
        if let Err(error) = self.put_back() {
            tracing::warn!(%error, "a setting of the interface was not put back");
        }
    }
}

fn write(path: &std::path::Path, value: &str) -> Result<(), HostError> {
    fs::write(path, value).map_err(|source| HostError::Write {
        path: path.into(),
        value: value.to_owned(),
        source,
    })
}
