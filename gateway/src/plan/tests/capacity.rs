//! Caps, ceilings and overflow.

use super::{
    super::{MoveKind, Reason},
    check, line, says,
    world::{GUANGDONG, GUANGZHOU, SHAOGUAN, World, XIAN},
};
use crate::table::{Role, Stage};
use suiyue_proto::method::Class::{Query, Scan, Show, Sync};

/// Declared capacities: suikang 100, yuekang 1,000, xian 1,000 calls a second. All of it is ours.
fn world() -> World {
    let world = World::new().rps_max("suikang", 100).rps_max("yuekang", 1000).rps_max("xian", 1000);
    ["suikang", "yuekang", "xian"]
        .into_iter()
        .fold(world, |world, name| world.signal(name, |s| s.own_use = 9999.0))
}

#[test]
fn what_is_over_a_cap_goes_to_the_next_tier() {
    let world = world().demand(GUANGZHOU, Scan, 200.0);
    check(&world, Scan, "suikang 50 primary, yuekang 50 overflow, xian 0 standby");
    says(
        &world,
        Scan,
        "suikang",
        "in the first tier that has anyone; cap of 100 calls/s at this gateway reached",
    );
    says(&world, Scan, "yuekang", "suikang is at its cap");
    let route = world.route(GUANGZHOU, Scan);
    let steps: Vec<_> = route.candidates.iter().map(|c| [c.base, c.shifted, c.clamped, c.share]).collect();
    assert_eq!(steps, [[1.0, 1.0, 0.5, 0.5], [0.0, 0.0, 0.0, 0.5], [0.0; 4]]);
    let rates: Vec<_> = route.candidates.iter().map(|c| (c.rps, c.cap, c.capacity, c.declared)).collect();
    let thousand = Some(1000.0);
    assert_eq!(rates[0], (100.0, Some(100.0), Some(100.0), Some(100.0)));
    assert_eq!(rates[1], (100.0, thousand, thousand, thousand));
    let [overflow] = &route.moves[..] else { panic!("{:?}", route.moves) };
    assert_eq!(
        (overflow.kind, overflow.from, overflow.to, overflow.fraction),
        (MoveKind::Overflow, 0, 1, 0.5)
    );
    // At the cap is not over it, and without demand no cap binds.
    let at = world.clone().demand(GUANGZHOU, Scan, 100.0);
    check(&at, Scan, "suikang 100 primary, yuekang 0 standby, xian 0 standby");
    says(&at, Scan, "suikang", "in the first tier that has anyone");
    for none in [0.0, -5.0, f64::NAN, f64::INFINITY] {
        check(
            &world.clone().demand(GUANGZHOU, Scan, none),
            Scan,
            "suikang 100 primary, yuekang 0 standby, xian 0 standby",
        );
    }
}

#[test]
fn a_cap_is_own_use_and_a_quarter_between_a_fair_part_and_the_whole() {
    let cap = |gateways, own_use, health, ramp| {
        let mut world = world().demand(GUANGZHOU, Scan, 10.0).signal("suikang", |s| {
            (s.own_use, s.health, s.ramp) = (own_use, health, ramp);
        });
        world.signals.gateways = gateways;
        world.route(GUANGZHOU, Scan).candidates[0].cap.unwrap()
    };
    assert_eq!(
        [0.0, 16.0, 40.0, 80.0, 9999.0, f64::NAN].map(|own| cap(4, own, 1.0, 1.0)),
        [25.0, 25.0, 50.0, 100.0, 100.0, 25.0]
    );
    assert_eq!([0, 1, 2].map(|gateways| cap(gateways, 0.0, 1.0, 1.0)), [100.0, 100.0, 50.0]);
    assert_eq!([cap(4, 9999.0, 0.5, 1.0), cap(4, 0.0, 0.5, 1.0), cap(1, 0.0, 1.0, 0.25)], [50.0, 12.5, 25.0]);
    let half = world().health("suikang", 0.5).ramp("suikang", 0.25);
    assert_eq!(half.route(GUANGZHOU, Scan).candidates[0].capacity, Some(12.5));
    // The ceiling of the class is part of it; who declares nothing has none.
    let world = world().demand(GUANGZHOU, Sync, 10.0);
    assert_eq!(world.route(GUANGZHOU, Sync).candidates[0].cap, Some(50.0));
    let silent = world.node("suikang", |n| n.rps_max = None);
    assert_eq!(silent.route(GUANGZHOU, Sync).candidates[0].cap, None);
}

