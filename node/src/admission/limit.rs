//! How many calls may be worked on at the same time?
//!
//! As many as are still answered nearly as fast as in the best second of the last minute. Every 100 ms the
//! limit is multiplied by that second's p90 over the present one, a quarter allowed, and its own root is
//! added, so that it keeps looking for more; a fifth of the change counts (Netflix' gradient, with p90
//! compared to p90: a service with a long tail is not slow). Work within 20 ms is never slow, and a limit
//! that nobody reached says nothing and stays.

use std::time::Duration;
use suiyue_proto::method::Class;

/// Where it begins, if nobody knows better.
pub(super) const START: u32 = 32;
const LEAST: f64 = 4.0;
/// A p90 within this time is fast.
const FAST_US: f64 = 20_000.0;
/// The best may be exceeded by so much.
const TOLERANCE: f64 = 1.25;
/// One window takes away so much at most.
const STEEPEST: f64 = 0.7;
/// Part of a change that counts.
const SMOOTH: f64 = 0.2;
/// Answers that say how long they take.
const ENOUGH: u32 = 10;
/// Seconds of which the best one counts.
const MEMORY: usize = 60;

/// Latencies of one class in one window, in buckets that grow by a quarter.
#[derive(Debug, Clone, Copy)]
struct Latencies {
    buckets: [u32; 64],
    total: u32,
}

impl Latencies {
    const NONE: Self = Self { buckets: [0; 64], total: 0 };

    fn add(&mut self, latency: Duration) {
        let us = latency.as_secs_f64() * 1e6;
        // Bucket n ends at 100 µs × 1.25ⁿ: the last one at two minutes.
        let at = ((us / 100.0).max(1.0).ln() / 1.25f64.ln()).ceil();
        self.buckets[(at as usize).min(self.buckets.len() - 1)] += 1;
        self.total += 1;
    }

    /// In microseconds; `None`: too few.
    fn p90(&self) -> Option<f64> {
        let rank = u64::from(self.total) * 9 / 10;
        let mut below = 0;
        let at = self.buckets.iter().position(|calls| {
            below += u64::from(*calls);
            below > rank
        })?;
        (self.total >= ENOUGH).then(|| 100.0 * 1.25f64.powi(i32::try_from(at).unwrap_or(i32::MAX)))
    }
}

/// Best p90s of the last seconds of one class, in microseconds.
#[derive(Debug, Clone, Copy)]
struct Best([f64; MEMORY]);

