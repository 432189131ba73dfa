//! Who would get more than it can take, and where does the rest go?
//!
//! A node's cap at this gateway is clamp(1.25 × own use, C/G, C): C its effective capacity, G the live
//! gateways. Classes fill it highest first up to their ceilings, over all regions at once: a province's
//! node is a candidate for twenty cities. What is too much goes to siblings of the same tier, to later
//! tiers, to earlier ones, and last back to the source of a shift; regions that have somewhere else to go
//! make room for those that have not. A ramp is a preference: where nobody else has room, a returning
//! node is filled up to what it can carry, unless single calls have yet to show that it answers. What then is left stays where it was: caps alone never shed.
//!
//! Only declared capacity is room: what a node without one could take is not known, and an overloaded
//! city must not take its province down with it.

mod hand_over;

use super::{EPSILON, MoveKind, Route, Rule, Signals, sane};
use crate::table::{Node, Table};
use hand_over::Scene;
use std::{collections::BTreeMap, sync::Arc};
use suiyue_proto::method::Class;

/// A node may take so much more than it takes now.
const GROWTH: f64 = 1.25;

/// What this gateway may send to a node with declared capacity, in calls a second.
#[derive(Debug)]
struct Budget {
    /// With its ramp.
    cap: f64,
    /// Without: where nobody else has room.
    full: f64,
    ceilings: [f64; 4],
    /// Taken by calls that are placed already.
    used: f64,
}

impl Budget {
    fn new(node: &Node, signals: &Signals) -> Option<Self> {
        let declared = f64::from(node.rps_max.filter(|&rps| rps > 0)?);
        let signal = signals.nodes.get(&node.name)?;
        let gateways = f64::from(signals.gateways.max(1));
        let own_use = sane(signal.own_use);
        let cap = |capacity: f64| (GROWTH * own_use).clamp(capacity / gateways, capacity);
        let healthy = declared * super::candidates::fraction(signal.health);
        let ramp = super::candidates::fraction(signal.ramp).max(super::MIN_RAMP);
        let ramped = cap(healthy * ramp);
        let full = if signal.probing { ramped } else { cap(healthy) };
        Some(Self { cap: ramped, full, ceilings: node.ceilings, used: 0.0 })
    }

    fn room(&self, cap: f64, class: Class) -> f64 {
        let room = sane(self.ceilings[class.index()]).min(1.0) * cap - self.used;
        if counts(room, cap) { room } else { 0.0 }
    }
}

/// Calls a second that are more than what rounding leaves of so many.
fn counts(rps: f64, of: f64) -> bool {
    rps > of * EPSILON
}

/// The budgets of all nodes with declared capacity, by name.
pub(super) struct Budgets<'a>(BTreeMap<&'a Arc<str>, Budget>);

impl<'a> Budgets<'a> {
    pub(super) fn new(table: &'a Table, signals: &Signals) -> Self {
        let budgets = table.nodes.values().filter_map(|n| Some((&n.name, Budget::new(n, signals)?)));
        Self(budgets.collect())
    }
}

/// One region's calls of the class at hand.
pub(super) struct Load<'a> {
    /// Calls a second; above 0.
    pub(super) demand: f64,
    /// Its route after shifts.
    pub(super) route: &'a mut Route,
}

/// What one candidate of one load has over its cap, in calls a second.
struct Excess {
    load: usize,
    holder: usize,
    /// Within its cap, of its own and not handed over.
    kept: f64,
    /// Not placed yet.
    left: f64,
    /// Other candidates by preference, the lowest number first.
    ranks: Vec<(u8, usize)>,
}

/// Which caps count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caps {
    /// Those with ramps.
    Ramped,
    /// Those without.
    Full,
}

