//! May traffic be moved, and is it?
//!
//! ```text
//!  order ─► usable? ─► loads of all gateways ─► preview ─► guards ─► plan hash ─► shown
//!                                                                        │ apply: all of it again
//!                      one transaction over every key that was read  ◄───┘ and the same hash
//! ```
//! What is applied is a [`v1::Shift`] in the registry: how much it moves is a function of that object and
//! the clock, so that no leader steps it up and it ends with etcd away. Plans are made here and nowhere
//! stored; a plan's hash names the order and the revision of every key that it was made from.

mod apply;
mod approval;
mod change;
mod guard;
mod list;
pub(super) mod loads;
pub(super) mod preview;
mod trial;

use super::{Operator, deed, policies::tier_of, routing_exactly};
use crate::{
    audit::Audit,
    registry::{
        Entry, Error, Registry,
        keys::{Key, Part},
        shift::{self, Invalid},
    },
    snapshot::Snapshot,
    table::Table,
};
pub(super) use approval::Approved;
use aws_lc_rs::digest::{Context, SHA256};
use preview::Preview;
use prost::Message as _;
use std::{collections::BTreeMap, sync::Arc};
use suiyue_proto::{
    reason::Reason,
    region::Code,
    v1::{self, ReadKey, ShiftOrder, shift_service_server::ShiftService},
};
use tonic::{Request, Response, Status};

/// The shifts' API of one gateway.
#[derive(Clone)]
pub struct Shifts(pub Operator);

/// An order with all that was read for it.
struct Planned {
    order: ShiftOrder,
    code: Code,
    hash: Vec<u8>,
    read: Vec<ReadKey>,
    gateways: Vec<String>,
    preview: Preview,
}

#[tonic::async_trait]
impl ShiftService for Shifts {
    async fn plan_shift(
        &self,
        request: Request<v1::PlanShiftRequest>,
    ) -> Result<Response<v1::PlanShiftResponse>, Status> {
        let asked = request.into_inner();
        let snapshot = self.0.snapshots.current();
        let order = asked.order.as_ref().ok_or_else(|| invalid("order", "an order"))?;
        if !(asked.at_rps >= 0.0 && asked.at_rps.is_finite()) {
            return Err(invalid("at_rps", "calls a second, 0 or more"));
        }
        let planned = self.planned(&snapshot, order, asked.at_rps, &asked.without).await?;
        let Planned { order, hash, read, gateways, preview, .. } = planned;
        Ok(Response::new(v1::PlanShiftResponse {
            table: Some(self.0.table_info(&snapshot)),
            order: Some(order),
            plan_hash: hash.into(),
            read,
            gateways,
            nodes: preview.nodes,
            moves: preview.moves,
            needs_approval: preview.needs_approval,
            refusals: preview.refusals,
            warnings: preview.warnings,
            guards: preview.guards,
            two_person_above: preview.two_person_above,
        }))
    }

    async fn apply_shift(
        &self,
        request: Request<v1::ApplyShiftRequest>,
    ) -> Result<Response<v1::ApplyShiftResponse>, Status> {
        let deed = deed(&request, "ApplyShift");
        self.apply(request.into_inner(), &deed).await.map(Response::new)
    }

    async fn approve_shift(
        &self,
        request: Request<v1::ApproveShiftRequest>,
    ) -> Result<Response<v1::ApproveShiftResponse>, Status> {
        let deed = deed(&request, "ApproveShift");
        self.approve(request.get_ref(), &deed).await.map(Response::new)
    }

    async fn list_shifts(
        &self,
        request: Request<v1::ListShiftsRequest>,
    ) -> Result<Response<v1::ListShiftsResponse>, Status> {
        self.list(request.get_ref()).await.map(Response::new)
    }

    async fn change_shift(
        &self,
        request: Request<v1::ChangeShiftRequest>,
    ) -> Result<Response<v1::ChangeShiftResponse>, Status> {
        let deed = deed(&request, "ChangeShift");
        self.change(request.get_ref(), &deed).await.map(Response::new)
    }

    async fn get_load(
        &self,
        _: Request<v1::GetLoadRequest>,
    ) -> Result<Response<v1::GetLoadResponse>, Status> {
        Ok(Response::new(loads::told(&self.0)))
    }
}

impl Shifts {
    /// Checks an order and computes what it would do.
    async fn planned(
        &self,
        snapshot: &Snapshot,
        order: &ShiftOrder,
        at_rps: f64,
        without: &[String],
    ) -> Result<Planned, Status> {
        let (order, code, read) = self.ordered(order, &snapshot.table)?;
        let loads = loads::of_all(&self.0, snapshot, without).await?;
        // Before its first plan a gateway has nothing to move.
        let inputs = snapshot.inputs.as_ref().ok_or_else(|| Reason::RegionNotJoined.status())?;
        let ground = (&*snapshot.table, &**inputs);
        let preview =
            preview::preview(ground, loads.demand, &order, code, (at_rps, self.0.two_person_above))?;
        let hash = hash(&order, &read);
        Ok(Planned { order, code, hash, read, gateways: loads.gateways, preview })
    }

