//! When does what happen in the demo?
//!
//! A pure function of the play's length: every phase gets its fraction, so that ten seconds show the
//! same as a minute, only faster.

use super::federation::NodeName;
use std::time::Duration;

/// What happens at the beginning of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// Nothing: each region's own system answers.
    Normal,
    /// A node is killed; another one carries on.
    Kill { node: NodeName, stays: NodeName },
    /// A killed node is started again.
    Return(NodeName),
}

/// One phase of the play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// The phase's name in the report.
    pub(super) name: &'static str,
    /// When it begins.
    pub(super) at: Duration,
    /// How long it lasts.
    pub(super) length: Duration,
    /// What happens then.
    pub(super) event: Event,
}

/// Name, percentage of the play, and event of every phase.
const PHASES: [(&str, u32, Event); 5] = [
    ("normal", 20, Event::Normal),
    ("suikang_killed", 20, Event::Kill { node: NodeName::Suikang, stays: NodeName::Yuekang }),
    ("suikang_back", 30, Event::Return(NodeName::Suikang)),
    ("yuekang_killed", 20, Event::Kill { node: NodeName::Yuekang, stays: NodeName::Suikang }),
    ("yuekang_back", 10, Event::Return(NodeName::Yuekang)),
];

/// The phases of a play of this length.
pub(super) fn steps(length: Duration) -> Vec<Step> {
    let mut before = 0;
    let step = |(name, percent, event)| {
        let at = length * before / 100;
        before += percent;
        Step { name, at, length: length * before / 100 - at, event }
    };
    PHASES.into_iter().map(step).collect()
}

/// Time in which a returning node gets its share back: a tenth of the play, a minute at most, which is
/// what a gateway takes by default.
pub(super) fn ramp(length: Duration) -> Duration {
    (length / 10).min(Duration::from_secs(60))
}

/// The plan, in lines for a person.
pub(super) fn announce(steps: &[Step], rate: u32) -> Vec<String> {
    let total: Duration = steps.iter().map(|step| step.length).sum();
    let mut lines = vec![format!("the plan: {:.0} s at {rate} calls a second", total.as_secs_f64())];
    for step in steps {
        let what = match step.event {
            Event::Normal => "each region's own system answers".to_owned(),
            Event::Kill { node, stays } => {
                format!("{} is killed, {} carries Guangzhou", node.title(), stays.title())
            }
            Event::Return(node) => format!("{} returns", node.title()),
        };
        let (at, length) = (step.at.as_secs_f64(), step.length.as_secs_f64());
        lines.push(format!("  {at:5.1} s  {length:5.1} s long  {:14}  {what}", step.name));
    }
    let ramp = ramp(total).as_secs_f64();
    lines.push(format!(
        "  ramp: a node that returns gets its share back within {ramp:.1} s (60 s by default)"
    ));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_each_other_and_fill_the_play_exactly() {
        assert_eq!(PHASES.iter().map(|(_, percent, _)| percent).sum::<u32>(), 100);
        for seconds in [10, 13, 20, 60, 86_400] {
            let length = Duration::from_secs(seconds);
            let steps = steps(length);
            assert_eq!(steps[0].at, Duration::ZERO);
            for pair in steps.windows(2) {
                assert_eq!(pair[0].at + pair[0].length, pair[1].at);
            }
            assert_eq!(steps[4].at + steps[4].length, length);
        }
    }

    #[test]
    fn twenty_seconds_leave_two_seconds_for_the_last_phase() {
        let at: Vec<_> = steps(Duration::from_secs(20)).iter().map(|step| step.at.as_secs()).collect();
        assert_eq!(at, [0, 4, 8, 14, 18]);
    }

    #[test]
    fn nobody_is_killed_before_the_other_one_was_told_to_return() {
        let mut down = None;
        for step in steps(Duration::from_secs(60)) {
            match step.event {
                Event::Normal => {}
                Event::Kill { node, stays } => {
                    assert!(down.is_none() && node != stays);
                    down = Some(node);
                }
                Event::Return(node) => assert_eq!(down.take(), Some(node)),
            }
        }
        assert_eq!(down, None);
    }
}
