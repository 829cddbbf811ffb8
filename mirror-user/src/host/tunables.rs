//! Settings of an interface that busy polling changes during a run, and their restoration.
//!
//! A run that ends restores them itself. For one that is killed, the originals are in a
//! [record](super::run_state), from before the first change on: the next start in this network namespace
//! restores them ([`recover`]), and the doctor names them until then ([`left`]). They are all that a run
//! changes on a host and the kernel does not undo with the process.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::PathBuf, process};

use serde::{Deserialize, Serialize};

use super::{
    HostError,
    interface::{Interface, interfaces},
    read_text,
    run_state::{Found, Record, Store, Writing},
};

/// How long the kernel leaves a queue's interrupt off for a polling process.
///
/// See `Documentation/networking/napi.rst`, "IRQ mitigation" and "Busy polling". Minimum kernel version:
/// 5.10. With both at 0, the kernel's default, interrupts come back after each poll and softirq competes with
/// the worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct BusyPollTunables {
    /// Empty polls before the interrupt is on again.
    pub napi_defer_hard_irqs: u32,
    /// Nanoseconds after which the kernel polls if no process did.
    pub gro_flush_timeout: u64,
}

impl Default for BusyPollTunables {
    /// What the kernel's documentation of AF_XDP busy polling uses: 2 and 200 µs.
    fn default() -> Self {
        Self { napi_defer_hard_irqs: 2, gro_flush_timeout: 200_000 }
    }
}

/// A setting of an interface: a file in `/sys/class/net/INTERFACE`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Tunable {
    NapiDeferHardIrqs,
    GroFlushTimeout,
}

impl Tunable {
    const fn name(self) -> &'static str {
        match self {
            Self::NapiDeferHardIrqs => "napi_defer_hard_irqs",
            Self::GroFlushTimeout => "gro_flush_timeout",
        }
    }

    fn path(self, interface: &str) -> PathBuf {
        PathBuf::from(format!("/sys/class/net/{interface}/{}", self.name()))
    }

    fn read(self, interface: &str) -> Result<u64, HostError> {
        let text = read_text(self.path(interface))?;
        text.parse().map_err(|_| HostError::Unexpected { what: "a setting of an interface", text })
    }

    fn write(self, interface: &str, value: u64) -> Result<(), HostError> {
        let (path, value) = (self.path(interface), value.to_string());
        fs::write(&path, &value).map_err(|source| HostError::Write { path, value, source })
    }
}

/// A setting that a run changes. Numbers only, so that a record cannot make the next start write anything
/// else.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Change {
    setting: Tunable,
    before: u64,
    set: u64,
}

/// The record that a run writes before it changes an interface.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Originals {
    /// Always `mirror.state/1`.
    schema: String,
    /// Settings do not outlive the boot, even if the file does.
    boot: String,
    /// The inode of the network namespace.
    netns: u64,
    ifindex: u32,
    /// For people; an interface may be renamed.
    interface: String,
    /// The inode of its directory in sysfs, which no other has in this boot, whatever its name, index and
    /// namespace.
    device: u64,
    /// The process, for people: it holds a lock as long as it lives.
    pid: u32,
    changes: Vec<Change>,
}

const SCHEMA: &str = "mirror.state/1";

impl Originals {
    fn of(interface: &Interface, changes: Vec<Change>) -> Result<Self, HostError> {
        Ok(Self {
            schema: SCHEMA.to_owned(),
            boot: boot()?,
            netns: network_namespace()?,
            ifindex: interface.index,
            interface: interface.name.clone(),
            device: device(&interface.name)?,
            pid: process::id(),
            changes,
        })
    }

    /// The name of its record.
    fn key(&self) -> String {
        key(self.netns, self.ifindex)
    }

    /// What a record holds; or why it cannot be read.
    fn in_record(found: &Found) -> Result<Self, String> {
        let text = found.content.as_ref().map_err(ToString::to_string)?;
        let originals: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if originals.schema == SCHEMA { Ok(originals) } else { Err("it is of another version".to_owned()) }
    }
}

fn key(netns: u64, ifindex: u32) -> String {
    format!("net-{netns}-{ifindex}.json")
}

