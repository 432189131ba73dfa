//! How do records reach a collector and the access log, without a call noticing?
//!
//! ```text
//!  workers ──bounded queue──► this thread ──► access log (tracing, target `access`)
//!                                  └──► spans, at most PENDING ──one request at a time──► collector
//! ```
//! The thread empties the queue whether or not the collector answers. A collector that is away, slow or
//! refuses costs spans, which are counted, and one WARN a minute for each cause. Nothing is sent twice: a
//! trace with a hole is better than a queue that grows.

use super::{
    Counts,
    record::Record,
    spans::{self, Clock},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    trace::v1::Span,
};
use std::{
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};
use tokio::{
    sync::mpsc,
    time::{Instant as Deadline, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

/// Records taken from the queue at a time.
const BURST: usize = 256;
/// Spans that make a request at once.
const BATCH: usize = 512;
/// Spans that wait for the collector at most.
const PENDING: usize = 8192;
/// Spans wait so long for others.
const LINGER: Duration = Duration::from_secs(1);
/// The collector has so long for a request.
const EXPORT_LIMIT: Duration = Duration::from_secs(5);
/// What is left at the end has so long.
const LAST_LIMIT: Duration = Duration::from_secs(2);
/// A cause is warned of this often.
const QUIET: Duration = Duration::from_secs(60);

/// The thread's end of the queue.
#[derive(Debug)]
pub struct Outlet {
    queue: mpsc::Receiver<Box<Record>>,
    collector: Option<http::Uri>,
    gateway: String,
    counts: Arc<Counts>,
}

impl Outlet {
    pub(super) fn new(
        queue: mpsc::Receiver<Box<Record>>,
        collector: Option<http::Uri>,
        gateway: &str,
        counts: Arc<Counts>,
    ) -> Self {
        Self { queue, collector, gateway: gateway.to_owned(), counts }
    }

    /// Starts the thread. It ends after `stop`, when what is left was sent, or could not be.
    ///
    /// # Errors
    /// The thread or its runtime cannot be made.
    pub fn start(self, stop: CancellationToken) -> io::Result<thread::JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("telemetry".to_owned()).spawn(move || runtime.block_on(self.run(stop)))
    }

    async fn run(mut self, stop: CancellationToken) {
        let mut exporter = Exporter::new(self.collector.take(), self.gateway, self.counts);
        let mut records = Vec::with_capacity(BURST);
        loop {
            tokio::select! {
                n = self.queue.recv_many(&mut records, BURST) => {
                    if n == 0 { break }
                    let clock = Clock::now();
                    records.drain(..).for_each(|record| exporter.take(&record, clock));
                    exporter.watch_overflow();
                }
                () = exporter.progress() => {}
                // What is in the queue is still taken.
                () = stop.cancelled(), if !self.queue.is_closed() => self.queue.close(),
            }
        }
        exporter.finish().await;
    }
}

type Sending = Pin<Box<dyn Future<Output = (u64, Result<i64, Status>)>>>;

/// Spans on their way.
struct Exporter {
    client: Option<TraceServiceClient<Channel>>,
    gateway: String,
    counts: Arc<Counts>,
    pending: Vec<Span>,
    /// The oldest pending span leaves by then.
    due: Deadline,
    sending: Option<Sending>,
    warnings: Warnings,
    overflowed: u64,
}

impl Exporter {
    fn new(collector: Option<http::Uri>, gateway: String, counts: Arc<Counts>) -> Self {
        let client = collector.map(|uri| {
            let endpoint = Endpoint::from(uri).connect_timeout(EXPORT_LIMIT).tcp_nodelay(true);
            // A collector that is frozen is found out, and connected to anew.
            let endpoint = endpoint
                .http2_keep_alive_interval(Duration::from_secs(30))
                .keep_alive_timeout(Duration::from_secs(10));
            TraceServiceClient::new(endpoint.connect_lazy())
        });
        Self {
            client,
            gateway,
            counts,
            pending: Vec::new(),
            due: Deadline::now(),
            sending: None,
            warnings: Warnings::default(),
            overflowed: 0,
        }
    }

    /// Logs a record, and turns it into pending spans.
    fn take(&mut self, record: &Record, clock: Clock) {
        if record.logged {
            log(record);
        }
        if !record.traced {
            return;
        }
        if self.pending.is_empty() {
            self.due = Deadline::now() + LINGER;
        }
        let wanted = 1 + record.attempts.len();
        if self.pending.len() + wanted > PENDING {
            self.counts.undelivered.fetch_add(wanted as u64, Relaxed);
            return;
        }
        spans::append(&mut self.pending, record, clock);
    }

    fn watch_overflow(&mut self) {
        let overflowed = self.counts.overflowed.load(Relaxed);
        if overflowed > std::mem::replace(&mut self.overflowed, overflowed) {
            self.warnings.warn(Cause::Overflow, overflowed, "calls come faster than records are exported");
        }
    }

    /// Waits until something is to be done for the collector, and does it. Cancel safe.
    async fn progress(&mut self) {
        if let Some(sending) = &mut self.sending {
            let (spans, result) = sending.await;
            self.sending = None;
            self.note(spans, &result);
            return;
        }
        if self.pending.is_empty() {
            return std::future::pending().await;
        }
        if self.pending.len() < BATCH {
            sleep_until(self.due).await;
        }
        self.send(EXPORT_LIMIT);
    }

    fn send(&mut self, limit: Duration) {
        let Some(mut client) = self.client.clone() else { return };
        let rest = self.pending.split_off(self.pending.len().min(BATCH));
        let batch = std::mem::replace(&mut self.pending, rest);
        self.due = Deadline::now() + LINGER;
        let spans = batch.len() as u64;
        let resource_spans = vec![spans::request(&self.gateway, batch)];
        self.sending = Some(Box::pin(async move {
            let request = ExportTraceServiceRequest { resource_spans };
            let answer = timeout(limit, client.export(request)).await;
            let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
            (spans, answer.map(|answer| answer.into_inner().partial_success.map_or(0, |p| p.rejected_spans)))
        }));
    }

    fn note(&mut self, spans: u64, result: &Result<i64, Status>) {
        let rejected = match result {
            Ok(rejected) => u64::try_from(*rejected).unwrap_or(0).min(spans),
            Err(_) => spans,
        };
        self.counts.exported.fetch_add(spans - rejected, Relaxed);
        let lost = self.counts.undelivered.fetch_add(rejected, Relaxed) + rejected;
        match result {
            Ok(0) => {}
            Ok(_) => self.warnings.warn(Cause::Rejected, lost, "it rejected some spans"),
            Err(status) => {
                let cause = match status.code() {
                    Code::Unavailable => Cause::Away,
                    Code::DeadlineExceeded => Cause::Slow,
                    _ => Cause::Refused,
                };
                self.warnings.warn(cause, lost, &format!("{:?}: {}", status.code(), status.message()));
            }
        }
    }

    /// Sends what is left, once, within [`LAST_LIMIT`].
    async fn finish(mut self) {
        let all = async {
            while self.sending.is_some() || !self.pending.is_empty() {
                if self.sending.is_none() {
                    self.send(LAST_LIMIT);
                }
                if self.client.is_none() {
                    return;
                }
                self.progress().await;
            }
        };
        let _ = timeout(LAST_LIMIT, all).await;
    }
}

/// The access log's line for one call.
fn log(record: &Record) {
    let end = &record.end;
    // An id that nobody else knows would lead nowhere.
    let known = record.traced || record.parent != 0;
    let trace_id = known.then(|| format!("{:032x}", record.context.trace));
    let micros = record.finish.saturating_duration_since(record.start).as_micros();
    tracing::info!(
        target: "access",
        method = spans::name(record),
        region = end.region,
        class = end.class.as_str(),
        node = record.node.as_deref().unwrap_or(""),
        tier = end.tier,
        reason = end.reason.as_str(),
        attempts = record.attempts.len() as u64,
        status = spans::code(end.code),
        plan = record.plan,
        duration_us = u64::try_from(micros).unwrap_or(u64::MAX),
        trace_id,
        "call"
    );
}

/// Why spans or records are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// No connection to the collector.
    Away,
    /// The collector does not answer in time.
    Slow,
    /// The collector answers with an error.
    Refused,
    /// The collector took only a part.
    Rejected,
    /// The queue was full.
    Overflow,
}