#[test]
fn a_node_on_probation_is_not_filled_up_where_others_have_no_room() {
    let world = world().rps_max("yuekang", 100).ramp("suikang", 0.1).demand(GUANGZHOU, Scan, 200.0);
    let world = world.node("xian", |n| n.rps_max = None);
    let share = |world: &World| world.route(GUANGZHOU, Scan).candidates[0].share;
    assert!((share(&world) - 0.5).abs() < 1e-9, "returning: {}", share(&world));
    let world = world.signal("suikang", |s| s.probing = true);
    assert!(share(&world) <= 0.1 + 1e-9, "half-open: {}", share(&world));
}

#[test]
fn siblings_come_first_then_later_tiers_in_their_order() {
    let world = world().join("suikang-2", Role::City, &[GUANGZHOU]).rps_max("suikang-2", 100);
    let world = world.weights(&[("suikang", 1.0)]).demand(GUANGZHOU, Scan, 180.0);
    let shares = |world: &World| {
        let route = world.route(GUANGZHOU, Scan);
        route.candidates.iter().map(|c| c.rps.round()).collect::<Vec<_>>()
    };
    assert_eq!(shares(&world), [100.0, 80.0, 0.0, 0.0]);
    assert_eq!(shares(&world.clone().demand(GUANGZHOU, Scan, 1190.0)), [100.0, 100.0, 990.0, 0.0]);
    assert_eq!(shares(&world.clone().demand(GUANGZHOU, Scan, 1500.0)), [100.0, 100.0, 1000.0, 300.0]);
    // Two of one tier take by their room.
    let third = world.join("suikang-3", Role::City, &[GUANGZHOU]).rps_max("suikang-3", 300);
    assert_eq!(shares(&third), [100.0, 20.0, 60.0, 0.0, 0.0]);
}

#[test]
fn caps_alone_never_shed() {
    let world = world().demand(GUANGZHOU, Scan, 4200.0);
    let route = world.route(GUANGZHOU, Scan);
    assert_eq!(route.candidates.iter().map(|c| c.rps.round()).collect::<Vec<_>>(), [2200.0, 1000.0, 1000.0]);
    assert!(route.shed.abs() < f64::EPSILON);
    says(
        &world,
        Scan,
        "suikang",
        "in the first tier that has anyone; cap of 100 calls/s at this gateway reached; over its cap: nobody else has room",
    );
}

#[test]
fn a_node_without_declared_capacity_is_never_cut_and_is_no_room() {
    let world = world().node("yuekang", |n| n.rps_max = None).demand(GUANGZHOU, Scan, 200.0);
    check(&world, Scan, "suikang 50 primary, yuekang 0 standby, xian 50 overflow");
    check(
        &world.demand(GUANGZHOU, Show, 200.0),
        Show,
        "suikang 100 primary, yuekang 0 standby, xian 0 not_named",
    );
}

#[test]
fn higher_classes_fill_first_and_lower_ones_stop_at_their_ceilings() {
    let world = World::new().rps_max("suikang", 100);
    let rates = |world: &World, class| {
        world
            .route(GUANGZHOU, class)
            .candidates
            .iter()
            .map(|c| c.clamped * 100.0)
            .map(f64::round)
            .collect::<Vec<_>>()
    };
    let world =
        [Scan, Show, Query, Sync].into_iter().fold(world, |world, c| world.demand(GUANGZHOU, c, 100.0));
    assert_eq!(rates(&world, Scan)[0], 100.0);
    assert_eq!([Show, Query, Sync].map(|class| rates(&world, class)[0]), [0.0; 3]);
    let world = world.demand(GUANGZHOU, Scan, 40.0);
    assert_eq!([Scan, Show, Query, Sync].map(|class| rates(&world, class)[0]), [100.0, 50.0, 0.0, 0.0]);
    let world = world.demand(GUANGZHOU, Show, 0.0);
    assert_eq!([Query, Sync].map(|class| rates(&world, class)[0]), [30.0, 0.0]);
    let world = world.demand(GUANGZHOU, Scan, 20.0).demand(GUANGZHOU, Query, 0.0);
    assert_eq!(rates(&world, Sync)[0], 30.0);
    // A node may let a lower class go higher: what nobody could take counts against it.
    let other = World::new().node("suikang", |n| (n.rps_max, n.ceilings) = (Some(100), [0.5, 0.9, 0.7, 0.5]));
    let other = other.demand(GUANGZHOU, Scan, 80.0).demand(GUANGZHOU, Show, 20.0);
    assert_eq!((rates(&other, Scan)[0], rates(&other, Show)[0]), (63.0, 50.0));
    // What a class keeps over its ceiling because nobody has room, lower classes see, too.
    let world = world.demand(GUANGZHOU, Scan, 0.0).demand(GUANGZHOU, Query, 900.0);
    assert_eq!(rates(&world, Sync)[0], 0.0);
}

