//! How many calls does a region get, by class?
//!
//! [`Demand`] is what workers count, each in a lane of its own; `Rate` is what the control task makes of
//! it four times a second, for the plan. A rate that changed by less than a twentieth stays what it was:
//! a plan should not change with the noise.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};
use suiyue_proto::method::Class;

/// Calls of one region.
#[derive(Debug)]
pub struct Demand(Box<[Lane]>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane([AtomicU64; 4]);

impl Demand {
    /// Nothing counted yet, for so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Lane::default()).collect())
    }

    /// A call came. Only the worker of this index may say so.
    pub fn count(&self, worker: usize, class: Class) {
        let calls = &self.0[worker].0[class.index()];
        calls.store(calls.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Calls so far, by class.
    #[must_use]
    pub fn totals(&self) -> [u64; 4] {
        let mut sum = [0; 4];
        for lane in &self.0 {
            for (sum, calls) in sum.iter_mut().zip(&lane.0) {
                *sum += calls.load(Relaxed);
            }
        }
        sum
    }
}

/// The mean follows the rate with this time constant.
const SMOOTH: Duration = Duration::from_secs(2);
/// A change that counts, as a part of what was shown.
const STEP: f64 = 0.05;
/// A change that counts, in calls a second.
const NOISE: f64 = 0.5;

/// A smoothed rate of a counter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    total: u64,
    at: Instant,
    mean: f64,
    shown: f64,
}

impl Rate {
    pub(super) const fn new(now: Instant) -> Self {
        Self { total: 0, at: now, mean: 0.0, shown: 0.0 }
    }

    /// Takes the counter; calls a second, without the noise.
    pub(super) fn feed(&mut self, total: u64, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        // Looks that follow each other at once say nothing of a rate.
        if elapsed < 0.1 {
            return self.shown;
        }
        let rate = total.saturating_sub(self.total) as f64 / elapsed;
        let weight = 1.0 - (-elapsed / SMOOTH.as_secs_f64()).exp();
        self.mean += (rate - self.mean) * weight;
        (self.total, self.at) = (total, now);
        let change = (self.mean - self.shown).abs();
        if change > STEP * self.shown && change > NOISE {
            self.shown = self.mean;
        } else if self.mean < NOISE {
            self.shown = 0.0;
        }
        self.shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_count_apart_and_are_added_up() {
        let demand = Demand::new(2);
        demand.count(0, Class::Scan);
        demand.count(1, Class::Scan);
        demand.count(1, Class::Sync);
        assert_eq!(demand.totals(), [2, 0, 0, 1]);
    }

    #[test]
    fn a_rate_follows_steps_and_ignores_noise() {
        let (start, mut total) = (Instant::now(), 0);
        let mut rate = Rate::new(start);
        let mut at = start;
        let mut run = |rate: &mut Rate, calls: u64, ticks: u32| {
            let mut seen = Vec::new();
            for tick in 0..ticks {
                at += Duration::from_millis(250);
                total += calls + u64::from(tick % 2);
                seen.push(rate.feed(total, at));
            }
            seen
        };
        let seen = run(&mut rate, 250, 80);
        let last = seen.last().unwrap();
        assert!((950.0..1050.0).contains(last), "{last}");
        let seen = run(&mut rate, 250, 80);
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "noise changes nothing");
        let seen = run(&mut rate, 2_500, 20);
        assert!(*seen.last().unwrap() > 8_000.0);
        assert_eq!(*run(&mut rate, 0, 80).last().unwrap() as u64, 2, "half of a call a tick is left");
    }
}
