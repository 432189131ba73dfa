//! Reading `[telemetry]`.

use super::{Error, Source, file};
use crate::trace::Settings;
use toml::Spanned;

/// Calls without a context that are traced, where a collector is named and no ratio.
const TRACE_RATIO: f64 = 0.01;

/// The settings of traces and access log.
pub(super) fn settings(source: &Source<'_>, given: &file::Telemetry) -> Result<Settings, Error> {
    let otlp = given.otlp.as_ref().map(|value| collector(source, value)).transpose()?;
    let ratio = |field: &str, value: Option<&Spanned<f64>>, default: f64| match value {
        None => Ok(default),
        Some(value) if (0.0..=1.0).contains(value.get_ref()) => Ok(*value.get_ref()),
        Some(value) => Err(source.invalid(&value.span(), field, "use 0.0 (none) to 1.0 (every call)")),
    };
    let trace_ratio = ratio("telemetry.trace_ratio", given.trace_ratio.as_ref(), TRACE_RATIO)?;
    let logged = ratio("telemetry.access_log_ratio", given.access_log_ratio.as_ref(), 1.0)?;
    let access_log_ratio = if given.access_log { logged } else { 0.0 };
    Ok(Settings { otlp, trace_ratio, access_log_ratio })
}

fn collector(source: &Source<'_>, value: &Spanned<String>) -> Result<http::Uri, Error> {
    let uri = value.get_ref().parse::<http::Uri>().ok();
    let plain = |uri: &http::Uri| {
        uri.scheme_str() == Some("http") && uri.port().is_some() && matches!(uri.path(), "" | "/")
    };
    uri.filter(plain).ok_or_else(|| {
        let problem = format!(
            "{:?} is no collector's address: write http://HOST:PORT, e.g. http://127.0.0.1:4317 (OTLP over \
             gRPC, without TLS: a collector on this host can carry it further)",
            value.get_ref()
        );
        source.invalid(&value.span(), "telemetry.otlp", problem)
    })
}
