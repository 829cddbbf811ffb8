//! Traffic at the rate of the kernel: an XDP program makes the frames and redirects them out of an interface.
//!
//! `BPF_PROG_TEST_RUN` with live frames (kernel 5.18) runs the program on a page of the kernel's own per frame and
//! carries out its redirect, so that a core sends millions of frames a second without a copy from user space.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use aya::{
    Ebpf, EbpfLoader, TestRunOptions,
    maps::PerCpuArray,
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

/// Frames the kernel makes and redirects at once, with softirqs off; the receiver runs between two batches.
const BATCH: u32 = 64;
/// Most frames of one system call: a signal or a stop waits no longer than this.
const LONGEST_RUN: u64 = 1 << 18;
/// How often a limited thread sends: short enough that a burst fits any ring.
const TICK: Duration = Duration::from_millis(1);
/// The longest frame a test run takes without fragments: a page less the kernel's headroom and its skb trailer.
pub const MAX_FRAME: usize = 3_500;
/// The shortest frame that holds a sequence number, in bytes of the outer frame.
pub const MIN_FRAME: usize = abi::MIN_FRAME;

/// What to send.
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
    /// Frames a second over all threads; none is as fast as they go.
    pub rate: Option<u64>,
    /// A sending thread on each of these CPUs. On veth a frame's RX queue is the CPU modulo the number of queues.
    pub cpus: Vec<usize>,
}

impl Default for Traffic {
    /// 114-byte frames of 64 flows in VNI 12345 from CPU 0, as fast as it goes.
    fn default() -> Self {
        Self { frame_len: 114, flows: 64, vnis: 1, vni_base: 12345, rate: None, cpus: vec![0] }
    }
}

/// What was sent, from the program's own counters.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Generated {
    /// Frames by CPU, in the order of [`Traffic::cpus`].
    pub per_cpu: Vec<(usize, u64)>,
    /// From the first frame to the last.
    pub elapsed: Duration,
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

/// The generator, loaded and bound to an interface. Sequence numbers go on from one [`send`](Self::send) to the next.
#[derive(Debug)]
pub struct Generator {
    ebpf: Ebpf,
    namespace: Namespace,
    traffic: Traffic,
    template: Vec<u8>,
}

impl Generator {
    /// Loads the program for `interface` in `namespace`.
    ///
    /// # Errors
    ///
    /// [`LabError::Unexpected`] where the traffic is out of bounds, [`LabError::Io`] where there is no such interface,
    /// [`LabError::Bpf`] where the kernel refuses the program.
    pub fn load(namespace: &Namespace, interface: &str, traffic: Traffic) -> Result<Self> {
        check(&traffic)?;
        let index = namespace.enter(|| if_nametoindex(interface))?;
        let index =
            index.map_err(|error| LabError::io(format!("{interface} in {}", namespace.name()), error))?;
        let mut ebpf = EbpfLoader::new()
            .override_global(abi::SETTING_IFINDEX, &index, true)
            .override_global(abi::SETTING_FLOWS, &traffic.flows, true)
            .override_global(abi::SETTING_VNIS, &traffic.vnis, true)
            .override_global(abi::SETTING_VNI_BASE, &traffic.vni_base, true)
            .load(GENERATOR_OBJECT)
            .map_err(|error| LabError::bpf("the generator's object", error))?;
        let program: &mut Xdp = ebpf
            .program_mut(abi::PROGRAM)
            .ok_or_else(|| missing(abi::PROGRAM))?
            .try_into()
            .map_err(|error| LabError::bpf(abi::PROGRAM, error))?;
        program.load().map_err(|error| LabError::bpf("loading the generator", error))?;
        let template = template(traffic.frame_len)?;
        Ok(Self { ebpf, namespace: namespace.clone(), traffic, template })
    }

