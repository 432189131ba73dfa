//! How soon may the next connect follow?
//!
//! After one that failed, and after one whose connection did not last, not at once: a peer that accepts and
//! closes would keep us busy with nothing else.

use crate::health::{State, Vitals};
use std::time::{Duration, Instant};

/// Wait after a failed connect, doubling up to [`BACKOFF_MAX`].
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// What happened to the connections of one pool.
#[derive(Debug, Default)]
pub(super) struct Tempo {
    /// Connects in a row that failed.
    failures: u32,
    /// Connections in a row that did not last.
    losses: u32,
    /// When a connection was opened that has not been found lost yet.
    last: Option<Instant>,
}

impl Tempo {
    /// The rest to take before a connect, once; `alone`: there is no other connection. None after the
    /// first loss: it may be chance, and the next connect tells whether the node is gone.
    pub(super) fn before(&mut self, alone: bool, now: Instant) -> Option<Duration> {
        let last = self.last.take_if(|_| alone)?;
        if now.saturating_duration_since(last) >= BACKOFF_MAX {
            self.losses = 0;
            return None;
        }
        self.losses += 1;
        (self.losses > 1).then(|| rest(self.losses - 2))
    }

    /// A connection is open.
    pub(super) fn opened(&mut self, now: Instant) {
        (self.failures, self.last) = (0, Some(now));
    }

    /// The rest to take after a connect that failed.
    pub(super) fn failed(&mut self) -> Duration {
        self.failures += 1;
        rest(self.failures - 1)
    }
}

/// Twice as long each time.
fn rest(run: u32) -> Duration {
    (BACKOFF_MIN * (1 << run.min(6))).min(BACKOFF_MAX)
}

/// Waits after a connect that failed, but not for long once a health check passed.
pub(super) async fn pause(vitals: &Vitals, backoff: Duration) {
    let end = tokio::time::Instant::now() + backoff;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(BACKOFF_MIN).await;
        if vitals.state() <= State::HalfOpen {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_do_not_last_are_opened_ever_more_slowly() {
        let (mut tempo, mut now) = (Tempo::default(), Instant::now());
        tempo.opened(now);
        assert_eq!(tempo.before(true, now), None, "once may be chance");
        let mut rests = Vec::new();
        for _ in 0..8 {
            assert_eq!(tempo.before(true, now), None);
            tempo.opened(now);
            // Closed at once.
            let rest = tempo.before(true, now).unwrap();
            rests.push(rest.as_millis());
            now += rest;
        }
        assert_eq!(rests, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!((tempo.failed(), tempo.failed()), (BACKOFF_MIN, BACKOFF_MIN * 2));
        // One that lasted is replaced at once, and what follows begins anew.
        tempo.opened(now);
        assert_eq!(tempo.before(true, now + BACKOFF_MAX), None);
        tempo.opened(now);
        assert_eq!(tempo.before(true, now), None);
        assert_eq!(tempo.failed(), BACKOFF_MIN);
    }

    #[test]
    fn another_connection_beside_a_full_one_is_opened_at_once() {
        let (mut tempo, now) = (Tempo::default(), Instant::now());
        tempo.opened(now);
        assert_eq!(tempo.before(false, now), None);
    }
}
