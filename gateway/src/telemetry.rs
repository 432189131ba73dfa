//! What happened to the calls, in numbers?
//!
//! Every call ends in one [`End`]. A worker counts it in a [`Series`] of its own (one writer, no locked
//! instructions); a scrape adds the workers up. The series in use by an endpoint are at hand in
//! [`Recent`], so that counting a call is a short scan and a few stores.

pub mod exposition;
pub mod histogram;
pub mod rules;
pub mod taken;
mod verdicts;

use crate::{apps::meters::Meters, audit::keeper::Memory, shifts::measure::BOUNDS_US, trace};
use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};
use suiyue_proto::{method::Class, verdict::Tally};
use verdicts::{Judged, Verdicts};

/// Why a call was answered by the node that answered it: the word in `suiyue-reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AnswerReason {
    /// The region's first tier.
    Primary,
    /// A later tier, because earlier ones cannot take everything.
    Failover,
    /// Another attempt after a first one failed.
    Retry,
    /// Nobody is healthy; tried all the same.
    FailOpen,
    /// No node answered: the gateway refused.
    Refused,
    /// The region's policy gives the node a weight.
    Policy,
    /// A shift moves this subject's calls to the node.
    Shift,
    /// The node that would have answered is at its cap.
    Overflow,
}

impl AnswerReason {
    /// The word in metadata and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Failover => "failover",
            Self::Retry => "retry",
            Self::FailOpen => "fail_open",
            Self::Refused => "refused",
            Self::Policy => "policy",
            Self::Shift => "shift",
            Self::Overflow => "overflow",
        }
    }

    /// In the order of their numbers, for [`End::unpacked`].
    const ALL: [Self; 8] = [
        Self::Primary,
        Self::Failover,
        Self::Retry,
        Self::FailOpen,
        Self::Refused,
        Self::Policy,
        Self::Shift,
        Self::Overflow,
    ];
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Routing region; 0 where it was not found out.
    pub region: u32,
    /// Class; `Sync` where the method is unknown.
    pub class: Class,
    /// Tier of the node that answered.
    pub tier: u8,
    /// Why that node.
    pub reason: AnswerReason,
    /// gRPC status code, 0 to 16.
    pub code: u8,
    /// A further attempt was made.
    pub retried: bool,
}

impl End {
    /// Everything but the node in 64 bits.
    const fn packed(self) -> u64 {
        (self.region as u64) << 32
            | (self.class as u64) << 24
            | (self.tier as u64) << 16
            | (self.reason as u64) << 9
            | (self.retried as u64) << 8
            | self.code as u64
    }

    fn unpacked(packed: u64) -> Self {
        Self {
            region: (packed >> 32) as u32,
            class: Class::ALL[(packed >> 24) as usize & 3],
            tier: (packed >> 16) as u8,
            reason: AnswerReason::ALL[((packed >> 9) as usize & 0x7f).min(7)],
            retried: packed >> 8 & 1 == 1,
            code: packed as u8,
        }
    }
}

/// Calls of one kind at one node, counted by one worker.
#[derive(Debug, Default)]
pub struct Series {
    calls: AtomicU64,
    micros: AtomicU64,
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
}

impl Series {
    /// Counts one call. Only the worker that owns the series may do so.
    pub fn count(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let add = |counter: &AtomicU64, n| counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
        add(&self.calls, 1);
        add(&self.micros, micros);
        add(&self.buckets[BOUNDS_US.partition_point(|&bound| bound < micros)], 1);
    }
}

/// Series used recently, most used first.
#[derive(Default)]
pub struct Recent {
    ends: RefCell<Vec<(u64, Arc<Series>)>>,
    verdicts: RefCell<Vec<(u32, Arc<Judged>)>>,
}

impl Recent {
    /// Counts a call that ended at this node. `node` is empty for calls that reached none.
    pub fn count(&self, metrics: &Metrics, worker: usize, node: &Arc<str>, end: End, latency: Duration) {
        let key = end.packed();
        let mut recent = self.ends.borrow_mut();
        if let Some(at) = recent.iter().position(|(known, _)| *known == key) {
            recent[at].1.count(latency);
            if at > 0 {
                recent.swap(at, at - 1);
            }
            return;
        }
        let series = metrics.series(worker, node, key);
        series.count(latency);
        recent.push((key, series));
    }

    /// Counts what a node judged in an answer about a region.
    pub fn count_verdicts(&self, metrics: &Metrics, worker: usize, at: (&Arc<str>, u32), tally: Tally) {
        let mut recent = self.verdicts.borrow_mut();
        if let Some((_, judged)) = recent.iter().find(|(region, _)| *region == at.1) {
            return judged.count(tally);
        }
        let judged = metrics.verdicts.of(worker, at.0, at.1);
        judged.count(tally);
        recent.push((at.1, judged));
    }
}

type Calls = HashMap<(Arc<str>, u64), Vec<(usize, Arc<Series>)>>;

/// All numbers of a gateway.
#[derive(Debug)]
pub struct Metrics {
    calls: Mutex<Calls>,
    verdicts: Verdicts,
    /// What became of traces and access log.
    pub traces: Arc<trace::Counts>,
    /// Downstream connections open now, by worker.
    pub connections: Vec<Arc<std::sync::atomic::AtomicUsize>>,
    /// Generation of the plan that calls go by, by worker.
    pub plans: Vec<AtomicU64>,
    /// Connections turned away: too many, or not HTTP/2.
    pub refused_connections: AtomicU64,
    /// The head of the audit that this gateway remembers.
    pub audit: Memory,
    /// What apps call, and have of their quotas.
    pub apps: Arc<Meters>,
    /// How often each rule of health and retry applied.
    pub rules: rules::Rules,
    /// When the gateway started.
    pub started: SystemTime,
}

impl Metrics {
    /// Numbers of a gateway with so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            calls: Mutex::default(),
            verdicts: Verdicts::default(),
            traces: Arc::default(),
            connections: (0..workers).map(|_| Arc::default()).collect(),
            plans: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            refused_connections: AtomicU64::new(0),
            audit: Memory::default(),
            apps: Arc::new(Meters::new(workers)),
            rules: rules::Rules::new(workers),
            started: SystemTime::now(),
        }
    }

    /// Calls by latency of every node, since ever, in the buckets of
    /// [`crate::shifts::measure::BOUNDS_US`].
    #[must_use]
    pub fn latencies(&self) -> BTreeMap<Arc<str>, [u64; BOUNDS_US.len() + 1]> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let mut latencies: BTreeMap<Arc<str>, [u64; BOUNDS_US.len() + 1]> = BTreeMap::new();
        for ((node, _), by_worker) in calls.iter() {
            let sums = latencies.entry(node.clone()).or_default();
            for (_, series) in by_worker {
                sums.iter_mut().zip(&series.buckets).for_each(|(sum, calls)| *sum += calls.load(Relaxed));
            }
        }
        latencies
    }

    fn series(&self, worker: usize, node: &Arc<str>, key: u64) -> Arc<Series> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let by_worker = calls.entry((node.clone(), key)).or_default();
        if let Some((_, series)) = by_worker.iter().find(|(owner, _)| *owner == worker) {
            return series.clone();
        }
        let series = Arc::new(Series::default());
        by_worker.push((worker, series.clone()));
        series
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_survives_packing() {
        for (n, reason) in AnswerReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, n);
            for retried in [false, true] {
                let end = End { region: 659_010, class: Class::Sync, tier: 2, reason, code: 16, retried };
                assert_eq!(End::unpacked(end.packed()), end);
            }
        }
    }
}
