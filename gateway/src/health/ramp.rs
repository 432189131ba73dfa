//! How much may someone take who has just come back?
//!
//! One rule for endpoints and nodes: in a straight line from a first step to everything. A cold
//! process is not hit by a whole city at once, and one that only seems well is found out on few calls.
//! It is a preference: where nobody else has room it takes what there is.

use std::time::{Duration, Instant};

/// From `first` to 1 within `length`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ramp {
    first: f64,
    length: Duration,
}

impl Ramp {
    /// An endpoint inside its node: 10 % → 100 %, in half of the node's time (30 s).
    #[must_use]
    pub fn endpoint(node: Duration) -> Self {
        Self { first: 0.1, length: node / 2 }
    }

    /// A node: 2 % → 100 %. In 60 s that is less than two points a second.
    #[must_use]
    pub const fn node(length: Duration) -> Self {
        Self { first: crate::plan::MIN_RAMP, length }
    }

    /// The fraction that may be taken now; `None`: the ramp is over.
    #[must_use]
    pub fn at(&self, since: Instant, now: Instant) -> Option<f64> {
        let gone = now.saturating_duration_since(since);
        if gone >= self.length {
            return None;
        }
        Some(self.first + (1.0 - self.first) * (gone.as_secs_f64() / self.length.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_line_from_the_first_step_to_everything() {
        let (start, s) = (Instant::now(), Duration::from_secs);
        let check = |ramp: Ramp, at: u64, expected: Option<f64>| {
            let found = ramp.at(start, start + s(at));
            let close = found.zip(expected).is_some_and(|(a, b)| (a - b).abs() < 1e-9);
            assert!(close || found == expected, "{at} s: {found:?}, expected {expected:?}");
        };
        let (node, endpoint) = (Ramp::node(s(60)), Ramp::endpoint(s(60)));
        for (ramp, at, expected) in [
            (node, 0, Some(0.02)),
            (node, 30, Some(0.51)),
            (node, 60, None),
            (endpoint, 0, Some(0.1)),
            (endpoint, 15, Some(0.55)),
            (endpoint, 30, None),
            (Ramp::node(s(0)), 0, None),
        ] {
            check(ramp, at, expected);
        }
        let step = node.at(start, start + s(11)).unwrap() - node.at(start, start + s(10)).unwrap();
        assert!(step <= 0.02, "at most two points a second: {step}");
    }
}
