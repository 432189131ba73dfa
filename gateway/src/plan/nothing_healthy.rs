//! What happens when nobody is healthy?
//!
//! Refusing everything because every check fails may be the worse mistake: a scan is tried at every
//! candidate that has the holders, showing a code at the region's own and its province's, and the rest
//! is refused. Settable by class. Drained nodes get nothing here either: an operator's word outranks
//! panic.

use super::{Candidate, Reason, Rule, base};
use crate::table::{NothingHealthy, Policy};
use suiyue_proto::method::Class;

/// By class, where the policy says nothing.
const DEFAULT: [NothingHealthy; 4] =
    [NothingHealthy::SpreadAll, NothingHealthy::SpreadOwn, NothingHealthy::Closed, NothingHealthy::Closed];

/// Sets the base shares of a route without a healthy candidate; none if calls are refused.
pub(super) fn spread(candidates: &mut [Candidate], policy: Option<&Policy>, class: Class) {
    let set = policy.and_then(|p| p.nothing_healthy[class.index()]);
    let tiers = match set.unwrap_or(DEFAULT[class.index()]) {
        NothingHealthy::SpreadAll => 0..=2,
        NothingHealthy::SpreadOwn => 0..=1,
        NothingHealthy::Closed => return,
    };
    let nominal = base::nominal(candidates);
    let tried = |c: &Candidate| c.reason == Reason::Unhealthy && tiers.contains(&c.tier);
    let total: f64 = candidates.iter().zip(&nominal).filter(|(c, _)| tried(c)).map(|(_, n)| n).sum();
    for (c, nominal) in candidates.iter_mut().zip(nominal).filter(|(c, _)| tried(c)) {
        c.base = nominal / total;
        (c.reason, c.rule) = (Reason::FailOpen, Rule::NothingHealthy);
    }
}
