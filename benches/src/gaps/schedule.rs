//! What the kernel's scheduler ran on a CPU: tracefs (Documentation/trace/ftrace.rst).

use std::{fs, io, path::PathBuf, str::FromStr};

use anyhow::{Context as _, Result, bail};

use super::Micros;
use crate::mounted::Mounted;

/// Of a CPU's buffer, for the events of about a minute.
const BUFFER_KIB: u32 = 128 << 10;
/// The name of a CPU's idle task begins so.
pub(super) const IDLE: &str = "swapper/";
/// Ours, beside whatever else is traced on this host.
const INSTANCE: &str = "instances/mirror-bench";

/// The moment from which a task has a CPU.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Switch {
    pub(super) at: Micros,
    /// Its name, `swapper/1` where CPU 1 is idle.
    pub(super) task: String,
}

/// Records the switches of a CPU until it is dropped.
pub(super) struct Recording {
    /// Where events are traced: on the CPU itself, and on that from which its tasks are woken.
    cpus: [usize; 2],
    instance: PathBuf,
    _tracefs: Mounted,
}

impl Recording {
    pub(super) fn start(cpu: usize, wakes: usize) -> Result<Self> {
        let tracefs = Mounted::new("tracefs", "")?;
        let instance = tracefs.path().join(INSTANCE);
        // A run that was killed has left its own.
        match fs::remove_dir(&instance) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error)
                    .context("another run of this records, or its trace instance cannot be removed");
            }
            _ => {}
        }
        fs::create_dir(&instance).context("no trace instance (needs CONFIG_FTRACE)")?;
        let recording = Self { cpus: [cpu, wakes], instance, _tracefs: tracefs };
        recording.put("tracing_on", "0")?;
        // The clock of the samples.
        recording.put("trace_clock", "mono")?;
        for cpu in recording.cpus {
            recording.put(&format!("per_cpu/cpu{cpu}/buffer_size_kb"), &BUFFER_KIB.to_string())?;
        }
        recording.put("events/sched/sched_switch/filter", &format!("CPU == {cpu}"))?;
        recording.put("events/sched/sched_wakeup/filter", &format!("target_cpu == {cpu}"))?;
        for event in ["sched_switch", "sched_wakeup"] {
            recording.put(&format!("events/sched/{event}/enable"), "1")?;
        }
        recording.put("tracing_on", "1")?;
        Ok(recording)
    }

    /// From when each task had the CPU, in their sequence.
    pub(super) fn finish(self) -> Result<Vec<Switch>> {
        self.put("tracing_on", "0")?;
        for cpu in self.cpus {
            let lost = self.get(&format!("per_cpu/cpu{cpu}/stats"))?;
            if !lost.lines().any(|line| line == "overrun: 0") {
                bail!("CPU {cpu} had more events than {BUFFER_KIB} KiB of trace hold:\n{lost}");
            }
        }
        let text = self.get("trace")?;
        let events: Vec<Event> = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .map(str::parse)
            .collect::<Result<_>>()?;
        Ok(switches(events))
    }

    fn put(&self, name: &str, value: &str) -> Result<()> {
        fs::write(self.instance.join(name), value).with_context(|| format!("tracefs: {value:?} to {name}"))
    }

    fn get(&self, name: &str) -> Result<String> {
        fs::read_to_string(self.instance.join(name)).with_context(|| format!("tracefs: {name}"))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.instance) {
            eprintln!("bench: the trace instance mirror-bench is left: {error}");
        }
    }
}

/// What the kernel traced.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Event {
    /// The CPU was given to a task.
    Switched(Switch),
    /// A task was made runnable.
    Woken(Switch),
}

/// The kernel may not trace the switch from the idle task: the first one that is woken gets the CPU.
fn switches(events: Vec<Event>) -> Vec<Switch> {
    let mut switches: Vec<Switch> = Vec::new();
    for event in events {
        match event {
            Event::Switched(switch) => switches.push(switch),
            Event::Woken(woken) => {
                if switches.last().is_some_and(|last| last.task.starts_with(IDLE)) {
                    switches.push(woken);
                }
            }
        }
    }
    switches
}

impl FromStr for Event {
    type Err = anyhow::Error;

    /// `q0-rx0-9186 [001] d..2. 15340.328026: sched_switch: prev_comm=… ==> next_comm=… next_pid=…` and
    /// `<idle>-0 [001] dNh4. 15340.328071: sched_wakeup: comm=… pid=… prio=… target_cpu=001`
    fn from_str(line: &str) -> Result<Self> {
        let event = || {
            let (head, event) = line.split_once(": sched_")?;
            let (seconds, micros) = head.rsplit_once(' ')?.1.split_once('.')?;
            let (seconds, micros): (Micros, Micros) = (seconds.parse().ok()?, micros.parse().ok()?);
            let at = seconds * 1_000_000 + micros;
            let of = |task: &str| Switch { at, task: task.to_owned() };
            if let Some(woken) = event.strip_prefix("wakeup: comm=") {
                return Some(Self::Woken(of(woken.rsplit_once(" pid=")?.0)));
            }
            let (task, _) = event.split_once(" ==> next_comm=")?.1.rsplit_once(" next_pid=")?;
            Some(Self::Switched(of(task)))
        };
        event().with_context(|| format!("not an event: {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switch(at: Micros, task: &str) -> Switch {
        Switch { at, task: task.into() }
    }

    #[test]
    fn lines_of_the_trace() {
        let line = "  q0-rx0-9186    [001] d..2. 15340.328026: sched_switch: prev_comm=q0-rx0 prev_pid=9186 \
                    prev_prio=98 prev_state=S ==> next_comm=a b=c next_pid=9194 next_prio=120";
        assert_eq!(line.parse::<Event>().unwrap(), Event::Switched(switch(15_340_328_026, "a b=c")));
        let line = "  <idle>-0       [001] dNH4. 16153.408039: sched_wakeup: comm=a pid=b pid=15 prio=120 \
                    target_cpu=001";
        assert_eq!(line.parse::<Event>().unwrap(), Event::Woken(switch(16_153_408_039, "a pid=b")));
        assert!("CPU:1 [LOST 3 EVENTS]".parse::<Event>().is_err());
    }

    #[test]
    fn a_task_that_is_woken_has_the_cpu_if_that_is_idle() {
        let events = vec![
            Event::Woken(switch(1, "a")),
            Event::Switched(switch(2, "swapper/1")),
            Event::Woken(switch(3, "a")),
            Event::Woken(switch(4, "b")),
            Event::Switched(switch(5, "b")),
        ];
        let expected = [switch(2, "swapper/1"), switch(3, "a"), switch(5, "b")];
        assert_eq!(switches(events), expected);
    }
}
