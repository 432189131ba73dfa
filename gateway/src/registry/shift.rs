//! Can this shift be used?
//!
//! One set of checks for both sides of the registry, as for policies: the operator API refuses what
//! fails them, the fold quarantines it whoever wrote it. Whether the nodes exist and have room is not
//! asked here: they come and go while a shift runs, and a target that cannot be used gets nothing.

use super::keys::is_name;
use crate::table::{Back, Guards, Shift};
use std::{collections::BTreeSet, time::Duration};
use suiyue_proto::{
    method::Class,
    region::Code,
    v1::{self, OnBreach, ShiftOrder, ShiftState},
};

/// Targets that a shift may have.
pub const MAX_TARGETS: usize = 64;
/// Points of a step, where the order says nothing.
const STEP: f64 = 10.0;
/// Seconds between two steps, where the order says nothing.
const EVERY_S: u32 = 30;
const EVERY_MAX_S: u32 = 3_600;
/// Seconds that a shift lasts, where the order says nothing.
const TTL_S: u32 = 2 * 3_600;
/// No shift lasts longer without somebody saying so again: 72 h.
pub const TTL_MAX_S: u32 = 72 * 3_600;
const P99_FACTOR_MAX: f64 = 1_000.0;
const MAX_REASON: usize = 500;
const MAX_INCIDENT: usize = 100;

/// A field of a shift that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: expected {expected}")]
pub struct Invalid {
    /// Path of the field, as in `to[1].weight`.
    pub field: String,
    /// What would be right, for a person.
    pub expected: String,
}

fn invalid<T>(field: impl Into<String>, expected: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid { field: field.into(), expected: expected.into() })
}

/// The order with its defaults filled in, checked by itself.
///
/// # Errors
/// [`Invalid`] names the first field that cannot be used.
pub fn complete(order: &ShiftOrder) -> Result<ShiftOrder, Invalid> {
    classes(&order.classes)?;
    nodes(order)?;
    if !(order.percent > 0.0 && order.percent <= 100.0) {
        return invalid("percent", "above 0, at most 100");
    }
    let step = order.step.unwrap_or(STEP);
    if !(step > 0.0 && step <= 100.0) {
        return invalid("step", "above 0, at most 100 points");
    }
    let every_s = order.every_s.unwrap_or(EVERY_S);
    if every_s > EVERY_MAX_S {
        return invalid("every_s", format!("0 to {EVERY_MAX_S} seconds"));
    }
    let ttl_s = order.ttl_s.unwrap_or(TTL_S);
    lasts("ttl_s", ttl_s)?;
    let guards = Guards::default();
    let max_utilization = order.max_utilization.unwrap_or(guards.max_utilization);
    if !(max_utilization > 0.0 && max_utilization <= 1.0) {
        return invalid("max_utilization", "above 0, at most 1");
    }
    let error_delta = order.error_delta.unwrap_or(guards.error_delta);
    if !(0.0..=100.0).contains(&error_delta) {
        return invalid("error_delta", "0 to 100 points");
    }
    let p99_factor = order.p99_factor.unwrap_or(guards.p99_factor);
    if !(1.0..=P99_FACTOR_MAX).contains(&p99_factor) {
        return invalid("p99_factor", format!("1 to {P99_FACTOR_MAX}"));
    }
    let on_breach = match OnBreach::try_from(order.on_breach) {
        Ok(OnBreach::Unspecified) => OnBreach::Hold,
        Ok(known) => known,
        Err(_) => return invalid("on_breach", "hold or rollback"),
    };
    text("reason", &order.reason, MAX_REASON)?;
    text("incident", &order.incident, MAX_INCIDENT)?;
    Ok(ShiftOrder {
        step: Some(step),
        every_s: Some(every_s),
        ttl_s: Some(ttl_s),
        max_utilization: Some(max_utilization),
        error_delta: Some(error_delta),
        p99_factor: Some(p99_factor),
        on_breach: on_breach.into(),
        ..order.clone()
    })
}

/// A shift may last so long.
///
/// # Errors
/// [`Invalid`] names `field`.
pub fn lasts(field: &str, ttl_s: u32) -> Result<(), Invalid> {
    if (1..=TTL_MAX_S).contains(&ttl_s) {
        return Ok(());
    }
    invalid(field, format!("1 to {TTL_MAX_S} seconds (72 h)"))
}

fn classes(classes: &[i32]) -> Result<Vec<Class>, Invalid> {
    let mut known = Vec::with_capacity(classes.len());
    for (at, &class) in classes.iter().enumerate() {
        match Class::from_proto(class) {
            Some(class) if !known.contains(&class) => known.push(class),
            _ => return invalid(format!("classes[{at}]"), "scan, show, query or sync, each once"),
        }
    }
    Ok(known)
}