impl Best {
    fn lowest(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

/// How many at the same time.
#[derive(Debug)]
pub(super) struct Limit {
    now: f64,
    most: f64,
    /// The most that ran at the same time in this window.
    peak: usize,
    latencies: [Latencies; Class::ALL.len()],
    best: [Best; Class::ALL.len()],
    /// The second that the last window ended in.
    second: u64,
}

impl Limit {
    /// At first so many, at most so many.
    pub(super) fn new(first: u32, most: u32) -> Self {
        let most = f64::from(most).max(LEAST);
        Self {
            now: f64::from(first).clamp(LEAST, most),
            most,
            peak: 0,
            latencies: [Latencies::NONE; 4],
            best: [Best([f64::INFINITY; MEMORY]); 4],
            second: 0,
        }
    }

    /// How many may run now.
    pub(super) const fn get(&self) -> usize {
        self.now as usize
    }

    /// So many run.
    pub(super) fn running(&mut self, running: usize) {
        self.peak = self.peak.max(running);
    }

    /// A call was worked on for so long.
    pub(super) fn ended(&mut self, class: Class, took: Duration) {
        self.latencies[class.index()].add(took);
    }

    /// A window has ended, in this second since the start. Of slow work several windows together say how
    /// long it takes.
    pub(super) fn step(&mut self, second: u64) {
        self.forget(second);
        let (mut sum, mut calls) = (0.0, 0.0);
        for (latencies, best) in self.latencies.iter_mut().zip(&mut self.best) {
            let slot = &mut best.0[second as usize % MEMORY];
            let Some(p90) = latencies.p90() else { continue };
            *slot = slot.min(p90);
            let allowed = (best.lowest() * TOLERANCE).max(FAST_US * TOLERANCE);
            let weight = f64::from(latencies.total);
            sum += weight * (allowed / p90).clamp(STEEPEST, 1.0);
            calls += weight;
            *latencies = Latencies::NONE;
        }
        let reached = self.peak >= self.get();
        let gradient = if calls > 0.0 { sum / calls } else { 1.0 };
        if calls > 0.0 && (reached || gradient < 1.0) {
            let wanted = self.now * gradient + if reached { self.now.sqrt() } else { 0.0 };
            self.now = (self.now + SMOOTH * (wanted - self.now)).clamp(LEAST.min(self.most), self.most);
        }
        if calls > 0.0 {
            self.peak = 0;
        }
    }

    /// What was remembered a minute ago of the seconds that have begun since is forgotten.
    fn forget(&mut self, second: u64) {
        let begun = (self.second + 1..=second).rev().take(MEMORY);
        for slot in begun.map(|second| second as usize % MEMORY) {
            self.best.iter_mut().for_each(|best| best.0[slot] = f64::INFINITY);
        }
        self.second = second;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows in which `most` calls ran and each took so long.
    fn windows(limit: &mut Limit, count: u64, running: usize, took: impl Fn(usize) -> Duration) {
        for n in 0..count {
            let runs = running.min(limit.get());
            limit.running(runs);
            (0..100).for_each(|_| limit.ended(Class::Show, took(runs)));
            limit.step(n / 10);
        }
    }

    /// Sixteen places, 20 ms each.
    fn sixteen(running: usize) -> Duration {
        Duration::from_millis(20) * u32::try_from(running.max(16)).unwrap() / 16
    }

    #[test]
    fn it_finds_what_the_node_can_do_at_the_same_time() {
        let mut limit = Limit::new(START, 512);
        windows(&mut limit, 20, 8, sixteen);
        assert_eq!(limit.get(), 32, "nobody reaches it: it stays");
        windows(&mut limit, 100, usize::MAX, sixteen);
        assert!((16..=40).contains(&limit.get()), "{}", limit.get());
        let before = limit.get();
        windows(&mut limit, 500, usize::MAX, sixteen);
        assert!(limit.get().abs_diff(before) <= 8, "{before} {}", limit.get());
    }

    #[test]
    fn fast_work_lets_it_grow_and_slow_work_lets_it_shrink_to_the_least() {
        let mut limit = Limit::new(START, 512);
        windows(&mut limit, 400, usize::MAX, |_| Duration::from_millis(15));
        assert_eq!(limit.get(), 512);
        let mut limit = Limit::new(START, 512);
        windows(&mut limit, 10, 8, |_| Duration::from_millis(20));
        windows(&mut limit, 100, usize::MAX, |_| Duration::from_secs(2));
        assert!(limit.get() < 16, "{}", limit.get());
        assert_eq!(Limit::new(START, 0).get(), 4);
    }

    #[test]
    fn a_long_tail_is_not_slow() {
        let mut limit = Limit::new(START, 64);
        for n in 0..200 {
            limit.running(limit.get());
            for call in 0..100 {
                limit.ended(Class::Query, Duration::from_millis(if call < 80 { 30 } else { 300 }));
            }
            limit.step(n / 10);
        }
        assert_eq!(limit.get(), 64);
    }

    #[test]
    fn slow_work_is_judged_over_several_windows() {
        let mut limit = Limit::new(START, 512);
        for n in 0..400 {
            limit.running(limit.get());
            (0..3).for_each(|_| limit.ended(Class::Show, Duration::from_millis(800)));
            limit.step(n / 10);
        }
        assert!(limit.get() > 100, "{}", limit.get());
    }

    #[test]
    fn what_was_good_a_minute_ago_is_forgotten() {
        let mut limit = Limit::new(START, 512);
        windows(&mut limit, 10, 8, |_| Duration::from_millis(20));
        // The work has become another one.
        for n in 10..700 {
            limit.running(limit.get());
            (0..100).for_each(|_| limit.ended(Class::Show, Duration::from_millis(60)));
            limit.step(n / 10);
        }
        assert!(limit.get() > 32, "{}", limit.get());
    }
}
