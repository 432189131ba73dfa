//! How did the calls go, in numbers?
//!
//! A [`Tally`] counts calls and keeps their latencies; a [`Breakdown`] keeps one for all calls and
//! one for each class, region and node. Latencies are kept in microseconds with two significant
//! digits, so that a snapshot for the screen is small.

use super::{
    mix::Kind,
    record::{Observe, Outcome, Record},
};
use hdrhistogram::Histogram;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use suiyue_proto::region::Code;

/// Longer latencies are counted as this one.
const LONGEST_US: u64 = 60_000_000;

/// Counts and latencies of some calls.
#[derive(Debug, Clone)]
pub struct Tally {
    /// All calls.
    pub calls: u64,
    /// Those that did not end OK.
    pub failed: u64,
    /// Those that ended OK with a verdict the code's level does not explain.
    pub wrong_verdict: u64,
    latencies: Histogram<u32>,
}

impl Default for Tally {
    fn default() -> Self {
        let latencies = Histogram::new_with_max(LONGEST_US, 2).expect("the bounds are constants");
        Self { calls: 0, failed: 0, wrong_verdict: 0, latencies }
    }
}

impl Tally {
    /// Takes one record.
    pub fn add(&mut self, record: &Record) {
        self.calls += 1;
        match record.outcome {
            Outcome::Ok => {}
            Outcome::WrongVerdict(_) => self.wrong_verdict += 1,
            Outcome::Failed { .. } => self.failed += 1,
        }
        let micros = u64::try_from(record.latency.as_micros()).unwrap_or(LONGEST_US);
        self.latencies.saturating_record(micros.clamp(1, LONGEST_US));
    }

    /// Takes all of another tally.
    pub fn merge(&mut self, other: &Self) {
        self.calls += other.calls;
        self.failed += other.failed;
        self.wrong_verdict += other.wrong_verdict;
        self.latencies.add(&other.latencies).expect("both have the same bounds");
    }

    /// The latency in milliseconds that this fraction (0 to 1) of the calls did not exceed.
    #[must_use]
    pub fn quantile_ms(&self, fraction: f64) -> f64 {
        let micros = self.latencies.value_at_quantile(fraction).min(self.latencies.max());
        to_ms(Duration::from_micros(micros))
    }

    /// The longest latency in milliseconds.
    #[must_use]
    pub fn max_ms(&self) -> f64 {
        to_ms(Duration::from_micros(self.latencies.max()))
    }
}

fn to_ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}

/// Tallies by class, region and node.
#[derive(Debug, Clone, Default)]
pub struct Breakdown {
    /// All calls.
    pub all: Tally,
    /// By kind of call.
    pub classes: BTreeMap<Kind, Tally>,
    /// By the region routed by.
    pub regions: BTreeMap<Code, Tally>,
    /// By the node that answered; calls that no node answered are in none.
    pub nodes: BTreeMap<Arc<str>, Tally>,
    /// Calls by the tier that answered.
    pub tiers: BTreeMap<u8, u64>,
    /// Calls by the gateway's attempt that answered.
    pub attempts: BTreeMap<u32, u64>,
    /// Calls by code and reason, of those that failed or got a wrong verdict.
    pub faults: BTreeMap<(String, String), u64>,
}

impl Breakdown {
    /// Takes one record.
    pub fn add(&mut self, record: &Record) {
        self.all.add(record);
        self.classes.entry(record.kind).or_default().add(record);
        self.regions.entry(record.region).or_default().add(record);
        if let Some(node) = &record.served.node {
            self.nodes.entry(Arc::clone(node)).or_default().add(record);
            *self.attempts.entry(record.served.attempt).or_default() += 1;
        }
        if let Some(tier) = record.served.tier {
            *self.tiers.entry(tier).or_default() += 1;
        }
        let fault = match &record.outcome {
            Outcome::Ok => return,
            Outcome::WrongVerdict(verdict) => ("WRONG_VERDICT".to_owned(), verdict.clone()),
            Outcome::Failed { code, reason } => ((*code).to_owned(), reason.clone().into_owned()),
        };
        *self.faults.entry(fault).or_default() += 1;
    }
}

/// A breakdown that a run writes and others read.
#[derive(Debug, Default)]
pub struct Shared(Mutex<Breakdown>);

impl Shared {
    /// What it holds now; with `reset` it starts again from nothing.
    #[must_use]
    pub fn take(&self) -> Breakdown {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observe for Shared {
    fn record(&self, record: &Record) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(record);
    }
}
