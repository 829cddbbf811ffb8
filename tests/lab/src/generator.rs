//! Traffic at kernel speed: an XDP program generates frames and redirects them to an interface.
//!
//! `BPF_PROG_TEST_RUN` with live frames (kernel 5.18) runs the program on a page of the kernel's own per
//! frame and carries out its redirect, so that a core sends millions of frames a second without a copy from
//! user space.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use aya::{
    Ebpf, EbpfLoader, TestRunOptions,
    maps::{Map, PerCpuArray, PerCpuValues},
    programs::{TestRun as _, TestRunAttrs, Xdp},
};
use mirror_ebpf::{GENERATOR_OBJECT, generator as abi};
use nix::{
    net::if_::if_nametoindex,
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use crate::{
    error::{LabError, Result},
    frames::{ENCAPSULATION, Outer, inner_udp},
    namespace::Namespace,
};

/// Frames of a batch, generated and redirected with softirqs off; the receiver runs between two batches.
const BATCH: u64 = 64;
/// Batches a second and thread at a limited rate, where frames are waited for with softirqs off: 100 us each.
const LIMITED_BATCHES: u64 = 10_000;
/// Most frames of one system call: a stop waits no longer than this, about 0.2 s. Each call pauses for about
/// 25 ms at its end, while the kernel takes its pages back.
pub const ONE_CALL: u64 = 1 << 20;
/// The same at a limited rate, in seconds; the program makes up for the pause.
pub const ONE_LIMITED_CALL: u64 = 2;
/// The lowest rate of a thread, frames a second; what is slower is for the [`Injector`](crate::Injector).
pub const MIN_RATE: u64 = 1_000_000_000 / abi::MAX_INTERVAL_NS;
/// The longest frame that a test run on live frames takes: a page less the kernel's headroom, its skb trailer
/// and its own state of the frame, 3,408 bytes in 6.18, rounded.
pub const MAX_FRAME: usize = 3_400;
/// The shortest frame that holds a sequence number, in bytes of the outer frame.
pub const MIN_FRAME: usize = abi::MIN_FRAME;

/// What to send. The kernel sends the same pages again: outer headers that a receiver overwrites in place
/// stay so in later frames, but for what is numbered.
#[derive(Clone, Debug)]
#[must_use]
pub struct Traffic {
    /// Bytes of the outer frame, [`MIN_FRAME`] to [`MAX_FRAME`].
    pub frame_len: usize,
    /// Different inner (and outer) flows, 1 to 16384, frame by frame in turn.
    pub flows: u32,
    /// Different VNIs, at least 1, frame by frame in turn.
    pub vnis: u32,
    /// The first VNI; the others follow it.
    pub vni_base: u32,
    /// Frames a second over all threads, at least [`MIN_RATE`] for each; `None` is full speed. The program
    /// paces each frame and makes up for late ones at no more than four times the rate; each sending CPU is
    /// always busy.
    pub rate: Option<u64>,
    /// A sending thread on each of these CPUs. On veth a frame's RX queue is the CPU modulo the number of
    /// queues.
    pub cpus: Vec<usize>,
}

impl Default for Traffic {
    /// 114-byte frames of 64 flows in VNI 12345 from CPU 0, at full speed.
    fn default() -> Self {
        Self { frame_len: 114, flows: 64, vnis: 1, vni_base: 12345, rate: None, cpus: vec![0] }
    }
}

impl Traffic {
    fn rate_per_cpu(&self) -> Option<u64> {
        self.rate.map(|rate| rate / (self.cpus.len() as u64).max(1))
    }
}

/// What was sent, from the program's own counters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generated {
    /// Frames by CPU, in the order of [`Traffic::cpus`].
    pub per_cpu: Vec<(usize, u64)>,
    /// From before the first system call to after the last one.
    pub elapsed: Duration,
    /// Frames a second from the first to the last that the program took the time of, over all CPUs: where one
    /// system call was enough ([`ONE_CALL`]), without what it does before and after, which takes some 25 ms.
    /// 0 for fewer frames than there are between two of those.
    pub sending_rate: f64,
}

