//! Captures into files: in memory with huge and with small pages, and on a disk beside its own rate.

mod place;

use std::{collections::BTreeMap, fs, sync::Arc, thread, time::Duration, time::Instant};

use anyhow::{Context as _, Result, ensure};
use mirror_lab::{Generator, Traffic, generator::ONE_CALL};
use mirror_user::{
    engine::Priority,
    sink::{
        Pcap,
        pcap::{Rotator, Target},
    },
};

use self::place::Place;
use crate::{
    bed::{Bed, MTU},
    options::Options,
    progress::Progress,
    receiver::{Kind, Live, Receiver, Wait, default_sizes, pin},
    report::schema::{Capture, Goal, Report},
    stats::{count, spread},
    trial::measure,
};

/// Bytes of an outer frame.
const SIZES: [usize; 2] = [1450, 114];
/// The size whose captures have goals, and rings of files.
const REAL: usize = 1450;
/// Files of a ring, and their size: more than any cache, less than memory.
const RING: (u32, u64) = (8, 256 << 20);
/// A tmpfs holds a ring and its next file, or one capture of [`ONE_FILE`] frames.
const MEMORY: u64 = 4 << 30;
/// Frames sent to one file.
const ONE_FILE: u64 = 2 * ONE_CALL;
const WARM_UP: u64 = 1 << 17;

/// How a capture is divided into files, and what of it is measured.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Pass {
    /// One file.
    One,
    /// A ring of files until its first file is replaced.
    First,
    /// The same ring afterwards.
    Steady,
}

impl Pass {
    fn name(self) -> &'static str {
        match self {
            Self::One => "one file",
            Self::First => "ring, first pass",
            Self::Steady => "ring, steady",
        }
    }
}

/// What a measurement gave.
#[derive(Clone, Copy, Debug)]
struct Written {
    /// Frames a second.
    rate: f64,
    /// Bytes a second in files.
    bytes: f64,
    cpu_s_per_mframe: f64,
    over_touch: f64,
    /// Over the disk's own rate.
    over_disk: Option<f64>,
    /// Over that of a ring of files.
    over_disk_ring: Option<f64>,
}

/// A state of a running capture.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Instant,
    /// Seconds in which frames were sent: the generator pauses between two calls.
    sending: f64,
    written: u64,
    cpu_ns: u64,
}

/// Measures all places, in every round.
///
/// # Errors
///
/// If bed, places or receivers cannot be created, or a residue is left.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let bed = Bed::new(1, MTU)?;
    let sizes = default_sizes(&bed)?;
    let receiver =
        |kind, wait| Receiver { kind, wait, priority: Priority::Auto, sizes, cpus: vec![options.worker_cpu] };
    let (touch, pcap) = (receiver(Kind::Touch, Wait::Spin), receiver(Kind::Pcap, Wait::Poll));
    let mut samples = BTreeMap::<_, Vec<Written>>::new();
    let progress = Progress::start();
    for round in 0..options.rounds {
        for frame_bytes in SIZES {
            progress.show(format_args!(
                "captures: {frame_bytes} bytes: round {} of {}",
                round + 1,
                options.rounds
            ));
            let traffic =
                Traffic { frame_len: frame_bytes, cpus: vec![options.kernel_cpu], ..Traffic::default() };
            for place in 0..PLACES {
                options.go_on()?;
                let Some(place) = open_place((place + round) % PLACES)? else { continue };
                let own = place.own_rate()?;
                let over = measure(&bed, &touch, &traffic, ONE_CALL)?.received_rate;
                let mut put = |pass: Pass, written: Written, own_ring: Option<f64>| {
                    samples.entry((frame_bytes, place.name, pass)).or_default().push(Written {
                        over_touch: written.rate / over,
                        over_disk: own.map(|own| written.bytes / own),
                        over_disk_ring: own_ring.map(|own| written.bytes / own),
                        ..written
                    });
                };
                put(Pass::One, one_file(&bed, &pcap, &traffic, &place)?, None);
                if frame_bytes == REAL {
                    let own_ring = place.own_ring_rate(RING.0, RING.1)?;
                    let [first, steady] = ring(&bed, &pcap, &traffic, &place, options)?;
                    put(Pass::First, first, None);
                    put(Pass::Steady, steady, own_ring);
                }
            }
        }
    }
    for ((frame_bytes, place, pass), own) in &samples {
        let over = |of: fn(&Written) -> f64| spread(own.iter().map(of));
        let over_own =
            |of: fn(&Written) -> Option<f64>| own.iter().map(of).collect::<Option<Vec<_>>>().map(spread);
        report.captures.push(Capture {
            place: (*place).into(),
            files: pass.name().into(),
            frame_bytes: *frame_bytes,
            rounds: own.len(),
            mpps: over(|written| written.rate / 1e6),
            gigabytes_per_s: over(|written| written.bytes / 1e9),
            ratio_to_touch: over(|written| written.over_touch),
            ratio_to_disk: over_own(|written| written.over_disk),
            ratio_to_disk_ring: over_own(|written| written.over_disk_ring),
            cpu_s_per_mframe: over(|written| written.cpu_s_per_mframe),
        });
    }
    report.goals.extend(goals(&report.captures));
    Ok(())
}

