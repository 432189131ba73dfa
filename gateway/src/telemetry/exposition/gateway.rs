//! The numbers of the gateway itself: build, table, plan, nodes, connections, traces.

use super::{Following, Page, Scene};
use crate::{
    health::State,
    registry::{follow::ALARMS, guard::Cause},
    snapshot::Snapshot,
    table::Source,
};
use prometheus_client::{encoding::NoLabelSet, metrics::MetricType};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::atomic::Ordering::Relaxed,
};

pub(super) fn encode(page: &mut Page<'_>, scene: &Scene) -> fmt::Result {
    let build = [([("version", env!("CARGO_PKG_VERSION"))], 1.0)];
    page.gauges("suiyue_build_info", "The version that runs; always 1", build)?;
    encode_table(page, scene)?;
    encode_nodes(page, &scene.snapshot)?;
    let now = suiyue_proto::identity::files::now();
    let left = scene.expiries.iter().map(|(id, end)| ([("identity", id.as_str())], (end - now) as f64));
    let help = "Time until a certificate ends: the gateway's own, of every node the first, of every \
                province's authorities the first; below 0 it is over";
    page.gauges("suiyue_identity_expiry_seconds", help, left)?;
    let metrics = &scene.metrics;
    let open: usize = metrics.connections.iter().map(|n| n.load(Relaxed)).sum();
    page.gauge("suiyue_connections", "Downstream connections open now", open as f64)?;
    let refused = metrics.refused_connections.load(Relaxed);
    let help = "Connections turned away: too many, or not HTTP/2";
    page.counter("suiyue_connections_refused", help, refused)?;
    let traces = &metrics.traces;
    let exported = traces.exported.load(Relaxed);
    page.counter("suiyue_trace_spans_exported", "Spans that the collector took", exported)?;
    let help = "What did not arrive: spans that the collector did not take, records of calls that found \
                the queue full";
    let lost = [("collector", &traces.undelivered), ("queue", &traces.overflowed)];
    let lost = lost.map(|(cause, n)| ([("cause", cause)], n.load(Relaxed)));
    page.counters("suiyue_trace_lost", help, lost)
}

fn encode_table(page: &mut Page<'_>, scene: &Scene) -> fmt::Result {
    let table = &scene.snapshot.table;
    let sources = [
        ("static", Source::Static),
        ("awaited", Source::Awaited),
        ("etcd", Source::Etcd),
        ("embedded", Source::Embedded),
        ("last_known_good", Source::LastKnownGood),
        ("peer", Source::Peer),
    ];
    let sources =
        sources.map(|(word, source)| ([("source", word)], if table.source == source { 1.0 } else { 0.0 }));
    page.gauges("suiyue_table_source", "Where the table comes from: 1 for the source in use", sources)?;
    let help = "Revision of the registry that the table was read at; 0 for a static table";
    page.gauge("suiyue_table_revision", help, table.revision as f64)?;
    if let Some(age) = scene.age {
        let help = "Since when the registry has not confirmed the table";
        page.gauge("suiyue_table_age_seconds", help, age.as_secs_f64())?;
    }
    let help = "Keys of the registry that cannot be used";
    page.gauge("suiyue_table_quarantined_keys", help, table.quarantined.len() as f64)?;
    if let Some(registry) = &scene.registry {
        encode_registry(page, registry)?;
    }
    page.gauge("suiyue_plan_generation", "Generation of the plan", scene.snapshot.generation as f64)?;
    let workers = scene.metrics.plans.iter().enumerate();
    let workers = workers.map(|(worker, plan)| ([("worker", worker)], plan.load(Relaxed) as f64));
    page.gauges("suiyue_worker_plan", "Generation of the plan that a worker's calls go by", workers)?;
    let rebuilds = &scene.rebuilds;
    let help = "Time to make a plan and publish it, plans that changed nothing included";
    let name = "suiyue_plan_rebuild_seconds";
    let mut encoder = page.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
    encoder.encode_histogram::<NoLabelSet>(rebuilds.seconds, rebuilds.count, &rebuilds.buckets, None)
}

fn encode_registry(page: &mut Page<'_>, registry: &Following) -> fmt::Result {
    let help = "Keys that are held although the registry has them no more, or otherwise, by cause";
    let held = [Cause::TooMany, Cause::RegionEmpty, Cause::Restored];
    let held = held.map(|cause| {
        let n = registry.held.iter().filter(|held| **held == cause).count();
        ([("cause", cause.as_str())], n as f64)
    });
    page.gauges("suiyue_registry_held_keys", help, held)?;
    let help = "What a person should look at: 1 while the alarm is raised";
    let alarms = ALARMS.map(|word| {
        let raised = registry.alarms.contains(&word);
        ([("alarm", word)], if raised { 1.0 } else { 0.0 })
    });
    page.gauges("suiyue_registry_alarm", help, alarms)?;
    let help = "Gateways that are present in the registry, this one among them";
    page.gauge("suiyue_registry_gateways", help, f64::from(registry.gateways))
}

/// Fitness of a node: what its endpoints allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fitness {
    Healthy,
    Degraded,
    Down,
    Leaving,
}

const FITNESSES: [(Fitness, &str); 4] = [
    (Fitness::Healthy, "healthy"),
    (Fitness::Degraded, "degraded"),
    (Fitness::Down, "down"),
    (Fitness::Leaving, "leaving"),
];

fn encode_nodes(page: &mut Page<'_>, snapshot: &Snapshot) -> fmt::Result {
    let known: HashMap<_, State> =
        snapshot.vitals.iter().map(|v| ((&v.node, &v.endpoint.name), v.state())).collect();
    let mut nodes: BTreeMap<Fitness, u32> = BTreeMap::new();
    let mut endpoints = [0u32; 4];
    for node in snapshot.table.nodes.values() {
        let states: Vec<State> = node
            .endpoints
            .iter()
            .filter(|endpoint| !endpoint.draining)
            // One that no plan has seen yet was not checked yet.
            .map(|endpoint| known.get(&(&node.name, &endpoint.name)).copied().unwrap_or(State::Suspect))
            .collect();
        states.iter().for_each(|state| endpoints[*state as usize] += 1);
        let fit = states.iter().filter(|state| **state == State::Ok).count();
        let fitness = match fit {
            _ if states.is_empty() => Fitness::Leaving,
            0 => Fitness::Down,
            n if n < states.len() => Fitness::Degraded,
            _ => Fitness::Healthy,
        };
        *nodes.entry(fitness).or_default() += 1;
    }
    let counts = FITNESSES
        .map(|(fitness, word)| ([("health", word)], f64::from(nodes.get(&fitness).copied().unwrap_or(0))));
    let help = "Nodes of the table: all, some or none of their endpoints in rotation, or all leaving";
    page.gauges("suiyue_nodes", help, counts)?;
    let words = ["ok", "half_open", "suspect", "ejected"];
    let counts = words.iter().zip(endpoints).map(|(word, n)| ([("state", *word)], f64::from(n)));
    page.gauges("suiyue_endpoints", "Endpoints of the table that are not leaving, by state", counts)
}