fn boot() -> Result<String, HostError> {
    read_text("/proc/sys/kernel/random/boot_id")
}

fn inode(path: PathBuf) -> Result<u64, HostError> {
    match fs::metadata(&path) {
        Ok(file) => Ok(file.ino()),
        Err(source) => Err(HostError::Read { path, source }),
    }
}

/// Of the thread's namespace, as everything here.
fn network_namespace() -> Result<u64, HostError> {
    inode("/proc/thread-self/ns/net".into())
}

fn device(interface: &str) -> Result<u64, HostError> {
    inode(format!("/sys/class/net/{interface}").into())
}

/// Keeps an interface's settings changed; restores the old values when dropped.
#[derive(Debug)]
#[must_use = "the old values come back when this is dropped"]
pub struct TunablesGuard {
    interface: Interface,
    /// What was changed, in sequence.
    changed: Vec<Change>,
    record: Option<Record>,
}

impl TunablesGuard {
    /// Sets `tunables` on `interface`, after recording the old values. If they cannot be recorded (a
    /// read-only `/run`), it logs a warning.
    ///
    /// # Errors
    ///
    /// When `/sys` shows another network namespace, another run holds the interface's settings, or a file is
    /// not there (kernel before 5.10) or not writable; what had been changed until then is restored.
    pub fn set(interface: &Interface, tunables: BusyPollTunables) -> Result<Self, HostError> {
        if !interface.sysfs_is_ours() {
            return Err(HostError::OtherNamespace { interface: interface.name.clone() });
        }
        let store = Store::make();
        // No other start reads a state in between.
        let writing = store.as_ref().map_err(io_error_again).and_then(Store::write);
        if let Ok(writing) = &writing {
            put_back_left(writing, std::slice::from_ref(interface));
            refuse_held(writing, interface)?;
        }
        let wanted = [
            (Tunable::NapiDeferHardIrqs, u64::from(tunables.napi_defer_hard_irqs)),
            (Tunable::GroFlushTimeout, tunables.gro_flush_timeout),
        ];
        let mut changes = Vec::with_capacity(wanted.len());
        for (setting, set) in wanted {
            let before = setting.read(&interface.name)?;
            if before != set {
                changes.push(Change { setting, before, set });
            }
        }
        let mut guard = Self { interface: interface.clone(), changed: Vec::new(), record: None };
        if changes.is_empty() {
            return Ok(guard);
        }
        let originals = Originals::of(interface, changes.clone())?;
        match writing.and_then(|writing| hold(&writing, &originals)) {
            Ok(record) => guard.record = Some(record),
            Err(error) => tracing::warn!(
                "{}: what busy polling changes is not restored if this run is killed: {}: {error}",
                interface.name,
                super::run_state::DIRECTORY
            ),
        }
        for change in changes {
            change.setting.write(&interface.name, change.set)?;
            guard.changed.push(change);
        }
        Ok(guard)
    }

    /// Restores the old values.
    ///
    /// # Errors
    ///
    /// When a file is not writable, the interface being gone for one; the others are restored nonetheless.
    pub fn restore(mut self) -> Result<(), HostError> {
        self.put_back()
    }

    fn put_back(&mut self) -> Result<(), HostError> {
        if self.changed.is_empty() && self.record.is_none() {
            return Ok(());
        }
        // It may have been renamed.
        let name = name_now(&self.interface);
        let mut result = Ok(());
        for change in self.changed.drain(..).rev() {
            result = result.and(change.setting.write(&name, change.before));
        }
        // The next start retries what could not be restored.
        if result.is_ok()
            && let Some(Err(error)) = self.record.take().map(Record::remove)
        {
            tracing::debug!(%error, "the record of settings");
        }
        result
    }
}

impl Drop for TunablesGuard {
    fn drop(&mut self) {
        if let Err(error) = self.put_back() {
            tracing::warn!(%error, "a setting of the interface was not restored");
        }
    }
}

