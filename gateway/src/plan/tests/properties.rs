//! What holds of every plan.

use super::{
    super::{Candidate, Move, MoveKind, Plans, Reason, Rule, sane},
    world::{GUANGDONG, GUANGZHOU, NOW, SHAOGUAN, World, code},
};
use crate::table::{Role, Stage};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};
use std::{collections::BTreeMap, sync::Arc};
use suiyue_proto::method::Class;

const NAMES: [&str; 5] = ["suikang", "suikang-2", "yuekang", "shaoguan", "xian"];
const REGIONS: [u32; 3] = [GUANGDONG, GUANGZHOU, SHAOGUAN];

/// At least 10,000 cases; fewer only where each change to the code is tried in turn.
fn config() -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    Config { cases: cases.unwrap_or(10_000), failure_persistence: None, ..Config::default() }
}

#[derive(Debug, Clone)]
struct Someone {
    rps_max: Option<u32>,
    health: f64,
    ramp: f64,
    drained: bool,
    stage: Stage,
    ready: bool,
    lag_s: i64,
    own_use: f64,
}

fn someone() -> impl Strategy<Value = Someone> {
    let rps_max = prop_oneof![1 => Just(None), 4 => (1..1000u32).prop_map(Some)];
    let health = prop_oneof![1 => Just(0.0), 1 => 0.0..1.0f64, 6 => Just(1.0)];
    let ramp = prop_oneof![1 => 0.0..1.0f64, 4 => Just(1.0)];
    let stage = prop_oneof![
        20 => Just(Stage::Active),
        1 => Just(Stage::Test),
        1 => Just(Stage::Canary(5)),
        1 => Just(Stage::Canary(25)),
    ];
    let lag_s = prop_oneof![3 => Just(0), 1 => 0..120i64];
    let parts = (rps_max, health, ramp, prop::bool::weighted(0.08), stage, prop::bool::weighted(0.95));
    (parts, lag_s, 0.0..1000.0f64).prop_map(|(parts, lag_s, own_use)| {
        let (rps_max, health, ramp, drained, stage, ready) = parts;
        Someone { rps_max, health, ramp, drained, stage, ready, lag_s, own_use }
    })
}

/// Source, targets with weights, percent.
type Order = (usize, Vec<(usize, f64)>, f64);

fn order() -> impl Strategy<Value = Option<Order>> {
    // From Guangzhou's first two candidates, mostly: others seldom have anything to give.
    let from = prop_oneof![2 => Just(0usize), 1 => 1..3usize];
    let order = (from, prop::collection::vec((0..5usize, 0.1..2.0f64), 1..3), 0.0..=100.0f64);
    prop_oneof![1 => Just(None), 5 => order.prop_map(Some)]
}

prop_compose! {
    fn worlds()(
        nodes in prop::array::uniform5(someone()),
        by_region in prop::array::uniform3(-200.0..600.0f64),
        by_class in prop::array::uniform4(-0.2..1.0f64),
        order in order(),
        weights in prop::option::weighted(0.3, prop::array::uniform3(0.0..2.0f64)),
        gateways in 1..4u32,
    ) -> World {
        let mut world = World::new()
            .join("suikang-2", Role::City, &[GUANGZHOU])
            .join("shaoguan", Role::City, &[SHAOGUAN])
            // Its own region would only take time here.
            .node("xian", |n| n.scopes.clear())
            .policy(|p| p.peers = vec![("xian".into(), vec![Class::Scan, Class::Show])]);
        for (name, someone) in NAMES.iter().zip(nodes) {
            world = configure(world, name, &someone);
        }
        for (region, rps) in REGIONS.iter().zip(by_region) {
            world.signals.demand.insert(code(*region), by_class.map(|part| sane(rps) * sane(part)));
        }
        if let Some((from, to, percent)) = order {
            let to: Vec<_> = to.iter().map(|&(i, weight)| (NAMES[i], weight)).collect();
            world = world.shift(NAMES[from], &to, percent);
        }
        if let Some([a, b, c]) = weights {
            world = world.weights(&[("suikang", a), ("yuekang", b), ("xian", c)]);
        }
        world.signals.gateways = gateways;
        world
    }
}

fn configure(world: World, name: &str, someone: &Someone) -> World {
    let world = world.node(name, |n| {
        n.rps_max = someone.rps_max;
        n.intent.drained = someone.drained;
        n.intent.stage = someone.stage;
    });
    world.signal(name, |s| {
        (s.health, s.ramp, s.own_use) = (someone.health, someone.ramp, someone.own_use);
        s.ready.values_mut().for_each(|at| *at = NOW - someone.lag_s * 1000);
        if !someone.ready {
            s.ready.clear();
        }
    })
}

