//! How does the picture look, and what do keys do to it?
//!
//! Pure: a picture, a state and a size in, lines out.

use super::{
    keys::Key,
    picture::{Level, Picture, Row, order},
};
use crate::{cli::By, verbs::output};
use std::cmp::Ordering;
use tokio::time::Instant;

/// What the person at the terminal has chosen.
#[derive(Debug, Default)]
pub struct View {
    /// What to sort by.
    pub by: By,
    /// The other way round.
    pub reversed: bool,
    /// Words that a row must contain.
    pub filter: String,
    /// Keys go into the filter.
    pub typing: bool,
    /// Who has no share, no calls and nothing wrong is left out.
    pub busy_only: bool,
    /// The picture stands still.
    pub paused: bool,
    /// Rows above the first one that is shown.
    pub offset: usize,
}

/// What follows from a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The picture is drawn again.
    Draw,
    /// The end.
    Leave,
    /// The end, by Ctrl-C.
    Interrupted,
}

/// A line, and how it stands out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The text, not longer than the terminal is wide.
    pub text: String,
    /// How it stands out.
    pub tone: Tone,
}

/// How a line stands out; without colours, which not every terminal and not everybody sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// It does not.
    Plain,
    /// The headings of the table.
    Heading,
    /// Something is wrong.
    Loud,
}

/// Rows that a page key moves by.
const PAGE: usize = 10;
/// Headings, what they sort by, and whether numbers stand below them.
const COLUMNS: [(&str, Option<By>, bool); 9] = [
    ("region", Some(By::Region), false),
    ("node", Some(By::Node), false),
    ("tier", None, true),
    ("state", Some(By::Worst), false),
    ("share", Some(By::Share), true),
    ("calls/s", Some(By::Calls), true),
    ("util", Some(By::Utilization), true),
    ("p99 ms", Some(By::P99), true),
    ("errors", Some(By::Errors), true),
];
const HELP: &str = "sort: r n s c u p e w | / filter | i busy only | space stop | arrows PgUp PgDn | q leave";

impl View {
    /// What a key does.
    pub fn key(&mut self, key: Key) -> Then {
        match key {
            Key::Interrupt => return Then::Interrupted,
            Key::Escape => (self.typing, self.filter, self.offset) = (false, String::new(), 0),
            Key::Enter => self.typing = false,
            Key::Backspace if self.typing => drop(self.filter.pop()),
            Key::Char(c) if self.typing => {
                self.filter.push(c);
                self.offset = 0;
            }
            Key::Up => self.offset = self.offset.saturating_sub(1),
            Key::Down => self.offset += 1,
            Key::PageUp => self.offset = self.offset.saturating_sub(PAGE),
            Key::PageDown => self.offset += PAGE,
            Key::Char('q') => return Then::Leave,
            Key::Char('/') => self.typing = true,
            Key::Char('i') => self.busy_only = !self.busy_only,
            Key::Char(' ') => self.paused = !self.paused,
            Key::Char(c) => self.sort(c),
            Key::Backspace => {}
        }
        Then::Draw
    }

    fn sort(&mut self, c: char) {
        let by = match c {
            'r' => By::Region,
            'n' => By::Node,
            's' => By::Share,
            'c' => By::Calls,
            'u' => By::Utilization,
            'p' => By::P99,
            'e' => By::Errors,
            'w' => By::Worst,
            _ => return,
        };
        self.reversed = by == self.by && !self.reversed;
        self.by = by;
    }

    /// The rows that are shown, in their order.
    #[must_use]
    pub fn chosen(&self, mut rows: Vec<Row>) -> Vec<Row> {
        let words: Vec<String> = self.filter.split_whitespace().map(str::to_lowercase).collect();
        rows.retain(|row| {
            let text = format!(
                "{} {} {} {} {} {}",
                row.region, row.name, row.name_zh, row.node, row.state, row.reason
            );
            let text = text.to_lowercase();
            let busy = row.rps > 0.0 || row.share.is_some_and(|share| share > 0.0) || row.level < Level::Off;
            words.iter().all(|word| text.contains(word)) && (busy || !self.busy_only)
        });
        rows.sort_by(|a, b| {
            let by = self.compare(a, b);
            (if self.reversed { by.reverse() } else { by }).then_with(|| order(a, b))
        });
        rows
    }

    fn compare(&self, a: &Row, b: &Row) -> Ordering {
        // The largest first, and who has no number last.
        let most = |number: fn(&Row) -> Option<f64>| {
            let of = |row| number(row).unwrap_or(f64::NEG_INFINITY);
            of(b).total_cmp(&of(a))
        };
        match self.by {
            By::Region => order(a, b),
            By::Node => a.node.cmp(&b.node),
            By::Share => most(|row| row.share),
            By::Calls => most(|row| Some(row.rps)),
            By::Utilization => most(|row| row.utilization),
            By::P99 => most(|row| row.p99_ms),
            By::Errors => most(|row| row.errors),
            By::Worst => a.level.cmp(&b.level),
        }
    }

