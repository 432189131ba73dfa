//! What does the watcher of a demo see?
//!
//! On a terminal: a line for each event, and below them a table that is drawn again in place. In a
//! pipe: the lines only. With `--json`: the lines on stderr and one document on stdout.

use super::{
    federation::{GUANGZHOU, NodeName, XIAN},
    ledger::{Ledger, Recent},
    report::Report,
    watch::Watch,
};
use crate::verbs::output;
use crossterm::{
    cursor::{Hide, MoveToColumn, MoveUp, Show},
    queue,
    terminal::{self, Clear, ClearType},
};
use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use suiyue_proto::region::{self, Code};
use tokio::{task::JoinHandle, time::Instant};

const REDRAW_EVERY: Duration = Duration::from_millis(500);
/// Narrower terminals get a table that is cut on the right.
const LEAST_WIDTH: u16 = 40;

/// Where events and the table go.
pub(super) struct Screen {
    mode: Mode,
    state: Mutex<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Lines and a table on stdout.
    Live,
    /// Lines on stdout.
    Lines,
    /// Lines on stderr, a document on stdout.
    Json,
}

#[derive(Default)]
struct State {
    clock: Option<Instant>,
    /// The table as it stands on the terminal.
    drawn: Vec<String>,
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        let mode = match json {
            true => Mode::Json,
            false if io::stdout().is_terminal() => Mode::Live,
            false => Mode::Lines,
        };
        Self { mode, state: Mutex::default() }
    }

    /// Events are told with the time since now.
    pub(super) fn start_clock(&self) {
        self.state().clock = Some(Instant::now());
    }

    /// Tells an event in a line.
    pub(super) fn event(&self, line: &str) {
        let since = self.state().clock.map(|clock| clock.elapsed().as_secs_f64());
        match since {
            Some(seconds) => self.plain(&format!("{seconds:6.1} s  {line}")),
            None => self.plain(line),
        }
    }

    /// Prints a line as it is. A reader that has gone does not stop the play.
    pub(super) fn plain(&self, line: &str) {
        let mut state = self.state();
        let _ = match self.mode {
            Mode::Json => writeln!(io::stderr(), "{line}"),
            Mode::Lines => writeln!(io::stdout(), "{line}"),
            Mode::Live => state.above(line),
        };
    }

    /// The table is finished: it stays where it is, and later lines come below it.
    pub(super) fn close(&self) {
        self.state().drawn.clear();
    }

    /// Prints the report.
    pub(super) fn report(&self, report: &Report) -> anyhow::Result<()> {
        match self.mode {
            Mode::Json => output::line(&serde_json::to_string(report)?),
            Mode::Live | Mode::Lines => output::line(&report.table()),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Prints a line where the table was, and the table again below it.
    fn above(&mut self, line: &str) -> io::Result<()> {
        let table = std::mem::take(&mut self.drawn);
        wipe(table.len())?;
        writeln!(io::stdout(), "{line}")?;
        self.draw(table)
    }

    fn draw(&mut self, table: Vec<String>) -> io::Result<()> {
        // Hidden only while it moves: whatever ends the process finds the cursor visible.
        let mut out = io::stdout().lock();
        queue!(out, Hide)?;
        wipe(self.drawn.len())?;
        for line in &table {
            writeln!(out, "{line}")?;
        }
        queue!(out, Show)?;
        out.flush()?;
        self.drawn = table;
        Ok(())
    }
}

/// Removes the last lines from the terminal.
fn wipe(lines: usize) -> io::Result<()> {
    match u16::try_from(lines) {
        Ok(lines @ 1..) => {
            queue!(io::stdout(), MoveUp(lines), MoveToColumn(0), Clear(ClearType::FromCursorDown))
        }
        _ => Ok(()),
    }
}

/// Draws the table again and again; dropping it stops that.
pub(super) struct Drawing(Option<JoinHandle<()>>);

impl Drawing {
    pub(super) fn start(screen: &Arc<Screen>, ledger: &Arc<Ledger>, watch: &Watch) -> Self {
        if screen.mode != Mode::Live {
            return Self(None);
        }
        let (screen, ledger, watch) = (Arc::clone(screen), Arc::clone(ledger), watch.clone());
        Self(Some(tokio::spawn(async move {
            let mut failed = BTreeMap::new();
            let mut last = Instant::now();
            loop {
                tokio::time::sleep(REDRAW_EVERY).await;
                let lately = ledger.lately();
                let seconds = last.elapsed().as_secs_f64();
                last = Instant::now();
                let table = rows(&lately, &mut failed, seconds, |node| watch.word(node));
                let width = terminal::size().map_or(80, |(columns, _)| columns).max(LEAST_WIDTH);
                let cut = |line: &str| line.chars().take(usize::from(width) - 1).collect::<String>();
                let lines = table.to_string().lines().map(cut).collect();
                let _ = screen.state().draw(lines);
            }
        })))
    }
}

impl Drop for Drawing {
    fn drop(&mut self) {
        if let Some(drawing) = &self.0 {
            drawing.abort();
        }
    }
}

/// Who may answer for whom in the demo, and `-` for calls that nobody answered.
const PAIRS: [(Code, &[&str]); 2] = [
    (GUANGZHOU, &[NodeName::Suikang.as_str(), NodeName::Yuekang.as_str(), "-"]),
    (XIAN, &[NodeName::Xian.as_str(), NodeName::Shaanxi.as_str(), "-"]),
];

type Key = (Code, Arc<str>);

fn rows(
    lately: &BTreeMap<Key, Recent>,
    failed: &mut BTreeMap<Key, u64>,
    seconds: f64,
    health: impl Fn(&str) -> String,
) -> comfy_table::Table {
    let headings = ["region", "node", "tier", "health", "calls/s", "share", "p50 ms", "p99 ms", "failures"];
    let mut table = output::table(headings);
    for (region, nodes) in PAIRS {
        let total: u64 = nodes
            .iter()
            .filter_map(|node| lately.get(&(region, (*node).into())))
            .map(|recent| recent.tally.calls)
            .sum();
        for &node in nodes {
            let key = (region, node.into());
            let recent = lately.get(&key).cloned().unwrap_or_default();
            let failures = failed.entry(key).or_default();
            *failures += recent.tally.failed + recent.tally.wrong_verdict;
            if node == "-" && *failures == 0 {
                continue;
            }
            let name = region::find(region.get()).map_or("", |division| division.name_en);
            let share = fraction(recent.tally.calls, total) * 100.0;
            let latency = |quantile| match recent.tally.calls {
                0 => "-".to_owned(),
                _ => format!("{:.2}", recent.tally.quantile_ms(quantile)),
            };
            table.add_row([
                format!("{name} {region}"),
                node.to_owned(),
                recent.tier.map_or("-".to_owned(), |tier| tier.to_string()),
                if node == "-" { String::new() } else { health(node) },
                format!("{:.0}", fraction(recent.tally.calls, 1) / seconds.max(0.001)),
                format!("{share:.0} %"),
                latency(0.5),
                latency(0.99),
                failures.to_string(),
            ]);
        }
    }
    table
}

#[allow(clippy::cast_precision_loss, reason = "counts of half a second are far below 2^52")]
fn fraction(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{
        mix::Kind,
        record::{Outcome, Record, ServedBy},
    };

    #[test]
    fn the_table_shows_who_answers_for_whom() {
        let mut recent = Recent { tier: Some(1), ..Recent::default() };
        for _ in 0..100 {
            recent.tally.add(&Record {
                due: Instant::now(),
                kind: Kind::Scan,
                region: GUANGZHOU,
                latency: Duration::from_micros(200),
                served: ServedBy::default(),
                outcome: Outcome::Ok,
            });
        }
        let lately = [((GUANGZHOU, "yuekang".into()), recent)].into();
        let text = rows(&lately, &mut BTreeMap::new(), 0.5, |_| "ok".to_owned()).to_string();
        let line = text.lines().find(|line| line.contains("yuekang")).unwrap();
        for wanted in ["440100", " 1 ", "ok", " 200 ", "100 %", "0.20"] {
            assert!(line.contains(wanted), "{wanted:?} in {line}");
        }
        assert!(text.lines().any(|line| line.contains("suikang") && line.contains(" 0 %")), "{text}");
    }
}
