//! Every outcome there is, one by one.

use super::*;
use std::collections::HashSet;

const FAILURES: [Failure; 7] = [
    Failure::NotSent,
    Failure::Refused,
    Failure::Lost,
    Failure::Stalled,
    Failure::Timeout,
    Failure::Unavailable,
    Failure::Exhausted,
];
const IDEMPOTENCY: [Idempotency; 3] =
    [Idempotency::Unknown, Idempotency::NoSideEffects, Idempotency::Idempotent];

fn every_outcome() -> Vec<(Failure, Progress, bool)> {
    let mut all = Vec::new();
    for failure in FAILURES {
        for idempotency in IDEMPOTENCY {
            for attempts in 1..=MAX_ATTEMPTS {
                for bits in 0..16 {
                    let bit = |n: u32| bits >> n & 1 == 1;
                    let (kept, moved_after_sending, shed) = (bit(0), bit(1), bit(2));
                    let progress = Progress { idempotency, kept, attempts, moved_after_sending, shed };
                    all.push((failure, progress, bit(3)));
                }
            }
        }
    }
    all
}

/// The rules again, as the design says them: one sentence each.
fn expected(failure: Failure, p: Progress, funded: bool) -> Decision {
    use Failure::*;
    let sent = !matches!(failure, NotSent | Refused);
    let replayable = p.kept && (!sent || p.idempotency.replayable());
    let dead = matches!(failure, NotSent | Refused | Lost | Stalled);
    if !replayable || p.attempts >= 3 || p.moved_after_sending {
        return Decision::GiveUp;
    }
    if dead {
        return Decision::Move;
    }
    if p.shed || !funded {
        return Decision::GiveUp;
    }
    Decision::Retry(match (failure, p.attempts) {
        (Exhausted, _) => Scope::OtherTierWithRoom,
        (_, 1) => Scope::Anywhere,
        _ => Scope::OtherTier,
    })
}

#[test]
fn every_outcome_has_its_decision() {
    let all = every_outcome();
    assert_eq!(all.len(), 7 * 3 * 3 * 16);
    let mut used = HashSet::new();
    for (failure, progress, funded) in all {
        let found = decide(failure, progress, funded);
        assert_eq!(found, expected(failure, progress, funded), "{failure:?} {progress:?} {funded}");
        used.insert(RULES.iter().position(|rule| rule.matches(failure, progress, funded)).unwrap());
    }
    assert_eq!(used.len(), RULES.len() - 1, "every row decides something, the last one nothing");
}

#[test]
fn a_request_is_executed_twice_at_most_when_it_kills_its_nodes() {
    let mut progress = Progress {
        idempotency: Idempotency::Idempotent,
        kept: true,
        attempts: 0,
        moved_after_sending: false,
        shed: false,
    };
    let mut executions = 0;
    loop {
        progress.attempts += 1;
        executions += 1;
        if decide(Failure::Lost, progress, true) != Decision::Move {
            break;
        }
        progress.moved_after_sending = true;
    }
    assert_eq!(executions, 2);
}

#[test]
fn times_of_a_try() {
    let ms = Duration::from_millis;
    for (left, p99, expected) in
        [(3_000, None, 1_500), (3_000, Some(5), 100), (3_000, Some(50), 200), (300, Some(50), 150)]
    {
        assert_eq!(per_try(ms(left), p99.map(ms)), ms(expected), "{left} {p99:?}");
    }
    for (waited, p99, expected) in
        [(25, Some(5), false), (100, Some(5), true), (700, None, false), (750, None, true)]
    {
        assert_eq!(had_time(ms(waited), ms(1_500), p99.map(ms)), expected, "{waited} {p99:?}");
    }
    for (median, expected) in [(0, 20), (5, 20), (60, 60), (9_000, 375)] {
        assert_eq!(least_time(ms(median), ms(1_500)), ms(expected), "{median}");
    }
    let now = Instant::now();
    assert_eq!(overdue(now, None), now + ms(100));
    assert_eq!(overdue(now, Some(ms(3_000))), now + ms(3_000));
}

#[test]
fn only_the_third_attempt_waits() {
    for random in 0..1000 {
        assert_eq!(delay(1, random), Duration::ZERO);
        let third = delay(2, random).as_millis();
        assert!((25..=100).contains(&third), "{third}");
    }
}
