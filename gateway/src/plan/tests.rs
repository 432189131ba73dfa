use super::*;
use crate::table::{NothingHealthy, Role};
use std::time::Duration;
use world::{GUANGDONG, GUANGZHOU, NOW, SHAOGUAN, World, a_shift, code};

mod capacity;
mod picks;
mod properties;
mod shifts;
mod world;

/// A route in one line: `node percent reason` for each candidate.
fn line(route: &Route) -> String {
    let percent = |share: f64| (share * 1000.0).round() / 10.0;
    let of = |c: &Candidate| format!("{} {} {}", c.node, percent(c.share), c.reason);
    route.candidates.iter().map(of).collect::<Vec<_>>().join(", ")
}

/// The route of Guangzhou.
#[track_caller]
fn check(world: &World, class: Class, expected: &str) {
    assert_eq!(line(&world.route(GUANGZHOU, class)), expected);
}

/// The rules of a candidate of Guangzhou, the limiting ones behind it.
#[track_caller]
fn says(world: &World, class: Class, node: &str, expected: &str) {
    let route = world.route(GUANGZHOU, class);
    let c = route.candidates.iter().find(|c| *c.node == *node).unwrap();
    let rules = std::iter::once(&c.rule).chain(&c.limits).map(Rule::to_string);
    assert_eq!(rules.collect::<Vec<_>>().join("; "), expected);
}

use Class::{Query, Scan, Show, Sync};

#[test]
fn the_first_tier_takes_all_and_peers_are_asked_for_named_classes_only() {
    let world = World::new();
    check(&world, Scan, "suikang 100 primary, yuekang 0 standby, xian 0 standby");
    check(&world, Show, "suikang 100 primary, yuekang 0 standby, xian 0 not_named");
    says(&world, Show, "suikang", "in the first tier that has anyone");
    says(&world, Show, "yuekang", "others carry everything");
    says(&world, Show, "xian", "a peer that the policy does not name for show");
}

#[test]
fn a_province_is_tier_zero_for_its_own_code_and_tier_one_for_its_cities() {
    let world = World::new();
    let tiers = |region| world.route(region, Show).candidates.iter().map(|c| c.tier).collect::<Vec<_>>();
    assert_eq!(tiers(GUANGDONG), [0]);
    assert_eq!(tiers(SHAOGUAN), [1]);
    assert_eq!(tiers(GUANGZHOU), [0, 1, 2]);
    assert_eq!(line(&world.route(SHAOGUAN, Show)), "yuekang 100 primary");
}

#[test]
fn a_node_outside_city_and_province_is_no_candidate() {
    let world = World::new().join("shaoguan", Role::City, &[SHAOGUAN, GUANGZHOU]).join(
        "shaanxi",
        Role::Province,
        &[610_000, GUANGZHOU],
    );
    check(&world, Show, "suikang 100 primary, yuekang 0 standby, xian 0 not_named");
    assert_eq!(line(&world.route(SHAOGUAN, Show)), "shaoguan 100 primary, yuekang 0 standby");
    // A city node of the province's code is not the province.
    let world = World::new().node("yuekang", |n| n.role = Role::City);
    check(&world, Show, "suikang 100 primary, xian 0 not_named");
}

#[test]
fn a_peer_that_is_a_candidate_anyway_or_not_there_is_not_listed_twice() {
    let world = World::new().policy(|p| {
        p.peers = vec![
            ("yuekang".into(), vec![Scan]),
            ("nobody".into(), vec![Scan]),
            ("xian".into(), vec![Show]),
            ("xian".into(), vec![Query]),
        ];
    });
    check(&world, Query, "suikang 100 primary, yuekang 0 standby, xian 0 standby");
    check(&world, Scan, "suikang 100 primary, yuekang 0 standby, xian 0 not_named");
}