impl Generated {
    /// Frames over all CPUs.
    pub fn total(&self) -> u64 {
        self.per_cpu.iter().map(|(_, frames)| frames).sum()
    }

    /// Frames a second over all CPUs.
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a figure to print or to compare within per cents")]
        let frames = self.total() as f64;
        frames / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// The generator, loaded and bound to an interface. Sequence numbers go on from one [`send`](Self::send) to
/// the next.
#[derive(Debug)]
pub struct Generator {
    ebpf: Ebpf,
    /// Apart from the rest, because writing a map takes it by exclusive reference.
    pace: Mutex<Map>,
    /// As above.
    marks: Mutex<Map>,
    namespace: Namespace,
    traffic: Traffic,
    template: Vec<u8>,
}

impl Generator {
    /// Loads the program for `interface` in `namespace`.
    ///
    /// # Errors
    ///
    /// [`LabError::Unexpected`] if the traffic is out of bounds, [`LabError::Io`] if there is no such
    /// interface, [`LabError::Bpf`] if the kernel refuses the program.
    pub fn load(namespace: &Namespace, interface: &str, traffic: Traffic) -> Result<Self> {
        let interval = interval_ns(&traffic)?;
        let index = namespace.enter(|| if_nametoindex(interface))?;
        let index =
            index.map_err(|error| LabError::io(format!("{interface} in {}", namespace.name()), error))?;
        let mut ebpf = EbpfLoader::new()
            .override_global(abi::SETTING_IFINDEX, &index, true)
            .override_global(abi::SETTING_FLOWS, &traffic.flows, true)
            .override_global(abi::SETTING_VNIS, &traffic.vnis, true)
            .override_global(abi::SETTING_VNI_BASE, &traffic.vni_base, true)
            .override_global(abi::SETTING_INTERVAL_NS, &interval, true)
            .load(GENERATOR_OBJECT)
            .map_err(|error| LabError::bpf("the generator's object", error))?;
        let program: &mut Xdp = ebpf
            .program_mut(abi::PROGRAM)
            .ok_or_else(|| missing(abi::PROGRAM))?
            .try_into()
            .map_err(|error| LabError::bpf(abi::PROGRAM, error))?;
        program.load().map_err(|error| LabError::bpf("loading the generator", error))?;
        let template = template(traffic.frame_len)?;
        let pace = ebpf.take_map(abi::MAP_PACE).ok_or_else(|| missing(abi::MAP_PACE))?;
        let marks = ebpf.take_map(abi::MAP_MARKS).ok_or_else(|| missing(abi::MAP_MARKS))?;
        let (pace, marks) = (Mutex::new(pace), Mutex::new(marks));
        Ok(Self { ebpf, pace, marks, namespace: namespace.clone(), traffic, template })
    }

    /// Sends exactly `frames` frames, split evenly over the CPUs, and returns the program's counts.
    ///
    /// # Errors
    ///
    /// [`LabError::Bpf`] if a run fails; what was sent before has been sent.
    pub fn send(&self, frames: u64) -> Result<Generated> {
        self.send_until(frames, &AtomicBool::new(false))
    }

