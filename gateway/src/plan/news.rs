//! What does a plan change of the one before?
//!
//! Measured numbers (calls a second, caps that follow use) differ in every plan and move nobody. Only a
//! plan that sends calls elsewhere is worth a generation of its own: `explain` keeps a number of those.

use super::{Candidate, Plans, pick::Route};

/// What is new, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum News {
    /// Measured numbers at most.
    Nothing,
    /// What is told of candidates; all calls go where they went.
    Told,
    /// Some calls go elsewhere, or for another reason.
    Routing,
}

impl Plans {
    /// What this plan changes of an earlier one.
    #[must_use]
    pub fn news(&self, before: &Self) -> News {
        if !self.regions.keys().eq(before.regions.keys()) {
            return News::Routing;
        }
        let pairs = self.regions.values().flatten().zip(before.regions.values().flatten());
        pairs.map(|(now, before)| route(now, before)).max().unwrap_or(News::Nothing)
    }
}

fn route(now: &Route, before: &Route) -> News {
    let same = now.shed == before.shed
        && now.moves == before.moves
        && now.candidates.len() == before.candidates.len()
        && now.candidates.iter().zip(&before.candidates).all(|(now, before)| routes_alike(now, before));
    if !same {
        return News::Routing;
    }
    let told = now.candidates.iter().zip(&before.candidates).all(|(now, before)| told_alike(now, before));
    if told { News::Nothing } else { News::Told }
}

fn routes_alike(a: &Candidate, b: &Candidate) -> bool {
    let place = |c: &Candidate| (c.node.clone(), c.tier, c.reason);
    let shares = |c: &Candidate| [c.share, c.base, c.shifted, c.clamped];
    place(a) == place(b) && shares(a) == shares(b)
}

fn told_alike(a: &Candidate, b: &Candidate) -> bool {
    let told = |c: &Candidate| (c.stage, c.health, c.ramp, c.declared, c.capacity);
    told(a) == told(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Reason, Rule};
    use std::{collections::BTreeMap, sync::Arc};
    use suiyue_proto::region::Code;

    fn plans(change: impl FnOnce(&mut Route)) -> Plans {
        let candidate = Candidate {
            node: Arc::from("suikang"),
            tier: 0,
            share: 1.0,
            reason: Reason::Primary,
            rule: Rule::FirstTier,
            limits: Vec::new(),
            stage: crate::table::Stage::Active,
            health: 1.0,
            ramp: 1.0,
            as_of_ms: 0,
            declared: None,
            capacity: None,
            cap: None,
            rps: 0.0,
            base: 1.0,
            shifted: 1.0,
            clamped: 1.0,
            hash: 1,
        };
        let mut routes: [Route; 4] =
            std::array::from_fn(|_| Route { candidates: vec![candidate.clone()], ..Route::default() });
        change(&mut routes[2]);
        Plans { regions: BTreeMap::from([(Code::new(440_100).unwrap(), routes)]) }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Route), expected: News) {
        assert_eq!(plans(change).news(&plans(|_| {})), expected);
    }

    #[test]
    fn measured_numbers_are_no_news_and_whatever_moves_a_call_is() {
        check(|_| {}, News::Nothing);
        check(|route| route.candidates[0].rps = 120.0, News::Nothing);
        check(|route| route.candidates[0].cap = Some(9.0), News::Nothing);
        check(|route| route.candidates[0].as_of_ms = 9, News::Nothing);
        check(|route| route.candidates[0].health = 0.5, News::Told);
        check(|route| route.candidates[0].ramp = 0.5, News::Told);
        check(|route| route.candidates[0].share = 0.5, News::Routing);
        check(|route| route.candidates[0].clamped = 0.5, News::Routing);
        check(|route| route.candidates[0].reason = Reason::Policy, News::Routing);
        check(|route| route.shed = 0.5, News::Routing);
        check(|route| route.candidates.clear(), News::Routing);
        assert_eq!(plans(|_| {}).news(&Plans::default()), News::Routing);
        assert_eq!(Plans::default().news(&Plans::default()), News::Nothing);
    }
}