#[test]
fn who_is_out_says_why() {
    let world = World::new().drain("suikang");
    check(&world, Show, "suikang 0 drained, yuekang 100 failover, xian 0 not_named");
    says(&world, Show, "suikang", "drained by an operator");
    says(&world, Show, "yuekang", "nobody in an earlier tier can answer");
    for (stage, word) in [(Stage::Test, "TEST"), (Stage::Suspended, "SUSPENDED")] {
        let world = World::new().stage("suikang", stage);
        check(&world, Show, "suikang 0 suspended, yuekang 100 failover, xian 0 not_named");
        says(&world, Show, "suikang", &format!("its stage is {word}"));
    }
    let world = World::new().signal("suikang", |s| s.ready.clear());
    check(&world, Show, "suikang 0 not_ready, yuekang 100 failover, xian 0 not_named");
    says(&world, Show, "suikang", "not ready: it has not loaded the region's holders");
    let world = World::new().health("suikang", 0.0);
    check(&world, Scan, "suikang 0 unhealthy, yuekang 100 failover, xian 0 standby");
    says(&world, Show, "suikang", "no endpoint in rotation");
    // A drained peer says so whatever it is named for, and so does a node nothing is known of.
    let world = World::new().drain("xian");
    check(&world, Show, "suikang 100 primary, yuekang 0 standby, xian 0 drained");
    let mut world = World::new().stage("xian", Stage::Test);
    world.signals.nodes.remove("suikang");
    check(&world, Show, "suikang 0 not_ready, yuekang 100 failover, xian 0 suspended");
}

#[test]
fn a_peer_must_be_ready_for_its_own_region() {
    let world = World::new().health("suikang", 0.0).health("yuekang", 0.0);
    check(&world, Scan, "suikang 0 unhealthy, yuekang 0 unhealthy, xian 100 failover");
    let world = world.signal("xian", |s| s.ready = [(code(GUANGZHOU), NOW)].into());
    check(&world, Query, "suikang 0 unhealthy, yuekang 0 unhealthy, xian 0 not_named");
    assert_eq!(world.route(GUANGZHOU, Scan).candidates[2].reason, Reason::NotReady);
}

#[test]
fn old_data_are_out_while_fresher_ones_can_be_had() {
    let world = World::new().lag("suikang", 75);
    check(&world, Scan, "suikang 0 stale, yuekang 100 failover, xian 0 standby");
    says(&world, Scan, "suikang", "data lag 75 s over the limit of 60 s while yuekang is fresher");
    // The limit is the class's, or the policy's.
    check(&world, Show, "suikang 100 primary, yuekang 0 standby, xian 0 not_named");
    check(&World::new().lag("suikang", 60), Scan, "suikang 100 primary, yuekang 0 standby, xian 0 standby");
    let show = |lag| World::new().lag("suikang", lag).route(GUANGZHOU, Show).candidates[0].reason;
    assert_eq!([show(300), show(301)], [Reason::Primary, Reason::Stale]);
    let query = |lag| World::new().lag("suikang", lag).route(GUANGZHOU, Query).candidates[0].reason;
    assert_eq!([query(86_400), query(86_401)], [Reason::Primary, Reason::Stale]);
    check(
        &World::new().lag("suikang", 1_000_000),
        Sync,
        "suikang 100 primary, yuekang 0 standby, xian 0 not_named",
    );
    let strict = world.clone().policy(|p| p.max_lag[Show.index()] = Some(Duration::from_secs(74)));
    check(&strict, Show, "suikang 0 stale, yuekang 100 failover, xian 0 not_named");
}

#[test]
fn nobodys_data_grow_old_while_the_registry_is_away() {
    // Suikang said 40 s ago where it stands, yuekang 5 s ago; then the registry went.
    let mut world = World::new().lag("suikang", 40).lag("yuekang", 5);
    (world.wall_ms, world.silent_ms) = (NOW + 600_000, 600_000);
    check(&world, Scan, "suikang 100 primary, yuekang 0 standby, xian 0 standby");
    world.silent_ms = 570_000;
    check(&world, Scan, "suikang 0 stale, yuekang 100 failover, xian 0 standby");
}

