//! What is one node, what is wanted of it, and which calls does it get? (`suiyue node describe`)

use super::{Node, cells, joined};
use crate::{
    exit::Guarded,
    verbs::{
        operator::{Operator, TableDocument, footer},
        output::{self, Format},
        refusal,
        route::percent,
    },
};
use serde::Serialize;
use suiyue_proto::{method::Class, reason::Reason, v1};

/// The document of `node describe -o json`.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The table behind the answer.
    pub table: Option<TableDocument>,
    /// The node.
    pub node: Node,
    /// What it gets of the calls of each of its regions and classes.
    pub calls: Vec<Calls>,
}

/// What a node gets of the calls of one region and class.
#[derive(Debug, Serialize)]
pub struct Calls {
    /// The region.
    pub region: u32,
    /// The class.
    pub class: String,
    /// 0 the region's own, 1 its province's, 2 peers.
    pub tier: u32,
    /// Fraction of the calls, 0 to 1.
    pub share: f64,
    /// Why it gets that, or why it is excluded.
    pub reason: String,
    /// The rule that included or excluded it.
    pub rule: String,
}

/// Describes a node.
///
/// # Errors
/// [`Guarded`] when it is not registered, another one when no gateway can be reached, or it refuses.
pub async fn describe(gateways: &[String], name: &str, format: Format) -> anyhow::Result<()> {
    let mut operator = Operator::connect(gateways).await?;
    let all = operator.nodes(0).await?;
    let Some(info) = all.nodes.iter().find(|node| node.node == name) else {
        return Err(Guarded(refusal::describe(&Reason::NodeUnknown.with(&[("node", name)]))).into());
    };
    let mut calls = Vec::new();
    for &region in &info.scopes {
        let described = operator.describe(region).await?;
        calls.extend(described.routes.iter().filter_map(|route| of(name, region, route)));
    }
    let table = all.table.as_ref();
    let document = Document { table: table.map(TableDocument::from), node: Node::from(info), calls };
    match format {
        Format::Json => output::json(&document),
        Format::Table => output::line(&format!("{}{}", told(&document), footer(table))),
    }
}

fn of(name: &str, region: u32, route: &v1::ClassRoute) -> Option<Calls> {
    let candidate = route.candidates.iter().find(|candidate| candidate.node == name)?;
    Some(Calls {
        region,
        class: Class::from_proto(route.class)?.to_string(),
        tier: candidate.tier,
        share: candidate.share,
        reason: candidate.reason.clone(),
        rule: candidate.rule.clone(),
    })
}

fn told(document: &Document) -> String {
    let Document { node, calls, .. } = document;
    let mut text = format!("{} ({}, region {}): {}\n", node.node, node.role, node.region, node.intent);
    if let Some(problem) = &node.intent_problem {
        text.push_str(&format!("what is wanted of it is not understood, it is suspended: {problem}\n"));
    }
    let rps_max = node.rps_max.map_or_else(|| "not declared".to_owned(), |rps| rps.to_string());
    text.push_str(&format!("answers for {}; rps max {rps_max}; ", joined(&node.scopes)));
    text.push_str(&match node.intent_revision {
        0 => "nothing was ever wanted of it\n".to_owned(),
        revision => format!("intent of revision {revision}\n"),
    });
    let mut endpoints = output::table(["endpoint", "address", "health", "for", "ready", "in flight"]);
    for endpoint in &node.endpoints {
        endpoints.add_row(cells(endpoint));
    }
    let mut shares = output::table(["region", "class", "tier", "share", "reason", "rule"]);
    for of in calls {
        let (region, tier) = (of.region.to_string(), of.tier.to_string());
        let cells = [region, of.class.clone(), tier, percent(of.share), of.reason.clone(), of.rule.clone()];
        shares.add_row(cells);
    }
    format!("{text}{endpoints}\n{shares}\n")
}
