//! A route with a city of two endpoints, its province and a peer, and what is chosen of it.

use super::*;
use crate::{
    control::demand::Demand,
    health::tests::{put, vitals},
    plan::{Candidate, Route, Rule as PlanRule, node_hash},
    retry::budget::Budget,
};

/// Endpoints of the city, the province, the peer.
const CITY: [usize; 2] = [0, 1];
const PROVINCE: usize = 2;
const PEER: usize = 3;

#[test]
fn a_node_is_not_to_blame_for_requests_that_it_calls_malformed() {
    let blamed = |reason| blame(&http2::Error::reset_by_peer(reason));
    assert_eq!(blamed(http2::Reason::PROTOCOL_ERROR), Outcome::Soft);
    assert_eq!(blamed(http2::Reason::INTERNAL_ERROR), Outcome::Own);
    assert_eq!(blamed(http2::Reason::CANCEL), Outcome::Own);
}

fn candidate(node: &str, tier: u8, share: f64, reason: PlanReason) -> Candidate {
    Candidate {
        node: node.into(),
        tier,
        share,
        reason,
        rule: PlanRule::OthersCarry,
        limits: Vec::new(),
        health: 1.0,
        ramp: 1.0,
        stage: crate::table::Stage::Active,
        as_of_ms: 0,
        declared: None,
        capacity: None,
        cap: None,
        rps: 0.0,
        base: share,
        shifted: share,
        clamped: share,
        hash: node_hash(node),
    }
}

fn target(node: &str, tier: u8, reason: PlanReason, slots: &[usize]) -> Target {
    Target {
        node: node.into(),
        tier,
        reason,
        endpoints: slots.iter().map(|&slot| vitals(slot, node)).collect(),
        budget: Arc::new(Budget::new(2)),
    }
}

/// The city takes all; `reason` is why it, `other` why the others do not.
fn resolved(reason: PlanReason, other: PlanReason) -> Resolved {
    let share = if reason == PlanReason::Unhealthy { 0.0 } else { 1.0 };
    let candidates = vec![
        candidate("city", 0, share, reason),
        candidate("province", 1, 0.0, other),
        candidate("peer", 2, 0.0, other),
    ];
    let targets = vec![
        target("city", 0, reason, &CITY),
        target("province", 1, other, &[PROVINCE]),
        target("peer", 2, other, &[PEER]),
    ];
    let route = Route { candidates, ..Route::default() };
    Resolved { route, targets, demand: Arc::new(Demand::new(2)), in_flight_max: None }
}

impl Resolved {
    fn put(&self, slot: usize, state: State) {
        let mut all = self.targets.iter().flat_map(|target| &target.endpoints);
        put(all.find(|vitals| vitals.slot == slot).unwrap(), state);
    }
}

struct Wanted {
    tried: Tried,
    scope: Scope,
    last_resort: bool,
    access: Access,
}

const FIRST: Wanted = Wanted {
    tried: Tried { places: [(0, 0); MAX_ATTEMPTS as usize], len: 0 },
    scope: Scope::Anywhere,
    last_resort: false,
    access: Access::Public,
};

