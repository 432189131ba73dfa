//! What does a request read?
//!
//! One [`Snapshot`], exactly once: the table, the plan made from it, and for every region and class the
//! endpoints to call, resolved ahead of time so that a request does one look-up and one pick. Snapshots
//! are immutable; the control task publishes them, workers hold the newest.

use crate::{
    control::demand::Demand,
    health::Vitals,
    plan::{Inputs, Plans, Reason, Route},
    retry::budget::Budget,
    table::{Source, Table},
};
use foldhash::fast::RandomState;
use std::{collections::HashMap, sync::Arc};
use suiyue_proto::{method::Class, region::Code};

/// Everything that a request needs to know.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The table that the plan was made from.
    pub table: Arc<Table>,
    /// The plan.
    pub plans: Arc<Plans>,
    /// What it was made from besides the table; `None` before the first plan.
    pub inputs: Option<Arc<Inputs>>,
    /// Raised by one with every plan; named in every answer.
    pub generation: u64,
    /// All endpoints, for the workers' connections.
    pub vitals: Vec<Arc<Vitals>>,
    routes: HashMap<Code, [Resolved; 4], RandomState>,
}

/// A route with its endpoints.
#[derive(Debug)]
pub struct Resolved {
    /// Shares, for the pick. `route.candidates[i]` is `targets[i]`.
    pub route: Route,
    /// The candidates with their endpoints.
    pub targets: Vec<Target>,
    /// Counts the region's calls.
    pub demand: Arc<Demand>,
    /// Calls of the region in flight at this gateway, where a policy says so.
    pub in_flight_max: Option<u32>,
}

/// One candidate, ready to be called.
#[derive(Debug)]
pub struct Target {
    /// Name of the node.
    pub node: Arc<str>,
    /// Tier.
    pub tier: u8,
    /// Why it has its share.
    pub reason: Reason,
    /// Endpoints that are ready for the region and not leaving, in rotation or not.
    pub endpoints: Vec<Arc<Vitals>>,
    /// Retries of calls that fail there.
    pub budget: Arc<Budget>,
}

/// What outlives a snapshot: the records that its routes point to.
pub trait Parts {
    /// The record of an endpoint by node and endpoint name.
    fn vitals(&self, node: &Arc<str>, endpoint: &Arc<str>) -> Option<Arc<Vitals>>;
    /// The retry budget of a region at a node.
    fn budget(&mut self, region: Code, node: &Arc<str>) -> Arc<Budget>;
    /// The counter of a region's calls.
    fn demand(&mut self, region: Code) -> Arc<Demand>;
}

impl Snapshot {
    /// Resolves a plan with what it was made from.
    #[must_use]
    pub fn new(
        table: Arc<Table>,
        (plans, inputs): (Arc<Plans>, Arc<Inputs>),
        generation: u64,
        vitals: Vec<Arc<Vitals>>,
        parts: &mut impl Parts,
    ) -> Self {
        let mut routes = HashMap::default();
        for (&code, by_class) in &plans.regions {
            let resolved = by_class.each_ref().map(|route| resolve(&table, code, route, parts));
            routes.insert(code, resolved);
        }
        let inputs = Some(inputs);
        Self { table, plans, inputs, generation, vitals, routes }
    }

    /// There is a table, and the registry that it comes from, if any, or a copy of it has been read.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.generation > 0 && self.table.source != Source::Awaited
    }

    /// The route of a routing region and class; `None`: nobody serves the region.
    #[must_use]
    pub fn route(&self, code: Code, class: Class) -> Option<&Resolved> {
        Some(&self.routes.get(&code)?[class.index()])
    }
}

fn resolve(table: &Table, code: Code, route: &Route, parts: &mut impl Parts) -> Resolved {
    let targets = route
        .candidates
        .iter()
        .map(|candidate| {
            let node = table.nodes.get(&candidate.node);
            let about = node.filter(|_| candidate.tier == 2).map_or(code, |n| n.region);
            let endpoints = node
                .iter()
                .flat_map(|n| &n.endpoints)
                .filter(|e| !e.draining && e.ready.iter().any(|(ready, _)| *ready == about))
                .filter_map(|e| parts.vitals(&candidate.node, &e.name))
                .collect();
            Target {
                node: candidate.node.clone(),
                tier: candidate.tier,
                reason: candidate.reason,
                endpoints,
                budget: parts.budget(code, &candidate.node),
            }
        })
        .collect();
    let in_flight_max = table.policies.get(&code).and_then(|policy| policy.in_flight_max);
    Resolved { route: route.clone(), targets, demand: parts.demand(code), in_flight_max }
}
