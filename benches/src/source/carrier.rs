//! The agent's thread by itself: from the carrier into the send buffers, and the whole of it with the send.

use std::{
    io::ErrorKind,
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use arrayvec::ArrayVec;
use mirror_lab::{RepeatSocket, SuperFrameSocket, Traffic, frames, super_frames::SuperFrame};
use mirror_user::{
    agent::{
        AgentOptions, AgentThread, Carrier, SessionOut,
        outer::{Ends, MAX_OUTER, Outer, source_port},
        segment::{MAX_HEADERS, Segments, VnetHeader},
    },
    engine::Priority,
    flow::Packet,
    host::tap::{Tap, TapOptions, TapReading},
    wire::vxlan,
};

use super::more;
use crate::{
    bed::{Bed, MTU, TUNNEL_END, TUNNEL_END_MAC, near_end},
    options::Options,
    progress::Progress,
    receiver::{Kind, Receiver, Wait, default_sizes, pin},
    report::schema::Report,
    stats::count,
    trial::measure,
};

/// Payload of a segment at an MTU of 1500, with timestamps.
const MSS: u16 = 1448;
/// Segments of a super-frame of nearly 64 KiB.
pub(crate) const SEGMENTS: usize = 45;
/// Bytes of such a segment: headers of 54 and 12 bytes.
const SEGMENT: usize = 66 + MSS as usize;
/// Bytes of a copy of it.
const COPY: usize = SEGMENT + 50;
/// Super-frames that wait in the carrier.
const QUEUE: u32 = 256;
/// Copies of a call, as the agent sends them.
const BURST: usize = 64;
/// Seconds of a round of the whole thread.
const SECONDS: u64 = 1;

pub(super) fn run(options: &Options, progress: &Progress, report: &mut Report) -> Result<()> {
    let bed = Bed::new(1, MTU)?;
    let sizes = default_sizes(&bed)?;
    let forward = Receiver {
        kind: Kind::Tunnel,
        wait: Wait::Poll,
        priority: Priority::Auto,
        sizes,
        cpus: vec![options.worker_cpu],
    };
    let traffic = Traffic { frame_len: COPY, cpus: vec![options.kernel_cpu], ..Traffic::default() };
    let (mut own, mut whole, mut forwarded, mut bare) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..options.rounds {
        progress.show(format_args!("mirror source, its thread: round {} of {}", round + 1, options.rounds));
        options.go_on()?;
        own.push(own_work(&bed, options)? / 1e6);
        options.go_on()?;
        whole.push(whole_thread(&bed, options)? / 1e6);
        options.go_on()?;
        forwarded.push(measure(&bed, &forward, &traffic, 1 << 20)?.received_rate / 1e6);
        options.go_on()?;
        bare.push(bare_send(&bed, options)? / 1e6);
    }
    let over: Vec<_> = whole.iter().zip(&forwarded).map(|(whole, forwarded)| whole / forwarded).collect();
    let what = "a carrier read, segmented, with checksums and outer headers, not sent";
    more(report, what, "M segments/s", &own, Some(1.0));
    more(report, "the whole thread, sent by a veth", "M segments/s", &whole, None);
    more(report, "forward_vxlan with frames of the same length", "Mpps", &forwarded, None);
    more(report, "the whole thread ÷ forward_vxlan", "", &over, Some(2.0));
    // What no sender by AF_PACKET can exceed, whatever it does.
    let over: Vec<_> = bare.iter().zip(&forwarded).map(|(bare, forwarded)| bare / forwarded).collect();
    more(report, "the same bytes by sendmmsg(2), and nothing else", "Mpps", &bare, None);
    more(report, "the same bytes by sendmmsg(2), and nothing else ÷ forward_vxlan", "", &over, None);
    Ok(())
}

/// Segments a second of everything but the send, on the worker's CPU.
fn own_work(bed: &Bed, options: &Options) -> Result<f64> {
    const PASSES: u32 = 8;
    const NAME: &str = "own0";
    let work = || -> Result<f64> {
        pin(&[options.worker_cpu]);
        let mut reading = TapReading::new();
        reading.queue = QUEUE;
        let tap = Tap::open(NAME, TapOptions::to_read(reading))?;
        let feeder = SuperFrameSocket::open(&bed.receiver, NAME)?;
        let mut preparing = Preparing::new()?;
        let frame = super_frame()?;
        let mut room = vec![0; VnetHeader::LEN + (1 << 16) + 64];
        let (mut segments, mut time) = (0, Duration::ZERO);
        for _ in 0..PASSES {
            for _ in 0..QUEUE {
                ensure!(feeder.send(&frame)?, "{NAME} is full");
            }
            let start = Instant::now();
            loop {
                match tap.receive(&mut room) {
                    Ok(len) => {
                        let read = VnetHeader::split(&mut room[..len]);
                        let (vnet, frame) = read.context("a frame without its header")?;
                        segments += preparing.prepare(vnet, frame);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).context(NAME),
                }
            }
            time += start.elapsed();
        }
        ensure!(segments == PASSES as usize * QUEUE as usize * SEGMENTS, "{segments} segments");
        Ok(count(segments as u64) / time.as_secs_f64())
    };
    bed.receiver.enter(work)?
}

/// Segments a second that the thread sends while its carrier is never empty.
fn whole_thread(bed: &Bed, options: &Options) -> Result<f64> {
    const NAME: &str = "whole0";
    let start = || -> Result<_> {
        let session = SessionOut::new(7, (TUNNEL_END.parse::<std::net::IpAddr>()?, vxlan::PORT).into());
        let carrier = Carrier::open(NAME, session, QUEUE)?;
        let mut agent = AgentOptions::default();
        agent.cpu = Some(options.worker_cpu);
        Ok(AgentThread::start(vec![carrier], agent)?)
    };
    let agent = bed.receiver.enter(start)??;
    let (feeder, frame) = (SuperFrameSocket::open(&bed.receiver, NAME)?, super_frame()?);
    let end = AtomicBool::new(false);
    let rate = thread::scope(|scope| {
        let feeding = scope.spawn(|| {
            pin(&[options.kernel_cpu]);
            while !end.load(Ordering::Relaxed) {
                // A carrier drops what it has no room for.
                feeder.send(&frame)?;
            }
            Ok::<_, anyhow::Error>(())
        });
        let sent = || agent.counters().first().map(|counters| counters.frames.sent).unwrap_or_default();
        // The first ones meet a thread that is asleep.
        thread::sleep(Duration::from_millis(100));
        let (before, start) = (sent(), Instant::now());
        thread::sleep(Duration::from_secs(SECONDS));
        let rate = count(sent() - before) / start.elapsed().as_secs_f64();
        end.store(true, Ordering::Relaxed);
        feeding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok::<_, anyhow::Error>(rate)
    })?;
    let counters = agent.stop();
    let carrier = counters.first().context("no carrier")?;
    ensure!(carrier.frames.segments == carrier.frames.sent, "not all were sent: {counters:?}");
    ensure!(carrier.carrier_dropped > Some(0), "the thread had to wait for frames: {counters:?}");
    Ok(rate)
}

/// Copies a second that the agent's system call sends, from memory that stays in the cache.
fn bare_send(bed: &Bed, options: &Options) -> Result<f64> {
    let mut outer = frames::Outer::sample(7).between(Ipv4Addr::UNSPECIFIED, TUNNEL_END.parse::<Ipv4Addr>()?);
    outer.destination_mac = TUNNEL_END_MAC;
    let copy = outer.encapsulate(&vec![0x5a; SEGMENT])?;
    let socket = RepeatSocket::open(&bed.receiver, &near_end(0))?;
    let send = || {
        pin(&[options.worker_cpu]);
        socket.send(&copy, BURST, Duration::from_secs(SECONDS))
    };
    Ok(count(bed.receiver.enter(send)??) / count(SECONDS))
}

fn super_frame() -> Result<Vec<u8>> {
    let frame = SuperFrame {
        tags: 0,
        is_v4: true,
        options: 0,
        is_tcp: true,
        size: MSS,
        payload: vec![0x5a; usize::from(MSS) * SEGMENTS],
        id: 1,
        sequence: 1,
        flags: 0x10,
        is_partial: true,
    };
    Ok(frame.bytes()?)
}

/// What the agent does with a frame between reading and sending it.
pub(crate) struct Preparing {
    outer: Outer,
    burst: Vec<ArrayVec<u8, { MAX_OUTER + MAX_HEADERS }>>,
}

impl Preparing {
    pub(crate) fn new() -> Result<Self> {
        let (from, to) = ([10, 10, 10, 252].into(), ([10, 10, 10, 1], vxlan::PORT).into());
        let ends = Ends { mac: [2; 6], neighbour: [4; 6], from, to };
        let outer = Outer::new(&ends, 7, 9001).context("addresses of one family")?;
        Ok(Self { outer, burst: vec![ArrayVec::new(); BURST] })
    }

    /// Segments, checksums, outer headers; how many segments there were.
    pub(crate) fn prepare(&mut self, vnet: VnetHeader, frame: &mut [u8]) -> usize {
        let flow = Packet::of(frame).map_or(0, |packet| packet.flow.hash(1));
        let port = source_port(std::hint::black_box(flow));
        let mut segments = Segments::of(std::hint::black_box(vnet), frame);
        let mut prepared = 0;
        while segments.left() > 0 {
            for headers in self.burst.iter_mut().take(segments.left()) {
                headers.clear();
                headers.try_extend_from_slice(self.outer.headers()).unwrap_or_default();
                let Some(rest) = segments.next_into(headers) else { return prepared };
                self.outer.complete(headers, rest, port);
                std::hint::black_box((headers, rest));
                prepared += 1;
            }
        }
        prepared
    }
}
