//! How is a shift held, resumed, extended, ended or taken back?
//!
//! A change is a new value of the same key, by compare-and-swap, with its copy in the log and an entry of
//! the audit. Nobody steps a shift: a cancelled one is one whose end is now. What walks back can be held
//! and resumed as well. Rolling back restores what stood there before, as a new revision.

use super::{Shifts, invalid, read, refusal};
use crate::{
    audit::actor::Deed,
    clock::unix_ms,
    registry::{Entry, Txn, keys::Key, shift::lasts},
};
use bytes::Bytes;
use prost::Message as _;
use suiyue_proto::{
    reason::Reason,
    v1::{self, ShiftEnd, ShiftState, change_shift_request::Change},
};
use tonic::Status;

impl Shifts {
    pub(super) async fn change(
        &self,
        asked: &v1::ChangeShiftRequest,
        deed: &Deed,
    ) -> Result<v1::ChangeShiftResponse, Status> {
        if asked.dry_run {
            deed.rehearse();
        }
        let (registry, _) = self.writable()?;
        let change =
            asked.change.ok_or_else(|| invalid("change", "hold, resume, ttl_s, cancel or rollback"))?;
        let gone = || Reason::ShiftNotFound.with(&[("id", &asked.id)]);
        // Its key is in the log, whether this gateway has read the shift already or not.
        let log = self.0.prefix.key(&Key::ShiftLog(asked.id.clone()));
        let logged = read(&**registry, &log).await?.ok_or_else(gone)?;
        let order = v1::Shift::decode(logged.value).ok().and_then(|shift| shift.order).ok_or_else(gone)?;
        let region = super::routing_exactly(order.region).map_err(|_| gone())?;
        let key = Key::Shift { region, from: order.from };
        let entry = read(&**registry, &self.0.prefix.key(&key)).await?.ok_or_else(gone)?;
        let shift = v1::Shift::decode(entry.value.clone()).map_err(|_| gone())?;
        let now = unix_ms();
        let info = self.info(&entry, now).ok_or_else(gone)?;
        if shift.id != asked.id || info.state() == ShiftState::Ended {
            return Err(gone());
        }
        let changed = changed(&shift, change, now)?;
        if changed.shift == shift {
            return Ok(v1::ChangeShiftResponse { shift: Some(info), written: false });
        }
        let value = Bytes::from(changed.shift.encode_to_vec());
        let mut after = Entry { value, ..entry.clone() };
        if !asked.dry_run {
            let txn = self.replacement(&key, &entry, &changed);
            after.mod_revision = self.commit(deed, &key, &changed.shift, (Some(entry), txn)).await?;
            tracing::info!(id = %asked.id, actor = %deed.actor.name, ?change, "a shift is changed");
        }
        Ok(v1::ChangeShiftResponse { shift: self.info(&after, now), written: !asked.dry_run })
    }

    fn replacement(&self, key: &Key, entry: &Entry, changed: &Changed) -> Txn {
        let log = |shift: &v1::Shift| {
            let key = self.0.prefix.key(&Key::ShiftLog(shift.id.clone()));
            (key, Bytes::from(shift.encode_to_vec()), 0)
        };
        let key = self.0.prefix.key(key);
        let mut puts = vec![(key.clone(), changed.shift.encode_to_vec().into(), 0), log(&changed.shift)];
        puts.extend(changed.ended.as_ref().map(log));
        Txn { expect: vec![(key, entry.mod_revision)], puts, deletes: Vec::new() }
    }
}

/// What a change makes of a shift.
#[derive(Debug)]
struct Changed {
    /// What stands at its key.
    shift: v1::Shift,
    /// The shift that does so no more.
    ended: Option<v1::Shift>,
}

/// The shift after a change.
fn changed(shift: &v1::Shift, change: Change, now: i64) -> Result<Changed, Status> {
    if matches!(change, Change::Rollback(_)) {
        return Ok(rolled_back(shift, now));
    }
    let mut changed = shift.clone();
    let back = now >= shift.expires_unix_ms;
    match change {
        Change::Hold(_) if back && shift.revert_held_unix_ms == 0 => changed.revert_held_unix_ms = now,
        Change::Hold(_) if !back && shift.held_unix_ms == 0 => changed.held_unix_ms = now,
        Change::Resume(_) if back && shift.revert_held_unix_ms != 0 => {
            let held_for = now.saturating_sub(shift.revert_held_unix_ms).max(0);
            changed.revert_paused_ms = shift.revert_paused_ms.saturating_add(held_for);
            (changed.revert_held_unix_ms, changed.breach) = (0, None);
        }
        Change::Resume(_) if !back && shift.held_unix_ms != 0 => {
            // It grows on from where it was held.
            let held_for = now.saturating_sub(shift.held_unix_ms).max(0);
            changed.start_unix_ms = shift.start_unix_ms.saturating_add(held_for);
            (changed.held_unix_ms, changed.breach) = (0, None);
        }
        Change::TtlS(_) if back => {
            return Err(invalid("ttl_s", "a shift that does not walk back yet: plan a new one"));
        }
        Change::TtlS(ttl_s) => {
            lasts("ttl_s", ttl_s).map_err(|invalid| refusal(&invalid))?;
            changed.expires_unix_ms = now.saturating_add(i64::from(ttl_s) * 1_000);
        }
        Change::Cancel(_) if !back => {
            (changed.expires_unix_ms, changed.cancelled) = (now, true);
            changed.end = ShiftEnd::Cancelled.into();
        }
        Change::Hold(_) | Change::Resume(_) | Change::Cancel(_) | Change::Rollback(_) => {}
    }
    Ok(Changed { shift: changed, ended: None })
}

