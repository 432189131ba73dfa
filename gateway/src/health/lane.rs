//! What has one worker seen of one endpoint?
//!
//! A [`Lane`] has one writer, the worker, and fills cache lines of its own: counting costs a few plain
//! stores, and no line travels between cores. The control task reads all lanes of an endpoint four times
//! a second and judges their sum.

use super::outcome::Outcome;
use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Latency assumed of an endpoint that has not answered yet: 30 ms.
const SEED_US: u32 = 30_000;
/// Without calls an estimate halves in this time (e-fold 10 s): a past peak is forgiven.
const HALF_LIFE_MS: u32 = 7_000;

/// Counters and estimates of one worker at one endpoint.
#[derive(Debug)]
#[repr(align(128))]
pub struct Lane {
    in_flight: AtomicU32,
    /// Peak-EWMA latency in microseconds, as of `sampled_ms`.
    peak_us: AtomicU32,
    /// Running median of latency in microseconds, as of `sampled_ms`.
    median_us: AtomicU32,
    /// When both were last fed, in milliseconds after `born`.
    sampled_ms: AtomicU32,
    /// Failures of the endpoint's own making since the last success.
    run: AtomicU32,
    /// The second that `callers` is about, after `born`.
    callers_s: AtomicU32,
    /// Downstream connections with a failed call in that second, one bit each.
    callers: AtomicU64,
    good: AtomicU64,
    soft: AtomicU64,
    own: AtomicU64,
    lost: AtomicU64,
    refused: AtomicU64,
    born: Instant,
}

/// Outcomes so far, by what they say of the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// It answered, if only that the caller was wrong.
    pub good: u64,
    /// INTERNAL or UNKNOWN: one caller's garbage may cause these.
    pub soft: u64,
    /// Failures of its own making, one for each lost connection.
    pub own: u64,
    /// Calls that were lost with a connection.
    pub lost: u64,
    /// Refusals and pushback.
    pub refused: u64,
}

impl Tally {
    /// Every outcome that says something.
    #[must_use]
    pub const fn all(&self) -> u64 {
        self.judged() + self.refused
    }

    /// Calls that succeeded or failed.
    #[must_use]
    pub const fn judged(&self) -> u64 {
        self.good + self.failed()
    }

    /// Calls that failed, for whatever reason.
    #[must_use]
    pub const fn failed(&self) -> u64 {
        self.soft + self.own + self.lost
    }

    /// What came since `before`.
    #[must_use]
    pub const fn since(&self, before: &Self) -> Self {
        Self {
            good: self.good.wrapping_sub(before.good),
            soft: self.soft.wrapping_sub(before.soft),
            own: self.own.wrapping_sub(before.own),
            lost: self.lost.wrapping_sub(before.lost),
            refused: self.refused.wrapping_sub(before.refused),
        }
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.good += more.good;
        self.soft += more.soft;
        self.own += more.own;
        self.lost += more.lost;
        self.refused += more.refused;
    }
}

/// The only writer is one thread: no locked instruction is needed.
fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}

