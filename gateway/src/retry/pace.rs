//! How long does a method usually take?
//!
//! [`Pace`] answers with the 99th percentile of what one worker saw lately: a histogram whose counts are
//! halved now and then, so that it follows a change. Eight buckets an octave, 9 % wide.

use std::{cell::RefCell, sync::Arc, time::Duration};
use suiyue_proto::method::Method;

/// Buckets an octave, as a power of two.
const FINE: u32 = 3;
/// From 2^6 µs = 64 µs …
const LOW: u32 = 6;
/// … to 2^26 µs = 67 s.
const HIGH: u32 = 26;
const BUCKETS: usize = ((HIGH - LOW) << FINE) as usize;
/// Samples that a percentile needs.
const ENOUGH: u32 = 100;
/// Samples after which all counts are halved.
const HALVE: u32 = 2_000;
/// Samples between two looks at the histogram.
const EVERY: u32 = 32;
/// Methods that are remembered.
const METHODS: usize = 64;

/// What a worker saw of one method.
#[derive(Debug)]
pub struct Pace {
    counts: [u16; BUCKETS],
    total: u32,
    unread: u32,
    p99: Option<Duration>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], total: 0, unread: 0, p99: None }
    }
}

impl Pace {
    /// A call was answered after this time.
    pub fn sample(&mut self, latency: Duration) {
        self.counts[bucket(latency)] += 1;
        self.total += 1;
        self.unread += 1;
        if self.total >= HALVE {
            self.total = 0;
            for count in &mut self.counts {
                *count /= 2;
                self.total += u32::from(*count);
            }
        }
        if self.unread >= EVERY {
            self.unread = 0;
            self.p99 = self.read();
        }
    }

    /// What 99 % of the calls take at most; `None` while too few were seen.
    #[must_use]
    pub const fn p99(&self) -> Option<Duration> {
        self.p99
    }

    fn read(&self) -> Option<Duration> {
        if self.total < ENOUGH {
            return None;
        }
        let mut above = self.total / 100;
        for (at, &count) in self.counts.iter().enumerate().rev() {
            if u32::from(count) > above {
                return Some(upper(at));
            }
            above -= u32::from(count);
        }
        None
    }
}

fn bucket(latency: Duration) -> usize {
    let us = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX).clamp(1 << LOW, (1 << HIGH) - 1);
    let octave = us.ilog2();
    let fine = (us >> (octave - FINE)) & ((1 << FINE) - 1);
    (((octave - LOW) << FINE) + fine) as usize
}

/// The upper end of a bucket.
fn upper(bucket: usize) -> Duration {
    let bucket = bucket as u64;
    let (octave, fine) = ((bucket >> FINE) + u64::from(LOW), bucket & ((1 << FINE) - 1));
    Duration::from_micros(((1 << FINE) + fine + 1) << (octave - u64::from(FINE)))
}

/// The methods of a worker, most used first.
#[derive(Debug, Default)]
pub struct Paces(RefCell<Vec<(Arc<Method>, Pace)>>);

impl Paces {
    /// What 99 % of a method's calls take at most.
    #[must_use]
    pub fn p99(&self, method: &Arc<Method>) -> Option<Duration> {
        let paces = self.0.borrow();
        paces.iter().find(|(known, _)| Arc::ptr_eq(known, method))?.1.p99()
    }

    /// A call of a method was answered.
    pub fn sample(&self, method: &Arc<Method>, latency: Duration) {
        let mut paces = self.0.borrow_mut();
        if let Some(at) = paces.iter().position(|(known, _)| Arc::ptr_eq(known, method)) {
            paces[at].1.sample(latency);
            if at > 0 && paces[at].1.total > paces[at - 1].1.total {
                paces.swap(at, at - 1);
            }
            return;
        }
        // A table may bring methods anew: what is used least makes room.
        if paces.len() >= METHODS {
            paces.pop();
        }
        let mut pace = Pace::default();
        pace.sample(latency);
        paces.push((method.clone(), pace));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_percentile_is_known_after_enough_calls_and_follows_a_change() {
        let mut pace = Pace::default();
        for i in 0..96 {
            pace.sample(ms(1 + i % 3));
        }
        assert_eq!(pace.p99(), None);
        for i in 0..500 {
            pace.sample(ms(if i % 50 == 0 { 80 } else { 5 }));
        }
        let p99 = pace.p99().unwrap();
        assert!((ms(80)..ms(90)).contains(&p99), "{p99:?}");
        for _ in 0..100 {
            pace.sample(ms(900));
        }
        assert!(pace.p99().unwrap() > ms(900));
        for _ in 0..20_000 {
            pace.sample(ms(2));
        }
        assert!(pace.p99().unwrap() < ms(3));
    }

    proptest! {
        #[test]
        fn a_bucket_holds_its_latency(us in 64u64..60_000_000) {
            let latency = Duration::from_micros(us);
            let upper = upper(bucket(latency));
            prop_assert!(latency < upper && upper < latency.mul_f64(1.13) + Duration::from_micros(1));
        }
    }
}
