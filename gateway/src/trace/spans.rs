//! What does a collector see of a call?
//!
//! One server span for the call, and one client span below it for each attempt. Names of `rpc.*`,
//! `server.*` and `error.type` follow OpenTelemetry's conventions for gRPC; what is ours begins with
//! `suiyue.`.

use super::record::{Attempt, Outcome, Record};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span, Status,
        span::SpanKind,
        status::StatusCode::{self, Error, Unset},
    },
};
use std::time::{Instant, SystemTime};
use suiyue_proto::region::Code;

/// The name of a method that nobody lists: what a caller made up is no name.
const OTHER: &str = "_OTHER";

/// Names of the gRPC codes, as the conventions write them.
pub(super) const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The name of a code.
pub(super) fn code(number: u8) -> &'static str {
    CODES.get(usize::from(number)).copied().unwrap_or("UNKNOWN")
}

/// The name of a call: its method, without the slash at the beginning.
pub(super) fn name(record: &Record) -> &str {
    record.method.as_ref().map_or(OTHER, |method| method.path.trim_start_matches('/'))
}

/// Turns the monotonic clock into wall-clock time, by one look at both.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    monotonic: Instant,
    unix_ns: u64,
}

impl Clock {
    pub(super) fn now() -> Self {
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self { monotonic: Instant::now(), unix_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) }
    }

    fn unix_ns(&self, at: Instant) -> u64 {
        let ago = self.monotonic.saturating_duration_since(at).as_nanos();
        self.unix_ns.saturating_sub(u64::try_from(ago).unwrap_or(u64::MAX))
    }
}

/// Appends the spans of one call.
pub(super) fn append(spans: &mut Vec<Span>, record: &Record, clock: Clock) {
    spans.push(server(record, clock));
    let attempts = record.attempts.iter().enumerate();
    spans.extend(attempts.map(|(index, attempt)| client(record, index, attempt, clock)));
}

/// What a request to the collector holds.
pub(super) fn request(gateway: &str, spans: Vec<Span>) -> ResourceSpans {
    let attributes = vec![
        text("service.name", "suiyue-gateway"),
        text("service.instance.id", gateway),
        text("service.version", env!("CARGO_PKG_VERSION")),
    ];
    let scope = InstrumentationScope { name: "suiyue-gateway".to_owned(), ..Default::default() };
    ResourceSpans {
        resource: Some(Resource { attributes, ..Default::default() }),
        scope_spans: vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }],
        schema_url: String::new(),
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn int(key: &str, value: impl Into<i64>) -> KeyValue {
    attribute(key, Value::IntValue(value.into()))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

fn span(record: &Record, kind: SpanKind, (start, finish): (Instant, Instant), clock: Clock) -> Span {
    Span {
        trace_id: record.context.trace.to_be_bytes().to_vec(),
        flags: record.context.flags.into(),
        name: name(record).to_owned(),
        kind: kind.into(),
        start_time_unix_nano: clock.unix_ns(start),
        end_time_unix_nano: clock.unix_ns(finish),
        attributes: vec![text("rpc.system.name", "grpc"), text("rpc.method", name(record))],
        ..Span::default()
    }
}

fn server(record: &Record, clock: Clock) -> Span {
    let mut span = span(record, SpanKind::Server, (record.start, record.finish), clock);
    span.span_id = record.context.span.to_be_bytes().to_vec();
    if record.parent != 0 {
        span.parent_span_id = record.parent.to_be_bytes().to_vec();
    }
    let end = &record.end;
    span.attributes.extend([
        text("rpc.response.status_code", code(end.code)),
        text("suiyue.class", end.class.as_str()),
        text("suiyue.reason", end.reason.as_str()),
        int("suiyue.attempt", record.attempts.len() as u32),
        int("suiyue.plan", i64::try_from(record.plan).unwrap_or(i64::MAX)),
    ]);
    if let Some(region) = Code::new(end.region) {
        span.attributes.push(text("suiyue.region", &region.to_string()));
    }
    if let Some(node) = &record.node {
        span.attributes.extend([text("suiyue.node", node), int("suiyue.tier", end.tier)]);
    }
    // A caller's own mistake is no error of the server.
    let ours = matches!(end.code, 2 | 4 | 12..=15);
    if ours {
        span.attributes.push(text("error.type", code(end.code)));
    }
    span.status = status(if ours { Error } else { Unset });
    span
}

fn client(record: &Record, index: usize, attempt: &Attempt, clock: Clock) -> Span {
    let finish = attempt.finish.unwrap_or(record.finish);
    let mut span = span(record, SpanKind::Client, (attempt.start, finish), clock);
    span.span_id = record.attempt_span(index).to_be_bytes().to_vec();
    span.parent_span_id = record.context.span.to_be_bytes().to_vec();
    span.attributes.extend([text("suiyue.node", &attempt.at.node), int("suiyue.attempt", index as u32 + 1)]);
    if let Some((host, port)) = attempt.at.endpoint.address.rsplit_once(':') {
        span.attributes.push(text("server.address", host));
        span.attributes.extend(port.parse::<u16>().ok().map(|port| int("server.port", port)));
    }
    let failed = match attempt.outcome {
        Outcome::Answered(number) => {
            span.attributes.push(text("rpc.response.status_code", code(number)));
            (number != 0).then(|| code(number))
        }
        outcome => outcome.failure(),
    };
    span.attributes.extend(failed.map(|why| text("error.type", why)));
    span.status = status(if failed.is_some() { Error } else { Unset });
    span
}

fn status(code: StatusCode) -> Option<Status> {
    Some(Status { code: code.into(), message: String::new() })
}
