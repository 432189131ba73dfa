//! Does a node do worse than before a shift?
//!
//! A [`Gauge`] sees the last seconds of one node: how many of its calls failed, and their p99. A guard is
//! breached by a utilization above the order's limit, by more failures than before in points of 100, or by
//! a p99 longer than before by a factor. A window with few calls proves nothing. Pure.

use crate::table::Guards;
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// What is looked at.
const WINDOW: Duration = Duration::from_secs(3);
/// Calls that a window needs.
const MIN_CALLS: u64 = 20;
/// Below this nothing is slow.
const P99_FLOOR_MS: f64 = 50.0;
/// Upper bounds of the latency buckets, in microseconds; the last one is open.
pub const BOUNDS_US: [u64; 13] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000];
/// Where a latency in the open bucket is taken to be.
const OPEN_US: u64 = 5_000_000;

/// Counters of one node, since ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// Attempts that succeeded or failed.
    pub judged: u64,
    /// Those that failed.
    pub failed: u64,
    /// Calls by latency, in the buckets of [`BOUNDS_US`].
    pub buckets: [u64; BOUNDS_US.len() + 1],
}

/// What the last seconds say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Calls that failed, in points of 100.
    pub failed: f64,
    /// p99 in milliseconds; `None`: too few calls ended.
    pub p99_ms: Option<f64>,
}

/// The last seconds of one node.
#[derive(Debug, Default)]
pub struct Gauge(VecDeque<(Instant, Sample)>);

impl Gauge {
    /// Takes the counters. To be called a few times a second.
    pub fn feed(&mut self, sample: Sample, now: Instant) {
        // Counters go back when an endpoint is replaced: what was before says nothing any more.
        if self.0.back().is_some_and(|(_, last)| sample.judged < last.judged) {
            self.0.clear();
        }
        self.0.push_back((now, sample));
        while self.0.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            self.0.pop_front();
        }
    }

    /// What they say; `None`: too few calls.
    #[must_use]
    pub fn read(&self) -> Option<Measured> {
        let (first, last) = (self.0.front()?.1, self.0.back()?.1);
        let judged = last.judged - first.judged;
        if judged < MIN_CALLS {
            return None;
        }
        let failed = last.failed.saturating_sub(first.failed) as f64 / judged as f64 * 100.0;
        let mut calls = [0; BOUNDS_US.len() + 1];
        for (calls, (last, first)) in calls.iter_mut().zip(last.buckets.iter().zip(first.buckets)) {
            *calls = last.saturating_sub(first);
        }
        Some(Measured { failed, p99_ms: p99_ms(&calls) })
    }
}

/// Linear inside its bucket.
fn p99_ms(calls: &[u64; BOUNDS_US.len() + 1]) -> Option<f64> {
    let total: u64 = calls.iter().sum();
    if total < MIN_CALLS {
        return None;
    }
    let (rank, mut below, mut lower) = (total as f64 * 0.99, 0.0, 0);
    for (&upper, &here) in BOUNDS_US.iter().chain([&OPEN_US]).zip(calls) {
        let here = here as f64;
        if below + here >= rank && here > 0.0 {
            let us = lower as f64 + (upper - lower) as f64 * ((rank - below) / here);
            return Some(us / 1_000.0);
        }
        (below, lower) = (below + here, upper);
    }
    None
}

/// A guard that is breached.
#[derive(Debug, Clone, PartialEq)]
pub struct Breach {
    /// `utilization`, `errors` or `p99`.
    pub guard: &'static str,
    /// At this node.
    pub node: Arc<str>,
    /// A part of its capacity, points of 100, or milliseconds.
    pub value: f64,
    /// The most that is allowed.
    pub limit: f64,
}

/// The guard that a node breaches now, compared with before.
#[must_use]
pub fn breach(
    guards: &Guards,
    node: &Arc<str>,
    now: Option<Measured>,
    before: Option<Measured>,
    utilization: Option<f64>,
) -> Option<Breach> {
    let over = |guard, value: f64, limit: f64| {
        (value > limit).then(|| Breach { guard, node: node.clone(), value, limit })
    };
    let full = utilization.and_then(|value| over("utilization", value, guards.max_utilization));
    full.or_else(|| {
        let limit = before.map_or(0.0, |before| before.failed) + guards.error_delta;
        over("errors", now?.failed, limit)
    })
    .or_else(|| {
        let limit = before?.p99_ms? * guards.p99_factor;
        over("p99", now?.p99_ms?, limit.max(P99_FLOOR_MS))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `judged` calls, `failed` of them failed, in the bucket that ends at `us`.
    fn calls(judged: u64, failed: u64, us: u64) -> Sample {
        let mut sample = Sample { judged, failed, ..Sample::default() };
        sample.buckets[BOUNDS_US.partition_point(|&bound| bound < us)] = judged;
        sample
    }

    fn measured(sample: Sample) -> Option<Measured> {
        let (mut gauge, now) = (Gauge::default(), Instant::now());
        gauge.feed(Sample::default(), now);
        gauge.feed(sample, now + Duration::from_secs(1));
        gauge.read()
    }

    #[test]
    fn the_last_seconds_count_and_few_calls_say_nothing() {
        assert_eq!(measured(calls(19, 19, 1_000)), None);
        let read = measured(calls(100, 5, 2_500)).unwrap();
        assert_eq!(read.failed, 5.0);
        assert!((2.4..2.5).contains(&read.p99_ms.unwrap()), "{read:?}");
        let (mut gauge, start) = (Gauge::default(), Instant::now());
        for second in 0..20 {
            let bad = if second < 10 { second * 100 } else { 1_000 };
            gauge.feed(calls(second * 100, bad, 1_000), start + Duration::from_secs(second));
        }
        assert_eq!(gauge.read().unwrap().failed, 0.0, "what failed is long ago");
        gauge.feed(calls(0, 0, 1_000), start + Duration::from_secs(20));
        assert_eq!(gauge.read(), None, "the endpoint was replaced");
    }

    #[test]
    fn each_guard_is_breached_by_its_own_number() {
        let guards = Guards::default();
        let node = Arc::from("yuekang");
        let m = |failed, p99_ms| Some(Measured { failed, p99_ms: Some(p99_ms) });
        let check = |now, before, utilization, expected: Option<(&str, f64)>| {
            let found = breach(&guards, &node, now, before, utilization);
            assert_eq!(found.map(|breach| (breach.guard, breach.limit)), expected);
        };
        check(m(0.0, 10.0), m(0.0, 10.0), Some(0.80), None);
        check(m(0.0, 10.0), m(0.0, 10.0), Some(0.81), Some(("utilization", 0.80)));
        check(m(3.1, 10.0), m(1.0, 10.0), None, Some(("errors", 3.0)));
        check(m(3.0, 10.0), m(1.0, 10.0), None, None);
        check(m(2.1, 10.0), None, None, Some(("errors", 2.0)));
        check(m(0.0, 90.0), m(0.0, 40.0), None, Some(("p99", 80.0)));
        check(m(0.0, 49.0), m(0.0, 2.0), None, None);
        check(m(0.0, 51.0), m(0.0, 2.0), None, Some(("p99", 50.0)));
        check(m(0.0, 500.0), None, None, None);
        check(None, m(0.0, 2.0), None, None);
    }
}
