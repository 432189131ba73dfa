//! Is an endpoint slow, by its own measure?
//!
//! Slow means a median of more than five times the endpoint's own baseline and of more than 200 ms: a
//! node that always takes long is not slow, and neither is a fast one that takes 50 ms for once. The
//! baseline follows the median down quickly and up slowly, and stands still while the endpoint is slow.

use std::time::{Duration, Instant};

/// Times the baseline.
const FACTOR: u32 = 5;
/// Below this nothing is slow.
const FLOOR: Duration = Duration::from_millis(200);
/// Calls in the last ten seconds that a median needs.
const MIN_CALLS: u64 = 10;
/// Too few calls for so long: it may have recovered, and a call would find out.
const FORGET: Duration = Duration::from_secs(30);

/// Follows one endpoint's median.
#[derive(Debug, Default)]
pub struct Slow {
    baseline: Option<Duration>,
    slow: Option<Instant>,
    /// When enough calls were there for the last time.
    known: Option<Instant>,
    looked: Option<Instant>,
}

impl Slow {
    /// It is slow.
    #[must_use]
    pub const fn is(&self) -> bool {
        self.slow.is_some()
    }

    /// Takes the median, and the number of calls of the last ten seconds. True if the endpoint has just
    /// become slow.
    pub fn feed(&mut self, median: Duration, calls: u64, now: Instant) -> bool {
        let elapsed = self.looked.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.looked = Some(now);
        if calls < MIN_CALLS || median.is_zero() {
            let forgotten = self.known.is_none_or(|at| now.saturating_duration_since(at) >= FORGET);
            if forgotten {
                self.slow = None;
            }
            return false;
        }
        self.known = Some(now);
        let baseline = *self.baseline.get_or_insert(median);
        let is = median > FLOOR && median > baseline * FACTOR;
        // Half of the way back is enough: at the limit it must not go to and fro.
        let still = self.slow.is_some() && median > FLOOR / 2 && median * 2 > baseline * FACTOR;
        if is || still {
            let began = self.slow.is_none();
            self.slow.get_or_insert(now);
            return began;
        }
        self.slow = None;
        let pace = if median < baseline { 0.2 } else { 0.01 };
        let part = (elapsed.as_secs_f64() * pace).min(1.0);
        let next = baseline.as_secs_f64() + (median.as_secs_f64() - baseline.as_secs_f64()) * part;
        self.baseline = Some(Duration::from_secs_f64(next.max(0.0)));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds medians in milliseconds, a second apart; expects slow or not after the last.
    #[track_caller]
    fn check(medians: &[(u64, u64)], expected: bool) {
        let (start, mut slow) = (Instant::now(), Slow::default());
        let mut at = start;
        for &(median, times) in medians {
            for _ in 0..times {
                slow.feed(Duration::from_millis(median), 100, at);
                at += Duration::from_secs(1);
            }
        }
        assert_eq!(slow.is(), expected, "{medians:?}");
    }

    #[test]
    fn slow_is_against_the_own_baseline_and_a_floor() {
        check(&[(10, 10), (500, 1)], true);
        check(&[(10, 10), (190, 1)], false);
        check(&[(300, 10), (1_400, 1)], false);
        check(&[(300, 10), (1_600, 1)], true);
        check(&[(2_000, 100)], false);
    }

    #[test]
    fn it_recovers_halfway_back_and_does_not_get_used_to_it() {
        check(&[(100, 10), (600, 5), (400, 1)], true);
        check(&[(100, 10), (600, 5), (240, 1)], false);
        check(&[(10, 10), (500, 600)], true);
        check(&[(10, 10), (100, 600), (450, 1)], false);
    }

    #[test]
    fn without_calls_it_is_given_another_chance() {
        let (now, mut slow) = (Instant::now(), Slow::default());
        let s = Duration::from_secs;
        slow.feed(Duration::from_millis(10), 100, now);
        assert!(slow.feed(s(2), 100, now + s(1)));
        assert!(!slow.feed(s(2), 100, now + s(2)), "it became slow once");
        slow.feed(s(2), 3, now + s(20));
        assert!(slow.is());
        slow.feed(s(2), 3, now + s(40));
        assert!(!slow.is());
    }
}
