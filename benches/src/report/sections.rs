//! The content of a report as titled tables, which terminal and Markdown show alike.

use super::{
    schema::{
        Capture, Gaps, Goal, Latency, Micro, Neighbour, NoDrop, Peer, Report, Rung, Soak, SourceFigure,
        SweepPoint,
    },
    text::{
        NONE, count, figure, figure_or_none, micros, percent, percent_or_none, share, spread, spread_or_none,
    },
};

/// A titled table and its notes.
#[derive(Clone, Debug, Default)]
pub(super) struct Section {
    pub(super) title: String,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<String>>,
    pub(super) notes: Vec<String>,
}

/// The head of a column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    /// Figures are read from their right end.
    pub(super) right: bool,
}

/// A column of words.
pub(super) const fn words(name: &'static str) -> Column {
    Column { name, right: false }
}

/// A column of figures.
pub(super) const fn figures(name: &'static str) -> Column {
    Column { name, right: true }
}

/// All results, goals first; empty sections are left out.
pub(super) fn of(report: &Report) -> Vec<Section> {
    let all = [
        goals(&report.goals),
        ladder(&report.rungs),
        ladder_time(&report.rungs),
        losses(&report.rungs),
        sweep(&report.sweep),
        no_drop(&report.no_drop),
        soak(&report.soak),
        neighbour(&report.neighbour),
        gaps(&report.gaps),
        captures(&report.captures),
        source(&report.source),
        latency(&report.latency),
        peers(&report.peers),
        commands(&report.peers),
        micro(&report.micro),
    ];
    let mut sections: Vec<_> = all.into_iter().filter(|section| !section.rows.is_empty()).collect();
    let missing = missing(report);
    if !missing.is_empty() {
        sections.push(Section { title: "Not measured".into(), notes: missing, ..Section::default() });
    }
    sections
}

fn goals(goals: &[Goal]) -> Section {
    let row = |goal: &Goal| {
        let verdict = if goal.reached { "reached" } else { "NOT REACHED" };
        let bound = format!("{} {}", goal.relation, goal.bound);
        vec![goal.what.clone(), bound, spread(goal.measured), verdict.into()]
    };
    Section {
        title: "Goals".into(),
        columns: vec![words("goal"), figures("must be"), figures("measured"), words("verdict")],
        rows: goals.iter().map(row).collect(),
        notes: Vec::new(),
    }
}

/// What identifies a measurement of the ladder.
const TRAFFIC: [Column; 7] = [
    words("rung"),
    words("wait"),
    figures("RX ring"),
    figures("bytes"),
    figures("flows"),
    figures("VNIs"),
    figures("queues"),
];

fn traffic(rung: &Rung) -> [String; TRAFFIC.len()] {
    [
        rung.rung.clone(),
        rung.wait.clone(),
        count(rung.rx_ring.into()),
        rung.frame_bytes.to_string(),
        count(rung.flows.into()),
        count(rung.vnis.into()),
        rung.queues.to_string(),
    ]
}

fn ladder(rungs: &[Rung]) -> Section {
    let row = |rung: &Rung| {
        let figures = [
            spread(rung.mpps),
            figure(rung.gbps),
            share(rung.lost, rung.offered),
            spread_or_none(rung.ratio_to_touch),
            spread_or_none(rung.ratio_to_null),
        ];
        traffic(rung).into_iter().chain(figures).collect()
    };
    let columns =
        [figures("Mpps"), figures("Gbit/s"), figures("lost"), figures("÷ touch"), figures("÷ null")];
    Section {
        title: "Ladder: throughput".into(),
        columns: TRAFFIC.into_iter().chain(columns).collect(),
        rows: rungs.iter().map(row).collect(),
        notes: vec![format!("Median [quartiles] of {} rounds.", rounds(rungs))],
    }
}

fn ladder_time(rungs: &[Rung]) -> Section {
    let row = |rung: &Rung| {
        let figures = [
            figure_or_none(rung.busy_ns_per_frame),
            spread_or_none(rung.busy_ns_over_touch),
            percent_or_none(rung.busy_ratio),
            percent_or_none(rung.kernel_share),
        ];
        traffic(rung).into_iter().chain(figures).collect()
    };
    let columns = [figures("busy ns"), figures("over touch"), figures("worker CPU"), figures("kernel CPU")];
    Section {
        title: "Ladder: where the time is spent".into(),
        columns: TRAFFIC.into_iter().chain(columns).collect(),
        rows: rungs.iter().map(row).collect(),
        notes: vec![
            "`busy ns` is the worker's time a frame around batches that were not empty, `over touch` what it \
            takes more than the loop that only touches frames. `CPU` is how busy the two were."
                .into(),
        ],
    }
}

/// The rounds of the rungs: one number, or the least and the most.
fn rounds(rungs: &[Rung]) -> String {
    let rounds = || rungs.iter().map(|rung| rung.rounds);
    match (rounds().min().unwrap_or_default(), rounds().max().unwrap_or_default()) {
        (least, most) if least == most => most.to_string(),
        (least, most) => format!("{least} to {most}"),
    }
}

