//! Who is there, and what may they serve?
//!
//! The table is what the registry says together with the static part of the configuration, checked
//! and turned into our own types. It is immutable; the registry fold is its only writer. Health and
//! load are not in it.

use std::{collections::BTreeMap, sync::Arc};
use suiyue_proto::{
    method::{Class, Method},
    region::Code,
    v1,
};

/// Where a table comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// The configuration only: no registry, or none heard of yet.
    #[default]
    Static,
    /// etcd.
    Etcd,
    /// The registry inside this process.
    Embedded,
    /// The copy of the registry on this gateway's disk: etcd has not been heard of since the start.
    LastKnownGood,
}

/// The federation as one gateway knows it.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Where it comes from.
    pub source: Source,
    /// Registry revision it was read at; 0 for a static table.
    pub revision: i64,
    /// Nodes by name: names are unique in the federation.
    pub nodes: BTreeMap<Arc<str>, Arc<Node>>,
    /// Policies by region; a region without one has no peers.
    pub policies: BTreeMap<Code, Policy>,
    /// Methods that may be forwarded, by path.
    pub methods: BTreeMap<Arc<str>, Arc<Method>>,
    /// Nodes that declared a foreign method, by path: while there are others, a node cannot change
    /// how it is treated.
    pub declared_by: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    /// Verifying keys of the federation.
    pub keys: Vec<v1::VerifyingKey>,
    /// Keys of the registry that could not be used. They never disturb the others.
    pub quarantined: Vec<Quarantined>,
}

/// A registry key that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// The key.
    pub key: String,
    /// Why, for an operator.
    pub reason: String,
}

/// One code system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Unique in the federation.
    pub name: Arc<str>,
    /// Its own region.
    pub region: Code,
    /// City or province.
    pub role: Role,
    /// Regions that it answers for, its own among them.
    pub scopes: Vec<Code>,
    /// Calls a second that it can carry in total; `None`: not declared.
    pub rps_max: Option<u32>,
    /// Stage and drain as operators want them.
    pub intent: Intent,
    /// It stands in the configuration, not in the registry.
    pub is_static: bool,
    /// Where it is reached, by name.
    pub endpoints: Vec<Endpoint>,
}

/// Role of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Code system of a city.
    City,
    /// Code system of a province.
    Province,
}

/// What operators want of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Intent {
    /// It gets calls at all: its stage is CANARY or ACTIVE.
    pub suspended: bool,
    /// No calls at all.
    pub drained: bool,
}

/// One address of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Unique within the node.
    pub name: Arc<str>,
    /// `host:port`.
    pub address: Arc<str>,
    /// Drawn at the endpoint's start: another one means a clean record. 0 for static endpoints.
    pub incarnation: u64,
    /// Regions whose holders are loaded, with the instant the data is complete up to (ms since 1970).
    pub ready: Vec<(Code, i64)>,
    /// It is leaving, or an operator drained it: no new calls.
    pub draining: bool,
    /// How its health is asked for.
    pub check: Check,
}

/// How an endpoint's health is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// `grpc.health.v1` with the service name `suiyue.region.CODE`.
    #[default]
    Grpc,
    /// A TCP connection can be opened.
    Tcp,
    /// Not at all: only calls tell.
    None,
}

/// Policy of a region.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Nodes of other regions that may answer, with the classes they may answer.
    pub peers: Vec<(Arc<str>, Vec<Class>)>,
}
