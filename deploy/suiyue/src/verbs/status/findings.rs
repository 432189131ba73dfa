//! What of that is wrong?
//!
//! Pure: what gateways say in, findings out. Every one has its level, its age where somebody knows it, and
//! what is being done about it: by the gateways by themselves, or what a person can do.

use crate::verbs::{
    nodes::Intent,
    shifts::list::Line,
    survey::{Counts, Heard},
};
use serde::Serialize;
use std::{collections::BTreeMap, time::SystemTime};
use suiyue_gateway::plan::Rule;
use suiyue_proto::{
    region,
    v1::{
        Alarm, EndpointInfo, Health, NodeInfo, NodeTraffic, RegionTraffic, RegistryStatusResponse, ShiftInfo,
    },
};

/// How bad it is, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Calls are refused, or may be soon.
    Critical,
    /// Something is broken, and others carry it.
    Warning,
    /// Somebody wants it so, or it passes.
    Notice,
}

impl Level {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub level: Level,
    /// For so long, in milliseconds; absent: nobody knows.
    pub since_ms: Option<u64>,
    /// What it is about: a region, a node, a gateway, the registry.
    pub about: String,
    /// What is wrong.
    pub what: String,
    /// What is being done about it, or can be.
    pub doing: String,
    /// Gateways that see it, by name.
    pub gateways: Vec<String>,
}

/// Part of a node's calls that must fail to be told.
const FAILING: f64 = 0.01;
/// And at least so many.
const FAILED: u64 = 3;
/// A node this full is told.
const FULL: f64 = 0.95;

/// What one gateway sees. `lately`: seconds, and what it counted in them.
#[must_use]
pub fn of(heard: &Heard, lately: Option<&(f64, Counts)>) -> Vec<Finding> {
    let mut found = registry(heard);
    found.extend(heard.traffic.regions.iter().filter_map(|region| unavailable(heard, region)));
    for node in &heard.nodes.nodes {
        found.extend(node_itself(heard, node));
        found.extend(routes_of(heard, node));
    }
    found.extend(heard.shifts.iter().map(shift));
    if let Some((seconds, counts)) = lately {
        found.extend(counted(heard, *seconds, counts));
    }
    let gateway = heard.gateway().to_owned();
    found.into_iter().map(|finding| Finding { gateways: vec![gateway.clone()], ..finding }).collect()
}

/// A gateway that does not answer. `answering`: how many others do.
#[must_use]
pub fn silent(address: &str, why: &str, answering: usize) -> Finding {
    let (level, doing) = match answering {
        0 => (
            Level::Critical,
            "no gateway of the list answers: look at their processes and at --gateway".to_owned(),
        ),
        others => (Level::Warning, format!("{others} of the list answer; apps that know them go on there")),
    };
    finding(level, None, format!("gateway {address}"), format!("it does not answer: {why}"), doing)
}

/// Gateways that have read the registry up to the same revision, and made different tables of it.
#[must_use]
pub fn disagreement<'a>(heard: impl Iterator<Item = &'a Heard>) -> Option<Finding> {
    let mut by_revision: BTreeMap<i64, BTreeMap<&str, Vec<String>>> = BTreeMap::new();
    for heard in heard {
        let Some(table) = heard.nodes.table.as_ref().filter(|table| !table.table_hash.is_empty()) else {
            continue;
        };
        let hashes = by_revision.entry(table.revision).or_default();
        hashes.entry(&table.table_hash).or_default().push(table.gateway.clone());
    }
    let (revision, hashes) = by_revision.into_iter().find(|(_, hashes)| hashes.len() > 1)?;
    let sides: Vec<String> = hashes.values().map(|gateways| gateways.join(" and ")).collect();
    let what = format!("at revision {revision} gateways have different tables: {}", sides.join(" against "));
    let doing =
        "each goes on with its own; `suiyue registry diff --gateway A,B` says what differs".to_owned();
    Some(finding(Level::Warning, None, "registry".to_owned(), what, doing))
}