/// Fits the loads of one class, all regions, into what higher classes left.
pub(super) fn fit(loads: &mut [Load<'_>], class: Class, budgets: &mut Budgets<'_>) {
    note_caps(loads, class, budgets);
    let mut excess = cut(loads, class, budgets);
    if !excess.is_empty() {
        for caps in [Caps::Ramped, Caps::Full] {
            let mut scene = Scene { loads, budgets, class, caps };
            scene.keep(&mut excess);
            while scene.hand_over(&mut excess) {}
            while scene.make_room(&mut excess) {
                scene.keep(&mut excess);
            }
        }
        give_back(loads, &excess, budgets);
    }
    for load in loads {
        for c in &mut load.route.candidates {
            c.rps = c.share * load.demand;
        }
    }
}

/// What nobody can take stays where it was.
fn give_back(loads: &mut [Load<'_>], excess: &[Excess], budgets: &mut Budgets<'_>) {
    for e in excess {
        let demand = loads[e.load].demand;
        let holder = &mut loads[e.load].route.candidates[e.holder];
        holder.share += e.left / demand;
        if counts(e.left, demand) {
            holder.limits.push(Rule::NobodyHasRoom);
        }
        if let Some(budget) = budgets.0.get_mut(&holder.node) {
            budget.used += e.left;
        }
    }
}

fn note_caps(loads: &mut [Load<'_>], class: Class, budgets: &Budgets<'_>) {
    for c in loads.iter_mut().flat_map(|load| &mut load.route.candidates) {
        let budget = budgets.0.get(&c.node);
        c.cap = budget.map(|b| sane(b.ceilings[class.index()]).min(1.0) * b.cap);
    }
}

/// Cuts every node's load to its room, all regions by the same factor, and places what is kept.
fn cut(loads: &mut [Load<'_>], class: Class, budgets: &mut Budgets<'_>) -> Vec<Excess> {
    let mut wanted: BTreeMap<&Arc<str>, f64> = BTreeMap::new();
    for load in loads.iter() {
        for c in &load.route.candidates {
            *wanted.entry(&c.node).or_default() += load.demand * c.shifted;
        }
    }
    let mut keep = BTreeMap::new();
    for (node, wanted) in wanted {
        let Some(budget) = budgets.0.get_mut(node) else { continue };
        let room = budget.room(budget.cap, class);
        budget.used += wanted.min(room);
        if wanted > room {
            keep.insert(node.clone(), room / wanted);
        }
    }
    let mut excess = Vec::new();
    for (at, load) in loads.iter_mut().enumerate() {
        let demand = load.demand;
        for holder in 0..load.route.candidates.len() {
            let c = &mut load.route.candidates[holder];
            let Some(factor) = keep.get(&c.node).filter(|_| c.shifted > 0.0) else { continue };
            c.clamped = c.shifted * factor;
            c.share = c.clamped;
            c.limits.extend(c.cap.map(Rule::CapReached));
            let (kept, left) = (demand * c.clamped, demand * (c.shifted - c.clamped));
            excess.push(Excess { load: at, holder, kept, left, ranks: ranks(load.route, holder) });
        }
    }
    excess
}

/// Who is asked to take what a candidate has too much: siblings, later tiers, earlier tiers, and last the
/// sources of shifts to it.
fn ranks(route: &Route, holder: usize) -> Vec<(u8, usize)> {
    let tier = route.candidates[holder].tier;
    let is_source =
        |i: usize| route.moves.iter().any(|m| m.kind == MoveKind::Shift && m.from == i && m.to == holder);
    let others = route.candidates.iter().enumerate().filter(|&(i, c)| i != holder && c.usable());
    let mut ranks: Vec<(u8, usize)> = others
        .map(|(i, c)| match c.tier {
            _ if is_source(i) => (9, i),
            other if other >= tier => (other - tier, i),
            other => (4 + other, i),
        })
        .collect();
    ranks.sort_unstable();
    ranks
}

#[cfg(test)]
mod tests {
    use super::{EPSILON, counts};

    #[test]
    fn what_rounding_leaves_does_not_count_and_the_least_above_it_does() {
        let least = 400.0 * EPSILON;
        assert!(!counts(least, 400.0));
        assert!(counts(least.next_up(), 400.0));
        assert!([0.0, -1.0, f64::NAN].iter().all(|&none| !counts(none, 400.0)));
    }
}
