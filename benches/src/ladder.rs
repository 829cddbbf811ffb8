//! The ladder: each rung adds one thing to the one below, under the same traffic.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use mirror_lab::{
    Traffic,
    generator::{MAX_FRAME, ONE_CALL},
};
use mirror_user::engine::Priority;

use crate::{
    bed::{Bed, JUMBO_MTU, MTU},
    options::Options,
    progress::Progress,
    raw::Sizes,
    receiver::{Kind, Receiver, Wait, default_sizes},
    report::schema::{Goal, Report, Rung, Spread},
    stats::{count, spread},
    trial::{Sample, lost_by, measure},
};

/// Frames of a measurement: a system call of the generator, some 0.2 s.
const FRAMES: u64 = ONE_CALL;

/// The same for forwarders: enough that the 16 MiB in their blocks at the end do not matter.
const FORWARDED: u64 = 4 * FRAMES;

/// Traffic and memory of a run over the rungs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Course {
    frame_bytes: usize,
    flows: u32,
    vnis: u32,
    queues: u32,
    wait: Wait,
    ring: Ring,
}

/// How long the RX ring is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ring {
    /// The engine's default.
    Default,
    /// The longest: it absorbs the pauses of a virtual machine's CPU, so that nothing is lost.
    Longest,
}

/// For the goals of counters: the engine with its defaults.
const PLAIN: Course =
    Course { frame_bytes: 114, flows: 64, vnis: 1, queues: 1, wait: Wait::Poll, ring: Ring::Default };
/// The same with frames of nearly the longest size of ordinary traffic.
const LARGE: Course = Course { frame_bytes: 1450, ..PLAIN };
/// For the goals of captures: with a writer thread on the worker's CPU, and nothing lost.
const LASTING: Course = Course { ring: Ring::Longest, ..PLAIN };
/// The same with frames of nearly the longest size in one buffer.
const JUMBO: Course = Course { frame_bytes: MAX_FRAME, ..PLAIN };
/// In a full run, courses with goals have this many times the rounds: on a virtual machine rounds vary by
/// more than the remaining differences.
const GATED: usize = 3;

impl Course {
    /// The courses of a full run.
    fn full() -> Vec<Self> {
        let mut courses = Self::gated().to_vec();
        courses.extend([
            JUMBO,
            Self { wait: Wait::Spin, ..PLAIN },
            Self { vnis: 1_000, ..PLAIN },
            Self { vnis: 1_000, ..LARGE },
            Self { flows: 1, ..PLAIN },
            Self { queues: 2, ..PLAIN },
        ]);
        courses
    }

    /// Courses with goals, which are those of a quick run.
    fn gated() -> [Self; 3] {
        [PLAIN, LARGE, LASTING]
    }

    /// Its rungs, with forwarders if the engine has its defaults.
    fn kinds(&self) -> Vec<Kind> {
        let forwards: &[Kind] = if [PLAIN, LARGE, JUMBO].contains(self) { &Kind::FORWARDS } else { &[] };
        Kind::LADDER.iter().chain(forwards).copied().collect()
    }

    /// Queues and MTU of its bed.
    fn bed(&self) -> (u32, u32) {
        (self.queues, if *self == JUMBO { JUMBO_MTU } else { MTU })
    }

    fn rounds(&self, options: &Options) -> usize {
        let times = if !options.quick && Self::gated().contains(self) { GATED } else { 1 };
        options.rounds * times
    }

    /// How the worker of a rung waits. Bare loops spin if they have a CPU to themselves: that is fastest, and
    /// wakeups would cost time on the kernel's core.
    fn wait_of(&self, kind: Kind) -> Wait {
        let bare = matches!(kind, Kind::Bare | Kind::Touch | Kind::XskRs | Kind::Program);
        if bare && self.queues == 1 { Wait::Spin } else { self.wait }
    }

    fn sizes(&self, defaults: Sizes) -> Sizes {
        match self.ring {
            Ring::Default => defaults,
            Ring::Longest => defaults.longest_ring(),
        }
    }

