//! Latency by percentile, as HdrHistogram plots it: the axis of percentiles stretches towards 100 %. A panel
//! for each load, a curve for each wait mode.

use anyhow::Result;
use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    coord::combinators::{BindKeyPoints as _, IntoLogRange as _},
    element::PathElement,
    prelude::WHITE,
    series::LineSeries,
    style::Color as _,
};

use super::{Area, FAINT, GRID, INK, colour, distinct, font, picture};
use crate::report::{
    schema::{Latency, Report},
    text::{figure, percent},
};

const SIZE: (u32, u32) = (1200, 440);

pub(super) fn draw(report: &Report) -> Result<Option<String>> {
    let curves = || report.latency.iter().flat_map(points);
    if curves().next().is_none() {
        return Ok(None);
    }
    // The same in every panel, so that they can be compared.
    let axes = Axes {
        nines: curves().map(|(nines, _)| nines).fold(10.0, f64::max),
        least: curves().map(|(_, micros)| micros).fold(f64::INFINITY, f64::min),
        most: curves().map(|(_, micros)| micros).fold(0.0, f64::max),
    };
    let mut loads = distinct(report.latency.iter().map(|run| run.load));
    loads.sort_by(f64::total_cmp);
    let waits = distinct(report.latency.iter().map(|run| run.wait.as_str()));
    picture(report, "Latency from the XDP program to the sink", SIZE, |area| {
        for (panel, &load) in area.split_evenly((1, loads.len())).iter().zip(&loads) {
            let runs: Vec<_> =
                report.latency.iter().filter(|run| run.load.total_cmp(&load).is_eq()).collect();
            draw_panel(panel, load, &runs, &waits, axes)?;
        }
        Ok(())
    })
    .map(Some)
}

/// How far the axes reach.
#[derive(Clone, Copy, Debug)]
struct Axes {
    /// To the right: 10 is 90 %, 100 is 99 %.
    nines: f64,
    /// Down, in microseconds.
    least: f64,
    /// Up.
    most: f64,
}

/// 1/(1-p) and microseconds. 100 % is infinitely far to the right.
#[expect(clippy::cast_precision_loss, reason = "times far below 2^52 ns")]
fn points(run: &Latency) -> impl Iterator<Item = (f64, f64)> + use<'_> {
    let most = run.frames.max(1) as f64;
    run.curve
        .iter()
        .filter(|(percentile, ns)| *percentile < 100.0 && *ns > 0)
        .map(|&(percentile, ns)| (1.0 / (1.0 - percentile / 100.0), ns as f64 / 1e3))
        // Fewer frames than that say nothing about this percentile.
        .take_while(move |(nines, _)| *nines <= most)
}

fn draw_panel(area: &Area<'_>, load: f64, runs: &[&Latency], waits: &[&str], axes: Axes) -> Result<()> {
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        // Half of the last percentile stands there.
        .margin_right(26)
        .caption(format!("at {} of the no-drop rate", percent(load)), font(15, INK))
        .x_label_area_size(42)
        .y_label_area_size(62)
        .build_cartesian_2d(
            (1.0..axes.nines * 1.02).log_scale().with_key_points(nines(axes.nines)),
            (axes.least * 0.8..axes.most * 1.3).log_scale(),
        )?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(WHITE)
        .axis_style(FAINT)
        .label_style(font(12, INK))
        .x_label_formatter(&|nines| percentile(*nines))
        .y_label_formatter(&|micros| time(*micros))
        .x_desc("frames that took no longer")
        .axis_desc_style(font(13, FAINT))
        .draw()?;
    for run in runs {
        let index = waits.iter().position(|wait| *wait == run.wait).unwrap_or_default();
        let style = colour(index).stroke_width(2);
        chart
            .draw_series(LineSeries::new(points(run), style))?
            .label(format!("{}, {} Mpps", run.wait, figure(run.mpps)))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(GRID)
        .label_font(font(12, INK))
        .draw()?;
    Ok(())
}

/// The median, then 90 %, 99 % and so on as far as the axis goes.
fn nines(most: f64) -> Vec<f64> {
    // A little further: 1/(1-p) is rarely exact.
    let powers = (1..).map(|power| 10_f64.powi(power)).take_while(|nines| *nines <= most * 1.01);
    [2.0].into_iter().chain(powers).collect()
}

/// 2 is 50 %, 10 is 90 %, 100 is 99 %, 1000 is 99.9 %.
fn percentile(nines: f64) -> String {
    format!("{}%", ((100.0 - 100.0 / nines) * 1e6).round() / 1e6)
}

fn time(micros: f64) -> String {
    match micros {
        long if long >= 1e6 => format!("{} s", long / 1e6),
        long if long >= 1e3 => format!("{} ms", long / 1e3),
        short if short < 1.0 => format!("{:.0} ns", short * 1e3),
        _ => format!("{micros} µs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_of_percentiles_counts_nines() {
        let labels: Vec<_> = nines(9_999.999).into_iter().map(percentile).collect();
        assert_eq!(labels, ["50%", "90%", "99%", "99.9%", "99.99%"]);
    }

    #[test]
    fn a_curve_ends_where_its_frames_do() {
        let curve = vec![(50.0, 1_000), (99.0, 2_000), (99.9, 9_000), (100.0, 10_000)];
        let run = Latency { frames: 100, curve, ..Latency::default() };
        let points: Vec<_> = points(&run).map(|(nines, micros)| (nines.round(), micros)).collect();
        assert_eq!(points, [(2.0, 1.0), (100.0, 2.0)]);
    }
}
