//! May we try again?
//!
//! Pure: [`decide`] looks up what happened in one table, `RULES`, first match wins. Two allowances:
//! a request that sits on a dead or suspect connection *moves* once, at once, to another endpoint; an
//! answer (or the lack of one) that invites a *retry* spends from the [`budget`] of a tenth of the calls,
//! so that retries cannot multiply an outage.
//!
//! | what happened | may be executed twice, and all of it is kept | else |
//! |---|---|---|
//! | nothing was sent, or the peer says that it did not process it | move | move, if it is kept |
//! | connection or stream lost; connection stalled | move, and that was the last attempt | give up |
//! | time for one try is over; UNAVAILABLE without pushback | retry: 2nd anywhere, 3rd in another tier | give up |
//! | RESOURCE_EXHAUSTED | retry in another tier that has room | give up |
//!
//! Never after the third attempt, never while the class is being shed, never without a budget token.

pub mod budget;
pub mod pace;

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
    /// The connection does not answer a ping.
    Stalled,
    /// No answer within the time for one try.
    Timeout,
    /// The answer is UNAVAILABLE without pushback.
    Unavailable,
    /// The answer is RESOURCE_EXHAUSTED.
    Exhausted,
}

/// What a decision needs to know of the request so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// May it be executed twice?
    pub idempotency: Idempotency,
    /// Everything sent so far is still at hand.
    pub kept: bool,
    /// Attempts made, from 1.
    pub attempts: u8,
    /// It moved off a broken connection after bytes had been sent: that was its one further attempt.
    pub moved_after_sending: bool,
    /// Calls of its class are being refused at present.
    pub shed: bool,
}

/// Where the next attempt may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Any endpoint that was not tried.
    Anywhere,
    /// A tier that was not tried.
    OtherTier,
    /// A tier that was not tried, and an endpoint with room.
    OtherTierWithRoom,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Send it to another endpoint at once.
    Move,
    /// Send it again if the budget has a token.
    Retry(Scope),
    /// Tell the caller.
    GiveUp,
}

/// One row of the table; `None` matches everything.
#[derive(Debug)]
struct Rule {
    failures: Option<&'static [Failure]>,
    replayable: Option<bool>,
    kept: Option<bool>,
    attempts: Option<u8>,
    moved: Option<bool>,
    shed: Option<bool>,
    funded: Option<bool>,
    decision: Decision,
}

/// A row that matches everything and gives up.
const ANY: Rule = Rule {
    failures: None,
    replayable: None,
    kept: None,
    attempts: None,
    moved: None,
    shed: None,
    funded: None,
    decision: Decision::GiveUp,
};

/// Every outcome. The first row that matches decides.
const RULES: [Rule; 12] = {
    use Decision::{Move, Retry};
    use Failure::{Exhausted, Lost, NotSent, Refused, Stalled, Timeout, Unavailable};
    use Scope::{Anywhere, OtherTier, OtherTierWithRoom};
    [
        Rule { attempts: Some(MAX_ATTEMPTS), ..ANY },
        Rule { kept: Some(false), ..ANY },
        // A request that kills its node must not walk through the federation.
        Rule { moved: Some(true), ..ANY },
        Rule { failures: Some(&[NotSent, Refused]), decision: Move, ..ANY },
        Rule { replayable: Some(false), ..ANY },
        Rule { failures: Some(&[Lost, Stalled]), decision: Move, ..ANY },
        Rule { shed: Some(true), ..ANY },
        Rule { funded: Some(false), ..ANY },
        Rule { failures: Some(&[Exhausted]), decision: Retry(OtherTierWithRoom), ..ANY },
        Rule { failures: Some(&[Timeout, Unavailable]), attempts: Some(1), decision: Retry(Anywhere), ..ANY },
        Rule {
            failures: Some(&[Timeout, Unavailable]),
            attempts: Some(2),
            decision: Retry(OtherTier),
            ..ANY
        },
        ANY,
    ]
};

impl Rule {
    fn matches(&self, failure: Failure, progress: Progress, funded: bool) -> bool {
        fn fits<T: PartialEq + Copy>(wanted: Option<T>, found: T) -> bool {
            wanted.is_none_or(|wanted| wanted == found)
        }
        self.failures.is_none_or(|failures| failures.contains(&failure))
            && fits(self.replayable, progress.idempotency.replayable())
            && fits(self.kept, progress.kept)
            && fits(self.attempts, progress.attempts)
            && fits(self.moved, progress.moved_after_sending)
            && fits(self.shed, progress.shed)
            && fits(self.funded, funded)
    }
}

/// Decides about one failure. `funded`: the budget has a token.
#[must_use]
pub fn decide(failure: Failure, progress: Progress, funded: bool) -> Decision {
    let rule = RULES.iter().find(|rule| rule.matches(failure, progress, funded));
    rule.map_or(Decision::GiveUp, |rule| rule.decision)
}

/// Wait before a retry: none before the second attempt, full jitter of 25 to 100 ms before the third.
#[must_use]
pub fn delay(attempts: u8, random: u64) -> Duration {
    if attempts < 2 {
        return Duration::ZERO;
    }
    Duration::from_millis(25 + random % 76)
}

/// No try is shorter, whatever is usual.
const MIN_TRY: Duration = Duration::from_millis(100);

/// Time for one try where another may follow: half of what is left, but no more than four times what
/// 99 % of the method's calls take.
#[must_use]
pub fn per_try(left: Duration, p99: Option<Duration>) -> Duration {
    p99.map_or(left / 2, |p99| (left / 2).min((4 * p99).max(MIN_TRY)))
}

/// The attempt got as much time as the class's default deadline would have given it: that it was not
/// answered is the node's own making, and not the caller's haste.
#[must_use]
pub fn had_time(waited: Duration, default: Duration, p99: Option<Duration>) -> bool {
    // A timer's resolution less.
    waited + Duration::from_millis(5) >= per_try(default, p99)
}

/// Less than this left, and no attempt is made: 20 ms, or what half of the endpoint's calls take. Bounded by
/// a quarter of the class's default deadline, so that a sick estimate never refuses what was given time.
#[must_use]
pub fn least_time(median: Duration, default: Duration) -> Duration {
    median.min(default / 4).max(Duration::from_millis(20))
}

/// When a call without an answer is overdue: a tenth of a second, or what 99 % of its method's calls take.
#[must_use]
pub fn overdue(sent: Instant, p99: Option<Duration>) -> Instant {
    sent + p99.unwrap_or_default().max(MIN_TRY)
}

#[cfg(test)]
mod tests;
