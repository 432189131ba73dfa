//! What is wrong, since when, and what is being done about it? (`suiyue status`)
//!
//! One screen, worst first: what gateways say of the registry, nodes that are sick, shifts that run. Every
//! gateway of the list is asked about the registry; nodes and shifts are as the first that answers sees
//! them.

use super::{
    operator::Operator,
    output::{self, Format},
    shifts::{Shifts, list::Line},
};
use crate::{
    cli::{self, Account},
    exit::Exit,
};
use serde::Serialize;
use suiyue_proto::v1::{Health, ListShiftsRequest, NodeInfo, Stage};

/// The document of `status -o json`.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The gateway that answered.
    pub gateway: String,
    /// Milliseconds since the registry last confirmed its table.
    pub registry_age_ms: u64,
    /// What is wrong or being done, worst first.
    pub matters: Vec<Matter>,
}

/// Something that a person should know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Matter {
    /// How bad it is.
    pub level: Level,
    /// What it is about.
    pub about: String,
    /// What is the matter.
    pub what: String,
    /// For so long; empty: not known.
    pub since: String,
    /// What is being done about it, or can be.
    pub done: String,
}

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nobody answers, or a person must act.
    Alarm,
    /// Something fails, and others stand in.
    Sick,
    /// Ordered by an operator.
    Ordered,
}

/// Says what is the matter. [`Exit::Bad`] while anything is wrong.
///
/// # Errors
/// When no gateway can be reached, or it refuses.
pub async fn status(flags: &cli::Status) -> anyhow::Result<Exit> {
    let gateways = flags.ask.gateways();
    let mut operator = Operator::connect(&gateways).await?;
    let mut matters = Vec::new();
    for address in &gateways {
        matters.extend(of_registry(address).await);
    }
    let nodes = operator.nodes(0).await?;
    matters.extend(nodes.nodes.iter().flat_map(of_node));
    for region in operator.regions(false).await?.regions.iter().filter(|region| !region.available) {
        let (about, what) = (format!("region {}", region.region), "nobody answers for it".to_owned());
        let done = format!("suiyue region describe {}", region.region);
        matters.push(Matter { level: Level::Alarm, about, what, since: String::new(), done });
    }
    let mut shifts = Shifts::connect(&gateways, &Account::default()).await?;
    let running = shifts.list(ListShiftsRequest::default()).await?.shifts;
    matters.extend(running.iter().map(|info| of_shift(&Line::from(info))));
    matters.sort();
    let table = nodes.table.unwrap_or_default();
    let bad = matters.iter().any(|matter| matter.level < Level::Ordered);
    let document = Document { gateway: table.gateway, registry_age_ms: table.age_ms, matters };
    match flags.ask.output {
        Format::Json => output::json(&document)?,
        Format::Table => output::line(&told(&document))?,
    }
    Ok(if bad { Exit::Bad } else { Exit::Done })
}

async fn of_registry(address: &str) -> Vec<Matter> {
    let alarm = |about: String, what: String, done: &str| Matter {
        level: Level::Alarm,
        about,
        what,
        since: String::new(),
        done: done.to_owned(),
    };
    let asked = async { Operator::connect(&[address.to_owned()]).await?.registry_status().await };
    match asked.await {
        Err(error) => vec![alarm(format!("gateway {address}"), format!("{error:#}"), "the others serve on")],
        Ok(status) => {
            let name = status.table.as_ref().map_or(address.to_owned(), |table| table.gateway.clone());
            let alarms = status.alarms.into_iter();
            let told = alarms.map(|a| (format!("gateway {name}: {}", a.alarm), a.text));
            told.map(|(about, text)| alarm(about, text, "suiyue registry status")).collect()
        }
    }
}

