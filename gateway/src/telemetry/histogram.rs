//! How long did something take that happens a few times a second at most?
//!
//! A histogram with fixed bounds and shared counters, for the control side. Calls have their own
//! ([`super::Series`]), which is cheaper and has one writer.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Upper bounds of the buckets, in microseconds.
pub const BOUNDS_US: [u64; 11] = [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 1_000_000];

/// Durations, counted.
#[derive(Debug, Default)]
pub struct Histogram {
    micros: AtomicU64,
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
}

/// A histogram as read: the buckets are not cumulative, the last one is open.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Observations.
    pub count: u64,
    /// Their sum in seconds.
    pub seconds: f64,
    /// Upper bound in seconds, and observations in the bucket.
    pub buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Relaxed);
        self.buckets[BOUNDS_US.partition_point(|&bound| bound < micros)].fetch_add(1, Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn read(&self) -> Reading {
        let bounds = BOUNDS_US.iter().map(|&us| us as f64 / 1e6).chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.buckets.iter().map(|n| n.load(Relaxed))).collect();
        let count = buckets.iter().map(|(_, n)| n).sum();
        Reading { count, seconds: self.micros.load(Relaxed) as f64 / 1e6, buckets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for micros in [0, 50, 51, 10_000, 5_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let read = histogram.read();
        assert_eq!((read.count, read.buckets.len()), (5, 12));
        let filled: Vec<_> = read.buckets.iter().enumerate().filter(|(_, (_, n))| *n > 0).collect();
        assert_eq!(
            filled.iter().map(|(at, (_, n))| (*at, *n)).collect::<Vec<_>>(),
            [(0, 2), (1, 1), (7, 1), (11, 1)]
        );
        assert!((read.seconds - 5.010_101).abs() < 1e-9);
    }
}
