//! Does an endpoint fail too much?
//!
//! Two rules, and the reason for two: *in a row* finds what is dead within a few calls; *rate* finds what
//! fails one call in three, which never fails five times in a row for long. The rate looks at ten buckets
//! of a second, and needs twenty calls, and failures on three connections: one app that sends garbage, or
//! hardly any traffic, proves nothing. Pure: the control task brings the counters and the clock.

use super::lane::Tally;
use std::time::{Duration, Instant};

/// Failures in a row that trip.
pub const IN_A_ROW: u32 = 5;
/// Success rate below which an endpoint trips, in percent.
const MIN_SUCCESS: u64 = 80;
/// Calls that the rate needs.
const MIN_CALLS: u64 = 20;
/// Calls that say something where there is hardly any traffic, if all of them succeed.
const FEW_CALLS: u64 = 3;
/// Downstream connections with failures that the rate needs.
const MIN_CALLERS: u32 = 3;
/// Buckets of the window.
const BUCKETS: usize = 10;
/// Length of a bucket.
const BUCKET: Duration = Duration::from_secs(1);

/// Why an endpoint is judged to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trip {
    /// [`IN_A_ROW`] failures of its own making without a success between them.
    InARow,
    /// Too few of the last ten seconds' calls succeeded.
    Rate,
    /// Its connections stall again and again.
    Stalled,
}

impl Trip {
    /// All causes, for metrics.
    pub const ALL: [Self; 3] = [Self::InARow, Self::Rate, Self::Stalled];

    /// The word in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InARow => "in_a_row",
            Self::Rate => "rate",
            Self::Stalled => "stalled",
        }
    }

    /// The sentence for `explain` and the console.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::InARow => "five failures in a row",
            Self::Rate => "fewer than 80 % of calls succeed",
            Self::Stalled => "connections stall",
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    tally: Tally,
    callers: u64,
}

/// The last ten seconds of one endpoint.
#[derive(Debug)]
pub struct Window {
    buckets: [Bucket; BUCKETS],
    at: usize,
    turned: Instant,
    before: Tally,
    /// Failures in a row over all workers, as far as can be told.
    run: u32,
}

/// What the workers counted up to now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Outcomes since the endpoint is known, of all workers.
    pub tally: Tally,
    /// The longest run of failures in one worker.
    pub run: u32,
    /// Connections with failures in the last second, one bit each.
    pub callers: u64,
}

