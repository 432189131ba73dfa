//! May this plan be carried out?
//!
//! Everything is computed again, and must come to the hash that was shown. Then one transaction compares
//! the revision of every key that was read and writes the shift and its copy in the log. A plan that
//! moves much, or that a guard refuses, needs the word of another person, ten minutes old at most.

use super::{Planned, Shifts, invalid, wall_ms};
use crate::registry::{Entry, Error, Outcome, Registry, Txn, keys::Key, shift};
use prost::Message as _;
use std::time::Duration;
use suiyue_proto::{
    reason::Reason,
    v1::{self, ReadKey},
};
use tonic::Status;

/// An approval lasts so long.
const APPROVAL: Duration = Duration::from_secs(600);
/// Clocks of gateways differ by so much at most.
const SKEW: Duration = Duration::from_secs(30);
/// Bytes of a plan's hash.
const HASH: usize = 32;

impl Shifts {
    pub(super) async fn apply(
        &self,
        asked: v1::ApplyShiftRequest,
        actor: String,
    ) -> Result<v1::ApplyShiftResponse, Status> {
        let registry = self.0.registry.as_ref().ok_or_else(|| Reason::RegistryNone.status())?;
        let order = asked.order.as_ref().ok_or_else(|| invalid("order", "an order"))?;
        let snapshot = self.0.snapshots.current();
        let planned = self.planned(&snapshot, order, 0.0, &asked.without).await?;
        let key = self.0.prefix.key(&Key::Shift { region: planned.code, from: planned.order.from.clone() });
        if let Some(entry) = read(&**registry, &key).await?
            && let Some(shift) = running(&entry).filter(|shift| shift.plan_hash == asked.plan_hash)
        {
            return Ok(v1::ApplyShiftResponse {
                shift: Some(shift),
                revision: entry.mod_revision,
                written: false,
            });
        }
        current(&planned, &asked)?;
        let approval = self.allowed(&**registry, &planned, asked.force, &actor).await?;
        let shift = begun(&planned, &actor, approval.as_ref().map(|(_, by)| by.as_str()));
        let txn = self.write(&planned, &shift, &key, approval.map(|(entry, _)| entry));
        let revision = commit(&**registry, txn, &key, &shift, &self.0.prefix.root()).await?;
        tracing::info!(id = %shift.id, region = %planned.code, from = %planned.order.from,
            percent = planned.order.percent, actor, "a shift begins");
        Ok(v1::ApplyShiftResponse { shift: Some(shift), revision, written: true })
    }

    /// Guards and the second person. The approval to be used up, with who gave it.
    async fn allowed(
        &self,
        registry: &dyn Registry,
        planned: &Planned,
        force: bool,
        actor: &str,
    ) -> Result<Option<(Entry, String)>, Status> {
        let refused = planned.preview.refusals.first();
        if let Some(guard) = refused.filter(|_| !force) {
            return Err(Reason::ShiftRefused.with(&[("guard", guard)]));
        }
        if refused.is_none() && !planned.preview.needs_approval {
            return Ok(None);
        }
        let moves = format!("{:.2}", planned.preview.moves);
        let needed = || Reason::ApprovalNeeded.with(&[("plan", &hex(&planned.hash)), ("moves", &moves)]);
        let key = self.0.prefix.key(&approval_key(&planned.hash));
        let entry = read(registry, &key).await?.ok_or_else(needed)?;
        let approval = v1::ShiftApproval::decode(entry.value.clone()).map_err(|_| needed())?;
        let age = wall_ms().saturating_sub(approval.unix_ms);
        let fresh = age <= millis(APPROVAL + SKEW) && age >= -millis(SKEW);
        if approval.plan_hash != planned.hash || !fresh {
            return Err(needed());
        }
        if approval.actor == actor {
            return Err(Reason::ApprovalOwn.status());
        }
        Ok(Some((entry, approval.actor)))
    }

    fn write(&self, planned: &Planned, shift: &v1::Shift, key: &str, approval: Option<Entry>) -> Txn {
        let root = self.0.prefix.root();
        let log = self.0.prefix.key(&Key::ShiftLog(shift.id.clone()));
        let value = bytes::Bytes::from(shift.encode_to_vec());
        let mut txn = Txn {
            expect: planned.read.iter().map(|r| (format!("{root}{}", r.key), r.mod_revision)).collect(),
            puts: vec![(key.to_owned(), value.clone(), 0), (log.clone(), value, 0)],
            deletes: Vec::new(),
        };
        txn.expect.push((log, 0));
        if let Some(approval) = approval {
            txn.expect.push((approval.key.clone(), approval.mod_revision));
            // It is for this plan, and for once.
            txn.deletes.push(approval.key);
        }
        txn
    }

