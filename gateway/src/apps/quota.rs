//! May an app make one more call now?
//!
//! One bucket and one count for all workers of the gateway, in a cache line of their own, so that the limit
//! is exact at one gateway: a call costs one compare-and-swap, and only workers that serve the same app at
//! the same moment share the line.
//!
//! The bucket is a clock (GCRA, ITU-T I.371): it stands where the last call was paid for. A call moves it by
//! the time between two calls, and is refused where that would put it further ahead of now than the burst.
//!
//! Over several gateways each lets in one part of the rate by the number of gateways that are present. An
//! app whose calls reach the gateways unevenly gets less than its rate, never more.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// A token bucket.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Bucket(AtomicU64);

/// What a bucket lets through at one gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Time between two calls, in nanoseconds.
    interval: u64,
    /// How far ahead of now calls may be paid for, in nanoseconds.
    burst: u64,
}

impl Rate {
    /// One part in `gateways` of so many calls a second.
    #[must_use]
    pub fn new(rps: u32, burst: Duration, gateways: u32) -> Self {
        let interval = 1_000_000_000 * u64::from(gateways.max(1)) / u64::from(rps.max(1));
        let burst = u64::try_from(burst.as_nanos()).unwrap_or(u64::MAX / 4);
        // One call must fit, however rare calls are.
        Self { interval, burst: burst.max(interval) }
    }

    /// Calls a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        1e9 / self.interval as f64
    }
}

impl Bucket {
    /// Lets a call through, at `now` nanoseconds since any instant that is the same for all calls.
    #[must_use]
    pub fn take(&self, now: u64, rate: Rate) -> bool {
        let step = |paid: u64| {
            let next = paid.max(now).saturating_add(rate.interval);
            (next <= now.saturating_add(rate.burst)).then_some(next)
        };
        self.0.fetch_update(Relaxed, Relaxed, step).is_ok()
    }
}

/// Calls in flight.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct InFlight(AtomicU32);

impl InFlight {
    /// One part in `gateways` of so many calls, rounded up.
    #[must_use]
    pub const fn part(max: u32, gateways: u32) -> u32 {
        max.div_ceil(if gateways == 0 { 1 } else { gateways })
    }

    /// Lets a call in, if fewer than `max` are there.
    #[must_use]
    pub fn enter(&self, max: u32) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |n| (n < max).then_some(n + 1)).is_ok()
    }

    /// A call that was let in has ended.
    pub fn leave(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// How many are there.
    #[must_use]
    pub fn now(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::thread;

    const SECOND: u64 = 1_000_000_000;
    const BURST: Duration = Duration::from_secs(2);

    fn let_in(bucket: &Bucket, rate: Rate, at: impl Iterator<Item = u64>) -> usize {
        at.filter(|&now| bucket.take(now, rate)).count()
    }

    #[test]
    fn a_burst_then_the_rate() {
        let (bucket, rate) = (Bucket::default(), Rate::new(100, BURST, 1));
        assert_eq!(let_in(&bucket, rate, std::iter::repeat_n(5 * SECOND, 1000)), 200);
        // At 20 times the rate for ten seconds: the rate.
        let from = 5 * SECOND;
        let calls = (0..20_000).map(|n| from + n * SECOND / 2_000);
        let n = let_in(&bucket, rate, calls);
        assert!((999..=1001).contains(&n), "{n}");
    }

    #[test]
    fn gateways_share_the_rate_and_a_rare_call_fits() {
        let (bucket, rate) = (Bucket::default(), Rate::new(100, BURST, 4));
        assert_eq!(let_in(&bucket, rate, std::iter::repeat_n(SECOND, 1000)), 50);
        assert_eq!(rate.per_second(), 25.0);
        // Four gateways share one call a second: each lets one in every four.
        let (bucket, rate) = (Bucket::default(), Rate::new(1, BURST, 4));
        assert!(bucket.take(SECOND, rate));
        assert!(!bucket.take(4 * SECOND, rate) && bucket.take(5 * SECOND, rate));
    }

    #[test]
    fn threads_get_exactly_what_there_is() {
        let (bucket, rate) = (Bucket::default(), Rate::new(1000, BURST, 1));
        let in_flight = InFlight::default();
        let counts = thread::scope(|scope| {
            let work = || {
                let taken = (0..5_000).filter(|_| bucket.take(SECOND, rate)).count();
                let entered = (0..100).filter(|_| in_flight.enter(50)).count();
                (taken, entered)
            };
            let threads = [scope.spawn(work), scope.spawn(work)];
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(counts[0].0 + counts[1].0, 2000);
        assert_eq!((counts[0].1 + counts[1].1, in_flight.now()), (50, 50));
        in_flight.leave();
        assert!(in_flight.enter(50) && !in_flight.enter(50));
    }

    #[test]
    fn a_part_is_rounded_up() {
        assert_eq!((InFlight::part(10, 4), InFlight::part(1, 4), InFlight::part(8, 0)), (3, 1, 8));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(rps in 1u32..5000, gaps in prop::collection::vec(0u64..3_000_000, 1..500)) {
            let (bucket, rate) = (Bucket::default(), Rate::new(rps, BURST, 1));
            let mut now = SECOND;
            let mut taken = 0u64;
            for gap in gaps {
                now += gap;
                taken += u64::from(bucket.take(now, rate));
            }
            let most = (now - SECOND) as f64 / SECOND as f64 * f64::from(rps) + 2.0 * f64::from(rps) + 1.0;
            prop_assert!(taken as f64 <= most.max(1.0), "{taken} > {most}");
        }
    }
}
