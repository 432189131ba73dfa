//! What an operator moves, over a registry in this process.

use super::*;
use crate::registry::{Txn, keys::Key};
use suiyue_proto::v1::{
    ApplyShiftRequest, ApproveShiftRequest, ChangeShiftRequest, ListShiftsRequest, PlanShiftRequest,
    PlanShiftResponse, ShiftInfo, ShiftOrder, ShiftState, ShiftTarget, change_shift_request::Change,
    shift_service_server::ShiftService as _,
};

const GUANGZHOU: u32 = 440_100;

/// 10 % of Guangzhou's calls to the province, at once.
fn order() -> ShiftOrder {
    ShiftOrder {
        region: GUANGZHOU,
        from: "suikang".to_owned(),
        to: vec![ShiftTarget { target: "yuekang".to_owned(), weight: 1.0 }],
        percent: 10.0,
        every_s: Some(0),
        reason: "a drill".to_owned(),
        ..ShiftOrder::default()
    }
}

/// A request of a named person.
fn by<T>(actor: &'static str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("suiyue-actor", actor.parse().unwrap());
    request
}

impl Gateway {
    fn shifts(&self) -> Shifts {
        Shifts(self.operator.clone())
    }

    async fn plan(&self, order: ShiftOrder) -> Result<PlanShiftResponse, Status> {
        let asked = PlanShiftRequest { order: Some(order), ..Default::default() };
        self.shifts().plan_shift(Request::new(asked)).await.map(Response::into_inner)
    }

    async fn apply(
        &self,
        actor: &'static str,
        plan: &PlanShiftResponse,
    ) -> Result<v1::ApplyShiftResponse, Status> {
        let asked = ApplyShiftRequest {
            order: plan.order.clone(),
            plan_hash: plan.plan_hash.clone(),
            read: plan.read.clone(),
            ..Default::default()
        };
        self.shifts().apply_shift(by(actor, asked)).await.map(Response::into_inner)
    }

    async fn approve(&self, actor: &'static str, plan: &PlanShiftResponse) -> Result<(), Status> {
        let asked = ApproveShiftRequest { plan_hash: plan.plan_hash.clone() };
        self.shifts().approve_shift(by(actor, asked)).await.map(drop)
    }

    async fn change(&self, id: &str, change: Change) -> Result<v1::ChangeShiftResponse, Status> {
        let asked = ChangeShiftRequest { id: id.to_owned(), change: Some(change) };
        self.shifts().change_shift(by("anna", asked)).await.map(Response::into_inner)
    }

    async fn listed(&self, ended: bool) -> Vec<ShiftInfo> {
        let asked = ListShiftsRequest { region: GUANGZHOU, ended };
        self.shifts().list_shifts(Request::new(asked)).await.unwrap().into_inner().shifts
    }

    /// Waits until a plan gives the province this share of Guangzhou's scans.
    async fn province_has(&self, share: f64) {
        self.until(|snapshot| {
            let route = &snapshot.plans.regions[&code(GUANGZHOU)][Class::Scan.index()];
            route.candidates.iter().any(|c| &*c.node == "yuekang" && (c.share - share).abs() < 1e-9)
        })
        .await;
    }

    /// Writes past the API.
    async fn write(&self, key: &Key, value: impl prost::Message) {
        let key = Prefix::default().key(key);
        let listing = self.registry.list(&key).await.unwrap();
        let revision = listing.entries.first().map_or(0, |entry| entry.mod_revision);
        let txn = Txn {
            expect: vec![(key.clone(), revision)],
            puts: vec![(key.clone(), value.encode_to_vec().into(), 0)],
            deletes: Vec::new(),
        };
        let outcome = self.registry.commit(txn).await.unwrap();
        let crate::registry::Outcome::Committed(at) = outcome else { panic!("{outcome:?}") };
        self.until(|snapshot| snapshot.table.revision >= at).await;
    }
}

#[tokio::test]
async fn a_plan_changes_nothing_and_what_is_applied_moves_calls() {
    let gateway = Gateway::start().await;
    let plan = gateway.plan(order()).await.unwrap();
    assert_eq!((plan.moves, plan.needs_approval, plan.refusals.len()), (0.1, false, 0));
    assert_eq!(plan.gateways, ["gw-1"]);
    assert_eq!(plan.warnings, ["yuekang declares no capacity: whether it has room is not known"]);
    assert!(gateway.listed(true).await.is_empty());
    let applied = gateway.apply("anna", &plan).await.unwrap();
    let shift = applied.shift.unwrap();
    assert!(applied.written);
    assert_eq!((shift.actor.as_str(), shift.approver.as_str()), ("anna", ""));
    assert_eq!(shift.expires_unix_ms - shift.start_unix_ms, 7_200_000, "two hours where nothing is said");
    gateway.province_has(0.1).await;
    let listed = gateway.listed(false).await;
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].state(), listed[0].percent), (ShiftState::Active, 10.0));
    // Sent again it is the same shift.
    let again = gateway.apply("anna", &plan).await.unwrap();
    assert_eq!((again.written, again.shift.unwrap().id), (false, shift.id.clone()));
    let log = Prefix::default().key(&Key::ShiftLog(shift.id.clone()));
    assert_eq!(gateway.registry.list(&log).await.unwrap().entries.len(), 1);
}

