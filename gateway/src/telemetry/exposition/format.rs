//! Which of the two text formats does a scrape want?
//!
//! `prometheus-client` writes `OpenMetrics`. In Prometheus' own older format, which is what a person or a
//! simple tool gets, a counter's family is named like its samples (`…_total`), and there is no end mark.

use std::fmt::Write as _;

/// A text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text, version 0.0.4.
    Prometheus,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
}

impl Format {
    /// What an `Accept` header asks for.
    #[must_use]
    pub fn wanted(accept: &[u8]) -> Self {
        let name = b"application/openmetrics-text";
        let named = accept.windows(name.len()).any(|part| part.eq_ignore_ascii_case(name));
        if named { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The value of `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// A text in `OpenMetrics` in this format.
    pub(super) fn of_open_metrics(self, text: String) -> String {
        match self {
            Self::OpenMetrics => text,
            Self::Prometheus => classic(&text),
        }
    }
}

fn classic(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // The line before says what the family is for; whether it is a counter comes after.
    let mut help: Option<(&str, &str)> = None;
    for line in text.lines() {
        if let Some((name, rest)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help = Some((name, rest));
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, rest)) = help.take().filter(|(of, _)| *of == name) {
                let _ = writeln!(out, "# HELP {name}{suffix} {rest}");
            }
            let _ = writeln!(out, "# TYPE {name}{suffix} {kind}");
        } else if line != "# EOF" {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counters_family_is_named_like_its_samples() {
        let open = "# HELP a_b What a.\n# TYPE a_b counter\na_b_total{x=\"1\"} 3\n\
                    # HELP c What c.\n# TYPE c gauge\nc 1\n# EOF\n";
        let expected = "# HELP a_b_total What a.\n# TYPE a_b_total counter\na_b_total{x=\"1\"} 3\n\
                        # HELP c What c.\n# TYPE c gauge\nc 1\n";
        assert_eq!(Format::Prometheus.of_open_metrics(open.to_owned()), expected);
        assert_eq!(Format::OpenMetrics.of_open_metrics(open.to_owned()), open);
    }

    #[test]
    fn open_metrics_is_for_those_who_ask() {
        assert_eq!(Format::wanted(b""), Format::Prometheus);
        assert_eq!(Format::wanted(b"text/html,*/*"), Format::Prometheus);
        let prometheus = b"application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5";
        assert_eq!(Format::wanted(prometheus), Format::OpenMetrics);
    }
}