impl Window {
    /// An empty window.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { buckets: Default::default(), at: 0, turned: now, before: Tally::default(), run: 0 }
    }

    /// Takes what was counted since the last time. To be called several times a second.
    pub fn feed(&mut self, counted: Counted, now: Instant) {
        let mut turns = 0;
        while now.saturating_duration_since(self.turned) >= BUCKET && turns < BUCKETS {
            self.at = (self.at + 1) % BUCKETS;
            self.buckets[self.at] = Bucket::default();
            self.turned += BUCKET;
            turns += 1;
        }
        if turns == BUCKETS {
            self.turned = now;
        }
        let new = counted.tally.since(&self.before);
        self.before = counted.tally;
        self.buckets[self.at].tally += new;
        self.buckets[self.at].callers |= counted.callers;
        // Without a success anywhere all failures are in a row; with one, only new ones are that a worker
        // has seen after its own last success. (An idle worker may remember an old run for long.)
        let own = u32::try_from(new.own).unwrap_or(u32::MAX);
        self.run = if new.good == 0 { self.run.saturating_add(own) } else { counted.run.min(own) };
    }

    /// The rule that is broken, if one is.
    #[must_use]
    pub fn trip(&self) -> Option<Trip> {
        if self.run >= IN_A_ROW {
            return Some(Trip::InARow);
        }
        let (tally, callers) = self.sum();
        let calls = tally.judged();
        let enough = calls >= MIN_CALLS && callers.count_ones() >= MIN_CALLERS;
        (enough && tally.good * 100 < calls * MIN_SUCCESS).then_some(Trip::Rate)
    }

    /// The data path works: many calls of the last two seconds succeeded, and hardly any failed.
    #[must_use]
    pub fn proves_health(&self) -> bool {
        let tally = self.recent();
        tally.good >= MIN_CALLS && (tally.own + tally.lost) * 20 <= tally.good
    }

    /// The few calls of the last two seconds succeeded.
    #[must_use]
    pub fn answers(&self) -> bool {
        let tally = self.recent();
        tally.good >= FEW_CALLS && tally.own + tally.lost == 0
    }

    /// Calls of the last ten seconds succeeded, and hardly any failed.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let (tally, _) = self.sum();
        tally.good >= FEW_CALLS && tally.failed() * 20 <= tally.good
    }

    /// Share of calls that the endpoint refused in the last ten seconds, 0 to 1.
    #[must_use]
    pub fn refused(&self) -> f64 {
        let (tally, _) = self.sum();
        let calls = tally.all();
        if calls < MIN_CALLS { 0.0 } else { tally.refused as f64 / calls as f64 }
    }

    /// Calls with an outcome in the last ten seconds.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.sum().0.all()
    }

    /// Forgets: what led to a decision must not lead to it twice.
    pub fn clear(&mut self) {
        self.buckets = Default::default();
        self.run = 0;
    }

    /// The bucket at hand and the one before.
    fn recent(&self) -> Tally {
        let mut tally = self.buckets[self.at].tally;
        tally += self.buckets[(self.at + BUCKETS - 1) % BUCKETS].tally;
        tally
    }

    fn sum(&self) -> (Tally, u64) {
        let mut sum = (Tally::default(), 0);
        for bucket in &self.buckets {
            sum.0 += bucket.tally;
            sum.1 |= bucket.callers;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds (milliseconds, good, soft, own, connections) and looks at the end.
    #[track_caller]
    fn check(steps: &[(u64, u64, u64, u64, u32)], expected: Option<Trip>) {
        let start = Instant::now();
        let mut window = Window::new(start);
        let mut counted = Counted::default();
        for &(ms, good, soft, own, connections) in steps {
            counted.tally += Tally { good, soft, own, ..Tally::default() };
            counted.callers = (1u64 << connections) - 1;
            counted.run = 0;
            window.feed(counted, start + Duration::from_millis(ms));
        }
        assert_eq!(window.trip(), expected, "{steps:?}");
    }

    #[test]
    fn five_in_a_row_trip_wherever_they_were_seen() {
        check(&[(0, 0, 0, 4, 1)], None);
        check(&[(0, 0, 0, 5, 1)], Some(Trip::InARow));
        check(&[(0, 0, 0, 3, 1), (9_000, 0, 0, 2, 1)], Some(Trip::InARow));
        check(&[(0, 0, 0, 4, 1), (250, 1, 0, 0, 1), (500, 0, 0, 4, 1)], None);
        check(&[(0, 3, 0, 30, 1)], None);
        check(&[(0, 0, 30, 0, 1)], None);
    }

    #[test]
    fn the_rate_needs_calls_connections_and_time() {
        check(&[(0, 14, 3, 3, 3)], Some(Trip::Rate));
        check(&[(0, 16, 4, 0, 3)], None);
        check(&[(0, 10, 9, 0, 3)], None);
        check(&[(0, 14, 6, 0, 2)], None);
        check(&[(0, 14, 6, 0, 3), (10_500, 0, 0, 0, 0)], None);
        check(&[(0, 14, 6, 0, 3), (9_500, 10, 0, 0, 3)], None);
        check(&[(0, 14, 6, 0, 3), (90_000, 30, 0, 0, 3)], None);
    }

    #[test]
    fn refusals_are_no_failures_but_are_known() {
        let now = Instant::now();
        let mut window = Window::new(now);
        let tally = Tally { good: 10, refused: 30, ..Tally::default() };
        window.feed(Counted { tally, run: 0, callers: 7 }, now);
        assert_eq!(window.trip(), None);
        assert!((window.refused() - 0.75).abs() < 1e-9);
        window.clear();
        assert!(window.refused() == 0.0 && window.calls() == 0);
    }

    proptest! {
        /// The counters of several workers in any interleaving: five failures without a success trip, and
        /// a success in every look means that only one worker's own run can.
        #[test]
        fn a_run_is_never_longer_than_the_failures(
            steps in prop::collection::vec((0u64..3, 0u64..4), 1..40)
        ) {
            let start = Instant::now();
            let (mut window, mut counted, mut since_success) = (Window::new(start), Counted::default(), 0);
            for (i, (good, own)) in steps.into_iter().enumerate() {
                counted.tally += Tally { good, own, ..Tally::default() };
                since_success = if good > 0 { own } else { since_success + own };
                window.feed(counted, start + Duration::from_millis(250 * i as u64));
                prop_assert!(u64::from(window.run) <= since_success);
            }
        }
    }
}
