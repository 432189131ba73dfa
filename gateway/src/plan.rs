//! Where should every region's traffic go?
//!
//! [`plan`] is pure: table and signals in, shares out; no I/O, no clock, no randomness of its own.
//! The request path, `explain` and the metrics all read its result and nothing else. Calls are spread
//! by [`Route::pick`], which is pure too: the same key gives the same candidate.
//!
//! For one region and class: candidates by tier, some excluded with a reason; the first tier takes
//! what its health allows, later tiers take the rest; if nobody is healthy the class decides whether
//! to try anyway.

mod pick;
mod rule;

pub use pick::{Move, MoveKind, Pick, Route, mix, node_hash};
pub use rule::{Reason, Rule};

use crate::table::{Node, Role, Stage, Table};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};
use suiyue_proto::{
    method::Class,
    region::{self, Code},
};

/// A tier with a tenth of its endpoints sick still has room for everything: the factor by which
/// healthy fractions are stretched, as in Envoy's priority levels.
const OVERPROVISIONING: f64 = 1.4;

/// A returning node begins with this fraction: enough to see whether it answers.
pub const MIN_RAMP: f64 = 0.02;

/// What is known besides the table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Signals {
    /// One entry for each node that has endpoints, by name; a missing node counts as unhealthy.
    pub nodes: BTreeMap<Arc<str>, NodeSignal>,
    /// Calls a second at this gateway by region, and in the order of [`Class::ALL`] by class. Where
    /// none are known no cap binds.
    pub demand: BTreeMap<Code, [f64; 4]>,
    /// Live gateways, this one among them; 0 counts as 1.
    pub gateways: u32,
}

/// What is known of one node.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NodeSignal {
    /// Fraction of its endpoints in rotation, 0 to 1.
    pub health: f64,
    /// Fraction of its usual share that it may take while it returns, 0 to 1. A preference: where
    /// nobody else can answer it takes everything.
    pub ramp: f64,
    /// Regions that it is ready for, with the instant its data are complete up to in milliseconds since
    /// 1970; 0: it does not say, and its lag is not judged.
    pub ready: BTreeMap<Code, i64>,
    /// Calls a second of this gateway to it.
    pub own_use: f64,
}

/// The plan before this one: what was out for its lag comes back a little later than it went.
#[derive(Debug, Clone, Default)]
pub struct Previous {
    /// Its routes; empty at the start.
    pub plans: Arc<Plans>,
}

/// The instant that a plan is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For the age of a plan.
    pub monotonic: Instant,
    /// Milliseconds since 1970-01-01 UTC: for data lag and shifts.
    pub wall_ms: i64,
}

/// All that a plan was made from, besides the table: `what-if` plans again from a changed copy.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Signals.
    pub signals: Signals,
    /// The plan before.
    pub previous: Previous,
    /// The instant.
    pub now: Now,
}

/// One node that may answer for a region, with what every step of the plan made of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The node.
    pub node: Arc<str>,
    /// 0 the region's own, 1 its province's, 2 peers.
    pub tier: u8,
    /// Fraction of the region's calls in the end, 0 to 1.
    pub share: f64,
    /// Why, in a word.
    pub reason: Reason,
    /// The rule that included or excluded it.
    pub rule: Rule,
    /// Rules that limit what it gets.
    pub limits: Vec<Rule>,
    /// Fraction of its endpoints in rotation, 0 to 1.
    pub health: f64,
    /// Fraction of its usual share while it returns, 0 to 1.
    pub ramp: f64,
    /// Calls a second that it can carry now in total (declared capacity times health and ramp); `None`:
    /// it declared none.
    pub capacity: Option<f64>,
    /// Calls a second that this gateway sends to it up to this class, from all regions; `None`: no
    /// declared capacity, no cap.
    pub cap: Option<f64>,
    /// Calls a second of this region and class that it will get if demand stays.
    pub rps: f64,
    /// Share after base weights.
    pub base: f64,
    /// Share after shifts.
    pub shifted: f64,
    /// Share that it keeps within its cap; `share` adds what others hand over and what nobody takes.
    pub clamped: f64,
    /// [`node_hash`] of its name, for the pick.
    pub hash: u64,
}

/// The routes of all regions that somebody serves.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plans {
    /// By routing region, one route a class in the order of [`Class::ALL`].
    pub regions: BTreeMap<Code, [Route; 4]>,
}

/// Decides where every region's traffic goes.
#[must_use]
pub fn plan(table: &Table, signals: &Signals, _previous: &Previous, _now: Now) -> Plans {
    let served: BTreeSet<Code> = table.nodes.values().flat_map(|n| n.scopes.iter().copied()).collect();
    let regions = served
        .into_iter()
        .map(|code| {
            let tiers = tiers(table, code);
            (code, Class::ALL.map(|class| route(table, signals, code, class, &tiers)))
        })
        .collect();
    Plans { regions }
}

/// The nodes of tier 0 and tier 1 of a region.
fn tiers(table: &Table, code: Code) -> Vec<(u8, &Arc<Node>)> {
    let province = region::parent(code);
    let mut found: Vec<(u8, &Arc<Node>)> = table
        .nodes
        .values()
        .filter(|node| node.scopes.contains(&code))
        .filter_map(|node| {
            if node.region == code {
                Some((0, node))
            } else {
                (node.role == Role::Province && Some(node.region) == province).then_some((1, node))
            }
        })
        .collect();
    found.sort_by_key(|(tier, _)| *tier);
    found
}

