//! What an operator is told, and what an operator may change, over a registry in this process.

mod apps;
mod breakglass;
mod console;
mod explaining;
mod intents;
mod policies;
mod registry;
mod shifts;
mod traffic;
mod trust;

use super::*;
use crate::{
    breakglass::journal::Journal,
    control::{self, Control},
    registry::{embedded::Embedded, follow},
    table::{CEILINGS, Check, Endpoint, Intent, Table},
    telemetry::Metrics,
};
use std::{
    sync::atomic::{AtomicI64, AtomicU32},
    time::Duration,
};
use suiyue_proto::method::Class;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// The operator API of a gateway without ports. Its tasks end when it is dropped.
struct Gateway {
    operator: Operator,
    registry: Embedded,
    _state: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

fn code(number: u32) -> Code {
    Code::new(number).unwrap()
}

/// A node that is always healthy: nobody asks it.
fn node(name: &str, region: u32, scopes: &[u32]) -> Node {
    let scopes: Vec<Code> = scopes.iter().map(|&scope| code(scope)).collect();
    let endpoint = Endpoint {
        name: format!("{name}-1").into(),
        address: "127.0.0.1:1".into(),
        incarnation: 0,
        ready: scopes.iter().map(|&scope| (scope, 0)).collect(),
        draining: false,
        check: Check::None,
        identity: None,
    };
    Node {
        name: name.into(),
        region: code(region),
        role: if region.is_multiple_of(10_000) { Role::Province } else { Role::City },
        scopes,
        rps_max: None,
        ceilings: CEILINGS,
        intent: Intent::default(),
        is_static: true,
        endpoints: vec![endpoint],
    }
}

/// Guangzhou's city and province, and another province's city.
fn base() -> Table {
    let nodes = [
        node("suikang", 440_100, &[440_100]),
        node("yuekang", 440_000, &[440_000, 440_100]),
        node("xian", 610_100, &[610_100]),
    ];
    let nodes = nodes.into_iter().map(|node| (node.name.clone(), Arc::new(node)));
    Table { nodes: nodes.collect(), ..Table::default() }
}

impl Gateway {
    /// One over the registry inside it, once it has a plan made from what stands there.
    async fn start() -> Self {
        Self::trusting(None).await
    }

    /// One that judges certificates.
    async fn trusting(trust: Option<crate::identity::Trust>) -> Self {
        let registry = Embedded::new();
        let state = tempfile::tempdir().unwrap();
        let glass = Glass::open(Journal::open(state.path()).unwrap(), true).unwrap();
        let metrics = Arc::new(Metrics::new(1));
        let (tables, table) = watch::channel(Arc::new(base()));
        let (control, snapshots) = Control::new(control::Setup {
            tables: table,
            ramp: Duration::ZERO,
            workers: 1,
            metrics: metrics.clone(),
            gateways: Arc::new(AtomicU32::new(1)),
            heard_ms: Arc::new(AtomicI64::new(i64::MAX)),
            trust: None,
            glass: glass.clone(),
        });
        let shutdown = CancellationToken::new();
        let publish = move |table| drop(tables.send_replace(table));
        let start = follow::Start {
            registry: Arc::new(registry.clone()),
            prefix: Prefix::default(),
            base: base(),
            source: Source::Embedded,
            copy: None,
            trust: trust.clone(),
            peers: Default::default(),
        };
        let (followed, following) = follow::follow(start, publish, shutdown.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(control.run(shutdown));
        tasks.spawn(following);
        let holds = snapshots.holds.clone();
        let operator = Operator {
            gateway: "gw-1".to_owned(),
            snapshots,
            followed: Some(followed),
            registry: Some(Arc::new(registry.clone())),
            prefix: Prefix::default(),
            trust,
            subjects: subject::Key::default(),
            audit: Some(Audit::new(Arc::new(registry.clone()), Prefix::default(), "gw-1")),
            metrics,
            anonymous: Arc::new(Anonymous::Deny),
            doors: Arc::new(Doors::new(Default::default(), "127.0.0.1:8442".parse().unwrap())),
            holds,
            two_person_above: 1.0,
            canary_step: Duration::ZERO,
            glass,
            leaving: CancellationToken::new(),
        };
        let gateway = Self { operator, registry, _state: state, _tasks: tasks };
        gateway.until(|snapshot| snapshot.table.revision > 0).await;
        gateway
    }

    /// The first snapshot of which this is true.
    async fn until(&self, condition: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let mut snapshots = self.operator.snapshots.subscribe();
        snapshots.wait_for(|snapshot| condition(snapshot)).await.unwrap().clone()
    }

    async fn set(&self, asked: v1::SetRegionPolicyRequest) -> Result<v1::SetRegionPolicyResponse, Status> {
        self.operator.set_region_policy(Request::new(asked)).await.map(Response::into_inner)
    }

    async fn describe(&self, region: u32) -> Result<v1::DescribeRegionResponse, Status> {
        let asked = v1::DescribeRegionRequest { region };
        self.operator.describe_region(Request::new(asked)).await.map(Response::into_inner)
    }

    /// The entries of the audit, in their order.
    async fn audited(&self) -> Vec<v1::AuditEntry> {
        let listing = self.registry.list("/suiyue/v1/audit/").await.unwrap();
        let records = listing.entries.into_iter().filter(|entry| !entry.key.ends_with("/head"));
        let entry = |entry: crate::registry::Entry| {
            let record = <v1::AuditRecord as prost::Message>::decode(entry.value).unwrap();
            <v1::AuditEntry as prost::Message>::decode(record.entry).unwrap()
        };
        records.map(entry).collect()
    }

    async fn explain(&self, asked: v1::ExplainRouteRequest) -> Result<v1::ExplainRouteResponse, Status> {
        self.operator.explain_route(Request::new(asked)).await.map(Response::into_inner)
    }
}

/// The request is refused for this reason with this detail.
#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, reason: Reason, details: &[(&str, &str)]) {
    use tonic_types::StatusExt as _;
    let status = answer.unwrap_err();
    assert_eq!(Reason::of(&status), Some(reason), "{status:?}");
    let info = status.get_details_error_info().unwrap();
    for (key, value) in details {
        assert_eq!(info.metadata.get(*key).map(String::as_str), Some(*value), "{:?}", info.metadata);
    }
}

fn scan(region: u32) -> v1::ExplainRouteRequest {
    v1::ExplainRouteRequest { region, class: Class::Scan.to_proto().into(), ..Default::default() }
}