/// What stood there before, if that still has time; else the shift itself, with all of it moved back.
fn rolled_back(shift: &v1::Shift, now: i64) -> Changed {
    let taken_back = taken_back(shift, now);
    match &shift.previous {
        Some(previous) if now < previous.expires_unix_ms => {
            Changed { shift: (**previous).clone(), ended: Some(v1::Shift { previous: None, ..taken_back }) }
        }
        _ => Changed { shift: taken_back, ended: None },
    }
}

/// The shift, moved back at once.
pub(super) fn taken_back(shift: &v1::Shift, now: i64) -> v1::Shift {
    v1::Shift {
        expires_unix_ms: shift.expires_unix_ms.min(now),
        end: ShiftEnd::RolledBack.into(),
        at_once: true,
        ..shift.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shift() -> v1::Shift {
        v1::Shift { start_unix_ms: 1_000, expires_unix_ms: 100_000, ..v1::Shift::default() }
    }

    fn after(shift: &v1::Shift, change: Change, now: i64) -> v1::Shift {
        changed(shift, change, now).unwrap().shift
    }

    #[test]
    fn holding_and_resuming_lose_no_time() {
        let held = after(&shift(), Change::Hold(true), 31_000);
        assert_eq!(held.held_unix_ms, 31_000);
        assert_eq!(after(&held, Change::Hold(true), 40_000), held);
        let breached = v1::Shift { breach: Some(v1::ShiftBreach::default()), ..held };
        let resumed = after(&breached, Change::Resume(true), 41_000);
        assert_eq!((resumed.start_unix_ms, resumed.held_unix_ms, resumed.breach), (11_000, 0, None));
        assert_eq!(after(&shift(), Change::Resume(true), 41_000), shift());
    }

    #[test]
    fn what_walks_back_is_held_and_resumed_and_not_extended() {
        let held = after(&shift(), Change::Hold(true), 130_000);
        assert_eq!((held.held_unix_ms, held.revert_held_unix_ms), (0, 130_000));
        let resumed = after(&held, Change::Resume(true), 150_000);
        assert_eq!((resumed.revert_held_unix_ms, resumed.revert_paused_ms), (0, 20_000));
        assert_eq!(after(&shift(), Change::Cancel(true), 130_000), shift());
        assert!(changed(&shift(), Change::TtlS(60), 130_000).is_err());
    }

    #[test]
    fn an_end_is_now_and_a_new_end_is_later() {
        let ended = after(&shift(), Change::Cancel(true), 50_000);
        assert_eq!((ended.expires_unix_ms, ended.cancelled, ended.at_once), (50_000, true, false));
        assert_eq!(ended.end(), ShiftEnd::Cancelled);
        assert_eq!(after(&shift(), Change::TtlS(60), 50_000).expires_unix_ms, 110_000);
        assert!(changed(&shift(), Change::TtlS(0), 50_000).is_err());
    }

    #[test]
    fn a_rollback_restores_what_still_has_time_and_else_nothing() {
        let alone = after(&shift(), Change::Rollback(true), 50_000);
        assert_eq!((alone.expires_unix_ms, alone.at_once, alone.end()), (50_000, true, ShiftEnd::RolledBack));
        let earlier = v1::Shift { id: "a".to_owned(), ..shift() };
        let later = v1::Shift { id: "b".to_owned(), previous: Some(Box::new(earlier.clone())), ..shift() };
        let back = changed(&later, Change::Rollback(true), 50_000).unwrap();
        assert_eq!(back.shift, earlier);
        let ended = back.ended.unwrap();
        assert_eq!((ended.id.as_str(), ended.end(), ended.previous), ("b", ShiftEnd::RolledBack, None));
        // The earlier one's time is over.
        let back = changed(&later, Change::Rollback(true), 100_000).unwrap();
        assert_eq!((back.shift.id.as_str(), back.shift.at_once), ("b", true));
    }
}
