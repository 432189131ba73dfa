//! Intents of nodes: told, replaced, refused.

use super::*;
use crate::{
    registry::{Registry as _, suite},
    table::Stage,
};
use prost::Message as _;

fn intent(stage: v1::Stage, canary_percent: u32) -> v1::NodeIntent {
    v1::NodeIntent { stage: stage.into(), canary_percent, ..Default::default() }
}

fn drained() -> v1::NodeIntent {
    v1::NodeIntent { drained: true, ..Default::default() }
}

fn of(node: &str, intent: v1::NodeIntent, expected_revision: i64) -> v1::SetNodeIntentRequest {
    v1::SetNodeIntentRequest {
        node: node.to_owned(),
        intent: Some(intent),
        expected_revision,
        ..Default::default()
    }
}

impl Gateway {
    async fn intend(&self, asked: v1::SetNodeIntentRequest) -> Result<v1::SetNodeIntentResponse, Status> {
        self.operator.set_node_intent(Request::new(asked)).await.map(Response::into_inner)
    }

    /// Sets it, and waits until the table has it.
    async fn intended(&self, asked: v1::SetNodeIntentRequest) -> v1::SetNodeIntentResponse {
        let answer = self.intend(asked).await.unwrap();
        assert!(answer.written, "{answer:?}");
        self.until(|snapshot| snapshot.table.revision >= answer.intent_revision).await;
        answer
    }

    async fn node(&self, name: &str) -> v1::NodeInfo {
        let all = self.operator.list_nodes(Request::new(v1::ListNodesRequest::default())).await.unwrap();
        all.into_inner().nodes.into_iter().find(|node| node.node == name).unwrap()
    }
}

#[tokio::test]
async fn a_node_without_an_intent_is_active() {
    let gateway = Gateway::start().await;
    let suikang = gateway.node("suikang").await;
    assert_eq!((suikang.intent, suikang.intent_revision), (Some(intent(v1::Stage::Active, 0)), 0));
}

#[tokio::test]
async fn an_intent_is_written_and_comes_back_through_the_watch() {
    let gateway = Gateway::start().await;
    let answer = gateway.intended(of("suikang", drained(), 0)).await;
    assert_eq!(answer.region, 440_100);
    assert_eq!(answer.before, Some(intent(v1::Stage::Active, 0)));
    let suikang = gateway.node("suikang").await;
    let expected = v1::NodeIntent { drained: true, ..intent(v1::Stage::Active, 0) };
    assert_eq!((suikang.intent, suikang.intent_revision), (Some(expected), answer.intent_revision));
    let [routes] = &answer.routes[..] else { panic!("{:?}", answer.routes) };
    let share = |routes: &[v1::ClassRoute], node: &str| {
        routes[0].candidates.iter().find(|c| c.node == node).map(|c| c.share)
    };
    assert_eq!((share(&routes.before, "suikang"), share(&routes.before, "yuekang")), (Some(1.0), Some(0.0)));
    assert_eq!((share(&routes.after, "suikang"), share(&routes.after, "yuekang")), (Some(0.0), Some(1.0)));
    let now = gateway.explain(scan(440_100)).await.unwrap();
    assert_eq!(now.candidates.iter().find(|c| c.node == "yuekang").map(|c| c.share), Some(1.0));
}

#[tokio::test]
async fn only_the_intent_that_was_read_is_replaced() {
    let gateway = Gateway::start().await;
    let first = gateway.intended(of("suikang", drained(), 0)).await.intent_revision;
    let stale = gateway.intend(of("suikang", intent(v1::Stage::Test, 0), 0)).await;
    refused(stale, Reason::IntentChanged, &[("revision", &first.to_string()), ("expected_revision", "0")]);
    let same = gateway.intend(of("suikang", drained(), 0)).await.unwrap();
    assert_eq!((same.written, same.intent_revision), (false, first));
    let tried =
        v1::SetNodeIntentRequest { dry_run: true, ..of("suikang", intent(v1::Stage::Active, 0), first) };
    let tried = gateway.intend(tried).await.unwrap();
    assert_eq!((tried.written, tried.intent_revision), (false, first));
    assert_eq!(gateway.node("suikang").await.intent_revision, first);
}

#[tokio::test]
async fn trust_grows_a_step_at_a_time() {
    use v1::Stage::{Active, Canary, Suspended, Test};
    let gateway = Gateway::start().await;
    let mut revision = 0;
    for step in [intent(Test, 0), intent(Canary, 1), intent(Canary, 5), intent(Canary, 25), intent(Active, 0)]
    {
        revision = gateway.intended(of("suikang", step, revision)).await.intent_revision;
    }
    revision = gateway.intended(of("suikang", intent(Suspended, 0), revision)).await.intent_revision;
    let skipping = of("suikang", intent(Active, 0), revision);
    let details = [("stage", "suspended"), ("wanted", "active"), ("next", "test")];
    refused(gateway.intend(skipping.clone()).await, Reason::StageSkipped, &details);
    gateway.intended(v1::SetNodeIntentRequest { force: true, ..skipping }).await;
    let snapshot = gateway.operator.snapshots.current();
    assert_eq!(snapshot.table.nodes["suikang"].intent.stage, Stage::Active);
}

