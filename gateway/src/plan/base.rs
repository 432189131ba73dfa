//! Which part of the calls would each candidate get, were there no shift and no cap?
//!
//! The first tier that has anyone takes all, split by effective capacity; what it cannot take because it
//! is sick or returning, later tiers take. A policy may give weights across tiers instead. A node in
//! stage CANARY gets its percentage at most, unless nobody else is there.

use super::{Candidate, EPSILON, OVERPROVISIONING, Reason, Rule, sane};
use crate::table::{Policy, Stage};

/// Sets the base shares; false if no candidate can be used.
pub(super) fn spread(candidates: &mut [Candidate], policy: Option<&Policy>) -> bool {
    if !candidates.iter().any(Candidate::usable) {
        return false;
    }
    // Ramps are compared with the furthest one: where everybody returns at once nobody else carries the
    // calls, and the tiers keep their order.
    let top = candidates.iter().filter(|c| c.usable()).map(|c| c.ramp).fold(0.0, f64::max);
    let mut left = 1.0;
    if let Some(policy) = policy {
        left -= by_weight(candidates, policy);
    }
    by_tier(candidates, left, top);
    settle(candidates);
    for c in candidates.iter_mut().filter(|c| c.usable() && c.ramp < top) {
        c.limits.push(Rule::Ramp(c.ramp / top));
    }
    true
}

/// The capacity that a candidate is compared by: as declared, else that of an average sibling.
pub(super) fn nominal(candidates: &[Candidate]) -> Vec<f64> {
    let of_tier = |tier: u8| {
        let declared = candidates.iter().filter(|c| c.tier == tier).filter_map(|c| c.declared);
        let (sum, n) = declared.fold((0.0, 0.0), |(sum, n), rps| (sum + rps, n + 1.0));
        if n > 0.0 { sum / n } else { 1.0 }
    };
    candidates.iter().map(|c| c.declared.unwrap_or_else(|| of_tier(c.tier))).collect()
}

/// Splits by the policy's weights; what was placed. Without declared capacity a sick node gives way as
/// a sick tier does; with one, its cap says what it can take.
fn by_weight(candidates: &mut [Candidate], policy: &Policy) -> f64 {
    let weight = |c: &Candidate| {
        let given = policy.weights.iter().filter(|(name, _)| *name == c.node);
        let sum: f64 = given.map(|(_, w)| sane(*w)).sum();
        if c.usable() { sum } else { 0.0 }
    };
    let takes = |c: &Candidate| {
        let fit = if c.declared.is_some() { 1.0 } else { (OVERPROVISIONING * c.health).min(1.0) };
        weight(c) * fit * c.ramp
    };
    let total: f64 = candidates.iter().map(takes).sum();
    if total <= 0.0 {
        return 0.0;
    }
    for c in candidates.iter_mut() {
        let given = weight(c);
        if given > 0.0 {
            c.base = takes(c) / total;
            (c.reason, c.rule) = (Reason::Policy, Rule::Weight(given));
        }
    }
    hold_canaries(candidates);
    settle_others(candidates);
    candidates.iter().map(|c| c.base).sum()
}

/// Gives `left` to the tiers in their order, each as much as it can take.
fn by_tier(candidates: &mut [Candidate], mut left: f64, top: f64) {
    let nominal = nominal(candidates);
    let first = candidates.iter().map(|c| c.tier).min().unwrap_or(0);
    for tier in 0..=2 {
        let open: Vec<usize> = (0..candidates.len())
            .filter(|&i| candidates[i].tier == tier && candidates[i].usable() && candidates[i].base == 0.0)
            .collect();
        let weight = |c: &[Candidate], i: usize| nominal[i] * c[i].health * c[i].ramp;
        let total: f64 = open.iter().map(|&i| weight(candidates, i)).sum();
        if total <= 0.0 || left <= EPSILON {
            continue;
        }
        let takes = left.min(allowance(candidates, &nominal, &open, top));
        for &i in &open {
            let share = takes * weight(candidates, i) / total;
            candidates[i].base = share;
            let early = tier == first;
            (candidates[i].reason, candidates[i].rule) = if early {
                (Reason::Primary, Rule::FirstTier)
            } else {
                (Reason::Failover, Rule::EarlierTiersTake(1.0 - left))
            };
        }
        left -= hold_tier(candidates, &open, takes);
    }
}