#[test]
fn a_province_fills_up_with_the_overflow_of_all_its_cities_alike() {
    let world = world()
        .join("shaoguan", Role::City, &[SHAOGUAN])
        .rps_max("shaoguan", 100)
        .node("yuekang", |n| n.rps_max = Some(300))
        .demand(GUANGDONG, Scan, 100.0)
        .demand(GUANGZHOU, Scan, 200.0)
        .demand(SHAOGUAN, Scan, 400.0)
        .policy(|p| p.peers.clear());
    let rps = |region| {
        let route = world.route(region, Scan);
        route.candidates.iter().map(|c| c.rps.round()).collect::<Vec<_>>()
    };
    assert_eq!(rps(GUANGDONG), [100.0]);
    // 200 are left for wishes of 100 and 200 (all the room there is): a half each of 100 + 200 × 2/3.
    assert_eq!(rps(GUANGZHOU), [133.0, 67.0]);
    assert_eq!(rps(SHAOGUAN), [267.0, 133.0]);
}

#[test]
fn calls_of_all_regions_are_cut_by_the_same_factor() {
    let world = world().node("yuekang", |n| n.rps_max = Some(150)).demand(GUANGDONG, Scan, 100.0);
    let world = world.demand(SHAOGUAN, Scan, 200.0);
    for region in [GUANGDONG, SHAOGUAN] {
        let route = world.route(region, Scan);
        assert_eq!(route.candidates[0].clamped, 0.5);
        assert_eq!(line(&route), "yuekang 100 primary");
    }
    // It is at its cap, but not with calls of Guangzhou.
    says(&world.demand(GUANGZHOU, Scan, 10.0), Scan, "yuekang", "others carry everything");
}

#[test]
fn regions_that_have_somewhere_else_to_go_make_room_for_those_that_have_not() {
    // Guangzhou's calls are at yuekang, and could be at xian; Shaoguan's can be nowhere else.
    let world = world().weights(&[("yuekang", 1.0)]).node("yuekang", |n| n.rps_max = Some(150));
    let world = world.drain("suikang").demand(GUANGZHOU, Scan, 150.0);
    let at = |shaoguan: f64| {
        let world = world.clone().demand(SHAOGUAN, Scan, shaoguan);
        let [city, other] = [GUANGZHOU, SHAOGUAN].map(|region| world.route(region, Scan));
        let rounded = |c: &super::Candidate| c.rps.round();
        (city.candidates[1..].iter().map(rounded).collect::<Vec<_>>(), rounded(&other.candidates[0]))
    };
    assert_eq!(at(0.0), (vec![150.0, 0.0], 0.0));
    assert_eq!(at(50.0), (vec![100.0, 50.0], 50.0));
    assert_eq!(at(120.0), (vec![30.0, 120.0], 120.0));
    assert_eq!(at(500.0), (vec![0.0, 150.0], 500.0));
    let small = world.clone().node("xian", |n| n.rps_max = Some(60)).demand(SHAOGUAN, Scan, 120.0);
    let [city, other] = [GUANGZHOU, SHAOGUAN].map(|region| small.route(region, Scan));
    assert_eq!(
        [&city.candidates[1], &city.candidates[2], &other.candidates[0]].map(|c| c.rps.round()),
        [90.0, 60.0, 120.0]
    );
    assert_eq!(line(&other), "yuekang 100 primary");
}

#[test]
fn overflow_of_a_shift_goes_back_to_its_source_last() {
    let world =
        world().node("yuekang", |n| n.rps_max = Some(100)).node("suikang", |n| n.rps_max = Some(1000));
    let world = world.demand(GUANGZHOU, Scan, 1000.0).shift("suikang", &[("yuekang", 1.0)], 50.0);
    check(&world, Scan, "suikang 50 primary, yuekang 10 shift, xian 40 overflow");
    check(
        &world.demand(GUANGZHOU, Show, 300.0),
        Show,
        "suikang 100 primary, yuekang 0 shift, xian 0 not_named",
    );
    // A source of the same tier is last, too.
    let siblings =
        super::capacity::world().join("suikang-2", Role::City, &[GUANGZHOU]).rps_max("suikang-2", 10);
    let siblings = siblings.weights(&[("suikang", 1.0)]).demand(GUANGZHOU, Scan, 100.0);
    let siblings = siblings.shift("suikang", &[("suikang-2", 1.0)], 50.0);
    check(
        &siblings,
        Scan,
        "suikang 50 primary, suikang-2 10 shift, yuekang 40 overflow, xian 0 standby"
            .replace("suikang 50 primary", "suikang 50 policy")
            .as_str(),
    );
}