    /// As [`send`](Self::send), but ends early, between two system calls, once `stop` is set.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_until(&self, frames: u64, stop: &AtomicBool) -> Result<Generated> {
        let before = self.generated()?;
        // A pause between two sends must not be made up for.
        zero::<abi::Pace>(&self.pace, abi::MAP_PACE, before.len())?;
        zero::<abi::Marks>(&self.marks, abi::MAP_MARKS, before.len())?;
        let threads = self.traffic.cpus.len() as u64;
        let start = Instant::now();
        thread::scope(|scope| {
            let running: Vec<_> = self
                .traffic
                .cpus
                .iter()
                .zip(0..)
                .map(|(cpu, place)| {
                    // The first ones take the remainder.
                    let share = frames / threads + u64::from(place < frames % threads);
                    scope.spawn(move || self.run_on(*cpu, share, stop))
                })
                .collect();
            let ended = running
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            // Every thread is waited for before the first error is returned.
            ended.collect::<Vec<_>>().into_iter().collect::<Result<()>>()
        })?;
        let elapsed = start.elapsed();
        let after = self.generated()?;
        let per_cpu = self.traffic.cpus.iter().map(|cpu| {
            let count = |counts: &[u64]| counts.get(*cpu).copied().unwrap_or_default();
            (*cpu, count(&after) - count(&before))
        });
        Ok(Generated { per_cpu: per_cpu.collect(), elapsed, sending_rate: self.sending_rate()? })
    }

    /// Sends in the background, until all are sent or it is stopped.
    pub fn start(self, frames: u64) -> RunningGenerator {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let generated = self.send_until(frames, &stop);
                (self, generated)
            }
        });
        RunningGenerator { stop, thread: Some(thread) }
    }

    /// Frames generated so far by CPU number, from the program's map.
    ///
    /// # Errors
    ///
    /// [`LabError::Bpf`] if the map cannot be read.
    pub fn generated(&self) -> Result<Vec<u64>> {
        let name = abi::MAP_GENERATED;
        let map = self.ebpf.map(name).ok_or_else(|| missing(name))?;
        let map = PerCpuArray::<_, u64>::try_from(map).map_err(|error| LabError::bpf(name, error))?;
        let values = map.get(&0, 0).map_err(|error| LabError::bpf(name, error))?;
        Ok(values.to_vec())
    }

    fn sending_rate(&self) -> Result<f64> {
        let name = abi::MAP_MARKS;
        let failed = |error| LabError::bpf(name, error);
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let marks = PerCpuArray::<_, abi::Marks>::try_from(&*marks).map_err(failed)?;
        let rate = |[first, last, count]: &abi::Marks| {
            let frames = count.saturating_sub(1) * abi::MARK_EVERY;
            #[expect(
                clippy::cast_precision_loss,
                reason = "a figure to print or to compare within per cents"
            )]
            let rate = frames as f64 * 1e9 / (last - first).max(1) as f64;
            rate
        };
        Ok(marks.get(&0, 0).map_err(failed)?.iter().map(rate).sum())
    }

    fn run_on(&self, cpu: usize, frames: u64, stop: &AtomicBool) -> Result<()> {
        self.namespace.join_this_thread()?;
        let mut cpus = CpuSet::new();
        cpus.set(cpu)
            .and_then(|()| sched_setaffinity(Pid::from_raw(0), &cpus))
            .map_err(|error| LabError::io(format!("cannot run on CPU {cpu}"), error))?;
        let program: &Xdp = self
            .ebpf
            .program(abi::PROGRAM)
            .ok_or_else(|| missing(abi::PROGRAM))?
            .try_into()
            .map_err(|error| LabError::bpf(abi::PROGRAM, error))?;
        let (longest, batch) = match self.traffic.rate_per_cpu() {
            None => (ONE_CALL, BATCH),
            Some(rate) => (rate * ONE_LIMITED_CALL, (rate / LIMITED_BATCHES).clamp(1, BATCH)),
        };
        let batch = u32::try_from(batch).unwrap_or(1);
        let mut sent = 0;
        while sent < frames && !stop.load(Ordering::Relaxed) {
            let repeat = u32::try_from(longest.min(frames - sent)).unwrap_or(u32::MAX);
            let options = TestRunOptions {
                data_in: Some(&self.template),
                repeat,
                attrs: TestRunAttrs::new().xdp_live_frames(batch),
                ..TestRunOptions::new()
            };
            program
                .test_run(options)
                .map_err(|error| LabError::bpf(format!("{repeat} live frames"), error))?;
            sent += u64::from(repeat);
        }
        Ok(())
    }
}

