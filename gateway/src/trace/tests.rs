use super::*;
use crate::{
    table::{Check, Endpoint},
    telemetry::AnswerReason,
    trace::spans::{Clock, append},
};
use opentelemetry_proto::tonic::{common::v1::any_value::Value, trace::v1 as otlp};
use std::time::Duration;
use suiyue_proto::method::{Access, Class, Idempotency, Shape};
use tokio::sync::Notify;

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

fn tracer(otlp: bool, trace_ratio: f64, access_log_ratio: f64) -> (Tracer, Queue) {
    let (sender, queue) = mpsc::channel(2);
    let tracer = Tracer {
        queue: (otlp || access_log_ratio > 0.0).then_some(sender),
        traces: otlp,
        trace: Threshold::new(trace_ratio),
        log: Threshold::new(access_log_ratio),
        counts: Arc::default(),
    };
    (tracer, queue)
}

type Queue = mpsc::Receiver<Box<Record>>;

fn headers(pairs: &[(&'static str, &str)]) -> Fields {
    let mut map = Fields::new();
    for (name, value) in pairs {
        map.append(http::HeaderName::from_static(name), value.parse().unwrap());
    }
    map
}

fn begin(tracer: &Tracer, headers: &mut Fields) -> Span {
    let mut seed = 7;
    tracer.begin(headers, Instant::now(), || {
        seed += 1;
        crate::plan::mix(seed)
    })
}

fn vitals(node: &str) -> Arc<Vitals> {
    let endpoint = Endpoint {
        name: "1".into(),
        address: "10.1.2.3:9000".into(),
        incarnation: 0,
        ready: Vec::new(),
        draining: false,
        check: Check::None,
        identity: None,
    };
    Arc::new(Vitals::new(0, node.into(), endpoint, Arc::new(Notify::new()), 1))
}

fn end(code: u8) -> End {
    let reason = AnswerReason::Retry;
    End { region: 440_100, class: Class::Scan, tier: 1, reason, code, retried: true }
}

/// The context that a node gets, after one attempt began.
fn forwarded(span: &mut Span) -> Option<Context> {
    span.attempt(&vitals("suikang"), Instant::now());
    let mut headers = Fields::new();
    span.write(&mut headers);
    let written = headers.get(&TRACEPARENT).map(|value| Context::parse(value.as_bytes()).unwrap());
    assert_eq!(headers.len(), usize::from(written.is_some()));
    written
}

#[test]
fn without_a_collector_a_call_costs_nothing_and_a_context_passes_through() {
    let (tracer, _queue) = tracer(false, 1.0, 0.0);
    let check = |given: &[(&'static str, &str)], passed: &[(&'static str, &str)]| {
        let mut map = headers(given);
        let mut span = begin(&tracer, &mut map);
        assert!(span.record.is_none(), "nothing is noted, nothing is allocated");
        assert_eq!(forwarded(&mut span), None, "no header is added");
        assert_eq!(map, headers(passed), "{given:?}");
    };
    check(&[("content-type", "application/grpc")], &[("content-type", "application/grpc")]);
    check(
        &[("traceparent", CALLER), ("tracestate", "a=1")],
        &[("traceparent", CALLER), ("tracestate", "a=1")],
    );
    check(&[("traceparent", CALLER), ("tracestate", "A")], &[("traceparent", CALLER)]);
    check(&[("traceparent", "00-1-2-01"), ("tracestate", "a=1")], &[]);
    check(&[("traceparent", CALLER), ("traceparent", CALLER)], &[]);
    check(&[("tracestate", "a=1")], &[]);
}

#[test]
fn the_access_log_alone_begins_no_trace() {
    let (tracer, _queue) = tracer(false, 1.0, 1.0);
    let mut map = headers(&[("traceparent", CALLER)]);
    let mut span = begin(&tracer, &mut map);
    assert!(span.record.as_ref().is_some_and(|record| record.logged && !record.traced));
    assert_eq!(forwarded(&mut span), None);
    assert_eq!(map, headers(&[("traceparent", CALLER)]));
}

#[test]
fn with_a_collector_a_node_hangs_under_the_gateways_attempt() {
    let (tracer, _queue) = tracer(true, 0.0, 0.0);
    let check = |given: &str, sampled: bool| {
        let caller = Context::parse(given.as_bytes()).unwrap();
        let mut map = headers(&[("traceparent", given), ("tracestate", "a=1")]);
        let mut span = begin(&tracer, &mut map);
        assert_eq!(map, headers(&[("tracestate", "a=1")]), "the gateway's own takes its place");
        let written = forwarded(&mut span).unwrap();
        let record = span.record.unwrap();
        assert_eq!((written.trace, written.flags), (caller.trace, caller.flags));
        assert_eq!((record.parent, record.traced), (caller.span, sampled));
        assert_eq!(written.span, record.attempt_span(0));
        assert!(![caller.span, record.context.span, 0].contains(&written.span));
    };
    check(CALLER, true);
    check(UNSAMPLED, false);
}

#[test]
fn a_malformed_context_is_replaced_and_the_ratio_decides_about_new_ones() {
    let check = |ratio: f64, given: &[(&'static str, &str)], sampled: bool| {
        let (tracer, _queue) = tracer(true, ratio, 0.0);
        let mut map = headers(given);
        let mut span = begin(&tracer, &mut map);
        assert_eq!(map, Fields::new());
        let written = forwarded(&mut span).unwrap();
        assert_eq!(written.sampled(), sampled);
        let record = span.record.unwrap();
        assert_eq!((record.traced, record.parent), (sampled, 0));
        assert_ne!(written.trace, Context::parse(CALLER.as_bytes()).unwrap().trace);
    };
    check(1.0, &[], true);
    check(0.0, &[], false);
    check(1.0, &[("tracestate", "a=1")], true);
    check(0.0, &[("traceparent", &CALLER.to_uppercase()), ("tracestate", "a=1")], false);
    let half = Threshold::new(0.5);
    assert!(half.takes(|| u64::MAX / 2 - 1) && !half.takes(|| u64::MAX / 2 + 2));
}

#[test]
fn a_full_queue_loses_records_and_counts_them() {
    let (tracer, mut queue) = tracer(true, 1.0, 0.0);
    for _ in 0..5 {
        begin(&tracer, &mut Fields::new()).end(&tracer, None, 1, Instant::now());
    }
    assert_eq!(tracer.counts.overflowed.load(Relaxed), 3);
    assert!(queue.try_recv().is_ok() && queue.try_recv().is_ok() && queue.try_recv().is_err());
    // Nobody is there to take them any more: the same.
    drop(queue);
    begin(&tracer, &mut Fields::new()).end(&tracer, None, 1, Instant::now());
    assert_eq!(tracer.counts.overflowed.load(Relaxed), 4);
}

#[test]
fn an_unsampled_call_sends_nothing() {
    let (tracer, mut queue) = tracer(true, 0.0, 0.0);
    begin(&tracer, &mut Fields::new()).end(&tracer, None, 1, Instant::now());
    assert!(queue.try_recv().is_err());
    assert_eq!(tracer.counts.overflowed.load(Relaxed), 0);
}

fn method() -> Arc<Method> {
    Arc::new(Method {
        path: "/suiyue.v1.CodeService/VerifyCode".to_owned(),
        class: Class::Scan,
        access: Access::Public,
        idempotency: Idempotency::Idempotent,
        shape: Shape::Unary,
    })
}

fn attribute(span: &otlp::Span, key: &str) -> Option<String> {
    let value = span.attributes.iter().find(|a| a.key == key)?.value.clone()?.value?;
    Some(match value {
        Value::StringValue(text) => text,
        Value::IntValue(n) => n.to_string(),
        other => format!("{other:?}"),
    })
}

#[test]
fn a_call_with_a_retry_becomes_three_spans() {
    let (tracer, mut queue) = tracer(true, 0.0, 0.0);
    let mut span = begin(&tracer, &mut headers(&[("traceparent", CALLER)]));
    let start = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
    let at = |ms| start + Duration::from_millis(ms);
    span.attempt(&vitals("suikang"), at(1));
    span.failed(Failure::Lost, at(20));
    span.attempt(&vitals("yuekang"), at(20));
    span.answered(&"yuekang".into(), end(0), at(25));
    span.end(&tracer, Some(&method()), 42, at(25));
    let record = queue.try_recv().unwrap();
    let mut spans = Vec::new();
    append(&mut spans, &record, Clock::now());
    let [server, first, second] = &spans[..] else { panic!("{spans:?}") };

    let caller = Context::parse(CALLER.as_bytes()).unwrap();
    assert!(spans.iter().all(|span| span.trace_id == caller.trace.to_be_bytes()));
    assert!(spans.iter().all(|span| span.name == "suiyue.v1.CodeService/VerifyCode"));
    assert_eq!(server.parent_span_id, caller.span.to_be_bytes());
    assert_eq!((&first.parent_span_id, &second.parent_span_id), (&server.span_id, &server.span_id));
    assert_ne!(first.span_id, second.span_id);
    assert_eq!(second.end_time_unix_nano - first.start_time_unix_nano, 24_000_000);

    let check = |span: &otlp::Span, key: &str, expected: Option<&str>| {
        assert_eq!(attribute(span, key).as_deref(), expected, "{key}");
    };
    for (key, expected) in [
        ("rpc.system.name", "grpc"),
        ("rpc.method", "suiyue.v1.CodeService/VerifyCode"),
        ("rpc.response.status_code", "OK"),
        ("suiyue.region", "440100"),
        ("suiyue.class", "scan"),
        ("suiyue.node", "yuekang"),
        ("suiyue.tier", "1"),
        ("suiyue.reason", "retry"),
        ("suiyue.attempt", "2"),
        ("suiyue.plan", "42"),
    ] {
        check(server, key, Some(expected));
    }
    check(server, "error.type", None);
    check(first, "suiyue.node", Some("suikang"));
    check(first, "error.type", Some("connection_lost"));
    check(first, "server.address", Some("10.1.2.3"));
    check(first, "server.port", Some("9000"));
    check(second, "suiyue.attempt", Some("2"));
    check(second, "rpc.response.status_code", Some("OK"));
    let failed = otlp::status::StatusCode::Error as i32;
    assert_eq!(spans.iter().filter(|s| s.status.as_ref().unwrap().code == failed).count(), 1);
}

#[test]
fn a_refusal_is_a_span_without_attempts_and_names_no_made_up_method() {
    let (tracer, mut queue) = tracer(true, 1.0, 0.0);
    let mut span = begin(&tracer, &mut Fields::new());
    span.unanswered(End { code: tonic::Code::Unimplemented as u8, region: 0, ..end(0) });
    span.end(&tracer, None, 3, Instant::now());
    let mut spans = Vec::new();
    append(&mut spans, &queue.try_recv().unwrap(), Clock::now());
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].name, "_OTHER");
    assert_eq!(attribute(&spans[0], "rpc.response.status_code").as_deref(), Some("UNIMPLEMENTED"));
    assert_eq!(attribute(&spans[0], "suiyue.region"), None);
    assert!(spans[0].parent_span_id.is_empty());
}

#[test]
fn a_caller_that_leaves_in_mid_answer_does_not_hide_who_answered() {
    let (tracer, mut queue) = tracer(true, 1.0, 0.0);
    let mut span = begin(&tracer, &mut Fields::new());
    span.attempt(&vitals("suikang"), Instant::now());
    span.answered(&"suikang".into(), end(1), Instant::now());
    span.unanswered(End { reason: AnswerReason::Refused, ..end(1) });
    span.end(&tracer, None, 3, Instant::now());
    let record = queue.try_recv().unwrap();
    assert_eq!((record.end.reason, record.node.as_deref()), (AnswerReason::Retry, Some("suikang")));
}
