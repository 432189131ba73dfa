//! Which stages may follow each other?
//!
//! Pure. Trust grows one step at a time and may be lost at once: a node that was suspended begins again.

use crate::table::Stage;
use std::time::Duration;
use suiyue_proto::{reason::Reason, v1};
use tonic::Status;

/// From the least trusted to the most.
const STEPS: [Stage; 6] =
    [Stage::Suspended, Stage::Test, Stage::Canary(1), Stage::Canary(5), Stage::Canary(25), Stage::Active];

fn step(stage: Stage) -> usize {
    STEPS.iter().position(|known| *known == stage).unwrap_or(0)
}

/// The stage in which a node is now, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) stage: Stage,
    /// Since then, in milliseconds since 1970; 0: not known, and taken to be long.
    pub(super) since_ms: i64,
    /// The present.
    pub(super) now_ms: i64,
}

/// Down by any number of steps, up by one; from one of a trial when `least` has passed, because a guard that
/// has seen few calls says little.
///
/// # Errors
/// [`Reason::StageSkipped`], with the stage now and the next one; [`Reason::StageTooEarly`], with the time
/// that is left.
pub(super) fn allowed(now: Standing, wanted: Stage, least: Duration) -> Result<(), Status> {
    let before = now.stage;
    if step(wanted) <= step(before) {
        return Ok(());
    }
    if step(wanted) == step(before) + 1 {
        return lasted(now, least);
    }
    let next = STEPS[(step(before) + 1).min(STEPS.len() - 1)];
    Err(Reason::StageSkipped.with(&[
        ("stage", &word(before)),
        ("wanted", &word(wanted)),
        ("next", &word(next)),
    ]))
}

/// Whoever set the clock back must not wait longer than a whole step.
fn lasted(now: Standing, least: Duration) -> Result<(), Status> {
    let Stage::Canary(_) = now.stage else { return Ok(()) };
    let least_ms = i64::try_from(least.as_millis()).unwrap_or(i64::MAX);
    let left_ms = least_ms.saturating_sub(now.now_ms.saturating_sub(now.since_ms).max(0));
    if now.since_ms == 0 || left_ms <= 0 {
        return Ok(());
    }
    let (left_s, least_s) = (left_ms.saturating_add(999) / 1_000, least.as_secs());
    Err(Reason::StageTooEarly.with(&[
        ("stage", &word(now.stage)),
        ("left_s", &left_s.to_string()),
        ("step_s", &least_s.to_string()),
    ]))
}

/// As it stands in messages.
pub(super) const fn told(stage: Stage) -> (v1::Stage, u32) {
    match stage {
        Stage::Test => (v1::Stage::Test, 0),
        Stage::Canary(percent) => (v1::Stage::Canary, percent as u32),
        Stage::Active => (v1::Stage::Active, 0),
        Stage::Suspended => (v1::Stage::Suspended, 0),
    }
}

/// As verbs write it.
fn word(stage: Stage) -> String {
    match stage {
        Stage::Test => "test".to_owned(),
        Stage::Canary(percent) => format!("canary-{percent}"),
        Stage::Active => "active".to_owned(),
        Stage::Suspended => "suspended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::StatusExt as _;

    fn check(before: Stage, wanted: Stage, next: Option<&str>) {
        let standing = Standing { stage: before, since_ms: 0, now_ms: 0 };
        let refused = allowed(standing, wanted, Duration::from_secs(600)).err();
        let details = refused.and_then(|status| status.get_details_error_info());
        assert_eq!(
            details.as_ref().map(|info| info.metadata["next"].as_str()),
            next,
            "{before:?} {wanted:?}"
        );
    }

    #[test]
    fn up_by_one_step_and_down_by_any() {
        use Stage::{Active, Canary, Suspended, Test};
        check(Test, Canary(1), None);
        check(Canary(1), Canary(5), None);
        check(Canary(25), Active, None);
        check(Suspended, Test, None);
        check(Active, Suspended, None);
        check(Canary(25), Test, None);
        check(Active, Active, None);
        check(Test, Canary(5), Some("canary-1"));
        check(Test, Active, Some("canary-1"));
        check(Canary(1), Active, Some("canary-5"));
        check(Canary(5), Active, Some("canary-25"));
        check(Suspended, Active, Some("test"));
    }

    #[test]
    fn each_step_of_a_trial_lasts() {
        use Stage::{Active, Canary, Suspended, Test};
        let left = |stage, wanted, (since_ms, now_ms)| {
            let standing = Standing { stage, since_ms, now_ms };
            let refused = allowed(standing, wanted, Duration::from_secs(600)).err()?;
            assert_eq!(Reason::of(&refused), Some(Reason::StageTooEarly));
            refused.get_details_error_info()?.metadata.get("left_s")?.parse::<u64>().ok()
        };
        let steps = [(Canary(1), Canary(5)), (Canary(5), Canary(25)), (Canary(25), Active)];
        for (stage, wanted) in steps {
            assert_eq!(left(stage, wanted, (1_000, 1_000)), Some(600), "{stage:?}");
            assert_eq!(left(stage, wanted, (1_000, 600_001)), Some(1));
            assert_eq!(left(stage, wanted, (1_000, 601_000)), None);
            assert_eq!(left(stage, wanted, (1_000, 0)), Some(600), "a clock that was set back");
            assert_eq!(left(stage, wanted, (0, 1_000)), None, "since when is not known");
            assert_eq!(left(stage, stage, (1_000, 1_000)), None);
        }
        for (stage, wanted) in
            [(Suspended, Test), (Test, Canary(1)), (Canary(25), Test), (Canary(5), Suspended)]
        {
            assert_eq!(left(stage, wanted, (1_000, 1_000)), None, "{stage:?} {wanted:?}");
        }
    }
}