fn nodes(order: &ShiftOrder) -> Result<(), Invalid> {
    let name = "a name of 1 to 63 characters of a-z, 0-9 and '-'";
    if !is_name(&order.from) {
        return invalid("from", name);
    }
    if !(1..=MAX_TARGETS).contains(&order.to.len()) {
        return invalid("to", format!("1 to {MAX_TARGETS} targets"));
    }
    let mut seen = BTreeSet::from([order.from.as_str()]);
    for (at, target) in order.to.iter().enumerate() {
        if !is_name(&target.target) {
            return invalid(format!("to[{at}].target"), name);
        }
        if !seen.insert(&target.target) {
            return invalid(format!("to[{at}].target"), "another node than `from`, and each target once");
        }
        if !(target.weight > 0.0 && target.weight.is_finite()) {
            return invalid(format!("to[{at}].weight"), "a finite number above 0");
        }
    }
    if !order.to.iter().map(|target| target.weight).sum::<f64>().is_finite() {
        return invalid("to", "weights that can be added");
    }
    Ok(())
}

fn text(field: &str, text: &str, most: usize) -> Result<(), Invalid> {
    if text.chars().count() <= most && !text.chars().any(char::is_control) {
        return Ok(());
    }
    invalid(field, format!("at most {most} characters, none of them a control character"))
}

/// The shift as the plan knows it, checked; `region` and `from` are those of its key.
///
/// # Errors
/// [`Invalid`] names the first field that cannot be used.
pub fn check(shift: &v1::Shift, region: Code, from: &str) -> Result<Shift, Invalid> {
    let Some(order) = &shift.order else { return invalid("order", "an order") };
    if order.region != region.get() || order.from != from {
        return invalid("order", "region and source as in the key");
    }
    let (order, default) = (complete(order)?, Guards::default());
    if shift.id.is_empty() {
        return invalid("id", "an id");
    }
    Ok(Shift {
        id: shift.id.as_str().into(),
        region,
        classes: classes(&order.classes)?,
        from: order.from.as_str().into(),
        to: order.to.iter().map(|to| (to.target.as_str().into(), to.weight)).collect(),
        percent: order.percent,
        step: order.step.unwrap_or(STEP),
        every: Duration::from_secs(order.every_s.unwrap_or(EVERY_S).into()),
        start_ms: shift.start_unix_ms,
        expires_at_ms: shift.expires_unix_ms,
        held_ms: (shift.held_unix_ms != 0).then_some(shift.held_unix_ms),
        back: Back {
            at_once: shift.at_once,
            held_ms: (shift.revert_held_unix_ms != 0).then_some(shift.revert_held_unix_ms),
            paused_ms: shift.revert_paused_ms.max(0),
        },
        guards: Guards {
            max_utilization: order.max_utilization.unwrap_or(default.max_utilization),
            error_delta: order.error_delta.unwrap_or(default.error_delta),
            p99_factor: order.p99_factor.unwrap_or(default.p99_factor),
            rolls_back: order.on_breach() == OnBreach::Rollback,
        },
    })
}

