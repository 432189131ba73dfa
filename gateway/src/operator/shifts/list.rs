//! Which shifts are there, and where do they stand?
//!
//! Those whose keys stand are told from what this gateway has read; the log is read from the registry
//! when somebody asks for it.

use super::{Shifts, away, guard};
use crate::{
    clock::unix_ms,
    plan::{HeldHere, ShiftSignal},
    registry::{Entry, keys::Key, shift},
    table::Shift,
};
use prost::Message as _;
use std::collections::BTreeMap;
use suiyue_proto::v1::{self, ShiftInfo, ShiftState};
use tonic::Status;

/// A plan is no older than this, in milliseconds; a clock that differs by more was set.
const FRESH: i64 = 2_000;

impl Shifts {
    pub(super) async fn list(&self, asked: &v1::ListShiftsRequest) -> Result<v1::ListShiftsResponse, Status> {
        if asked.region != 0 {
            super::routing_exactly(asked.region)?;
        }
        let now = unix_ms();
        let mut shifts: Vec<_> =
            self.entries().into_iter().filter_map(|entry| self.info(&entry, now)).collect();
        if asked.history {
            shifts = self.with_log(shifts).await?;
        }
        shifts.retain(|info| {
            let order = info.shift.as_ref().and_then(|shift| shift.order.as_ref());
            let about = asked.region == 0 || order.is_some_and(|order| order.region == asked.region);
            about && (asked.ended || asked.history || info.state() != ShiftState::Ended)
        });
        Ok(v1::ListShiftsResponse { table: Some(self.0.table_info(&self.0.snapshots.current())), shifts })
    }

    /// All shifts of the log, newest first; `standing` are those whose key stands.
    async fn with_log(&self, standing: Vec<ShiftInfo>) -> Result<Vec<ShiftInfo>, Status> {
        let (registry, _) = self.writable()?;
        let listing = registry.list(&self.0.prefix.shift_log()).await.map_err(|error| away(&error))?;
        let logged = listing.entries.into_iter().filter_map(|entry| {
            let shift = v1::Shift::decode(entry.value).ok()?;
            let (state, revision) = (ShiftState::Ended.into(), entry.mod_revision);
            Some((
                shift.id.clone(),
                ShiftInfo { shift: Some(shift), state, revision, ..ShiftInfo::default() },
            ))
        });
        let mut all: BTreeMap<String, ShiftInfo> = logged.collect();
        for info in standing {
            if let Some(shift) = &info.shift {
                all.insert(shift.id.clone(), info);
            }
        }
        Ok(all.into_values().rev().collect())
    }

    /// The keys of shifts, as this gateway has read them.
    fn entries(&self) -> Vec<Entry> {
        let entries = self.0.followed.as_ref().map(|followed| followed.entries()).unwrap_or_default();
        let is_shift = |entry: &Entry| matches!(self.0.prefix.parse(&entry.key), Ok(Key::Shift { .. }));
        entries.into_iter().filter(is_shift).collect()
    }

    /// A shift and where it stands; `None`: it is quarantined.
    pub(super) fn info(&self, entry: &Entry, now: i64) -> Option<ShiftInfo> {
        let Ok(Key::Shift { region, from }) = self.0.prefix.parse(&entry.key) else { return None };
        let stored = v1::Shift::decode(entry.value.clone()).ok()?;
        let shift = shift::check(&stored, region, &from).ok()?;
        // By the shift's own clock, as far as the plan has seen it.
        let snapshot = self.0.snapshots.current();
        let signals = snapshot.inputs.as_ref().map(|inputs| &inputs.signals.shifts);
        let clock = signals.and_then(|signals| signals.get(&shift.id)).map_or(now, |signal| signal.now_ms);
        let held = self.0.holds.of(&shift);
        let here = held.as_ref().map(|hold| HeldHere { at_ms: hold.at_ms, rolls_back: hold.rolls_back });
        let signal = ShiftSignal { now_ms: clock.max(now.min(clock + FRESH)), held: here };
        let seen = signal.seen(&shift);
        Some(ShiftInfo {
            shift: Some(stored),
            state: shift::state(&seen, signal.now_ms).into(),
            percent: seen.percent_at(signal.now_ms),
            revision: entry.mod_revision,
            held_here: held.map(|hold| guard::told(&hold.breach, &self.0.gateway, hold.at_ms)),
            next_unix_ms: next_step(&seen, signal.now_ms).unwrap_or(0),
        })
    }
}

/// When its part changes next by the clock, unless somebody changes the shift before.
fn next_step(shift: &Shift, now: i64) -> Option<i64> {
    let every = i64::try_from(shift.every.as_millis()).ok()?;
    let step_after = |from: i64| {
        let walked = now.saturating_sub(from);
        if every == 0 || walked < 0 { None } else { Some(from + (walked / every + 1) * every) }
    };
    let is = shift.percent_at(now);
    let changes = |at: &i64| *at > now && (shift.percent_at(*at) - is).abs() > f64::EPSILON;
    let grows = step_after(shift.start_ms).filter(|at| *at < shift.expires_at_ms);
    let shrinks = step_after(shift.expires_at_ms.saturating_add(shift.back.paused_ms));
    let expires = Some(shift.expires_at_ms).filter(|at| *at < i64::MAX);
    [grows, expires, shrinks].into_iter().flatten().filter(changes).min()
}
