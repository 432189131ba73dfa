//! Which entries of the shifts' log go?
//!
//! The log would grow for ever. Whoever begins a shift takes out what has ended and is either among the oldest
//! beyond 1,000 or older than 400 days; a shift that has not ended stays, whatever its age. The audit keeps
//! every change of every shift. One transaction takes out 32 at most, so that a log which grew long before
//! shrinks step by step, and never holds up a shift.

use super::Shifts;
use crate::{
    registry::{Entry, shift},
    table::Shift,
};
use prost::Message as _;
use std::time::Duration;
use suiyue_proto::{
    region::Code,
    v1::{self, ShiftEnd, ShiftState},
};

/// Entries that are kept.
const KEPT: usize = 1_000;
/// For so long.
const AGE: Duration = Duration::from_secs(400 * 24 * 3600);
/// Entries that one transaction takes out: etcd takes 128 operations.
const AT_ONCE: usize = 32;
/// The log is not waited for.
const WITHIN: Duration = Duration::from_secs(1);

impl Shifts {
    /// Keys of the log to be taken out now. Nothing where the log cannot be read in time.
    pub(super) async fn prunable(&self, now: i64) -> Vec<String> {
        let Some(registry) = &self.0.registry else { return Vec::new() };
        let prefix = self.0.prefix.shift_log();
        match tokio::time::timeout(WITHIN, registry.list(&prefix)).await {
            Ok(Ok(log)) => prunable(&log.entries, now),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the shifts' log cannot be read: nothing is taken out");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }
}

/// Ids sort by time, so keys do.
fn prunable(log: &[Entry], now: i64) -> Vec<String> {
    let mut oldest: Vec<&Entry> = log.iter().collect();
    oldest.sort_by(|a, b| a.key.cmp(&b.key));
    let beyond = log.len().saturating_sub(KEPT);
    let old = now.saturating_sub(i64::try_from(AGE.as_millis()).unwrap_or(i64::MAX));
    let goes = oldest.into_iter().enumerate().filter(|(at, entry)| {
        let Ok(stored) = v1::Shift::decode(entry.value.clone()) else { return *at < beyond };
        (*at < beyond || stored.expires_unix_ms < old) && has_ended(&stored, now)
    });
    goes.take(AT_ONCE).map(|(_, entry)| entry.key.clone()).collect()
}

/// Another one took its place, or all of it has walked back. What cannot be read as a shift never runs.
fn has_ended(stored: &v1::Shift, now: i64) -> bool {
    let checked = || -> Option<Shift> {
        let order = stored.order.as_ref()?;
        shift::check(stored, Code::new(order.region)?, &order.from).ok()
    };
    stored.end() == ShiftEnd::Preempted
        || checked().is_none_or(|shift| shift::state(&shift, now) == ShiftState::Ended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::shift::tests::order;

    const NOW: i64 = 1_800_000_000_000;

    fn entry(at: usize, expires_unix_ms: i64, change: impl FnOnce(&mut v1::Shift)) -> Entry {
        let mut stored = v1::Shift {
            id: format!("{at:06}"),
            order: Some(order()),
            start_unix_ms: expires_unix_ms - 60_000,
            expires_unix_ms,
            ..v1::Shift::default()
        };
        change(&mut stored);
        Entry {
            key: format!("/suiyue/v1/shifts/log/{at:06}"),
            value: stored.encode_to_vec().into(),
            created: 1,
            mod_revision: 1,
            lease: 0,
        }
    }

    fn ended(at: usize) -> Entry {
        entry(at, NOW - 3_600_000, |_| {})
    }

    fn goes(log: &[Entry]) -> Vec<usize> {
        let number = |key: String| key.rsplit('/').next().unwrap().parse().unwrap();
        prunable(log, NOW).into_iter().map(number).collect()
    }

    #[test]
    fn the_oldest_beyond_the_bound_go_a_few_at_a_time() {
        let log = |count: usize| (0..count).rev().map(ended).collect::<Vec<_>>();
        assert_eq!(goes(&log(1_000)), [0; 0]);
        assert_eq!(goes(&log(1_003)), [0, 1, 2]);
        assert_eq!(goes(&log(2_000)).len(), AT_ONCE);
    }

    #[test]
    fn what_has_not_ended_stays_whatever_its_age() {
        let mut log: Vec<_> = (0..1_006).map(ended).collect();
        log[0] = entry(0, NOW + 1, |_| {});
        log[1] = entry(1, NOW - 1, |_| {});
        // It is held on its way back since long ago.
        let old = NOW - 500 * 24 * 3_600_000;
        log[2] = entry(2, old, |shift| shift.revert_held_unix_ms = old + 1);
        log[3] = entry(3, NOW + 1, |shift| shift.end = ShiftEnd::Preempted.into());
        assert_eq!(goes(&log), [3, 4, 5]);
    }

    #[test]
    fn what_is_old_goes_and_what_cannot_be_read_only_when_there_is_too_much() {
        let old = NOW - 401 * 24 * 3_600_000;
        let mut log = vec![ended(0), entry(1, old, |_| {}), ended(2)];
        assert_eq!(goes(&log), [1]);
        log[1].value = bytes::Bytes::from_static(b"\xff\xff");
        assert_eq!(goes(&log), [0; 0]);
    }
}
