//! The plots of a report, as SVG.

mod latency;
mod peers;
mod places;
mod throughput;

use anyhow::{Context as _, Result};
use plotters::{
    coord::Shift,
    prelude::{DrawingArea, IntoDrawingArea as _, IntoFont as _, RGBColor, SVGBackend, WHITE},
    style::{FontStyle, TextStyle},
};

use super::{schema::Report, text};

/// A plot, and the file it goes to.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    pub(super) file: &'static str,
    pub(super) caption: &'static str,
    /// Nothing where the part it shows was not run.
    pub(super) svg: Option<String>,
}

/// Every plot there is.
///
/// # Errors
///
/// Where one cannot be drawn.
pub(super) fn all(report: &Report) -> Result<[Plot; 3]> {
    let plot = |file, caption, svg: Result<Option<String>>| {
        anyhow::Ok(Plot { file, caption, svg: svg.with_context(|| format!("{file}: cannot be drawn"))? })
    };
    Ok([
        plot("throughput.svg", "Throughput by rung and frame size", throughput::draw(report))?,
        plot("latency.svg", "Latency by percentile, wait mode and load", latency::draw(report))?,
        plot("peers.svg", "No-drop rate beside other tools", peers::draw(report))?,
    ])
}

type Backend<'a> = SVGBackend<'a>;
type Area<'a> = DrawingArea<Backend<'a>, Shift>;

/// Distinguishable with colour blindness too (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
];
const INK: RGBColor = RGBColor(40, 40, 40);
const FAINT: RGBColor = RGBColor(110, 110, 110);
const GRID: RGBColor = RGBColor(222, 222, 222);

/// Height of what stands above the panels.
const HEAD: u32 = 62;

fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

fn font(size: u32, colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&colour)
}

/// A picture with a title and what it was made on; `panels` draws what is below.
fn picture(
    report: &Report,
    title: &str,
    (width, height): (u32, u32),
    panels: impl FnOnce(&Area<'_>) -> Result<()>,
) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (width, HEAD + height)).into_drawing_area();
        root.fill(&WHITE)?;
        let (head, body) = root.split_vertically(HEAD);
        let bold = ("sans-serif", 22, FontStyle::Bold).into_font().color(&INK);
        head.draw_text(title, &bold, (16, 12))?;
        head.draw_text(&text::provenance(report), &font(13, FAINT), (16, 41))?;
        panels(&body)?;
        root.present()?;
    }
    Ok(svg)
}

/// What is in `values`, each once, in the order of its first appearance.
fn distinct<T: PartialEq>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}
