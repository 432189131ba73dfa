//! How much of its share may a node take that has just come back?
//!
//! From 2 % to everything within the configured time, in a straight line: a cold node is not hit by a
//! whole city at once, and one that only seems well is found out on few calls. Nodes that are healthy
//! when the gateway starts need no ramp: nobody else carried their traffic.

use crate::plan::MIN_RAMP;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// A gateway this young has not seen anybody fail.
const GRACE: Duration = Duration::from_secs(10);

/// Where every node stands on its way back.
#[derive(Debug)]
pub(super) struct Ramps {
    length: Duration,
    born: Instant,
    nodes: BTreeMap<Arc<str>, Stand>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// Never seen healthy.
    New,
    /// Was healthy, is not.
    Away,
    /// Healthy again since then.
    Returning(Instant),
    /// All of its share.
    Back,
}

impl Ramps {
    /// Ramps of this length; zero: nodes return at once.
    pub(super) fn new(length: Duration) -> Self {
        Self { length, born: Instant::now(), nodes: BTreeMap::new() }
    }

    /// Some node is on its way back.
    pub(super) fn any(&self) -> bool {
        self.nodes.values().any(|stand| matches!(stand, Stand::Returning(_)))
    }

    /// Fraction of its share that a node may take now.
    pub(super) fn of(&mut self, node: &Arc<str>, healthy: bool, now: Instant) -> f64 {
        let young = now.saturating_duration_since(self.born) < GRACE;
        let before = self.nodes.get(node).copied().unwrap_or(Stand::New);
        let stand = match (before, healthy) {
            (Stand::New, false) => Stand::New,
            (_, false) => Stand::Away,
            (Stand::New, true) if young => Stand::Back,
            (Stand::New | Stand::Away, true) => Stand::Returning(now),
            (stand, true) => stand,
        };
        let (stand, fraction) = match stand {
            Stand::New | Stand::Away | Stand::Back => (stand, 1.0),
            Stand::Returning(since) => {
                let gone = now.saturating_duration_since(since);
                if gone >= self.length {
                    (Stand::Back, 1.0)
                } else {
                    let line = gone.as_secs_f64() / self.length.as_secs_f64();
                    (stand, MIN_RAMP + (1.0 - MIN_RAMP) * line)
                }
            }
        };
        self.nodes.insert(node.clone(), stand);
        fraction
    }

    /// Forgets nodes that are not in the table any more.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Arc<str>) -> bool) {
        self.nodes.retain(|node, _| keep(node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn a_node_that_failed_returns_in_a_straight_line() {
        let (mut ramps, node, s) = (Ramps::new(Duration::from_secs(60)), "a".into(), Duration::from_secs);
        let start = ramps.born;
        assert!(close(ramps.of(&node, false, start), 1.0));
        assert!(close(ramps.of(&node, true, start + s(1)), 1.0), "healthy from the start: no ramp");
        ramps.of(&node, false, start + s(5));
        assert!(close(ramps.of(&node, true, start + s(6)), MIN_RAMP));
        assert!(ramps.any());
        assert!(close(ramps.of(&node, true, start + s(36)), 0.51));
        assert!(close(ramps.of(&node, true, start + s(66)), 1.0));
        assert!(!ramps.any());
    }

    #[test]
    fn a_node_that_fails_on_its_way_back_begins_again() {
        let (mut ramps, node, s) = (Ramps::new(Duration::from_secs(10)), "a".into(), Duration::from_secs);
        let late = ramps.born + s(100);
        assert!(close(ramps.of(&node, true, late), MIN_RAMP), "a newcomer ramps, too");
        ramps.of(&node, false, late + s(5));
        assert!(close(ramps.of(&node, true, late + s(6)), MIN_RAMP));
    }

    #[test]
    fn without_a_length_nodes_return_at_once() {
        let (mut ramps, node) = (Ramps::new(Duration::ZERO), "a".into());
        let late = ramps.born + Duration::from_secs(100);
        assert!(close(ramps.of(&node, true, late), 1.0));
    }
}