    /// Sends exactly `frames` frames, split evenly over the CPUs, and gives what the program counted.
    ///
    /// # Errors
    ///
    /// [`LabError::Bpf`] where a run fails; what was sent before has been sent.
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
        let threads = self.traffic.cpus.len() as u64;
        let start = Instant::now();
        thread::scope(|scope| {
            let running: Vec<_> = self
                .traffic
                .cpus
                .iter()
                .zip(0..)
                .map(|(cpu, place)| {
                    // The first ones take what does not divide.
                    let share = frames / threads + u64::from(place < frames % threads);
                    scope.spawn(move || self.run_on(*cpu, share, stop))
                })
                .collect();
            let ended = running
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            // Every thread is waited for before the first error is told.
            ended.collect::<Vec<_>>().into_iter().collect::<Result<()>>()
        })?;
        let elapsed = start.elapsed();
        let after = self.generated()?;
        let per_cpu = self.traffic.cpus.iter().map(|cpu| {
            let count = |counts: &[u64]| counts.get(*cpu).copied().unwrap_or_default();
            (*cpu, count(&after) - count(&before))
        });
        Ok(Generated { per_cpu: per_cpu.collect(), elapsed })
    }

    /// Sends in the background, until all are sent or it is told to stop.
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
    /// [`LabError::Bpf`] where the map cannot be read.
    pub fn generated(&self) -> Result<Vec<u64>> {
        let name = abi::MAP_GENERATED;
        let map = self.ebpf.map(name).ok_or_else(|| missing(name))?;
        let map = PerCpuArray::<_, u64>::try_from(map).map_err(|error| LabError::bpf(name, error))?;
        let values = map.get(&0, 0).map_err(|error| LabError::bpf(name, error))?;
        Ok(values.to_vec())
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
        let threads = self.traffic.cpus.len() as u64;
        let pace = self.traffic.rate.map(|rate| Pace { start: Instant::now(), rate, threads });
        let mut sent = 0;
        while sent < frames && !stop.load(Ordering::Relaxed) {
            let chunk =
                pace.as_ref().map_or(LONGEST_RUN, |pace| pace.wait(sent)).min(LONGEST_RUN).min(frames - sent);
            let repeat = u32::try_from(chunk).unwrap_or(u32::MAX);
            let options = TestRunOptions {
                data_in: Some(&self.template),
                repeat,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH.min(repeat)),
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

/// A thread's share of a rate, kept over the whole run: what one tick was late, the next makes good.
struct Pace {
    start: Instant,
    rate: u64,
    threads: u64,
}

impl Pace {
    /// Waits for the next tick and gives how many frames are due by its end, at least 1.
    fn wait(&self, sent: u64) -> u64 {
        loop {
            let until = (self.start.elapsed() + TICK).as_nanos();
            let due = until * u128::from(self.rate) / u128::from(self.threads) / 1_000_000_000;
            let due = u64::try_from(due).unwrap_or(u64::MAX);
            // A whole tick's worth, or fewer where a tick is worth less than one frame.
            let tick =
                (u128::from(self.rate) * TICK.as_nanos() / u128::from(self.threads) / 1_000_000_000).max(1);
            if u128::from(due.saturating_sub(sent)) >= tick {
                // Never more than two ticks at once, however late: a limited rate has no bursts.
                return (due - sent).min(u64::try_from(2 * tick).unwrap_or(u64::MAX));
            }
            thread::sleep(TICK / 4);
        }
    }
}

/// A [`Generator`] at work. Dropping it stops it and waits.
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

    /// Stops it and gives what it sent.
    ///
    /// # Errors
    ///
    /// As [`Generator::send`].
    pub fn stop(self) -> Result<Generated> {
        self.stop.store(true, Ordering::Relaxed);
        self.wait()
    }

    /// Waits until all are sent and gives what it sent.
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

fn check(traffic: &Traffic) -> Result<()> {
    let Traffic { frame_len, flows, vnis, vni_base, rate, cpus } = traffic;
    let wrong = if !(MIN_FRAME..=MAX_FRAME).contains(frame_len) {
        format!("frames of {frame_len} bytes; {MIN_FRAME} to {MAX_FRAME} can be generated")
    } else if !(1..=abi::MAX_FLOWS).contains(flows) {
        format!("{flows} flows; 1 to {} can be generated", abi::MAX_FLOWS)
    } else if *vnis == 0 || u64::from(*vnis) + u64::from(*vni_base) > 1 << 24 {
        format!("{vnis} VNIs from {vni_base}; at least one, and all below 2^24")
    } else if *rate == Some(0) {
        "a rate of 0 frames a second".to_owned()
    } else if cpus.is_empty() {
        "no CPU to send from".to_owned()
    } else {
        return Ok(());
    };
    Err(LabError::Unexpected(format!("the generator was asked for {wrong}")))
}

/// A frame whose lengths and checksums are right and stay so under the program's edits: inner flow and its complement
/// in the addresses, no UDP checksum on either level.
fn template(len: usize) -> Result<Vec<u8>> {
    let payload = len - ENCAPSULATION - 42;
    // Low halves 0 and 0xffff: their sum is what every flow's pair adds up to.
    let (source, destination) = (([10, 0, 0, 0].into(), abi::INNER_PORT_BASE), ([10, 1, 255, 255].into(), 9));
    let mut inner = inner_udp(source, destination, &vec![0; payload])?;
    // RFC 768: 0 is no checksum; the ports and the payload change with each frame.
    inner[40..42].fill(0);
    Outer::sample(0).encapsulate(&inner)
}

fn missing(name: &str) -> LabError {
    LabError::Unexpected(format!("the generator's object has no {name}; rebuild it with `cargo xtask ebpf`"))
}
