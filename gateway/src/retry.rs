//! May we try again?
//!
//! Pure: the rules of replay as one function over what happened. Two allowances: a request that sits on
//! a dead connection *moves* once, at once, to another endpoint; an answer that invites a retry spends
//! from a [`Budget`] of a tenth of the requests, so that retries cannot multiply an outage.

use std::time::{Duration, Instant};
use suiyue_proto::method::Idempotency;

/// Attempts at most, the first included.
pub const MAX_ATTEMPTS: u8 = 3;

/// How an attempt ended without an answer that can be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection, or the stream was never opened: nothing was sent.
    NotSent,
    /// The peer says that it did not process the stream (`REFUSED_STREAM`, or GOAWAY below it).
    Refused,
    /// The connection or the stream broke after something may have been sent.
    Lost,
    /// No answer within the time for one try.
    Timeout,
    /// The answer is UNAVAILABLE without pushback.
    Unavailable,
}

/// What a decision needs to know of the request so far.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// May it be executed twice?
    pub idempotency: Idempotency,
    /// Everything sent so far is still at hand.
    pub kept: bool,
    /// Attempts made, from 1.
    pub attempts: u8,
    /// It moved off a broken connection after bytes had been sent: that was its one further attempt.
    pub moved_after_sending: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Send it to another endpoint at once.
    Move,
    /// Send it to another endpoint if the budget has a token.
    Spend,
    /// Tell the caller.
    GiveUp,
}

/// Decides about one failure.
#[must_use]
pub fn decide(failure: Failure, progress: Progress) -> Decision {
    if !progress.kept || progress.attempts >= MAX_ATTEMPTS || progress.moved_after_sending {
        return Decision::GiveUp;
    }
    match failure {
        Failure::NotSent | Failure::Refused => Decision::Move,
        _ if !progress.idempotency.replayable() => Decision::GiveUp,
        Failure::Lost => Decision::Move,
        Failure::Timeout | Failure::Unavailable => Decision::Spend,
    }
}

/// Retries allowed: a tenth of the requests, at least three a second where requests are few.
#[derive(Debug)]
pub struct Budget {
    /// In tenths of a retry, so that a request deposits one.
    tenths: u32,
    floor_from: Instant,
}

/// Retries a second that are always allowed.
const FLOOR: u32 = 3;
/// Tokens kept at most: a tenth of ten seconds at a thousand requests a second.
const CAP_TENTHS: u32 = 10_000;

impl Budget {
    /// A budget with one second of the floor.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { tenths: FLOOR * 10, floor_from: now }
    }

    /// A first attempt was made.
    pub fn deposit(&mut self) {
        self.tenths = (self.tenths + 1).min(CAP_TENTHS);
    }

    /// There is a retry to take.
    pub fn is_open(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.floor_from) >= Duration::from_secs(1) {
            self.floor_from = now;
            self.tenths = self.tenths.max(FLOOR * 10);
        }
        self.tenths >= 10
    }

    /// Takes one retry; false if there is none.
    pub fn spend(&mut self, now: Instant) -> bool {
        let open = self.is_open(now);
        if open {
            self.tenths -= 10;
        }
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_decision() {
        use {Decision::*, Failure::*, Idempotency::*};
        // failure, idempotency, kept, attempts, moved after sending → decision
        let table = [
            (NotSent, Unknown, true, 1, false, Move),
            (NotSent, Unknown, true, 2, false, Move),
            (NotSent, Unknown, true, 3, false, GiveUp),
            (NotSent, Unknown, false, 1, false, GiveUp),
            (Refused, Unknown, true, 1, false, Move),
            (Lost, Unknown, true, 1, false, GiveUp),
            (Lost, Idempotent, true, 1, false, Move),
            (Lost, NoSideEffects, true, 1, false, Move),
            (Lost, Idempotent, true, 2, true, GiveUp),
            (NotSent, Idempotent, true, 2, true, GiveUp),
            (Lost, Idempotent, false, 1, false, GiveUp),
            (Timeout, Unknown, true, 1, false, GiveUp),
            (Timeout, Idempotent, true, 1, false, Spend),
            (Unavailable, NoSideEffects, true, 2, false, Spend),
            (Unavailable, Unknown, true, 1, false, GiveUp),
        ];
        for (failure, idempotency, kept, attempts, moved_after_sending, expected) in table {
            let progress = Progress { idempotency, kept, attempts, moved_after_sending };
            assert_eq!(decide(failure, progress), expected, "{failure:?} {progress:?}");
        }
    }

    #[test]
    fn the_budget_is_a_tenth_of_the_requests_with_a_floor() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        let spent = |budget: &mut Budget, at| (0..10_000).filter(|_| budget.spend(at)).count();
        assert_eq!(spent(&mut budget, now), 3);
        for _ in 0..1_000 {
            budget.deposit();
        }
        assert_eq!(spent(&mut budget, now), 100);
        assert!(!budget.is_open(now) && budget.is_open(now + Duration::from_millis(1_500)));
        assert_eq!(spent(&mut budget, now + Duration::from_secs(3)), 3);
        for _ in 0..100_000 {
            budget.deposit();
        }
        assert_eq!(spent(&mut budget, now), CAP_TENTHS as usize / 10);
    }
}