/// Fraction of all calls that a tier may take: what the settled nodes can, and of what the returning ones
/// add, their ramp's part. So a tier's share is what it was at the instant a node comes back.
fn allowance(candidates: &[Candidate], nominal: &[f64], open: &[usize], top: f64) -> f64 {
    let Some(tier) = open.first().map(|&i| candidates[i].tier) else { return 0.0 };
    let known = open.iter().all(|&i| candidates[i].declared.is_some());
    let whole: f64 = (0..candidates.len())
        .filter(|&i| candidates[i].tier == tier)
        .filter(|&i| !matches!(candidates[i].reason, Reason::Drained | Reason::Suspended | Reason::NotNamed))
        .map(|i| nominal[i])
        .sum();
    let can_take = |healthy: f64| match known {
        // Caps say how much, and overflow takes the rest.
        true if healthy > 0.0 => 1.0,
        true => 0.0,
        false => (OVERPROVISIONING * healthy / whole).min(1.0),
    };
    let sum = |weight: &dyn Fn(&Candidate) -> f64| -> f64 {
        open.iter().map(|&i| nominal[i] * candidates[i].health * weight(&candidates[i])).sum()
    };
    let all = sum(&|_| 1.0);
    let settled = sum(&|c| if c.ramp >= top { 1.0 } else { 0.0 });
    let returning = all - settled;
    if returning <= 0.0 {
        return can_take(all);
    }
    let ramp = (sum(&|c| c.ramp / top) - settled) / returning;
    can_take(settled) + ramp * (can_take(all) - can_take(settled))
}

/// Holds the canaries of a tier at their cap and gives the rest to their siblings; what was placed.
fn hold_tier(candidates: &mut [Candidate], open: &[usize], takes: f64) -> f64 {
    hold_canaries(candidates);
    let steady = |c: &Candidate| !matches!(c.stage, Stage::Canary(_));
    let sum = |candidates: &[Candidate], pick: &dyn Fn(&Candidate) -> bool| -> f64 {
        open.iter().map(|&i| &candidates[i]).filter(|c| pick(c)).map(|c| c.base).sum()
    };
    let others = sum(candidates, &steady);
    if others > 0.0 {
        let grown = (takes - sum(candidates, &|c| !steady(c))) / others;
        for &i in open {
            if steady(&candidates[i]) {
                candidates[i].base *= grown;
            }
        }
        return takes;
    }
    sum(candidates, &|_| true)
}

/// Caps the base share of nodes on trial.
fn hold_canaries(candidates: &mut [Candidate]) {
    for c in candidates {
        if let Stage::Canary(percent) = c.stage
            && let cap = f64::from(percent) / 100.0
            && c.base > cap
        {
            c.base = cap;
            c.limits.push(Rule::CanaryCap(percent));
        }
    }
}

/// Makes the shares add up to 1: a ramp, bad health and a canary's cap are preferences where nobody else
/// is there, and they give way in this order.
pub(super) fn settle(candidates: &mut [Candidate]) {
    settle_others(candidates);
    let sum: f64 = candidates.iter().map(|c| c.base).sum();
    if sum <= 0.0 || sum >= 1.0 - EPSILON {
        return;
    }
    for c in candidates.iter_mut().filter(|c| c.base > 0.0) {
        c.base /= sum;
        if let Stage::Canary(percent) = c.stage {
            c.limits.retain(|rule| !matches!(rule, Rule::CanaryCap(_)));
            c.limits.push(Rule::CanaryAlone(percent));
        }
    }
}

/// Raises the shares of all but canaries until everything is placed, if there are any.
fn settle_others(candidates: &mut [Candidate]) {
    let steady = |c: &&mut Candidate| !matches!(c.stage, Stage::Canary(_));
    let others: f64 = candidates.iter_mut().filter(steady).map(|c| c.base).sum();
    let all: f64 = candidates.iter().map(|c| c.base).sum();
    if others > 0.0 {
        let grown = (1.0 - (all - others)) / others;
        candidates.iter_mut().filter(steady).for_each(|c| c.base *= grown);
    }
}
