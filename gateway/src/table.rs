//! Who is there, and what may they serve?
//!
//! The table is what the registry says together with the static part of the configuration, checked
//! and turned into our own types. It is immutable; the registry fold is its only writer. Health and
//! load are not in it.

use crate::{apps::grant::Grants, identity::SpiffeId};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use suiyue_proto::{
    method::{Class, Method},
    region::Code,
    v1,
};

/// Where a table comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// The configuration: there is no registry.
    #[default]
    Static,
    /// The configuration only: the registry has not been heard of yet, nor is there a copy of it.
    Awaited,
    /// etcd.
    Etcd,
    /// The registry inside this process.
    Embedded,
    /// The copy of the registry on this gateway's disk: etcd has not been heard of since the start.
    LastKnownGood,
    /// Another gateway: neither etcd nor a copy was there at the start.
    Peer,
}

/// The federation as one gateway knows it.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Where it comes from.
    pub source: Source,
    /// Registry revision it was read at; 0 for a static table.
    pub revision: i64,
    /// Hash of the entries that it was made from, in hex; empty for a static table.
    pub hash: String,
    /// How often the registry was restored or replaced since the gateway's start: only revisions of the
    /// same history can be compared.
    pub histories: u64,
    /// Endpoints (node, endpoint) that the registry has no more, or otherwise: the absence is held back.
    pub stale: BTreeSet<(Arc<str>, Arc<str>)>,
    /// Nodes by name: names are unique in the federation.
    pub nodes: BTreeMap<Arc<str>, Arc<Node>>,
    /// Policies by region; a region without one has no peers.
    pub policies: BTreeMap<Code, Policy>,
    /// What apps may call. The same one as long as no grant changes.
    pub apps: Arc<Grants>,
    /// Shifts that operators ordered, in no order; those that have not begun or are over change nothing.
    pub shifts: Vec<Arc<Shift>>,
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

/// Fractions of a node's capacity that the classes may fill, highest class first, where the node says
/// nothing else: a low class stops while there is room for a higher one.
pub const CEILINGS: [f64; 4] = [1.0, 0.9, 0.7, 0.5];

/// One code system.
#[derive(Debug, Clone, PartialEq)]
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
    /// Fraction of `rps_max` up to which calls of a class, together with those of all higher classes,
    /// are sent; by class, highest first. [`CEILINGS`] where nothing else is said.
    pub ceilings: [f64; 4],
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
    /// How far it is trusted with calls.
    pub stage: Stage,
    /// No calls at all.
    pub drained: bool,
}

/// How far a node is trusted with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// Registered, gets no calls.
    Test,
    /// Gets at most so many percent of a region's calls: 1, 5 or 25.
    Canary(u8),
    /// Gets its full share.
    #[default]
    Active,
    /// Gets no calls until an operator says otherwise.
    Suspended,
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
    /// It is called over TLS, and its certificate must name this; `None`: it is called in the clear.
    pub identity: Option<Arc<SpiffeId>>,
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

/// Policy of a region. The default of every field is what a region without a policy gets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Policy {
    /// Nodes of other regions that may answer, with the classes they may answer.
    pub peers: Vec<(Arc<str>, Vec<Class>)>,
    /// Base weights of nodes across tiers, above 0 and relative to each other; empty: the first tier
    /// that has anyone takes all.
    pub weights: Vec<(Arc<str>, f64)>,
    /// How old a node's data may be while fresher ones can be had, by class.
    pub max_lag: [Option<Duration>; 4],
    /// What happens when nobody is healthy, by class.
    pub nothing_healthy: [Option<NothingHealthy>; 4],
    /// Fraction of the region's calls above which moving them needs a second person, 0 to 1.
    pub two_person_above: Option<f64>,
    /// Calls of the region in flight at one gateway; each of its workers takes its part, rounded up.
    pub in_flight_max: Option<u32>,
}

/// What happens to calls when no candidate is healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NothingHealthy {
    /// Every candidate is tried that is not drained and has the holders.
    SpreadAll,
    /// The same, but only the region's own nodes and its province's (tiers 0 and 1).
    SpreadOwn,
    /// Calls are refused.
    Closed,
}

/// An order to move a part of a node's calls of one region to others, for a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Shift {
    /// Unique in the federation.
    pub id: Arc<str>,
    /// The region whose calls are moved.
    pub region: Code,
    /// Classes that are moved; empty: all.
    pub classes: Vec<Class>,
    /// Node that gives.
    pub from: Arc<str>,
    /// Nodes that take, with weights above 0 relative to each other.
    pub to: Vec<(Arc<str>, f64)>,
    /// Part of the share of `from` that is moved in the end, 0 to 100.
    pub percent: f64,
    /// The part grows by so many points at the start and after each `every`; 0: all at once.
    pub step: f64,
    /// Time between two steps; zero: all at once.
    pub every: Duration,
    /// When it begins, in milliseconds since 1970-01-01 UTC.
    pub start_ms: i64,
    /// When it begins to walk back, in milliseconds since 1970-01-01 UTC.
    pub expires_at_ms: i64,
    /// It does not grow beyond what it had reached at this instant; `None`: nobody holds it.
    pub held_ms: Option<i64>,
    /// How it walks back.
    pub back: Back,
    /// What holds it or takes it back while it runs.
    pub guards: Guards,
}

/// How a shift walks back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Back {
    /// At once, not step by step.
    pub at_once: bool,
    /// It does not go below what it had reached at this instant; `None`: nobody holds it.
    pub held_ms: Option<i64>,
    /// It was held for so long before, in milliseconds.
    pub paused_ms: i64,
}

/// Limits of what a shift may do to its targets while it runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guards {
    /// Part of its declared capacity that a target is filled to, 0 to 1.
    pub max_utilization: f64,
    /// More of a target's calls that fail than before, in points of 100.
    pub error_delta: f64,
    /// By how much longer a target's p99 may be than before.
    pub p99_factor: f64,
    /// A breach takes the shift back; otherwise it holds it.
    pub rolls_back: bool,
}

impl Default for Guards {
    fn default() -> Self {
        Self { max_utilization: 0.80, error_delta: 2.0, p99_factor: 2.0, rolls_back: false }
    }
}
