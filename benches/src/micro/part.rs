//! Parts that are measured by themselves: work on a few frames that can be repeated.

use std::{
    fmt,
    hint::black_box,
    io,
    net::IpAddr,
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::{Result, ensure};
use mirror_lab::{
    frames::{Outer, TcpFields, inner_tcp},
    mixed::mixed,
};
use mirror_user::{
    Batch, Captured, Dispatch, Tunnels,
    agent::segment::VnetHeader,
    decap,
    select::Filter,
    sink::{
        Counters, Pcap, SinkFactory, WorkerContext,
        pcap::{Format, Target},
        print::{Lines, Style},
    },
};
use pcap::{Capture, Linktype};

use super::frames::{BATCH, Shape, decapsulated};
use crate::{null::Null, source::Preparing};

/// The most bytes of a frame here.
pub(super) const MAX_FRAME: usize = 2048;

/// A part of the packet path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// Nothing: the loop around [`Part::Decap`], which is subtracted from it.
    Loop,
    /// Decapsulation of frames of this many bytes.
    Decap(Shape, usize),
    /// A worker's pipeline, for frames of this many bytes and a sink that does nothing.
    Dispatch(usize),
    /// The counters sink, with this many origins in turn.
    Counters(u32),
    /// The filter expression `tcp port` and a number over frames that match it, or over frames of all kinds.
    Filter(Run, Packets),
    /// Filling the blocks of a capture with frames of this many bytes, for a writer that does nothing.
    Pcap(Format, usize),
    /// Printing frames of all kinds, with this many `-v`.
    Print(u8),
    /// Segmentation of a super-frame of TCP with this payload in each segment, checksums and outer headers.
    Segment(usize),
}

/// An interpreter of compiled filters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Run {
    /// The engine's.
    Ours,
    /// `pcap_offline_filter`.
    Libpcap,
}

/// Frames that a filter is run over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Packets {
    /// Frames that match, so that the whole program is run.
    Matching,
    /// Frames of all kinds.
    Mixed,
}

/// `decap/ipv4/114`: the part, its kind, and its bytes, origins, or how verbose it is.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (part, kind, parameter) = self.id();
        write!(f, "{part}/{kind}/{parameter}")
    }
}

impl Part {
    const FILTERS: [Self; 4] = [
        Self::Filter(Run::Ours, Packets::Matching),
        Self::Filter(Run::Ours, Packets::Mixed),
        Self::Filter(Run::Libpcap, Packets::Matching),
        Self::Filter(Run::Libpcap, Packets::Mixed),
    ];
    /// The part with the filter's goal.
    pub(super) const FILTER: Self = Self::FILTERS[0];

    /// All parts that are timed, in the order of the report.
    pub fn each() -> Vec<Self> {
        const SIZES: [usize; 3] = [114, 512, 1450];
        const ENDS: [usize; 2] = [114, 1450];
        let plain = SIZES.map(|size| Self::Decap(Shape::Ipv4, size));
        // The headers do not depend on the length.
        let others = Shape::EACH.iter().skip(1).map(|shape| Self::Decap(*shape, shape.short()));
        let pcap = [Format::Pcapng, Format::Pcap].map(|format| ENDS.map(|size| Self::Pcap(format, size)));
        plain
            .into_iter()
            .chain(others)
            .chain(ENDS.map(Self::Dispatch))
            .chain([1, 1000].map(Self::Counters))
            .chain(Self::FILTERS)
            .chain(pcap.into_iter().flatten())
            .chain([0, 1].map(Self::Print))
            .chain([Self::Segment(MSS)])
            .collect()
    }

