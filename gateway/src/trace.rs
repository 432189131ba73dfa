//! Where in which trace does a call stand, and who is told about it?
//!
//! A worker's [`Tracer`] reads the caller's context when a call begins; its [`Span`] gives each attempt a
//! place of its own in the trace and collects what happened; at the end the [`record`] goes through a
//! bounded queue to a thread of its own ([`export`]), which sends spans to a collector and writes the
//! access log. A full queue loses records, counts them, and never holds up a call.
//!
//! Without a collector nothing is begun here: a good context passes through untouched (a span that nobody
//! exports must not stand between others), a malformed one is taken out, and a call that brings none costs
//! one look into its headers.

pub mod context;
pub mod export;
pub mod record;
mod spans;

use crate::{health::Vitals, http2::Fields, retry::Failure, telemetry::End};
use context::{Context, RANDOM, SAMPLED};
use record::{Outcome, Record};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};
use suiyue_proto::{
    metadata::{TRACEPARENT, TRACESTATE},
    method::Method,
};
use tokio::sync::mpsc;

static PARENT: http::HeaderName = TRACEPARENT;
static STATE: http::HeaderName = TRACESTATE;

/// Records that wait for the exporting thread.
const QUEUE: usize = 8192;

/// What is traced and logged.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Where spans go, `http://host:port`; `None`: no traces are begun.
    pub otlp: Option<http::Uri>,
    /// Fraction of the calls without a context that are traced.
    pub trace_ratio: f64,
    /// Fraction of the calls that are logged; 0: no access log.
    pub access_log_ratio: f64,
}

/// What became of records and spans.
#[derive(Debug, Default)]
pub struct Counts {
    /// Spans that a collector took.
    pub exported: AtomicU64,
    /// Spans that could not be delivered.
    pub undelivered: AtomicU64,
    /// Records that found the queue full.
    pub overflowed: AtomicU64,
}

/// A worker's way into traces and access log. Clones share queue and counts.
#[derive(Debug, Clone, Default)]
pub struct Tracer {
    queue: Option<mpsc::Sender<Box<Record>>>,
    traces: bool,
    trace: Threshold,
    log: Threshold,
    counts: Arc<Counts>,
}

/// A fraction, to be compared with 64 random bits.
#[derive(Debug, Clone, Copy, Default)]
struct Threshold(u64);

impl Threshold {
    fn new(ratio: f64) -> Self {
        // Saturates: 1.0 is every call.
        Self((ratio * 2f64.powi(64)) as u64)
    }

    fn takes(self, random: impl FnOnce() -> u64) -> bool {
        match self.0 {
            0 => false,
            u64::MAX => true,
            limit => random() < limit,
        }
    }
}

/// The workers' end and the exporting thread's end of the queue; the latter is `None` where nothing is
/// traced or logged.
#[must_use]
pub fn open(settings: &Settings, gateway: &str, counts: Arc<Counts>) -> (Tracer, Option<export::Outlet>) {
    if settings.otlp.is_none() && settings.access_log_ratio <= 0.0 {
        return (Tracer { counts, ..Tracer::default() }, None);
    }
    let (sender, queue) = mpsc::channel(QUEUE);
    let tracer = Tracer {
        queue: Some(sender),
        traces: settings.otlp.is_some(),
        trace: Threshold::new(settings.trace_ratio),
        log: Threshold::new(settings.access_log_ratio),
        counts: counts.clone(),
    };
    (tracer, Some(export::Outlet::new(queue, settings.otlp.clone(), gateway, counts)))
}

impl Tracer {
    /// A call begins. The context is taken out of the headers, unless it only passes through;
    /// [`Span::write`] puts the gateway's own in its place.
    pub fn begin(&self, headers: &mut Fields, start: Instant, mut random: impl FnMut() -> u64) -> Span {
        let (mut carries, mut state) = (false, false);
        for (name, _) in headers.iter() {
            carries |= *name == PARENT;
            state |= *name == STATE;
        }
        if !carries && self.queue.is_none() {
            if state {
                headers.remove(&TRACESTATE);
            }
            return Span::default();
        }
        let caller = Context::of(headers).filter(|_| carries);
        if caller.is_some() {
            context::clean_state(headers);
        } else {
            headers.remove(&TRACESTATE);
        }
        if self.traces || caller.is_none() {
            headers.remove(&TRACEPARENT);
        }
        let logged = self.log.takes(&mut random);
        if !self.traces && !logged {
            return Span::default();
        }
        let context = match caller {
            Some(caller) => Context { span: random().max(1), ..caller },
            None => self.fresh(&mut random),
        };
        let mut record = Record::new(context, start);
        record.parent = caller.map_or(0, |caller| caller.span);
        record.traced = self.traces && context.sampled();
        record.logged = logged;
        Span { record: Some(Box::new(record)), writes: self.traces }
    }

    /// A trace that begins here.
    fn fresh(&self, random: &mut impl FnMut() -> u64) -> Context {
        let sampled = if self.trace.takes(&mut *random) { SAMPLED } else { 0 };
        let trace = u128::from(random()) << 64 | u128::from(random().max(1));
        Context { trace, span: random().max(1), flags: RANDOM | sampled }
    }

    fn send(&self, record: Box<Record>) {
        let sent = self.queue.as_ref().is_some_and(|queue| queue.try_send(record).is_ok());
        if !sent {
            self.counts.overflowed.fetch_add(1, Relaxed);
        }
    }
}

/// What is noted of one call; of most calls nothing. Dropped before its [`Span::end`] it leaves no record.
#[derive(Debug, Default)]
pub struct Span {
    record: Option<Box<Record>>,
    /// Nodes are told their place in the trace.
    writes: bool,
}

impl Span {
    /// An attempt at an endpoint begins.
    pub fn attempt(&mut self, at: &Arc<Vitals>, now: Instant) {
        if let Some(record) = &mut self.record {
            record.attempt(at, now);
        }
    }

    /// Writes the place of the current attempt into its headers.
    pub fn write(&self, headers: &mut Fields) {
        if let Some(record) = self.record.as_ref().filter(|_| self.writes) {
            let span = record.attempt_span(record.attempts.len().saturating_sub(1));
            headers.insert(TRACEPARENT, Context { span, ..record.context }.value());
        }
    }

    /// The current attempt failed, and another one may follow.
    pub fn failed(&mut self, failure: Failure, now: Instant) {
        if let Some(record) = &mut self.record {
            record.close(Outcome::Failed(failure), now);
        }
    }

    /// A node's answer was passed on.
    pub fn answered(&mut self, node: &Arc<str>, end: End, now: Instant) {
        if let Some(record) = &mut self.record {
            record.close(Outcome::Answered(end.code), now);
            record.node = Some(node.clone());
            record.end = end;
        }
    }

    /// No node's answer was passed on: the gateway refused, or the caller left.
    pub fn unanswered(&mut self, end: End) {
        if let Some(record) = &mut self.record {
            // The caller of a stream may leave in mid-answer: then a node has answered.
            if record.node.is_none() {
                record.end = end;
            }
        }
    }

    /// The call is over: its record, if it is wanted, leaves the worker.
    pub fn end(self, tracer: &Tracer, method: Option<&Arc<Method>>, plan: u64, now: Instant) {
        let Some(mut record) = self.record.filter(|record| record.traced || record.logged) else { return };
        record.close(Outcome::Open, now);
        record.method = method.cloned();
        record.plan = plan;
        record.finish = now;
        tracer.send(record);
    }
}

#[cfg(test)]
mod tests;
