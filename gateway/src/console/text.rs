//! How are numbers and instants written?

use super::lang::Lang;
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
    let seconds = unix_ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Civil date from days since 1970-01-01, after Howard Hinnant's algorithm.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
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