#[tokio::test]
async fn nobody_is_left_by_force_only() {
    let gateway = Gateway::start().await;
    let alone = of("xian", drained(), 0);
    refused(
        gateway.intend(alone.clone()).await,
        Reason::NobodyLeft,
        &[("region", "610100"), ("class", "scan")],
    );
    let every = v1::NodeIntent { drained_endpoints: vec!["xian-1".to_owned()], ..Default::default() };
    refused(gateway.intend(of("xian", every, 0)).await, Reason::NobodyLeft, &[("region", "610100")]);
    let forced = gateway.intended(v1::SetNodeIntentRequest { force: true, ..alone }).await;
    assert!(forced.warnings[0].starts_with("nobody is left who answers scan calls of 610100"), "{forced:?}");
    // Of Guangzhou's two each may go, but not both.
    gateway.intended(of("suikang", drained(), 0)).await;
    gateway.until(|snapshot| snapshot.table.nodes["suikang"].intent.drained).await;
    refused(gateway.intend(of("yuekang", drained(), 0)).await, Reason::NobodyLeft, &[]);
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_the_field() {
    let gateway = Gateway::start().await;
    let check = async |asked, field: &str| {
        refused(gateway.intend(asked).await, Reason::IntentInvalid, &[("field", field)]);
    };
    check(of("suikang", v1::NodeIntent { stage: 99, ..Default::default() }, 0), "stage").await;
    check(of("suikang", intent(v1::Stage::Canary, 10), 0), "canary_percent").await;
    check(of("suikang", intent(v1::Stage::Active, 5), 0), "canary_percent").await;
    let bad = v1::NodeIntent { drained_endpoints: vec!["A b".to_owned()], ..Default::default() };
    check(of("suikang", bad, 0), "drained_endpoints[0]").await;
    let many = vec!["a".to_owned(); 65];
    check(
        of("suikang", v1::NodeIntent { drained_endpoints: many, ..Default::default() }, 0),
        "drained_endpoints",
    )
    .await;
    let none = v1::NodeIntent { drained_endpoints: vec!["suikang-9".to_owned()], ..Default::default() };
    let details = [("node", "suikang"), ("endpoint", "suikang-9")];
    refused(gateway.intend(of("suikang", none, 0)).await, Reason::EndpointUnknown, &details);
    refused(gateway.intend(of("nobody", drained(), 0)).await, Reason::NodeUnknown, &[("node", "nobody")]);
    let elsewhere = v1::SetNodeIntentRequest { region: 610_100, ..of("suikang", drained(), 0) };
    refused(gateway.intend(elsewhere).await, Reason::NodeUnknown, &[("region_of_the_node", "440100")]);
    assert_eq!(gateway.registry.list("/").await.unwrap().entries, []);
}

#[tokio::test]
async fn a_node_that_is_still_to_come_starts_without_calls() {
    let gateway = Gateway::start().await;
    let ahead = |intent| v1::SetNodeIntentRequest { region: 610_000, ..of("shaanxi", intent, 0) };
    refused(
        gateway.intend(ahead(intent(v1::Stage::Active, 0))).await,
        Reason::IntentInvalid,
        &[("field", "stage")],
    );
    let taken = gateway.intended(ahead(intent(v1::Stage::Test, 0))).await;
    assert!(taken.warnings[0].starts_with("shaanxi is not registered"), "{taken:?}");
    let entries = gateway.registry.list("/suiyue/v1/nodes/").await.unwrap().entries;
    assert_eq!(entries[0].key, "/suiyue/v1/nodes/610000/shaanxi/intent");
}

#[tokio::test]
async fn an_intent_that_is_not_understood_is_told_and_counts_as_suspended() {
    let gateway = Gateway::start().await;
    let odd = v1::NodeIntent { stage: 77, ..Default::default() };
    let mut txn = suite::put("/suiyue/v1/nodes/440100/suikang/intent", "", 0, 0);
    txn.puts[0].1 = odd.encode_to_vec().into();
    let revision = suite::written(&gateway.registry, txn).await;
    gateway.until(|snapshot| snapshot.table.revision >= revision).await;
    let suikang = gateway.node("suikang").await;
    assert_eq!(suikang.intent, Some(intent(v1::Stage::Suspended, 0)));
    assert!(suikang.intent_problem.contains("no stage 77"), "{}", suikang.intent_problem);
    refused(
        gateway.intend(of("suikang", intent(v1::Stage::Active, 0), revision)).await,
        Reason::StageSkipped,
        &[("stage", "suspended")],
    );
}
