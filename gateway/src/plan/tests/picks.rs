//! Which subjects go where, and which of them move.

use super::{
    super::{Pick, Reason, Route, mix, pick::unit},
    world::{GUANGZHOU, World},
};
use crate::subject;
use std::collections::BTreeMap;
use suiyue_proto::method::Class::Scan;

/// Picks of 20,000 fixed subjects.
fn picks(route: &Route) -> Vec<Pick> {
    (0..20_000u32).map(|n| route.pick(subject::Key::default().of(&n.to_be_bytes())).unwrap()).collect()
}

/// Fraction of the picks by node.
fn fractions(route: &Route) -> BTreeMap<String, f64> {
    let mut seen = BTreeMap::new();
    for pick in picks(route) {
        *seen.entry(route.candidates[pick.candidate].node.to_string()).or_default() += 1.0 / 20_000.0;
    }
    seen
}

#[test]
fn half_and_half_holds_within_a_point_over_fixed_subjects() {
    let route = World::new().weights(&[("suikang", 1.0), ("yuekang", 1.0)]).route(GUANGZHOU, Scan);
    let seen = fractions(&route);
    assert_eq!(seen.len(), 2);
    println!("{seen:?}");
    for (node, fraction) in seen {
        assert!((fraction - 0.5).abs() < 0.01, "{node}: {fraction}");
    }
}

#[test]
fn picks_follow_the_shares_through_shift_and_overflow_and_say_why() {
    let world = World::new()
        .weights(&[("suikang", 5.0), ("yuekang", 4.0), ("xian", 1.0)])
        .rps_max("suikang", 200)
        .rps_max("xian", 1000)
        .shift("suikang", &[("yuekang", 3.0), ("xian", 1.0)], 40.0)
        .demand(GUANGZHOU, Scan, 1000.0);
    let route = world.route(GUANGZHOU, Scan);
    let seen = fractions(&route);
    for c in &route.candidates {
        assert!((seen[&*c.node] - c.share).abs() < 0.01, "{seen:?} {c:?}");
    }
    let mut why: BTreeMap<(usize, Reason), f64> = BTreeMap::new();
    for pick in picks(&route) {
        *why.entry((pick.candidate, pick.reason)).or_default() += 1.0 / 20_000.0;
    }
    let expected = [
        ((0, Reason::Policy), 0.2),
        ((1, Reason::Policy), 0.4),
        ((1, Reason::Shift), 0.15),
        ((2, Reason::Policy), 0.1),
        ((2, Reason::Shift), 0.05),
        ((2, Reason::Overflow), 0.1),
    ];
    assert!(why.keys().eq(expected.iter().map(|(key, _)| key)), "{why:?}");
    for (key, fraction) in expected {
        assert!((why[&key] - fraction).abs() < 0.01, "{why:?}");
    }
}

#[test]
fn raising_a_shift_from_a_tenth_to_a_fifth_moves_a_tenth_and_nobody_else() {
    let at = |percent| {
        let world = World::new().shift("suikang", &[("yuekang", 2.0), ("xian", 1.0)], percent);
        picks(&world.route(GUANGZHOU, Scan))
    };
    let (none, tenth, fifth) = (at(0.0), at(10.0), at(20.0));
    let changed = |a: &[Pick], b: &[Pick]| a.iter().zip(b).filter(|(a, b)| a != b).count();
    for (before, after) in [(&none, &tenth), (&tenth, &fifth)] {
        let moved = changed(before, after);
        assert!((1_800..=2_200).contains(&moved), "{moved} of 20,000");
        for (before, after) in before.iter().zip(after).filter(|(before, after)| before != after) {
            assert_eq!((before.reason, after.reason), (Reason::Primary, Reason::Shift));
        }
    }
}

#[test]
fn a_lower_cap_moves_only_what_is_over_it() {
    let at = |rps| {
        let world = World::new().rps_max("suikang", rps).rps_max("yuekang", 9999);
        picks(&world.demand(GUANGZHOU, Scan, 1000.0).route(GUANGZHOU, Scan))
    };
    let (high, low) = (at(900), at(800));
    let moved: Vec<_> = high.iter().zip(&low).filter(|(a, b)| a != b).collect();
    assert!((1_800..=2_200).contains(&moved.len()), "{} of 20,000", moved.len());
    assert!(moved.iter().all(|(a, b)| (a.reason, b.reason) == (Reason::Primary, Reason::Overflow)));
}

#[test]
fn a_lost_node_moves_its_own_subjects_only() {
    let world = World::new().weights(&[("suikang", 1.0), ("yuekang", 1.0), ("xian", 1.0)]);
    let before = picks(&world.route(GUANGZHOU, Scan));
    let after = picks(&world.drain("xian").route(GUANGZHOU, Scan));
    assert!(before.iter().zip(&after).all(|(a, b)| a.candidate == 2 || a == b));
}

#[test]
fn every_gateway_of_every_version_picks_the_same() {
    let world = World::new()
        .weights(&[("suikang", 5.0), ("yuekang", 4.0), ("xian", 1.0)])
        .rps_max("suikang", 200)
        .rps_max("yuekang", 300)
        .rps_max("xian", 1000)
        .shift("suikang", &[("yuekang", 3.0), ("xian", 1.0)], 40.0)
        .demand(GUANGZHOU, Scan, 1000.0);
    let picks = picks(&world.route(GUANGZHOU, Scan));
    let sum = picks.iter().fold(0, |sum, pick| mix(sum ^ pick.candidate as u64));
    // A change of this number moves every subject of the federation once: change it on purpose only.
    assert_eq!(sum, 12_330_406_967_354_177_704);
}

#[test]
fn of_equal_scores_the_first_wins_at_every_gateway() {
    let world = World::new().weights(&[("suikang", 1.0), ("yuekang", 1.0), ("xian", 1.0)]);
    let alike = |route: &mut Route| route.candidates.iter_mut().for_each(|c| c.hash = 7);
    let mut route = world.route(GUANGZHOU, Scan);
    alike(&mut route);
    assert!(picks(&route).iter().all(|pick| pick.candidate == 0));
    let shift = World::new().shift("suikang", &[("xian", 1.0), ("yuekang", 1.0)], 100.0);
    let mut route = shift.route(GUANGZHOU, Scan);
    alike(&mut route);
    assert!(picks(&route).iter().all(|pick| (pick.candidate, pick.reason) == (1, Reason::Shift)));
}

#[test]
fn a_fraction_is_never_zero_and_never_one() {
    assert!(unit(0) > 0.0 && unit(0) < 1e-15);
    assert!(unit(u64::MAX) < 1.0 && unit(u64::MAX) > 1.0 - 1e-15);
}

#[test]
fn the_mixer_is_the_published_one() {
    // Of splitmix64 with the seed 0, whose outputs are published: 0xe220a8397b1dcdaf is the first.
    assert_eq!(mix(0x9e37_79b9_7f4a_7c15), 0xe220_a839_7b1d_cdaf);
    assert_eq!(mix(0x3c6e_f372_fe94_f82a), 0x6e78_9e6a_a1b9_65f4);
}
