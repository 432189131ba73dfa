//! How many calls did each node take so far?
//!
//! Sums over workers, classes and reasons, by region and node: what operators see move.

use super::{BOUNDS_US, End, Metrics};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
};
use tonic::Code;

/// Buckets of durations.
const BUCKETS: usize = BOUNDS_US.len() + 1;

/// Upper bounds of the buckets of durations, in microseconds. There is one more bucket, which is open.
#[must_use]
pub const fn bounds_us() -> &'static [u64] {
    &BOUNDS_US
}

/// Calls since the gateway started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// All of them.
    pub calls: u64,
    /// Those that were not answered: the node, the way to it or the gateway failed. A refusal for too much
    /// load is none, and neither is an answer that blames the caller.
    pub failed: u64,
    /// By duration; the last bucket is open.
    buckets: [u64; BUCKETS],
}

impl Taken {
    /// The same from what the operator API told; buckets that are missing are empty, more are left out.
    #[must_use]
    pub fn told(calls: u64, failed: u64, told: &[u64]) -> Self {
        let mut buckets = [0; BUCKETS];
        buckets.iter_mut().zip(told).for_each(|(bucket, &told)| *bucket = told);
        Self { calls, failed, buckets }
    }

    /// Calls by duration, without the bounds ([`bounds_us`]).
    #[must_use]
    pub fn buckets(&self) -> &[u64] {
        &self.buckets
    }

    /// Adds another's calls.
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.failed += other.failed;
        self.buckets.iter_mut().zip(other.buckets).for_each(|(bucket, more)| *bucket += more);
    }

    /// What came after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut buckets = self.buckets;
        for (bucket, before) in buckets.iter_mut().zip(earlier.buckets) {
            *bucket = bucket.saturating_sub(before);
        }
        Self {
            calls: self.calls.saturating_sub(earlier.calls),
            failed: self.failed.saturating_sub(earlier.failed),
            buckets,
        }
    }

    /// The duration in milliseconds that 99 of 100 calls did not exceed, estimated within its bucket; `None`
    /// without calls. Above 2.5 s nothing is known but that: the answer is 2,500.
    #[must_use]
    pub fn p99_ms(&self) -> Option<f64> {
        let total: u64 = self.buckets.iter().sum();
        let rank = total as f64 * 0.99;
        let mut below = 0.0;
        for (at, &count) in self.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = count as f64;
            if below + count >= rank {
                let floor = at.checked_sub(1).map_or(0, |before| BOUNDS_US[before]) as f64;
                let ceiling = BOUNDS_US.get(at).map_or(floor, |&bound| bound as f64);
                return Some((floor + (ceiling - floor) * ((rank - below) / count)) / 1e3);
            }
            below += count;
        }
        None
    }
}

/// The status says that nobody answered.
fn failed(code: u8) -> bool {
    use Code::{DataLoss, DeadlineExceeded, Internal, Unavailable, Unknown};
    matches!(Code::from_i32(code.into()), DataLoss | DeadlineExceeded | Internal | Unavailable | Unknown)
}

impl Metrics {
    /// Calls so far, by routing region and node; the node is empty for calls that reached none.
    #[must_use]
    pub fn taken(&self) -> BTreeMap<(u32, Arc<str>), Taken> {
        let mut sums: BTreeMap<(u32, Arc<str>), Taken> = BTreeMap::new();
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        for ((node, key), by_worker) in calls.iter() {
            let end = End::unpacked(*key);
            let sum = sums.entry((end.region, node.clone())).or_default();
            for (_, series) in by_worker {
                let calls = series.calls.load(Relaxed);
                sum.calls += calls;
                sum.failed += if failed(end.code) { calls } else { 0 };
                for (bucket, counted) in sum.buckets.iter_mut().zip(&series.buckets) {
                    *bucket += counted.load(Relaxed);
                }
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{AnswerReason, Recent};
    use std::time::Duration;
    use suiyue_proto::method::Class;

    #[test]
    fn calls_are_added_up_by_region_and_node() {
        let metrics = Metrics::new(2);
        let (city, nobody): (Arc<str>, Arc<str>) = ("city".into(), "".into());
        let mut end = End {
            region: 440_100,
            class: Class::Scan,
            tier: 0,
            reason: AnswerReason::Primary,
            code: 0,
            retried: false,
        };
        for worker in 0..2 {
            let recent = Recent::default();
            (0..99).for_each(|_| recent.count(&metrics, worker, &city, end, Duration::from_micros(400)));
        }
        let recent = Recent::default();
        end.code = Code::Unavailable as u8;
        (0..4).for_each(|_| recent.count(&metrics, 0, &city, end, Duration::from_millis(40)));
        end.code = Code::ResourceExhausted as u8;
        let elsewhere = Recent::default();
        elsewhere.count(&metrics, 0, &nobody, end, Duration::ZERO);
        let taken = metrics.taken();
        let at_city = taken[&(440_100, city)];
        assert_eq!((at_city.calls, at_city.failed), (202, 4));
        let p99 = at_city.p99_ms().unwrap();
        assert!((25.0..50.0).contains(&p99), "{p99}");
        let refused = taken[&(440_100, nobody)];
        assert_eq!((refused.calls, refused.failed), (1, 0), "too much load is no failure");
        assert_eq!(at_city.since(&at_city).p99_ms(), None);
        let mut told = Taken::told(at_city.calls, at_city.failed, at_city.buckets());
        assert_eq!(told, at_city);
        told.add(&at_city);
        assert_eq!((told.calls, told.since(&at_city)), (404, at_city));
    }
}