fn losses(rungs: &[Rung]) -> Section {
    let rows = rungs.iter().flat_map(|rung| {
        rung.lost_by.iter().filter(|(_, lost)| **lost > 0).map(|(stage, &lost)| {
            let figures = [stage.clone(), count(lost), share(lost, rung.offered)];
            traffic(rung).into_iter().chain(figures).collect()
        })
    });
    let columns = [words("stage"), figures("frames"), figures("of those sent")];
    Section {
        title: "Ladder: losses by stage".into(),
        columns: TRAFFIC.into_iter().chain(columns).collect(),
        rows: rows.collect(),
        notes: Vec::new(),
    }
}

fn sweep(points: &[SweepPoint]) -> Section {
    let row = |point: &SweepPoint| {
        vec![
            point.rung.clone(),
            count(point.rx_ring.into()),
            count(point.umem_frames.into()),
            spread(point.mpps),
            spread_or_none(point.ratio_to_bare),
            share(point.lost, point.offered),
        ]
    };
    Section {
        title: "Ring and UMEM sizes".into(),
        columns: vec![
            words("rung"),
            figures("RX ring"),
            figures("UMEM frames"),
            figures("Mpps"),
            figures("÷ bare"),
            figures("lost"),
        ],
        rows: points.iter().map(row).collect(),
        notes: Vec::new(),
    }
}

fn no_drop(rates: &[NoDrop]) -> Section {
    let row = |rate: &NoDrop| {
        let least = if rate.generator_bound { "≥ " } else { "" };
        vec![
            rate.receiver.clone(),
            rate.wait.clone(),
            rate.frame_bytes.to_string(),
            format!("{least}{}", figure(rate.mpps)),
            count(rate.frames),
        ]
    };
    let notes = rates
        .iter()
        .any(|rate| rate.generator_bound)
        .then(|| "≥: no loss at the generator's full speed, so the rate may be higher.".to_owned());
    Section {
        title: "No-drop rate".into(),
        columns: vec![words("receiver"), words("wait"), figures("bytes"), figures("Mpps"), figures("frames")],
        rows: rates.iter().map(row).collect(),
        notes: notes.into_iter().collect(),
    }
}

fn soak(runs: &[Soak]) -> Section {
    let row = |run: &Soak| {
        vec![
            run.receiver.clone(),
            run.wait.clone(),
            run.frame_bytes.to_string(),
            percent(run.load),
            format!("{:.0} s", run.seconds),
            count(run.offered),
            count(run.lost),
        ]
    };
    Section {
        title: "Long runs below the no-drop rate".into(),
        columns: vec![
            words("receiver"),
            words("wait"),
            figures("bytes"),
            figures("load"),
            figures("time"),
            figures("sent"),
            figures("lost"),
        ],
        rows: runs.iter().map(row).collect(),
        notes: Vec::new(),
    }
}

fn neighbour(runs: &[Neighbour]) -> Section {
    let row = |run: &Neighbour| {
        vec![
            run.receiver.clone(),
            run.priority.clone(),
            figure(run.mpps),
            format!("{} × {} s", run.rounds, run.seconds),
            count(run.offered),
            count(run.lost),
            parts_per_million(run.lost_share.median),
            parts_per_million(run.worst_lost_share),
            percent(run.neighbour_cpu.median),
        ]
    };
    Section {
        title: "Beside a busy neighbour on the worker's CPU".into(),
        columns: vec![
            words("receiver"),
            words("priority"),
            figures("Mpps"),
            figures("time"),
            figures("sent"),
            figures("lost"),
            figures("lost ppm, median"),
            figures("worst"),
            figures("neighbour's CPU"),
        ],
        rows: runs.iter().map(row).collect(),
        notes: Vec::new(),
    }
}

