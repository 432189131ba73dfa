//! Which nodes are there, and how are they? (`suiyue node list`)
//!
//! One node is described by [`describe`]; what is wanted of it is changed by [`intend`].

pub mod describe;
pub mod intend;

use super::{
    operator::{Operator, TableDocument, footer},
    output::{self, Format},
};
use serde::Serialize;
use suiyue_proto::v1::{EndpointInfo, ListNodesResponse, NodeInfo, NodeIntent, Stage};

/// The document of `node list -o json`.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The table behind the answer.
    pub table: Option<TableDocument>,
    /// Nodes, by region and name.
    pub nodes: Vec<Node>,
}

/// A node.
#[derive(Debug, Serialize)]
pub struct Node {
    /// Its own region.
    pub region: u32,
    /// Its name.
    pub node: String,
    /// `city` or `province`.
    pub role: String,
    /// Regions it answers for.
    pub scopes: Vec<u32>,
    /// Declared calls a second; absent: not declared.
    pub rps_max: Option<u32>,
    /// It stands in the gateway's configuration.
    pub static_node: bool,
    /// What operators want of it.
    pub intent: Intent,
    /// Registry revision at which that was last written; 0: never.
    pub intent_revision: i64,
    /// Why that is not understood, and the node is suspended; null: it is.
    pub intent_problem: Option<String>,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// What operators want of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Intent {
    /// `test`, `canary-1`, `canary-5`, `canary-25`, `active` or `suspended`.
    pub stage: String,
    /// No calls at all.
    pub drained: bool,
    /// Endpoints that get no calls.
    pub drained_endpoints: Vec<String>,
}

impl From<&NodeIntent> for Intent {
    fn from(intent: &NodeIntent) -> Self {
        let stage = match (intent.stage(), intent.canary_percent) {
            (Stage::Canary, 0) => "canary-5".to_owned(),
            (Stage::Canary, percent) => format!("canary-{percent}"),
            (Stage::Unspecified, _) => "active".to_owned(),
            (stage, _) => output::word(stage.as_str_name(), "STAGE_"),
        };
        Self { stage, drained: intent.drained, drained_endpoints: intent.drained_endpoints.clone() }
    }
}

impl std::fmt::Display for Intent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.stage)?;
        if self.drained {
            f.write_str(", drained")?;
        }
        if !self.drained_endpoints.is_empty() {
            write!(f, ", drained endpoints: {}", self.drained_endpoints.join(" "))?;
        }
        Ok(())
    }
}

/// An endpoint.
#[derive(Debug, Serialize)]
pub struct Endpoint {
    /// Its name within the node.
    pub endpoint: String,
    /// Its address.
    pub address: String,
    /// `ok`, `suspect`, `ejected`, `draining` or `unspecified`.
    pub health: String,
    /// Why.
    pub health_reason: String,
    /// Since when, in milliseconds.
    pub health_age_ms: u64,
    /// Regions whose holders are loaded there.
    pub ready: Vec<u32>,
    /// Calls in flight from this gateway.
    pub in_flight: u32,
    /// The registry has it no more: it serves while it passes its checks.
    pub stale: bool,
}

impl From<&EndpointInfo> for Endpoint {
    fn from(info: &EndpointInfo) -> Self {
        Self {
            endpoint: info.endpoint.clone(),
            address: info.address.clone(),
            health: output::word(info.health().as_str_name(), "HEALTH_"),
            health_reason: info.health_reason.clone(),
            health_age_ms: info.health_age_ms,
            ready: info.ready.clone(),
            in_flight: info.in_flight,
            stale: info.stale,
        }
    }
}

impl From<&NodeInfo> for Node {
    fn from(info: &NodeInfo) -> Self {
        Self {
            region: info.region,
            node: info.node.clone(),
            role: output::word(info.role().as_str_name(), "ROLE_"),
            scopes: info.scopes.clone(),
            rps_max: (info.rps_max > 0).then_some(info.rps_max),
            static_node: info.static_node,
            intent: Intent::from(info.intent.as_ref().unwrap_or(&NodeIntent::default())),
            intent_revision: info.intent_revision,
            intent_problem: (!info.intent_problem.is_empty()).then(|| info.intent_problem.clone()),
            endpoints: info.endpoints.iter().map(Endpoint::from).collect(),
        }
    }
}

impl From<&ListNodesResponse> for Document {
    fn from(answer: &ListNodesResponse) -> Self {
        Self {
            table: answer.table.as_ref().map(TableDocument::from),
            nodes: answer.nodes.iter().map(Node::from).collect(),
        }
    }
}

/// Lists nodes.
///
/// # Errors
/// When no gateway can be reached, or it refuses.
pub async fn list(gateways: &[String], region: u32, format: Format) -> anyhow::Result<()> {
    let answer = Operator::connect(gateways).await?.nodes(region).await?;
    let document = Document::from(&answer);
    match format {
        Format::Json => output::json(&document),
        Format::Table => output::line(&format!("{}\n{}", rows(&document), footer(answer.table.as_ref()))),
    }
}

fn rows(document: &Document) -> comfy_table::Table {
    let mut table = output::table([
        "region",
        "node",
        "role",
        "scopes",
        "rps max",
        "stage",
        "endpoint",
        "address",
        "health",
        "for",
        "ready",
        "in flight",
    ]);
    for node in &document.nodes {
        let name = if node.static_node { format!("{} (static)", node.node) } else { node.node.clone() };
        let rps_max = node.rps_max.map_or("-".to_owned(), |rps| rps.to_string());
        let own = [
            node.region.to_string(),
            name,
            node.role.clone(),
            joined(&node.scopes),
            rps_max,
            node.intent.to_string(),
        ];
        if node.endpoints.is_empty() {
            let none = ["-", "-", "no endpoint", "", "", ""].map(str::to_owned);
            table.add_row(own.iter().chain(&none));
        }
        for endpoint in &node.endpoints {
            table.add_row(own.iter().chain(&cells(endpoint)));
        }
    }
    table
}

fn cells(endpoint: &Endpoint) -> [String; 6] {
    let health = match endpoint.health_reason.as_str() {
        "" => endpoint.health.clone(),
        reason => format!("{} ({reason})", endpoint.health),
    };
    let name =
        if endpoint.stale { format!("{} (stale)", endpoint.endpoint) } else { endpoint.endpoint.clone() };
    [
        name,
        endpoint.address.clone(),
        health,
        output::age(endpoint.health_age_ms),
        joined(&endpoint.ready),
        endpoint.in_flight.to_string(),
    ]
}

fn joined(regions: &[u32]) -> String {
    regions.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}
