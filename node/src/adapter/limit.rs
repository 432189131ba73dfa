//! May one more request be sent to the old system now?
//!
//! A token bucket whose size and rate add up to the declared rate: within no second more than that
//! leaves, also not after a pause. Pure: the time comes in.

use std::time::{Duration, Instant};

/// A hard cap on requests a second.
#[derive(Debug)]
pub struct Bucket {
    /// Tokens it holds at most: a twentieth of the declared rate, at least one.
    size: f64,
    /// Tokens a second.
    rate: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket for `rps` requests a second; 0 counts as 1.
    #[must_use]
    pub fn new(rps: u32, now: Instant) -> Self {
        let rps = f64::from(rps.max(1));
        let size = (rps / 20.0).floor().max(1.0);
        let rate = if rps > size { rps - size } else { rps };
        Self { size, rate, tokens: size, filled: now }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// How long it takes until there is one.
    pub fn try_take(&mut self, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.filled);
        self.tokens = (self.tokens + passed.as_secs_f64() * self.rate).min(self.size);
        self.filled = self.filled.max(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / self.rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Instants (ms after the start) of the requests that pass, of one try a millisecond for so long.
    fn passed(rps: u32, tries: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let start = Instant::now();
        let mut bucket = Bucket::new(rps, start);
        let at = |ms: u64| start + Duration::from_millis(ms);
        tries.into_iter().filter(|ms| bucket.try_take(at(*ms)).is_ok()).collect()
    }

    #[test]
    fn nearly_the_declared_rate_passes() {
        for (rps, least) in [(1, 9), (10, 90), (200, 1_890)] {
            let passed = passed(rps, 0..10_000).len();
            assert!((least..=rps as usize * 10).contains(&passed), "{rps}: {passed}");
        }
    }

    #[test]
    fn a_refusal_says_when_to_come_again() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, start);
        assert_eq!(bucket.try_take(start), Ok(()));
        let wait = bucket.try_take(start).unwrap_err();
        assert!(wait <= Duration::from_millis(112), "{wait:?}");
        assert_eq!(bucket.try_take(start + wait + Duration::from_millis(1)), Ok(()));
    }

    proptest! {
        #[test]
        fn within_no_second_more_than_declared_passes(rps in 1u32..300, mut gaps in prop::collection::vec(0u64..40, 1..2000)) {
            gaps.iter_mut().fold(0, |sum, gap| { *gap += sum; *gap });
            let passed = passed(rps, gaps);
            for (at, &first) in passed.iter().enumerate() {
                let within = passed[at..].iter().take_while(|ms| **ms < first + 1000).count();
                prop_assert!(within <= rps as usize, "{within} of {rps} from {first} ms on");
            }
        }
    }
}