impl Lane {
    /// A lane without a call.
    pub(super) const fn new(born: Instant) -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            peak_us: AtomicU32::new(SEED_US),
            median_us: AtomicU32::new(0),
            sampled_ms: AtomicU32::new(0),
            run: AtomicU32::new(0),
            callers_s: AtomicU32::new(0),
            callers: AtomicU64::new(0),
            good: AtomicU64::new(0),
            soft: AtomicU64::new(0),
            own: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            born,
        }
    }

    /// An attempt starts.
    pub fn begin(&self) {
        self.in_flight.store(self.in_flight.load(Relaxed) + 1, Relaxed);
    }

    /// An attempt ends. `caller` is any number of its downstream connection. Returns how many failures
    /// of the endpoint's own making came in a row by now.
    pub fn end(&self, outcome: Outcome, caller: u32, now: Instant) -> u32 {
        self.in_flight.store(self.in_flight.load(Relaxed).saturating_sub(1), Relaxed);
        let counter = match outcome {
            Outcome::Good => {
                if self.run.load(Relaxed) > 0 {
                    self.run.store(0, Relaxed);
                }
                &self.good
            }
            Outcome::Soft => &self.soft,
            Outcome::Own => {
                self.run.store(self.run.load(Relaxed) + 1, Relaxed);
                &self.own
            }
            Outcome::Lost => &self.lost,
            Outcome::Refused => &self.refused,
            Outcome::Unjudged => return self.run.load(Relaxed),
        };
        bump(counter);
        if matches!(outcome, Outcome::Soft | Outcome::Own | Outcome::Lost) {
            self.note(caller, now);
        }
        self.run.load(Relaxed)
    }

    /// The endpoint's connection broke, or none could be opened: one failure, whatever was on it.
    pub fn lost(&self) -> u32 {
        let run = self.run.load(Relaxed) + 1;
        self.run.store(run, Relaxed);
        bump(&self.own);
        run
    }

    /// How long an answer took. `complete`: it came; else the attempt was given up after that time,
    /// which says something only where it is longer than what was believed.
    pub fn sample(&self, latency: Duration, complete: bool, now: Instant) {
        let sample = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        let (peak, median) = (self.peak_us(now), self.faded(&self.median_us, now));
        if !complete && sample <= median.max(peak) {
            return;
        }
        self.sampled_ms.store(self.age_ms(now), Relaxed);
        // A peak counts at once; below it the average follows by a sixteenth a call.
        let peak = if sample > peak { sample } else { peak - (peak - sample) / 16 };
        self.peak_us.store(peak, Relaxed);
        // Steps of a sixteenth up or down meet where half of the samples are on each side.
        let step = median / 16 + 1;
        let median = match median {
            0 => sample,
            m if sample > m => m.saturating_add(step),
            m => m - step.min(m - 1),
        };
        self.median_us.store(median, Relaxed);
    }

    /// Attempts in flight from this worker.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// What a further call costs there.
    #[must_use]
    pub fn cost(&self, now: Instant) -> u64 {
        u64::from(self.peak_us(now)) * (u64::from(self.in_flight()) + 1)
    }

    /// Median latency; zero while nothing is known.
    #[must_use]
    pub fn median(&self, now: Instant) -> Duration {
        Duration::from_micros(self.faded(&self.median_us, now).into())
    }

    /// Outcomes so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        Tally {
            good: self.good.load(Relaxed),
            soft: self.soft.load(Relaxed),
            own: self.own.load(Relaxed),
            lost: self.lost.load(Relaxed),
            refused: self.refused.load(Relaxed),
        }
    }

    /// Failures of the endpoint's own making since the last success.
    #[must_use]
    pub fn run(&self) -> u32 {
        self.run.load(Relaxed)
    }

    /// Connections with a failed call in this second, or the last one.
    #[must_use]
    pub fn callers(&self, now: Instant) -> u64 {
        let recent = self.callers_s.load(Relaxed) + 1 >= self.second(now);
        if recent { self.callers.load(Relaxed) } else { 0 }
    }

    fn note(&self, caller: u32, now: Instant) {
        // Fibonacci hashing: the numbers may be addresses, whose low bits are equal.
        let bit = 1u64 << (caller.wrapping_mul(0x9e37_79b9) >> 26);
        let second = self.second(now);
        if self.callers_s.load(Relaxed) != second {
            self.callers_s.store(second, Relaxed);
            self.callers.store(bit, Relaxed);
        } else {
            let seen = self.callers.load(Relaxed);
            if seen & bit == 0 {
                self.callers.store(seen | bit, Relaxed);
            }
        }
    }

    fn peak_us(&self, now: Instant) -> u32 {
        self.faded(&self.peak_us, now).max(1)
    }

    fn faded(&self, estimate: &AtomicU32, now: Instant) -> u32 {
        let quiet = self.age_ms(now).saturating_sub(self.sampled_ms.load(Relaxed));
        estimate.load(Relaxed) >> (quiet / HALF_LIFE_MS).min(31)
    }

    fn second(&self, now: Instant) -> u32 {
        self.age_ms(now) / 1000
    }

    fn age_ms(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.born).as_millis()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn latency_follows_peaks_and_forgives() {
        let now = Instant::now();
        let lane = Lane::new(now);
        lane.sample(200 * MS, true, now);
        assert_eq!(lane.cost(now), 200_000);
        assert_eq!(lane.cost(now + 15_000 * MS), 50_000, "a past peak is forgiven");
        lane.begin();
        assert_eq!(lane.cost(now), 400_000);
        lane.end(Outcome::Good, 1, now);
        lane.sample(Duration::ZERO, true, now);
        assert!(lane.cost(now) < 200_000);
    }

    #[test]
    fn the_median_meets_half_of_the_samples() {
        let now = Instant::now();
        let lane = Lane::new(now);
        for i in 0..400u32 {
            lane.sample((10 + 10 * (i % 3)) * MS, true, now);
        }
        let median = lane.median(now).as_millis();
        assert!((17..=23).contains(&median), "{median}");
        for _ in 0..150 {
            lane.sample(2_000 * MS, true, now);
        }
        assert!(lane.median(now) > 1_000 * MS);
        lane.sample(50 * MS, false, now);
        assert!(lane.median(now) > 1_000 * MS, "given up after a short time: nothing was learnt");
        assert!(lane.median(now + 60_000 * MS) < 20 * MS, "an estimate that nobody feeds fades");
    }

    #[test]
    fn a_run_ends_with_a_success_only() {
        let now = Instant::now();
        let lane = Lane::new(now);
        for (outcome, expected) in [
            (Outcome::Own, 1),
            (Outcome::Soft, 1),
            (Outcome::Refused, 1),
            (Outcome::Lost, 1),
            (Outcome::Unjudged, 1),
            (Outcome::Own, 2),
            (Outcome::Good, 0),
        ] {
            lane.begin();
            assert_eq!(lane.end(outcome, 0, now), expected, "{outcome:?}");
        }
        assert_eq!(lane.lost(), 1);
        assert_eq!(lane.tally(), Tally { good: 1, soft: 1, own: 3, lost: 1, refused: 1 });
        assert_eq!(lane.in_flight(), 0);
    }

    #[test]
    fn connections_are_told_apart_and_forgotten() {
        let now = Instant::now();
        let lane = Lane::new(now);
        for caller in [1, 1, 2, 3, 3] {
            lane.begin();
            lane.end(Outcome::Soft, caller, now);
        }
        lane.begin();
        lane.end(Outcome::Good, 4, now);
        assert_eq!(lane.callers(now).count_ones(), 3, "only of failures is it asked who they were");
        assert_eq!(lane.callers(now + 3_000 * MS), 0);
        lane.begin();
        lane.end(Outcome::Own, 9, now + 3_000 * MS);
        assert_eq!(lane.callers(now + 3_000 * MS).count_ones(), 1);
    }
}