fn all(plans: &Plans) -> impl Iterator<Item = (u32, Class, &super::Route)> {
    plans.regions.iter().flat_map(|(code, routes)| {
        Class::ALL.into_iter().zip(routes).map(|(class, route)| (code.get(), class, route))
    })
}

/// A node's cap as `routing.md` has it, without ceilings, and without its ramp: a ramp is a preference.
fn cap(world: &World, node: &str) -> Option<f64> {
    let declared = f64::from(world.table.nodes[node].rps_max?);
    let s = &world.signals.nodes[node];
    let whole = declared * s.health;
    Some((1.25 * s.own_use).max(whole / f64::from(world.signals.gateways)).min(whole))
}

/// Calls a second of each node by all regions, of this class and higher ones.
fn used(plans: &Plans) -> [BTreeMap<Arc<str>, f64>; 4] {
    let mut used: [BTreeMap<Arc<str>, f64>; 4] = Default::default();
    for (_, class, route) in all(plans) {
        for c in &route.candidates {
            for by_class in used.iter_mut().skip(class.index()) {
                *by_class.entry(c.node.clone()).or_default() += c.rps;
            }
        }
    }
    used
}

#[test]
fn the_mix_of_cases_is_what_the_properties_need() {
    let mut runner = TestRunner::deterministic();
    let mut seen = [0u32; 4];
    for _ in 0..2_000 {
        let world = worlds().new_tree(&mut runner).unwrap().current();
        let plans = world.plan();
        let scan = &plans.regions[&code(GUANGZHOU)][0];
        let tier = |tier| scan.candidates.iter().any(|c| c.tier == tier && c.usable());
        let limits = |rule: fn(&Rule) -> bool| {
            all(&plans).any(|(_, _, r)| r.candidates.iter().any(|c| c.limits.iter().any(rule)))
        };
        let mix = [
            tier(0) && tier(1) && tier(2),
            scan.moves.iter().any(|m| m.kind == MoveKind::Shift),
            all(&plans).any(|(_, _, r)| r.candidates.iter().any(|c| c.reason == Reason::Drained)),
            limits(|rule| matches!(rule, Rule::CapReached(_))),
        ];
        seen.iter_mut().zip(mix).for_each(|(n, yes)| *n += u32::from(yes));
    }
    println!("of 2,000: three tiers, a shift, a drain, caps below demand: {seen:?}");
    assert!(seen.iter().all(|&n| n >= 400), "{seen:?}");
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn shares_and_shed_add_up_to_one_and_caps_shed_nothing(world in worlds()) {
        for (region, class, route) in all(&world.plan()) {
            let sum: f64 = route.candidates.iter().map(|c| c.share).sum();
            prop_assert!((sum + route.shed - 1.0).abs() < 1e-9, "{region} {class}: {route:?}");
            prop_assert!(route.candidates.iter().all(|c| (0.0..=1.0 + 1e-9).contains(&c.share)));
            prop_assert!(route.shed == 0.0 || route.shed == 1.0);
            if route.candidates.iter().any(Candidate::usable) {
                prop_assert!(route.shed == 0.0, "{region} {class}: {route:?}");
            }
            for c in &route.candidates {
                prop_assert!(c.share == 0.0 || c.usable(), "{region} {class}: {c:?}");
            }
        }
    }

    #[test]
    fn the_drained_get_nothing(world in worlds(), keys: [u64; 8]) {
        for (_, _, route) in all(&world.plan()) {
            for (i, c) in route.candidates.iter().enumerate() {
                if world.table.nodes[&c.node].intent.drained {
                    prop_assert_eq!([c.share, c.base, c.shifted, c.clamped, c.rps], [0.0; 5]);
                    for key in keys {
                        prop_assert!(route.pick(key).is_none_or(|pick| pick.candidate != i));
                    }
                }
            }
        }
    }

    #[test]
    fn no_cap_is_exceeded_while_another_candidate_has_room(world in worlds()) {
        let plans = world.plan();
        let used = used(&plans);
        for (region, class, route) in all(&plans) {
            let demand = world.signals.demand[&code(region)][class.index()];
            let ceiling = |c: &Candidate| world.table.nodes[&c.node].ceilings[class.index()];
            let room = |c: &Candidate, cap: f64| ceiling(c) * cap - used[class.index()][&c.node];
            for c in route.candidates.iter().filter(|c| c.rps > 1e-6 && c.reason != Reason::FailOpen) {
                let Some(full) = cap(&world, &c.node) else { continue };
                for other in route.candidates.iter().filter(|o| o.usable() && o.node != c.node) {
                    let Some(other_full) = cap(&world, &other.node) else { continue };
                    if let Stage::Canary(percent) = other.stage
                        && other.share > f64::from(percent) / 100.0 - 1e-6
                    {
                        continue;
                    }
                    prop_assert!(
                        room(c, full) > -1e-6 || room(other, other_full) < 1e-6,
                        "{region} {class} {demand}: {c:?} {other:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn raising_a_shift_only_adds_subjects(world in worlds(), keys: [u64; 16]) {
        let at = |percent: f64| {
            let mut world = world.clone();
            world.signals.demand.clear();
            for shift in &mut world.table.shifts {
                *shift = Arc::new(crate::table::Shift { percent, ..(**shift).clone() });
            }
            world.plan()
        };
        let (tenth, fifth) = (at(10.0), at(20.0));
        for ((_, _, tenth), (_, _, fifth)) in all(&tenth).zip(all(&fifth)) {
            for key in keys {
                let (before, after) = (tenth.pick(key), fifth.pick(key));
                prop_assert!(
                    before == after || after.is_some_and(|pick| pick.reason == Reason::Shift),
                    "{before:?} {after:?}"
                );
                if let Some(before) = before.filter(|pick| pick.reason == Reason::Shift) {
                    prop_assert!(after.is_some_and(|after| after.reason == before.reason));
                }
            }
        }
    }

    #[test]
    fn a_plan_is_a_function_of_its_arguments(world in worlds()) {
        let plans = world.plan();
        prop_assert_eq!(&plans, &world.plan());
        let mut turned = world.clone();
        turned.table.shifts.reverse();
        turned.table.nodes = world.table.nodes.iter().rev().map(|(k, v)| (k.clone(), v.clone())).collect();
        for policy in turned.table.policies.values_mut() {
            policy.peers.reverse();
            policy.weights.reverse();
        }
        prop_assert_eq!(&plans, &turned.plan());
    }

    #[test]
    fn a_class_never_gets_less_because_a_lower_one_is_busy(
        world in worlds(), class in 0..3usize, factor in 0.0..5.0f64,
    ) {
        let plans = world.plan();
        let mut busy = world.clone();
        for by_class in busy.signals.demand.values_mut() {
            by_class[class + 1..].iter_mut().for_each(|rps| *rps = sane(*rps * factor));
        }
        for ((_, of, before), (_, _, after)) in all(&plans).zip(all(&busy.plan())) {
            if of.index() <= class {
                prop_assert_eq!(before, after);
            }
        }
    }

    #[test]
    fn the_moves_lead_from_base_shares_to_final_ones(world in worlds()) {
        for (region, class, route) in all(&world.plan()) {
            let mut shares: Vec<f64> = route.candidates.iter().map(|c| c.base).collect();
            for kind in [MoveKind::Shift, MoveKind::Overflow] {
                let before = shares.clone();
                for Move { from, to, fraction, .. } in route.moves.iter().filter(|m| m.kind == kind) {
                    prop_assert!(from != to && *fraction > 0.0);
                    shares[*from] -= before[*from] * fraction;
                    shares[*to] += before[*from] * fraction;
                }
                for (c, share) in route.candidates.iter().zip(&shares) {
                    let expected = if kind == MoveKind::Shift { c.shifted } else { c.share };
                    prop_assert!((share - expected).abs() < 1e-9, "{region} {class} {c:?} {share}");
                }
            }
        }
    }

    #[test]
    fn a_canary_keeps_its_cap_while_another_candidate_is_there(world in worlds()) {
        for (region, class, route) in all(&world.plan()) {
            let steady = |c: &&Candidate| c.usable() && !matches!(c.stage, Stage::Canary(_));
            if !route.candidates.iter().any(|c| steady(&c)) {
                continue;
            }
            for c in route.candidates.iter().filter(|c| c.reason != Reason::FailOpen) {
                if let Stage::Canary(percent) = c.stage {
                    prop_assert!(c.share <= f64::from(percent) / 100.0 + 1e-9, "{region} {class} {c:?}");
                }
            }
        }
    }
}

#[test]
fn picks_follow_the_shares_of_any_world() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..32 {
        let world = worlds().new_tree(&mut runner).unwrap().current();
        let route = world.route(GUANGZHOU, Class::Scan);
        let mut seen = vec![0.0; route.candidates.len()];
        for key in 0..20_000u64 {
            if let Some(pick) = route.pick(super::super::mix(key)) {
                seen[pick.candidate] += 1.0 / 20_000.0;
            }
        }
        for (seen, c) in seen.iter().zip(&route.candidates) {
            assert!((seen - c.share).abs() < 0.015, "{seen} {c:?}");
        }
    }
}
