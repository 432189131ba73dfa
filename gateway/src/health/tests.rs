//! Records for the tests of this module and of its users.

use super::*;

/// A record without checks for two workers: it starts in rotation.
pub(crate) fn vitals(slot: usize, node: &str) -> Arc<Vitals> {
    with_check(slot, node, table::Check::None)
}

pub(crate) fn with_check(slot: usize, node: &str, check: table::Check) -> Arc<Vitals> {
    let endpoint = table::Endpoint {
        name: format!("{node}-{slot}").into(),
        address: "127.0.0.1:1".into(),
        incarnation: 1,
        ready: Vec::new(),
        draining: false,
        check,
        identity: None,
    };
    Arc::new(Vitals::new(slot, node.into(), endpoint, Arc::default(), 2))
}

/// Puts a record into a state, as the control task would.
pub(crate) fn put(vitals: &Vitals, state: State) {
    let stand = record::Stand {
        state,
        why: "a test",
        weight: 1.0,
        health: 1.0,
        probe: state == State::HalfOpen,
        room: state == State::Ok,
        event: None,
    };
    vitals.show(&stand, vitals.state(), true, Instant::now());
}

#[test]
fn a_worker_may_only_doubt() {
    for (before, after) in [
        (State::Ok, State::Suspect),
        (State::HalfOpen, State::HalfOpen),
        (State::Suspect, State::Suspect),
        (State::Ejected, State::Ejected),
    ] {
        let vitals = vitals(0, "n");
        put(&vitals, before);
        vitals.doubt(Doubt::ConnectionLost);
        assert_eq!((vitals.state(), vitals.doubts()), (after, 1));
        assert_eq!(vitals.seen(Instant::now()).doubt, "connection lost");
    }
}

#[test]
fn a_doubt_during_a_step_wins_over_the_step() {
    let vitals = vitals(0, "n");
    let before = vitals.state();
    vitals.doubt(Doubt::Stalled);
    let stand = record::Stand {
        state: State::Ok,
        why: "in rotation",
        weight: 1.0,
        health: 1.0,
        probe: false,
        room: true,
        event: None,
    };
    vitals.show(&stand, before, true, Instant::now());
    assert_eq!(vitals.state(), State::Suspect);
    assert_eq!(vitals.seen(Instant::now()).stalls, 1);
}

#[test]
fn a_half_open_endpoint_takes_one_call() {
    let vitals = vitals(0, "n");
    put(&vitals, State::HalfOpen);
    assert!(vitals.open() && vitals.wants_probe());
    assert!(vitals.take_probe() && !vitals.take_probe());
    assert!(!vitals.open());
}

#[test]
fn lanes_are_added_up() {
    let (vitals, now) = (vitals(0, "n"), Instant::now());
    for worker in 0..2 {
        let lane = vitals.lane(worker);
        lane.begin();
        lane.begin();
        lane.end(Outcome::Own, 1, now);
        lane.sample(Duration::from_millis(10 + 20 * worker as u64), true, now);
    }
    let counted = vitals.counted(now);
    assert_eq!((counted.tally.own, counted.run, counted.callers.count_ones()), (2, 1, 2));
    assert_eq!((vitals.in_flight(), vitals.median(now)), (2, Duration::from_millis(20)));
}
