//! What an operator moves, over a registry in this process.

use super::*;
use crate::{
    audit::actor::{Actor, Role},
    registry::{Txn, keys::Key},
};
use prost::Message as _;
use suiyue_proto::v1::{
    ApplyShiftRequest, ApproveShiftRequest, ChangeShiftRequest, ListShiftsRequest, PlanShiftRequest,
    PlanShiftResponse, ShiftEnd, ShiftInfo, ShiftOrder, ShiftState, ShiftTarget,
    change_shift_request::Change, shift_service_server::ShiftService as _,
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

/// A request of a named person on the gateway's machine.
fn by<T>(actor: &'static str, message: T) -> Request<T> {
    of(Actor::local(actor), message)
}

/// A request of somebody, as the services in front of the API pass it on.
fn of<T>(actor: Actor, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Arc::new(Deed::new(actor, "a test", "a drill".to_owned())));
    request
}

fn proven(name: &str, role: Role) -> Actor {
    Actor { name: name.to_owned(), role, authenticated: true }
}

fn approval(plan: &PlanShiftResponse) -> ApproveShiftRequest {
    let (plan_hash, order, read) = (plan.plan_hash.clone(), plan.order.clone(), plan.read.clone());
    ApproveShiftRequest { plan_hash, order, read, ..Default::default() }
}

fn application(plan: &PlanShiftResponse) -> ApplyShiftRequest {
    ApplyShiftRequest {
        order: plan.order.clone(),
        plan_hash: plan.plan_hash.clone(),
        read: plan.read.clone(),
        ..Default::default()
    }
}

impl Gateway {
    fn shifts(&self) -> Shifts {
        Shifts(Operator { two_person_above: 0.2, ..self.operator.clone() })
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
        self.shifts().apply_shift(by(actor, application(plan))).await.map(Response::into_inner)
    }

    async fn approve(&self, actor: &'static str, plan: &PlanShiftResponse) -> Result<(), Status> {
        self.shifts().approve_shift(by(actor, approval(plan))).await.map(drop)
    }

    async fn change(&self, id: &str, change: Change) -> Result<v1::ChangeShiftResponse, Status> {
        let asked = ChangeShiftRequest { id: id.to_owned(), change: Some(change), ..Default::default() };
        self.shifts().change_shift(by("anna", asked)).await.map(Response::into_inner)
    }