fn io_error_again(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

fn hold(writing: &Writing<'_>, originals: &Originals) -> io::Result<Record> {
    writing.hold(&originals.key(), &serde_json::to_string(originals)?)
}

/// The name of an interface that may have been renamed since.
fn name_now(interface: &Interface) -> String {
    let all = interfaces().unwrap_or_default();
    let same = all.into_iter().find(|other| other.index == interface.index);
    same.map_or_else(|| interface.name.clone(), |same| same.name)
}

/// Of two runs that both restore settings, the second would restore what the first had changed.
fn refuse_held(writing: &Writing<'_>, interface: &Interface) -> Result<(), HostError> {
    let own = device(&interface.name)?;
    let records = writing.records().unwrap_or_default();
    let mut held =
        records.iter().filter(|found| found.held).filter_map(|found| Originals::in_record(found).ok());
    match held.find(|originals| originals.device == own) {
        Some(originals) => {
            Err(HostError::SettingsHeld { interface: interface.name.clone(), pid: originals.pid })
        }
        None => Ok(()),
    }
}

/// Restores what runs that were killed had changed on interfaces that are now in the calling thread's network
/// namespace. What cannot be restored is logged, and does not prevent a start.
pub fn recover() {
    let writing = match Store::find() {
        Ok(None) => return,
        Ok(Some(store)) => store,
        Err(error) => {
            tracing::warn!("{}: what killed runs changed is not known: {error}", super::run_state::DIRECTORY);
            return;
        }
    };
    match (writing.write(), interfaces()) {
        (Ok(writing), Ok(interfaces)) => put_back_left(&writing, &interfaces),
        (Err(error), _) => {
            tracing::warn!(
                "{}: what killed runs changed is not restored: {error}",
                crate::escape::path(writing.path())
            );
        }
        (_, Err(error)) => tracing::warn!(%error, "what killed runs changed is not restored"),
    }
}

/// The most records of dead runs that are kept for interfaces that are not here: they may be in another
/// network namespace, or gone.
const KEPT: usize = 256;

fn put_back_left(writing: &Writing<'_>, interfaces: &[Interface]) {
    let records = match writing.records() {
        Ok(records) => records,
        Err(error) => {
            tracing::warn!(%error, "what killed runs changed is not known");
            return;
        }
    };
    let now = boot().unwrap_or_default();
    let mut elsewhere = 0;
    for found in records.iter().filter(|found| !found.held) {
        let done = match Originals::in_record(found) {
            Err(reason) => {
                let place = writing.path().join(&found.name);
                tracing::warn!(
                    "{}: what a killed run changed is not known: {reason}",
                    crate::escape::path(&place)
                );
                continue;
            }
            // The values ended with the boot.
            Ok(originals) if originals.boot != now => true,
            Ok(originals) => match interfaces.iter().find(|one| is_same(one, &originals)) {
                Some(interface) => put_back_originals(&interface.name, &originals),
                None => {
                    elsewhere += 1;
                    elsewhere > KEPT
                }
            },
        };
        if done && let Err(error) = writing.remove(&found.name) {
            tracing::warn!(%error, "a record of settings that were restored remains: {}", found.name);
        }
    }
}

fn is_same(interface: &Interface, originals: &Originals) -> bool {
    interface.sysfs_is_ours() && device(&interface.name).is_ok_and(|device| device == originals.device)
}

/// Restores what a dead run changed, except what was changed again since. Returns whether no write failed.
fn put_back_originals(interface: &str, originals: &Originals) -> bool {
    let mut all = true;
    for &Change { setting, before, set } in originals.changes.iter().rev() {
        let name = setting.name();
        let put_back = setting.read(interface).and_then(|now| match now == set {
            true => setting.write(interface, before).map(|()| true),
            false => Ok(false),
        });
        match put_back {
            Ok(true) => tracing::warn!(
                "{interface}: {name} is restored to {before}: a run that was killed (process {}) had set it \
                to {set}",
                originals.pid
            ),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!("{interface}: {name} is not restored to {before}: {error}");
                all = false;
            }
        }
    }
    all
}

/// A setting that has the value of a run of this engine while no such run is alive.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LeftSetting {
    /// Its name in `/sys/class/net/INTERFACE`.
    pub name: String,
    /// Its value.
    pub value: u64,
    /// Its value before the run that left it; `None` where there is no record, and another program may have
    /// set it.
    pub before: Option<u64>,
    /// The process that left it, where there is a record.
    pub pid: Option<u32>,
}

