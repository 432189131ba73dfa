//! What somebody on the gateway's machine orders past the registry.

use super::*;
use crate::{
    breakglass::socket::Users,
    registry::{Txn, keys::Key},
};
use suiyue_proto::v1::{
    BreakglassAction, CancelBreakglassRequest, ListBreakglassRequest, ListBreakglassResponse,
    OrderBreakglassRequest, OrderBreakglassResponse, ShiftOrder, ShiftTarget,
    breakglass_service_server::BreakglassService as _, order_breakglass_request::What,
    shift_service_server::ShiftService as _,
};
use tonic::transport::server::UdsConnectInfo;

const GUANGZHOU: u32 = 440_100;

fn order(what: What) -> OrderBreakglassRequest {
    OrderBreakglassRequest { what: Some(what), reason: "etcd is away".to_owned(), ..Default::default() }
}

fn drain(node: &str) -> OrderBreakglassRequest {
    order(What::Drain(node.to_owned()))
}

fn undrain(node: &str) -> OrderBreakglassRequest {
    order(What::Undrain(node.to_owned()))
}

fn shifted(percent: f64) -> ShiftOrder {
    ShiftOrder {
        region: GUANGZHOU,
        from: "suikang".to_owned(),
        to: vec![ShiftTarget { target: "yuekang".to_owned(), weight: 1.0 }],
        percent,
        every_s: Some(0),
        ..ShiftOrder::default()
    }
}

fn shift(percent: f64) -> OrderBreakglassRequest {
    order(What::Shift(shifted(percent)))
}

/// As the socket passes it on: from this process.
fn from_here<T>(message: T) -> Request<T> {
    let (ours, _theirs) = tokio::net::UnixStream::pair().unwrap();
    let mut request = Request::new(message);
    request
        .extensions_mut()
        .insert(UdsConnectInfo { peer_addr: None, peer_cred: Some(ours.peer_cred().unwrap()) });
    request
}

fn own_uid() -> u32 {
    from_here(()).extensions().get::<UdsConnectInfo>().unwrap().peer_cred.unwrap().uid()
}

impl Gateway {
    fn desk(&self) -> Desk {
        Desk::new(self.operator.clone(), Users::new(own_uid(), Vec::new()))
    }

    async fn order(&self, asked: OrderBreakglassRequest) -> Result<OrderBreakglassResponse, Status> {
        self.desk().order_breakglass(from_here(asked)).await.map(Response::into_inner)
    }

    async fn cancel(&self, id: &str) -> Result<Vec<BreakglassAction>, Status> {
        let (id, reason) = (id.to_owned(), "it is over".to_owned());
        let asked = CancelBreakglassRequest { id, reason, ..Default::default() };
        self.desk().cancel_breakglass(from_here(asked)).await.map(|answer| answer.into_inner().actions)
    }

    async fn in_force(&self) -> ListBreakglassResponse {
        self.desk().list_breakglass(from_here(ListBreakglassRequest {})).await.unwrap().into_inner()
    }

    /// Waits until the province has this part of Guangzhou's scans.
    async fn province(&self, share: f64) -> Arc<Snapshot> {
        self.until(|snapshot| {
            let route = snapshot.plans.regions.get(&code(GUANGZHOU)).map(|routes| &routes[0]);
            let yuekang = route.and_then(|route| route.candidates.iter().find(|c| *c.node == *"yuekang"));
            yuekang.is_some_and(|yuekang| (yuekang.share - share).abs() < 1e-9)
        })
        .await
    }

    async fn put<M: prost::Message>(&self, key: &Key, message: M) {
        let key = Prefix::default().key(key);
        let puts = vec![(key, message.encode_to_vec().into(), 0)];
        self.registry.commit(Txn { expect: Vec::new(), puts, deletes: Vec::new() }).await.unwrap();
    }
}