/// The same finding of several gateways becomes one; worst first, and of the same level the newest first:
/// what has just broken is what somebody looks for.
#[must_use]
pub fn merged(found: Vec<Finding>) -> Vec<Finding> {
    let mut all: Vec<Finding> = Vec::new();
    for one in found {
        let same = |f: &&mut Finding| f.level == one.level && f.about == one.about && f.what == one.what;
        match all.iter_mut().find(same) {
            None => all.push(one),
            Some(known) => {
                known.since_ms = known.since_ms.max(one.since_ms);
                known.gateways.extend(one.gateways);
            }
        }
    }
    all.sort_by_key(|f| (f.level, f.since_ms.unwrap_or(u64::MAX), f.about.clone()));
    all
}

fn finding(level: Level, since_ms: Option<u64>, about: String, what: String, doing: String) -> Finding {
    Finding { level, since_ms, about, what, doing, gateways: Vec::new() }
}

fn registry(heard: &Heard) -> Vec<Finding> {
    let mut found = Vec::new();
    let about = || "registry".to_owned();
    let table = heard.nodes.table.as_ref();
    let age = table.map(|table| table.age_ms);
    if let Some(registry) = &heard.registry {
        found.extend(registry.alarms.iter().map(|alarm| alarmed(alarm, registry, age)));
        let told = registry
            .alarms
            .iter()
            .any(|alarm| matches!(alarm.alarm.as_str(), "registry_away" | "nothing_known"));
        if !registry.lost.is_empty() && !told {
            let what = format!("it does not answer: {}", registry.lost);
            found.push(finding(Level::Warning, age, about(), what, GOES_ON.to_owned()));
        }
    }
    for bad in table.iter().flat_map(|table| &table.quarantined) {
        let what = format!("the key {} cannot be used: {}", bad.key, bad.reason);
        let doing = "it is left out, and the others are in force".to_owned();
        found.push(finding(Level::Warning, None, about(), what, doing));
    }
    found
}

const GOES_ON: &str = "routes stand as they were last heard; health checks and failover go on without it";

fn alarmed(alarm: &Alarm, registry: &RegistryStatusResponse, age: Option<u64>) -> Finding {
    let held = registry.held.iter().map(|held| held.age_ms).max();
    let frozen = registry.frozen.as_ref().map(|frozen| since(frozen.since_unix_ms));
    let (level, since, doing) = match alarm.alarm.as_str() {
        "nothing_known" => (Level::Critical, None, "nobody is served but nodes of the configuration"),
        "registry_away" => (Level::Warning, age, GOES_ON),
        "registry_restored" => {
            (Level::Warning, held, "what was known before is kept until `suiyue registry accept`")
        }
        "entries_held" => (
            Level::Warning,
            held,
            "they serve while they pass their checks; `suiyue registry accept` ends that",
        ),
        "frozen" => (Level::Warning, frozen, "changes wait for `suiyue registry freeze --off`"),
        "copy_failed" => {
            (Level::Warning, None, "a restart without etcd would know less: look at its state_dir")
        }
        "clock_offset" => (Level::Warning, None, "shifts would not be in step: look at the clocks"),
        _ => (Level::Warning, None, "`suiyue registry status` says more"),
    };
    finding(level, since, "registry".to_owned(), alarm.text.clone(), doing.to_owned())
}

/// `region 440100 Guangzhou`.
fn named(code: u32) -> String {
    let name = region::find(code).map_or("", |division| division.name_en);
    format!("region {code} {name}").trim_end().to_owned()
}

