//! How much does a shift move at an instant?

use super::*;
use crate::table::Back;
use std::time::Duration;

#[test]
fn the_percentage_of_a_shift_is_a_function_of_object_and_clock() {
    let shift = Shift {
        percent: 35.0,
        step: 10.0,
        every: Duration::from_secs(30),
        expires_at_ms: NOW + 600_000,
        ..a_shift()
    };
    let at = |seconds: i64| shift.percent_at(NOW + seconds * 1000);
    assert_eq!([-1, 0, 29, 30, 60, 90, 599].map(at), [0.0, 10.0, 10.0, 20.0, 30.0, 35.0, 35.0]);
    assert_eq!([600, 630, 660, 690, 9_999].map(at), [25.0, 15.0, 5.0, 0.0, 0.0]);
    // It expires before it was all the way up.
    let early = Shift { expires_at_ms: NOW + 40_000, ..shift.clone() };
    assert_eq!([39, 40, 70].map(|s| early.percent_at(NOW + s * 1000)), [20.0, 10.0, 0.0]);
    // It is held at 40 s, and walks back from what it had reached then.
    let held = Shift { held_ms: Some(NOW + 40_000), ..shift.clone() };
    assert_eq!(
        [39, 40, 599, 600, 630].map(|s| held.percent_at(NOW + s * 1000)),
        [20.0, 20.0, 20.0, 10.0, 0.0]
    );
    for sudden in [
        Shift { every: Duration::ZERO, ..shift.clone() },
        Shift { step: 0.0, ..shift.clone() },
        Shift { step: f64::NAN, ..shift.clone() },
    ] {
        assert_eq!([-1, 0, 599, 600].map(|s| sudden.percent_at(NOW + s * 1000)), [0.0, 35.0, 35.0, 0.0]);
    }
    let percent = |percent| Shift { percent, ..a_shift() }.percent_at(NOW);
    assert_eq!([-5.0, f64::NAN, 170.0].map(percent), [0.0, 0.0, 100.0]);
    // A plan reads the clock that it is given.
    let mut world = World::new().order(|s| s.step = 10.0).order(|_| {});
    world.table.shifts[0] = Arc::new(shift);
    world.wall_ms = NOW + 30_000;
    check(&world, Show, "suikang 80 primary, yuekang 20 shift, xian 0 not_named");
}

/// 40 %, 10 points every 30 s, for a thousand seconds.
fn stepwise() -> Shift {
    Shift {
        percent: 40.0,
        step: 10.0,
        every: Duration::from_secs(30),
        expires_at_ms: NOW + END_MS,
        ..a_shift()
    }
}

/// Milliseconds after which it walks back.
const END_MS: i64 = 1_000_000;

/// What it moves so many milliseconds after its begin, held by this gateway alone from `held` on.
fn held_here(shift: &Shift, held: i64, rolls_back: bool, after: i64) -> f64 {
    let held = Some(HeldHere { at_ms: NOW + held, rolls_back });
    ShiftSignal { now_ms: NOW + after, held }.percent(shift)
}

#[test]
fn a_gateway_holds_by_itself_what_grows_and_what_walks_back() {
    let shift = stepwise();
    let free = ShiftSignal { now_ms: NOW + 60_000, held: None };
    assert_eq!(free.percent(&shift), 30.0);
    // While it grows, or stands: it stays, and walks back from there.
    let early = |after| held_here(&shift, 40_000, false, after);
    assert_eq!(
        [39_000, 90_000, END_MS - 1, END_MS, END_MS + 30_000].map(early),
        [20.0, 20.0, 20.0, 10.0, 0.0]
    );
    // From the very end on it is its way back that is held.
    for held in [END_MS, END_MS + 10] {
        let late = |after| held_here(&shift, held, false, after);
        assert_eq!([END_MS - 1, END_MS + 10, 9 * END_MS].map(late), [40.0, 30.0, 30.0]);
    }
    // The first hold counts, whoever's it is.
    let held = Shift { held_ms: Some(NOW + 10_000), ..shift.clone() };
    assert_eq!(held_here(&held, 40_000, false, 90_000), 10.0);
    let back = Back { held_ms: Some(NOW + END_MS + 10), ..Back::default() };
    assert_eq!(held_here(&Shift { back, ..shift.clone() }, END_MS + 60_000, false, 9 * END_MS), 30.0);
    assert_eq!(held_here(&held, 5_000, false, 90_000), 10.0);
}

#[test]
fn a_gateway_takes_back_by_itself_what_is_so_ordered() {
    let back = |after| held_here(&stepwise(), 40_000, true, after);
    assert_eq!([39_999, 40_000, END_MS].map(back), [20.0, 0.0, 0.0]);
    assert_eq!(held_here(&stepwise(), END_MS + 10, true, END_MS - 1), 40.0);
}

#[test]
fn a_way_back_that_was_held_goes_on_where_it_was() {
    let shift = stepwise();
    let after = |back: Back, ms: i64| Shift { back, ..shift.clone() }.percent_at(NOW + END_MS + ms);
    assert_eq!([0, 29_999, 30_000, 90_000].map(|ms| after(Back::default(), ms)), [30.0, 30.0, 20.0, 0.0]);
    let paused = Back { paused_ms: 100_000, ..Back::default() };
    assert_eq!([129_999, 130_000, 190_000].map(|ms| after(paused, ms)), [30.0, 20.0, 0.0]);
    let at_once = Back { at_once: true, ..Back::default() };
    assert_eq!([-1, 0].map(|ms| after(at_once, ms)), [40.0, 0.0]);
}