#[tokio::test]
async fn a_drain_counts_here_at_once_and_says_where_to_go_next() {
    let gateway = Gateway::start().await;
    let told = v1::GatewayPresence { control_address: "127.0.0.1:1".to_owned(), ..Default::default() };
    gateway.put(&Key::Gateway("gw-2".to_owned()), told).await;
    // What is heard after it is seen: so it is known, too.
    gateway.put(&Key::Region(code(GUANGZHOU)), v1::RegionPolicy::default()).await;
    gateway.until(|snapshot| snapshot.table.policies.contains_key(&code(GUANGZHOU))).await;
    let dry = gateway.order(OrderBreakglassRequest { dry_run: true, ..drain("suikang") }).await.unwrap();
    assert!(!dry.ordered && (dry.action.unwrap().moves - 1.0).abs() < 1e-9);
    assert!(gateway.in_force().await.actions.is_empty());
    let answer = gateway.order(drain("suikang")).await.unwrap();
    let scope = answer.scope.unwrap();
    assert_eq!((scope.gateway.as_str(), scope.gateways, scope.others.len()), ("gw-1", 2, 1));
    assert_eq!(scope.others[0].control_address, "127.0.0.1:1");
    assert!(answer.warnings.iter().any(|warning| warning.contains("gw-2 does not tell its load")));
    let snapshot = gateway.province(1.0).await;
    assert!(snapshot.table.nodes["suikang"].intent.drained && snapshot.table.under.is_some());
    let action = answer.action.unwrap();
    assert_eq!(action.ends_unix_ms - action.start_unix_ms, 15 * 60_000);
    let nodes = gateway.operator.list_nodes(Request::new(v1::ListNodesRequest::default())).await.unwrap();
    let said = nodes.into_inner().table.unwrap().breakglass;
    assert!(said.len() == 1 && said[0].starts_with("drain suikang, by "), "{said:?}");
    assert_eq!(gateway.cancel("").await.unwrap().len(), 1);
    gateway.province(0.0).await;
    refused(gateway.cancel("bg-").await, Reason::BreakglassNotFound, &[]);
}

#[tokio::test]
async fn what_cannot_be_ordered_is_refused_with_its_field() {
    let gateway = Gateway::start().await;
    let refuses = async |asked, reason, details: &[(&str, &str)]| {
        refused(gateway.order(asked).await, reason, details);
    };
    let field = |field| [("field", field)];
    let ttl = |ttl_s| OrderBreakglassRequest { ttl_s, ..drain("suikang") };
    refuses(ttl(1_801), Reason::BreakglassInvalid, &field("ttl_s")).await;
    refuses(ttl(31 * 60), Reason::BreakglassInvalid, &[("expected", "1 to 1800 seconds (30 min)")]).await;
    refuses(OrderBreakglassRequest { what: None, ..drain("") }, Reason::BreakglassInvalid, &field("what"))
        .await;
    let nameless = OrderBreakglassRequest { actor: "two words".to_owned(), ..drain("suikang") };
    refuses(nameless, Reason::BreakglassInvalid, &field("actor")).await;
    let why = |reason: &str| OrderBreakglassRequest { reason: reason.to_owned(), ..drain("suikang") };
    refuses(why(" "), Reason::ReasonRequired, &[]).await;
    refuses(why("two\nlines"), Reason::BreakglassInvalid, &field("reason")).await;
    refuses(drain("nobody"), Reason::NodeUnknown, &[("node", "nobody")]).await;
    refuses(undrain("suikang"), Reason::BreakglassInvalid, &field("undrain")).await;
    for percent in [101.0, 0.0, -1.0, f64::NAN, f64::INFINITY] {
        refuses(shift(percent), Reason::ShiftInvalid, &field("percent")).await;
    }
    let of = |order| self::order(What::Shift(order));
    refuses(of(ShiftOrder { region: 999_999, ..shifted(10.0) }), Reason::RegionUnknown, &[]).await;
    refuses(of(ShiftOrder { region: 440_106, ..shifted(10.0) }), Reason::RegionNotRouted, &[]).await;
    let nobody = ShiftOrder { from: "nobody".to_owned(), ..shifted(10.0) };
    refuses(of(nobody), Reason::ShiftInvalid, &field("from")).await;
    // It could not be back in time.
    let slow = ShiftOrder { every_s: Some(600), ..shifted(40.0) };
    refuses(of(slow), Reason::BreakglassInvalid, &field("ttl_s")).await;
    refused(
        gateway.desk().cancel_breakglass(from_here(CancelBreakglassRequest::default())).await,
        Reason::ReasonRequired,
        &[],
    );
    assert!(gateway.in_force().await.actions.is_empty());
}

#[tokio::test]
async fn who_may_not_or_is_nobody_is_refused() {
    let gateway = Gateway::start().await;
    let unknown = gateway.desk().list_breakglass(Request::new(ListBreakglassRequest {})).await;
    refused(unknown, Reason::BreakglassDenied, &[]);
    if own_uid() != 0 {
        let desk = Desk::new(gateway.operator.clone(), Users::new(own_uid() + 1, Vec::new()));
        let other = desk.order_breakglass(from_here(drain("suikang"))).await;
        refused(other, Reason::BreakglassDenied, &[("uid", &own_uid().to_string())]);
    }
}

