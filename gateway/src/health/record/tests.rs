//! A small world with a clock of its own: counters are raised by hand, and every step is looked at.

use super::*;
use crate::health::{Tally, check::Report};

struct World {
    record: Record,
    seen: Seen,
    around: Around,
    now: Instant,
    events: Vec<Event>,
    stand: Option<Stand>,
}

const TICK: Duration = Duration::from_millis(250);

fn world() -> World {
    let now = Instant::now();
    let check = Report { standing: Standing::Up, vouched: Some(0) };
    World {
        record: Record::new(false, now),
        seen: Seen {
            state: State::Suspect,
            counted: Counted::default(),
            median: Duration::from_millis(5),
            stalls: 0,
            doubts: 0,
            doubt: "connection lost",
            check,
        },
        around: Around { others: true, frozen: false, ramp: None, jitter: 1.0 },
        now,
        events: Vec::new(),
        stand: None,
    }
}

impl World {
    /// One look after so many outcomes; what the record says is what workers see.
    fn tick(&mut self, good: u64, soft: u64, own: u64) -> State {
        self.seen.counted.tally += Tally { good, soft, own, ..Tally::default() };
        self.seen.counted.callers = 0b111;
        self.now += TICK;
        let stand = self.record.step(&self.seen, &self.around, self.now);
        self.events.extend(stand.event);
        self.seen.state = stand.state;
        self.stand = Some(stand);
        stand.state
    }

    /// Ticks without outcomes.
    fn idle(&mut self, seconds: u64) -> State {
        (0..seconds * 4).map(|_| self.tick(0, 0, 0)).last().unwrap()
    }

    /// Idles until the state is left; how long that took.
    fn leaves(&mut self, state: State) -> Duration {
        let start = self.now;
        while self.tick(0, 0, 0) == state {
            assert!(self.now - start < Duration::from_secs(600), "it stays {state:?}");
        }
        self.now - start
    }

    fn doubt(&mut self) {
        self.seen.doubts += 1;
        if self.seen.state == State::Ok {
            self.seen.state = State::Suspect;
        }
    }

    fn vouch(&mut self) {
        self.seen.check = Report { standing: Standing::Up, vouched: Some(self.seen.doubts) };
    }

    fn weight(&self) -> f64 {
        self.stand.unwrap().weight
    }

    fn health(&self) -> f64 {
        self.stand.unwrap().health
    }
}

#[test]
fn a_doubt_lasts_until_checks_settle_it() {
    let mut world = world();
    assert_eq!(world.tick(0, 0, 0), State::Ok);
    world.doubt();
    assert_eq!(world.idle(5), State::Suspect);
    assert_eq!(world.stand.unwrap().why, "connection lost");
    world.vouch();
    assert_eq!(world.tick(0, 0, 0), State::Ok);
    assert_eq!(world.events, [Event::Returned]);
}

#[test]
fn five_in_a_row_eject_for_longer_each_time_and_three_probes_close() {
    let mut world = world();
    world.tick(10, 0, 0);
    let mut times = Vec::new();
    for _ in 0..6 {
        if world.seen.state == State::Ok {
            assert_eq!(world.tick(0, 0, 5), State::Ejected);
        }
        times.push(world.leaves(State::Ejected).as_secs());
        assert_eq!(world.seen.state, State::HalfOpen);
        assert!(world.stand.unwrap().probe, "a call may try at once");
        assert_eq!(world.tick(0, 0, 1), State::Ejected, "a probe failed");
    }
    assert_eq!(times, [5, 10, 20, 40, 80, 120]);
    world.leaves(State::Ejected);
    for _ in 0..3 {
        assert_eq!(world.seen.state, State::HalfOpen);
        world.tick(1, 0, 0);
    }
    assert_eq!(world.seen.state, State::Ok);
    assert_eq!(world.events.last(), Some(&Event::Returned));
}

#[test]
fn a_half_open_endpoint_gets_one_call_a_second() {
    let mut world = world();
    world.tick(0, 0, 0);
    world.tick(0, 0, 5);
    world.leaves(State::Ejected);
    let mut probes = u32::from(world.stand.unwrap().probe);
    for _ in 0..40 {
        assert_eq!(world.tick(0, 0, 0), State::HalfOpen);
        probes += u32::from(world.stand.unwrap().probe);
    }
    assert!((10..=11).contains(&probes), "{probes} in ten seconds");
}