/// Settings that killed runs left on an interface. Changes nothing, and takes no lock.
///
/// # Errors
///
/// When the settings, or a record of them, cannot be read: records are root's.
pub fn left(interface: &Interface) -> Result<Vec<LeftSetting>, HostError> {
    if !interface.sysfs_is_ours() {
        return Err(HostError::OtherNamespace { interface: interface.name.clone() });
    }
    let unreadable = |source| HostError::Read { path: super::run_state::DIRECTORY.into(), source };
    let records = match Store::find().map_err(unreadable)? {
        Some(store) => store.records().map_err(unreadable)?,
        None => Vec::new(),
    };
    let (own, now) = (key(network_namespace()?, interface.index), boot()?);
    let mut of_dead = None;
    for found in records {
        match (Originals::in_record(&found), found.content) {
            (Ok(originals), _) if originals.boot == now && is_same(interface, &originals) => {
                if found.held {
                    return Ok(Vec::new());
                }
                of_dead = Some(originals);
            }
            (Err(_), Err(source)) if found.name == own => return Err(unreadable(source)),
            _ => {}
        }
    }
    match of_dead {
        Some(originals) => Ok(still_changed(interface, &originals)),
        None => as_busy_polling_sets(interface),
    }
}

fn still_changed(interface: &Interface, originals: &Originals) -> Vec<LeftSetting> {
    let unchanged =
        |change: &&Change| change.setting.read(&interface.name).is_ok_and(|now| now == change.set);
    let left = originals.changes.iter().filter(unchanged).map(|change| LeftSetting {
        name: change.setting.name().to_owned(),
        value: change.set,
        before: Some(change.before),
        pid: Some(originals.pid),
    });
    left.collect()
}

/// Without a record: both, exactly as busy polling sets them.
fn as_busy_polling_sets(interface: &Interface) -> Result<Vec<LeftSetting>, HostError> {
    let BusyPollTunables { napi_defer_hard_irqs, gro_flush_timeout } = BusyPollTunables::default();
    let wanted = [
        (Tunable::NapiDeferHardIrqs, u64::from(napi_defer_hard_irqs)),
        (Tunable::GroFlushTimeout, gro_flush_timeout),
    ];
    let mut left = Vec::new();
    for (setting, set) in wanted {
        // Kernels before 5.10 have no such files.
        if !setting.path(&interface.name).exists() || setting.read(&interface.name)? != set {
            return Ok(Vec::new());
        }
        left.push(LeftSetting { name: setting.name().to_owned(), value: set, before: None, pid: None });
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn originals() -> Originals {
        Originals {
            schema: SCHEMA.to_owned(),
            boot: "a".to_owned(),
            netns: 4_026_531_840,
            ifindex: 7,
            interface: "ens6".to_owned(),
            device: 442_518,
            pid: 1,
            changes: vec![Change { setting: Tunable::GroFlushTimeout, before: 0, set: 200_000 }],
        }
    }

    fn found(content: &str) -> Found {
        Found { name: String::new(), content: Ok(content.to_owned()), held: false }
    }

    #[test]
    fn originals_survive_their_record() {
        let text = serde_json::to_string(&originals()).unwrap();
        assert_eq!(Originals::in_record(&found(&text)), Ok(originals()));
        assert_eq!(originals().key(), "net-4026531840-7.json");
    }

    #[test]
    fn a_record_names_nothing_but_known_settings_and_numbers() {
        let text = serde_json::to_string(&originals()).unwrap();
        for (part, other) in [
            ("gro_flush_timeout", "../../../../etc/passwd"),
            ("\"before\":0", "\"before\":\"0\\n1\""),
            (SCHEMA, "mirror.state/2"),
        ] {
            let text = text.replace(part, other);
            assert!(Originals::in_record(&found(&text)).is_err(), "{text}");
        }
        for text in ["", "{}", "null", "\u{1b}[2J"] {
            assert!(Originals::in_record(&found(text)).is_err(), "{text}");
        }
    }
}