fn unavailable(heard: &Heard, region: &RegionTraffic) -> Option<Finding> {
    let mut candidates = region.nodes.iter().filter(|node| node.candidate).peekable();
    candidates.peek()?;
    if region.available {
        return None;
    }
    let tried = region.nodes.iter().any(|node| node.reason == "fail_open");
    let doing = if tried {
        "scans are tried at its nodes all the same; other calls as its policy says"
    } else {
        "its scans are refused (NO_NODE_AVAILABLE); nodes are checked, and return by themselves"
    };
    // Since the last of its nodes went.
    let since = candidates
        .filter_map(|traffic| heard.nodes.nodes.iter().find(|node| node.node == traffic.node))
        .filter_map(|node| ill_since(&node.endpoints))
        .min();
    let states: Vec<String> = region
        .nodes
        .iter()
        .filter(|node| node.candidate && node.reason != "not_named")
        .map(|node| format!("{} {}", node.node, node.reason))
        .collect();
    let what = format!("nobody healthy can answer scans ({})", states.join(", "));
    Some(finding(Level::Critical, since, named(region.region), what, doing.to_owned()))
}

/// Since when none of them has been in rotation; `None`: one is, or there is none.
fn ill_since(endpoints: &[EndpointInfo]) -> Option<u64> {
    if endpoints.iter().any(|endpoint| endpoint.health() == Health::Ok) {
        return None;
    }
    endpoints.iter().map(|endpoint| endpoint.health_age_ms).min()
}

/// What is wrong with a node, whatever is routed to it.
fn node_itself(heard: &Heard, node: &NodeInfo) -> Vec<Finding> {
    let about = || format!("node {}", node.node);
    let mut found = Vec::new();
    if !node.intent_problem.is_empty() {
        let what = format!("what is wanted of it is not understood: {}", node.intent_problem);
        let doing = format!("it gets no calls; {}", carried(heard, node));
        found.push(finding(Level::Warning, None, about(), what, doing));
    }
    let wanted = node.intent.as_ref().map(Intent::from);
    if let Some(intent) = wanted.filter(|intent| intent.stage != "active" || intent.drained) {
        let what = if intent.drained {
            "drained by an operator".to_owned()
        } else {
            format!("its stage is {}", intent.stage)
        };
        let undo = if intent.drained { "undrain" } else { "promote" };
        let doing = format!("{}; `suiyue node {undo} {}` changes it", carried(heard, node), node.node);
        found.push(finding(Level::Notice, None, about(), what, doing));
        if intent.drained || matches!(intent.stage.as_str(), "test" | "suspended") {
            // Nobody calls it: how it is does not matter now.
            return found;
        }
    }
    let ill: Vec<&EndpointInfo> = node
        .endpoints
        .iter()
        .filter(|endpoint| !matches!(endpoint.health(), Health::Ok | Health::Unspecified))
        .collect();
    let why = ill.first().map(|endpoint| endpoint.health_reason.as_str()).filter(|why| !why.is_empty());
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    if node.endpoints.is_empty() {
        let what = "none of its endpoints is registered".to_owned();
        found.push(finding(Level::Warning, None, about(), what, carried(heard, node)));
    } else if ill.len() == node.endpoints.len() {
        let what = format!("no endpoint in rotation{why}");
        found.push(finding(Level::Warning, ill_since(&node.endpoints), about(), what, carried(heard, node)));
    } else if !ill.is_empty() {
        let since = ill.iter().map(|endpoint| endpoint.health_age_ms).max();
        let what = format!("{} of {} endpoints not in rotation{why}", ill.len(), node.endpoints.len());
        let doing = "its other endpoints carry on; what is out is checked, and returns by itself".to_owned();
        found.push(finding(Level::Warning, since, about(), what, doing));
    }
    found
}

/// Where the calls of a node's own region go.
fn carried(heard: &Heard, node: &NodeInfo) -> String {
    let region = heard.traffic.regions.iter().find(|region| region.region == node.region);
    let shares = region.iter().flat_map(|region| &region.nodes).filter(|one| one.share > 0.0);
    let shares: Vec<String> =
        shares.map(|one| format!("{} {:.0} % ({})", one.node, one.share * 100.0, one.reason)).collect();
    match &shares[..] {
        [] => format!("calls of {} go to nobody", node.region),
        shares => format!("calls of {} go to {}", node.region, shares.join(", ")),
    }
}

