//! May this plan be carried out?
//!
//! Everything is computed again, and must come to the hash that was shown. Then one transaction compares
//! the revision of every key that was read and writes the shift, its copy in the log and the entry of the
//! audit. Why a plan may need another person stands in [`super::approval`].

use super::{Planned, Shifts, approval::Approved, invalid, read};
use crate::{
    audit::{What, actor::Deed},
    clock::unix_ms,
    operator::{apps::not_written, dump},
    registry::{Entry, Outcome, Txn, keys::Key, shift},
};
use bytes::Bytes;
use prost::Message as _;
use suiyue_proto::{
    reason::Reason,
    v1::{self, ReadKey, ShiftEnd, ShiftMode},
};
use tonic::Status;

impl Shifts {
    pub(super) async fn apply(
        &self,
        asked: v1::ApplyShiftRequest,
        deed: &Deed,
    ) -> Result<v1::ApplyShiftResponse, Status> {
        if asked.dry_run {
            deed.rehearse();
        }
        let (registry, _) = self.writable()?;
        let order = asked.order.as_ref().ok_or_else(|| invalid("order", "an order"))?;
        let snapshot = self.0.snapshots.current();
        let planned = self.planned(&snapshot, order, 0.0, &asked.without).await?;
        let key = Key::Shift { region: planned.code, from: planned.order.from.clone() };
        let present = read(&**registry, &self.0.prefix.key(&key)).await?;
        let running = present.as_ref().and_then(running);
        if let (Some(entry), Some(shift)) = (&present, &running)
            && shift.plan_hash == asked.plan_hash
        {
            let (shift, revision) = (Some(shift.clone()), entry.mod_revision);
            return Ok(v1::ApplyShiftResponse { shift, revision, written: false });
        }
        current((&planned.read, &planned.hash), &asked.read, &asked.plan_hash)?;
        let refused = planned.preview.refusals.first();
        if let Some(guard) = refused.filter(|_| !asked.force) {
            let number = planned.preview.guards.iter().find(|guard| guard.refuses);
            let value = number.map_or_else(String::new, |guard| format!("{:.2}", guard.value));
            return Err(Reason::ShiftRefused.with(&[("guard", guard), ("value", &value)]));
        }
        let needed = refused.is_some() || planned.preview.needs_approval;
        let approved = match needed {
            true => Some(self.approved(&planned.hash, planned.preview.moves, deed).await?),
            false => None,
        };
        let shift = begun(&planned, deed, running, &asked, approved.as_ref());
        if asked.dry_run {
            return Ok(v1::ApplyShiftResponse { shift: Some(shift), revision: 0, written: false });
        }
        let txn = self.transaction(&planned, &shift, &key, approved);
        let revision = self.commit(deed, &key, &shift, (present, txn)).await?;
        tracing::info!(id = %shift.id, region = %planned.code, from = %planned.order.from,
            percent = planned.order.percent, actor = %shift.actor, "a shift begins");
        Ok(v1::ApplyShiftResponse { shift: Some(shift), revision, written: true })
    }

    fn transaction(
        &self,
        planned: &Planned,
        shift: &v1::Shift,
        key: &Key,
        approved: Option<Approved>,
    ) -> Txn {
        let root = self.0.prefix.root();
        let log = self.0.prefix.key(&Key::ShiftLog(shift.id.clone()));
        let value = Bytes::from(shift.encode_to_vec());
        let mut txn = Txn {
            expect: planned.read.iter().map(|r| (format!("{root}{}", r.key), r.mod_revision)).collect(),
            puts: vec![(self.0.prefix.key(key), value.clone(), 0), (log.clone(), value, 0)],
            deletes: Vec::new(),
        };
        txn.expect.push((log, 0));
        if let Some(previous) = &shift.previous {
            let ended = v1::Shift { end: ShiftEnd::Preempted.into(), ..(**previous).clone() };
            let log = self.0.prefix.key(&Key::ShiftLog(ended.id.clone()));
            txn.puts.push((log, ended.encode_to_vec().into(), 0));
        }
        if let Some(Approved { entry, .. }) = approved {
            txn.expect.push((entry.key.clone(), entry.mod_revision));
            // It is for this plan, and for once.
            txn.deletes.push(entry.key);
        }
        txn
    }

