//! Status, comparison, freeze and acceptance, over a registry in this process.

use super::*;
use crate::registry::{Registry as _, Txn, keys::Key, keys::Part, suite::written};
use prost::Message as _;

/// A node of the registry that alone serves Beijing, under a lease.
async fn beijing(gateway: &Gateway) -> i64 {
    let key = |part| {
        let (region, node) = (code(110_000), "jingkang".to_owned());
        Prefix::default().key(&Key::Node { region, node, part })
    };
    let manifest = v1::Manifest {
        region: 110_000,
        node: "jingkang".to_owned(),
        role: v1::Role::Province.into(),
        scopes: vec![110_000],
        ..Default::default()
    };
    let spec = v1::NodeSpec { manifest: Some(manifest), ..Default::default() }.encode_to_vec();
    let live = v1::LiveEndpoint { address: "127.0.0.1:1".to_owned(), ..Default::default() }.encode_to_vec();
    let lease = gateway.registry.grant(Duration::from_secs(3600)).await.unwrap();
    let puts = vec![
        (key(Part::Spec), spec.into(), 0),
        (key(Part::Live("jingkang-1".to_owned())), live.into(), lease),
    ];
    written(&gateway.registry, Txn { puts, ..Txn::default() }).await;
    gateway.until(|snapshot| snapshot.table.nodes.contains_key("jingkang")).await;
    lease
}

impl Gateway {
    async fn status(&self) -> v1::RegistryStatusResponse {
        let asked = Request::new(v1::RegistryStatusRequest {});
        self.operator.registry_status(asked).await.unwrap().into_inner()
    }

    async fn diff(&self) -> Vec<v1::Difference> {
        let asked = Request::new(v1::DiffRegistryRequest {});
        self.operator.diff_registry(asked).await.unwrap().into_inner().differences
    }

    async fn freeze(
        &self,
        off: bool,
        reason: &str,
        dry_run: bool,
    ) -> Result<v1::FreezeRegistryResponse, Status> {
        let asked = v1::FreezeRegistryRequest { off, reason: reason.to_owned(), dry_run };
        self.operator.freeze_registry(Request::new(asked)).await.map(Response::into_inner)
    }

    async fn accept(&self, dry_run: bool) -> Result<v1::AcceptRegistryResponse, Status> {
        let asked = v1::AcceptRegistryRequest { reason: "a trial".to_owned(), dry_run };
        self.operator.accept_registry(Request::new(asked)).await.map(Response::into_inner)
    }
}

#[tokio::test]
async fn what_is_held_is_told_everywhere_and_goes_when_it_is_accepted() {
    let gateway = Gateway::start().await;
    let lease = beijing(&gateway).await;
    assert!(gateway.diff().await.is_empty() && gateway.status().await.alarms.is_empty());
    gateway.registry.revoke(lease).await.unwrap();
    gateway.until(|snapshot| !snapshot.table.stale.is_empty()).await;

    let key = "/suiyue/v1/nodes/110000/jingkang/live/jingkang-1";
    let status = gateway.status().await;
    let [held] = &status.held[..] else { panic!("{status:?}") };
    assert_eq!((held.key.as_str(), held.cause.as_str()), (key, "region_empty"));
    assert!(held.left_ms.is_some_and(|left| left > 0));
    assert_eq!(status.alarms[0].alarm, "entries_held");
    let table = status.table.unwrap();
    assert_eq!((table.stale, table.table_hash.len(), table.frozen), (1, 32, false));
    let nodes =
        gateway.operator.list_nodes(Request::new(Default::default())).await.unwrap().into_inner().nodes;
    let endpoint = &nodes.iter().find(|node| node.node == "jingkang").unwrap().endpoints[0];
    assert!(endpoint.stale && nodes.iter().flat_map(|node| &node.endpoints).filter(|e| e.stale).count() == 1);
    let limits = gateway.explain(scan(110_000)).await.unwrap().candidates.remove(0).limits;
    assert!(limits.iter().any(|limit| limit.contains("1 of its 1 endpoints no more")), "{limits:?}");
    let dump = gateway.operator.dump_registry(Request::new(Default::default())).await.unwrap().into_inner();
    assert!(dump.entries.iter().any(|entry| entry.key == key && entry.stale));
    let [difference] = &gateway.diff().await[..] else { panic!("one key differs") };
    assert!(
        difference.held && difference.registry_revision == 0 && difference.applied.contains("127.0.0.1:1")
    );

    let dry = gateway.accept(true).await.unwrap();
    assert_eq!(
        (dry.accepted.len(), &dry.nodes_gone[..], &dry.regions_empty[..]),
        (1, &["jingkang".to_owned()][..], &[110_000][..])
    );
    assert_eq!(gateway.status().await.held.len(), 1, "nothing was changed");
    assert_eq!(gateway.accept(false).await.unwrap().accepted.len(), 1);
    gateway.until(|snapshot| snapshot.table.nodes["jingkang"].endpoints.is_empty()).await;
    assert!(gateway.status().await.held.is_empty() && gateway.diff().await.is_empty());
    assert!(gateway.accept(false).await.unwrap().accepted.is_empty());
    let audited = gateway.audited().await;
    let [entry] = &audited[..] else { panic!("one acceptance: {audited:?}") };
    assert_eq!((entry.method.as_str(), entry.reason.as_str()), ("AcceptRegistry", "a trial"));
    assert_eq!(entry.after, format!("accepted {key}"));
}

