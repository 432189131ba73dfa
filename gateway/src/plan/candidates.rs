//! Who may answer for a region, and who is out?
//!
//! Tier 0 are the region's own nodes, tier 1 its province's nodes whose scope holds it, tier 2 the peers
//! that its policy names. For a province's own code the province's nodes are tier 0. Who is out stays in
//! the list, with the rule that put it out.

use super::{Candidate, Ground, MIN_RAMP, Reason, Rule, Signals, node_hash};
use crate::table::{Node, Policy, Role, Stage, Table};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use suiyue_proto::{
    method::Class,
    region::{self, Code},
};

/// How old data may be while fresher ones can be had, by class. `sync` brings the data itself.
pub const MAX_LAG: [Option<Duration>; 4] = [
    Some(Duration::from_secs(60)),
    Some(Duration::from_secs(300)),
    Some(Duration::from_secs(24 * 3600)),
    None,
];

/// What was out for its lag comes back at this part of the limit, so that it does not flap.
const RETURN_AT: f64 = 0.8;

/// The nodes of tiers 0 and 1 by region, in the order of tier and name.
pub(super) type Own<'a> = BTreeMap<Code, Vec<(u8, &'a Arc<Node>)>>;

/// Finds the nodes of tiers 0 and 1 of every region that somebody serves.
pub(super) fn own(table: &Table) -> Own<'_> {
    let mut found = Own::new();
    for node in table.nodes.values() {
        for &code in &node.scopes {
            let tier = if node.region == code {
                0
            } else if node.role == Role::Province && region::parent(code) == Some(node.region) {
                1
            } else {
                continue;
            };
            found.entry(code).or_default().push((tier, node));
        }
    }
    for nodes in found.values_mut() {
        nodes.sort_by_key(|(tier, _)| *tier);
        nodes.dedup_by(|a, b| a.1.name == b.1.name);
    }
    found
}

/// The candidates of one region and class in the order of tier and name, shares still zero.
pub(super) fn find(
    ground: &Ground<'_>,
    own: &[(u8, &Arc<Node>)],
    code: Code,
    class: Class,
) -> Vec<Candidate> {
    let policy = ground.table.policies.get(&code);
    let mut candidates: Vec<Candidate> =
        own.iter().map(|&(tier, node)| judge(ground.signals, node, tier, code)).collect();
    candidates.extend(peers(ground, policy, own, class));
    let limit = policy.and_then(|p| p.max_lag[class.index()]).or(MAX_LAG[class.index()]);
    if let Some(limit) = limit {
        drop_stale(ground, &mut candidates, code, class, limit);
    }
    candidates
}

/// Peers answer with what they know of their own region: that is what they must be ready for.
fn peers(
    ground: &Ground<'_>,
    policy: Option<&Policy>,
    own: &[(u8, &Arc<Node>)],
    class: Class,
) -> Vec<Candidate> {
    let Some(policy) = policy else { return Vec::new() };
    let mut named: BTreeMap<&Arc<str>, bool> = BTreeMap::new();
    for (name, classes) in &policy.peers {
        *named.entry(name).or_default() |= classes.contains(&class);
    }
    let known = |name: &str| own.iter().any(|(_, node)| *node.name == *name);
    let nodes = named.into_iter().filter(|(name, _)| !known(name));
    nodes
        .filter_map(|(name, for_class)| {
            let node = ground.table.nodes.get(name)?;
            let mut candidate = judge(ground.signals, node, 2, node.region);
            let intent = matches!(candidate.reason, Reason::Drained | Reason::Suspended);
            if !for_class && !intent {
                (candidate.reason, candidate.rule) = (Reason::NotNamed, Rule::PeerNotNamed(class));
            }
            Some(candidate)
        })
        .collect()
}

/// A candidate with what excludes it by itself. `about`: the region it must be ready for.
fn judge(signals: &Signals, node: &Node, tier: u8, about: Code) -> Candidate {
    let signal = signals.nodes.get(&node.name);
    let health = signal.map_or(0.0, |s| fraction(s.health));
    let ramp = signal.map_or(1.0, |s| fraction(s.ramp).max(MIN_RAMP));
    let as_of_ms = signal.and_then(|s| s.ready.get(&about).copied());
    let (reason, rule) = if node.intent.drained {
        (Reason::Drained, Rule::Drained)
    } else if let stage @ (Stage::Test | Stage::Suspended) = node.intent.stage {
        (Reason::Suspended, Rule::Stage(stage))
    } else if as_of_ms.is_none() {
        (Reason::NotReady, Rule::NotReady)
    } else if health <= 0.0 {
        (Reason::Unhealthy, Rule::NoEndpoint)
    } else {
        (Reason::Standby, Rule::OthersCarry)
    };
    let declared = node.rps_max.filter(|&rps| rps > 0).map(f64::from);
    Candidate {
        node: node.name.clone(),
        tier,
        share: 0.0,
        reason,
        rule,
        limits: Vec::new(),
        stage: node.intent.stage,
        health,
        ramp,
        as_of_ms: as_of_ms.unwrap_or(0),
        declared,
        capacity: declared.map(|rps| rps * health * ramp),
        cap: None,
        rps: 0.0,
        base: 0.0,
        shifted: 0.0,
        clamped: 0.0,
        hash: node_hash(&node.name),
    }
}

/// Puts out who has old data, while one has fresh data that can carry on at once: a node on trial or on
/// its way back cannot, and does not put out the one that carries its calls.
fn drop_stale(ground: &Ground<'_>, candidates: &mut [Candidate], code: Code, class: Class, limit: Duration) {
    // The registry is away: nobody's data grow older than they were when it was last heard.
    let now = ground.now.wall_ms.min(ground.now.heard_ms);
    let lag = |c: &Candidate| {
        let known = c.tier < 2 && c.as_of_ms > 0;
        known.then(|| Duration::from_millis(now.saturating_sub(c.as_of_ms).max(0) as u64))
    };
    let settled = |c: &&Candidate| c.usable() && c.stage == Stage::Active && c.ramp >= 1.0;
    let fresh = candidates.iter().filter(settled).filter_map(|c| Some((lag(c)?, c.node.clone())));
    let Some((_, fresher)) = fresh.min().filter(|(least, _)| *least <= limit) else { return };
    let before = ground.previous.plans.regions.get(&code).map(|routes| &routes[class.index()].candidates);
    for c in candidates.iter_mut().filter(|c| c.usable() && c.node != fresher) {
        let Some(lag) = lag(c) else { continue };
        let was_out = before.is_some_and(|b| b.iter().any(|b| b.node == c.node && b.reason == Reason::Stale));
        let limit = if was_out { limit.mul_f64(RETURN_AT) } else { limit };
        if lag > limit {
            (c.reason, c.rule) = (Reason::Stale, Rule::Lag { lag, limit, fresher: fresher.clone() });
        }
    }
}

/// A number between 0 and 1; 0 where it is no number.
pub(super) fn fraction(x: f64) -> f64 {
    super::sane(x).min(1.0)
}