/// What routes say of a node: the same of several regions is told once, with the regions.
fn routes_of(heard: &Heard, node: &NodeInfo) -> Vec<Finding> {
    let mut by_what: BTreeMap<(Level, String), Vec<u32>> = BTreeMap::new();
    for region in &heard.traffic.regions {
        for traffic in region.nodes.iter().filter(|one| one.candidate && one.node == node.node) {
            for (level, what) in told_of(traffic) {
                by_what.entry((level, what)).or_default().push(region.region);
            }
        }
    }
    let findings = by_what.into_iter().map(|((level, what), regions)| {
        let codes: Vec<String> = regions.iter().take(3).map(u32::to_string).collect();
        let more = if regions.len() > 3 { format!(" and {} more", regions.len() - 3) } else { String::new() };
        let what = format!("{what} (for {}{more})", codes.join(", "));
        finding(level, None, format!("node {}", node.node), what, carried(heard, node))
    });
    findings.collect()
}

fn told_of(traffic: &NodeTraffic) -> Vec<(Level, String)> {
    let mut told = Vec::new();
    match traffic.reason.as_str() {
        "not_ready" | "stale" => {
            told.push((Level::Warning, traffic.rules.first().cloned().unwrap_or_default()));
        }
        _ => {}
    }
    if traffic.rules.contains(&Rule::NobodyHasRoom.to_string()) {
        told.push((Level::Warning, Rule::NobodyHasRoom.to_string()));
    }
    if traffic.ramp < 1.0 && traffic.share > 0.0 {
        told.push((Level::Notice, "it returns, and gets its share back step by step".to_owned()));
    }
    told
}

/// A shift that runs: ordered, unless a guard had to hold it.
fn shift(info: &ShiftInfo) -> Finding {
    let shift = Line::from(info);
    let state = shift.state.clone().unwrap_or_default();
    let about = format!("shift {}", shift.id);
    let since = info.shift.as_ref().map(|shift| since(shift.start_unix_ms));
    let mut what = format!("{state} at {} %: {}", shift.percent, shift.order);
    let ends = format!("by {}; it walks back from {} on", shift.actor, shift.expires);
    let Some(breach) = &shift.breach else { return finding(Level::Notice, since, about, what, ends) };
    what = format!("{what}; {breach}");
    let doing = format!("{ends}; `suiyue shift resume {0}` or `rollback {0}` changes it", shift.id);
    finding(Level::Warning, since, about, what, doing)
}

/// Milliseconds from then to now.
fn since(unix_ms: i64) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    u64::try_from(now.saturating_sub(unix_ms)).unwrap_or(0)
}

/// What was counted: failures, and who is nearly full.
fn counted(heard: &Heard, seconds: f64, counts: &Counts) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut by_node: BTreeMap<&str, f64> = BTreeMap::new();
    for ((region, node), taken) in counts {
        *by_node.entry(node).or_default() += taken.calls as f64 / seconds;
        let part = taken.failed as f64 / taken.calls.max(1) as f64;
        if taken.failed < FAILED || part < FAILING {
            continue;
        }
        let (level, who, doing) = if node.is_empty() {
            (Level::Critical, "calls that reach no node".to_owned(), "they are refused".to_owned())
        } else {
            let doing = "calls that may be repeated are, elsewhere if they can; a node that goes on failing is put out";
            (Level::Warning, format!("calls at {node}"), doing.to_owned())
        };
        let what = format!("{who} fail: {} of {} in {seconds:.0} s", taken.failed, taken.calls);
        found.push(finding(level, None, named(*region), what, doing));
    }
    for node in heard.nodes.nodes.iter().filter(|node| node.rps_max > 0) {
        let rps = by_node.get(node.node.as_str()).copied().unwrap_or_default();
        let full = rps / f64::from(node.rps_max);
        if full >= FULL {
            let what = format!("it gets {rps:.0} calls/s of this gateway and declared {}", node.rps_max);
            let doing = "what is over its cap goes to whoever has room".to_owned();
            found.push(finding(Level::Notice, None, format!("node {}", node.node), what, doing));
        }
    }
    found
}