#[test]
fn a_half_open_endpoint_that_hardly_anybody_calls_is_closed_by_checks() {
    let half_open = || {
        let mut world = world();
        world.tick(0, 0, 0);
        world.tick(0, 0, 5);
        world.leaves(State::Ejected);
        world
    };
    let mut world = half_open();
    assert_eq!(world.leaves(State::HalfOpen).as_secs(), 30);
    assert_eq!((world.seen.state, world.events.last()), (State::Ok, Some(&Event::Returned)));
    // Two calls are not enough to close it, and do not keep it open either.
    let mut world = half_open();
    world.tick(2, 0, 0);
    assert_eq!(world.idle(60), State::Ok);
    // Checks that say nothing good do not close it.
    let mut world = half_open();
    world.seen.check.standing = Standing::Fresh;
    assert_eq!(world.idle(60), State::HalfOpen);
}

#[test]
fn one_apps_garbage_is_no_failed_probe() {
    let mut world = world();
    world.tick(0, 0, 0);
    world.tick(0, 0, 5);
    world.leaves(State::Ejected);
    assert_eq!(world.tick(1, 5, 0), State::HalfOpen);
    assert_eq!(world.tick(2, 0, 0), State::Ok);
}

#[test]
fn a_passing_check_never_ends_an_ejection_early() {
    let mut world = world();
    world.tick(0, 0, 0);
    world.doubt();
    world.tick(0, 0, 5);
    world.vouch();
    assert_eq!(world.idle(4), State::Ejected);
}

#[test]
fn a_failing_check_does_not_eject_what_calls_prove_to_be_well() {
    let mut world = world();
    world.tick(100, 0, 0);
    world.seen.check.standing = Standing::Failing;
    assert_eq!(world.tick(100, 0, 0), State::Ok);
    assert_eq!(world.idle(3), State::Ejected, "without calls the check is all there is");
    assert_eq!(world.events.last(), Some(&Event::CheckedOut));
    world.vouch();
    assert_eq!(world.tick(0, 0, 0), State::Ok, "what checks took out comes back by checks");
    world.seen.check.standing = Standing::Leaving;
    assert_eq!(world.tick(100, 0, 0), State::Ejected, "its own word counts in any case");
}

#[test]
fn a_failing_check_does_not_eject_what_answers_its_few_calls_or_is_alone() {
    for (good, own, expected) in [(2, 0, State::Ejected), (3, 0, State::Ok), (3, 1, State::Ejected)] {
        let mut world = world();
        world.tick(0, 0, 0);
        world.seen.check.standing = Standing::Failing;
        assert_eq!(world.tick(good, 0, own), expected, "{good} {own}");
    }
    let mut sole = world();
    sole.around.others = false;
    sole.tick(0, 0, 0);
    sole.seen.check.standing = Standing::Failing;
    assert_eq!(sole.idle(10), State::Ok);
    sole.doubt();
    assert_eq!(sole.idle(10), State::Suspect, "what hangs is doubted and no more");
    sole.around.others = true;
    assert_eq!(sole.tick(0, 0, 0), State::Ejected);
}

#[test]
fn one_in_three_failing_is_ejected_by_the_rate() {
    let mut world = world();
    world.tick(0, 0, 0);
    assert_eq!(world.tick(14, 6, 0), State::Ejected);
    assert_eq!(world.events.last(), Some(&Event::Tripped(Trip::Rate)));
}

#[test]
fn who_is_alone_is_spared_and_proves_itself() {
    let mut world = world();
    world.around.others = false;
    world.tick(0, 0, 0);
    assert_eq!(world.tick(0, 0, 50), State::Ok);
    assert!((world.health() - 0.1).abs() < 1e-9 && (world.weight() - 0.1).abs() < 1e-9);
    world.doubt();
    assert_eq!(world.tick(0, 0, 50), State::Ok, "to doubt it would help nobody");
    assert_eq!(world.events, [Event::Returned, Event::Spared(Trip::InARow)], "said once");
    world.tick(30, 0, 0);
    assert!((world.health() - 1.0).abs() < 1e-9);
}