fn goals(captures: &[Capture]) -> Vec<Goal> {
    let find = |pass: Pass, on_disk: bool| {
        captures.iter().find(|capture| {
            let place = if on_disk { capture.ratio_to_disk.is_some() } else { capture.place == HUGE };
            place && capture.frame_bytes == REAL && capture.files == pass.name()
        })
    };
    let mut goals = Vec::new();
    if let Some(ring) = find(Pass::Steady, false) {
        goals.push(Goal::at_least("captures into huge pages ÷ touch, 1450 bytes", 0.8, ring.ratio_to_touch));
    }
    if let Some(over) = find(Pass::One, true).and_then(|file| file.ratio_to_disk) {
        goals.push(Goal::at_least("capture on disk ÷ O_DIRECT writer, 1450 bytes", 0.9, over));
    }
    if let Some(over) = find(Pass::Steady, true).and_then(|ring| ring.ratio_to_disk_ring) {
        goals.push(Goal::at_least("ring of captures on disk ÷ O_DIRECT writer of it, 1450 bytes", 0.9, over));
    }
    goals
}

/// Name of the place whose files are in huge pages.
const HUGE: &str = "tmpfs, huge=always";
const PLACES: usize = 3;

/// One of the places; `None` if this host does not have it.
fn open_place(number: usize) -> Result<Option<Place>> {
    match number {
        0 => Place::memory(HUGE, MEMORY, ",huge=always").map(Some),
        1 => Place::memory("tmpfs", MEMORY, ",huge=never").map(Some),
        _ => Place::disk(),
    }
}

/// Starts a capture whose writer thread is on the worker's CPU.
fn start(bed: &Bed, receiver: &Receiver, place: &Place, ring: Option<(u32, u64)>) -> Result<(Live, Rotator)> {
    let cpus = receiver.cpus.clone();
    let mut builder =
        Pcap::builder(Target::file(place.path().join("capture"))).on_thread_start(move || pin(&cpus));
    if let Some((files, bytes)) = ring {
        builder = builder.rotate_size(bytes).max_files(files);
    }
    let pcap = builder.build()?;
    let rotator = pcap.rotator().context("files")?;
    Ok((receiver.start_with(bed, Arc::new(pcap))?, rotator))
}

fn one_file(bed: &Bed, receiver: &Receiver, traffic: &Traffic, place: &Place) -> Result<Written> {
    let generator = bed.generator(traffic.clone())?;
    let (live, _) = start(bed, receiver, place, None)?;
    let mut sent = Sent { offered: generator.send(WARM_UP)?.total(), seconds: 0.0 };
    let before = mark(&live, sent)?;
    sent.send(&generator, ONE_FILE)?;
    let after = mark(&live, sent)?;
    finish(live, place, sent.offered)?;
    Ok(between(before, after, traffic.frame_len))
}

