//! What would a shift do?
//!
//! The same `plan()` that routes calls, over the table with and without the shift, and over the calls of
//! all gateways together as if there were one. Shifts that run are taken at their full percentage: what
//! they still grow to is spoken for. A target's load is what is sent to it before caps turn any of it
//! away, because what a cap turns away does not move either.

use crate::{
    plan::{self, Inputs, Plans, Signals},
    registry::shift,
    table::{Guards, Shift, Table},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use suiyue_proto::{
    method::Class,
    region::Code,
    v1::{self, GuardCheck, NodeLoad, ShiftOrder},
};
use tonic::Status;

/// Calls a second by region and class.
pub(in crate::operator) type Demand = BTreeMap<Code, [f64; 4]>;

/// The name of the guard.
const UTILIZATION: &str = "utilization";
/// What sums of fractions may be off by.
const EXACT: f64 = 1e-9;

/// What a shift would do.
#[derive(Debug)]
pub(super) struct Preview {
    /// Nodes that answer for the region or take its calls.
    pub(super) nodes: Vec<NodeLoad>,
    /// Fraction of the region's calls that moves.
    pub(super) moves: f64,
    /// More moves than one person may move.
    pub(super) needs_approval: bool,
    /// Above this part of the region's calls another person must approve.
    pub(super) two_person_above: f64,
    /// Every guard with its number.
    pub(super) guards: Vec<GuardCheck>,
    /// What stands in the way.
    pub(super) refusals: Vec<String>,
    /// What may not be meant.
    pub(super) warnings: Vec<String>,
}

/// Computes what a checked order would do with these calls of all gateways.
///
/// # Errors
/// The order cannot be used.
pub(super) fn preview(
    (table, inputs): (&Table, &Inputs),
    mut demand: Demand,
    order: &ShiftOrder,
    code: Code,
    (at_rps, default): (f64, f64),
) -> Result<Preview, Status> {
    if at_rps > 0.0 {
        suppose(demand.entry(code).or_default(), at_rps);
    }
    let mut table = table.clone();
    table.shifts = table.shifts.iter().map(|shift| Arc::new(whole(shift))).collect();
    let before = plans(&table, inputs, &demand);
    table.shifts.retain(|other| !(other.region == code && *other.from == *order.from));
    table.shifts.push(Arc::new(ordered(order, code)?));
    let after = plans(&table, inputs, &demand);
    let moves = moves(&before, &after, order, code, &demand);
    let nodes = loads(&table, &before, &after, order, code, &demand);
    let policy = table.policies.get(&code).and_then(|policy| policy.two_person_above);
    let two_person_above = policy.unwrap_or(default);
    let guards = guards(&nodes, order.max_utilization.unwrap_or(Guards::default().max_utilization));
    Ok(Preview {
        refusals: refusals(&nodes, &guards),
        guards,
        warnings: warnings(&nodes, &after, order, code),
        needs_approval: moves > two_person_above + EXACT,
        two_person_above,
        nodes,
        moves,
    })
}

/// Scales the calls of a region; without any, they are scans.
fn suppose(rps: &mut [f64; 4], at_rps: f64) {
    let sum: f64 = rps.iter().sum();
    if sum > 0.0 {
        rps.iter_mut().for_each(|rps| *rps *= at_rps / sum);
    } else {
        rps[Class::Scan.index()] = at_rps;
    }
}

/// The shift when it has grown.
fn whole(shift: &Shift) -> Shift {
    Shift { step: 0.0, held_ms: None, ..shift.clone() }
}

fn ordered(order: &ShiftOrder, code: Code) -> Result<Shift, Status> {
    let stored = v1::Shift {
        // Behind every id: a shift that runs from the same source has been taken out.
        id: "~".to_owned(),
        order: Some(order.clone()),
        expires_unix_ms: i64::MAX,
        ..v1::Shift::default()
    };
    let shift = shift::check(&stored, code, &order.from).map_err(|invalid| super::refusal(&invalid))?;
    Ok(whole(&shift))
}

/// As if one gateway had all calls.
fn plans(table: &Table, inputs: &Inputs, demand: &Demand) -> Plans {
    let signals =
        Signals { demand: demand.clone(), gateways: 1, shifts: BTreeMap::new(), ..inputs.signals.clone() };
    plan::plan(table, &signals, &inputs.previous, inputs.now)
}

/// Fraction of the region's calls that leaves the source; without any calls, of its classes.
fn moves(before: &Plans, after: &Plans, order: &ShiftOrder, code: Code, demand: &Demand) -> f64 {
    let of = |plans: &Plans, class: Class| {
        let route = plans.regions.get(&code).map(|by_class| &by_class[class.index()]);
        let source = route.and_then(|route| route.candidates.iter().find(|c| *c.node == *order.from));
        source.map_or(0.0, |source| source.shifted)
    };
    let rps = demand.get(&code).copied().unwrap_or_default();
    let total: f64 = rps.iter().sum();
    let part = |class: Class| if total > 0.0 { rps[class.index()] / total } else { 0.25 };
    Class::ALL.into_iter().map(|class| part(class) * (of(before, class) - of(after, class)).max(0.0)).sum()
}

fn loads(
    table: &Table,
    before: &Plans,
    after: &Plans,
    order: &ShiftOrder,
    code: Code,
    demand: &Demand,
) -> Vec<NodeLoad> {
    let routes = after.regions.get(&code).into_iter().flatten();
    let names: BTreeSet<&Arc<str>> =
        routes.flat_map(|route| route.candidates.iter().map(|candidate| &candidate.node)).collect();
    let (before, after) = (by_node(before, demand), by_node(after, demand));
    let told = names.into_iter().map(|name| NodeLoad {
        node: name.to_string(),
        rps_before: before.get(name).copied().unwrap_or(0.0),
        rps_after: after.get(name).copied().unwrap_or(0.0),
        rps_max: table.nodes.get(name).and_then(|node| node.rps_max).map_or(0.0, f64::from),
        target: order.to.iter().any(|to| *to.target == **name),
    });
    told.collect()
}

/// Calls a second that are sent to each node, for all regions.
fn by_node(plans: &Plans, demand: &Demand) -> BTreeMap<Arc<str>, f64> {
    let mut sums = BTreeMap::new();
    for (code, by_class) in &plans.regions {
        let Some(rps) = demand.get(code) else { continue };
        for (route, rps) in by_class.iter().zip(rps) {
            for candidate in &route.candidates {
                *sums.entry(candidate.node.clone()).or_insert(0.0) += candidate.shifted * rps;
            }
        }
    }
    sums
}

/// The utilization of every target that declares its capacity.
fn guards(nodes: &[NodeLoad], limit: f64) -> Vec<GuardCheck> {
    let judged = nodes.iter().filter(|node| node.target && node.rps_max > 0.0);
    let checks = judged.map(|node| {
        let value = node.rps_after / node.rps_max;
        let refuses = value > limit + EXACT;
        GuardCheck { guard: UTILIZATION.to_owned(), node: node.node.clone(), value, limit, refuses }
    });
    checks.collect()
}

/// A change of table or signals.
pub(in crate::operator) struct Change<'a> {
    /// As they are.
    pub(in crate::operator) before: (&'a Table, &'a Signals),
    /// As they would be.
    pub(in crate::operator) after: (&'a Table, &'a Signals),
    /// What else a plan is made from.
    pub(in crate::operator) inputs: &'a Inputs,
    /// Calls a second of all gateways.
    pub(in crate::operator) demand: &'a Demand,
}

