//! What would the plan be, if?
//!
//! Changed copies of a snapshot's table and signals, and the same `plan()` that the request path lives
//! by. A node or a target that cannot be is refused by name, so that a slip does not look like an
//! answer.

use super::{policies::tier_of, routing_exactly};
use crate::{
    plan::{self, Plans, Signals},
    snapshot::Snapshot,
    table::{Back, Endpoint, Guards, Intent, Node, Policy, Shift, Table},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use suiyue_proto::{
    method::Class,
    reason::Reason,
    region::Code,
    v1::{self, what_if::Change},
};
use tonic::Status;

/// Changes that may be supposed at once.
const MAX_CHANGES: usize = 16;
/// Targets that a supposed shift may have.
const MAX_TARGETS: usize = 64;

/// The plans with all of the changes.
pub(super) fn plans(snapshot: &Snapshot, changes: &[v1::WhatIf]) -> Result<Plans, Status> {
    if changes.len() > MAX_CHANGES {
        return Err(refused("what_if", &format!("at most {MAX_CHANGES} changes")));
    }
    let mut table = Table::clone(&snapshot.table);
    let mut signals = snapshot.inputs.as_ref().map(|inputs| inputs.signals.clone()).unwrap_or_default();
    for (at, change) in changes.iter().enumerate() {
        let field = format!("what_if[{at}]");
        match &change.change {
            Some(Change::NodeDown(name)) => node_down(name, &table, &mut signals)
                .ok_or_else(|| unknown(&format!("{field}.node_down"), name))?,
            Some(Change::Drain(name)) => {
                drain(name, &mut table).ok_or_else(|| unknown(&format!("{field}.drain"), name))?;
            }
            Some(Change::Shift(shift)) => suppose_shift(shift, &format!("{field}.shift"), &mut table)?,
            None => return Err(refused(&field, "node_down, drain or shift")),
        }
    }
    plan(snapshot, &table, &signals)
}

/// Table and signals with another policy of one region.
pub(super) fn with_policy(snapshot: &Snapshot, code: Code, policy: Policy) -> (Table, Signals) {
    let mut table = Table::clone(&snapshot.table);
    table.policies.insert(code, policy);
    (table, snapshot.inputs.as_ref().map(|inputs| inputs.signals.clone()).unwrap_or_default())
}

/// Table and signals with another intent of one registered node.
pub(super) fn with_intent(
    snapshot: &Snapshot,
    name: &str,
    intent: Intent,
    drained_endpoints: &[String],
) -> (Table, Signals) {
    let mut table = Table::clone(&snapshot.table);
    let mut signals = snapshot.inputs.as_ref().map(|inputs| inputs.signals.clone()).unwrap_or_default();
    if let Some(node) = table.nodes.get_mut(name) {
        let changed = Node { intent, ..Node::clone(node) };
        let drained = |endpoint: &Endpoint| drained_endpoints.iter().any(|name| **name == *endpoint.name);
        if !changed.endpoints.is_empty() && changed.endpoints.iter().all(drained) {
            node_down(name, &snapshot.table, &mut signals);
        }
        *node = Arc::new(changed);
    }
    (table, signals)
}

/// The plans of a table with such signals.
pub(super) fn plan(snapshot: &Snapshot, table: &Table, signals: &Signals) -> Result<Plans, Status> {
    // Before its first plan a gateway has nothing to change.
    let inputs = snapshot.inputs.as_ref().ok_or_else(|| Reason::RegionNotJoined.status())?;
    Ok(plan::plan(table, signals, &inputs.previous, inputs.now))
}

fn node_down(name: &str, table: &Table, signals: &mut Signals) -> Option<()> {
    let node = table.nodes.get(name)?;
    if let Some(signal) = signals.nodes.get_mut(&node.name) {
        signal.health = 0.0;
    }
    Some(())
}

fn drain(name: &str, table: &mut Table) -> Option<()> {
    let node = table.nodes.get_mut(name)?;
    let mut drained = Node::clone(node);
    drained.intent.drained = true;
    *node = Arc::new(drained);
    Some(())
}

/// As if it had been active for long: the whole percentage moves.
fn suppose_shift(supposed: &v1::SupposedShift, field: &str, table: &mut Table) -> Result<(), Status> {
    let expected = "a region that calls are routed to";
    let code = routing_exactly(supposed.region).map_err(|_| refused(&format!("{field}.region"), expected))?;
    let mut classes = Vec::with_capacity(supposed.classes.len());
    for (at, &class) in supposed.classes.iter().enumerate() {
        let class = Class::from_proto(class);
        classes.push(
            class.ok_or_else(|| refused(&format!("{field}.classes[{at}]"), "scan, show, query or sync"))?,
        );
    }
    if !(supposed.percent > 0.0 && supposed.percent <= 100.0) {
        return Err(refused(&format!("{field}.percent"), "above 0, at most 100"));
    }
    let from = candidate(&supposed.from, code, table, &format!("{field}.from"))?;
    let to = targets(supposed, code, table, field)?;
    let shift = Shift {
        id: "what-if".into(),
        region: code,
        classes,
        from: from.clone(),
        to,
        percent: supposed.percent,
        step: 0.0,
        every: Duration::ZERO,
        start_ms: 0,
        expires_at_ms: i64::MAX,
        held_ms: None,
        back: Back::default(),
        guards: Guards::default(),
    };
    // One shift a source.
    table.shifts.retain(|other| !(other.region == code && other.from == from));
    table.shifts.push(Arc::new(shift));
    Ok(())
}

fn targets(
    supposed: &v1::SupposedShift,
    code: Code,
    table: &Table,
    field: &str,
) -> Result<Vec<(Arc<str>, f64)>, Status> {
    if supposed.to.is_empty() || supposed.to.len() > MAX_TARGETS {
        return Err(refused(&format!("{field}.to"), &format!("1 to {MAX_TARGETS} targets")));
    }
    let mut seen = BTreeSet::from([supposed.from.as_str()]);
    let mut to = Vec::with_capacity(supposed.to.len());
    for (at, target) in supposed.to.iter().enumerate() {
        let name = candidate(&target.target, code, table, &format!("{field}.to[{at}].target"))?;
        if !seen.insert(target.target.as_str()) {
            let expected = "another node than `from`, and each target once";
            return Err(refused(&format!("{field}.to[{at}].target"), expected));
        }
        if !(target.weight > 0.0 && target.weight.is_finite()) {
            return Err(refused(&format!("{field}.to[{at}].weight"), "a number above 0"));
        }
        to.push((name, target.weight));
    }
    Ok(to)
}

/// The node may answer for the region: its own, its province's, or a peer of its policy.
fn candidate(name: &str, code: Code, table: &Table, field: &str) -> Result<Arc<str>, Status> {
    let node = table.nodes.get(name).ok_or_else(|| unknown(field, name))?;
    let mut peers = table.policies.get(&code).into_iter().flat_map(|policy| &policy.peers);
    if tier_of(node, code).is_none() && !peers.any(|(peer, _)| **peer == *name) {
        return Err(refused(field, &format!("a node that may answer for {code}")));
    }
    Ok(node.name.clone())
}

fn unknown(field: &str, name: &str) -> Status {
    Reason::WhatIfInvalid.with(&[
        ("field", field),
        ("value", name),
        ("expected", "the name of a node of the table"),
    ])
}

fn refused(field: &str, expected: &str) -> Status {
    Reason::WhatIfInvalid.with(&[("field", field), ("expected", expected)])
}
