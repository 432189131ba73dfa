//! How is a code drawn in a terminal?
//!
//! Two modules a character, with half blocks, and the quiet zone of four modules that the standard
//! (ISO/IEC 18004) wants. On a terminal both colours are painted, so that it scans on dark and light
//! backgrounds alike; in a pipe the dark modules are the blocks.

use anyhow::Context as _;
use fast_qr::{ECL, QRBuilder};

const QUIET: usize = 4;
/// Black on white of the 256-colour palette: these two are not changed by themes.
const INK: &str = "\u{1b}[38;5;16;48;5;231m";
const RESET: &str = "\u{1b}[0m";

/// Where the drawing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canvas {
    /// A terminal: colours are set.
    Terminal,
    /// Anything else: plain characters.
    Plain,
}

/// Draws a text as a QR code at level M.
///
/// # Errors
/// When the text does not fit into a QR code.
pub fn draw(text: &str, canvas: Canvas) -> anyhow::Result<String> {
    let code =
        QRBuilder::new(text).ecl(ECL::M).build().context("the code text does not fit into a QR code")?;
    let side = code.size + 2 * QUIET;
    let dark = |x: usize, y: usize| {
        let inside = (QUIET..QUIET + code.size).contains(&x) && (QUIET..QUIET + code.size).contains(&y);
        inside && code[y - QUIET][x - QUIET].value()
    };
    let mut drawing = String::new();
    for y in (0..side).step_by(2) {
        let line = (0..side).map(|x| match (dark(x, y), dark(x, y + 1)) {
            (true, true) => '\u{2588}',
            (true, false) => '\u{2580}',
            (false, true) => '\u{2584}',
            (false, false) => ' ',
        });
        match canvas {
            Canvas::Terminal => drawing.extend(INK.chars().chain(line).chain(RESET.chars())),
            Canvas::Plain => drawing.extend(line),
        }
        drawing.push('\n');
    }
    Ok(drawing)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Modules of a drawing, true for dark, read back from the half blocks.
    fn modules(drawing: &str) -> Vec<Vec<bool>> {
        let mut rows = Vec::new();
        for line in drawing.lines() {
            rows.push(line.chars().map(|c| c == '\u{2588}' || c == '\u{2580}').collect());
            rows.push(line.chars().map(|c| c == '\u{2588}' || c == '\u{2584}').collect());
        }
        rows
    }

    fn code_text() -> String {
        format!("SY1:440100:{}", "A9".repeat(71) + "Z")
    }

    #[test]
    fn a_code_is_version_6_with_finders_and_a_quiet_zone() {
        let rows = modules(&draw(&code_text(), Canvas::Plain).unwrap());
        let side = 41 + 2 * QUIET;
        assert!(rows.len() >= side && rows.iter().all(|row| row.len() == side));
        for corner in [(QUIET, QUIET), (QUIET, side - QUIET - 7), (side - QUIET - 7, QUIET)] {
            for (dy, pattern) in [0b111_1111, 0b100_0001, 0b101_1101].into_iter().enumerate() {
                let row = &rows[corner.1 + dy][corner.0..corner.0 + 7];
                let read = row.iter().fold(0, |bits, &dark| bits << 1 | u32::from(dark));
                assert_eq!(read, pattern, "row {dy} of the finder at {corner:?}");
            }
        }
        let quiet = |row: &[bool]| row[..QUIET].iter().chain(&row[side - QUIET..]).all(|dark| !dark);
        assert!(rows.iter().all(|row| quiet(row)));
        assert!(rows[..QUIET].iter().chain(&rows[side - QUIET..]).flatten().all(|dark| !dark));
    }

    #[test]
    fn only_a_terminal_gets_colours() {
        assert!(!draw("SY1", Canvas::Plain).unwrap().contains('\u{1b}'));
        let painted = draw("SY1", Canvas::Terminal).unwrap();
        assert!(painted.lines().all(|line| line.starts_with(INK) && line.ends_with(RESET)));
    }

    #[test]
    fn a_text_that_is_too_long_is_an_error() {
        assert!(draw(&"x".repeat(5000), Canvas::Plain).is_err());
    }
}
