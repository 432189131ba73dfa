//! Is it them, or is it us?
//!
//! When more than half of at least four nodes fail within ten seconds, the gateway's own network is the
//! likelier culprit. Ejections freeze for thirty seconds, and a person is told: taking out everybody
//! would only add the way back to the outage.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// Fewer nodes prove nothing.
const MIN_NODES: usize = 4;
/// Failures within this time count together.
const SPAN: Duration = Duration::from_secs(10);
/// Ejections freeze for this long.
pub const FREEZE: Duration = Duration::from_secs(30);

/// Remembers which nodes failed when.
#[derive(Debug, Default)]
pub struct Isolation {
    fit: BTreeMap<Arc<str>, bool>,
    failed: BTreeMap<Arc<str>, Instant>,
    until: Option<Instant>,
}

/// What a look at the nodes gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The nodes are to be judged.
    Connected,
    /// Just now more than half of them have failed together: raise the alarm.
    Began,
    /// Ejections are frozen.
    Frozen,
}

impl Isolation {
    /// Looks at all nodes that have endpoints: name, and whether anybody of it can be called.
    pub fn look<'a>(&mut self, nodes: impl Iterator<Item = (&'a Arc<str>, bool)>, now: Instant) -> Verdict {
        let mut seen = BTreeMap::new();
        for (node, fit) in nodes {
            // A node that was never fit has not failed.
            if self.fit.get(node) == Some(&true) && !fit {
                self.failed.insert(node.clone(), now);
            }
            seen.insert(node.clone(), fit);
        }
        self.fit = seen;
        self.failed.retain(|node, at| {
            // Who is well again has shown that the network is, too.
            self.fit.get(node) == Some(&false) && now.saturating_duration_since(*at) < SPAN
        });
        if self.until.is_some_and(|until| now < until) {
            return Verdict::Frozen;
        }
        self.until = None;
        let (nodes, failed) = (self.fit.len(), self.failed.len());
        if nodes >= MIN_NODES && failed * 2 > nodes {
            self.until = Some(now + FREEZE);
            return Verdict::Began;
        }
        Verdict::Connected
    }

    /// When the freeze ends.
    #[must_use]
    pub const fn until(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks (seconds, fitness of each node) and expects the last verdict.
    #[track_caller]
    fn check(looks: &[(u64, &[bool])], expected: Verdict) {
        let (start, mut isolation) = (Instant::now(), Isolation::default());
        let names: Vec<Arc<str>> = (0..9).map(|i| format!("n{i}").into()).collect();
        let mut last = Verdict::Connected;
        for (at, fit) in looks {
            last = isolation.look(names.iter().zip(fit.iter().copied()), start + Duration::from_secs(*at));
        }
        assert_eq!(last, expected, "{looks:?}");
    }

    #[test]
    fn more_than_half_of_four_within_ten_seconds() {
        use Verdict::*;
        const ALL: &[bool] = &[true; 4];
        check(&[(0, ALL), (1, &[false, false, true, true])], Connected);
        check(&[(0, ALL), (1, &[false, false, false, true])], Began);
        check(&[(0, &[true; 3]), (1, &[false; 3])], Connected);
        check(&[(0, ALL), (1, &[false, false, true, true]), (12, &[false, false, false, true])], Connected);
        check(&[(0, &[false; 4])], Connected);
    }

    #[test]
    fn the_freeze_lasts_thirty_seconds() {
        use Verdict::*;
        const ALL: &[bool] = &[true; 4];
        const NONE: &[bool] = &[false; 4];
        check(&[(0, ALL), (1, NONE), (30, NONE)], Frozen);
        check(&[(0, ALL), (1, NONE), (31, NONE)], Connected);
        check(&[(0, ALL), (1, NONE), (31, ALL), (32, NONE)], Began);
    }
}