    /// Its name in three words.
    pub fn id(self) -> (&'static str, &'static str, usize) {
        match self {
            Self::Loop => ("loop", "empty", SHORT),
            Self::Decap(shape, size) => ("decap", shape.name(), size),
            Self::Dispatch(size) => ("dispatch", "null", size),
            Self::Counters(origins) => ("counters", "origins", origins as usize),
            Self::Filter(run, packets) => {
                let kind = match (run, packets) {
                    (Run::Ours, Packets::Matching) => "matching",
                    (Run::Ours, Packets::Mixed) => "mixed",
                    (Run::Libpcap, Packets::Matching) => "libpcap-matching",
                    (Run::Libpcap, Packets::Mixed) => "libpcap-mixed",
                };
                ("filter", kind, PORT.into())
            }
            Self::Pcap(Format::Pcap, size) => ("pcap", "pcap", size),
            Self::Pcap(_, size) => ("pcap", "pcapng", size),
            Self::Print(verbosity) => ("print", "mixed", verbosity.into()),
            Self::Segment(size) => ("segment", "tcp", size),
        }
    }

    /// Frames in one pass.
    pub fn frames(self) -> u64 {
        match self {
            Self::Counters(origins) => u64::from(origins).max(BATCH as u64),
            Self::Print(_) => MIXED,
            Self::Segment(_) => SEGMENTS,
            Self::Loop | Self::Decap(..) | Self::Dispatch(_) | Self::Filter(..) | Self::Pcap(..) => {
                BATCH as u64
            }
        }
    }

    /// Sets it up: each call of the result is one pass.
    ///
    /// # Errors
    ///
    /// If frames or sinks cannot be created.
    pub fn pass(self) -> Result<Box<dyn FnMut()>> {
        Ok(match self {
            Self::Loop => {
                let frames = Shape::Ipv4.frames(SHORT, BATCH, 1)?;
                Box::new(move || {
                    for captured in &frames {
                        let captured = *black_box(captured);
                        // Reads as much of a frame as decapsulation does, without its work.
                        let (time, wire_len) = (captured.time(), captured.wire_len());
                        black_box((time, time, wire_len, wire_len, false));
                    }
                })
            }
            Self::Decap(shape, size) => {
                let frames = shape.frames(size, BATCH, 1)?;
                let tunnels = black_box(shape.tunnels());
                decapsulated(&frames, &tunnels)?;
                Box::new(move || {
                    for captured in &frames {
                        // The result is only read: storing it with the frame is the dispatcher's work.
                        match decap::decapsulate_frame(*black_box(captured), &tunnels) {
                            Ok(frame) => {
                                let inner = frame.inner().first();
                                black_box((inner, frame.vni(), frame.wire_len(), frame.has_reserved_bits()));
                            }
                            Err(reason) => {
                                black_box(reason);
                            }
                        }
                    }
                })
            }
            Self::Dispatch(size) => {
                let frames = Shape::Ipv4.frames(size, BATCH, 1)?;
                let context = WorkerContext::single(MAX_FRAME);
                let mut dispatch = Dispatch::builder().sink(Null).build(&context)?;
                Box::new(move || dispatch.frames(frames.iter().copied()))
            }
            Self::Counters(origins) => self.sink_pass(SHORT, origins, Counters::default())?,
            Self::Filter(run, packets) => filter_pass(run, packets)?,
            Self::Pcap(format, size) => {
                let target = Target::writer("nowhere", io::sink());
                self.sink_pass(size, 1, Pcap::builder(target).format(format).build()?)?
            }
            Self::Print(verbosity) => print_pass(verbosity)?,
            Self::Segment(size) => segment_pass(size)?,
        })
    }

    /// Passes through one sink, without a worker around it.
    fn sink_pass(
        self,
        size: usize,
        vnis: u32,
        factory: impl SinkFactory + 'static,
    ) -> Result<Box<dyn FnMut()>> {
        let count = usize::try_from(self.frames())?;
        let frames = decapsulated(&Shape::Ipv4.frames(size, count, vnis)?, &Tunnels::default())?;
        // Dropping frames costs hardly anything, so a sink that would drop waits instead.
        let mut context = WorkerContext::single(MAX_FRAME);
        context.wait_until = Some(Arc::new(AtomicBool::new(false)));
        let mut sink = factory.build(&context)?;
        Ok(Box::new(move || {
            // The writer thread of a capture ends with its factory.
            let _running = &factory;
            for batch in frames.chunks(BATCH) {
                sink.batch(&Batch::new(0, batch)).expect("a sink whose output takes everything");
            }
        }))
    }
}