fn route(table: &Table, signals: &Signals, code: Code, class: Class, tiers: &[(u8, &Arc<Node>)]) -> Route {
    let peers = table.policies.get(&code).into_iter().flat_map(|policy| &policy.peers);
    let peers = peers.filter(|(_, classes)| classes.contains(&class)).filter_map(|(name, _)| {
        let node = table.nodes.get(name)?;
        (!tiers.iter().any(|(_, known)| known.name == node.name)).then_some((2, node))
    });
    let mut candidates: Vec<(Candidate, f64)> = tiers
        .iter()
        .copied()
        .chain(peers)
        .map(|(tier, node)| {
            let (health, reason) = judge(node, signals, code, tier);
            let ramp = signals.nodes.get(&node.name).map_or(1.0, |s| s.ramp.clamp(MIN_RAMP, 1.0));
            let capacity = f64::from(node.rps_max.unwrap_or(1).max(1));
            (blank(node, tier, reason, health, ramp), capacity)
        })
        .collect();
    if !spread(&mut candidates) {
        fail_open(&mut candidates, class);
    }
    let mut candidates: Vec<Candidate> = candidates.into_iter().map(|(candidate, _)| candidate).collect();
    for c in &mut candidates {
        (c.base, c.shifted, c.clamped) = (c.share, c.share, c.share);
    }
    let shed = (1.0 - candidates.iter().map(|c| c.share).sum::<f64>()).max(0.0);
    Route { candidates, moves: Vec::new(), shed }
}

fn blank(node: &Node, tier: u8, reason: Reason, health: f64, ramp: f64) -> Candidate {
    Candidate {
        node: node.name.clone(),
        tier,
        share: 0.0,
        reason,
        rule: Rule::OthersCarry,
        limits: Vec::new(),
        health,
        ramp,
        capacity: None,
        cap: None,
        rps: 0.0,
        base: 0.0,
        shifted: 0.0,
        clamped: 0.0,
        hash: node_hash(&node.name),
    }
}

/// Health of a node for a region, and why it is excluded if it is. A peer answers with what it knows of
/// its own region: its readiness is its own region's.
fn judge(node: &Node, signals: &Signals, code: Code, tier: u8) -> (f64, Reason) {
    let about = if tier == 2 { node.region } else { code };
    let signal = signals.nodes.get(&node.name);
    let health = signal.map_or(0.0, |s| s.health.clamp(0.0, 1.0));
    let reason = if node.intent.drained {
        Reason::Drained
    } else if matches!(node.intent.stage, Stage::Test | Stage::Suspended) {
        Reason::Suspended
    } else if !signal.is_some_and(|s| s.ready.contains_key(&about)) {
        Reason::NotReady
    } else if health <= 0.0 {
        Reason::Unhealthy
    } else {
        Reason::Standby
    };
    (health, reason)
}

/// Gives each tier what its health allows, the last healthy one all that is left. False if none is.
fn spread(candidates: &mut [(Candidate, f64)]) -> bool {
    let usable = |(c, _): &&mut (Candidate, f64)| !c.reason.excludes();
    let Some(last) = candidates.iter_mut().filter(usable).map(|(c, _)| c.tier).max() else { return false };
    let first = candidates.iter().map(|(c, _)| c.tier).min().unwrap_or(0);
    let mut left = 1.0;
    for tier in first..=last {
        let nominal: f64 = candidates
            .iter()
            .filter(|(c, _)| c.tier == tier && !matches!(c.reason, Reason::Drained | Reason::Suspended))
            .map(|(_, capacity)| capacity)
            .sum();
        let sum = |candidates: &mut [(Candidate, f64)], weight: fn(&Candidate) -> f64| -> f64 {
            let in_tier = candidates.iter_mut().filter(usable).filter(|(c, _)| c.tier == tier);
            in_tier.map(|(c, capacity)| *capacity * weight(c)).sum()
        };
        let healthy = sum(candidates, |c| c.health);
        let ramped = sum(candidates, |c| c.health * c.ramp);
        if healthy <= 0.0 || left <= 0.0 {
            continue;
        }
        let allowed = (OVERPROVISIONING * healthy / nominal).min(1.0) * (ramped / healthy);
        let takes = if tier == last { left } else { left * allowed };
        for (c, capacity) in candidates.iter_mut().filter(usable).filter(|(c, _)| c.tier == tier) {
            c.share = takes * *capacity * c.health * c.ramp / ramped;
            c.reason = if tier == first { Reason::Primary } else { Reason::Failover };
        }
        left = (left - takes).max(0.0);
    }
    true
}

/// Nobody is healthy: `scan` is tried at every ready candidate, `show` at tiers 0 and 1, the rest not.
fn fail_open(candidates: &mut [(Candidate, f64)], class: Class) {
    let tiers = match class {
        Class::Scan => 0..=2,
        Class::Show => 0..=1,
        Class::Query | Class::Sync => return,
    };
    let open = |c: &Candidate| c.reason == Reason::Unhealthy && tiers.contains(&c.tier);
    let total: f64 = candidates.iter().filter(|(c, _)| open(c)).map(|(_, capacity)| capacity).sum();
    for (c, capacity) in candidates.iter_mut() {
        if open(c) {
            c.share = *capacity / total;
            c.reason = Reason::FailOpen;
        }
    }
}

#[cfg(test)]
mod tests;