/// Where a shift stands at an instant (milliseconds since 1970).
#[must_use]
pub fn state(shift: &Shift, wall_ms: i64) -> ShiftState {
    let percent = shift.percent_at(wall_ms);
    if wall_ms >= shift.expires_at_ms {
        return if percent > 0.0 { ShiftState::Reverting } else { ShiftState::Ended };
    }
    if percent >= shift.percent.min(100.0) {
        ShiftState::Active
    } else if shift.held_ms.is_some_and(|held| held <= wall_ms) {
        ShiftState::Held
    } else {
        ShiftState::Ramping
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn order() -> ShiftOrder {
        ShiftOrder {
            region: 440_100,
            from: "suikang".to_owned(),
            to: vec![v1::ShiftTarget { target: "yuekang".to_owned(), weight: 1.0 }],
            percent: 40.0,
            ..ShiftOrder::default()
        }
    }

    fn shift() -> v1::Shift {
        v1::Shift {
            id: "s1".to_owned(),
            order: Some(order()),
            start_unix_ms: 1_000,
            expires_unix_ms: 1_000_000,
            ..v1::Shift::default()
        }
    }

    fn checked(shift: &v1::Shift) -> Result<Shift, Invalid> {
        check(shift, Code::new(440_100).unwrap(), "suikang")
    }

    #[test]
    fn defaults_are_those_of_the_design() {
        let order = complete(&order()).unwrap();
        assert_eq!((order.step, order.every_s), (Some(10.0), Some(30)));
        assert_eq!((order.ttl_s, order.max_utilization), (Some(7_200), Some(0.80)));
        assert_eq!((order.error_delta, order.p99_factor), (Some(2.0), Some(2.0)));
        assert_eq!(order.on_breach(), OnBreach::Hold);
        assert_eq!(complete(&order).unwrap(), order);
    }

    #[test]
    fn each_bad_field_is_named() {
        let check = |field: &str, change: &dyn Fn(&mut ShiftOrder)| {
            let mut order = order();
            change(&mut order);
            assert_eq!(complete(&order).unwrap_err().field, field);
        };
        check("classes[0]", &|o| o.classes = vec![99]);
        check("classes[1]", &|o| o.classes = vec![1, 1]);
        check("from", &|o| o.from = "A/B".to_owned());
        check("to", &|o| o.to.clear());
        check("to", &|o| o.to = vec![o.to[0].clone(); 65]);
        check("to[0].target", &|o| o.to[0].target = "suikang".to_owned());
        check("to[1].target", &|o| o.to.push(o.to[0].clone()));
        check("to[0].target", &|o| o.to[0].target = String::new());
        for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            check("to[0].weight", &|o| o.to[0].weight = weight);
        }
        check("to", &|o| {
            o.to[0].weight = f64::MAX;
            o.to.push(v1::ShiftTarget { target: "xian".to_owned(), weight: f64::MAX });
        });
        for percent in [0.0, -1.0, 101.0, f64::NAN, f64::INFINITY] {
            check("percent", &|o| o.percent = percent);
        }
        check("step", &|o| o.step = Some(0.0));
        check("step", &|o| o.step = Some(f64::NAN));
        check("every_s", &|o| o.every_s = Some(3_601));
        check("ttl_s", &|o| o.ttl_s = Some(0));
        check("ttl_s", &|o| o.ttl_s = Some(259_201));
        check("max_utilization", &|o| o.max_utilization = Some(1.1));
        check("max_utilization", &|o| o.max_utilization = Some(f64::NAN));
        for points in [-0.1, 100.1, f64::NAN] {
            check("error_delta", &|o| o.error_delta = Some(points));
        }
        for factor in [0.9, 1_001.0, f64::NAN] {
            check("p99_factor", &|o| o.p99_factor = Some(factor));
        }
        check("on_breach", &|o| o.on_breach = 9);
        check("reason", &|o| o.reason = "x".repeat(501));
        check("incident", &|o| o.incident = "a\nb".to_owned());
    }

    #[test]
    fn a_shift_is_that_of_its_key() {
        assert!(checked(&shift()).is_ok());
        let other = v1::Shift { order: None, ..shift() };
        assert_eq!(checked(&other).unwrap_err().field, "order");
        assert_eq!(check(&shift(), Code::new(440_100).unwrap(), "xian").unwrap_err().field, "order");
        let nameless = v1::Shift { id: String::new(), ..shift() };
        assert_eq!(checked(&nameless).unwrap_err().field, "id");
    }

    #[test]
    fn its_state_is_a_function_of_object_and_clock() {
        let shift = checked(&shift()).unwrap();
        let at = |shift: &Shift, seconds: i64| state(shift, 1_000 + seconds * 1_000);
        assert_eq!(at(&shift, 0), ShiftState::Ramping);
        assert_eq!(at(&shift, 90), ShiftState::Active);
        assert_eq!(at(&shift, 1_000), ShiftState::Reverting);
        assert_eq!(at(&shift, 1_200), ShiftState::Ended);
        let held = Shift { held_ms: Some(31_000), ..shift.clone() };
        assert_eq!(
            [0, 30, 500].map(|s| at(&held, s)),
            [ShiftState::Ramping, ShiftState::Held, ShiftState::Held]
        );
        // Held when all of it had moved: it is active, and nothing more is to come.
        let whole = Shift { held_ms: Some(200_000), ..shift.clone() };
        assert_eq!(at(&whole, 500), ShiftState::Active);
        // Over after 999 s, at 40 %; it walks back 10 points at once, and as many every 30 s.
        let percent = |back: Back, seconds: i64| {
            Shift { back, ..shift.clone() }.percent_at(shift.expires_at_ms + seconds * 1_000)
        };
        let ms = |seconds: i64| shift.expires_at_ms + seconds * 1_000;
        assert_eq!([0, 29, 30, 90].map(|s| percent(Back::default(), s)), [30.0, 30.0, 20.0, 0.0]);
        let held = Back { held_ms: Some(ms(40)), ..Back::default() };
        assert_eq!([30, 90, 9_000].map(|s| percent(held, s)), [20.0, 20.0, 20.0]);
        let resumed = Back { paused_ms: 100_000, ..Back::default() };
        assert_eq!([140, 160, 190].map(|s| percent(resumed, s)), [20.0, 10.0, 0.0]);
        let at_once = Back { at_once: true, ..Back::default() };
        assert_eq!([-1, 0].map(|s| percent(at_once, s)), [40.0, 0.0]);
    }
}
