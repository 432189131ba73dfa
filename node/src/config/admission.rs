//! How much may the node work on at the same time, and what does it only pretend to do?

use super::file::{File, Ranged};
use super::{Check, Error};
use crate::admission::IN_FLIGHT;
use std::time::Duration;

/// Calls at the same time that make sense.
const IN_FLIGHT_RANGE: std::ops::RangeInclusive<u32> = 4..=10_000;
const SLOTS: std::ops::RangeInclusive<u32> = 1..=10_000;
const WORK_MS: std::ops::RangeInclusive<u32> = 1..=60_000;

/// What is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// Unary calls that are worked on at the same time at most; how many it is in fact is found out.
    pub in_flight_max: u32,
    /// For drills: places, and how long each call takes one.
    pub emulated_work: Option<(u32, Duration)>,
}

impl Default for Admission {
    fn default() -> Self {
        Self { in_flight_max: IN_FLIGHT, emulated_work: None }
    }
}

/// What the file says of it.
pub(super) fn admission(check: &Check<'_>, file: &File) -> Result<Admission, Error> {
    let in_range = |field: &str, value: &Ranged, range: std::ops::RangeInclusive<u32>| {
        if range.contains(value.get_ref()) {
            return Ok(*value.get_ref());
        }
        let problem = format!("{field}: use {} to {}", range.start(), range.end());
        Err(check.at(value.span(), problem))
    };
    let mut admission = Admission::default();
    if let Some(value) = file.admission.as_ref().and_then(|admission| admission.in_flight_max.as_ref()) {
        admission.in_flight_max = in_range("admission.in_flight_max", value, IN_FLIGHT_RANGE)?;
    }
    if let Some(work) = &file.emulated_work {
        let slots = in_range("emulated_work.slots", &work.slots, SLOTS)?;
        let work_ms = in_range("emulated_work.work_ms", &work.work_ms, WORK_MS)?;
        admission.emulated_work = Some((slots, Duration::from_millis(work_ms.into())));
    }
    Ok(admission)
}
