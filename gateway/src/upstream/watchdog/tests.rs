//! A connection with a clock of its own: every ten milliseconds a look.

use super::*;

struct World {
    dog: Watchdog,
    start: Instant,
    now: Instant,
    look: Look,
    pings: Vec<u128>,
}

fn world() -> World {
    let now = Instant::now();
    let look = Look { reads: 0, answers: 0, silent_since: None, newest: None, answered: false };
    World { dog: Watchdog::new(now), start: now, now, look, pings: Vec::new() }
}

impl World {
    /// Looks for so many milliseconds, or until it is stalled: when that was.
    fn run(&mut self, ms: u64) -> Option<u128> {
        let end = self.now + Duration::from_millis(ms);
        while self.now < end {
            self.now += TICK;
            let since = (self.now - self.start).as_millis();
            match self.dog.tick(self.now, self.look) {
                Action::None => {}
                Action::Ping => self.pings.push(since),
                Action::Stalled => return Some(since),
            }
            self.look.answered = false;
        }
        None
    }

    fn answer(&mut self) {
        self.look.answered = true;
        self.look.reads += 1;
    }
}

#[test]
fn silence_is_pinged_once_and_stalls_without_an_answer() {
    let mut world = world();
    assert_eq!(world.run(1_000), Some(300));
    assert_eq!(world.pings, [100]);
}

#[test]
fn a_call_that_saw_no_bytes_since_it_was_sent_is_pinged_at_once() {
    let mut world = world();
    world.look.silent_since = Some(world.start - Duration::from_millis(100));
    assert_eq!(world.run(1_000), Some(210));
    assert_eq!(world.pings, [10]);
}

#[test]
fn bytes_postpone_the_ping() {
    let mut world = world();
    for _ in 0..10 {
        world.look.reads += 1;
        assert_eq!(world.run(90), None);
    }
    assert!(world.pings.is_empty());
}

#[test]
fn a_slow_handler_is_pinged_twice_at_most_until_it_answers() {
    let mut world = world();
    world.run(150);
    world.answer();
    assert_eq!(world.run(10_000), None, "the answer excuses the silence");
    assert_eq!(world.pings.len(), 1);
    world.look.newest = Some(world.now);
    world.run(20);
    assert_eq!(world.pings.len(), 2, "once more for a call that was sent after the answer");
    world.answer();
    for _ in 0..10 {
        world.look.newest = Some(world.now);
        world.look.reads += 1;
        assert_eq!(world.run(3_000), None);
    }
    assert_eq!(world.pings.len(), 2, "a third one would be punished, whatever else was sent");
    world.look.answers += 1;
    assert!(world.run(1_000).is_some(), "after an answer everything begins again");
    assert_eq!(world.pings.len(), 3);
}

#[test]
fn a_late_tick_voids_what_was_measured() {
    let mut world = world();
    world.run(250);
    assert_eq!(world.pings, [100]);
    world.now += Duration::from_millis(500);
    let resumed = (world.now - world.start).as_millis();
    let stalled = world.run(1_000).unwrap();
    assert!(stalled >= resumed + 200, "{stalled} after {resumed}");
}

#[tokio::test(start_paused = true)]
async fn nobody_looks_while_nothing_is_overdue() {
    let pulse = Rc::new(Pulse::default());
    let watching = stalls(pulse.clone(), Pinger::new(None));
    tokio::pin!(watching);
    let idle = tokio::time::timeout(Duration::from_secs(3600), &mut watching).await;
    assert!(idle.is_err() && !pulse.is_stalled());
    pulse.overdue(Instant::now(), 0);
    pulse.settled();
    let settled = tokio::time::timeout(Duration::from_secs(3600), &mut watching).await;
    assert!(settled.is_err() && !pulse.is_stalled());
}
