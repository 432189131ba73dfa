//! How is a route told?
//!
//! Candidates with what every step of the plan made of them, and one sentence for a person. Nothing is
//! decided here: the plan has said it all.

use crate::{
    plan::{Candidate, Pick, Plans, Reason, Route},
    proxy::answer,
    table::Table,
};
use suiyue_proto::{method::Class, region::Code, v1};

/// Every candidate, in the order they would be tried.
pub(super) fn candidates(table: &Table, route: &Route) -> Vec<v1::CandidateInfo> {
    route.candidates.iter().map(|one| stale(table, candidate(one))).collect()
}

/// Says so where a candidate is there only because its absence is held back.
fn stale(table: &Table, mut candidate: v1::CandidateInfo) -> v1::CandidateInfo {
    let held = table.stale.iter().filter(|(node, _)| **node == *candidate.node).count();
    if held > 0 {
        let of = table.nodes.get(candidate.node.as_str()).map_or(held, |node| node.endpoints.len());
        candidate.limits.push(format!("stale: the registry has {held} of its {of} endpoints no more"));
    }
    candidate
}

fn candidate(candidate: &Candidate) -> v1::CandidateInfo {
    v1::CandidateInfo {
        node: candidate.node.to_string(),
        tier: u32::from(candidate.tier),
        share: candidate.share,
        reason: candidate.reason.to_string(),
        excluded: candidate.reason.excludes() || candidate.reason == Reason::Stale,
        health: candidate.health,
        rule: candidate.rule.to_string(),
        base_share: candidate.base,
        shifted_share: candidate.shifted,
        clamped_share: candidate.clamped,
        limits: candidate.limits.iter().map(ToString::to_string).collect(),
        ramp: candidate.ramp,
        capacity_rps: candidate.capacity,
        cap_rps: candidate.cap,
        rps: candidate.rps,
    }
}

/// Where the calls of a subject's hash go, with the word that the answer to a first attempt carries.
pub(super) fn pick(route: &Route, subject: u64) -> Option<v1::Pick> {
    let Pick { candidate, reason } = route.pick(subject)?;
    let chosen = &route.candidates[candidate];
    Some(v1::Pick {
        node: chosen.node.to_string(),
        tier: u32::from(chosen.tier),
        reason: answer::reason_of(reason).as_str().to_owned(),
    })
}

/// Where the calls of each class of a region go; empty: nobody serves it.
pub(super) fn by_class(table: &Table, plans: &Plans, code: Code) -> Vec<v1::ClassRoute> {
    let routes =
        plans.regions.get(&code).into_iter().flat_map(|by_class| Class::ALL.into_iter().zip(by_class));
    let told = routes.map(|(class, route)| v1::ClassRoute {
        class: class.to_proto().into(),
        candidates: candidates(table, route),
        summary: summary(code, class, route),
    });
    told.collect()
}

/// One sentence.
pub(super) fn summary(code: Code, class: Class, route: &Route) -> String {
    let open: Vec<String> = route
        .candidates
        .iter()
        .filter(|c| c.share > 0.0)
        .map(|c| format!("{} {:.0} % ({})", c.node, c.share * 100.0, c.reason))
        .collect();
    if open.is_empty() {
        return format!("nobody can answer {class} calls of {code} at present");
    }
    format!("{class} calls of {code} go to {}", open.join(", "))
}