    async fn listed(&self, ended: bool) -> Vec<ShiftInfo> {
        let asked = ListShiftsRequest { region: GUANGZHOU, ended, history: false };
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
        // Not every key makes a table: what counts here is that the gateway has read it.
        let followed = self.operator.followed.clone().unwrap();
        while followed.entry(&key).is_none_or(|entry| entry.mod_revision < at) {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_plan_changes_nothing_and_what_is_applied_moves_calls() {
    let gateway = Gateway::start().await;
    let plan = gateway.plan(order()).await.unwrap();
    assert!((plan.moves - 0.1).abs() < 1e-9, "{}", plan.moves);
    assert_eq!((plan.needs_approval, plan.refusals.len(), plan.two_person_above), (false, 0, 0.2));
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
    let entries = gateway.audited().await;
    let told: Vec<_> = entries.iter().map(|entry| (&*entry.actor, &*entry.key)).collect();
    assert_eq!(told, [("anna", "shifts/active/440100/suikang")], "one change, one entry");
}

#[tokio::test]
async fn a_dry_run_writes_nothing_and_says_what_would_be() {
    let gateway = Gateway::start().await;
    let plan = gateway.plan(order()).await.unwrap();
    let asked = ApplyShiftRequest { dry_run: true, ..application(&plan) };
    let answer = gateway.shifts().apply_shift(by("anna", asked)).await.unwrap().into_inner();
    assert_eq!((answer.written, answer.revision), (false, 0));
    assert_eq!(answer.shift.unwrap().order, plan.order);
    assert!(gateway.audited().await.is_empty());
    let id = gateway.apply("anna", &plan).await.unwrap().shift.unwrap().id;
    gateway.province_has(0.1).await;
    let asked = ChangeShiftRequest { id, change: Some(Change::Cancel(true)), dry_run: true };
    let answer = gateway.shifts().change_shift(by("anna", asked)).await.unwrap().into_inner();
    assert_eq!((answer.written, answer.shift.unwrap().state()), (false, ShiftState::Ended));
    assert_eq!(gateway.listed(false).await[0].state(), ShiftState::Active);
    assert_eq!(gateway.audited().await.len(), 1);
}

#[tokio::test]
async fn a_rollback_restores_the_earlier_plan_and_the_log_keeps_both() {
    let gateway = Gateway::start().await;
    let plan = gateway.plan(ShiftOrder { percent: 5.0, ..order() }).await.unwrap();
    let first = gateway.apply("anna", &plan).await.unwrap().shift.unwrap();
    gateway.province_has(0.05).await;
    let plan = gateway.plan(order()).await.unwrap();
    let second = gateway.apply("anna", &plan).await.unwrap().shift.unwrap();
    assert_eq!(second.replaces, first.id);
    gateway.province_has(0.1).await;
    let back = gateway.change(&second.id, Change::Rollback(true)).await.unwrap();
    assert_eq!(back.shift.unwrap().shift.unwrap(), first, "as it stood before");
    gateway.province_has(0.05).await;
    let asked = ListShiftsRequest { history: true, ..Default::default() };
    let history = gateway.shifts().list_shifts(Request::new(asked)).await.unwrap().into_inner().shifts;
    let told: Vec<_> = history.iter().map(|info| (info.shift.as_ref().unwrap(), info.state())).collect();
    let told: Vec<_> = told.into_iter().map(|(shift, state)| (&*shift.id, shift.end(), state)).collect();
    assert_eq!(
        told,
        [
            (&*second.id, ShiftEnd::RolledBack, ShiftState::Ended),
            (&*first.id, ShiftEnd::Unspecified, ShiftState::Active)
        ]
    );
    refused(gateway.change(&second.id, Change::Hold(true)).await, Reason::ShiftNotFound, &[]);
    gateway.change(&first.id, Change::Rollback(true)).await.unwrap();
    gateway.province_has(0.0).await;
    assert_eq!(gateway.audited().await.len(), 4, "two begun, two taken back");
}

#[tokio::test]
async fn whoever_has_a_certificate_needs_the_approvers_and_a_proven_word() {
    let gateway = Gateway::start().await;
    let plan = gateway.plan(ShiftOrder { percent: 40.0, ..order() }).await.unwrap();
    let approve = async |actor: Actor| {
        let asked = of(actor, approval(&plan));
        gateway.shifts().approve_shift(asked).await.map(drop)
    };
    let role = [("role", "operator"), ("needed", "approver")];
    refused(approve(proven("boris", Role::Operator)).await, Reason::RoleInsufficient, &role);
    approve(Actor::local("boris")).await.unwrap();
    let asked = || of(proven("anna", Role::Operator), application(&plan));
    refused(gateway.shifts().apply_shift(asked()).await, Reason::ApprovalNeeded, &[]);
    approve(proven("boris", Role::Approver)).await.unwrap();
    let shift = gateway.shifts().apply_shift(asked()).await.unwrap().into_inner().shift.unwrap();
    assert_eq!(shift.approver, "boris");
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
    let short = ApproveShiftRequest { plan_hash: vec![1, 2].into(), ..approval(&plan) };
    let answer = gateway.shifts().approve_shift(by("boris", short)).await;
    refused(answer, Reason::ShiftInvalid, &[("field", "plan_hash")]);
    // Another order under the hash of this one.
    let mut forged = approval(&plan);
    forged.order = Some(ShiftOrder { percent: 90.0, ..forged.order.unwrap() });
    let answer = gateway.shifts().approve_shift(by("boris", forged)).await;
    refused(answer, Reason::PlanStale, &[("key", "order")]);
    // The ground has changed since.
    gateway.write(&Key::Region(code(GUANGZHOU)), v1::RegionPolicy::default()).await;
    refused(gateway.approve("boris", &plan).await, Reason::PlanStale, &[("key", "regions/440100")]);
}

#[tokio::test]
async fn an_approval_of_another_plan_or_a_used_one_does_not_count() {
    let gateway = Gateway::start().await;
    let plan = gateway.plan(ShiftOrder { percent: 40.0, ..order() }).await.unwrap();
    gateway.approve("boris", &plan).await.unwrap();
    let more = gateway.plan(ShiftOrder { percent: 60.0, ..order() }).await.unwrap();
    refused(gateway.apply("anna", &more).await, Reason::ApprovalNeeded, &[]);
    let id = gateway.apply("anna", &plan).await.unwrap().shift.unwrap().id;
    gateway.province_has(0.4).await;
    gateway.change(&id, Change::Rollback(true)).await.unwrap();
    gateway.province_has(0.0).await;
    // Sent again, the very same request: the plan is stale and its approval used up.
    let key = [("key", "shifts/active/440100/suikang")];
    refused(gateway.apply("anna", &plan).await, Reason::PlanStale, &key);
    let approvals = format!("{}shifts/approvals/", Prefix::default().root());
    assert!(gateway.registry.list(&approvals).await.unwrap().entries.is_empty());
}

#[tokio::test]
async fn an_old_word_does_not_count() {
    let gateway = Gateway::start().await;
    let plan = gateway.plan(ShiftOrder { percent: 40.0, ..order() }).await.unwrap();
    let hash: String = plan.plan_hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let (plan_hash, actor) = (plan.plan_hash.clone(), "boris".to_owned());
    let old = v1::ShiftApproval { plan_hash, actor, unix_ms: 1, authenticated: true };
    let key = Prefix::default().key(&Key::ShiftApproval(hash));
    let puts = vec![(key.clone(), old.encode_to_vec().into(), 0)];
    gateway.registry.commit(Txn { expect: vec![(key, 0)], puts, deletes: Vec::new() }).await.unwrap();
    refused(gateway.apply("anna", &plan).await, Reason::ApprovalNeeded, &[]);
}

#[tokio::test]
async fn a_policy_says_how_much_one_person_may_move() {
    let gateway = Gateway::start().await;
    let policy = v1::RegionPolicy { two_person_above: Some(1.0), ..Default::default() };
    gateway.write(&Key::Region(code(GUANGZHOU)), policy).await;
    gateway.until(|snapshot| snapshot.table.policies.contains_key(&code(GUANGZHOU))).await;
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
    let snapshot = gateway.until(|snapshot| !snapshot.table.quarantined.is_empty()).await;
    assert!(snapshot.table.shifts.is_empty());
    let quarantined = &snapshot.table.quarantined[0];
    assert!(quarantined.key.ends_with("shifts/active/440100/suikang"), "{quarantined:?}");
    assert!(quarantined.reason.contains("percent"), "{quarantined:?}");
    assert!(gateway.listed(true).await.is_empty());
}

fn drain(revision: i64) -> v1::SetNodeIntentRequest {
    let intent = v1::NodeIntent { drained: true, ..Default::default() };
    v1::SetNodeIntentRequest {
        node: "suikang".to_owned(),
        intent: Some(intent),
        expected_revision: revision,
        ..Default::default()
    }
}

impl Gateway {
    /// As an operator of a federation where one person moves a fifth.
    async fn wants(
        &self,
        actor: &'static str,
        asked: v1::SetNodeIntentRequest,
    ) -> Result<v1::SetNodeIntentResponse, Status> {
        self.shifts().0.set_node_intent(by(actor, asked)).await.map(Response::into_inner)
    }
}

#[tokio::test]
async fn a_whole_drain_is_no_easier_than_a_shift() {
    let gateway = Gateway::start().await;
    refused(gateway.wants("anna", drain(0)).await, Reason::ApprovalNeeded, &[("moves", "1.00")]);
    let dry = v1::SetNodeIntentRequest { dry_run: true, ..drain(0) };
    let told = gateway.wants("anna", dry).await.unwrap();
    assert!(told.needs_approval && (told.moves - 1.0).abs() < 1e-9, "{told:?}");
    let approve = async |actor, plan_hash: &bytes::Bytes, intent| {
        let asked =
            ApproveShiftRequest { plan_hash: plan_hash.clone(), intent: Some(intent), ..Default::default() };
        gateway.shifts().approve_shift(by(actor, asked)).await.map(drop)
    };
    // Of another node under the name of this plan.
    let other = v1::SetNodeIntentRequest { node: "yuekang".to_owned(), ..drain(0) };
    refused(approve("boris", &told.plan_hash, other).await, Reason::PlanStale, &[]);
    approve("anna", &told.plan_hash, drain(0)).await.unwrap();
    refused(gateway.wants("anna", drain(0)).await, Reason::ApprovalOwn, &[]);
    approve("boris", &told.plan_hash, drain(0)).await.unwrap();
    let done = gateway.wants("anna", drain(0)).await.unwrap();
    assert!(done.written);
    gateway.province_has(1.0).await;
    // The approval is used up, and bringing it all back is as much.
    let approvals = format!("{}shifts/approvals/", Prefix::default().root());
    assert!(gateway.registry.list(&approvals).await.unwrap().entries.is_empty());
    let back =
        v1::SetNodeIntentRequest { intent: Some(v1::NodeIntent::default()), ..drain(done.intent_revision) };
    refused(gateway.wants("anna", back).await, Reason::ApprovalNeeded, &[("moves", "1.00")]);
}

#[tokio::test]
async fn nobody_raises_alone_what_one_person_may_move() {
    let gateway = Gateway::start().await;
    let set = async |part| {
        let policy = v1::RegionPolicy { two_person_above: Some(part), ..Default::default() };
        let asked =
            v1::SetRegionPolicyRequest { region: GUANGZHOU, policy: Some(policy), ..Default::default() };
        gateway.shifts().0.set_region_policy(by("anna", asked)).await
    };
    refused(set(1.0).await, Reason::ApprovalNeeded, &[]);
    assert!(set(0.1).await.unwrap().into_inner().written, "less is always allowed");
}

#[tokio::test]
async fn what_moves_nothing_needs_nobodys_load() {
    let gateway = Gateway::start().await;
    let silent = v1::GatewayPresence { control_address: "127.0.0.1:1".to_owned(), ..Default::default() };
    gateway.write(&Key::Gateway("gw-2".to_owned()), silent).await;
    refused(gateway.wants("anna", drain(0)).await, Reason::GatewaySilent, &[("gateway", "gw-2")]);
    let policy = v1::RegionPolicy { in_flight_max: Some(9), ..Default::default() };
    let asked = v1::SetRegionPolicyRequest { region: GUANGZHOU, policy: Some(policy), ..Default::default() };
    assert!(gateway.shifts().0.set_region_policy(by("anna", asked)).await.unwrap().into_inner().written);
    let without = v1::SetNodeIntentRequest { without: vec!["gw-2".to_owned()], ..drain(0) };
    refused(gateway.wants("anna", without).await, Reason::ApprovalNeeded, &[]);
}