fn of_node(node: &NodeInfo) -> Vec<Matter> {
    let mut matters = Vec::new();
    let intent = node.intent.clone().unwrap_or_default();
    let ordered = match intent.stage() {
        Stage::Test => Some("in stage test: it gets no calls"),
        Stage::Suspended => Some("suspended: it gets no calls"),
        Stage::Canary => Some("on trial: it gets few calls"),
        Stage::Active | Stage::Unspecified if intent.drained => Some("drained: it gets no calls"),
        Stage::Active | Stage::Unspecified => None,
    };
    if let Some(what) = ordered {
        let (about, done) = (format!("node {}", node.node), format!("suiyue node describe {}", node.node));
        let since = String::new();
        matters.push(Matter { level: Level::Ordered, about, what: what.to_owned(), since, done });
    }
    let fit = node.endpoints.iter().any(|endpoint| endpoint.health() == Health::Ok);
    if node.endpoints.is_empty() {
        let (about, what) = (format!("node {}", node.node), "it has no endpoint: it is away".to_owned());
        let done = "others answer for its regions".to_owned();
        matters.push(Matter { level: Level::Sick, about, what, since: String::new(), done });
    }
    for endpoint in &node.endpoints {
        if !matches!(endpoint.health(), Health::Suspect | Health::Ejected) {
            continue;
        }
        let state = output::word(endpoint.health().as_str_name(), "HEALTH_");
        let done = if fit { "its siblings answer" } else { "others answer for its regions" };
        matters.push(Matter {
            level: Level::Sick,
            about: format!("node {} at {}", node.node, endpoint.endpoint),
            what: format!("{state}: {}", endpoint.health_reason),
            since: output::age(endpoint.health_age_ms),
            done: done.to_owned(),
        });
    }
    matters
}

fn of_shift(shift: &Line) -> Matter {
    let state = shift.state.clone().unwrap_or_default();
    let level = if shift.breach.is_some() { Level::Alarm } else { Level::Ordered };
    let mut what = format!("{state} at {} %: {}", shift.percent, shift.order);
    if let Some(breach) = &shift.breach {
        what = format!("{what}; {breach}");
    }
    let done = format!("by {}; walks back from {} on", shift.actor, shift.expires);
    Matter { level, about: format!("shift {}", shift.id), what, since: shift.began.clone(), done }
}

fn told(document: &Document) -> String {
    let age = output::age(document.registry_age_ms);
    let last = format!("gateway {}, registry confirmed {age} ago", document.gateway);
    if document.matters.is_empty() {
        return format!("all is well\n{last}");
    }
    let mut table = output::table(["", "about", "what", "since", "what is done"]);
    for Matter { level, about, what, since, done } in &document.matters {
        let level = format!("{level:?}").to_ascii_uppercase();
        table.add_row([&level, about, what, since, done]);
    }
    format!("{table}\n{last}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use suiyue_proto::v1::{EndpointInfo, NodeIntent};

    #[test]
    fn what_is_worst_stands_first() {
        let endpoint = |name: &str, health: Health| EndpointInfo {
            endpoint: name.to_owned(),
            health: health.into(),
            health_reason: "connection lost".to_owned(),
            health_age_ms: 3_000,
            ..EndpointInfo::default()
        };
        let node = NodeInfo {
            node: "suikang".to_owned(),
            intent: Some(NodeIntent { drained: true, ..NodeIntent::default() }),
            endpoints: vec![endpoint("a", Health::Ok), endpoint("b", Health::Ejected)],
            ..NodeInfo::default()
        };
        let mut matters = of_node(&node);
        matters.push(of_shift(&Line { breach: Some("errors".to_owned()), ..Line::of(&Default::default()) }));
        matters.sort();
        let levels: Vec<_> = matters.iter().map(|matter| matter.level).collect();
        assert_eq!(levels, [Level::Alarm, Level::Sick, Level::Ordered]);
        let document = Document { gateway: "gw-1".to_owned(), registry_age_ms: 500, matters };
        let text = told(&document);
        assert!(text.contains("ejected: connection lost") && text.contains("its siblings answer"), "{text}");
        let well = Document { matters: Vec::new(), ..document };
        assert_eq!(told(&well), "all is well\ngateway gw-1, registry confirmed 500 ms ago");
    }
}
