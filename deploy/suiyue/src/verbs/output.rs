//! How does an answer look?
//!
//! As a table with plain borders that reads the same in a terminal, in a pipe and in a ticket, or as
//! one JSON document. Nothing here colours anything.

use anyhow::Context as _;
use comfy_table::{Table, presets};
use serde::Serialize;
use std::io::{self, Write as _};

/// What `-o` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For a person.
    #[default]
    Table,
    /// For a program: one document.
    Json,
}

/// An empty table with these headings.
#[must_use]
pub fn table<const N: usize>(headings: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_BORDERS_ONLY_CONDENSED);
    table.set_header(headings);
    table
}

/// Prints a document to stdout, indented.
///
/// # Errors
/// When stdout is closed or full.
pub fn json(document: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(document).context("the answer cannot be written as JSON")?;
    line(&text)
}

/// Prints a line to stdout. A reader that has gone (`| head`) has seen what it wanted.
///
/// # Errors
/// When stdout cannot be written for another reason, such as a full disk.
pub fn line(text: &str) -> anyhow::Result<()> {
    written(writeln!(std::io::stdout().lock(), "{}", text.trim_end()))
}

fn written(result: io::Result<()>) -> anyhow::Result<()> {
    match result.and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("stdout cannot be written"),
    }
}

/// A duration in milliseconds for a person: `850 ms`, `12 s`, `3 min`, `2 h`.
#[must_use]
pub fn age(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..120_000 => format!("{} s", millis / 1_000),
        120_000..7_200_000 => format!("{} min", millis / 60_000),
        _ => format!("{} h", millis / 3_600_000),
    }
}

/// The word of a protobuf enum value without its prefix, in lower case: `HEALTH_OK` is `ok`.
#[must_use]
pub fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reader_that_has_gone_is_no_error() {
        let check = |kind: io::ErrorKind| written(Err(kind.into())).is_ok();
        assert!(check(io::ErrorKind::BrokenPipe));
        assert!(!check(io::ErrorKind::StorageFull));
    }

    #[test]
    fn ages_read_well() {
        let check = |millis, expected: &str| assert_eq!(age(millis), expected);
        check(0, "0 ms");
        check(1_000, "1 s");
        check(119_999, "119 s");
        check(120_000, "2 min");
        check(7_200_000, "2 h");
    }

    #[test]
    fn a_table_has_no_escape_sequences() {
        let mut lines = table(["node", "health"]);
        lines.add_row(["suikang", "ok"]);
        let text = lines.to_string();
        assert!(text.contains("suikang") && !text.contains('\u{1b}'), "{text}");
    }
}
