//! Where should every region's traffic go?
//!
//! [`plan`] is pure: table, signals, the plan before and the instant in, shares out; no I/O, no clock, no
//! randomness of its own. The request path, `explain`, `what-if` and the metrics all read its result and
//! nothing else. One plan is made for the whole table, because one node's capacity is shared by regions.
//!
//! For each class, highest first, and each region: who may answer (`candidates`) → base shares
//! (`base`, or `nothing_healthy`) → shifts (`shift`) → caps and overflow (`clamp`, all regions at
//! once). Every candidate keeps what each step did. [`Route::pick`] spreads calls by the result, and is
//! pure too: the same key gives the same candidate.

mod base;
mod candidates;
mod clamp;
mod news;
mod nothing_healthy;
mod pick;
mod rule;
mod shift;

pub use candidates::MAX_LAG;
pub use news::News;
pub use nothing_healthy::NOTHING_HEALTHY;
pub use pick::{Move, MoveKind, Pick, Route, mix, node_hash};
pub use rule::{Reason, Rule};
pub use shift::{HeldHere, ShiftSignal};

use crate::table::{Shift, Stage, Table};
use std::{collections::BTreeMap, sync::Arc, time::Instant};
use suiyue_proto::{method::Class, region::Code};

/// A tier with a tenth of its endpoints sick still has room for everything: the factor by which
/// healthy fractions are stretched, as in Envoy's priority levels.
const OVERPROVISIONING: f64 = 1.4;

/// Shares that differ by less are the same.
const EPSILON: f64 = 1e-12;

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
    /// How far shifts have come here, by id; one that is missing goes by [`Now::wall_ms`] alone.
    pub shifts: BTreeMap<Arc<str>, ShiftSignal>,
}

/// What is known of one node.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NodeSignal {
    /// Fraction of its endpoints in rotation, 0 to 1.
    pub health: f64,
    /// Fraction of its usual share that it may take while it returns, 0 to 1. A preference: where
    /// nobody else can answer it takes everything.
    pub ramp: f64,
    /// None of its endpoints is in rotation, and some are tried with single calls: where others have no
    /// room it does not get more than its ramp.
    pub probing: bool,
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
    /// Milliseconds since 1970-01-01 UTC: for shifts.
    pub wall_ms: i64,
    /// When the registry last said that the table is true, in milliseconds since 1970; the same as
    /// `wall_ms` where there is none. Data lag is judged as of then: what nodes said since is not known.
    pub heard_ms: i64,
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
    /// How far operators trust it.
    pub stage: Stage,
    /// Fraction of its endpoints in rotation, 0 to 1.
    pub health: f64,
    /// Fraction of its usual share while it returns, 0 to 1.
    pub ramp: f64,
    /// Instant that its data are complete up to, in milliseconds since 1970; 0: not known.
    pub as_of_ms: i64,
    /// Calls a second that it declared to carry.
    pub declared: Option<f64>,
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

impl Candidate {
    /// Nothing excludes it.
    fn usable(&self) -> bool {
        !self.reason.excludes() && self.reason != Reason::Stale
    }
}

/// The routes of all regions that somebody serves.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plans {
    /// By routing region, one route a class in the order of [`Class::ALL`].
    pub regions: BTreeMap<Code, [Route; 4]>,
}

/// What a plan is made from.
struct Ground<'a> {
    table: &'a Table,
    signals: &'a Signals,
    previous: &'a Previous,
    now: Now,
}

/// Decides where every region's traffic goes. A function of its arguments.
#[must_use]
pub fn plan(table: &Table, signals: &Signals, previous: &Previous, now: Now) -> Plans {
    let ground = Ground { table, signals, previous, now };
    let own = candidates::own(table);
    let shifts = shifts(table);
    let mut budgets = clamp::Budgets::new(table, signals);
    let mut regions: BTreeMap<Code, [Route; 4]> =
        own.keys().map(|&code| (code, Default::default())).collect();
    for class in Class::ALL {
        let mut loads = Vec::new();
        for ((&code, routes), own) in regions.iter_mut().zip(own.values()) {
            let route = &mut routes[class.index()];
            route.candidates = candidates::find(&ground, own, code, class);
            if !decide(&ground, route, shifts.get(&code), code, class) {
                continue;
            }
            let demand = signals.demand.get(&code).map_or(0.0, |by_class| sane(by_class[class.index()]));
            if demand > 0.0 {
                loads.push(clamp::Load { demand, route });
            }
        }
        clamp::fit(&mut loads, class, &mut budgets);
    }
    Plans { regions }
}

/// The shifts of each region in the order of their ids.
fn shifts(table: &Table) -> BTreeMap<Code, Vec<&Shift>> {
    let mut by_region: BTreeMap<Code, Vec<&Shift>> = BTreeMap::new();
    for shift in &table.shifts {
        by_region.entry(shift.region).or_default().push(shift);
    }
    for shifts in by_region.values_mut() {
        shifts.sort_by(|a, b| a.id.cmp(&b.id));
    }
    by_region
}

/// Sets the shares of a route before caps; false if nobody is healthy, where caps mean nothing.
fn decide(
    ground: &Ground<'_>,
    route: &mut Route,
    shifts: Option<&Vec<&Shift>>,
    code: Code,
    class: Class,
) -> bool {
    let policy = ground.table.policies.get(&code);
    let healthy = base::spread(&mut route.candidates, policy);
    if !healthy {
        nothing_healthy::spread(&mut route.candidates, policy, class);
    }
    let shifts = shifts.filter(|_| healthy).map_or(&[][..], Vec::as_slice);
    let percent = |shift: &Shift| match ground.signals.shifts.get(&shift.id) {
        Some(signal) => signal.percent(shift),
        None => shift.percent_at(ground.now.wall_ms),
    };
    shift::apply(route, shifts, class, percent);
    for c in &mut route.candidates {
        (c.clamped, c.share) = (c.shifted, c.shifted);
    }
    route.shed = if route.candidates.iter().any(|c| c.share > 0.0) { 0.0 } else { 1.0 };
    healthy
}

/// A rate or a fraction as it should be: finite and not below 0.
fn sane(x: f64) -> f64 {
    if x.is_finite() { x.max(0.0) } else { 0.0 }
}

#[cfg(test)]
mod tests;