#[test]
fn old_data_are_better_than_none_than_a_trial_and_than_a_returning_node() {
    let old = "suikang 100 primary, yuekang 0 standby, xian 0 standby";
    let world = World::new().lag("suikang", 75);
    check(&world.clone().lag("yuekang", 61), Scan, old);
    check(&world.clone().health("yuekang", 0.0), Scan, &old.replace("0 standby, x", "0 unhealthy, x"));
    check(&world.clone().stage("yuekang", Stage::Canary(5)), Scan, old);
    check(&world.clone().ramp("yuekang", 0.5), Scan, old);
    // Who does not say how old its data are is neither fresh nor old.
    check(&world.signal("yuekang", |s| s.ready.insert(code(GUANGZHOU), 0).map_or((), drop)), Scan, old);
    let silent = World::new().signal("suikang", |s| s.ready.insert(code(GUANGZHOU), 0).map_or((), drop));
    check(&silent, Scan, old);
    // Who is out anyway stays out for its own reason.
    check(
        &World::new().lag("suikang", 75).drain("suikang"),
        Scan,
        "suikang 0 drained, yuekang 100 failover, xian 0 standby",
    );
    // A peer knows nothing of the region: its data are of another one.
    let peer = World::new().lag("suikang", 75).lag("yuekang", 75);
    check(&peer, Scan, old);
    let stale_peer = World::new().signal("xian", |s| s.ready.values_mut().for_each(|at| *at = NOW - 75_000));
    check(&stale_peer, Scan, old);
}

#[test]
fn who_was_out_for_its_lag_comes_back_at_four_fifths_of_the_limit() {
    let mut world = World::new().lag("suikang", 61);
    world.previous = Previous { plans: Arc::new(world.plan()) };
    for (lag, reason) in [(59, Reason::Stale), (49, Reason::Stale), (48, Reason::Primary)] {
        let world = world.clone().lag("suikang", lag);
        assert_eq!(world.route(GUANGZHOU, Scan).candidates[0].reason, reason, "{lag}");
    }
    assert_eq!(world.clone().lag("suikang", 59).route(GUANGZHOU, Show).candidates[0].reason, Reason::Primary);
    // Another one that was out does not count.
    let world = world.lag("suikang", 0).lag("yuekang", 59);
    check(&world, Scan, "suikang 100 primary, yuekang 0 standby, xian 0 standby");
}

#[test]
fn a_tier_without_declared_capacity_takes_what_its_health_allows() {
    check(
        &World::new().health("suikang", 0.5),
        Scan,
        "suikang 70 primary, yuekang 30 failover, xian 0 standby",
    );
    says(&World::new().health("suikang", 0.5), Scan, "yuekang", "earlier tiers take only 70 %");
    check(
        &World::new().health("suikang", 0.8),
        Scan,
        "suikang 100 primary, yuekang 0 standby, xian 0 standby",
    );
    let world = World::new().health("suikang", 0.5).health("yuekang", 0.1);
    check(&world, Scan, "suikang 70 primary, yuekang 14 failover, xian 16 failover");
    // Nobody else is there: what the two can is scaled up.
    let world = world.health("xian", 0.0);
    check(&world, Scan, "suikang 83.3 primary, yuekang 16.7 failover, xian 0 unhealthy");
}