/// What a change does.
pub(in crate::operator) struct Effect {
    /// Fraction of a region's calls that leaves the node it is at; of several regions the most.
    pub(in crate::operator) moves: f64,
    /// More of a region moves than one person may move.
    pub(in crate::operator) too_much: bool,
    /// The guards of all nodes that get more.
    pub(in crate::operator) guards: Vec<GuardCheck>,
    /// What stands in the way.
    pub(in crate::operator) refusals: Vec<String>,
}

impl Change<'_> {
    /// Computes it. One person may move `default` of a region whose policy says nothing.
    pub(in crate::operator) fn effect(&self, regions: &[Code], default: f64) -> Effect {
        let plans = |(table, signals): (&Table, &Signals)| {
            let shifts = table.shifts.iter().map(|shift| Arc::new(whole(shift))).collect();
            let table = Table { shifts, ..table.clone() };
            let inputs = Inputs { signals: signals.clone(), ..self.inputs.clone() };
            plans(&table, &inputs, self.demand)
        };
        let (before, after) = (plans(self.before), plans(self.after));
        let (mut moves, mut too_much) = (0.0_f64, false);
        for code in regions {
            let moved = leaves(&before, &after, *code, self.demand);
            let policy = self.before.0.policies.get(code).and_then(|policy| policy.two_person_above);
            too_much |= moved > policy.unwrap_or(default) + EXACT;
            moves = moves.max(moved);
        }
        let (was, is) = (by_node(&before, self.demand), by_node(&after, self.demand));
        let rps = |of: &BTreeMap<Arc<str>, f64>, name: &Arc<str>| of.get(name).copied().unwrap_or(0.0);
        let told = self.after.0.nodes.values().map(|node| NodeLoad {
            node: node.name.to_string(),
            rps_before: rps(&was, &node.name),
            rps_after: rps(&is, &node.name),
            rps_max: node.rps_max.map_or(0.0, f64::from),
            target: rps(&is, &node.name) > rps(&was, &node.name) + EXACT,
        });
        let nodes: Vec<NodeLoad> = told.collect();
        // A drain, a stage and a policy meet the guards that a shift has where its order says nothing.
        let guards = guards(&nodes, Guards::default().max_utilization);
        Effect { moves, too_much, refusals: refusals(&nodes, &guards), guards }
    }
}