fn ring(
    bed: &Bed,
    receiver: &Receiver,
    traffic: &Traffic,
    place: &Place,
    options: &Options,
) -> Result<[Written; 2]> {
    let steady = Duration::from_secs(if options.quick { 3 } else { 10 });
    let generator = bed.generator(traffic.clone())?;
    let (live, rotator) = start(bed, receiver, place, Some(RING))?;
    let mut sent = Sent { offered: generator.send(WARM_UP)?.total(), seconds: 0.0 };
    let before = mark(&live, sent)?;
    while rotator.completed().files < u64::from(RING.0) {
        options.go_on()?;
        sent.send(&generator, ONE_CALL)?;
    }
    let full = mark(&live, sent)?;
    while full.at.elapsed() < steady {
        sent.send(&generator, ONE_CALL)?;
    }
    let after = mark(&live, sent)?;
    finish(live, place, sent.offered)?;
    Ok([between(before, full, traffic.frame_len), between(full, after, traffic.frame_len)])
}

/// What was sent so far.
#[derive(Clone, Copy, Debug)]
struct Sent {
    offered: u64,
    seconds: f64,
}

impl Sent {
    fn send(&mut self, generator: &Generator, frames: u64) -> Result<()> {
        let mut left = frames;
        while left > 0 {
            let sent = generator.send(ONE_CALL.min(left))?;
            left = left.saturating_sub(sent.total());
            self.offered += sent.total();
            self.seconds += count(sent.total()) / sent.sending_rate;
        }
        Ok(())
    }
}

fn finish(live: Live, place: &Place, offered: u64) -> Result<()> {
    let account = live.finish(offered)?;
    let explained = account.received + account.lost();
    ensure!(explained == offered, "{offered} frames offered, {explained} accounted for");
    for file in fs::read_dir(place.path())? {
        fs::remove_file(file?.path())?;
    }
    Ok(())
}

/// Two ticks, after which a live report has what was written so far.
const SETTLED: Duration = Duration::from_millis(120);

fn mark(live: &Live, sent: Sent) -> Result<Mark> {
    let (at, cpu_ns) = (Instant::now(), cpu_ns()?);
    thread::sleep(SETTLED);
    Ok(Mark { at, sending: sent.seconds, written: live.written().context("no engine")?, cpu_ns })
}

fn between(from: Mark, to: Mark, frame_bytes: usize) -> Written {
    let frames = to.written - from.written;
    let rate = count(frames) / (to.sending - from.sending);
    Written {
        rate,
        bytes: rate * record_bytes(frame_bytes),
        #[expect(clippy::cast_precision_loss, reason = "ns of seconds")]
        cpu_s_per_mframe: (to.cpu_ns - from.cpu_ns) as f64 / 1e3 / count(frames.max(1)),
        over_touch: 0.0,
        over_disk: None,
        over_disk_ring: None,
    }
}

/// Bytes of a frame in a pcapng file: without encapsulation, in a block of 32 bytes.
#[expect(clippy::cast_precision_loss, reason = "bytes of a frame")]
fn record_bytes(frame_bytes: usize) -> f64 {
    ((frame_bytes - mirror_lab::frames::ENCAPSULATION).next_multiple_of(4) + 32) as f64
}

/// CPU time of the worker and of the threads of the capture, in ns (proc(5), schedstat).
fn cpu_ns() -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        // A thread may have ended meanwhile.
        let Ok(name) = fs::read_to_string(task.join("comm")) else { continue };
        if name.starts_with("q0-") || name.starts_with("mirror-pcap") {
            let times = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
            sum += times.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or_default();
        }
    }
    Ok(sum)
}
