//! How often may a node's report change the registry?
//!
//! A node that gets ready, drains and comes back turns a few times in a row, and each turn must be seen at
//! once. One that turns all the time would fill etcd and make every gateway plan all the time: beyond a
//! small store of turns it has one a second, and what was left out comes with its next report.

use tokio::time::Instant;

/// Turns that may come at once.
const STORE: f64 = 10.0;

/// The turns that a session has left.
#[derive(Debug)]
pub(super) struct Pace {
    left: f64,
    at: Instant,
}

impl Pace {
    /// A full store.
    pub(super) fn new(now: Instant) -> Self {
        Self { left: STORE, at: now }
    }

    /// Takes a turn; false: there is none.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let left = (self.left + now.saturating_duration_since(self.at).as_secs_f64()).min(STORE);
        self.at = now;
        self.left = if left >= 1.0 { left - 1.0 } else { left };
        left >= 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn beyond_the_store_there_is_one_turn_a_second() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!((0..100).filter(|_| pace.take(now)).count(), 10);
        for _ in 0..3 {
            now += Duration::from_millis(999);
            let early = pace.take(now);
            now += Duration::from_millis(1);
            assert!(!early && pace.take(now));
        }
        now += Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| pace.take(now)).count(), 10);
    }
}
