//! Which counters outlive a snapshot?
//!
//! Demand by region and retry budgets by region and node: workers reach them through the snapshot, the
//! control task reads and mints them four times a second.

use super::demand::{Demand, Rate};
use crate::{
    plan::Plans,
    retry::budget::{Budget, Ledger},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};
use suiyue_proto::region::Code;

pub(super) struct Meters {
    workers: usize,
    demand: BTreeMap<Code, (Arc<Demand>, [Rate; 4])>,
    budgets: BTreeMap<(Code, Arc<str>), (Arc<Budget>, Ledger)>,
}

impl Meters {
    pub(super) const fn new(workers: usize) -> Self {
        Self { workers, demand: BTreeMap::new(), budgets: BTreeMap::new() }
    }

    /// Lets every budget have what the last ten seconds allow.
    pub(super) fn mint(&mut self, now: Instant) {
        for (budget, ledger) in self.budgets.values_mut() {
            ledger.mint(budget, now);
        }
    }

    /// Calls a second by region and class; regions without calls are left out.
    pub(super) fn demand(&mut self, now: Instant) -> BTreeMap<Code, [f64; 4]> {
        let mut demand = BTreeMap::new();
        for (&code, (counted, rates)) in &mut self.demand {
            let totals = counted.totals();
            let mut shown = [0.0; 4];
            for ((shown, rate), total) in shown.iter_mut().zip(rates).zip(totals) {
                *shown = rate.feed(total, now);
            }
            if shown.iter().any(|&rate| rate > 0.0) {
                demand.insert(code, shown);
            }
        }
        demand
    }

    /// Forgets what no plan names any more.
    pub(super) fn retain(&mut self, plans: &Plans) {
        self.demand.retain(|code, _| plans.regions.contains_key(code));
        let named: BTreeSet<(Code, &Arc<str>)> = plans
            .regions
            .iter()
            .flat_map(|(&code, routes)| {
                routes.iter().flat_map(move |route| route.candidates.iter().map(move |c| (code, &c.node)))
            })
            .collect();
        self.budgets.retain(|(code, node), _| named.contains(&(*code, node)));
    }

    pub(super) fn budgets(&self) -> BTreeMap<(Code, Arc<str>), Arc<Budget>> {
        self.budgets.iter().map(|(key, (budget, _))| (key.clone(), budget.clone())).collect()
    }

    pub(super) fn budget_of(&mut self, region: Code, node: &Arc<str>) -> Arc<Budget> {
        let workers = self.workers;
        let fresh = || (Arc::new(Budget::new(workers)), Ledger::new(Instant::now()));
        self.budgets.entry((region, node.clone())).or_insert_with(fresh).0.clone()
    }

    pub(super) fn demand_of(&mut self, region: Code) -> Arc<Demand> {
        let workers = self.workers;
        let fresh = || (Arc::new(Demand::new(workers)), [Rate::new(Instant::now()); 4]);
        self.demand.entry(region).or_insert_with(fresh).0.clone()
    }
}
