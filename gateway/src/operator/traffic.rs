//! What becomes of calls?
//!
//! Counters since the start, by region and node, beside what the plan wants. Rates are made by whoever asks
//! twice: the gateway keeps no history for it, and askers do not disturb each other.

use super::{Operator, routing};
use crate::{
    plan::{self, Candidate, Inputs, Route},
    telemetry::taken::{Taken, bounds_us},
};
use std::{collections::BTreeMap, sync::Arc, time::SystemTime};
use suiyue_proto::{region::Code, v1};
use tonic::Status;

type Counted = BTreeMap<Arc<str>, Taken>;

impl Operator {
    pub(super) fn traffic(&self, asked: &v1::ListTrafficRequest) -> Result<v1::ListTrafficResponse, Status> {
        let about = if asked.region == 0 { None } else { Some(routing(asked.region)?.get()) };
        let snapshot = self.snapshots.current();
        let mut counted: BTreeMap<u32, Counted> = BTreeMap::new();
        for ((region, node), taken) in self.metrics.taken() {
            counted.entry(region).or_default().insert(node, taken);
        }
        for code in snapshot.plans.regions.keys() {
            counted.entry(code.get()).or_default();
        }
        let regions = counted.into_iter().filter(|(region, _)| about.is_none_or(|about| about == *region));
        let regions = regions.map(|(region, counted)| {
            let code = Code::new(region);
            let by_class = code.and_then(|code| snapshot.plans.regions.get(&code));
            let demand = code.map_or([0.0; 4], |code| demand(snapshot.inputs.as_deref(), code));
            told(region, by_class, demand, counted)
        });
        let started = self.metrics.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(v1::ListTrafficResponse {
            gateway: self.gateway.clone(),
            started_unix_ms: i64::try_from(started.as_millis()).unwrap_or(i64::MAX),
            bounds_us: bounds_us().to_vec(),
            regions: regions.collect(),
        })
    }
}

/// Calls a second by class, as the plan took them.
fn demand(inputs: Option<&Inputs>, code: Code) -> [f64; 4] {
    inputs.and_then(|inputs| inputs.signals.demand.get(&code)).copied().unwrap_or_default()
}

fn told(
    region: u32,
    by_class: Option<&[Route; 4]>,
    demand: [f64; 4],
    mut counted: Counted,
) -> v1::RegionTraffic {
    let mut nodes = Vec::new();
    let mut available = false;
    if let Some(by_class) = by_class {
        let open = |c: &Candidate| c.share > 0.0 && c.reason != plan::Reason::FailOpen;
        available = by_class[0].candidates.iter().any(open);
        for candidate in &by_class[0].candidates {
            let taken = counted.remove(&candidate.node).unwrap_or_default();
            nodes.push(planned(by_class, demand, candidate, &taken));
        }
    }
    nodes.extend(counted.into_iter().map(|(node, taken)| numbers(&node, &taken)));
    v1::RegionTraffic { region, available, nodes }
}

/// A candidate over all classes, each of which has the same candidates.
fn planned(by_class: &[Route; 4], demand: [f64; 4], candidate: &Candidate, taken: &Taken) -> v1::NodeTraffic {
    let total: f64 = demand.iter().sum();
    let weights = if total > 0.0 { demand.map(|rps| rps / total) } else { [1.0, 0.0, 0.0, 0.0] };
    let (mut share, mut most) = (0.0, candidate);
    for (route, weight) in by_class.iter().zip(weights) {
        let Some(class) = route.candidates.iter().find(|c| c.node == candidate.node) else { continue };
        share += class.share * weight;
        if class.share > most.share {
            most = class;
        }
    }
    let rules = std::iter::once(&most.rule).chain(&most.limits);
    v1::NodeTraffic {
        candidate: true,
        tier: u32::from(candidate.tier),
        share,
        reason: most.reason.to_string(),
        rules: rules.map(ToString::to_string).collect(),
        ramp: candidate.ramp,
        ..numbers(&candidate.node, taken)
    }
}

fn numbers(node: &str, taken: &Taken) -> v1::NodeTraffic {
    v1::NodeTraffic {
        node: node.to_owned(),
        calls: taken.calls,
        failed: taken.failed,
        buckets: taken.buckets().to_vec(),
        ..v1::NodeTraffic::default()
    }
}