/// Chooses with many dice; expects these slots and no others, always with this reason and number.
#[track_caller]
fn check(resolved: &Resolved, wanted: &Wanted, expected: &[usize], reason: AnswerReason, planned: bool) {
    let mut seen = std::collections::BTreeSet::new();
    for random in 0..64 {
        let ask = Ask {
            access: wanted.access,
            key: random,
            tried: &wanted.tried,
            scope: wanted.scope,
            last_resort: wanted.last_resort,
        };
        let dice = Dice { random: crate::plan::mix(random), now: Instant::now(), worker: 0 };
        let Some(chosen) = choose(resolved, &ask, dice) else { continue };
        assert_eq!((chosen.reason, chosen.planned), (reason, planned), "slot {}", chosen.vitals.slot);
        seen.insert(chosen.vitals.slot);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
}

fn tried(resolved: &Resolved, slots: &[usize]) -> Tried {
    let mut tried = Tried::default();
    for target in &resolved.targets {
        for vitals in target.endpoints.iter().filter(|vitals| slots.contains(&vitals.slot)) {
            tried.push(Chosen { target, vitals, reason: AnswerReason::Primary, planned: true });
        }
    }
    tried
}

#[test]
fn attempt_one_is_the_plans_own_pick_at_any_fit_endpoint() {
    use AnswerReason::{Failover, Primary};
    let resolved = resolved(PlanReason::Primary, PlanReason::Standby);
    check(&resolved, &FIRST, &CITY, Primary, true);
    resolved.put(0, State::Suspect);
    check(&resolved, &FIRST, &[1], Primary, true);
    resolved.put(1, State::Ejected);
    check(&resolved, &FIRST, &[PROVINCE], Failover, false);
    resolved.put(PROVINCE, State::Suspect);
    check(&resolved, &FIRST, &[PEER], Failover, false);
    // Nobody is in rotation: the pick's own suspect first.
    resolved.put(PEER, State::Suspect);
    check(&resolved, &FIRST, &[0], Primary, true);
    resolved.put(0, State::Ejected);
    check(&resolved, &FIRST, &[PROVINCE], Failover, false);
}

#[test]
fn where_the_plan_fails_open_its_pick_is_called_however_unfit() {
    let resolved = resolved(PlanReason::FailOpen, PlanReason::FailOpen);
    for slot in [0, 1, PROVINCE, PEER] {
        resolved.put(slot, State::Ejected);
    }
    check(&resolved, &FIRST, &CITY, AnswerReason::FailOpen, true);
    resolved.put(0, State::Suspect);
    check(&resolved, &FIRST, &[0], AnswerReason::FailOpen, true);
}

#[test]
fn retries_go_elsewhere_and_as_far_as_they_must() {
    let resolved = resolved(PlanReason::Primary, PlanReason::Standby);
    let at = |slots: &[usize], scope| Wanted { tried: tried(&resolved, slots), scope, ..FIRST };
    let retry = AnswerReason::Retry;
    check(&resolved, &at(&[0], Scope::Anywhere), &[1], retry, false);
    check(&resolved, &at(&[0, 1], Scope::Anywhere), &[PROVINCE], retry, false);
    check(&resolved, &at(&[0], Scope::OtherTier), &[PROVINCE], retry, false);
    check(&resolved, &at(&[0, PROVINCE], Scope::OtherTier), &[PEER], retry, false);
    resolved.put(PROVINCE, State::Suspect);
    check(&resolved, &at(&[0], Scope::OtherTierWithRoom), &[PEER], retry, false);
}

#[test]
fn only_a_move_takes_an_ejected_endpoint_for_want_of_any_other() {
    let resolved = resolved(PlanReason::Primary, PlanReason::Unhealthy);
    for slot in [1, PROVINCE, PEER] {
        resolved.put(slot, State::Ejected);
    }
    let wanted = Wanted { tried: tried(&resolved, &[0]), ..FIRST };
    check(&resolved, &wanted, &[], AnswerReason::Retry, false);
    check(&resolved, &Wanted { last_resort: true, ..wanted }, &[1], AnswerReason::Retry, false);
}

#[test]
fn one_with_old_data_is_tried_after_all_others() {
    let mut resolved = resolved(PlanReason::Unhealthy, PlanReason::Standby);
    resolved.targets[0].reason = PlanReason::Stale;
    check(&resolved, &FIRST, &[PROVINCE], AnswerReason::Failover, false);
    let wanted = Wanted { tried: tried(&resolved, &[PROVINCE, PEER]), ..FIRST };
    check(&resolved, &wanted, &CITY, AnswerReason::Retry, false);
}

#[test]
fn authority_stays_in_tier_0_and_excluded_nodes_are_never_called() {
    let resolved = resolved(PlanReason::Primary, PlanReason::Drained);
    let authority = Wanted { access: Access::Authority, ..FIRST };
    for slot in CITY {
        resolved.put(slot, State::Ejected);
    }
    check(&resolved, &FIRST, &[], AnswerReason::Failover, false);
    check(&resolved, &authority, &[], AnswerReason::Failover, false);
    let desperate = Wanted { tried: tried(&resolved, &CITY), last_resort: true, ..FIRST };
    check(&resolved, &desperate, &[], AnswerReason::Retry, false);
}

#[test]
fn a_half_open_endpoint_gets_the_first_call_and_no_other() {
    let resolved = resolved(PlanReason::Primary, PlanReason::Standby);
    resolved.put(1, State::HalfOpen);
    let dice = Dice { random: 7, now: Instant::now(), worker: 0 };
    let slots = |tried: &Tried| {
        let access = Access::Public;
        let ask = Ask { access, key: 1, tried, scope: Scope::Anywhere, last_resort: false };
        choose(&resolved, &ask, dice).map(|chosen| chosen.vitals.slot)
    };
    let again = tried(&resolved, &[0]);
    assert_eq!(slots(&again), Some(PROVINCE), "a retry is no probe");
    assert_eq!(slots(&Tried::default()), Some(1));
    assert_eq!(slots(&Tried::default()), Some(0));
}