fn filter_pass(run: Run, packets: Packets) -> Result<Box<dyn FnMut()>> {
    let kinds = match packets {
        Packets::Matching => {
            let header = TcpFields { sequence: 1, acknowledgment: 1, window: 500 };
            let end = |last: u8, port: u16| (IpAddr::from([10, 0, 0, last]), port);
            vec![inner_tcp(end(1, 40_000), end(2, PORT), header, &[0; 10])?]
        }
        Packets::Mixed => mixed()?,
    };
    let frames: Vec<_> = kinds.into_iter().cycle().take(BATCH).collect();
    let expression = format!("tcp port {PORT}");
    Ok(match run {
        Run::Ours => {
            let filter = Filter::compile(&expression)?;
            Box::new(move || {
                let frames = black_box(&frames).iter().map(|frame| (frame.as_slice(), 1500));
                black_box(filter.matching(frames));
            })
        }
        Run::Libpcap => {
            let program = Capture::dead(Linktype::ETHERNET)?.compile(&expression, true)?;
            Box::new(move || {
                for frame in &frames {
                    black_box(program.filter(black_box(frame)));
                }
            })
        }
    })
}

fn print_pass(verbosity: u8) -> Result<Box<dyn FnMut()>> {
    let captured = |(inner, nth): (Vec<u8>, u64)| -> Result<Captured<'static>> {
        // They stay for the length of the process, as those of a shape do.
        let bytes: &[u8] = Outer::sample(1).encapsulate(&inner)?.leak();
        // 1 µs apart: what a text shows of a time changes from one to the next.
        Ok(Captured::new(bytes, u32::try_from(bytes.len())?, nth * 1000))
    };
    let frames = mixed()?.into_iter().zip(1..).map(captured).collect::<Result<Vec<_>>>()?;
    let frames = decapsulated(&frames, &Tunnels::default())?;
    ensure!(frames.len() as u64 == MIXED, "{} frames of all kinds", frames.len());
    let mut lines = Lines::new(Style::default().verbosity(verbosity));
    let mut text = String::new();
    Ok(Box::new(move || {
        text.clear();
        for frame in black_box(&frames) {
            lines.line(frame, &mut text);
        }
        black_box(&text);
    }))
}

/// What the source agent does with a super-frame between reading and sending it.
fn segment_pass(size: usize) -> Result<Box<dyn FnMut()>> {
    let header = TcpFields { sequence: 1, acknowledgment: 1, window: 500 };
    let end = |last: u8, port: u16| (IpAddr::from([10, 0, 0, last]), port);
    let payload = vec![0x5a; size * usize::try_from(SEGMENTS)?];
    let mut frame = inner_tcp(end(1, 40_000), end(2, PORT), header, &payload)?;
    let mut vnet = VnetHeader::default();
    (vnet.flags, vnet.gso_type) = (VnetHeader::NEEDS_CSUM, VnetHeader::GSO_TCPV4);
    (vnet.gso_size, vnet.csum_start, vnet.csum_offset) = (u16::try_from(size)?, 14 + 20, 16);
    let mut preparing = Preparing::new()?;
    Ok(Box::new(move || {
        preparing.prepare(vnet, &mut frame);
    }))
}

/// Frames of all kinds, each of which is printed once in a pass.
const MIXED: u64 = 47;
/// Segments of a super-frame of nearly 64 KiB.
const SEGMENTS: u64 = 45;
/// Payload of a segment at an MTU of 1500, with timestamps.
const MSS: usize = 1448;
/// The port that filters ask for.
const PORT: u16 = 443;
/// The length at which there is most to do for a byte.
const SHORT: usize = 114;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_can_be_done_over_and_over_and_has_a_name_of_its_own() {
        let mut names = Vec::new();
        for part in Part::each().into_iter().chain([Part::Loop]) {
            let mut pass = part.pass().unwrap();
            (0..3).for_each(|_| pass());
            names.push(part.to_string());
        }
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!((names.len(), names.contains(&"decap/ipv4/114".to_owned())), (all, true));
    }
}
