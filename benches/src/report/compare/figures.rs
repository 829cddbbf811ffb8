//! The figures of a report, each under a name that is the same in every report.

use crate::{
    report::{
        schema::{
            Capture, Gaps, Latency, Micro, Neighbour, NoDrop, Peer, Report, Rung, Soak, SourceFigure, Spread,
            SweepPoint,
        },
        text::{percent, plural},
    },
    stats::ratio,
};

/// The figures of one part of a report.
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) figures: Vec<Figure>,
}

impl Group {
    pub(super) fn find(&self, what: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.what == what)
    }
}

pub(super) struct Figure {
    /// Of what, with its unit.
    pub(super) what: String,
    pub(super) spread: Spread,
    /// What is better; nothing where it was measured once, so that its noise is not known.
    pub(super) better: Option<Better>,
}

#[derive(Clone, Copy)]
pub(super) enum Better {
    More,
    Less,
}

impl Figure {
    fn over_rounds(what: String, spread: Spread, better: Better) -> Self {
        Self { what, spread, better: Some(better) }
    }

    fn once(what: String, value: f64) -> Self {
        Self { what, spread: Spread { median: value, q1: value, q3: value }, better: None }
    }
}

/// All of them, in groups that come in the same order for every report.
pub(super) fn groups(report: &Report) -> [Group; 11] {
    [
        Group { name: "ladder", figures: report.rungs.iter().flat_map(rung).collect() },
        Group { name: "sweep", figures: report.sweep.iter().map(sweep_point).collect() },
        Group { name: "no-drop rates", figures: report.no_drop.iter().map(no_drop).collect() },
        Group { name: "long runs", figures: report.soak.iter().map(soak).collect() },
        Group { name: "captures", figures: report.captures.iter().map(capture).collect() },
        Group { name: "busy neighbour", figures: report.neighbour.iter().map(neighbour).collect() },
        Group { name: "gaps", figures: report.gaps.iter().map(gaps).collect() },
        Group { name: "mirror source", figures: report.source.iter().map(source).collect() },
        Group { name: "latency", figures: report.latency.iter().flat_map(latency).collect() },
        Group { name: "peers", figures: report.peers.iter().flat_map(peer).collect() },
        Group { name: "micro", figures: report.micro.iter().map(micro).collect() },
    ]
}

fn source(figure: &SourceFigure) -> Figure {
    let SourceFigure { what, unit, measured, more_is_better, .. } = figure;
    let better = if *more_is_better { Better::More } else { Better::Less };
    let what = if unit.is_empty() { what.clone() } else { format!("{what}, {unit}") };
    Figure::over_rounds(what, *measured, better)
}

fn rung(rung: &Rung) -> impl Iterator<Item = Figure> + use<> {
    let name = format!(
        "{}{}, RX ring of {}, {} bytes, {}, {}, {}",
        rung.rung,
        waiting(&rung.wait),
        rung.rx_ring,
        rung.frame_bytes,
        plural(rung.flows, "flow"),
        plural(rung.vnis, "VNI"),
        plural(rung.queues, "queue")
    );
    let figures = [
        Figure::over_rounds(format!("{name}: Mpps"), rung.mpps, Better::More),
        Figure::over_rounds(format!("{name}: ÷ touch"), rung.ratio_to_touch, Better::More),
        Figure::once(format!("{name}: busy ns a frame"), rung.busy_ns_per_frame),
    ];
    // One without a worker has neither a ratio nor busy time.
    figures.into_iter().filter(|figure| figure.spread != Spread::default())
}

fn sweep_point(point: &SweepPoint) -> Figure {
    let what = format!("{}, RX ring {}, UMEM {}: Mpps", point.rung, point.rx_ring, point.umem_frames);
    Figure::over_rounds(what, point.mpps, Better::More)
}

fn no_drop(rate: &NoDrop) -> Figure {
    let what = format!("{}{}, {} bytes: no-drop Mpps", rate.receiver, waiting(&rate.wait), rate.frame_bytes);
    Figure::once(what, rate.mpps)
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn soak(run: &Soak) -> Figure {
    let what = format!(
        "{}{}, {} bytes: lost in {:.0} s at {}",
        run.receiver,
        waiting(&run.wait),
        run.frame_bytes,
        run.seconds,
        percent(run.load)
    );
    Figure::once(what, run.lost as f64)
}

fn neighbour(run: &Neighbour) -> Figure {
    let Neighbour { receiver, priority, seconds, .. } = run;
    let what = format!("{receiver} beside a busy neighbour, priority {priority}, {seconds} s: share lost");
    Figure::over_rounds(what, run.lost_share, Better::Less)
}

fn gaps(run: &Gaps) -> Figure {
    let Gaps { receiver, frame_bytes, .. } = run;
    let what = format!("{receiver} at full speed, {frame_bytes} bytes: share lost");
    Figure::once(what, ratio(run.lost, run.offered))
}

fn capture(run: &Capture) -> Figure {
    let Capture { place, files, frame_bytes, .. } = run;
    let what = format!("{place}, {files}, {frame_bytes} bytes: Mpps");
    Figure::over_rounds(what, run.mpps, Better::More)
}

#[expect(clippy::cast_precision_loss, reason = "times far below 2^52 ns")]
fn latency(run: &Latency) -> [Figure; 4] {
    let percentiles = [("p50", run.p50_ns), ("p99", run.p99_ns), ("p99.9", run.p999_ns), ("max", run.max_ns)];
    percentiles.map(|(percentile, ns)| {
        let what = format!("latency ({}) at {} load: {percentile} µs", run.wait, percent(run.load));
        Figure::once(what, ns as f64 / 1e3)
    })
}

fn peer(peer: &Peer) -> [Figure; 2] {
    let name = format!("{}, {} bytes", peer.name, peer.frame_bytes);
    [
        Figure::once(format!("{name}: no-drop Mpps"), peer.no_drop_mpps),
        Figure::once(format!("{name}: CPU s/Mframe"), peer.cpu_s_per_mframe),
    ]
}

fn micro(part: &Micro) -> Figure {
    Figure::over_rounds(format!("{}: {}", part.name, part.unit), part.per_frame, Better::Less)
}

fn waiting(wait: &str) -> String {
    if wait.is_empty() { String::new() } else { format!(" ({wait})") }
}