    fn traffic(&self, options: &Options) -> Traffic {
        let Self { frame_bytes, flows, vnis, queues, .. } = *self;
        // A frame arrives on the queue of the CPU that sent it.
        let cpus = if queues == 1 { vec![options.kernel_cpu] } else { both(options) };
        Traffic { frame_len: frame_bytes, flows, vnis, cpus, ..Traffic::default() }
    }
}

fn both(options: &Options) -> Vec<usize> {
    vec![options.kernel_cpu, options.worker_cpu]
}

/// Measures all courses.
///
/// # Errors
///
/// If the bed or a receiver cannot be created, or a residue is left.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let courses = if options.quick { Course::gated().to_vec() } else { Course::full() };
    let beds: BTreeSet<_> = courses.iter().map(Course::bed).collect();
    let mut defaults = None;
    for (queues, mtu) in beds {
        let bed = Bed::new(queues, mtu)?;
        let sizes = *defaults.insert(default_sizes(&bed)?);
        report.settings.insert("RX ring, descriptors".into(), sizes.rx_ring.to_string());
        report.settings.insert("UMEM, chunks".into(), sizes.umem_frames.to_string());
        report.settings.insert(format!("chunk at MTU {mtu}, bytes"), sizes.chunk_size.to_string());
        for course in courses.iter().filter(|course| course.bed() == (queues, mtu)) {
            let cpus = if queues == 1 { vec![options.worker_cpu] } else { both(options) };
            let sizes = course.sizes(sizes);
            let receiver = |kind| Receiver {
                kind,
                wait: course.wait_of(kind),
                priority: Priority::Auto,
                sizes,
                cpus: cpus.clone(),
            };
            let samples = climb(options, &bed, course, receiver)?;
            report.rungs.extend(samples.iter().map(|(kind, own)| rung(course, sizes, *kind, own, &samples)));
        }
    }
    if let Some(defaults) = defaults {
        report.goals.extend(goals(&report.rungs, defaults));
    }
    Ok(())
}

/// Every rung in every round; each round begins with another one.
fn climb(
    options: &Options,
    bed: &Bed,
    course: &Course,
    receiver: impl Fn(Kind) -> Receiver,
) -> Result<BTreeMap<Kind, Vec<Sample>>> {
    let Course { frame_bytes, flows, vnis, queues, wait, ring } = course;
    let (progress, traffic) = (Progress::start(), course.traffic(options));
    let mut samples = BTreeMap::<_, Vec<_>>::new();
    let rounds = course.rounds(options);
    for round in 0..rounds {
        progress.show(format_args!(
            "ladder: {frame_bytes} bytes, {flows} flows, {vnis} VNIs, {queues} queues, {wait}, {ring:?} \
            ring: round {} of {rounds}",
            round + 1,
        ));
        let mut order = course.kinds();
        let first = round % order.len();
        order.rotate_left(first);
        for kind in order {
            options.go_on()?;
            let forwards = Kind::FORWARDS.contains(&kind);
            if forwards && round >= options.rounds {
                continue;
            }
            let frames = if forwards { FORWARDED } else { FRAMES };
            samples.entry(kind).or_default().push(measure(bed, &receiver(kind), &traffic, frames)?);
        }
    }
    Ok(samples)
}

