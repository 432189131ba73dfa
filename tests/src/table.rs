//! How does a fault end up as a line of the table?
//!
//! A test that measures prints a [`Row`], and appends it to the file that `SUIYUE_FAULT_TABLE` names:
//! `tests/run --slow` shows the whole table when all tests have ended. Figures are printed, never judged.

use std::{fmt, fs::OpenOptions, io::Write as _, time::Duration};

/// Names of the columns, as `tests/run` prints them.
pub const HEAD: &str =
    "fault|calls|failed|failed once|moved|slow|hurt for|longest gap|left|returned|ambiguous|doubled";

/// What one fault cost.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// Which fault.
    pub fault: String,
    /// Calls made.
    pub calls: usize,
    /// Replayable calls that did not end OK.
    pub failed: usize,
    /// Calls that must not be executed twice and did not end OK.
    pub failed_once: usize,
    /// Calls that ended OK after more than one attempt.
    pub moved: u64,
    /// Calls slower than 100 ms while the fault lasted.
    pub slow: usize,
    /// While the fault lasted: from the first to the last call that failed, took another attempt, or was
    /// slow at the sick node, by the moment when it was made.
    pub hurt_for: Duration,
    /// Longest time without an answer to anybody.
    pub gap: Duration,
    /// From the fault until the gateway sent next to nothing there.
    pub left: Option<Duration>,
    /// From the end of the fault until the node had its share back.
    pub returned: Option<Duration>,
    /// Calls that must not be executed twice, were executed, and whose callers got no good answer.
    pub ambiguous: usize,
    /// Of those calls the ones that were executed more than once.
    pub doubled: usize,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, calls, failed, failed_once, moved, slow, ambiguous, doubled, .. } = self;
        let time = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        let [left, returned] = [self.left, self.returned].map(|t| t.map_or_else(|| "-".to_owned(), time));
        let (hurt_for, gap) = (time(self.hurt_for), time(self.gap));
        write!(f, "{fault}|{calls}|{failed}|{failed_once}|{moved}|{slow}|{hurt_for}|{gap}|")?;
        write!(f, "{left}|{returned}|{ambiguous}|{doubled}")
    }
}

impl Row {
    /// Prints it, and adds it to the table of this run.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn print(&self) -> anyhow::Result<()> {
        eprintln!("{HEAD}\n{self}");
        line(&self.to_string())
    }
}

/// Prints a figure that stands in no column, and adds it below the table of this run.
///
/// # Errors
/// When the table cannot be written.
pub fn remark(text: &str) -> anyhow::Result<()> {
    eprintln!("{text}");
    line(&format!("# {text}"))
}

fn line(text: &str) -> anyhow::Result<()> {
    let path = std::env::var_os("SUIYUE_FAULT_TABLE").filter(|path| !path.is_empty());
    let Some(path) = path else { return Ok(()) };
    let mut table = OpenOptions::new().create(true).append(true).open(path)?;
    // One write: tests run at the same time.
    Ok(table.write_all(format!("{text}\n").as_bytes())?)
}