#[test]
fn siblings_share_by_capacity_health_and_ramp() {
    let world = World::new().join("suikang-2", Role::City, &[GUANGZHOU]);
    let two = |world: &World| {
        let route = world.route(GUANGZHOU, Show);
        let shares = route.candidates.iter().map(|c| (c.share * 1000.0).round() / 10.0);
        shares.take(3).collect::<Vec<_>>()
    };
    assert_eq!(two(&world), [50.0, 50.0, 0.0]);
    let declared = world.clone().rps_max("suikang", 300).rps_max("suikang-2", 100);
    assert_eq!(two(&declared), [75.0, 25.0, 0.0]);
    assert_eq!(two(&declared.clone().health("suikang", 0.5)), [60.0, 40.0, 0.0]);
    assert_eq!(two(&declared.clone().ramp("suikang-2", 0.2)), [93.8, 6.3, 0.0]);
    // One says nothing: it counts as an average sibling does. 0 is nothing.
    let third = declared.clone().join("suikang-3", Role::City, &[GUANGZHOU]);
    assert_eq!(two(&third), [50.0, 16.7, 33.3]);
    assert_eq!(two(&world.clone().rps_max("suikang", 300)), [50.0, 50.0, 0.0]);
    assert_eq!(two(&world.clone().rps_max("suikang", 300).rps_max("suikang-2", 0)), [50.0, 50.0, 0.0]);
    // One dead of two: seven tenths of what they carry; drained: its sibling was meant to carry all.
    assert_eq!(two(&world.clone().health("suikang", 0.0)), [0.0, 70.0, 30.0]);
    assert_eq!(two(&world.clone().signal("suikang", |s| s.ready.clear())), [0.0, 70.0, 30.0]);
    assert_eq!(two(&world.clone().drain("suikang")), [0.0, 100.0, 0.0]);
    assert_eq!(two(&world.clone().stage("suikang", Stage::Test)), [0.0, 100.0, 0.0]);
    // It comes back: the tier's share grows from where it was.
    assert_eq!(two(&world.clone().ramp("suikang", 0.02)), [1.4, 69.2, 29.4]);
    assert_eq!(two(&world.ramp("suikang", 0.5)), [28.3, 56.7, 15.0]);
}

#[test]
fn declared_capacity_leaves_bad_health_to_caps_but_not_a_return() {
    let world = World::new().rps_max("suikang", 1000);
    check(
        &world.clone().health("suikang", 0.3),
        Show,
        "suikang 100 primary, yuekang 0 standby, xian 0 not_named",
    );
    check(&world.ramp("suikang", 0.3), Show, "suikang 30 primary, yuekang 70 failover, xian 0 not_named");
}

#[test]
fn a_returning_node_takes_its_share_back_step_by_step_if_others_can_carry_it() {
    let world = World::new().ramp("suikang", 0.25);
    check(&world, Show, "suikang 25 primary, yuekang 75 failover, xian 0 not_named");
    says(&world, Show, "suikang", "in the first tier that has anyone; returning, at 25 % of its share");
    check(
        &World::new().ramp("suikang", 0.0),
        Show,
        "suikang 2 primary, yuekang 98 failover, xian 0 not_named",
    );
    check(
        &world.clone().health("yuekang", 0.0),
        Show,
        "suikang 100 primary, yuekang 0 unhealthy, xian 0 not_named",
    );
    // Ramps are relative to the furthest one.
    let both = world.ramp("yuekang", 0.5);
    check(&both, Show, "suikang 50 primary, yuekang 50 failover, xian 0 not_named");
    says(&both, Show, "suikang", "in the first tier that has anyone; returning, at 50 % of its share");
    // All return at once: there is nobody to carry the calls meanwhile, and the tiers keep their order.
    let all = both.ramp("suikang", 0.5);
    check(&all, Show, "suikang 100 primary, yuekang 0 standby, xian 0 not_named");
    says(&all, Show, "suikang", "in the first tier that has anyone");
    let weighed = all.ramp("xian", 0.5).weights(&[("suikang", 3.0), ("yuekang", 1.0)]);
    check(&weighed, Show, "suikang 75 policy, yuekang 25 policy, xian 0 not_named");
}

#[test]
fn numbers_that_are_none_count_as_nothing() {
    let world = World::new().health("suikang", f64::NAN);
    check(&world, Show, "suikang 0 unhealthy, yuekang 100 failover, xian 0 not_named");
    let world = World::new().ramp("suikang", f64::NAN).health("yuekang", 7.0);
    check(&world, Show, "suikang 2 primary, yuekang 98 failover, xian 0 not_named");
}