/// The result of a rung over all rounds.
fn rung(
    course: &Course,
    sizes: Sizes,
    kind: Kind,
    own: &[Sample],
    all: &BTreeMap<Kind, Vec<Sample>>,
) -> Rung {
    let Course { frame_bytes, flows, vnis, queues, wait, ring: _ } = *course;
    let beside = |kind, of: fn(&Sample, &Sample) -> f64| {
        spread(own.iter().zip(&all[&kind]).map(|(own, other)| of(own, other)))
    };
    let rates = |own: &Sample, other: &Sample| own.received_rate / other.received_rate;
    let has_worker = kind != Kind::XdpDrop && !kind.is_in_kernel();
    let over_worker = |spread: Spread| if has_worker { spread } else { Spread::default() };
    let mpps = spread(own.iter().map(|sample| sample.received_rate / 1e6));
    let ticks = own.iter().fold((0, 0), |(softirq, all), sample| {
        (softirq + sample.softirq_ticks.0, all + sample.softirq_ticks.1)
    });
    #[expect(clippy::cast_precision_loss, reason = "figures to print")]
    let (bits, kernel_share) = (frame_bytes as f64 * 8.0, ticks.0 as f64 / ticks.1.max(1) as f64);
    Rung {
        rung: kind.to_string(),
        frame_bytes,
        flows,
        vnis,
        queues,
        wait: wait.to_string(),
        rx_ring: sizes.rx_ring,
        rounds: own.len(),
        mpps,
        gbps: mpps.median * bits / 1e3,
        offered: own.iter().map(|sample| sample.offered).sum(),
        lost: own.iter().map(Sample::lost).sum(),
        lost_by: lost_by(own),
        ratio_to_touch: beside(Kind::Touch, rates),
        ratio_to_null: beside(Kind::Null, rates),
        busy_ns_per_frame: spread(own.iter().map(|sample| sample.busy_ns_per_frame)).median,
        busy_ns_over_touch: over_worker(beside(Kind::Touch, |own, touch| {
            own.busy_ns_per_frame - touch.busy_ns_per_frame
        })),
        busy_ratio: spread(own.iter().map(|sample| sample.busy_ns_per_frame * sample.received_rate / 1e9))
            .median,
        kernel_share,
    }
}

/// The ladder's goals, from the courses that have goals.
fn goals(rungs: &[Rung], defaults: Sizes) -> Vec<Goal> {
    let find = |kind: Kind, course: Course| {
        let Course { frame_bytes, flows, vnis, queues, wait, ring: _ } = course;
        rungs.iter().find(|rung| {
            (rung.rung.as_str(), rung.wait.as_str()) == (&kind.to_string(), &wait.to_string())
                && (rung.frame_bytes, rung.flows, rung.vnis) == (frame_bytes, flows, vnis)
                && (rung.queues, rung.rx_ring) == (queues, course.sizes(defaults).rx_ring)
        })
    };
    let mut goals = Vec::new();
    for course in [PLAIN, LARGE] {
        if let Some(counters) = find(Kind::Counters, course) {
            let what = format!("counters ÷ touch, {} bytes", course.frame_bytes);
            goals.push(Goal::at_least(what, 0.95, counters.ratio_to_touch));
        }
    }
    for course in [PLAIN, LARGE] {
        if let Some(kernel) = find(Kind::KernelDrop, course) {
            let what = format!("forwarding in the kernel ÷ touch, {} bytes", course.frame_bytes);
            goals.push(Goal::at_least(what, 0.8, kernel.ratio_to_touch));
        }
        if let Some(kernel) = find(Kind::KernelGroup, course) {
            let what = format!("the same to a group of four ÷ touch, {} bytes", course.frame_bytes);
            goals.push(Goal::at_least(what, 0.7, kernel.ratio_to_touch));
        }
        if let Some(kernel) = find(Kind::KernelTunnel, course) {
            let what = format!("the same into a VXLAN tunnel ÷ touch, {} bytes", course.frame_bytes);
            goals.push(Goal::at_least(what, 0.65, kernel.ratio_to_touch));
        }
        if let (Some(kernel), Some(user)) = (find(Kind::KernelVeth, course), find(Kind::Veth, course)) {
            let what = format!(
                "forwarding to a veth with a reader, kernel ÷ user path, {} bytes",
                course.frame_bytes
            );
            goals.push(Goal::at_least(what, 2.0, Spread::of(kernel.mpps.median / user.mpps.median)));
        }
    }
    if let Some(veth) = find(Kind::Veth, PLAIN) {
        goals.push(Goal::at_least("forwarding to a veth ÷ null, 114 bytes", 0.5, veth.ratio_to_null));
    }
    if let Some(pcap) = find(Kind::Pcap, LASTING) {
        goals.push(Goal::at_least("pcap ÷ touch, 114 bytes", 0.85, pcap.ratio_to_touch));
        goals.push(Goal::at_most("frames lost in that, pcap", 0.0, Spread::of(count(pcap.lost))));
    }
    if let Some(counters) = find(Kind::Counters, PLAIN) {
        let what = "worker busy ns per frame over touch, counters, 114 bytes";
        goals.push(Goal::at_most(what, 25.0, counters.busy_ns_over_touch));
    }
    goals
}
