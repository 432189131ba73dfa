//! Which nodes are on their way back, and how far?
//!
//! A node whose calls others carried begins with 2 % of its share ([`Ramp`]). Nodes that are healthy
//! when the gateway starts need no ramp: nobody else carried their traffic. Neither does one that was
//! only suspected for a moment.

use crate::{health::ramp::Ramp, plan::MIN_RAMP};
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
    ramp: Ramp,
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

/// How a node does, over all of its endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// Somebody of it is in rotation.
    Fit,
    /// Nobody is, but somebody is only suspected.
    Doubted,
    /// Nobody is.
    Gone,
}

impl Ramps {
    /// Ramps of this length; zero: nodes return at once.
    pub(super) fn new(length: Duration) -> Self {
        Self { ramp: Ramp::node(length), born: Instant::now(), nodes: BTreeMap::new() }
    }

    /// The first endpoints that this gateway ever saw are there: whoever is healthy soon was not away.
    pub(super) fn begin(&mut self, now: Instant) {
        self.born = now;
    }

    /// The gateway has just started, or has just got its first table with anybody in it.
    pub(super) fn is_young(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.born) < GRACE
    }

    /// Fraction of its share that a node may take now.
    pub(super) fn of(&mut self, node: &Arc<str>, presence: Presence, now: Instant) -> f64 {
        let before = self.nodes.get(node).copied().unwrap_or(Stand::New);
        let stand = match (before, presence) {
            (stand, Presence::Doubted) => stand,
            (Stand::New, Presence::Gone) => Stand::New,
            (_, Presence::Gone) => Stand::Away,
            (Stand::New, Presence::Fit) if self.is_young(now) => Stand::Back,
            (Stand::New | Stand::Away, Presence::Fit) => Stand::Returning(now),
            (stand, Presence::Fit) => stand,
        };
        let (stand, fraction) = match stand {
            Stand::New | Stand::Away | Stand::Back => (stand, 1.0),
            Stand::Returning(since) => match self.ramp.at(since, now) {
                Some(fraction) => (stand, steps(fraction)),
                None => (Stand::Back, 1.0),
            },
        };
        self.nodes.insert(node.clone(), stand);
        fraction
    }

    /// Forgets nodes that are not in the table any more.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Arc<str>) -> bool) {
        self.nodes.retain(|node, _| keep(node));
    }
}

/// In steps of [`MIN_RAMP`]: each is a plan of its own, and four a second would make few of them last.
fn steps(fraction: f64) -> f64 {
    // What is a step but for rounding is one.
    ((fraction / MIN_RAMP + 1e-9).floor() * MIN_RAMP).max(MIN_RAMP)
}

#[cfg(test)]
mod tests {
    use super::{Presence::*, *};

    const S: Duration = Duration::from_secs(1);

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn a_node_that_failed_returns_in_a_straight_line() {
        let (mut ramps, node) = (Ramps::new(60 * S), "a".into());
        let start = ramps.born;
        assert!(close(ramps.of(&node, Gone, start), 1.0));
        assert!(close(ramps.of(&node, Fit, start + S), 1.0), "healthy from the start: no ramp");
        ramps.of(&node, Gone, start + 5 * S);
        assert!(close(ramps.of(&node, Fit, start + 6 * S), MIN_RAMP));
        assert!(close(ramps.of(&node, Fit, start + 36 * S), 0.5), "51 %, in steps of 2 %");
        assert!(close(ramps.of(&node, Fit, start + 66 * S), 1.0));
    }

    #[test]
    fn the_first_nodes_need_no_ramp_however_late_they_come() {
        let (mut ramps, node) = (Ramps::new(60 * S), "a".into());
        let late = ramps.born + 100 * S;
        ramps.begin(late);
        assert!(close(ramps.of(&node, Fit, late + S), 1.0));
        assert!(close(ramps.of(&"b".into(), Fit, late + 11 * S), MIN_RAMP));
    }

    #[test]
    fn a_node_that_fails_on_its_way_back_begins_again() {
        let (mut ramps, node) = (Ramps::new(10 * S), "a".into());
        let late = ramps.born + 100 * S;
        assert!(close(ramps.of(&node, Fit, late), MIN_RAMP), "a newcomer ramps, too");
        ramps.of(&node, Gone, late + 5 * S);
        assert!(close(ramps.of(&node, Fit, late + 6 * S), MIN_RAMP));
    }

    #[test]
    fn a_short_suspicion_is_no_absence() {
        let (mut ramps, node) = (Ramps::new(60 * S), "a".into());
        let start = ramps.born;
        ramps.of(&node, Fit, start);
        ramps.of(&node, Doubted, start + 100 * S);
        assert!(close(ramps.of(&node, Fit, start + 101 * S), 1.0));
    }

    #[test]
    fn without_a_length_nodes_return_at_once() {
        let (mut ramps, node) = (Ramps::new(Duration::ZERO), "a".into());
        let late = ramps.born + 100 * S;
        assert!(close(ramps.of(&node, Fit, late), 1.0));
    }
}