#[tokio::test]
async fn a_frozen_gateway_says_so_and_refuses_to_accept() {
    let gateway = Gateway::start().await;
    for bad in ["", "  ", "a\nline", &"x".repeat(201)] {
        refused(gateway.freeze(false, bad, false).await, Reason::FieldInvalid, &[("field", "reason")]);
    }
    let dry = gateway.freeze(false, "a trial", true).await.unwrap();
    assert!(dry.frozen && dry.changed && gateway.status().await.frozen.is_none());
    assert!(gateway.freeze(false, "a trial", false).await.unwrap().changed);
    assert!(!gateway.freeze(false, "another", false).await.unwrap().changed);
    let policy = v1::RegionPolicy::default().encode_to_vec();
    let puts = vec![("/suiyue/v1/regions/440100".to_owned(), policy.into(), 0)];
    let revision = written(&gateway.registry, Txn { puts, ..Txn::default() }).await;
    while gateway.status().await.heard_revision < revision {
        tokio::task::yield_now().await;
    }
    let status = gateway.status().await;
    let frozen = status.frozen.unwrap();
    assert_eq!((frozen.reason.as_str(), frozen.differing), ("a trial", 1));
    assert!(status.table.unwrap().frozen && gateway.operator.snapshots.current().table.policies.is_empty());
    assert_eq!(gateway.diff().await.len(), 1);
    refused(gateway.accept(false).await, Reason::RegistryFrozen, &[]);
    let dry = gateway.freeze(true, "", true).await.unwrap();
    assert_eq!((dry.frozen, dry.changed, dry.differing), (false, true, 1));
    assert!(gateway.freeze(true, "", false).await.unwrap().changed);
    gateway.until(|snapshot| snapshot.table.policies.len() == 1).await;
    assert!(!gateway.freeze(true, "", false).await.unwrap().changed);
    let audited = gateway.audited().await;
    let told: Vec<_> =
        audited.iter().map(|e| (e.method.as_str(), e.reason.as_str(), e.after.as_str())).collect();
    assert_eq!(
        told,
        [("FreezeRegistry", "a trial", "frozen"), ("FreezeRegistry", "", "1 keys are let in")],
        "dry runs and refusals are not in it"
    );
}

#[tokio::test]
async fn a_freeze_needs_no_registry_that_can_be_written_and_its_end_does() {
    let gateway = Gateway::start().await;
    let operator = Operator { audit: None, ..gateway.operator.clone() };
    let order = |off| v1::FreezeRegistryRequest { off, reason: "a trial".to_owned(), dry_run: false };
    let frozen = operator.freeze_registry(Request::new(order(false))).await.unwrap().into_inner();
    assert!(frozen.changed && !frozen.audited);
    refused(operator.freeze_registry(Request::new(order(true))).await, Reason::RegistryNone, &[]);
    assert!(gateway.status().await.frozen.is_some(), "nothing was let in without an entry");
    let thawed = gateway.freeze(true, "", false).await.unwrap();
    assert!(thawed.changed && thawed.audited);
}

#[tokio::test]
async fn a_gateway_without_a_registry_has_nothing_to_tell() {
    let gateway = Gateway::start().await;
    let operator = Operator { followed: None, registry: None, ..gateway.operator.clone() };
    let status = operator.registry_status(Request::new(v1::RegistryStatusRequest {})).await;
    refused(status, Reason::RegistryNone, &[]);
    let diff = operator.diff_registry(Request::new(v1::DiffRegistryRequest {})).await;
    refused(diff, Reason::RegistryNone, &[]);
}
