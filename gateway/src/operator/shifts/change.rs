//! Which shifts are there, and how is one held, resumed, extended or ended?
//!
//! A change is a new value of the same key, by compare-and-swap. Nobody steps a shift back: a cancelled
//! one is one whose end is now. Less traffic moved needs no guard but the source's own caps; resuming
//! grows only to what was planned.

use super::{
    Shifts,
    apply::{away, read},
    invalid, refusal, wall_ms,
};
use crate::registry::{
    Entry, Outcome, Txn,
    keys::Key,
    shift::{self, lasts},
};
use prost::Message as _;
use suiyue_proto::{
    reason::Reason,
    v1::{self, ShiftInfo, ShiftState, change_shift_request::Change},
};
use tonic::Status;

impl Shifts {
    pub(super) fn list(&self, asked: &v1::ListShiftsRequest) -> Result<v1::ListShiftsResponse, Status> {
        if asked.region != 0 {
            super::routing_exactly(asked.region)?;
        }
        let now = wall_ms();
        let shifts = self.entries().into_iter().filter_map(|entry| self.info(&entry, now)).filter(|info| {
            let order = info.shift.as_ref().and_then(|shift| shift.order.as_ref());
            let about = asked.region == 0 || order.is_some_and(|order| order.region == asked.region);
            about && (asked.ended || info.state() != ShiftState::Ended)
        });
        let shifts = shifts.collect();
        Ok(v1::ListShiftsResponse { table: Some(self.0.table_info(&self.0.snapshots.current())), shifts })
    }

    pub(super) async fn change(
        &self,
        asked: &v1::ChangeShiftRequest,
        actor: &str,
    ) -> Result<v1::ChangeShiftResponse, Status> {
        let registry = self.0.registry.as_ref().ok_or_else(|| Reason::RegistryNone.status())?;
        let change = asked.change.ok_or_else(|| invalid("change", "hold, resume, ttl_s or cancel"))?;
        let gone = || Reason::ShiftNotFound.status();
        let known = self
            .entries()
            .into_iter()
            .find(|entry| v1::Shift::decode(entry.value.clone()).is_ok_and(|shift| shift.id == asked.id));
        let key = known.ok_or_else(gone)?.key;
        let entry = read(&**registry, &key).await?.ok_or_else(gone)?;
        let shift = v1::Shift::decode(entry.value.clone()).map_err(|_| gone())?;
        let now = wall_ms();
        if shift.id != asked.id || now >= shift.expires_unix_ms {
            return Err(gone());
        }
        let changed = changed(&shift, change, now)?;
        if changed == shift {
            return Ok(v1::ChangeShiftResponse { shift: self.info(&entry, now), written: false });
        }
        let value = bytes::Bytes::from(changed.encode_to_vec());
        let txn = Txn {
            expect: vec![(key.clone(), entry.mod_revision)],
            puts: vec![(key.clone(), value.clone(), 0)],
            deletes: Vec::new(),
        };
        match registry.commit(txn).await.map_err(|error| away(&error))? {
            Outcome::Committed(mod_revision) => {
                tracing::info!(id = %asked.id, actor, ?change, "a shift is changed");
                let entry = Entry { value, mod_revision, ..entry };
                Ok(v1::ChangeShiftResponse { shift: self.info(&entry, now), written: true })
            }
            Outcome::Conflict(_) => Err(Reason::PlanStale.with(&[("key", &key)])),
        }
    }

    /// The keys of shifts, as this gateway has read them.
    fn entries(&self) -> Vec<Entry> {
        let entries = self.0.followed.as_ref().map(|followed| followed.entries()).unwrap_or_default();
        let is_shift = |entry: &Entry| matches!(self.0.prefix.parse(&entry.key), Ok(Key::Shift { .. }));
        entries.into_iter().filter(is_shift).collect()
    }

    /// A shift and where it stands; `None`: it is quarantined.
    fn info(&self, entry: &Entry, now: i64) -> Option<ShiftInfo> {
        let Ok(Key::Shift { region, from }) = self.0.prefix.parse(&entry.key) else { return None };
        let stored = v1::Shift::decode(entry.value.clone()).ok()?;
        let shift = shift::check(&stored, region, &from).ok()?;
        Some(ShiftInfo {
            shift: Some(stored),
            state: shift::state(&shift, now).into(),
            percent: shift.percent_at(now),
            revision: entry.mod_revision,
        })
    }
}

/// The shift after a change.
fn changed(shift: &v1::Shift, change: Change, now: i64) -> Result<v1::Shift, Status> {
    let mut changed = shift.clone();
    match change {
        Change::Hold(_) if shift.held_unix_ms == 0 => changed.held_unix_ms = now,
        Change::Resume(_) if shift.held_unix_ms != 0 => {
            // It grows on from where it was held.
            let held_for = now.saturating_sub(shift.held_unix_ms).max(0);
            changed.start_unix_ms = shift.start_unix_ms.saturating_add(held_for);
            changed.held_unix_ms = 0;
        }
        Change::Hold(_) | Change::Resume(_) => {}
        Change::TtlS(ttl_s) => {
            lasts("ttl_s", ttl_s).map_err(|invalid| refusal(&invalid))?;
            changed.expires_unix_ms = now.saturating_add(i64::from(ttl_s) * 1_000);
        }
        Change::Cancel(_) => (changed.expires_unix_ms, changed.cancelled) = (now, true),
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shift() -> v1::Shift {
        v1::Shift { start_unix_ms: 1_000, expires_unix_ms: 100_000, ..v1::Shift::default() }
    }

    #[test]
    fn holding_and_resuming_lose_no_time() {
        let held = changed(&shift(), Change::Hold(true), 31_000).unwrap();
        assert_eq!(held.held_unix_ms, 31_000);
        assert_eq!(changed(&held, Change::Hold(true), 40_000).unwrap(), held, "it is held already");
        let resumed = changed(&held, Change::Resume(true), 51_000).unwrap();
        assert_eq!((resumed.start_unix_ms, resumed.held_unix_ms), (21_000, 0));
        assert_eq!(changed(&resumed, Change::Resume(true), 60_000).unwrap(), resumed);
    }

    #[test]
    fn it_is_extended_within_limits_and_cancelled_at_once() {
        assert_eq!(changed(&shift(), Change::TtlS(60), 50_000).unwrap().expires_unix_ms, 110_000);
        assert!(changed(&shift(), Change::TtlS(0), 50_000).is_err());
        assert!(changed(&shift(), Change::TtlS(259_201), 50_000).is_err());
        let cancelled = changed(&shift(), Change::Cancel(true), 50_000).unwrap();
        assert_eq!((cancelled.expires_unix_ms, cancelled.cancelled), (50_000, true));
    }
}