#[test]
fn a_later_tier_gives_back_to_an_earlier_one_that_has_room() {
    let world = world().weights(&[("xian", 1.0)]).node("xian", |n| n.rps_max = Some(100));
    let world = world.demand(GUANGZHOU, Scan, 400.0);
    check(&world, Scan, "suikang 25 overflow, yuekang 50 overflow, xian 25 policy");
}

#[test]
fn siblings_come_before_later_tiers_and_those_before_earlier_ones() {
    let world = world().node("suikang", |n| n.rps_max = Some(1000));
    let rates = |world: &World| {
        let route = world.route(GUANGZHOU, Scan);
        route.candidates.iter().map(|c| c.rps.round()).collect::<Vec<_>>()
    };
    let province = world.clone().join("yuekang-2", Role::Province, &[GUANGDONG, GUANGZHOU]);
    let province = province.node("yuekang", |n| n.rps_max = Some(100)).rps_max("yuekang-2", 50);
    let province = province.node("xian", |n| n.rps_max = Some(60)).weights(&[("yuekang", 1.0)]);
    assert_eq!(rates(&province.demand(GUANGZHOU, Scan, 300.0)), [90.0, 100.0, 50.0, 60.0]);
    let peer = world.join("xian-2", Role::City, &[XIAN]).rps_max("xian-2", 50);
    let peer = peer.node("xian", |n| n.rps_max = Some(100)).weights(&[("xian", 1.0)]);
    let peer = peer.policy(|p| p.peers.push(("xian-2".into(), vec![Scan])));
    assert_eq!(rates(&peer.demand(GUANGZHOU, Scan, 300.0)), [150.0, 0.0, 100.0, 50.0]);
}

#[test]
fn a_ramp_gives_way_before_a_node_is_filled_over_its_cap() {
    let world = world().ramp("yuekang", 0.02).demand(GUANGZHOU, Show, 190.0);
    // 90 may go to suikang, 20 × 0.9 to yuekang while it ramps; nobody else is there for the rest.
    let route = world.route(GUANGZHOU, Show);
    assert_eq!(route.candidates.iter().map(|c| c.rps.round()).collect::<Vec<_>>(), [90.0, 100.0, 0.0]);
    // One that returns takes more itself before anybody is filled over a cap.
    let alone = world.clone().health("yuekang", 0.0).ramp("suikang", 0.5).demand(GUANGZHOU, Show, 80.0);
    let route = alone.route(GUANGZHOU, Show);
    assert_eq!((route.candidates[0].rps.round(), route.candidates[0].clamped * 80.0), (80.0, 45.0));
    assert_eq!(route.moves, []);
    assert!(!route.candidates[0].limits.contains(&super::super::Rule::NobodyHasRoom));
    // Others are asked first.
    let both = world.ramp("yuekang", 1.0).ramp("suikang", 0.5).weights(&[("suikang", 1.0)]);
    let route = both.demand(GUANGZHOU, Show, 80.0).route(GUANGZHOU, Show);
    assert_eq!(route.candidates.iter().map(|c| c.rps.round()).collect::<Vec<_>>(), [45.0, 35.0, 0.0]);
}

#[test]
fn overflow_keeps_to_the_cap_of_a_canary() {
    let world = world().stage("yuekang", Stage::Canary(25)).demand(GUANGZHOU, Scan, 400.0);
    check(&world, Scan, "suikang 25 primary, yuekang 25 overflow, xian 50 overflow");
    check(
        &world.demand(GUANGZHOU, Show, 400.0),
        Show,
        "suikang 75 primary, yuekang 25 overflow, xian 0 not_named",
    );
    // Two who overflow share what it may take.
    let two = self::world().join("suikang-2", Role::City, &[GUANGZHOU]).rps_max("suikang-2", 100);
    let two = two.stage("yuekang", Stage::Canary(25)).demand(GUANGZHOU, Scan, 400.0);
    check(&two, Scan, "suikang 25 primary, suikang-2 25 primary, yuekang 25 overflow, xian 25 overflow");
}

#[test]
fn who_is_out_takes_no_overflow_and_fail_open_knows_no_caps() {
    for out in [
        world().drain("yuekang"),
        world().health("yuekang", 0.0),
        world().lag("yuekang", 75),
        world().stage("yuekang", Stage::Suspended),
    ] {
        let route = out.demand(GUANGZHOU, Scan, 200.0).route(GUANGZHOU, Scan);
        assert_eq!([route.candidates[1].share, route.candidates[2].share], [0.0, 0.5]);
    }
    let none = world().health("suikang", 0.0).health("yuekang", 0.0).health("xian", 0.0);
    let route = none.demand(GUANGZHOU, Show, 9999.0).route(GUANGZHOU, Show);
    assert_eq!((route.moves.len(), route.candidates[0].reason), (0, Reason::FailOpen));
}