    /// Writes a shift with what belongs to it and an entry of the audit. The new revision.
    ///
    /// # Errors
    /// [`Reason::PlanStale`] names the key that was changed meanwhile.
    pub(super) async fn commit(
        &self,
        deed: &Deed,
        key: &Key,
        shift: &v1::Shift,
        (before, txn): (Option<Entry>, Txn),
    ) -> Result<i64, Status> {
        let (_, audit) = self.writable()?;
        let what = What {
            key: key.to_string(),
            replaced: before.as_ref().map_or(0, |entry| entry.mod_revision),
            before: before.map(|entry| dump::value(key, entry.value)),
            after: Some(dump::value(key, shift.encode_to_vec().into())),
        };
        match audit.commit(deed, &what, &txn).await {
            Ok(Outcome::Committed(revision)) => Ok(revision),
            Ok(Outcome::Conflict(present)) => {
                let revision = |key: &String| {
                    present.iter().find(|entry| entry.key == *key).map_or(0, |entry| entry.mod_revision)
                };
                let changed = txn.expect.iter().find(|(key, expected)| revision(key) != *expected);
                let root = self.0.prefix.root();
                let key = changed.map_or("unknown", |(key, _)| key.strip_prefix(&root).unwrap_or(key));
                Err(Reason::PlanStale.with(&[("key", key)]))
            }
            Err(failure) => Err(not_written(&failure)),
        }
    }
}

/// What the plan was made from still stands.
///
/// # Errors
/// [`Reason::PlanStale`] names the key that has changed, or `order`.
pub(super) fn current(
    (now, hash): (&[ReadKey], &[u8]),
    then: &[ReadKey],
    shown: &[u8],
) -> Result<(), Status> {
    let stale = |key: &str| Reason::PlanStale.with(&[("key", key)]);
    if let Some(changed) = now.iter().find(|key| !then.contains(key)) {
        return Err(stale(&changed.key));
    }
    if let Some(gone) = then.iter().find(|key| !now.contains(key)) {
        return Err(stale(&gone.key));
    }
    if hash == shown { Ok(()) } else { Err(stale("order")) }
}

fn begun(
    planned: &Planned,
    deed: &Deed,
    replaced: Option<v1::Shift>,
    asked: &v1::ApplyShiftRequest,
    approved: Option<&Approved>,
) -> v1::Shift {
    let now = unix_ms();
    let lasts = i64::from(planned.order.ttl_s.unwrap_or(shift::TTL_MAX_S)) * 1_000;
    v1::Shift {
        // Sorts by time; the rest keeps two of one millisecond apart.
        id: format!("{now:012x}-{:08x}", rand::random::<u32>()),
        order: Some(planned.order.clone()),
        start_unix_ms: now,
        expires_unix_ms: now.saturating_add(lasts),
        actor: deed.actor.name.clone(),
        approver: approved.map(|approved| approved.by.clone()).unwrap_or_default(),
        plan_hash: planned.hash.clone().into(),
        mode: ShiftMode::Manual.into(),
        replaces: replaced.as_ref().map(|shift| shift.id.clone()).unwrap_or_default(),
        without: asked.without.clone(),
        forced: !planned.preview.refusals.is_empty(),
        previous: replaced.map(|shift| Box::new(v1::Shift { previous: None, ..shift })),
        ..v1::Shift::default()
    }
}

/// The shift of an entry, unless its time is over.
fn running(entry: &Entry) -> Option<v1::Shift> {
    let shift = v1::Shift::decode(entry.value.clone()).map_err(|error| {
        tracing::warn!(key = %entry.key, %error, "a shift cannot be read: it is replaced");
    });
    shift.ok().filter(|shift| unix_ms() < shift.expires_unix_ms)
}
