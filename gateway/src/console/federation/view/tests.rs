//! What state a region is shown in.

use super::*;
use crate::{plan::Rule, table::Stage};

impl Region {
    /// As a page would show it.
    pub(in crate::console) fn shown(code: u32, health: Health) -> Self {
        Self { code, health, rps: 1.0, failed: 0.0, because: None }
    }
}

fn candidate(node: &str, tier: u8, share: f64, reason: Reason) -> Candidate {
    Candidate {
        node: node.into(),
        tier,
        share,
        reason,
        rule: Rule::Drained,
        limits: Vec::new(),
        stage: Stage::Active,
        health: 1.0,
        ramp: 1.0,
        as_of_ms: 0,
        declared: None,
        capacity: None,
        cap: None,
        rps: 0.0,
        base: share,
        shifted: share,
        clamped: share,
        hash: 0,
    }
}

/// All classes have these candidates; nodes of `out` have no endpoint in rotation.
#[track_caller]
fn check(candidates: &[Candidate], out: &[&str], expected: (Health, Option<(&str, Reason)>)) {
    let route = || Route { candidates: candidates.to_vec(), moves: Vec::new(), shed: 0.0 };
    let routes = [route(), route(), route(), route()];
    let rotation = |node: &str| if out.contains(&node) { Rotation::None } else { Rotation::All };
    let (health, because) = judged(&routes, rotation);
    let because = because.as_ref().map(|(node, reason)| (&**node, *reason));
    assert_eq!((health, because), expected);
}

#[test]
fn a_region_is_what_its_plan_and_its_nodes_are() {
    let city = candidate("city", 0, 1.0, Reason::Primary);
    let standby = candidate("province", 1, 0.0, Reason::Standby);
    let both = [city.clone(), standby.clone()];
    check(&both, &[], (Health::Ok, None));
    // A standby that is out is nobody's trouble yet.
    check(&both, &["province"], (Health::Ok, None));
    // The plan does not know yet, or knows nobody better.
    check(&both, &["city"], (Health::Degraded, Some(("city", Reason::Unhealthy))));
    check(&both, &["city", "province"], (Health::Down, Some(("city", Reason::Unhealthy))));
    let gone = candidate("city", 0, 0.0, Reason::Unhealthy);
    let instead = candidate("province", 1, 1.0, Reason::Failover);
    check(&[gone.clone(), instead], &["city"], (Health::Degraded, Some(("city", Reason::Unhealthy))));
    check(&[gone, standby], &["city"], (Health::Down, Some(("city", Reason::Unhealthy))));
    let open = candidate("city", 0, 1.0, Reason::FailOpen);
    check(&[open], &["city"], (Health::Down, Some(("city", Reason::FailOpen))));
    check(&[], &[], (Health::Down, None));
}

#[test]
fn what_an_operator_does_is_no_fault() {
    let most = candidate("city", 0, 0.7, Reason::Primary);
    let shifted = candidate("province", 1, 0.3, Reason::Shift);
    check(&[most, shifted], &[], (Health::Moved, Some(("province", Reason::Shift))));
    let drained = candidate("city", 0, 0.0, Reason::Drained);
    let instead = candidate("province", 1, 1.0, Reason::Primary);
    check(&[drained, instead], &[], (Health::Moved, Some(("city", Reason::Drained))));
}

#[test]
fn the_worst_region_fails_most_and_then_has_most_calls() {
    let region = |code, health, failed, rps| Region { code, health, rps, failed, because: None };
    let all = [
        region(1, Health::Ok, 0.0, 900.0),
        region(2, Health::Degraded, 1.0, 500.0),
        region(3, Health::Degraded, 40.0, 50.0),
    ];
    assert_eq!(worst(&all).map(|region| region.code), Some(3));
    assert_eq!(worst(&all[..2]).map(|region| region.code), Some(2));
    assert_eq!(worst(&[]), None);
}
