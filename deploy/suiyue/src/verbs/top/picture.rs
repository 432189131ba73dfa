//! What is there to see?
//!
//! A row for each node of each region: calls, failures and durations of all gateways that answer, added up;
//! shares and states as the first of them plans and sees them.

use crate::verbs::{
    nodes::Intent,
    operator::TableDocument,
    output,
    survey::{Counts, Heard, History},
};
use serde::Serialize;
use std::{cmp::Ordering, collections::BTreeMap};
use suiyue_gateway::telemetry::taken::Taken;
use suiyue_proto::{
    region,
    v1::{Health, NodeInfo, NodeTraffic, RegionTraffic},
};
use tokio::time::Instant;

/// One gateway of the list.
#[derive(Debug, Default)]
pub struct Seen {
    address: String,
    heard: Option<Heard>,
    history: History,
    /// Since when it has been silent, and why.
    silent: Option<(Instant, String)>,
}

/// All gateways of the list.
#[derive(Debug)]
pub struct Picture {
    gateways: Vec<Seen>,
}

/// How bad a state is, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// It cannot answer, or should not have to.
    Bad,
    /// It answers in part.
    Doubtful,
    /// Somebody wants it so.
    Off,
    /// Nothing is wrong.
    Fine,
}

/// A node of a region.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Code of the region; 0: it was not found out.
    pub region: u32,
    /// Its English name.
    pub name: String,
    /// Its Chinese name.
    #[serde(skip)]
    pub name_zh: &'static str,
    /// The node; empty: calls that reached none.
    pub node: String,
    /// Its tier; absent: it is no candidate.
    pub tier: Option<u32>,
    /// How it is.
    pub state: String,
    /// How bad that is.
    pub level: Level,
    /// Why it has its share.
    pub reason: String,
    /// Planned part of the region's calls, 0 to 1; absent: it is no candidate.
    pub share: Option<f64>,
    /// Calls a second at the gateways that answer.
    pub rps: f64,
    /// Calls a second of the node for all regions, as a part of what it declared; absent: it declared nothing.
    pub utilization: Option<f64>,
    /// p99 in milliseconds; absent: no calls.
    pub p99_ms: Option<f64>,
    /// Part of the calls that failed, 0 to 1; absent: no calls.
    pub errors: Option<f64>,
}

/// The numbers of a row, or of all.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Numbers {
    /// Calls a second.
    pub rps: f64,
    /// p99 in milliseconds; absent: no calls.
    pub p99_ms: Option<f64>,
    /// Part that failed, 0 to 1; absent: no calls.
    pub errors: Option<f64>,
}

/// A gateway, for a program.
#[derive(Debug, Serialize)]
pub struct Gateway {
    /// The address that was asked.
    pub address: String,
    /// Why it does not answer; absent: it does.
    pub error: Option<String>,
    /// Its table.
    pub table: Option<TableDocument>,
}

impl Picture {
    /// Gateways of which nothing is known yet.
    #[must_use]
    pub fn new(addresses: &[String]) -> Self {
        let seen = |address: &String| Seen { address: address.clone(), ..Seen::default() };
        Self { gateways: addresses.iter().map(seen).collect() }
    }

    /// Takes what the gateway at this place of the list said, or why it said nothing.
    pub fn take(&mut self, index: usize, answer: Result<Heard, String>, now: Instant) {
        let Some(seen) = self.gateways.get_mut(index) else { return };
        match answer {
            Ok(heard) => {
                seen.history.take(&heard);
                (seen.heard, seen.silent) = (Some(heard), None);
            }
            Err(why) => {
                let since = seen.silent.take().map_or(now, |(since, _)| since);
                seen.silent = Some((since, why));
                // What it counted is no rate of now.
                seen.history = History::default();
            }
        }
    }

    /// Those that answer.
    pub fn answering(&self) -> impl Iterator<Item = &Heard> {
        self.gateways.iter().filter(|seen| seen.silent.is_none()).filter_map(|seen| seen.heard.as_ref())
    }

