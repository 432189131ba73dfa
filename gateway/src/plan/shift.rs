//! Which part of a node's calls do operators move elsewhere now?
//!
//! A shift moves a fraction of its source's base share. How much is a function of the object and the
//! clock, so that every gateway agrees and it runs out by itself with the registry down. A target that
//! cannot be used gets nothing, one that returns its ramp's part, one on trial its percentage; the rest
//! stays at the source: no shift leaves a region with nothing.

use super::{Move, MoveKind, Reason, Route, Rule, sane};
use crate::table::{Shift, Stage};
use std::borrow::Cow;
use suiyue_proto::method::Class;

/// How far a shift has come at this gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShiftSignal {
    /// The instant by the shift's own clock, in milliseconds since 1970.
    pub now_ms: i64,
    /// This gateway holds it by itself.
    pub held: Option<HeldHere>,
}

/// A hold of this gateway's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldHere {
    /// Since when, by the shift's own clock.
    pub at_ms: i64,
    /// It takes the shift back at once; otherwise the shift stays where it is.
    pub rolls_back: bool,
}

impl ShiftSignal {
    /// As [`Shift::percent_at`], with what this gateway adds.
    #[must_use]
    pub fn percent(&self, shift: &Shift) -> f64 {
        self.seen(shift).percent_at(self.now_ms)
    }

    /// The shift as it counts here.
    #[must_use]
    pub fn seen<'a>(&self, shift: &'a Shift) -> Cow<'a, Shift> {
        let Some(HeldHere { at_ms, rolls_back }) = self.held else { return Cow::Borrowed(shift) };
        let mut seen = shift.clone();
        if rolls_back {
            (seen.expires_at_ms, seen.back.at_once) = (seen.expires_at_ms.min(at_ms), true);
        } else if at_ms < shift.expires_at_ms {
            seen.held_ms = Some(seen.held_ms.unwrap_or(i64::MAX).min(at_ms));
        } else {
            seen.back.held_ms = Some(seen.back.held_ms.unwrap_or(i64::MAX).min(at_ms));
        }
        Cow::Owned(seen)
    }
}

impl Shift {
    /// Part of the source's share that is moved at an instant (milliseconds since 1970), 0 to 100: it
    /// grows by `step` at the start and after every `every` until somebody holds it, and shrinks alike
    /// from its expiry on, or at once where it is so ordered.
    #[must_use]
    pub fn percent_at(&self, wall_ms: i64) -> f64 {
        let grows_until = self.held_ms.unwrap_or(i64::MAX).min(self.expires_at_ms);
        let grown = self.walked(wall_ms.min(grows_until).saturating_sub(self.start_ms));
        if wall_ms < self.expires_at_ms {
            return grown;
        }
        if self.back.at_once {
            return 0.0;
        }
        let until = wall_ms.min(self.back.held_ms.unwrap_or(i64::MAX));
        let walked = until.saturating_sub(self.expires_at_ms).saturating_sub(self.back.paused_ms);
        (grown - self.walked(walked)).max(0.0)
    }

    /// Points that a walk has made after so many milliseconds.
    fn walked(&self, elapsed_ms: i64) -> f64 {
        let percent = if self.percent.is_nan() { 0.0 } else { self.percent.clamp(0.0, 100.0) };
        let every = i64::try_from(self.every.as_millis()).unwrap_or(i64::MAX);
        if elapsed_ms < 0 {
            return 0.0;
        }
        if every == 0 || self.step.is_nan() || self.step <= 0.0 {
            return percent;
        }
        (self.step * (elapsed_ms / every + 1) as f64).min(percent)
    }

    fn concerns(&self, class: Class) -> bool {
        self.classes.is_empty() || self.classes.contains(&class)
    }
}

/// Moves what the region's shifts say. `shifts` are in the order of their ids; of two with the same
/// source the first counts.
pub(super) fn apply(route: &mut Route, shifts: &[&Shift], class: Class, percent: impl Fn(&Shift) -> f64) {
    for c in &mut route.candidates {
        c.shifted = c.base;
    }
    let mut sources = Vec::new();
    for shift in shifts.iter().filter(|shift| shift.concerns(class)) {
        let from = route.candidates.iter().position(|c| c.node == shift.from && c.base > 0.0);
        let part = percent(shift) / 100.0;
        if let Some(from) = from
            && part > 0.0
            && !sources.contains(&from)
        {
            sources.push(from);
            walk(route, shift, from, part);
        }
    }
}

/// Moves `part` of the base share of `from`.
fn walk(route: &mut Route, shift: &Shift, from: usize, part: f64) {
    let others = || shift.to.iter().filter(|(to, _)| *to != shift.from);
    let named = |name: &str| -> f64 {
        others().filter(|(to, _)| **to == *name).map(|(_, weight)| sane(*weight)).sum()
    };
    let total: f64 = others().map(|(_, weight)| sane(*weight)).sum();
    let base = route.candidates[from].base;
    let mut moved = 0.0;
    for to in 0..route.candidates.len() {
        let target = &mut route.candidates[to];
        let weight = named(&target.node);
        if weight <= 0.0 || !target.usable() {
            continue;
        }
        let mut fraction = part * weight / total * target.ramp;
        if let Stage::Canary(percent) = target.stage {
            let room = (f64::from(percent) / 100.0 - target.shifted).max(0.0);
            fraction = fraction.min(room / base);
        }
        if fraction <= 0.0 {
            continue;
        }
        target.shifted += fraction * base;
        if target.reason == Reason::Standby {
            (target.reason, target.rule) = (Reason::Shift, Rule::ShiftTarget(shift.id.clone()));
        }
        route.moves.push(Move { kind: MoveKind::Shift, from, to, fraction });
        moved += fraction;
    }
    if moved > 0.0 {
        let source = &mut route.candidates[from];
        source.shifted = (source.shifted - moved * base).max(0.0);
        source.limits.push(Rule::ShiftedAway { id: shift.id.clone(), part: moved });
    }
}