    /// A checked order, its region, and the keys that a plan for it is made from.
    fn ordered(&self, order: &ShiftOrder, table: &Table) -> Result<(ShiftOrder, Code, Vec<ReadKey>), Status> {
        let code = routing_exactly(order.region)?;
        let order = shift::complete(order).map_err(|invalid| refusal(&invalid))?;
        fit(&order, code, table)?;
        let read = self.read(&order, code, table);
        Ok((order, code, read))
    }

    /// The registry, and what writes to it.
    ///
    /// # Errors
    /// This gateway has none.
    fn writable(&self) -> Result<(&Arc<dyn Registry>, &Audit), Status> {
        let both = self.0.registry.as_ref().zip(self.0.audit.as_ref());
        both.ok_or_else(|| Reason::RegistryNone.status())
    }

    /// The keys that a plan is made from, with the revision that this gateway has read them at.
    fn read(&self, order: &ShiftOrder, code: Code, table: &Table) -> Vec<ReadKey> {
        let mut keys = vec![Key::Region(code), Key::Shift { region: code, from: order.from.clone() }];
        for name in std::iter::once(&order.from).chain(order.to.iter().map(|to| &to.target)) {
            let Some(node) = table.nodes.get(name.as_str()) else { continue };
            for part in [Part::Spec, Part::Intent] {
                keys.push(Key::Node { region: node.region, node: name.clone(), part });
            }
        }
        let others = table.shifts.iter().filter(|shift| shift.region == code && *shift.from != *order.from);
        keys.extend(others.map(|shift| Key::Shift { region: code, from: shift.from.to_string() }));
        let followed = self.0.followed.as_ref();
        let revision = |key: &Key| {
            followed.and_then(|f| f.entry(&self.0.prefix.key(key))).map_or(0, |entry| entry.mod_revision)
        };
        // By key, each once: what is hashed must not depend on any other order.
        let read: BTreeMap<String, i64> = keys.iter().map(|key| (key.to_string(), revision(key))).collect();
        read.into_iter().map(|(key, mod_revision)| ReadKey { key, mod_revision }).collect()
    }
}

/// Names the order and every key with its revision.
fn hash(order: &ShiftOrder, read: &[ReadKey]) -> Vec<u8> {
    hash_of(&order.encode_to_vec(), read)
}

/// Names what is asked and every key with its revision.
pub(super) fn hash_of(subject: &[u8], read: &[ReadKey]) -> Vec<u8> {
    let keys = v1::ApplyShiftRequest { read: read.to_vec(), ..Default::default() }.encode_to_vec();
    let mut context = Context::new(&SHA256);
    // The length keeps what is asked and the keys apart.
    [b"suiyue.plan.v1\0", &(subject.len() as u64).to_be_bytes()[..], subject, &keys]
        .iter()
        .for_each(|part| context.update(part));
    context.finish().as_ref().to_vec()
}

/// Source and targets may answer for the region.
fn fit(order: &ShiftOrder, code: Code, table: &Table) -> Result<(), Status> {
    let check = |field: String, name: &str| {
        let node = table.nodes.get(name).ok_or_else(|| invalid(&field, "the name of a node"))?;
        let mut peers = table.policies.get(&code).into_iter().flat_map(|policy| &policy.peers);
        if tier_of(node, code).is_none() && !peers.any(|(peer, _)| **peer == *name) {
            return Err(invalid(&field, &format!("a node that may answer for {code}")));
        }
        Ok(())
    };
    check("from".to_owned(), &order.from)?;
    for (at, to) in order.to.iter().enumerate() {
        check(format!("to[{at}].target"), &to.target)?;
    }
    Ok(())
}

fn invalid(field: &str, expected: &str) -> Status {
    Reason::ShiftInvalid.with(&[("field", field), ("expected", expected)])
}

fn refusal(problem: &Invalid) -> Status {
    invalid(&problem.field, &problem.expected)
}

async fn read(registry: &dyn Registry, key: &str) -> Result<Option<Entry>, Status> {
    let listing = registry.list(key).await.map_err(|error| away(&error))?;
    Ok(listing.entries.into_iter().find(|entry| entry.key == key))
}

fn away(error: &Error) -> Status {
    tracing::warn!(%error, "the registry cannot be read for a shift");
    Reason::RegistryUnavailable.status()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