#[tokio::test]
async fn a_plan_whose_ground_has_changed_is_stale_and_says_what_changed() {
    let gateway = Gateway::start().await;
    let plan = gateway.plan(order()).await.unwrap();
    gateway.write(&Key::Region(code(GUANGZHOU)), v1::RegionPolicy::default()).await;
    refused(gateway.apply("anna", &plan).await, Reason::PlanStale, &[("key", "regions/440100")]);
    // Somebody else was faster.
    let [mine, theirs] = [gateway.plan(order()).await.unwrap(), gateway.plan(order()).await.unwrap()];
    let faster = gateway.plan(ShiftOrder { percent: 5.0, ..order() }).await.unwrap();
    gateway.apply("boris", &faster).await.unwrap();
    gateway.province_has(0.05).await;
    assert_eq!(mine.plan_hash, theirs.plan_hash, "a plan is a function of order and keys");
    let key = [("key", "shifts/active/440100/suikang")];
    refused(gateway.apply("anna", &mine).await, Reason::PlanStale, &key);
    // Another order under the hash of the one that was shown.
    let mut forged = gateway.plan(ShiftOrder { percent: 6.0, ..order() }).await.unwrap();
    forged.order = Some(ShiftOrder { percent: 9.0, ..forged.order.unwrap() });
    refused(gateway.apply("anna", &forged).await, Reason::PlanStale, &[("key", "order")]);
}

#[tokio::test]
async fn much_needs_another_person_whose_word_counts_once() {
    let gateway = Gateway::start().await;
    let plan = gateway.plan(ShiftOrder { percent: 40.0, ..order() }).await.unwrap();
    assert!(plan.needs_approval && plan.moves > 0.39, "{plan:?}");
    refused(gateway.apply("anna", &plan).await, Reason::ApprovalNeeded, &[("moves", "0.40")]);
    gateway.approve("anna", &plan).await.unwrap();
    refused(gateway.apply("anna", &plan).await, Reason::ApprovalOwn, &[]);
    gateway.approve("boris", &plan).await.unwrap();
    let shift = gateway.apply("anna", &plan).await.unwrap().shift.unwrap();
    assert_eq!((shift.actor.as_str(), shift.approver.as_str()), ("anna", "boris"));
    gateway.province_has(0.4).await;
    // It walks back at once, and the same order needs a new word: the plan is another one.
    gateway.change(&shift.id, Change::Cancel(true)).await.unwrap();
    gateway.province_has(0.0).await;
    let plan = gateway.plan(ShiftOrder { percent: 40.0, ..order() }).await.unwrap();
    refused(gateway.apply("anna", &plan).await, Reason::ApprovalNeeded, &[]);
    let short = ApproveShiftRequest { plan_hash: vec![1, 2].into() };
    let answer = gateway.shifts().approve_shift(by("boris", short)).await;
    refused(answer, Reason::ShiftInvalid, &[("field", "plan_hash")]);
}

#[tokio::test]
async fn an_old_word_does_not_count() {
    let gateway = Gateway::start().await;
    let plan = gateway.plan(ShiftOrder { percent: 40.0, ..order() }).await.unwrap();
    let hash: String = plan.plan_hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let old = v1::ShiftApproval { plan_hash: plan.plan_hash.clone(), actor: "boris".to_owned(), unix_ms: 1 };
    gateway.write(&Key::ShiftApproval(hash), old).await;
    refused(gateway.apply("anna", &plan).await, Reason::ApprovalNeeded, &[]);
}

#[tokio::test]
async fn a_policy_says_how_much_one_person_may_move() {
    let gateway = Gateway::start().await;
    let policy = v1::RegionPolicy { two_person_above: Some(1.0), ..Default::default() };
    gateway.write(&Key::Region(code(GUANGZHOU)), policy).await;
    let plan = gateway.plan(ShiftOrder { percent: 100.0, ..order() }).await.unwrap();
    assert!(!plan.needs_approval);
    gateway.apply("anna", &plan).await.unwrap();
    gateway.province_has(1.0).await;
}

