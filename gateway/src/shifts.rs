//! How far has a shift come here, and does this gateway hold it?
//!
//! A shift is a function of its object and the clock ([`crate::plan`]). [`Clocks`] anchors the clock to the
//! monotonic one when a shift is first seen, so that setting the wall clock neither ends nor restarts it.
//! [`Holds`] is what this gateway adds by itself: a guard that it sees breached holds the shift here at
//! once, before the registry has heard of it, or takes it back where the order says so. A hold is about
//! one stretch of a shift: whoever resumes it begins another. [`measure`] judges.

pub mod measure;

use crate::{
    plan::{HeldHere, ShiftSignal},
    table::{Shift, Table},
};
use measure::Breach;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// A hold of this gateway's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Hold {
    /// Since when, by the shift's clock, in milliseconds since 1970.
    pub at_ms: i64,
    /// Why.
    pub breach: Breach,
    /// It takes the shift back; otherwise the shift stays where it is.
    pub rolls_back: bool,
    stretch: (i64, i64),
}

impl Hold {
    /// Of this shift as it stands.
    #[must_use]
    pub fn new(shift: &Shift, at_ms: i64, breach: Breach) -> Self {
        let rolls_back = shift.guards.rolls_back && at_ms < shift.expires_at_ms;
        Self { at_ms, breach, rolls_back, stretch: stretch(shift) }
    }
}

/// Changes when somebody resumes the shift.
fn stretch(shift: &Shift) -> (i64, i64) {
    (shift.start_ms, shift.back.paused_ms)
}

/// The holds of this gateway, by shift. Clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Holds(Arc<Mutex<BTreeMap<Arc<str>, Hold>>>);

impl Holds {
    /// Holds a shift here. The first breach of a stretch counts.
    pub fn hold(&self, shift: &Shift, hold: Hold) {
        let mut holds = self.lock();
        if holds.get(&shift.id).is_none_or(|known| known.stretch != hold.stretch) {
            holds.insert(shift.id.clone(), hold);
        }
    }

    /// The hold of a shift as it stands.
    #[must_use]
    pub fn of(&self, shift: &Shift) -> Option<Hold> {
        self.lock().get(&shift.id).filter(|hold| hold.stretch == stretch(shift)).cloned()
    }

    /// Forgets what is about no shift of the table.
    fn follow(&self, table: &Table) {
        let mut holds = self.lock();
        if !holds.is_empty() {
            holds.retain(|id, hold| {
                table.shifts.iter().any(|shift| shift.id == *id && stretch(shift) == hold.stretch)
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Hold>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The clocks of shifts.
#[derive(Debug, Default)]
pub struct Clocks(BTreeMap<Arc<str>, (i64, Instant)>);

impl Clocks {
    /// What the plan needs to know of the shifts of a table.
    pub fn signals(
        &mut self,
        table: &Table,
        holds: &Holds,
        now: Instant,
        wall_ms: i64,
    ) -> BTreeMap<Arc<str>, ShiftSignal> {
        self.0.retain(|id, _| table.shifts.iter().any(|shift| shift.id == *id));
        holds.follow(table);
        let signals = table.shifts.iter().map(|shift| {
            let (anchor_ms, since) = *self.0.entry(shift.id.clone()).or_insert((wall_ms, now));
            let elapsed = now.saturating_duration_since(since).as_millis();
            let now_ms = anchor_ms.saturating_add(i64::try_from(elapsed).unwrap_or(i64::MAX));
            let held = holds.of(shift);
            let held = held.map(|hold| HeldHere { at_ms: hold.at_ms, rolls_back: hold.rolls_back });
            (shift.id.clone(), ShiftSignal { now_ms, held })
        });
        signals.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Back, Guards};
    use std::time::Duration;
    use suiyue_proto::region::Code;

    fn shift() -> Shift {
        Shift {
            id: "s".into(),
            region: Code::new(440_100).unwrap(),
            classes: Vec::new(),
            from: "suikang".into(),
            to: vec![("yuekang".into(), 1.0)],
            percent: 40.0,
            step: 10.0,
            every: Duration::from_secs(30),
            start_ms: 0,
            expires_at_ms: 1_000_000,
            held_ms: None,
            back: Back::default(),
            guards: Guards::default(),
        }
    }

    fn table(shift: &Shift) -> Table {
        Table { shifts: vec![Arc::new(shift.clone())], ..Table::default() }
    }

    fn breach() -> Breach {
        Breach { guard: "errors", node: "yuekang".into(), value: 9.0, limit: 2.0 }
    }

    #[test]
    fn a_wall_clock_that_is_set_moves_no_shift() {
        let (mut clocks, holds, start) = (Clocks::default(), Holds::default(), Instant::now());
        let mut at = |s: u64, wall_ms| {
            let now = start + Duration::from_secs(s);
            let signals = clocks.signals(&table(&shift()), &holds, now, wall_ms);
            signals["s"].percent(&shift())
        };
        assert_eq!(at(0, 0), 10.0);
        assert_eq!(at(30, 3_600_000), 20.0, "an hour ahead");
        assert_eq!(at(60, -3_600_000), 30.0, "an hour behind");
        assert_eq!(at(1_000, 0), 30.0, "it ends by the monotonic clock");
    }

    #[test]
    fn a_hold_lasts_until_somebody_resumes() {
        let (mut clocks, holds, start) = (Clocks::default(), Holds::default(), Instant::now());
        let mut at = |shift: &Shift, s: u64| {
            let now = start + Duration::from_secs(s);
            clocks.signals(&table(shift), &holds, now, 0)["s"].percent(shift)
        };
        assert_eq!(at(&shift(), 0), 10.0);
        holds.hold(&shift(), Hold::new(&shift(), 40_000, breach()));
        holds.hold(&shift(), Hold::new(&shift(), 80_000, breach()));
        assert_eq!(at(&shift(), 100), 20.0, "the first one counts");
        assert_eq!(at(&shift(), 1_000), 10.0, "it walks back from where it was held");
        let resumed = Shift { start_ms: 60_000, ..shift() };
        assert_eq!(at(&resumed, 100), 20.0);
        assert_eq!(holds.of(&resumed), None);
    }

    #[test]
    fn a_hold_on_the_way_back_and_a_rollback() {
        let (mut clocks, start) = (Clocks::default(), Instant::now());
        let mut at = |shift: &Shift, holds: &Holds, s: u64| {
            let now = start + Duration::from_secs(s);
            clocks.signals(&table(shift), holds, now, 0)["s"].percent(shift)
        };
        assert_eq!(at(&shift(), &Holds::default(), 0), 10.0);
        let holds = Holds::default();
        holds.hold(&shift(), Hold::new(&shift(), 1_000_010, breach()));
        assert_eq!(at(&shift(), &holds, 2_000), 30.0);
        let order = Shift { guards: Guards { rolls_back: true, ..Guards::default() }, ..shift() };
        let holds = Holds::default();
        holds.hold(&order, Hold::new(&order, 40_000, breach()));
        assert_eq!([at(&order, &holds, 41), at(&order, &holds, 1_000)], [0.0, 0.0]);
    }
}