#[test]
fn a_policy_may_give_weights_across_tiers() {
    let half = World::new().weights(&[("suikang", 1.0), ("yuekang", 1.0), ("nobody", 5.0)]);
    check(&half, Scan, "suikang 50 policy, yuekang 50 policy, xian 0 standby");
    says(&half, Scan, "yuekang", "the policy gives it the weight 1");
    check(
        &half.clone().weights(&[("suikang", 3.0), ("yuekang", 1.0)]),
        Scan,
        "suikang 75 policy, yuekang 25 policy, xian 0 standby",
    );
    check(
        &half.clone().health("suikang", 0.0),
        Scan,
        "suikang 0 unhealthy, yuekang 100 policy, xian 0 standby",
    );
    check(&half.clone().drain("yuekang"), Scan, "suikang 100 policy, yuekang 0 drained, xian 0 standby");
    // Without declared capacity a half sick node gives way; with one its cap decides.
    check(
        &half.clone().health("suikang", 0.5),
        Scan,
        "suikang 41.2 policy, yuekang 58.8 policy, xian 0 standby",
    );
    let declared = half.clone().health("suikang", 0.5).rps_max("suikang", 100);
    check(&declared, Scan, "suikang 50 policy, yuekang 50 policy, xian 0 standby");
    check(&half.clone().ramp("suikang", 0.25), Scan, "suikang 20 policy, yuekang 80 policy, xian 0 standby");
    // Nobody who has a weight is there: the tiers decide.
    let peer = World::new().weights(&[("xian", 1.0), ("yuekang", -2.0), ("suikang", f64::INFINITY)]);
    check(&peer, Scan, "suikang 0 standby, yuekang 0 standby, xian 100 policy");
    check(&peer, Show, "suikang 100 primary, yuekang 0 standby, xian 0 not_named");
    let twice = World::new().weights(&[("suikang", 1.0), ("yuekang", 2.0), ("suikang", 1.0)]);
    check(&twice, Show, "suikang 50 policy, yuekang 50 policy, xian 0 not_named");
}

#[test]
fn a_canary_gets_its_percentage_at_most() {
    for percent in [1, 5, 25] {
        let world = World::new().stage("suikang", Stage::Canary(percent));
        let expected =
            format!("suikang {percent} primary, yuekang {} failover, xian 0 not_named", 100 - percent);
        check(&world, Show, &expected);
        let rules = format!("in the first tier that has anyone; canary cap {percent} %");
        says(&world, Show, "suikang", &rules);
    }
    let two = World::new().join("suikang-2", Role::City, &[GUANGZHOU]).stage("suikang-2", Stage::Canary(25));
    check(&two, Show, "suikang 75 primary, suikang-2 25 primary, yuekang 0 standby, xian 0 not_named");
    // It would get less than its cap: nothing limits it.
    let small = two.clone().rps_max("suikang", 900).rps_max("suikang-2", 100);
    check(&small, Show, "suikang 90 primary, suikang-2 10 primary, yuekang 0 standby, xian 0 not_named");
    says(&small, Show, "suikang-2", "in the first tier that has anyone");
    // What the tier leaves to others is not changed by who is on trial in it.
    let sick = two.clone().health("suikang", 0.25).health("suikang-2", 0.75);
    check(&sick, Show, "suikang 45 primary, suikang-2 25 primary, yuekang 30 failover, xian 0 not_named");
    // Both on trial.
    let both = two.stage("suikang", Stage::Canary(5));
    check(&both, Show, "suikang 5 primary, suikang-2 25 primary, yuekang 70 failover, xian 0 not_named");
}