    /// The whole screen. Scrolling ends where the rows do.
    pub fn frame(&mut self, picture: &Picture, now: Instant, (width, height): (u16, u16)) -> Vec<Line> {
        let all = picture.rows();
        let of = all.len();
        let rows = self.chosen(all);
        let mut lines = vec![plain(summary(picture, self.paused))];
        lines.extend(picture.notes(now).into_iter().map(|note| {
            let tone = if note.starts_with('!') { Tone::Loud } else { Tone::Plain };
            Line { text: note, tone }
        }));
        // A long list of gateways leaves room for the table.
        lines.truncate(usize::from(height).saturating_sub(5).max(1));
        let room = usize::from(height).saturating_sub(lines.len() + 2);
        self.offset = self.offset.min(rows.len().saturating_sub(room));
        lines.extend(table(&rows, self.by).into_iter().enumerate().filter_map(|(at, line)| {
            let shown = at == 0 || (at > self.offset && at <= self.offset + room);
            shown.then_some(line)
        }));
        lines.resize(usize::from(height).saturating_sub(1).max(lines.len()), plain(String::new()));
        lines.push(self.bottom(rows.len(), of));
        lines.truncate(height.into());
        for line in &mut lines {
            line.text = line.text.chars().take(width.into()).collect();
        }
        lines
    }

    fn bottom(&self, shown: usize, of: usize) -> Line {
        let text = match (self.typing, self.filter.is_empty()) {
            (true, _) => {
                format!("filter: {}_   {shown} of {of} rows, Enter keeps it, Esc forgets it", self.filter)
            }
            (false, false) => {
                format!("filter: {}   {shown} of {of} rows, Esc forgets it | {HELP}", self.filter)
            }
            (false, true) => HELP.to_owned(),
        };
        plain(text)
    }
}

const fn plain(text: String) -> Line {
    Line { text, tone: Tone::Plain }
}

/// The first line.
fn summary(picture: &Picture, paused: bool) -> String {
    let total = picture.total();
    let stopped = if paused { "   STOPPED (space goes on)" } else { "" };
    format!(
        "suiyue top   {} calls/s   {} failed   p99 {} ms{stopped}",
        rate(total.rps),
        percent(total.errors),
        millis(total.p99_ms)
    )
}

/// The cells of a row, in the order of the columns.
#[must_use]
pub fn cells(row: &Row) -> [String; 9] {
    [
        format!("{} {}", row.region, row.name),
        if row.node.is_empty() { "-".to_owned() } else { row.node.clone() },
        row.tier.map_or_else(|| "-".to_owned(), |tier| tier.to_string()),
        row.state.clone(),
        percent(row.share),
        rate(row.rps),
        row.utilization.map_or_else(|| "-".to_owned(), |part| format!("{:.0} %", part * 100.0)),
        millis(row.p99_ms),
        percent(row.errors),
    ]
}

/// The headings in the order of the cells.
#[must_use]
pub fn headings() -> [&'static str; 9] {
    COLUMNS.map(|(heading, ..)| heading)
}

fn percent(part: Option<f64>) -> String {
    part.map_or_else(|| "-".to_owned(), |part| format!("{:.1} %", part * 100.0))
}

fn millis(ms: Option<f64>) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"))
}

fn rate(rps: f64) -> String {
    if rps > 0.0 && rps < 10.0 { format!("{rps:.1}") } else { format!("{rps:.0}") }
}

/// Headings and rows in columns as wide as they must be.
fn table(rows: &[Row], by: By) -> Vec<Line> {
    let cells: Vec<[String; 9]> = rows.iter().map(cells).collect();
    let headings = COLUMNS.map(
        |(heading, column, _)| {
            if column == Some(by) { format!("{heading}*") } else { heading.to_owned() }
        },
    );
    let widths: [usize; 9] = std::array::from_fn(|at| {
        let cells = cells.iter().map(|cells| cells[at].chars().count());
        cells.chain([headings[at].len()]).max().unwrap_or(0)
    });
    let line = |cells: &[String; 9], tone| {
        let padded = cells.iter().zip(widths).zip(COLUMNS).map(|((cell, width), (.., number))| {
            if number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        Line { text: padded.collect::<Vec<_>>().join("  ").trim_end().to_owned(), tone }
    };
    let tone = |row: &Row| if row.level == Level::Bad { Tone::Loud } else { Tone::Plain };
    let body = rows.iter().zip(&cells).map(|(row, cells)| line(cells, tone(row)));
    std::iter::once(line(&headings, Tone::Heading)).chain(body).collect()
}

/// One look, for a pipe or a ticket.
#[must_use]
pub fn once(picture: &Picture, view: &View, now: Instant) -> String {
    let mut table = output::table(headings());
    for row in view.chosen(picture.rows()) {
        table.add_row(cells(&row));
    }
    let notes = picture.notes(now).join("\n");
    format!("{}\n{table}\n{notes}", summary(picture, false))
}

#[cfg(test)]
mod tests;
