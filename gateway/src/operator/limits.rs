//! Which limits count for what operators do?
//!
//! Every gateway announces those of its configuration in its presence. Where they differ, the strictest count
//! at every gateway: otherwise whoever may not do something would ask the gateway that lets them. That they
//! differ is an alarm (`follow::Status::alarms`).

use super::Operator;
use std::time::Duration;
use suiyue_proto::v1;

/// What operators may do, where a region's policy says nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limits {
    /// Fraction of a region's calls that one person may move.
    pub(super) two_person_above: f64,
    /// A node stays on each step of its trial for this time.
    pub(super) canary_step: Duration,
}

impl Limits {
    /// With what another gateway announces. What is no fraction counts as 0: a second person always.
    fn with(self, other: &v1::OperatorLimits) -> Self {
        let theirs = other.two_person_above;
        let theirs = if theirs >= 0.0 { theirs } else { 0.0 };
        Self {
            two_person_above: self.two_person_above.min(theirs),
            canary_step: self.canary_step.max(Duration::from_secs(other.canary_step_s.into())),
        }
    }
}

impl Operator {
    /// The strictest limits of all gateways that are there.
    pub(super) fn limits(&self) -> Limits {
        let own = Limits { two_person_above: self.two_person_above, canary_step: self.canary_step };
        let present = self.followed.as_ref().map(|followed| followed.present()).unwrap_or_default();
        present.iter().filter_map(|gateway| gateway.said.limits.as_ref()).fold(own, Limits::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strictest_count() {
        let own = Limits { two_person_above: 0.5, canary_step: Duration::from_secs(60) };
        let with = |two_person_above, canary_step_s| {
            let told = own.with(&v1::OperatorLimits { two_person_above, canary_step_s });
            (told.two_person_above, told.canary_step.as_secs())
        };
        assert_eq!(with(1.0, 0), (0.5, 60));
        assert_eq!(with(0.2, 600), (0.2, 600));
        assert_eq!(with(f64::NAN, 60), (0.0, 60));
        assert_eq!(with(-1.0, 60), (0.0, 60));
    }
}