/// Fraction of the region's calls that leaves the nodes it is at; without any calls, of its classes.
fn leaves(before: &Plans, after: &Plans, code: Code, demand: &Demand) -> f64 {
    let rps = demand.get(&code).copied().unwrap_or_default();
    let total: f64 = rps.iter().sum();
    let part = |class: Class| if total > 0.0 { rps[class.index()] / total } else { 0.25 };
    let route =
        |plans: &Plans, class: Class| plans.regions.get(&code).map(|routes| routes[class.index()].clone());
    let left = |class: Class| {
        let (before, after) =
            (route(before, class).unwrap_or_default(), route(after, class).unwrap_or_default());
        let keeps =
            |name: &str| after.candidates.iter().find(|c| *c.node == *name).map_or(0.0, |c| c.shifted);
        before.candidates.iter().map(|c| (c.shifted - keeps(&c.node)).max(0.0)).sum::<f64>()
    };
    Class::ALL.into_iter().map(|class| part(class) * left(class)).sum()
}

fn refusals(nodes: &[NodeLoad], guards: &[GuardCheck]) -> Vec<String> {
    let told = guards.iter().filter(|guard| guard.refuses).filter_map(|guard| {
        let node = nodes.iter().find(|node| node.node == guard.node)?;
        Some(format!(
            "{} would carry {:.1} of the {:.0} calls a second that it declared: {:.2}, where the limit is {:.2}",
            node.node, node.rps_after, node.rps_max, guard.value, guard.limit
        ))
    });
    told.collect()
}

fn warnings(nodes: &[NodeLoad], after: &Plans, order: &ShiftOrder, code: Code) -> Vec<String> {
    let undeclared = nodes.iter().filter(|node| node.target && node.rps_max == 0.0);
    let mut warnings: Vec<String> = undeclared
        .map(|node| format!("{} declares no capacity: whether it has room is not known", node.node))
        .collect();
    for to in &order.to {
        let routes = after.regions.get(&code).into_iter().flatten();
        let gets = routes.flat_map(|route| &route.candidates);
        if !gets.clone().any(|candidate| *candidate.node == *to.target && candidate.shifted > 0.0) {
            warnings.push(format!("{} cannot be used at present: its part stays where it is", to.target));
        }
    }
    warnings
}

#[cfg(test)]
mod tests;
