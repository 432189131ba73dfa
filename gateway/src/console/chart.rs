//! What does a curve look like?
//!
//! Small SVG drawings of the last ten minutes: calls a second as an area, what failed as a line on top of
//! it. Shapes carry classes, colours come from the style sheet; a text of the same content is what a
//! screen reader says.

use super::{lang::Lang, recorder::POINTS, recorder::Point, text};
use maud::{Markup, html};
use std::fmt::Write as _;

/// Size of the drawing's own coordinates.
const WIDTH: f32 = 300.0;
const HEIGHT: f32 = 48.0;
/// Points that one step of the line stands for: less than a pixel of the drawing is not drawn.
const EVERY: usize = 2;

/// The curve of calls a second.
pub(super) fn calls(lang: Lang, points: &[Point]) -> Markup {
    let top = points.iter().map(|point| point.rps).fold(1.0_f32, f32::max);
    let last = points.last().copied().unwrap_or_default();
    let most = text::rate(f64::from(points.iter().map(|point| point.rps).fold(0.0_f32, f32::max)));
    let now = text::rate(f64::from(last.rps));
    let failed: f32 = points.iter().map(|point| point.failed).sum();
    let trouble = match (failed > 0.0, lang) {
        (false, Lang::Zh) => "无失败",
        (false, Lang::En) => "none failed",
        (true, Lang::Zh) => "有失败",
        (true, Lang::En) => "some failed",
    };
    let label = match lang {
        Lang::Zh => format!("最近十分钟：现在 {now} 次/秒，最高 {most} 次/秒，{trouble}"),
        Lang::En => format!("Last ten minutes: now {now} calls/s, at most {most} calls/s, {trouble}"),
    };
    let line = path(points, top, |point| point.rps);
    let area = if line.is_empty() {
        String::new()
    } else {
        let first = x(POINTS.saturating_sub(points.len()));
        format!("{line}L{WIDTH} {HEIGHT}L{first:.1} {HEIGHT}Z")
    };
    html! {
        svg.chart viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(label) {
            path.grid d={ "M0 " (HEIGHT - 0.5) "H" (WIDTH) "M" (WIDTH / 2.0) " 0V" (HEIGHT) } {}
            @if !line.is_empty() {
                path.area d=(area) {}
                path.line d=(line) {}
            }
            @if failed > 0.0 {
                path.failed d=(path(points, top, |point| point.failed)) {}
            }
        }
    }
}

fn x(at: usize) -> f32 {
    at as f32 / (POINTS - 1) as f32 * WIDTH
}

/// A line through every point, the newest at the right edge.
fn path(points: &[Point], top: f32, value: impl Fn(&Point) -> f32) -> String {
    let mut path = String::new();
    let first = POINTS.saturating_sub(points.len());
    let last = points.len().saturating_sub(1);
    for (at, point) in points.iter().enumerate().filter(|(at, _)| at.is_multiple_of(EVERY) || *at == last) {
        let y = HEIGHT - 1.0 - (value(point) / top).clamp(0.0, 1.0) * (HEIGHT - 4.0);
        let step = if path.is_empty() { 'M' } else { 'L' };
        let _ = write!(path, "{step}{:.1} {y:.1}", x(first + at));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(rps: f32, failed: f32) -> Point {
        Point { rps, failed, p99_ms: f32::NAN }
    }

    #[test]
    fn the_newest_point_is_at_the_right_edge_and_the_highest_at_the_top() {
        let points = [point(0.0, 0.0), point(50.0, 0.0), point(100.0, 0.0)];
        let drawn = path(&points, 100.0, |point| point.rps);
        assert!(drawn.starts_with("M298.0 47.0") && drawn.ends_with("L300.0 3.0"), "{drawn}");
        assert_eq!(path(&[], 1.0, |point| point.rps), "");
        let full = vec![point(1.0, 0.0); POINTS];
        let drawn = path(&full, 1.0, |point| point.rps);
        assert!(drawn.starts_with("M0.0 3.0") && drawn.ends_with("L300.0 3.0"));
        assert!(drawn.matches('L').count() <= POINTS / EVERY + 1);
    }

    #[test]
    fn a_chart_says_in_words_what_it_shows() {
        let quiet = calls(Lang::En, &[point(12.0, 0.0)]).into_string();
        assert!(quiet.contains("now 12 calls/s, at most 12 calls/s, none failed"), "{quiet}");
        assert!(!quiet.contains("class=\"failed\""));
        let failing = calls(Lang::Zh, &[point(12.0, 3.0)]).into_string();
        assert!(failing.contains("有失败") && failing.contains("class=\"failed\""), "{failing}");
        let empty = calls(Lang::En, &[]).into_string();
        assert!(empty.contains("at most 0 calls/s") && !empty.contains("NaN"), "{empty}");
    }
}