fn gaps(runs: &[Gaps]) -> Section {
    let row = |run: &Gaps| {
        vec![
            run.receiver.clone(),
            run.frame_bytes.to_string(),
            figure(run.mpps),
            format!("{:.0} s", run.seconds),
            count(run.offered),
            count(run.lost),
            share(run.lost_in_gaps(), run.lost),
            count(run.gaps as u64),
            format!("{:.2} %", 100.0 * run.gaps_share),
            figure(micros_as_ms(run.longest_us)),
            run.steal_ms.to_string(),
        ]
    };
    let by_cause = |run: &Gaps| {
        let causes: Vec<_> = run
            .lost_by_cause
            .iter()
            .map(|(cause, lost)| format!("{} in those of {cause}", count(*lost)))
            .collect();
        (!causes.is_empty()).then(|| format!("{}: {}.", run.receiver, causes.join(", ")))
    };
    Section {
        title: "Losses at full speed, default ring".into(),
        columns: vec![
            words("receiver"),
            figures("bytes"),
            figures("Mpps"),
            figures("time"),
            figures("sent"),
            figures("lost"),
            figures("inside gaps"),
            figures("gaps"),
            figures("of the time"),
            figures("longest ms"),
            figures("steal ms"),
        ],
        rows: runs.iter().map(row).collect(),
        notes: runs.iter().filter_map(by_cause).collect(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn micros_as_ms(micros: u64) -> f64 {
    micros as f64 / 1e3
}

fn captures(captures: &[Capture]) -> Section {
    let row = |capture: &Capture| {
        vec![
            capture.place.clone(),
            capture.files.clone(),
            capture.frame_bytes.to_string(),
            spread(capture.mpps),
            spread(capture.gigabytes_per_s),
            spread(capture.ratio_to_touch),
            capture.ratio_to_disk.map_or_else(|| NONE.into(), spread),
            capture.ratio_to_disk_ring.map_or_else(|| NONE.into(), spread),
            spread(capture.cpu_s_per_mframe),
        ]
    };
    Section {
        title: "Captures into files".into(),
        columns: vec![
            words("file system"),
            words("files"),
            figures("bytes"),
            figures("Mpps"),
            figures("GB/s"),
            figures("÷ touch"),
            figures("÷ O_DIRECT writer"),
            figures("÷ its ring"),
            figures("CPU s/Mframe"),
        ],
        rows: captures.iter().map(row).collect(),
        notes: Vec::new(),
    }
}

fn source(figures_of: &[SourceFigure]) -> Section {
    let row = |figure: &SourceFigure| {
        let SourceFigure { what, unit, rounds, measured, .. } = figure;
        vec![what.clone(), spread(*measured), unit.clone(), rounds.to_string()]
    };
    Section {
        title: "A mirror source, and production beside it".into(),
        columns: vec![words("what"), figures("measured"), words("unit"), figures("rounds")],
        rows: figures_of.iter().map(row).collect(),
        notes: Vec::new(),
    }
}

/// A share, in millionths.
fn parts_per_million(share: f64) -> String {
    figure(share * 1e6)
}

fn latency(runs: &[Latency]) -> Section {
    let row = |run: &Latency| {
        vec![
            run.wait.clone(),
            percent(run.load),
            figure(run.mpps),
            micros(run.p50_ns),
            micros(run.p99_ns),
            micros(run.p999_ns),
            micros(run.max_ns),
            count(run.frames),
            count(run.lost),
        ]
    };
    Section {
        title: "Latency, XDP program to sink, µs".into(),
        columns: vec![
            words("wait"),
            figures("load"),
            figures("Mpps"),
            figures("p50"),
            figures("p99"),
            figures("p99.9"),
            figures("max"),
            figures("frames"),
            figures("lost"),
        ],
        rows: runs.iter().map(row).collect(),
        notes: Vec::new(),
    }
}

fn peers(peers: &[Peer]) -> Section {
    let row = |peer: &Peer| {
        vec![
            peer.name.clone(),
            if peer.writes { "yes" } else { "no" }.into(),
            peer.frame_bytes.to_string(),
            figure(peer.no_drop_mpps),
            figure_or_none(peer.cpu_s_per_mframe),
            figure(peer.received_mpps),
            count(peer.offered),
            share(peer.offered.saturating_sub(peer.received), peer.offered),
            peer.reported_lost.map_or_else(|| NONE.into(), |lost| share(lost, peer.offered)),
        ]
    };
    Section {
        title: "Other tools".into(),
        columns: vec![
            words("tool"),
            words("writes"),
            figures("bytes"),
            figures("no-drop Mpps"),
            figures("CPU s/Mframe"),
            figures("Mpps at full speed"),
            figures("sent"),
            figures("lost"),
            figures("says it lost"),
        ],
        rows: peers.iter().map(row).collect(),
        notes: Vec::new(),
    }
}

/// How each tool was called, once for all frame sizes.
fn commands(peers: &[Peer]) -> Section {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for peer in peers {
        let row = vec![peer.name.clone(), peer.version.clone(), format!("`{}`", peer.settings)];
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    Section {
        title: "Other tools: versions and commands".into(),
        columns: vec![words("tool"), words("version"), words("command")],
        rows,
        notes: Vec::new(),
    }
}

fn micro(parts: &[Micro]) -> Section {
    let row = |part: &Micro| vec![part.name.clone(), spread(part.per_frame), part.unit.clone()];
    Section {
        title: "Parts, per frame".into(),
        columns: vec![words("part"), figures("takes"), words("unit")],
        rows: parts.iter().map(row).collect(),
        notes: Vec::new(),
    }
}

/// What is missing in the report.
fn missing(report: &Report) -> Vec<String> {
    let parts = report.parts.iter().filter_map(|run| {
        let why = run.incomplete.as_ref()?;
        Some(format!("{}: INCOMPLETE: {}", run.part, first_paragraph(why)))
    });
    parts.chain(report.not_measured.iter().map(|what| first_paragraph(what))).collect()
}

/// In one line. A backtrace and the like, which may follow, is in `report.json`.
fn first_paragraph(text: &str) -> String {
    text.lines().take_while(|line| !line.trim().is_empty()).collect::<Vec<_>>().join(" ")
}
