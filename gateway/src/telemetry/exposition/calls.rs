//! The numbers of calls and verdicts.

use super::{Page, Scene};
use crate::telemetry::{BOUNDS_US, Calls, End, Series};
use prometheus_client::{encoding::NoLabelSet, metrics::MetricType};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
};
use suiyue_proto::{region::Code, verdict::Kind};

pub(super) fn encode(page: &mut Page<'_>, scene: &Scene) -> fmt::Result {
    let calls = scene.metrics.calls.lock().unwrap_or_else(PoisonError::into_inner);
    encode_ends(page, &calls)?;
    encode_durations(page, &calls)?;
    encode_outside(page, &calls, scene)?;
    drop(calls);
    let verdicts = scene.metrics.verdicts.sums().into_iter().flat_map(|((node, region), sums)| {
        let labels = move |kind: Kind| {
            [
                ("region", region.to_string()),
                ("node", node.to_string()),
                ("verdict", kind.as_str().to_owned()),
            ]
        };
        Kind::ALL.into_iter().zip(sums).filter(|(_, n)| *n > 0).map(move |(kind, n)| (labels(kind), n))
    });
    page.counters("suiyue_verdicts", "Codes judged, as the nodes said", verdicts)
}

fn total(by_worker: &[(usize, Arc<Series>)]) -> u64 {
    by_worker.iter().map(|(_, series)| series.calls.load(Relaxed)).sum()
}

fn encode_ends(page: &mut Page<'_>, calls: &Calls) -> fmt::Result {
    let ends = calls.iter().map(|((node, key), by_worker)| {
        let end = End::unpacked(*key);
        let labels = [
            ("region", end.region.to_string()),
            ("node", node.to_string()),
            ("tier", end.tier.to_string()),
            ("class", end.class.as_str().to_owned()),
            ("reason", end.reason.as_str().to_owned()),
            ("status", end.code.to_string()),
            ("retried", end.retried.to_string()),
        ];
        (labels, total(by_worker))
    });
    let help = "Calls that ended, by routing region, node that answered, its tier, class, reason, gRPC \
                status and whether they were retried";
    page.counters("suiyue_calls", help, ends)
}

#[derive(Default)]
struct Sum {
    count: u64,
    micros: u64,
    buckets: [u64; BOUNDS_US.len() + 1],
}

impl Sum {
    fn add(&mut self, series: &Series) {
        self.count += series.calls.load(Relaxed);
        self.micros += series.micros.load(Relaxed);
        for (sum, bucket) in self.buckets.iter_mut().zip(&series.buckets) {
            *sum += bucket.load(Relaxed);
        }
    }
}

fn encode_durations(page: &mut Page<'_>, calls: &Calls) -> fmt::Result {
    let mut sums: BTreeMap<(&str, &str), Sum> = BTreeMap::new();
    for ((node, key), by_worker) in calls {
        let sum = sums.entry((node, End::unpacked(*key).class.as_str())).or_default();
        for (_, series) in by_worker {
            sum.add(series);
        }
    }
    let help = "Time from the request's headers to the end of the answer";
    let name = "suiyue_call_duration_seconds";
    let mut family = page.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for ((node, class), sum) in sums {
        let bounds = BOUNDS_US.iter().map(|&us| us as f64 / 1e6).chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(sum.buckets).collect();
        let labels = [("node", node), ("class", class)];
        let encoder = &mut family.encode_family(&labels)?;
        encoder.encode_histogram::<NoLabelSet>(sum.micros as f64 / 1e6, sum.count, &buckets, None)?;
    }
    Ok(())
}

/// Calls that a node outside the first tier answered: from the nodes of that tier, to it.
fn encode_outside(page: &mut Page<'_>, calls: &Calls, scene: &Scene) -> fmt::Result {
    let mut sums: BTreeMap<(u32, Arc<str>), u64> = BTreeMap::new();
    for ((node, key), by_worker) in calls.iter().filter(|((node, _), _)| !node.is_empty()) {
        let end = End::unpacked(*key);
        let first = first_tier(scene, end.region).map_or(0, |(tier, _)| tier);
        if end.tier > first {
            *sums.entry((end.region, node.clone())).or_default() += total(by_worker);
        }
    }
    let outside = sums.into_iter().map(|((region, to), n)| {
        let from = first_tier(scene, region).map(|(_, nodes)| nodes).unwrap_or_default();
        ([("region", region.to_string()), ("from", from), ("to", to.to_string())], n)
    });
    let help = "Calls answered outside the region's first tier, from its nodes to the one that answered";
    page.counters("suiyue_calls_outside_first_tier", help, outside)
}

/// The first tier of a region, in or out of rotation, and its nodes.
fn first_tier(scene: &Scene, region: u32) -> Option<(u8, String)> {
    let by_class = scene.snapshot.plans.regions.get(&Code::new(region)?)?;
    let candidates = &by_class.first()?.candidates;
    let tier = candidates.iter().map(|candidate| candidate.tier).min()?;
    let mut nodes: Vec<&str> = candidates.iter().filter(|c| c.tier == tier).map(|c| &*c.node).collect();
    nodes.sort_unstable();
    Some((tier, nodes.join(",")))
}