#[test]
fn a_canary_alone_serves_all_and_one_with_a_weight_keeps_its_cap() {
    let alone = World::new().stage("suikang", Stage::Canary(5)).health("yuekang", 0.0);
    check(&alone, Show, "suikang 100 primary, yuekang 0 unhealthy, xian 0 not_named");
    says(
        &alone,
        Show,
        "suikang",
        "in the first tier that has anyone; canary cap 5 % not kept: nobody else is there",
    );
    let other = alone.stage("yuekang", Stage::Canary(25));
    says(&other, Show, "yuekang", "no endpoint in rotation");
    let both = World::new().stage("suikang", Stage::Canary(5)).stage("yuekang", Stage::Canary(25));
    check(&both, Show, "suikang 16.7 primary, yuekang 83.3 failover, xian 0 not_named");
    check(&both, Scan, "suikang 5 primary, yuekang 25 failover, xian 70 failover");
    let half = World::new().weights(&[("suikang", 1.0), ("yuekang", 1.0)]).stage("suikang", Stage::Canary(5));
    check(&half, Scan, "suikang 5 policy, yuekang 95 policy, xian 0 standby");
    says(&half, Scan, "suikang", "the policy gives it the weight 1; canary cap 5 %");
    let less =
        World::new().weights(&[("suikang", 1.0), ("yuekang", 9.0)]).stage("suikang", Stage::Canary(25));
    check(&less, Scan, "suikang 10 policy, yuekang 90 policy, xian 0 standby");
    // All who have a weight are on trial: the tiers take the rest.
    let rest = half.clone().weights(&[("suikang", 1.0)]);
    check(&rest, Scan, "suikang 5 policy, yuekang 95 failover, xian 0 standby");
    check(&half.health("yuekang", 0.0), Scan, "suikang 5 policy, yuekang 0 unhealthy, xian 95 failover");
}

#[test]
fn nobody_healthy_is_decided_by_class() {
    let none = World::new().health("suikang", 0.0).health("yuekang", 0.0).health("xian", 0.0);
    check(&none, Scan, "suikang 33.3 fail_open, yuekang 33.3 fail_open, xian 33.3 fail_open");
    says(&none, Scan, "xian", "nobody is healthy, and this class is tried all the same");
    check(&none, Show, "suikang 50 fail_open, yuekang 50 fail_open, xian 0 not_named");
    for class in [Query, Sync] {
        check(&none, class, "suikang 0 unhealthy, yuekang 0 unhealthy, xian 0 not_named");
        let route = none.route(GUANGZHOU, class);
        assert_eq!((route.shed, route.pick(7)), (1.0, None));
    }
    assert!((none.route(GUANGZHOU, Scan).shed).abs() < f64::EPSILON);
    let set =
        |scan, query| none.clone().policy(|p| p.nothing_healthy = [Some(scan), None, Some(query), None]);
    let world = set(NothingHealthy::SpreadOwn, NothingHealthy::SpreadAll);
    check(&world, Scan, "suikang 50 fail_open, yuekang 50 fail_open, xian 0 unhealthy");
    check(&world, Query, "suikang 50 fail_open, yuekang 50 fail_open, xian 0 not_named");
    let world = set(NothingHealthy::Closed, NothingHealthy::Closed);
    check(&world, Scan, "suikang 0 unhealthy, yuekang 0 unhealthy, xian 0 unhealthy");
    // By declared capacity; not to who has no holders, and never to the drained.
    let world = none.clone().rps_max("suikang", 300).rps_max("yuekang", 100).drain("xian");
    check(&world, Scan, "suikang 75 fail_open, yuekang 25 fail_open, xian 0 drained");
    let world = none.drain("suikang").signal("yuekang", |s| s.ready.clear());
    check(&world, Show, "suikang 0 drained, yuekang 0 not_ready, xian 0 not_named");
    assert_eq!(world.shift("suikang", &[("yuekang", 1.0)], 50.0).route(GUANGZHOU, Show).moves, []);
}