    pub(super) async fn approve(
        &self,
        asked: &v1::ApproveShiftRequest,
        actor: String,
    ) -> Result<v1::ApproveShiftResponse, Status> {
        let registry = self.0.registry.as_ref().ok_or_else(|| Reason::RegistryNone.status())?;
        if asked.plan_hash.len() != HASH {
            return Err(invalid("plan_hash", "the 32 bytes that the plan was named by"));
        }
        let key = self.0.prefix.key(&approval_key(&asked.plan_hash));
        let present = read(&**registry, &key).await?;
        let now = wall_ms();
        let approval = v1::ShiftApproval { plan_hash: asked.plan_hash.clone(), actor, unix_ms: now };
        let txn = Txn {
            expect: vec![(key.clone(), present.map_or(0, |entry| entry.mod_revision))],
            puts: vec![(key, approval.encode_to_vec().into(), 0)],
            deletes: Vec::new(),
        };
        match registry.commit(txn).await.map_err(|error| away(&error))? {
            Outcome::Committed(_) => {
                tracing::info!(actor = %approval.actor, plan = %hex(&asked.plan_hash), "a plan is approved");
                Ok(v1::ApproveShiftResponse { until_unix_ms: now + millis(APPROVAL) })
            }
            // Somebody else approved it at the same time.
            Outcome::Conflict(_) => Err(Reason::WriteUnknown.status()),
        }
    }
}

/// What the plan was made from still stands.
fn current(planned: &Planned, asked: &v1::ApplyShiftRequest) -> Result<(), Status> {
    let stale = |key: &str| Reason::PlanStale.with(&[("key", key)]);
    let differs = |read: &&ReadKey| !asked.read.contains(read);
    if let Some(changed) = planned.read.iter().find(differs) {
        return Err(stale(&changed.key));
    }
    // Nothing is gone that was there, and the order is the one that was shown.
    let gone = asked.read.iter().find(|read| !planned.read.contains(read));
    if let Some(gone) = gone {
        return Err(stale(&gone.key));
    }
    if planned.hash == asked.plan_hash { Ok(()) } else { Err(stale("order")) }
}

fn begun(planned: &Planned, actor: &str, approver: Option<&str>) -> v1::Shift {
    let now = wall_ms();
    let lasts = i64::from(planned.order.ttl_s.unwrap_or(shift::TTL_MAX_S)) * 1_000;
    v1::Shift {
        // Sorts by time; the rest keeps two of one millisecond apart.
        id: format!("{now:012x}-{:08x}", rand::random::<u32>()),
        order: Some(planned.order.clone()),
        start_unix_ms: now,
        expires_unix_ms: now.saturating_add(lasts),
        actor: actor.to_owned(),
        approver: approver.unwrap_or_default().to_owned(),
        plan_hash: planned.hash.clone().into(),
        ..v1::Shift::default()
    }
}

async fn commit(
    registry: &dyn Registry,
    txn: Txn,
    key: &str,
    shift: &v1::Shift,
    root: &str,
) -> Result<i64, Status> {
    let expected = txn.expect.clone();
    match registry.commit(txn).await {
        Ok(Outcome::Committed(revision)) => Ok(revision),
        Ok(Outcome::Conflict(present)) => {
            let changed = expected.iter().find(|(key, revision)| {
                present.iter().find(|entry| entry.key == *key).map_or(0, |entry| entry.mod_revision)
                    != *revision
            });
            let key = changed.map_or("unknown", |(key, _)| key.strip_prefix(root).unwrap_or(key));
            Err(Reason::PlanStale.with(&[("key", key)]))
        }
        // It may be written, so whoever asked must not be told that it is not.
        Err(Error::Unknown(_)) => match read(registry, key).await {
            Ok(Some(entry)) if running(&entry).is_some_and(|there| there.id == shift.id) => {
                Ok(entry.mod_revision)
            }
            _ => Err(Reason::WriteUnknown.status()),
        },
        Err(error) => Err(away(&error)),
    }
}

/// The shift of an entry, unless its time is over.
fn running(entry: &Entry) -> Option<v1::Shift> {
    let shift = v1::Shift::decode(entry.value.clone()).ok()?;
    (wall_ms() < shift.expires_unix_ms).then_some(shift)
}

pub(super) async fn read(registry: &dyn Registry, key: &str) -> Result<Option<Entry>, Status> {
    let listing = registry.list(key).await.map_err(|error| away(&error))?;
    Ok(listing.entries.into_iter().find(|entry| entry.key == key))
}

/// Half of the hash is enough for a key; the value has all of it.
fn approval_key(hash: &[u8]) -> Key {
    Key::ShiftApproval(hex(&hash[..hash.len().min(HASH / 2)]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn away(error: &Error) -> Status {
    tracing::warn!(%error, "a shift could not be written");
    match error {
        Error::Unknown(_) => Reason::WriteUnknown.status(),
        _ => Reason::RegistryUnavailable.status(),
    }
}