/// A running [`Generator`]. Dropping it stops it and waits.
#[derive(Debug)]
pub struct RunningGenerator {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<(Generator, Result<Generated>)>>,
}

impl RunningGenerator {
    /// Whether it has sent all its frames or failed.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(thread::JoinHandle::is_finished)
    }

    /// Stops it and returns what it sent.
    ///
    /// # Errors
    ///
    /// As [`Generator::send`].
    pub fn stop(self) -> Result<Generated> {
        self.stop.store(true, Ordering::Relaxed);
        self.wait()
    }

    /// Waits until all are sent and returns what it sent.
    ///
    /// # Errors
    ///
    /// As [`Generator::send`].
    pub fn wait(mut self) -> Result<Generated> {
        let Some(thread) = self.thread.take() else { return Ok(Generated::default()) };
        let (_, generated) = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        generated
    }
}

impl Drop for RunningGenerator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("lab: the generator's thread panicked");
        }
    }
}

/// Nanoseconds between two frames of a CPU, 0 without a limit, once the traffic has been found to be
/// possible.
fn interval_ns(traffic: &Traffic) -> Result<u64> {
    let Traffic { frame_len, flows, vnis, vni_base, rate: _, cpus } = traffic;
    let rate = traffic.rate_per_cpu();
    let wrong = if !(MIN_FRAME..=MAX_FRAME).contains(frame_len) {
        format!("frames of {frame_len} bytes; {MIN_FRAME} to {MAX_FRAME} can be generated")
    } else if !(1..=abi::MAX_FLOWS).contains(flows) {
        format!("{flows} flows; 1 to {} can be generated", abi::MAX_FLOWS)
    } else if *vnis == 0 || u64::from(*vnis) + u64::from(*vni_base) > 1 << 24 {
        format!("{vnis} VNIs from {vni_base}; at least one, and all below 2^24")
    } else if cpus.is_empty() {
        "no CPU to send from".to_owned()
    } else if let Some(rate) = rate.filter(|rate| *rate < MIN_RATE) {
        format!("{rate} frames/s on each CPU; it sends at least {MIN_RATE}")
    } else {
        return Ok(rate.map_or(0, |rate| 1_000_000_000 / rate));
    };
    Err(LabError::Unexpected(format!("the generator was asked for {wrong}")))
}

/// A frame whose lengths and checksums are right and stay so under the program's edits: inner flow and its
/// complement in the addresses, no UDP checksum on either level.
fn template(len: usize) -> Result<Vec<u8>> {
    let payload = len - ENCAPSULATION - 42;
    // Low halves 0 and 0xffff: their sum is what every flow's pair adds up to.
    let (source, destination) = (([10, 0, 0, 0].into(), abi::INNER_PORT_BASE), ([10, 1, 255, 255].into(), 9));
    let mut inner = inner_udp(source, destination, &vec![0; payload])?;
    // RFC 768: 0 is no checksum; the ports and the payload change with each frame.
    inner[40..42].fill(0);
    Outer::sample(0).encapsulate(&inner)
}

/// Puts zeros into a per-CPU array of one value.
fn zero<T: aya::Pod + Default>(map: &Mutex<Map>, name: &'static str, cpus: usize) -> Result<()> {
    let failed = |error| LabError::bpf(name, error);
    let zeros = PerCpuValues::try_from(vec![T::default(); cpus])
        .map_err(|error| LabError::io("values for each CPU", error))?;
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    PerCpuArray::<_, T>::try_from(&mut *map).map_err(failed)?.set(0, zeros, 0).map_err(failed)
}

fn missing(name: &str) -> LabError {
    LabError::Unexpected(format!("the generator's object has no {name}; rebuild it with `cargo xtask ebpf`"))
}