/// Keeps warnings rare.
#[derive(Debug, Default)]
struct Warnings([Option<Instant>; 5]);

impl Warnings {
    /// True once in [`QUIET`] for each cause.
    fn due(&mut self, cause: Cause, now: Instant) -> bool {
        let last = &mut self.0[cause as usize];
        let due = last.is_none_or(|last| now.saturating_duration_since(last) >= QUIET);
        if due {
            *last = Some(now);
        }
        due
    }

    fn warn(&mut self, cause: Cause, lost: u64, why: &str) {
        if self.due(cause, Instant::now()) {
            tracing::warn!(?cause, lost, why, "traces or access log are incomplete; calls are not affected");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_warned_of_once_a_minute() {
        let mut warnings = Warnings::default();
        let start = Instant::now();
        let mut due = |cause, second| warnings.due(cause, start + Duration::from_secs(second));
        let heard: Vec<_> = [
            (Cause::Away, 0),
            (Cause::Away, 59),
            (Cause::Slow, 59),
            (Cause::Away, 60),
            (Cause::Slow, 60),
            (Cause::Overflow, 61),
            (Cause::Slow, 119),
        ]
        .into_iter()
        .map(|(cause, second)| due(cause, second))
        .collect();
        assert_eq!(heard, [true, false, true, true, false, true, true]);
    }
}
