//! Is it worth asking the old system at all?
//!
//! ```text
//!              5 failures in a row · half of at least 20 within 10 s
//!   CLOSED ───────────────────────────────────────────────────────► OPEN: nobody asks, for 1 s × 2ⁿ
//!     ▲                                                              │ its time is over     ≤ 30 s
//!     └── three probes in a row succeed ── HALF-OPEN: one at a time ◄┘
//!                                          │ one fails: OPEN again, twice as long
//! ```
//! Pure: the time comes in. Refusals (it has too much to do) are no failures, and an answer about a
//! holder that it does not know is a success.

use std::time::{Duration, Instant};

const IN_A_ROW: u32 = 5;
const WINDOW: Duration = Duration::from_secs(10);
/// Calls that a ratio needs.
const ENOUGH: u32 = 20;
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
const PROBES: u32 = 3;
/// A probe that nobody reports on is taken for lost.
const PROBE_LOST: Duration = Duration::from_secs(30);

/// What a request to the old system showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It answers.
    Good,
    /// It does not.
    Failure,
    /// Nothing: it was busy, or nobody waited for the answer.
    Nothing,
}

/// May a request be sent?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum May {
    /// Yes.
    Ask,
    /// No; ask again after this long.
    Wait(Duration),
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { good: u32, probe: Option<Instant> },
}

/// A breaker.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    in_a_row: u32,
    window: Instant,
    calls: u32,
    failures: u32,
    /// Times it opened without having closed in between.
    opened: u32,
}

impl Breaker {
    /// A closed one.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { state: State::Closed, in_a_row: 0, window: now, calls: 0, failures: 0, opened: 0 }
    }

    /// May a request be sent now? Every [`May::Ask`] must be followed by a [`Breaker::saw`].
    pub fn may(&mut self, now: Instant) -> May {
        if let State::Open { until } = self.state {
            if now < until {
                return May::Wait(until - now);
            }
            self.state = State::HalfOpen { good: 0, probe: None };
        }
        match &mut self.state {
            State::HalfOpen { probe: Some(since), .. } if now < *since + PROBE_LOST => May::Wait(FIRST),
            State::HalfOpen { probe, .. } => {
                *probe = Some(now);
                May::Ask
            }
            State::Closed | State::Open { .. } => May::Ask,
        }
    }

    /// What became of a request. True when that opened or closed the breaker.
    pub fn saw(&mut self, seen: Seen, now: Instant) -> bool {
        match (&mut self.state, seen) {
            (State::Open { .. }, _) => false,
            (State::HalfOpen { probe, .. }, Seen::Nothing) => {
                *probe = None;
                false
            }
            (State::HalfOpen { .. }, Seen::Failure) => self.open(now),
            (State::HalfOpen { good, probe }, Seen::Good) => {
                *probe = None;
                *good += 1;
                if *good < PROBES {
                    return false;
                }
                *self = Self::new(now);
                true
            }
            (State::Closed, Seen::Nothing) => false,
            (State::Closed, seen) => {
                self.count(seen, now);
                let ratio = self.calls >= ENOUGH && self.failures * 2 >= self.calls;
                (self.in_a_row >= IN_A_ROW || ratio) && self.open(now)
            }
        }
    }

    /// Nobody may ask at present.
    #[must_use]
    pub fn is_open(&self, now: Instant) -> bool {
        matches!(self.state, State::Open { until } if now < until)
    }

    /// Calls get through as usual.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    fn count(&mut self, seen: Seen, now: Instant) {
        if now.saturating_duration_since(self.window) > WINDOW {
            (self.window, self.calls, self.failures) = (now, 0, 0);
        }
        self.calls += 1;
        if seen == Seen::Failure {
            self.failures += 1;
            self.in_a_row += 1;
        } else {
            self.in_a_row = 0;
        }
    }

    fn open(&mut self, now: Instant) -> bool {
        let length = FIRST.saturating_mul(1 << self.opened.min(5)).min(LONGEST);
        *self =
            Self { state: State::Open { until: now + length }, opened: self.opened + 1, ..Self::new(now) };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At {
        breaker: Breaker,
        start: Instant,
    }

    impl At {
        fn new() -> Self {
            let start = Instant::now();
            Self { breaker: Breaker::new(start), start }
        }

        fn ask(&mut self, ms: u64) -> bool {
            self.breaker.may(self.start + Duration::from_millis(ms)) == May::Ask
        }

        fn saw(&mut self, ms: u64, seen: Seen) -> bool {
            self.breaker.saw(seen, self.start + Duration::from_millis(ms))
        }

        /// Opened at 0 ms by five failures.
        fn opened() -> Self {
            let mut at = Self::new();
            for n in 0..5 {
                assert!(at.ask(0));
                assert_eq!(at.saw(0, Seen::Failure), n == 4);
            }
            at
        }
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_three_probes_close_it() {
        let mut at = At::opened();
        assert!(!at.ask(0) && !at.ask(999));
        for probe in 0..3 {
            assert!(at.ask(1000), "{probe}");
            assert!(!at.ask(1000), "one at a time");
            assert_eq!(at.saw(1000, Seen::Good), probe == 2);
        }
        assert!(at.breaker.is_closed() && at.ask(1001) && at.ask(1001));
    }

    #[test]
    fn a_failed_probe_opens_it_for_twice_as_long() {
        let mut at = At::opened();
        let mut now = 1_000;
        for length in [2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            assert!(at.ask(now));
            assert!(at.saw(now, Seen::Failure));
            assert!(!at.ask(now + length - 1), "{length}");
            now += length;
        }
        assert!(at.ask(now));
    }

    #[test]
    fn a_success_in_between_starts_the_row_anew() {
        let mut at = At::new();
        for n in 0..12 {
            let seen = if n % 4 == 3 { Seen::Good } else { Seen::Failure };
            assert!(!at.saw(n, seen), "{n}");
        }
    }

    #[test]
    fn half_of_twenty_failures_open_it_unless_they_are_spread_over_time() {
        let run = |every: u64| {
            let mut at = At::new();
            (0..40).any(|n| at.saw(n * every, if n % 2 == 0 { Seen::Failure } else { Seen::Good }))
        };
        assert!(run(10));
        assert!(!run(1_000), "10 calls in a window are too few");
    }

    #[test]
    fn refusals_say_nothing_and_free_the_probe() {
        let mut at = At::new();
        for n in 0..100 {
            assert!(!at.saw(n, Seen::Nothing));
        }
        let mut at = At::opened();
        assert!(at.ask(1000));
        assert!(!at.saw(1000, Seen::Nothing) && at.ask(1001));
        // Nobody reports on this one.
        assert!(!at.ask(2000) && at.ask(1001 + 30_000));
    }
}
