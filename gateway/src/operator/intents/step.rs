//! Which stages may follow each other?
//!
//! Pure. Trust grows one step at a time and may be lost at once: a node that was suspended begins again.

use crate::table::Stage;
use suiyue_proto::{reason::Reason, v1};
use tonic::Status;

/// From the least trusted to the most.
const STEPS: [Stage; 6] =
    [Stage::Suspended, Stage::Test, Stage::Canary(1), Stage::Canary(5), Stage::Canary(25), Stage::Active];

fn step(stage: Stage) -> usize {
    STEPS.iter().position(|known| *known == stage).unwrap_or(0)
}

/// Down by any number of steps, up by one.
///
/// # Errors
/// [`Reason::StageSkipped`], with the stage now and the next one.
pub(super) fn allowed(before: Stage, wanted: Stage) -> Result<(), Status> {
    if step(wanted) <= step(before) + 1 {
        return Ok(());
    }
    let next = STEPS[(step(before) + 1).min(STEPS.len() - 1)];
    Err(Reason::StageSkipped.with(&[
        ("stage", &word(before)),
        ("wanted", &word(wanted)),
        ("next", &word(next)),
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
        let refused = allowed(before, wanted).err();
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
}
