//! What a plan is bound to, whose limits count, and how long the log is.

use super::*;

#[tokio::test]
async fn an_approval_can_be_rehearsed() {
    let gateway = Gateway::start().await;
    let plan = gateway.plan(ShiftOrder { percent: 40.0, ..order() }).await.unwrap();
    let asked = ApproveShiftRequest { dry_run: true, ..approval(&plan) };
    let told = gateway.shifts().approve_shift(by("boris", asked)).await.unwrap().into_inner();
    assert!(told.until_unix_ms > crate::clock::unix_ms());
    refused(gateway.apply("anna", &plan).await, Reason::ApprovalNeeded, &[]);
    assert!(gateway.audited().await.is_empty());
    let other = ApproveShiftRequest { dry_run: true, at_rps: 1.0, ..approval(&plan) };
    refused(gateway.shifts().approve_shift(by("boris", other)).await, Reason::PlanStale, &[("key", "order")]);
}

#[tokio::test]
async fn a_plan_is_bound_to_the_demand_that_was_supposed_and_the_gateways_left_out() {
    let gateway = Gateway::start().await;
    let plan = async |at_rps: f64, without: &[&str]| {
        let without = without.iter().map(|id| (*id).to_owned()).collect();
        let asked = PlanShiftRequest { order: Some(order()), at_rps, without };
        gateway.shifts().plan_shift(Request::new(asked)).await.unwrap().into_inner()
    };
    let plain = plan(0.0, &[]).await;
    assert_eq!(plain.plan_hash, plan(-0.0, &[]).await.plan_hash);
    let busy = plan(4_000.0, &["gw-3", "gw-2"]).await;
    assert_eq!(busy.plan_hash, plan(4_000.0, &["gw-2", "gw-3", "gw-2"]).await.plan_hash);
    let hashes = [&plain, &busy, &plan(4_000.0, &[]).await, &plan(0.0, &["gw-2"]).await]
        .map(|plan| plan.plan_hash.clone());
    assert_eq!(hashes.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
    // What was shown is what is carried out, and approved.
    let stale = [("key", "order")];
    refused(gateway.apply("anna", &busy).await, Reason::PlanStale, &stale);
    refused(gateway.approve("boris", &busy).await, Reason::PlanStale, &stale);
    let without = vec!["gw-2".to_owned(), "gw-3".to_owned()];
    let asked = ApplyShiftRequest { at_rps: 4_000.0, without, ..application(&busy) };
    for at_rps in [f64::NAN, -1.0] {
        let asked = ApplyShiftRequest { at_rps, ..asked.clone() };
        let answer = gateway.shifts().apply_shift(by("anna", asked)).await;
        refused(answer, Reason::ShiftInvalid, &[("field", "at_rps")]);
    }
    let applied = gateway.shifts().apply_shift(by("anna", asked)).await.unwrap().into_inner();
    assert_eq!(applied.shift.unwrap().plan_hash, busy.plan_hash);
}

#[tokio::test]
async fn the_strictest_limits_of_all_gateways_count_and_that_they_differ_is_an_alarm() {
    let gateway = Gateway::start().await;
    let operator = Operator { two_person_above: 1.0, ..gateway.operator.clone() };
    let shifts = Shifts(operator);
    let present = async |id: &str, two_person_above| {
        let limits = Some(v1::OperatorLimits { two_person_above, canary_step_s: 600 });
        let unix_ms = crate::clock::unix_ms();
        let presence = v1::GatewayPresence { limits, unix_ms, ..Default::default() };
        gateway.write(&Key::Gateway(id.to_owned()), presence).await;
    };
    let plan = async || {
        let without = vec!["gw-2".to_owned()];
        let asked = PlanShiftRequest { order: Some(order()), without, ..Default::default() };
        shifts.plan_shift(Request::new(asked)).await.unwrap().into_inner().two_person_above
    };
    present("gw-1", 1.0).await;
    assert_eq!(plan().await, 1.0);
    let words = || {
        let alarms = gateway.operator.followed.as_ref().unwrap().alarms();
        alarms.into_iter().map(|alarm| alarm.word).collect::<Vec<_>>()
    };
    assert_eq!(words(), [""; 0]);
    present("gw-2", 0.05).await;
    assert_eq!((plan().await, words()), (0.05, vec!["limits_differ"]));
    present("gw-2", 1.0).await;
    assert_eq!((plan().await, words()), (1.0, Vec::new()));
}

#[tokio::test]
async fn a_shift_that_begins_takes_what_is_old_out_of_the_log() {
    let gateway = Gateway::start().await;
    let old = v1::Shift {
        id: "000000000001-00000000".to_owned(),
        order: Some(order()),
        start_unix_ms: 1,
        expires_unix_ms: 2,
        ..v1::Shift::default()
    };
    let runs = v1::Shift { id: "000000000002-00000000".to_owned(), expires_unix_ms: i64::MAX, ..old.clone() };
    for shift in [&old, &runs] {
        let key = Prefix::default().key(&Key::ShiftLog(shift.id.clone()));
        let puts = vec![(key, shift.encode_to_vec().into(), 0)];
        gateway.registry.commit(Txn { puts, ..Txn::default() }).await.unwrap();
    }
    let plan = gateway.plan(order()).await.unwrap();
    let begun = gateway.apply("anna", &plan).await.unwrap().shift.unwrap().id;
    let asked = ListShiftsRequest { history: true, ..Default::default() };
    let logged = gateway.shifts().list_shifts(Request::new(asked)).await.unwrap().into_inner().shifts;
    let ids: Vec<_> = logged.into_iter().map(|info| info.shift.unwrap().id).collect();
    assert_eq!(ids, [begun, runs.id]);
}