#[test]
fn who_is_spared_proves_itself_with_few_calls_in_ten_seconds() {
    let mut world = world();
    world.around.others = false;
    world.tick(0, 0, 0);
    world.tick(0, 0, 50);
    for _ in 0..7 {
        world.tick(1, 0, 0);
        world.idle(1);
        assert!((world.health() - 0.1).abs() < 1e-9);
    }
    world.idle(2);
    assert!((world.health() - 1.0).abs() < 1e-9);
    // A failure among them: not yet.
    world.tick(0, 0, 50);
    for own in [0, 0, 1, 0] {
        world.tick(1, 0, own);
        world.idle(3);
    }
    assert!((world.health() - 0.1).abs() < 1e-9);
}

#[test]
fn an_ejection_ends_when_the_last_other_one_goes() {
    let mut world = world();
    world.tick(0, 0, 0);
    world.tick(0, 0, 5);
    world.around.others = false;
    assert_eq!(world.tick(0, 0, 0), State::Ok);
    assert!((world.health() - 0.1).abs() < 1e-9);
}

#[test]
fn nobody_is_ejected_in_a_freeze_and_suspects_count_as_well() {
    let mut world = world();
    world.tick(0, 0, 0);
    world.around.frozen = true;
    world.doubt();
    assert_eq!(world.tick(0, 0, 50), State::Suspect);
    assert!((world.health() - 1.0).abs() < 1e-9);
    world.seen.check.standing = Standing::Gone;
    assert_eq!(world.tick(0, 0, 0), State::Suspect);
    world.around.frozen = false;
    assert_eq!(world.tick(0, 0, 0), State::Ejected);
    world.record.pardon();
    world.around.frozen = true;
    assert_eq!(world.tick(0, 0, 0), State::Suspect);
}

#[test]
fn stalls_trip_at_once_where_checks_end_in_the_kernel() {
    for (blind, second_at, expected) in
        [(true, None, State::Ejected), (false, Some(5), State::Ejected), (false, Some(20), State::Suspect)]
    {
        let mut world = world();
        world.record = Record::new(blind, world.now);
        world.tick(0, 0, 0);
        world.seen.stalls = 2;
        world.doubt();
        world.tick(0, 0, 0);
        if let Some(seconds) = second_at {
            assert_eq!(world.idle(seconds), State::Suspect, "two workers saw one stall");
            world.seen.stalls += 1;
            world.tick(0, 0, 0);
        }
        assert_eq!(world.seen.state, expected, "{blind} {second_at:?}");
    }
}

#[test]
fn who_returns_ramps_and_a_short_suspicion_is_no_absence() {
    let mut world = world();
    world.around.ramp = Some(Ramp::endpoint(Duration::from_secs(60)));
    world.tick(0, 0, 0);
    assert!((world.weight() - 0.1).abs() < 1e-9, "a newcomer, too");
    world.idle(15);
    assert!((world.weight() - 0.55).abs() < 1e-9, "{}", world.weight());
    world.idle(16);
    assert!((world.weight() - 1.0).abs() < 1e-9);
    world.doubt();
    world.idle(1);
    world.vouch();
    world.tick(0, 0, 0);
    assert!((world.weight() - 1.0).abs() < 1e-9);
    world.tick(0, 0, 5);
    world.leaves(State::Ejected);
    for _ in 0..3 {
        world.tick(1, 0, 0);
    }
    assert_eq!(world.seen.state, State::Ok);
    assert!(world.weight() < 0.2);
}

#[test]
fn slow_loses_weight_only_while_another_has_room() {
    let mut world = world();
    for _ in 0..40 {
        world.tick(10, 0, 0);
    }
    world.seen.median = Duration::from_secs(2);
    assert_eq!(world.tick(10, 0, 0), State::Ok);
    assert_eq!(world.events.last(), Some(&Event::Slowed));
    assert!((world.health() - 0.05).abs() < 1e-9 && (world.weight() - 0.05).abs() < 1e-9);
    world.around.others = false;
    world.tick(10, 0, 0);
    assert!((world.health() - 1.0).abs() < 1e-9);
}

#[test]
fn refusals_lower_the_weight_and_nothing_else() {
    let mut world = world();
    world.tick(0, 0, 0);
    world.seen.counted.tally.refused += 60;
    assert_eq!(world.tick(40, 0, 0), State::Ok);
    assert!((world.weight() - 0.4).abs() < 1e-9 && (world.health() - 1.0).abs() < 1e-9);
    assert!(!world.stand.unwrap().room);
}
