//! Did another person say yes to exactly this?
//!
//! An approval names a plan by its hash, and was given to somebody who showed order and keys. It counts for
//! ten minutes, once, and not for who gave it. One that no certificate proves does not count for a change
//! that one does: otherwise whoever is on a gateway's machine could be the second person.

use super::{Shifts, apply::current, hex, invalid, read};
use crate::{
    audit::{
        What,
        actor::{Deed, Role},
    },
    clock::unix_ms,
    operator::{apps::not_written, dump},
    registry::{Entry, Outcome, Txn, keys::Key},
};
use bytes::Bytes;
use prost::Message as _;
use std::time::Duration;
use suiyue_proto::{reason::Reason, v1};
use tonic::Status;

/// An approval lasts so long.
const APPROVAL: Duration = Duration::from_secs(600);
/// Clocks of gateways differ by so much at most.
const SKEW: Duration = Duration::from_secs(30);
/// Bytes of a plan's hash.
pub(super) const HASH: usize = 32;

/// An approval that counts, to be used up.
pub(in crate::operator) struct Approved {
    /// Where it stands.
    pub(in crate::operator) entry: Entry,
    /// Who gave it.
    pub(in crate::operator) by: String,
}

impl Shifts {
    /// The approval of a plan for who carries it out.
    ///
    /// # Errors
    /// [`Reason::ApprovalNeeded`], [`Reason::ApprovalOwn`], or the registry is away.
    pub(in crate::operator) async fn approved(
        &self,
        hash: &[u8],
        moves: f64,
        deed: &Deed,
    ) -> Result<Approved, Status> {
        let (registry, _) = self.writable()?;
        let moves = format!("{moves:.2}");
        let needed = || Reason::ApprovalNeeded.with(&[("plan", &hex(hash)), ("moves", &moves)]);
        let key = self.0.prefix.key(&approval_key(hash));
        let entry = read(&**registry, &key).await?.ok_or_else(needed)?;
        let approval = v1::ShiftApproval::decode(entry.value.clone()).map_err(|_| needed())?;
        let age = unix_ms().saturating_sub(approval.unix_ms);
        let fresh = age <= millis(APPROVAL + SKEW) && age >= -millis(SKEW);
        let proven = approval.authenticated || !deed.actor.authenticated;
        if approval.plan_hash != hash || !fresh || !proven {
            return Err(needed());
        }
        if approval.actor == deed.actor.name {
            return Err(Reason::ApprovalOwn.status());
        }
        Ok(Approved { entry, by: approval.actor })
    }

    pub(super) async fn approve(
        &self,
        asked: &v1::ApproveShiftRequest,
        deed: &Deed,
    ) -> Result<v1::ApproveShiftResponse, Status> {
        may_approve(deed)?;
        if asked.plan_hash.len() != HASH {
            return Err(invalid("plan_hash", "the 32 bytes that the plan was named by"));
        }
        if asked.order.is_none() && (asked.intent.is_some() || asked.policy.is_some()) {
            let hash = self.0.plan_to_approve(asked).await?;
            if hash != asked.plan_hash {
                return Err(Reason::PlanStale.with(&[("key", "plan_hash")]));
            }
            return self.note_approval(&hash, deed).await;
        }
        let order = asked.order.as_ref().ok_or_else(|| invalid("order", "the order that is approved"))?;
        let snapshot = self.0.snapshots.current();
        let (order, _, read) = self.ordered(order, &snapshot.table)?;
        let hash = super::hash(&order, &read);
        current((&read, &hash), &asked.read, &asked.plan_hash)?;
        self.note_approval(&hash, deed).await
    }

    /// Writes an approval of a plan with its entry of the audit.
    ///
    /// # Errors
    /// The registry is away, or somebody else approves at the same time.
    pub(in crate::operator) async fn note_approval(
        &self,
        hash: &[u8],
        deed: &Deed,
    ) -> Result<v1::ApproveShiftResponse, Status> {
        let (registry, audit) = self.writable()?;
        let name = approval_key(hash);
        let key = self.0.prefix.key(&name);
        let present = read(&**registry, &key).await?;
        let now = unix_ms();
        let approval = v1::ShiftApproval {
            plan_hash: hash.to_vec().into(),
            actor: deed.actor.name.clone(),
            unix_ms: now,
            authenticated: deed.actor.authenticated,
        };
        let value = Bytes::from(approval.encode_to_vec());
        let replaced = present.as_ref().map_or(0, |entry| entry.mod_revision);
        let txn = Txn {
            expect: vec![(key.clone(), replaced)],
            puts: vec![(key, value.clone(), 0)],
            deletes: Vec::new(),
        };
        let what = What {
            key: name.to_string(),
            replaced,
            before: present.map(|entry| dump::value(&name, entry.value)),
            after: Some(dump::value(&name, value)),
        };
        match audit.commit(deed, &what, &txn).await.map_err(|failure| not_written(&failure))? {
            Outcome::Committed(_) => {
                tracing::info!(actor = %approval.actor, plan = %hex(hash), "a plan is approved");
                Ok(v1::ApproveShiftResponse { until_unix_ms: now + millis(APPROVAL) })
            }
            Outcome::Conflict(_) => Err(Reason::PlanStale.with(&[("key", &name.to_string())])),
        }
    }
}

/// Whoever has a certificate needs the approver's.
fn may_approve(deed: &Deed) -> Result<(), Status> {
    if deed.actor.authenticated && deed.actor.role < Role::Approver {
        let (has, needed) = (deed.actor.role.as_str(), Role::Approver.as_str());
        return Err(Reason::RoleInsufficient.with(&[("role", has), ("needed", needed)]));
    }
    Ok(())
}

/// Half of the hash is enough for a key; the value has all of it.
fn approval_key(hash: &[u8]) -> Key {
    Key::ShiftApproval(hex(&hash[..hash.len().min(HASH / 2)]))
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