#[test]
fn a_shift_moves_a_part_of_its_source_to_its_targets() {
    let world = World::new().shift("suikang", &[("yuekang", 3.0), ("xian", 1.0)], 20.0);
    check(&world, Scan, "suikang 80 primary, yuekang 15 shift, xian 5 shift");
    says(&world, Scan, "suikang", "in the first tier that has anyone; shift s1 moves 20 % of it away");
    says(&world, Scan, "yuekang", "shift s1 moves calls to it");
    // xian is not there for show: its part stays.
    check(&world, Show, "suikang 85 primary, yuekang 15 shift, xian 0 not_named");
    let steps: Vec<_> = world.route(GUANGZHOU, Scan).candidates.iter().map(|c| (c.base, c.shifted)).collect();
    assert_eq!(steps[0], (1.0, 0.8));
    check(
        &World::new().shift("suikang", &[("yuekang", 1.0)], 100.0),
        Scan,
        "suikang 0 primary, yuekang 100 shift, xian 0 standby",
    );
    let half = World::new().weights(&[("suikang", 1.0), ("yuekang", 1.0)]).shift(
        "suikang",
        &[("yuekang", 1.0)],
        10.0,
    );
    check(&half, Scan, "suikang 45 policy, yuekang 55 policy, xian 0 standby");
    // Another region, another class, a node that has nothing, a weight that is none, itself.
    let still = "suikang 100 primary, yuekang 0 standby, xian 0 standby";
    check(&World::new().order(|s| s.region = code(SHAOGUAN)), Scan, still);
    check(&World::new().order(|s| s.classes = vec![Show]), Scan, still);
    check(&World::new().order(|s| s.from = "xian".into()), Scan, still);
    check(&World::new().shift("suikang", &[("yuekang", 0.0), ("xian", f64::NAN)], 10.0), Scan, still);
    check(&World::new().shift("suikang", &[("suikang", 1.0)], 10.0), Scan, still);
    let beside_itself = World::new().shift("suikang", &[("suikang", 1.0), ("yuekang", 1.0)], 10.0);
    check(&beside_itself, Scan, "suikang 90 primary, yuekang 10 shift, xian 0 standby");
    check(
        &World::new().order(|s| s.classes = vec![Show, Scan]),
        Scan,
        "suikang 50 primary, yuekang 50 shift, xian 0 standby",
    );
}

#[test]
fn a_shift_asks_its_targets_for_no_more_than_they_may_take() {
    let world = World::new().shift("suikang", &[("yuekang", 1.0)], 50.0);
    check(&world.clone().ramp("yuekang", 0.1), Show, "suikang 95 primary, yuekang 5 shift, xian 0 not_named");
    check(
        &world.clone().stage("yuekang", Stage::Canary(25)),
        Show,
        "suikang 75 primary, yuekang 25 shift, xian 0 not_named",
    );
    let alone = world.clone().health("yuekang", 0.0);
    check(&alone, Show, "suikang 100 primary, yuekang 0 unhealthy, xian 0 not_named");
    says(&alone, Show, "suikang", "in the first tier that has anyone");
    check(&world.clone().drain("yuekang"), Show, "suikang 100 primary, yuekang 0 drained, xian 0 not_named");
    // One shift a source: the first id counts. Two sources are two shifts.
    let second = world.clone().shift("suikang", &[("xian", 1.0)], 50.0);
    check(&second, Scan, "suikang 50 primary, yuekang 50 shift, xian 0 standby");
    // One that has not begun is in nobody's way.
    let later = World::new().order(|s| s.start_ms = NOW + 1).shift("suikang", &[("xian", 1.0)], 50.0);
    check(&later, Scan, "suikang 50 primary, yuekang 0 standby, xian 50 shift");
    let half = World::new().weights(&[("suikang", 1.0), ("yuekang", 1.0)]);
    let cross = half.shift("suikang", &[("xian", 1.0)], 20.0).shift("yuekang", &[("xian", 1.0)], 40.0);
    check(&cross, Scan, "suikang 40 policy, yuekang 30 policy, xian 30 shift");
    let canary = cross.stage("xian", Stage::Canary(25));
    check(&canary, Scan, "suikang 40 policy, yuekang 35 policy, xian 25 shift");
    // The first that moves calls to it is the one that is named.
    says(&canary, Scan, "xian", "shift s1 moves calls to it");
}
