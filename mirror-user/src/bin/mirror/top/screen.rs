//! The layout of the screen: what there is room for, in plain rows.

use mirror_user::{account::SinkState, escape};

use super::rates::{Count, OriginCounts, Queue, Sink, View};
use crate::{control::seconds, status};

/// Columns and rows of a terminal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

impl Size {
    /// Of a terminal that does not say.
    pub(super) const USUAL: Self = Self { columns: 80, rows: 24 };
}

/// How a part of a line is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Style {
    Plain,
    Bold,
    /// Of the head of a table.
    Reverse,
    /// A loss that grows, or an output that takes no packets.
    Red,
}

impl Style {
    /// ECMA-48, select graphic rendition.
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\x1b[1m",
            Self::Reverse => "\x1b[7m",
            Self::Red => "\x1b[31m",
        }
    }
}

/// A line of the screen. Its text has no control characters.
#[derive(Clone, Debug, Default)]
pub(super) struct Line(Vec<(Style, String)>);

impl Line {
    fn of(style: Style, text: impl Into<String>) -> Self {
        Self(vec![(style, text.into())])
    }

    fn and(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((style, text.into()));
        self
    }

    fn len(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// Cut to a number of columns.
    fn cut(mut self, columns: usize) -> Self {
        let mut left = columns;
        for (_, text) in &mut self.0 {
            *text = text.chars().take(left).collect();
            left -= text.chars().count();
        }
        self
    }

    /// Filled with spaces to a number of columns.
    fn filled(self, columns: usize) -> Self {
        let style = self.0.last().map_or(Style::Plain, |(style, _)| *style);
        let style = if style == Style::Reverse { style } else { Style::Plain };
        let missing = columns.saturating_sub(self.len());
        self.and(style, " ".repeat(missing)).cut(columns)
    }

    /// Two lines side by side, from a column on.
    fn beside(self, column: usize, right: Self) -> Self {
        let mut line = self.filled(column);
        line.0.extend(right.0);
        line
    }

    /// Without styles and trailing spaces.
    pub(super) fn plain(&self) -> String {
        let text: String = self.0.iter().map(|(_, text)| text.as_str()).collect();
        text.trim_end().to_owned()
    }

    /// For a terminal.
    pub(super) fn styled(&self) -> String {
        let each = self.0.iter().map(|(style, text)| match style.code() {
            "" => text.clone(),
            code => format!("{code}{text}\x1b[m"),
        });
        each.collect()
    }
}

/// The width of one column of tables.
const TABLE: usize = 80;
/// Between two columns of tables.
const GAP: usize = 2;

/// Draws a run; at most as many rows as there are.
pub(super) fn draw(view: &View, size: Size) -> Vec<Line> {
    let mut lines = head(view);
    if view.age.is_some() {
        lines.extend(stages(view));
        let left = size.rows.saturating_sub(lines.len());
        if size.columns >= 2 * TABLE + GAP && size.rows != usize::MAX {
            // Queues and outputs on the left, origins on the right from the top.
            lines.extend(tables(vec![queues(view), sinks(view)], left));
            let mut right = head(view).iter().map(|_| Line::default()).collect::<Vec<_>>();
            right.extend(tables(vec![origins(view)], size.rows.saturating_sub(right.len())));
            let rows = lines.len().max(right.len());
            lines.resize(rows, Line::default());
            right.resize(rows, Line::default());
            let both = lines.into_iter().zip(right).enumerate();
            lines = both
                .map(
                    |(row, (left, right))| {
                        if right.0.is_empty() && row < 2 { left } else { left.beside(TABLE + GAP, right) }
                    },
                )
                .collect();
        } else {
            lines.extend(tables(vec![queues(view), sinks(view), origins(view)], left));
        }
    }
    lines.truncate(size.rows);
    lines.into_iter().map(|line| line.cut(size.columns)).collect()
}

fn head(view: &View) -> Vec<Line> {
    let View { name, pid, phase, age, packets, bytes, .. } = view;
    let mut first = Line::of(Style::Bold, format!("mirror {}", escape::line(name)))
        .and(Style::Plain, format!("  {}", phase.name()));
    let Some(age) = age else {
        return vec![first.and(Style::Plain, format!(", pid {pid}"))];
    };
    first = first.and(Style::Plain, format!(" for {}, pid {pid}", seconds(*age)));
    let rate = |count: &Count, factor: f64, unit: &str| {
        let scaled = count.rate.map(|rate| status::scaled(rate * factor));
        format!("{}{unit}", scaled.unwrap_or_else(|| "- ".to_owned()))
    };
    let mut second =
        Line::of(Style::Bold, format!("{}  {}", rate(packets, 1.0, "pps"), rate(bytes, 8.0, "bit/s")))
            .and(Style::Plain, format!("  {} packets", packets.total));
    if let Some(warning) = view.warnings.first() {
        second = second.and(Style::Red, format!("  {}", escape::line(warning)));
    }
    vec![first, second]
}

/// The path of frames, and beside it where they are lost.
fn stages(view: &View) -> Vec<Line> {
    const NAME: usize = 14;
    let row = |name: &str, count: &Count, is_loss: bool| {
        let style = if is_loss && count.rate.unwrap_or(0.0) > 0.0 { Style::Red } else { Style::Plain };
        Line::of(style, format!("{name:NAME$} {} {}", rate(count, 9), total(count.total, 14)))
    };
    let title = |what: &str| {
        Line::of(Style::Reverse, format!("{what:NAME$} {:>9} {:>14}", "/S", "TOTAL")).filled(TABLE / 2 - 1)
    };
    let mut lines = vec![title("PATH").beside(TABLE / 2, title("LOST").filled(TABLE / 2))];
    for ((name, count), (loss, lost)) in view.path.iter().zip(&view.losses) {
        lines.push(row(name, count, false).beside(TABLE / 2, row(loss, lost, true)));
    }
    lines
}

/// A table: its title, and its rows.
struct Table {
    title: String,
    rows: Vec<Line>,
}

/// Tables below each other, with as many rows as there is room for.
fn tables(tables: Vec<Table>, rows: usize) -> Vec<Line> {
    let tables: Vec<_> = tables.into_iter().filter(|table| !table.rows.is_empty()).collect();
    let wanted: Vec<_> = tables.iter().map(|table| table.rows.len()).collect();
    let shares = shares(&wanted, rows.saturating_sub(tables.len()));
    let mut lines = Vec::new();
    for (Table { title, rows }, share) in tables.into_iter().zip(shares) {
        let more = rows.len() - share;
        lines.push(Line::of(Style::Reverse, title).filled(TABLE));
        // The row that says so takes the place of one.
        let shown = if more > 0 { share.saturating_sub(1) } else { share };
        let left = rows.len() - shown;
        lines.extend(rows.into_iter().take(shown));
        if more > 0 && share > 0 {
            lines.push(Line::of(Style::Plain, format!("  and {left} more rows")));
        }
    }
    lines
}

/// Rows for each: what it wants, or as many as the others.
fn shares(wanted: &[usize], mut rows: usize) -> Vec<usize> {
    let mut shares = vec![0; wanted.len()];
    loop {
        let wants: Vec<_> = (0..wanted.len()).filter(|one| shares[*one] < wanted[*one]).collect();
        if wants.is_empty() || rows == 0 {
            return shares;
        }
        let each = (rows / wants.len()).max(1);
        for one in wants {
            let more = each.min(wanted[one] - shares[one]).min(rows);
            shares[one] += more;
            rows -= more;
        }
    }
}

fn queues(view: &View) -> Table {
    let title = format!(
        "{:22} {:>4} {:>9} {:>5} {:>9} {:>9} {:>13}",
        "QUEUE", "CPU", "/S", "BUSY", "SATURATED", "LOST/S", "LOST"
    );
    let row = |queue: &Queue| {
        let Queue { name, cpu, received, busy, saturated, lost } = queue;
        let cpu = cpu.map_or_else(|| "-".to_owned(), |cpu| cpu.to_string());
        let busy = busy.map_or_else(|| "-".to_owned(), |busy| format!("{:.0}%", busy * 100.0));
        let text = format!(
            "{} {cpu:>4} {} {busy:>5} {}",
            name_in(name, 22),
            rate(received, 9),
            total(*saturated, 9)
        );
        losing(Line::of(Style::Plain, text), lost)
    };
    Table { title, rows: view.queues.iter().map(row).collect() }
}

fn sinks(view: &View) -> Table {
    let title = format!(
        "{:22} {:>7} {:>9} {:>13} {:>9} {:>13}",
        "OUTPUT", "STATE", "/S", "PENDING", "LOST/S", "LOST"
    );
    let mut rows = Vec::new();
    for Sink { name, state, removed, reason, written, lost, pending } in &view.sinks {
        let (style, word) = match state {
            SinkState::Done if *removed => (Style::Plain, "removed"),
            SinkState::Done => (Style::Plain, "open"),
            other => (Style::Red, status::state(*other)),
        };
        let line = Line::of(Style::Plain, format!("{} ", name_in(name, 22)))
            .and(style, format!("{word:>7}"))
            .and(Style::Plain, format!(" {} {}", rate(written, 9), total(*pending, 13)));
        rows.push(losing(line, lost));
        rows.extend(
            reason.as_ref().map(|reason| Line::of(Style::Red, format!("  {}", escape::line(reason)))),
        );
    }
    Table { title, rows }
}

fn origins(view: &View) -> Table {
    /// Columns of the longest address.
    const ORIGIN: usize = 39;
    let title = format!("{:ORIGIN$} {:>8} {:>9} {:>9} {:>11}", "ORIGIN", "VNI", "/S", "BIT/S", "PACKETS");
    let row = |origin: &OriginCounts| {
        let OriginCounts { label, source, vni, frames, bytes } = origin;
        let source = source.to_string();
        let room = ORIGIN.saturating_sub(source.len() + 1);
        let label = label.iter().flat_map(|label| label.chars().take(room).chain([' '])).collect::<String>();
        let bits = Count { total: bytes.total, rate: bytes.rate.map(|rate| rate * 8.0) };
        let text = format!(
            "{:ORIGIN$} {vni:>8} {} {} {}",
            label + &source,
            rate(frames, 9),
            rate(&bits, 9),
            total(frames.total, 11)
        );
        Line::of(Style::Plain, text)
    };
    let mut rows: Vec<_> = view.origins.iter().map(row).collect();
    if view.other_origins > 0 {
        rows.push(Line::of(Style::Plain, format!("  and at least {} others", view.other_origins)));
    }
    Table { title, rows }
}

/// The end of a row: what was lost.
fn losing(line: Line, lost: &Count) -> Line {
    let style = if lost.rate.unwrap_or(0.0) > 0.0 { Style::Red } else { Style::Plain };
    line.and(style, format!(" {} {}", rate(lost, 9), total(lost.total, 13)))
}

/// A rate, right-aligned.
fn rate(count: &Count, columns: usize) -> String {
    let rate = count.rate.map_or_else(|| "-".to_owned(), |rate| status::scaled(rate).trim_end().to_owned());
    format!("{rate:>columns$}")
}

/// A number, right-aligned; with a prefix where it is too long.
fn total(total: u64, columns: usize) -> String {
    let text = total.to_string();
    #[expect(clippy::cast_precision_loss, reason = "a number that does not fit is rounded")]
    let text = if text.len() > columns { status::scaled(total as f64) } else { text };
    format!("{text:>columns$}")
}

/// A name, left-aligned, escaped and cut.
fn name_in(name: &str, columns: usize) -> String {
    let name: String = escape::line(name).chars().take(columns).collect();
    format!("{name:columns$}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::rates::tests::status, *};

    fn screen(view: &View, columns: usize, rows: usize) -> String {
        draw(view, Size { columns, rows }).iter().map(|line| line.plain() + "\n").collect()
    }

    #[test]
    fn a_run_on_screens_of_two_sizes() {
        let view = View::of(&status(3723), Some(&status(3722)));
        assert_eq!(screen(&view, 80, 24), include_str!("golden/80x24.txt"));
        assert_eq!(screen(&view, 200, 50), include_str!("golden/200x50.txt"));
    }

    #[test]
    fn a_run_with_more_than_fits_shows_a_part_of_each_table() {
        let mut report = status(10);
        let found = report.report.as_mut().unwrap();
        let queue = found.interfaces[0].queues[0].clone();
        found.interfaces[0].queues = (0..64)
            .map(|number| {
                let mut queue = queue.clone();
                queue.queue = number;
                queue
            })
            .collect();
        let origin = found.origins[0].clone();
        found.origins = vec![origin; 1000];
        let view = View::of(&report, None);
        assert_eq!(screen(&view, 80, 24), include_str!("golden/crowded.txt"));
        assert_eq!(draw(&view, Size { columns: 80, rows: usize::MAX }).len(), 2 + 9 + 3 + 64 + 3 + 1000);
    }

    #[test]
    fn a_run_that_starts_is_one_line() {
        let mut starting = status(0);
        starting.report = None;
        starting.phase = crate::observed::Phase::Starting;
        assert_eq!(screen(&View::of(&starting, None), 80, 24), "mirror ens5  starting, pid 4711\n");
    }

    #[test]
    fn styles_end_where_they_begin_and_names_have_no_control_characters() {
        let lines = draw(&View::of(&status(10), Some(&status(9))), Size::USUAL);
        let text: String = lines.iter().map(|line| line.styled() + "\n").collect();
        let begun = text.matches("\x1b[").count();
        assert_eq!(begun, 2 * text.matches("\x1b[m").count(), "{text:?}");
        let plain: String = lines.iter().map(Line::plain).collect();
        assert!(plain.contains("ring\\x1b[2J") && !plain.contains(char::is_control));
    }

    proptest! {
        #[test]
        fn no_screen_is_larger_than_the_terminal(columns in 0..250_usize, rows in 0..80_usize) {
            let lines = draw(&View::of(&status(10), Some(&status(9))), Size { columns, rows });
            prop_assert!(lines.len() <= rows);
            prop_assert!(lines.iter().all(|line| line.len() <= columns));
        }

        #[test]
        fn shares_are_what_is_wanted_or_all_there_is(
            wanted in prop::collection::vec(0..50_usize, 0..4),
            rows in 0..100_usize,
        ) {
            let shares = shares(&wanted, rows);
            prop_assert_eq!(shares.iter().sum::<usize>(), rows.min(wanted.iter().sum()));
            prop_assert!(shares.iter().zip(&wanted).all(|(share, wanted)| share <= wanted));
        }
    }
}
