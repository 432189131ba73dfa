//! May a drain, a stage or a policy move so many calls?
//!
//! They meet what a shift meets: the loads of all gateways, the guard of the nodes that get more, and
//! another person where much moves. Otherwise a whole drain would be easier than a small shift. Their plan is
//! named by the hash of what is asked and of every key that it was judged by; an approval names that hash,
//! and the change is written only while those keys stand.

use super::{
    Operator, Shifts,
    shifts::{Approved, hash_of, loads, preview},
    swap::Also,
};
use crate::{
    audit::actor::Deed,
    plan::Signals,
    registry::keys::Key,
    snapshot::Snapshot,
    table::{Policy, Table},
};
use std::collections::BTreeMap;
use suiyue_proto::{
    reason::Reason,
    region::Code,
    v1::{self, ReadKey},
};
use tonic::Status;

/// What is asked.
pub(super) struct Asked<'a> {
    /// The request, without what does not change its effect.
    pub(super) subject: Vec<u8>,
    /// The key that is to be replaced, with the revision that the caller had read.
    pub(super) key: (&'a Key, i64),
    /// Regions whose calls may move.
    pub(super) regions: &'a [Code],
    /// Table and signals as they would be; `None`: nothing can be computed, or nothing moves.
    pub(super) after: Option<(Table, Signals)>,
    /// Gateways whose load is not needed.
    pub(super) without: &'a [String],
}

/// How far a caller goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    /// Although a guard refuses.
    pub(super) force: bool,
    /// Nothing is to be written.
    pub(super) dry_run: bool,
}

/// What was found.
#[derive(Default)]
pub(super) struct Judged {
    /// Name of the plan.
    pub(super) hash: Vec<u8>,
    /// Fraction of a region's calls that moves; of several regions the most.
    pub(super) moves: f64,
    /// Another person must approve.
    pub(super) needs_approval: bool,
    /// What was overridden by force.
    pub(super) refusals: Vec<String>,
    /// What else the transaction expects.
    pub(super) expect: Vec<(String, i64)>,
    /// The approval that it uses up.
    pub(super) approved: Option<Approved>,
}

impl Judged {
    /// What the transaction expects and uses up besides the change itself.
    pub(super) fn also(&mut self) -> Also {
        let mut also = Also { expect: std::mem::take(&mut self.expect), deletes: Vec::new() };
        if let Some(Approved { entry, .. }) = self.approved.take() {
            also.expect.push((entry.key.clone(), entry.mod_revision));
            also.deletes.push(entry.key);
        }
        also
    }
}

impl Operator {
    /// The keys that a change is judged by, and the name of its plan.
    pub(super) fn plan_of(&self, asked: &Asked<'_>, table: &Table) -> (Vec<ReadKey>, Vec<u8>) {
        let revision = |key: &Key| {
            let followed = self.followed.as_ref();
            followed.and_then(|f| f.entry(&self.prefix.key(key))).map_or(0, |entry| entry.mod_revision)
        };
        let mut read = BTreeMap::new();
        for code in asked.regions {
            read.insert(Key::Region(*code).to_string(), revision(&Key::Region(*code)));
        }
        for shift in table.shifts.iter().filter(|shift| asked.regions.contains(&shift.region)) {
            let key = Key::Shift { region: shift.region, from: shift.from.to_string() };
            read.insert(key.to_string(), revision(&key));
        }
        read.insert(asked.key.0.to_string(), asked.key.1);
        let read: Vec<_> =
            read.into_iter().map(|(key, mod_revision)| ReadKey { key, mod_revision }).collect();
        let hash = hash_of(&asked.subject, &read);
        (read, hash)
    }

    /// Guards, and the second person. `raises`: the change lets one person move more than before.
    ///
    /// # Errors
    /// [`Reason::ShiftRefused`] with the number, [`Reason::ApprovalNeeded`] with the plan's name,
    /// [`Reason::GatewaySilent`].
    pub(super) async fn judge(
        &self,
        snapshot: &Snapshot,
        asked: Asked<'_>,
        how: How,
        raises: bool,
        deed: &Deed,
    ) -> Result<Judged, Status> {
        let (read, hash) = self.plan_of(&asked, &snapshot.table);
        let (Some((table, signals)), Some(inputs)) = (&asked.after, &snapshot.inputs) else {
            return Ok(Judged { hash, ..Judged::default() });
        };
        let effect = |demand: &preview::Demand| {
            let (before, after) = ((&*snapshot.table, &inputs.signals), (table, signals));
            let change = preview::Change { before, after, inputs, demand };
            change.effect(asked.regions, self.two_person_above)
        };
        // Without any calls every class counts alike: what moves none of them needs nobody's load.
        if !raises && effect(&BTreeMap::new()).moves <= 0.0 {
            return Ok(Judged { hash, ..Judged::default() });
        }
        let loads = loads::of_all(self, snapshot, asked.without).await?;
        let effect = effect(&loads.demand);
        if let Some(refusal) = effect.refusals.first().filter(|_| !how.force) {
            let number = effect.guards.iter().find(|guard| guard.refuses).map_or(0.0, |guard| guard.value);
            let value = format!("{number:.2}");
            return Err(Reason::ShiftRefused.with(&[("guard", refusal), ("value", &value)]));
        }
        let needs_approval = effect.too_much || raises || !effect.refusals.is_empty();
        let approved = match needs_approval && !how.dry_run {
            true => Some(Shifts(self.clone()).approved(&hash, effect.moves, deed).await?),
            false => None,
        };
        let root = self.prefix.root();
        let expect = read.into_iter().map(|key| (format!("{root}{}", key.key), key.mod_revision)).collect();
        let (moves, refusals) = (effect.moves, effect.refusals);
        Ok(Judged { hash, moves, needs_approval, refusals, expect, approved })
    }

    /// What one person may move of a region's calls.
    pub(super) fn one_person(&self, policy: Option<&Policy>) -> f64 {
        policy.and_then(|policy| policy.two_person_above).unwrap_or(self.two_person_above)
    }

    /// The plan of a drain, a stage or a policy that somebody approves.
    ///
    /// # Errors
    /// What is asked cannot be.
    pub(super) async fn plan_to_approve(&self, asked: &v1::ApproveShiftRequest) -> Result<Vec<u8>, Status> {
        let snapshot = self.snapshots.current();
        match (&asked.intent, &asked.policy) {
            (Some(intent), None) => self.intent_plan(&snapshot, intent),
            (None, Some(policy)) => self.policy_plan(&snapshot, policy),
            _ => {
                let expected = "an order, an intent or a policy: one of them";
                Err(Reason::ShiftInvalid.with(&[("field", "order"), ("expected", expected)]))
            }
        }
    }
}