#[tokio::test]
async fn a_shift_is_held_resumed_extended_and_cancelled() {
    let gateway = Gateway::start().await;
    let slow = ShiftOrder { step: Some(1.0), every_s: Some(3_600), ..order() };
    let plan = gateway.plan(slow).await.unwrap();
    let id = gateway.apply("anna", &plan).await.unwrap().shift.unwrap().id;
    gateway.province_has(0.01).await;
    assert_eq!(gateway.listed(false).await[0].state(), ShiftState::Ramping);
    let held = gateway.change(&id, Change::Hold(true)).await.unwrap();
    assert_eq!((held.written, held.shift.unwrap().state()), (true, ShiftState::Held));
    assert!(!gateway.change(&id, Change::Hold(true)).await.unwrap().written);
    let resumed = gateway.change(&id, Change::Resume(true)).await.unwrap();
    assert_eq!(resumed.shift.unwrap().state(), ShiftState::Ramping);
    let longer = gateway.change(&id, Change::TtlS(259_200)).await.unwrap().shift.unwrap().shift.unwrap();
    assert!(longer.expires_unix_ms > longer.start_unix_ms + 259_000_000);
    refused(gateway.change(&id, Change::TtlS(0)).await, Reason::ShiftInvalid, &[("field", "ttl_s")]);
    gateway.change(&id, Change::Cancel(true)).await.unwrap();
    gateway.province_has(0.0).await;
    refused(gateway.change(&id, Change::Cancel(true)).await, Reason::ShiftNotFound, &[]);
    refused(gateway.change("nobody", Change::Hold(true)).await, Reason::ShiftNotFound, &[]);
    assert!(gateway.listed(false).await.is_empty());
    assert_eq!(gateway.listed(true).await[0].state(), ShiftState::Ended);
}

#[tokio::test]
async fn an_order_that_cannot_be_is_refused_with_its_field() {
    let gateway = Gateway::start().await;
    let check = async |field: &str, change: &dyn Fn(&mut ShiftOrder)| {
        let mut order = order();
        change(&mut order);
        refused(gateway.plan(order).await, Reason::ShiftInvalid, &[("field", field)]);
    };
    check("percent", &|o| o.percent = 101.0).await;
    check("percent", &|o| o.percent = f64::NAN).await;
    check("from", &|o| o.from = "nobody".to_owned()).await;
    check("to[0].target", &|o| o.to[0].target = "nobody".to_owned()).await;
    check("to[0].target", &|o| o.to[0].target = "xian".to_owned()).await;
    let unknown = ShiftOrder { region: 999_999, ..order() };
    refused(gateway.plan(unknown).await, Reason::RegionUnknown, &[]);
    let county = ShiftOrder { region: 440_106, ..order() };
    refused(gateway.plan(county).await, Reason::RegionNotRouted, &[("region", "440100")]);
    let asked = PlanShiftRequest { order: Some(order()), at_rps: f64::NAN, ..Default::default() };
    let answer = gateway.shifts().plan_shift(Request::new(asked)).await;
    refused(answer, Reason::ShiftInvalid, &[("field", "at_rps")]);
    let nobody = gateway.shifts().plan_shift(Request::new(PlanShiftRequest::default())).await;
    refused(nobody, Reason::ShiftInvalid, &[("field", "order")]);
    let request = by("a b", ApproveShiftRequest { plan_hash: vec![0; 32].into() });
    refused(
        gateway.shifts().approve_shift(request).await,
        Reason::ShiftInvalid,
        &[("field", "suiyue-actor")],
    );
}

#[tokio::test]
async fn a_gateway_that_does_not_answer_refuses_the_plan_unless_it_is_named() {
    let gateway = Gateway::start().await;
    let silent = v1::GatewayPresence { control_address: "127.0.0.1:1".to_owned(), ..Default::default() };
    gateway.write(&Key::Gateway("gw-2".to_owned()), silent).await;
    refused(gateway.plan(order()).await, Reason::GatewaySilent, &[("gateway", "gw-2")]);
    let asked =
        PlanShiftRequest { order: Some(order()), without: vec!["gw-2".to_owned()], ..Default::default() };
    let plan = gateway.shifts().plan_shift(Request::new(asked)).await.unwrap().into_inner();
    assert_eq!(plan.gateways, ["gw-1"]);
}

#[tokio::test]
async fn a_shift_that_cannot_be_read_is_quarantined_and_moves_nothing() {
    let gateway = Gateway::start().await;
    let key = Key::Shift { region: code(GUANGZHOU), from: "suikang".to_owned() };
    let order = ShiftOrder { percent: 400.0, ..order() };
    let shift =
        v1::Shift { id: "x".to_owned(), order: Some(order), expires_unix_ms: i64::MAX, ..Default::default() };
    gateway.write(&key, shift).await;
    let snapshot = gateway.operator.snapshots.current();
    assert!(snapshot.table.shifts.is_empty());
    let quarantined = &snapshot.table.quarantined[0];
    assert!(quarantined.key.ends_with("shifts/active/440100/suikang"), "{quarantined:?}");
    assert!(quarantined.reason.contains("percent"), "{quarantined:?}");
    assert!(gateway.listed(true).await.is_empty());
}
