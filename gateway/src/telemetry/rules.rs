//! How often did each rule of health and retry apply?
//!
//! `deploy/README.md` says what each of them means.
//!
//! Workers count in lines of their own; the control task's events are rare and stand behind a lock that
//! no call ever takes.

use crate::{
    health::{State, Vitals, record::Event},
    retry::budget::Budget,
};
use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use suiyue_proto::region::Code;

/// What a worker counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Rule {
    /// A region had too many calls in flight.
    Bulkhead = 0,
    /// Too many of the calls in flight were retries.
    RetryCeiling = 1,
    /// Too little time was left for an attempt.
    TooLate = 2,
    /// Others go first: the node would have sent the call away, or the lower classes fill their part.
    Shed = 3,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane([AtomicU64; 4]);

/// What the control task counts.
#[derive(Debug, Default)]
struct Control {
    events: BTreeMap<(Arc<str>, &'static str), u64>,
    vitals: Vec<Arc<Vitals>>,
    budgets: BTreeMap<(Code, Arc<str>), Arc<Budget>>,
    isolations: u64,
    isolated: bool,
}

/// Counters of all rules.
#[derive(Debug, Default)]
pub struct Rules {
    lanes: Box<[Lane]>,
    control: Mutex<Control>,
}

impl Rules {
    /// Counters for so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self { lanes: (0..workers).map(|_| Lane::default()).collect(), control: Mutex::default() }
    }

    /// A rule applied to a call. Only the worker of this index may say so.
    pub fn count(&self, worker: usize, rule: Rule) {
        let counter = &self.lanes[worker].0[rule as usize];
        counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Something happened to an endpoint of a node.
    pub fn event(&self, node: &Arc<str>, event: Event) {
        *self.control().events.entry((node.clone(), word(event))).or_default() += 1;
    }

    /// The endpoints and budgets there are.
    pub fn follow(&self, vitals: Vec<Arc<Vitals>>, budgets: BTreeMap<(Code, Arc<str>), Arc<Budget>>) {
        let mut control = self.control();
        (control.vitals, control.budgets) = (vitals, budgets);
    }

    /// Ejections are frozen, or not any more.
    pub fn isolated(&self, is: bool) {
        let mut control = self.control();
        control.isolations += u64::from(is && !control.isolated);
        control.isolated = is;
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sum(&self, rule: Rule) -> u64 {
        self.lanes.iter().map(|lane| lane.0[rule as usize].load(Relaxed)).sum()
    }

    /// Writes everything.
    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, text, rule) in [
            ("suiyue_bulkhead_refusals", "Calls refused: too many of their region in flight", Rule::Bulkhead),
            ("suiyue_retry_ceiling", "Retries not made: too many in flight", Rule::RetryCeiling),
            ("suiyue_too_late", "Calls not sent: too little of their time was left", Rule::TooLate),
            ("suiyue_shed", "Calls refused: there is too much to do, and others go first", Rule::Shed),
        ] {
            let out = encoder.encode_descriptor(name, text, None, MetricType::Counter)?;
            ConstCounter::new(self.sum(rule)).encode(out)?;
        }
        let control = self.control();
        control.encode_health(encoder)?;
        control.encode_budgets(encoder)
    }
}

impl Control {
    fn encode_health(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let text = "What happened to endpoints, by node";
        let mut family =
            encoder.encode_descriptor("suiyue_health_events", text, None, MetricType::Counter)?;
        for ((node, event), count) in &self.events {
            let labels = [("node", &**node), ("event", event)];
            ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
        }
        let text = "1 for the state that an endpoint is in";
        let mut family = encoder.encode_descriptor("suiyue_endpoint_state", text, None, MetricType::Gauge)?;
        for vitals in &self.vitals {
            let state = match vitals.state() {
                State::Ok => "ok",
                State::HalfOpen => "half_open",
                State::Suspect => "suspect",
                State::Ejected => "ejected",
            };
            let labels = [("node", &*vitals.node), ("endpoint", &*vitals.endpoint.name), ("state", state)];
            ConstGauge::new(1i64).encode(family.encode_family(&labels)?)?;
        }
        let text = "Ejections are frozen: the gateway's own network is suspect";
        let out = encoder.encode_descriptor("suiyue_self_isolation", text, None, MetricType::Gauge)?;
        ConstGauge::new(i64::from(self.isolated)).encode(out)?;
        let text = "Times that ejections were frozen";
        let out = encoder.encode_descriptor("suiyue_self_isolations", text, None, MetricType::Counter)?;
        ConstCounter::new(self.isolations).encode(out)
    }

    fn encode_budgets(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Count = fn(&Budget) -> u64;
        let counters: [(&str, &str, MetricType, Count); 3] = [
            ("suiyue_retries", "Retries paid for", MetricType::Counter, |b| b.totals().spent),
            ("suiyue_moves", "Calls moved off a connection", MetricType::Counter, |b| b.totals().moved),
            ("suiyue_retry_budget_left", "Retries possible now", MetricType::Gauge, Budget::left),
        ];
        for (name, text, kind, count) in counters {
            let mut family = encoder.encode_descriptor(name, text, None, kind)?;
            for ((region, node), budget) in &self.budgets {
                let labels = [("region", region.to_string()), ("node", node.to_string())];
                let out = family.encode_family(&labels)?;
                match kind {
                    MetricType::Counter => ConstCounter::new(count(budget)).encode(out)?,
                    _ => ConstGauge::new(i64::try_from(count(budget)).unwrap_or(i64::MAX)).encode(out)?,
                }
            }
        }
        Ok(())
    }
}

const fn word(event: Event) -> &'static str {
    match event {
        Event::Tripped(trip) => trip.as_str(),
        Event::CheckedOut => "check",
        Event::Spared(_) => "spared",
        Event::HalfOpened => "half_open",
        Event::ProbeFailed => "probe_failed",
        Event::Returned => "returned",
        Event::Slowed => "slow",
    }
}