#[tokio::test]
async fn nobody_can_order_what_leaves_calls_with_nobody() {
    let gateway = Gateway::start().await;
    gateway.order(drain("suikang")).await.unwrap();
    gateway.province(1.0).await;
    for force in [false, true] {
        let last = OrderBreakglassRequest { force, ..drain("yuekang") };
        refused(gateway.order(last).await, Reason::NobodyLeft, &[("region", "440000")]);
    }
    assert_eq!(gateway.in_force().await.actions.len(), 1);
}

#[tokio::test]
async fn a_shift_past_the_registry_counts_instead_of_the_registrys_and_gives_way_to_it_again() {
    let gateway = Gateway::start().await;
    let shifts = Shifts(gateway.operator.clone());
    let of_all = async || {
        let asked = v1::ListShiftsRequest::default();
        shifts.list_shifts(Request::new(asked)).await.unwrap().into_inner().shifts
    };
    let plan = async |percent| {
        let asked = v1::PlanShiftRequest { order: Some(shifted(percent)), ..Default::default() };
        shifts.plan_shift(Request::new(asked)).await.unwrap().into_inner()
    };
    let apply = async |plan: &v1::PlanShiftResponse| {
        let asked = v1::ApplyShiftRequest {
            order: plan.order.clone(),
            plan_hash: plan.plan_hash.clone(),
            read: plan.read.clone(),
            ..Default::default()
        };
        shifts.apply_shift(Request::new(asked)).await.unwrap().into_inner().shift.unwrap().id
    };
    let first = apply(&plan(10.0).await).await;
    gateway.province(0.1).await;
    gateway.order(shift(40.0)).await.unwrap();
    let second = gateway.order(shift(60.0)).await.unwrap();
    assert_eq!(second.replaces.len(), 1);
    gateway.province(0.6).await;
    let ours = second.action.unwrap().id;
    let listed = of_all().await;
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert_eq!((listed[0].overridden_here.as_str(), listed[1].overridden_here.as_str()), (ours.as_str(), ""));
    assert_eq!((listed[0].percent, listed[1].percent), (10.0, 60.0));
    let mode = listed[1].shift.as_ref().unwrap().mode();
    assert_eq!(mode, v1::ShiftMode::Breakglass);
    // A plan for all gateways is made from what all of them have.
    let planned = plan(30.0).await;
    assert!((planned.moves - 0.2).abs() < 1e-9 || (planned.moves - 0.3).abs() < 1e-9, "{}", planned.moves);
    let next = apply(&planned).await;
    assert_ne!(next, first);
    gateway.province(0.6).await;
    let ended = gateway.cancel(&ours).await.unwrap();
    assert!(ended[0].ends_unix_ms <= crate::clock::unix_ms());
    gateway.province(0.3).await;
    assert!(of_all().await.iter().all(|info| info.overridden_here.is_empty()));
}

#[tokio::test]
async fn what_is_asked_of_all_gateways_is_no_easier_where_the_glass_is_broken() {
    let gateway = Gateway::start().await;
    gateway.order(drain("suikang")).await.unwrap();
    gateway.province(1.0).await;
    let operator = Operator { two_person_above: 0.2, ..gateway.operator.clone() };
    let intent = Some(v1::NodeIntent { drained: true, ..Default::default() });
    let asked = v1::SetNodeIntentRequest { node: "suikang".to_owned(), intent, ..Default::default() };
    let answer = operator.set_node_intent(Request::new(asked)).await;
    refused(answer, Reason::ApprovalNeeded, &[("moves", "1.00")]);
}

#[tokio::test]
async fn a_node_that_the_registry_drains_gets_calls_here() {
    let gateway = Gateway::start().await;
    let key = Key::Node {
        region: code(GUANGZHOU),
        node: "suikang".to_owned(),
        part: crate::registry::keys::Part::Intent,
    };
    gateway.put(&key, v1::NodeIntent { drained: true, ..Default::default() }).await;
    gateway.province(1.0).await;
    gateway.order(undrain("suikang")).await.unwrap();
    gateway.province(0.0).await;
    gateway.cancel("").await.unwrap();
    gateway.province(1.0).await;
}

#[tokio::test]
async fn an_action_ends_by_itself() {
    let gateway = Gateway::start().await;
    let ended = gateway.order(OrderBreakglassRequest { ttl_s: 1, ..drain("suikang") }).await.unwrap();
    assert!(!ended.action.unwrap().forced);
    gateway.province(1.0).await;
    gateway.until(|snapshot| snapshot.table.under.is_none()).await;
    gateway.province(0.0).await;
    assert!(gateway.in_force().await.actions.is_empty());
}