    /// All have answered or are known not to.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.gateways.iter().all(|seen| seen.silent.is_some() || seen.history.lately().is_some())
    }

    /// The gateways for a program.
    #[must_use]
    pub fn gateways(&self) -> Vec<Gateway> {
        let gateway = |seen: &Seen| {
            let table = seen.heard.as_ref().and_then(|heard| heard.nodes.table.as_ref());
            let table = table.filter(|_| seen.silent.is_none()).map(TableDocument::from);
            let error = seen.silent.as_ref().map(|(_, why)| why.clone());
            Gateway { address: seen.address.clone(), error, table }
        };
        self.gateways.iter().map(gateway).collect()
    }

    /// What should be known of the gateways, a line each; silence first.
    #[must_use]
    pub fn notes(&self, now: Instant) -> Vec<String> {
        let mut notes = Vec::new();
        for seen in &self.gateways {
            if let Some((since, why)) = &seen.silent {
                let age = output::age(u64::try_from((now - *since).as_millis()).unwrap_or(u64::MAX));
                notes.push(format!("! {}: no answer for {age}: {why}", seen.address));
            }
        }
        for heard in self.answering() {
            let Some(table) = &heard.nodes.table else { continue };
            let source = output::word(table.source().as_str_name(), "TABLE_SOURCE_");
            let age = output::age(table.age_ms);
            notes.push(format!("{}: {source}, revision {}, {age} old", table.gateway, table.revision));
            let alarms = heard.registry.iter().flat_map(|registry| &registry.alarms);
            notes.extend(alarms.map(|alarm| format!("! {}: {}: {}", table.gateway, alarm.alarm, alarm.text)));
        }
        let present = self.answering().filter_map(|heard| heard.registry.as_ref());
        let present = present.map(|registry| registry.gateways.len()).max().unwrap_or(0);
        let asked = self.answering().count();
        if present > asked {
            notes.push(format!("calls of {asked} of {present} present gateways: --gateway takes a list"));
        }
        notes
    }

    /// What all gateways counted lately: calls, and the calls a second that they are.
    fn lately(&self) -> BTreeMap<(u32, String), (Taken, f64)> {
        let mut sums: BTreeMap<(u32, String), (Taken, f64)> = BTreeMap::new();
        for seen in &self.gateways {
            let Some((seconds, counts)) = seen.history.lately() else { continue };
            for (key, taken) in counts {
                let (sum, rps) = sums.entry(key).or_default();
                sum.add(&taken);
                *rps += taken.calls as f64 / seconds;
            }
        }
        sums
    }

    /// Everything together.
    #[must_use]
    pub fn total(&self) -> Numbers {
        let mut all = (Taken::default(), 0.0);
        for (taken, rps) in self.lately().values() {
            all.0.add(taken);
            all.1 += rps;
        }
        numbers(&all)
    }

    /// A row for each node of each region, by region, tier and node.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let mut lately = self.lately();
        let mut by_node: BTreeMap<String, f64> = BTreeMap::new();
        for ((_, node), (_, rps)) in &lately {
            *by_node.entry(node.clone()).or_default() += rps;
        }
        let mut rows = Vec::new();
        if let Some(heard) = self.answering().next() {
            for region in &heard.traffic.regions {
                for traffic in &region.nodes {
                    let node = heard.nodes.nodes.iter().find(|node| node.node == traffic.node);
                    let sum = lately.remove(&(region.region, traffic.node.clone())).unwrap_or_default();
                    rows.push(row(region, traffic, node, &sum, &by_node));
                }
            }
        }
        // Of those that only other gateways know.
        for ((region, node), sum) in lately {
            let region = RegionTraffic { region, ..RegionTraffic::default() };
            rows.push(row(&region, &NodeTraffic { node, ..NodeTraffic::default() }, None, &sum, &by_node));
        }
        // Who is no candidate and has no calls is history.
        rows.retain(|row| row.tier.is_some() || row.rps > 0.0);
        rows.sort_by(order);
        rows
    }
}

/// By region, tier and node; who is no candidate last.
pub(super) fn order(a: &Row, b: &Row) -> Ordering {
    let key = |row: &Row| (row.region, row.tier.unwrap_or(u32::MAX));
    key(a).cmp(&key(b)).then_with(|| a.node.cmp(&b.node))
}

fn numbers((taken, rps): &(Taken, f64)) -> Numbers {
    let errors = (taken.calls > 0).then(|| taken.failed as f64 / taken.calls as f64);
    Numbers { rps: *rps, p99_ms: taken.p99_ms(), errors }
}

fn row(
    region: &RegionTraffic,
    traffic: &NodeTraffic,
    node: Option<&NodeInfo>,
    sum: &(Taken, f64),
    by_node: &BTreeMap<String, f64>,
) -> Row {
    let division = region::find(region.region);
    let Numbers { rps, p99_ms, errors } = numbers(sum);
    let (level, state) = state(traffic, node);
    let declared = node.map_or(0, |node| node.rps_max);
    let all = by_node.get(&traffic.node).copied().unwrap_or_default();
    Row {
        region: region.region,
        name: division.map_or("unknown", |division| division.name_en).to_owned(),
        name_zh: division.map_or("", |division| division.name_zh),
        node: traffic.node.clone(),
        tier: traffic.candidate.then_some(traffic.tier),
        state,
        level,
        reason: traffic.reason.clone(),
        share: traffic.candidate.then_some(traffic.share),
        rps,
        utilization: (declared > 0).then(|| all / f64::from(declared)),
        p99_ms,
        errors,
    }
}

/// How a node is for a region, in few words.
fn state(traffic: &NodeTraffic, node: Option<&NodeInfo>) -> (Level, String) {
    if traffic.node.is_empty() {
        return (Level::Bad, "reached nobody".to_owned());
    }
    if !traffic.candidate {
        return (Level::Off, "no candidate".to_owned());
    }
    match traffic.reason.as_str() {
        "drained" => return (Level::Off, "drained".to_owned()),
        "suspended" => {
            let stage = node.and_then(|node| node.intent.as_ref()).map(Intent::from);
            return (Level::Off, stage.map_or_else(|| "suspended".to_owned(), |intent| intent.stage));
        }
        "not_named" => return (Level::Fine, "not named".to_owned()),
        "not_ready" => return (Level::Bad, "not ready".to_owned()),
        "unhealthy" => return (Level::Bad, "no endpoint".to_owned()),
        "stale" => return (Level::Bad, "old data".to_owned()),
        "fail_open" => return (Level::Bad, "fail open".to_owned()),
        _ => {}
    }
    let endpoints = node.map_or(&[][..], |node| &node.endpoints);
    let ok = endpoints.iter().filter(|endpoint| endpoint.health() == Health::Ok).count();
    if ok < endpoints.len() {
        return (Level::Doubtful, format!("{ok} of {} ok", endpoints.len()));
    }
    if traffic.ramp < 1.0 {
        return (Level::Doubtful, format!("returns {:.0} %", traffic.ramp * 100.0));
    }
    (Level::Fine, if traffic.reason == "standby" { "standby" } else { "ok" }.to_owned())
}

/// Rates of one gateway for whoever asked it twice.
#[must_use]
pub fn between(before: &Heard, now: &Heard) -> Option<(f64, Counts)> {
    let mut history = History::default();
    history.take(before);
    history.take(now);
    history.lately()
}

#[cfg(test)]
mod tests;
