//! No-drop rates, ours beside other tools', a panel for each frame size.

use anyhow::Result;
use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    element::{Rectangle, Text},
    prelude::WHITE,
    style::{
        Color as _, RGBColor,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{Area, COLOURS, FAINT, GRID, INK, distinct, font, picture, places::Places};
use crate::report::{
    schema::{Peer, Report},
    text::figure,
};

const WIDTH: u32 = 1000;
const BAR: u32 = 34;
/// Height of a panel's caption and axis.
const FRAME: u32 = 90;
const OURS: RGBColor = COLOURS[0];
const THEIRS: RGBColor = RGBColor(150, 150, 150);

pub(super) fn draw(report: &Report) -> Result<Option<String>> {
    let mut sizes = distinct(report.peers.iter().map(|peer| peer.frame_bytes));
    if sizes.is_empty() {
        return Ok(None);
    }
    sizes.sort_unstable();
    let panels: Vec<_> = sizes.iter().map(|&size| (size, ranked(&report.peers, size))).collect();
    let heights = panels.iter().map(|(_, bars)| Ok(FRAME + BAR * u32::try_from(bars.len())?));
    let heights: Vec<u32> = heights.collect::<Result<_>>()?;
    // The same in every panel, so that they can be compared.
    let most = report.peers.iter().map(|peer| peer.no_drop_mpps).fold(0.1, f64::max);
    let title = "No-drop rate beside other tools, same traffic and CPUs";
    picture(report, title, (WIDTH, heights.iter().sum()), |area| {
        let mut below = area.clone();
        for ((size, bars), height) in panels.iter().zip(heights) {
            let (panel, rest) = below.split_vertically(height);
            draw_panel(&panel, *size, bars, most)?;
            below = rest;
        }
        Ok(())
    })
    .map(Some)
}

/// Slowest first: bars are drawn from the bottom.
fn ranked(peers: &[Peer], frame_bytes: usize) -> Vec<&Peer> {
    let mut bars: Vec<_> = peers.iter().filter(|peer| peer.frame_bytes == frame_bytes).collect();
    bars.sort_by(|a, b| a.no_drop_mpps.total_cmp(&b.no_drop_mpps));
    bars
}

#[expect(clippy::cast_precision_loss, reason = "places of a few bars")]
fn draw_panel(area: &Area<'_>, frame_bytes: usize, bars: &[&Peer], most: f64) -> Result<()> {
    let names = bars.iter().map(|peer| peer.name.clone()).collect();
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .margin_right(20)
        .caption(format!("{frame_bytes} bytes"), font(15, INK))
        .x_label_area_size(42)
        .y_label_area_size(210)
        .build_cartesian_2d(0.0..most * 1.15, Places::new(names))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .bold_line_style(GRID)
        .light_line_style(WHITE)
        .axis_style(FAINT)
        .label_style(font(13, INK))
        .x_desc("million frames a second, none lost")
        .axis_desc_style(font(13, FAINT))
        .draw()?;
    for (ours, label, colour) in [(true, "mirror", OURS), (false, "other tools", THEIRS)] {
        let of_kind = bars.iter().enumerate().filter(|(_, peer)| is_ours(peer) == ours);
        chart
            .draw_series(of_kind.map(|(place, peer)| {
                let corners = [(0.0, place as f64 + 0.15), (peer.no_drop_mpps, place as f64 + 0.85)];
                Rectangle::new(corners, colour.filled())
            }))?
            .label(label)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], colour.filled()));
    }
    let beside = font(12, INK).pos(Pos::new(HPos::Left, VPos::Center));
    chart.draw_series(bars.iter().enumerate().map(|(place, peer)| {
        // A bar of no length must not look like one that is missing.
        let none = peer.no_drop_mpps == 0.0;
        let value = if none { "lost some at every rate".into() } else { figure(peer.no_drop_mpps) };
        Text::new(value, (peer.no_drop_mpps + most * 0.01, place as f64 + 0.5), beside.clone())
    }))?;
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE)
        .border_style(GRID)
        .label_font(font(13, INK))
        .draw()?;
    Ok(())
}

/// Ours, measured as the others are, is called after the command.
fn is_ours(peer: &Peer) -> bool {
    peer.name.starts_with("mirror")
}
