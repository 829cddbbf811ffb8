//! Throughput by rung, a bar for each frame size, a panel for each kind of traffic.

use anyhow::Result;
use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    element::{PathElement, Rectangle, Text},
    prelude::WHITE,
    style::{
        Color as _,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{Area, FAINT, GRID, INK, colour, distinct, font, picture, places::Places};
use crate::report::{
    schema::{Report, Rung},
    text::{figure, plural},
};

const WIDTH: u32 = 1080;
const PANEL: u32 = 330;
/// The part of a rung's place that its bars take.
const FILLED: f64 = 0.84;

pub(super) fn draw(report: &Report) -> Result<Option<String>> {
    let traffics = distinct(report.rungs.iter().map(Traffic::of));
    if traffics.is_empty() {
        return Ok(None);
    }
    // The same in every panel, so that they can be compared.
    let sizes = sorted(distinct(report.rungs.iter().map(|rung| rung.frame_bytes)));
    let most = report.rungs.iter().map(|rung| rung.mpps.q3.max(rung.mpps.median)).fold(0.1, f64::max);
    let rows = u32::try_from(traffics.len())?;
    let title = "Throughput by rung and frame size";
    picture(report, title, (WIDTH, rows * PANEL), |area| {
        for (panel, traffic) in area.split_evenly((traffics.len(), 1)).iter().zip(&traffics) {
            let rungs: Vec<_> = report.rungs.iter().filter(|rung| Traffic::of(rung) == *traffic).collect();
            draw_panel(panel, &traffic.to_string(), &rungs, &sizes, most)?;
        }
        Ok(())
    })
    .map(Some)
}

/// What tells one panel from another.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Traffic {
    flows: u32,
    vnis: u32,
    queues: u32,
    wait: String,
    rx_ring: u32,
}

impl Traffic {
    fn of(rung: &Rung) -> Self {
        let Rung { flows, vnis, queues, ref wait, rx_ring, .. } = *rung;
        Self { flows, vnis, queues, wait: wait.clone(), rx_ring }
    }
}

impl std::fmt::Display for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { flows, vnis, queues, ref wait, rx_ring } = *self;
        let (flows, vnis, queues) = (plural(flows, "flow"), plural(vnis, "VNI"), plural(queues, "queue"));
        write!(f, "{flows}, {vnis}, {queues}, {wait}, RX ring of {rx_ring}")
    }
}

#[expect(clippy::cast_precision_loss, reason = "places of a few bars")]
fn draw_panel(area: &Area<'_>, caption: &str, rungs: &[&Rung], sizes: &[usize], most: f64) -> Result<()> {
    let names = distinct(rungs.iter().map(|rung| rung.rung.clone()));
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .margin_right(20)
        .caption(caption, font(15, INK))
        .x_label_area_size(30)
        .y_label_area_size(60)
        .build_cartesian_2d(Places::new(names.clone()), 0.0..most * 1.35)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID)
        .light_line_style(WHITE)
        .axis_style(FAINT)
        .label_style(font(13, INK))
        .y_desc("million frames a second")
        .axis_desc_style(font(13, FAINT))
        .draw()?;

    let width = FILLED / sizes.len() as f64;
    for (index, &size) in sizes.iter().enumerate() {
        let colour = colour(index);
        let of_size: Vec<_> = rungs.iter().filter(|rung| rung.frame_bytes == size).collect();
        let bar = |rung: &Rung| {
            let place = names.iter().position(|known| *known == rung.rung).unwrap_or_default();
            let left = place as f64 + (1.0 - FILLED) / 2.0 + index as f64 * width;
            (left, left + 0.92 * width)
        };
        chart
            .draw_series(of_size.iter().map(|rung| {
                let (left, right) = bar(rung);
                Rectangle::new([(left, 0.0), (right, rung.mpps.median)], colour.filled())
            }))?
            .label(format!("{size} bytes"))
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], colour.filled()));
        // From quartile to quartile.
        chart.draw_series(of_size.iter().map(|rung| {
            let (left, right) = bar(rung);
            let centre = f64::midpoint(left, right);
            PathElement::new([(centre, rung.mpps.q1), (centre, rung.mpps.q3)], INK.stroke_width(2))
        }))?;
        let above = font(11, INK).pos(Pos::new(HPos::Center, VPos::Bottom));
        chart.draw_series(of_size.iter().map(|rung| {
            let (left, right) = bar(rung);
            let top = (f64::midpoint(left, right), rung.mpps.median.max(rung.mpps.q3) + most * 0.015);
            Text::new(figure(rung.mpps.median), top, above.clone())
        }))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE)
        .border_style(GRID)
        .label_font(font(13, INK))
        .draw()?;
    Ok(())
}

fn sorted(mut values: Vec<usize>) -> Vec<usize> {
    values.sort_unstable();
    values
}
