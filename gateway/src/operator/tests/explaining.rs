//! Routes: explained, and supposed otherwise.

use super::*;
use v1::what_if::Change;

fn suppose(region: u32, changes: impl IntoIterator<Item = Change>) -> v1::ExplainRouteRequest {
    let what_if = changes.into_iter().map(|change| v1::WhatIf { change: Some(change) });
    v1::ExplainRouteRequest { what_if: what_if.collect(), ..scan(region) }
}

fn shift(change: impl FnOnce(&mut v1::SupposedShift)) -> Change {
    let mut shift = v1::SupposedShift {
        region: 440_100,
        classes: Vec::new(),
        from: "suikang".to_owned(),
        to: vec![v1::ShiftTarget { target: "yuekang".to_owned(), weight: 1.0 }],
        percent: 10.0,
    };
    change(&mut shift);
    Change::Shift(shift)
}

fn shares(candidates: &[v1::CandidateInfo]) -> Vec<(&str, f64)> {
    candidates.iter().map(|candidate| (candidate.node.as_str(), candidate.share)).collect()
}

#[tokio::test]
async fn every_candidate_has_its_rule_and_a_share_after_each_step() {
    let gateway = Gateway::start().await;
    let answer = gateway.explain(scan(440_106)).await.unwrap();
    assert_eq!((answer.region, answer.supposed, answer.pick), (440_100, None, None));
    assert_eq!(shares(&answer.candidates), [("suikang", 1.0), ("yuekang", 0.0)]);
    for candidate in &answer.candidates {
        assert!(!candidate.rule.is_empty(), "{candidate:?}");
        let steps = [candidate.base_share, candidate.shifted_share, candidate.clamped_share];
        assert_eq!(steps, [candidate.share; 3]);
    }
}

#[tokio::test]
async fn a_subject_is_told_its_node_and_reason() {
    let gateway = Gateway::start().await;
    let asked = v1::ExplainRouteRequest {
        subject: vec![7; 16].into(),
        ..suppose(440_100, [Change::NodeDown("suikang".to_owned())])
    };
    let answer = gateway.explain(asked).await.unwrap();
    let told = |pick: Option<v1::Pick>| pick.map(|pick| (pick.node, pick.tier, pick.reason)).unwrap();
    assert_eq!(answer.subject_node, "suikang");
    assert_eq!(told(answer.pick), ("suikang".to_owned(), 0, "primary".to_owned()));
    assert_eq!(told(answer.supposed.unwrap().pick), ("yuekang".to_owned(), 1, "failover".to_owned()));
}

#[tokio::test]
async fn what_is_supposed_changes_nothing() {
    let gateway = Gateway::start().await;
    let before = gateway.operator.snapshots.current();
    let supposed = async |changes: Vec<Change>| {
        let answer = gateway.explain(suppose(440_100, changes)).await.unwrap();
        assert_eq!(shares(&answer.candidates), [("suikang", 1.0), ("yuekang", 0.0)]);
        answer.supposed.unwrap()
    };
    let city = || "suikang".to_owned();
    let down = supposed(vec![Change::NodeDown(city())]).await;
    assert_eq!(shares(&down.candidates), [("suikang", 0.0), ("yuekang", 1.0)]);
    assert_eq!(down.candidates[0].reason, "unhealthy");
    let drained = supposed(vec![Change::Drain(city())]).await;
    assert_eq!(shares(&drained.candidates), [("suikang", 0.0), ("yuekang", 1.0)]);
    assert_eq!(drained.candidates[0].reason, "drained");
    let both = supposed(vec![Change::Drain(city()), Change::Drain("yuekang".to_owned())]).await;
    assert_eq!((shares(&both.candidates), both.shed), (vec![("suikang", 0.0), ("yuekang", 0.0)], 1.0));
    let after = gateway.operator.snapshots.current();
    assert!(Arc::ptr_eq(&before, &after), "{} {}", before.generation, after.generation);
}

#[tokio::test]
async fn a_shift_is_supposed_at_its_full_percentage() {
    let gateway = Gateway::start().await;
    let answer = gateway.explain(suppose(440_100, [shift(|s| s.percent = 30.0)])).await.unwrap();
    let supposed = answer.supposed.unwrap();
    let steps: Vec<_> = supposed
        .candidates
        .iter()
        .map(|c| [c.base_share, c.shifted_share, c.clamped_share, c.share])
        .collect();
    let expected = [[1.0, 0.7, 0.7, 0.7], [0.0, 0.3, 0.3, 0.3]];
    for (steps, expected) in steps.iter().flatten().zip(expected.as_flattened()) {
        assert!((steps - expected).abs() < 1e-9, "{supposed:?}");
    }
    assert_eq!(supposed.candidates[1].reason, "shift");
    // Of another class nothing moves; of another region neither.
    let of_sync = shift(|s| s.classes = vec![v1::Class::Sync.into()]);
    let other = gateway.explain(suppose(440_100, [of_sync])).await.unwrap();
    assert_eq!(other.candidates, other.supposed.unwrap().candidates);
}

