//! How are numbers and instants written?

use super::lang::Lang;
use crate::clock;
use std::time::Duration;

/// Calls a second.
pub(super) fn rate(rps: f64) -> String {
    if !rps.is_finite() || rps < 0.05 {
        return "0".to_owned();
    }
    if rps < 10.0 {
        return format!("{rps:.1}");
    }
    let whole = format!("{rps:.0}");
    let mut text = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A fraction as percent.
pub(super) fn percent(fraction: f64) -> String {
    let percent = fraction * 100.0;
    if percent == 0.0 || percent >= 99.95 || percent.fract().abs() < 0.05 {
        format!("{percent:.0} %")
    } else {
        format!("{percent:.1} %")
    }
}

/// Milliseconds.
pub(super) fn millis(ms: f64) -> String {
    match ms {
        _ if !ms.is_finite() => "–".to_owned(),
        _ if ms >= 2_500.0 => "> 2.5 s".to_owned(),
        _ if ms >= 100.0 => format!("{ms:.0} ms"),
        _ => format!("{ms:.1} ms"),
    }
}

/// How long something takes or took.
pub(super) fn duration(lang: Lang, duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (lang, hours, minutes) {
        (Lang::Zh, 0, 0) => format!("{rest} 秒"),
        (Lang::Zh, 0, _) => format!("{minutes} 分 {rest:02} 秒"),
        (Lang::Zh, ..) => format!("{hours} 小时 {minutes:02} 分"),
        (Lang::En, 0, 0) => format!("{rest} s"),
        (Lang::En, 0, _) => format!("{minutes} min {rest:02} s"),
        (Lang::En, ..) => format!("{hours} h {minutes:02} min"),
    }
}

/// An instant in UTC, `2026-11-27 11:42:05Z`.
pub(super) fn utc(unix_ms: i64) -> String {
    clock::utc(unix_ms).replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        let rates = [0.0, 0.04, 3.12, 9.96, 42.4, 1_234.0, 1_234_567.0].map(rate);
        assert_eq!(rates, ["0", "0", "3.1", "10.0", "42", "1,234", "1,234,567"]);
        assert_eq!([0.0, 0.5, 0.333, 0.9996, 1.0].map(percent), ["0 %", "50 %", "33.3 %", "100 %", "100 %"]);
        assert_eq!([1.23, 250.0, 2_500.0, f64::NAN].map(millis), ["1.2 ms", "250 ms", "> 2.5 s", "–"]);
    }

    #[test]
    fn instants_and_durations_are_for_people() {
        assert_eq!(utc(0), "1970-01-01 00:00:00Z");
        assert_eq!(utc(951_782_399_999), "2000-02-28 23:59:59Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00Z");
        assert_eq!(utc(1_795_779_725_000), "2026-11-27 11:42:05Z");
        let lengths = [5, 65, 7_265].map(|s| duration(Lang::En, Duration::from_secs(s)));
        assert_eq!(lengths, ["5 s", "1 min 05 s", "2 h 01 min"]);
        assert_eq!(duration(Lang::Zh, Duration::from_secs(65)), "1 分 05 秒");
    }
}
