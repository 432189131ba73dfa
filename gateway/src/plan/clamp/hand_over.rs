//! How do calls over a cap find those who have room?
//!
//! In rounds: everyone with too much asks the best rank that has room, and a node that is asked for more
//! than it has gives everyone the same part of the wish. A round satisfies everyone who asks, or fills a
//! node, or a rank of somebody; so there are few, and the order of regions does not matter.

use super::{Budgets, Caps, Excess, Load, counts};
use crate::{
    plan::{Candidate, Move, MoveKind, Reason, Rule},
    table::Stage,
};
use std::{collections::BTreeMap, sync::Arc};
use suiyue_proto::method::Class;

/// The loads of one class with the budgets they compete for.
pub(super) struct Scene<'s, 'l, 'b> {
    pub(super) loads: &'s mut [Load<'l>],
    pub(super) budgets: &'s mut Budgets<'b>,
    pub(super) class: Class,
    pub(super) caps: Caps,
}

/// What one candidate would hand over to another, in calls a second.
struct Wish {
    /// Index of the excess.
    of: usize,
    /// Index of the candidate.
    to: usize,
    rps: f64,
}

impl Scene<'_, '_, '_> {
    /// Holders take back themselves what has found room with them: all regions the same part.
    pub(super) fn keep(&mut self, excess: &mut [Excess]) {
        let mut wanted: BTreeMap<Arc<str>, f64> = BTreeMap::new();
        for e in excess.iter() {
            *wanted.entry(self.name(e.load, e.holder)).or_default() += e.left;
        }
        for (node, wanted) in wanted.iter_mut() {
            let room = self.room_of(node);
            // From here on: the part of the wish.
            *wanted = if *wanted > room { room / *wanted } else { 1.0 };
        }
        for e in excess.iter_mut() {
            let node = self.name(e.load, e.holder);
            let rps = e.left * wanted[&node];
            let load = &mut self.loads[e.load];
            load.route.candidates[e.holder].share += rps / load.demand;
            e.kept += rps;
            e.left -= rps;
            self.take(&node, rps);
        }
    }

    /// One round; false when nothing was handed over.
    pub(super) fn hand_over(&mut self, excess: &mut [Excess]) -> bool {
        let mut wishes: Vec<Wish> = Vec::new();
        let mut asked: BTreeMap<Arc<str>, f64> = BTreeMap::new();
        for (at, e) in excess.iter().enumerate() {
            let load = &self.loads[e.load];
            if !counts(e.left, load.demand) {
                continue;
            }
            let room = |i: usize| {
                let promised = wishes.iter().rev().take_while(|w| excess[w.of].load == e.load);
                let promised = promised.filter(|w| w.to == i).map(|w| w.rps).sum();
                let c = &load.route.candidates[i];
                self.room_of(&c.node).min(trial_room(c, load.demand, promised))
            };
            let new = wish(e, load.demand, room);
            for (to, rps) in new {
                *asked.entry(self.name(e.load, to)).or_default() += rps;
                wishes.push(Wish { of: at, to, rps });
            }
        }
        for w in &mut wishes {
            let node = self.name(excess[w.of].load, w.to);
            w.rps *= (self.room_of(&node) / asked[&node]).min(1.0);
        }
        for w in &wishes {
            self.place(&mut excess[w.of], w);
        }
        !wishes.is_empty()
    }

    /// Where calls are left that only one node could take, other regions hand over what that node keeps
    /// of theirs, if they have somewhere else to go. False when nobody moved.
    pub(super) fn make_room(&mut self, excess: &mut [Excess]) -> bool {
        let mut over: BTreeMap<Arc<str>, f64> = BTreeMap::new();
        for e in excess.iter().filter(|e| counts(e.left, self.loads[e.load].demand)) {
            *over.entry(self.name(e.load, e.holder)).or_default() += e.left;
        }
        let mut movable: BTreeMap<Arc<str>, f64> = BTreeMap::new();
        let mut movers = Vec::new();
        for (at, e) in excess.iter().enumerate() {
            let node = self.name(e.load, e.holder);
            let demand = self.loads[e.load].demand;
            let has_room = |&(_, i): &(u8, usize)| counts(self.room_of(&self.name(e.load, i)), demand);
            let elsewhere = || e.ranks.iter().any(has_room);
            if counts(e.kept, demand) && over.contains_key(&node) && elsewhere() {
                *movable.entry(node).or_default() += e.kept;
                movers.push(at);
            }
        }
        let mut offers: Vec<Excess> = Vec::with_capacity(movers.len());
        for &at in &movers {
            let e = &excess[at];
            let node = self.name(e.load, e.holder);
            let left = e.kept * (over[&node] / movable[&node]).min(1.0);
            offers.push(Excess { left, ranks: e.ranks.clone(), ..*e });
        }
        let before: Vec<f64> = offers.iter().map(|offer| offer.left).collect();
        let moved = self.hand_over(&mut offers);
        for ((&at, offer), before) in movers.iter().zip(&offers).zip(before) {
            let rps = before - offer.left;
            let load = &mut self.loads[offer.load];
            let share = &mut load.route.candidates[offer.holder].share;
            *share = (*share - rps / load.demand).max(0.0);
            excess[at].kept = (excess[at].kept - rps).max(0.0);
            let node = self.name(offer.load, offer.holder);
            self.take(&node, -rps);
        }
        moved
    }

    /// Puts what a wish was granted where it belongs.
    fn place(&mut self, excess: &mut Excess, wish: &Wish) {
        let Load { demand, route } = &mut self.loads[excess.load];
        let (from, to, part) = (excess.holder, wish.to, wish.rps / *demand);
        let (giver, before) = (route.candidates[from].node.clone(), route.candidates[from].shifted);
        let taker = &mut route.candidates[to];
        taker.share += part;
        if taker.reason == Reason::Standby {
            (taker.reason, taker.rule) = (Reason::Overflow, Rule::OverflowOf(giver));
        }
        let node = taker.node.clone();
        let fraction = part / before;
        let known = route.moves.iter_mut().find(|m| (m.kind, m.from, m.to) == (MoveKind::Overflow, from, to));
        match known {
            Some(known) => known.fraction += fraction,
            None => route.moves.push(Move { kind: MoveKind::Overflow, from, to, fraction }),
        }
        excess.left = (excess.left - wish.rps).max(0.0);
        self.take(&node, wish.rps);
    }

    fn name(&self, load: usize, candidate: usize) -> Arc<str> {
        self.loads[load].route.candidates[candidate].node.clone()
    }

    fn room_of(&self, node: &Arc<str>) -> f64 {
        self.budgets.0.get(node).map_or(0.0, |budget| {
            budget.room(if self.caps == Caps::Ramped { budget.cap } else { budget.full }, self.class)
        })
    }

    fn take(&mut self, node: &Arc<str>, rps: f64) {
        if let Some(budget) = self.budgets.0.get_mut(node) {
            budget.used += rps;
        }
    }
}

/// Splits what is too much over the best rank that has room, by room.
fn wish(excess: &Excess, demand: f64, room: impl Fn(usize) -> f64) -> Vec<(usize, f64)> {
    for rank in excess.ranks.chunk_by(|a, b| a.0 == b.0) {
        let rooms = rank.iter().map(|&(_, i)| (i, room(i))).filter(|(_, room)| counts(*room, demand));
        let rooms: Vec<(usize, f64)> = rooms.collect();
        let total: f64 = rooms.iter().map(|(_, room)| room).sum();
        if total > 0.0 {
            let part = (excess.left / total).min(1.0);
            return rooms.into_iter().map(|(i, room)| (i, room * part)).collect();
        }
    }
    Vec::new()
}

/// Calls a second that the stage of a candidate leaves it. `promised`: to be placed there already.
fn trial_room(c: &Candidate, demand: f64, promised: f64) -> f64 {
    match c.stage {
        Stage::Canary(percent) => ((f64::from(percent) / 100.0 - c.share) * demand - promised).max(0.0),
        _ => f64::INFINITY,
    }
}