#[tokio::test]
async fn what_does_not_concern_a_region_leaves_its_route_as_it_is() {
    let gateway = Gateway::start().await;
    let answer = gateway.explain(suppose(440_100, [Change::NodeDown("xian".to_owned())])).await.unwrap();
    assert_eq!(answer.candidates, answer.supposed.unwrap().candidates);
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_the_field() {
    let gateway = Gateway::start().await;
    let check = async |change: Change, field: &str| {
        let answer = gateway.explain(suppose(440_100, [change])).await;
        refused(answer, Reason::WhatIfInvalid, &[("field", field)]);
    };
    check(Change::NodeDown("nobody".to_owned()), "what_if[0].node_down").await;
    check(Change::Drain("nobody".to_owned()), "what_if[0].drain").await;
    check(shift(|s| s.from = "nobody".to_owned()), "what_if[0].shift.from").await;
    check(shift(|s| s.from = "xian".to_owned()), "what_if[0].shift.from").await;
    check(shift(|s| s.to.clear()), "what_if[0].shift.to").await;
    check(shift(|s| s.to[0].target = "xian".to_owned()), "what_if[0].shift.to[0].target").await;
    check(shift(|s| s.to[0].target = "suikang".to_owned()), "what_if[0].shift.to[0].target").await;
    check(shift(|s| s.to.push(s.to[0].clone())), "what_if[0].shift.to[1].target").await;
    check(shift(|s| s.to[0].weight = f64::NAN), "what_if[0].shift.to[0].weight").await;
    check(shift(|s| s.classes = vec![0]), "what_if[0].shift.classes[0]").await;
    for percent in [0.0, -1.0, 100.1, f64::NAN] {
        check(shift(|s| s.percent = percent), "what_if[0].shift.percent").await;
    }
    for region in [440_106, 999_999, 371_200] {
        check(shift(|s| s.region = region), "what_if[0].shift.region").await;
    }
    let nothing = v1::ExplainRouteRequest { what_if: vec![v1::WhatIf { change: None }], ..scan(440_100) };
    refused(gateway.explain(nothing).await, Reason::WhatIfInvalid, &[("field", "what_if[0]")]);
    let many = suppose(440_100, vec![Change::Drain("suikang".to_owned()); 17]);
    refused(gateway.explain(many).await, Reason::WhatIfInvalid, &[("field", "what_if")]);
}

#[tokio::test]
async fn an_older_plan_is_explained_while_it_is_kept() {
    let gateway = Gateway::start().await;
    let generation = gateway.operator.snapshots.current().generation;
    // Another split each time: only what sends calls elsewhere is another plan.
    let policy = |n: u32| {
        let weight = |node: &str, weight| v1::Weight { node: node.to_owned(), weight };
        let weights = vec![weight("suikang", f64::from(n)), weight("yuekang", 100.0)];
        let policy = Some(v1::RegionPolicy { weights, ..Default::default() });
        v1::SetRegionPolicyRequest { region: 440_100, policy, ..Default::default() }
    };
    let mut revision = 0;
    for n in 1..=64 {
        let asked = v1::SetRegionPolicyRequest { expected_revision: revision, ..policy(n) };
        revision = gateway.set(asked).await.unwrap().policy_revision;
        gateway.until(|snapshot| snapshot.table.revision >= revision).await;
        let old = v1::ExplainRouteRequest { plan: generation, ..scan(440_100) };
        let kept = gateway.explain(old).await;
        if n < 64 {
            assert_eq!(kept.unwrap().table.unwrap().plan, generation);
        } else {
            let (oldest, newest) = (generation + 1, gateway.operator.snapshots.current().generation);
            let details = [("oldest", oldest.to_string()), ("newest", newest.to_string())];
            refused(
                kept,
                Reason::PlanNotKept,
                &details.each_ref().map(|(key, value)| (*key, value.as_str())),
            );
        }
    }
    let future = v1::ExplainRouteRequest { plan: u64::MAX, ..scan(440_100) };
    refused(gateway.explain(future).await, Reason::PlanNotKept, &[]);
}

#[tokio::test]
async fn a_region_that_nobody_serves_has_no_route() {
    let gateway = Gateway::start().await;
    refused(gateway.explain(scan(110_000)).await, Reason::RegionNotJoined, &[]);
}
