//! Where should every region's traffic go?
//!
//! [`plan`] is pure: table and signals in, shares out; no I/O, no clock, no randomness of its own.
//! The request path, `explain` and the metrics all read its result and nothing else. Calls are spread
//! by [`Route::pick`], which is pure too: the same key gives the same candidate.
//!
//! For one region and class: candidates by tier, some excluded with a reason; the first tier takes
//! what its health allows, later tiers take the rest; if nobody is healthy the class decides whether
//! to try anyway.

use crate::table::{Node, Role, Table};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
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

/// What is known of the nodes besides the table, by node name.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    /// One entry for each node that has endpoints; a missing node counts as unhealthy.
    pub nodes: BTreeMap<Arc<str>, NodeSignal>,
}

/// What is known of one node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSignal {
    /// Fraction of its endpoints in rotation, 0 to 1.
    pub health: f64,
    /// Fraction of its usual share that it may take while it returns, 0 to 1. A preference: where
    /// nobody else can answer it takes everything.
    pub ramp: f64,
    /// Regions that at least one endpoint is ready for.
    pub ready: BTreeSet<Code>,
}

/// Why a candidate gets what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// It stands in the first tier that has anyone.
    Primary,
    /// An earlier tier is not healthy enough.
    Failover,
    /// Nobody is healthy, and this class is tried all the same.
    FailOpen,
    /// Excluded: an operator drained it.
    Drained,
    /// Excluded: its stage does not let it serve.
    Suspended,
    /// Excluded: it has not loaded the region's holders.
    NotReady,
    /// Excluded: none of its endpoints is in rotation.
    Unhealthy,
    /// Excluded for now: earlier tiers carry everything.
    Standby,
}

impl Reason {
    /// The word in metadata, metrics and `explain`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Failover => "failover",
            Self::FailOpen => "fail_open",
            Self::Drained => "drained",
            Self::Suspended => "suspended",
            Self::NotReady => "not_ready",
            Self::Unhealthy => "unhealthy",
            Self::Standby => "standby",
        }
    }

    /// The candidate must not get calls, not even when another fails.
    #[must_use]
    pub const fn excludes(self) -> bool {
        matches!(self, Self::Drained | Self::Suspended | Self::NotReady | Self::Unhealthy)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One node that may answer for a region.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The node.
    pub node: Arc<str>,
    /// 0 the region's own, 1 its province's, 2 peers.
    pub tier: u8,
    /// Fraction of the region's calls, 0 to 1.
    pub share: f64,
    /// Why.
    pub reason: Reason,
    /// Fraction of its endpoints in rotation, 0 to 1.
    pub health: f64,
    /// Fraction of its usual share while it returns, 0 to 1.
    pub ramp: f64,
}

/// Where the calls of one region and class go. Shares add up to 1, or to 0 where nobody may answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Route {
    /// Every candidate, also excluded ones, in the order they are tried.
    pub candidates: Vec<Candidate>,
}

impl Route {
    /// The candidate for a call with this key: weighted rendezvous, so that a change of one share
    /// moves only the keys that it must. `None` where nobody may answer.
    #[must_use]
    pub fn pick(&self, key: u64) -> Option<usize> {
        let mut open = self.candidates.iter().enumerate().filter(|(_, c)| c.share > 0.0);
        let first = open.next()?;
        let Some(second) = open.next() else { return Some(first.0) };
        [first, second]
            .into_iter()
            .chain(open)
            .map(|(index, c)| (index, rendezvous(key, &c.node, c.share)))
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(index, _)| index)
    }
}

/// Score of a node for a key: the highest wins, and node `i` wins with probability proportional to its
/// weight (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005).
fn rendezvous(key: u64, node: &str, weight: f64) -> f64 {
    let mut hash = key ^ 0x9e37_79b9_7f4a_7c15;
    for &byte in node.as_bytes() {
        hash = mix(hash ^ u64::from(byte));
    }
    // 53 bits into (0, 1): never 0 and never 1, so that the logarithm is finite and not zero.
    let unit = ((mix(hash) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -weight / unit.ln()
}

/// A 64-bit finalizer (Stafford's variant 13 of the `MurmurHash3` mixer).
#[must_use]
pub const fn mix(mut x: u64) -> u64 {
    x ^= x >> 30;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The routes of all regions that somebody serves.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plans {
    /// By routing region, one route a class in the order of [`Class::ALL`].
    pub regions: BTreeMap<Code, [Route; 4]>,
}

/// Decides where every region's traffic goes.
#[must_use]
pub fn plan(table: &Table, signals: &Signals) -> Plans {
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
            (Candidate { node: node.name.clone(), tier, share: 0.0, reason, health, ramp }, capacity)
        })
        .collect();
    if !spread(&mut candidates) {
        fail_open(&mut candidates, class);
    }
    Route { candidates: candidates.into_iter().map(|(candidate, _)| candidate).collect() }
}

/// Health of a node for a region, and why it is excluded if it is. A peer answers with what it knows of
/// its own region: its readiness is its own region's.
fn judge(node: &Node, signals: &Signals, code: Code, tier: u8) -> (f64, Reason) {
    let about = if tier == 2 { node.region } else { code };
    let signal = signals.nodes.get(&node.name);
    let health = signal.map_or(0.0, |s| s.health.clamp(0.0, 1.0));
    let reason = if node.intent.drained {
        Reason::Drained
    } else if node.intent.suspended {
        Reason::Suspended
    } else if !signal.is_some_and(|s| s.ready.contains(&about)) {
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
