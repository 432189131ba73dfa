//! What previews say, over federations of two nodes.

use super::*;
use crate::{
    plan::{Inputs, NodeSignal, Now, Previous},
    registry::shift::{complete, tests::order},
    table::{CEILINGS, Check, Endpoint, Intent, Node, Policy, Role},
};
use std::time::Instant;

const GUANGZHOU: u32 = 440_100;

fn code(number: u32) -> Code {
    Code::new(number).unwrap()
}

fn node(name: &str, region: u32, rps_max: u32) -> Arc<Node> {
    let endpoint = Endpoint {
        name: "e".into(),
        address: "127.0.0.1:1".into(),
        incarnation: 0,
        ready: vec![(code(GUANGZHOU), 0)],
        draining: false,
        check: Check::None,
        identity: None,
    };
    Arc::new(Node {
        name: name.into(),
        region: code(region),
        role: if region == GUANGZHOU { Role::City } else { Role::Province },
        scopes: vec![code(GUANGZHOU)],
        rps_max: (rps_max > 0).then_some(rps_max),
        ceilings: CEILINGS,
        intent: Intent::default(),
        is_static: true,
        endpoints: vec![endpoint],
    })
}

/// The city's node and the province's, both healthy; capacities as declared, 0: not.
fn ground(city: u32, province: u32, two_person_above: Option<f64>) -> Ground {
    let nodes = [node("suikang", GUANGZHOU, city), node("yuekang", 440_000, province)];
    let signal = NodeSignal {
        health: 1.0,
        ramp: 1.0,
        ready: BTreeMap::from([(code(GUANGZHOU), 0)]),
        ..NodeSignal::default()
    };
    let signals = nodes.iter().map(|node| (node.name.clone(), signal.clone())).collect();
    let table = Table {
        nodes: nodes.into_iter().map(|node| (node.name.clone(), node)).collect(),
        policies: BTreeMap::from([(code(GUANGZHOU), Policy { two_person_above, ..Policy::default() })]),
        ..Table::default()
    };
    let now = Now { monotonic: Instant::now(), wall_ms: 1_800_000_000_000, heard_ms: 1_800_000_000_000 };
    let inputs = Inputs {
        signals: Signals { nodes: signals, ..Signals::default() },
        previous: Previous::default(),
        now,
    };
    Ground { table, inputs }
}

/// What a preview starts from.
struct Ground {
    table: Table,
    inputs: Inputs,
}

/// Scans a second.
fn scans(rps: f64) -> Demand {
    Demand::from([(code(GUANGZHOU), [rps, 0.0, 0.0, 0.0])])
}

fn preview_of(ground: &Ground, demand: Demand, percent: f64, at_rps: f64) -> Preview {
    let order = complete(&ShiftOrder { percent, ..order() }).unwrap();
    preview((&ground.table, &ground.inputs), demand, &order, code(GUANGZHOU), (at_rps, 0.2)).unwrap()
}

fn load<'a>(preview: &'a Preview, node: &str) -> &'a NodeLoad {
    preview.nodes.iter().find(|load| load.node == node).unwrap()
}

#[test]
fn a_target_is_judged_by_the_calls_of_all_gateways() {
    let ground = ground(2_000, 500, None);
    // This gateway alone sees a tenth: 40 calls a second would be nothing to worry about.
    let fits = preview_of(&ground, scans(100.0), 40.0, 0.0);
    assert!(fits.refusals.is_empty(), "{fits:?}");
    let all = preview_of(&ground, scans(1_001.0), 40.0, 0.0);
    assert_eq!(all.refusals.len(), 1, "{all:?}");
    assert!(all.refusals[0].contains("yuekang would carry 400.4 of the 500"), "{:?}", all.refusals);
    assert!(all.refusals[0].contains("0.80"), "{:?}", all.refusals);
    let exactly = preview_of(&ground, scans(1_000.0), 40.0, 0.0);
    assert!(exactly.refusals.is_empty(), "{exactly:?}");
    let (city, province) = (load(&exactly, "suikang"), load(&exactly, "yuekang"));
    assert_eq!((city.rps_before, city.rps_after.round(), city.target), (1_000.0, 600.0, false));
    assert_eq!((province.rps_before, province.rps_after.round(), province.target), (0.0, 400.0, true));
}

#[test]
fn a_cap_does_not_hide_what_is_asked_of_a_target() {
    let ground = ground(2_000, 100, None);
    let preview = preview_of(&ground, scans(1_000.0), 100.0, 0.0);
    assert_eq!(load(&preview, "yuekang").rps_after, 1_000.0);
    assert!(preview.refusals[0].contains("10.00"), "{:?}", preview.refusals);
}

#[test]
fn a_demand_may_be_supposed() {
    let ground = ground(2_000, 500, None);
    let preview = preview_of(&ground, scans(10.0), 40.0, 2_000.0);
    assert_eq!(load(&preview, "yuekang").rps_after.round(), 800.0);
    assert_eq!(preview.refusals.len(), 1);
    let quiet = preview_of(&ground, Demand::new(), 40.0, 2_000.0);
    assert_eq!(load(&quiet, "yuekang").rps_after.round(), 800.0);
}

#[test]
fn what_other_shifts_still_grow_to_is_spoken_for() {
    let mut ground = ground(2_000, 500, None);
    // Another source of the same target, which has only begun.
    let mut table = ground.table.clone();
    table.policies.get_mut(&code(GUANGZHOU)).unwrap().weights =
        vec![("suikang".into(), 1.0), ("sibling".into(), 1.0)];
    table.nodes.insert("sibling".into(), node("sibling", GUANGZHOU, 2_000));
    let begun = Shift {
        id: "a".into(),
        region: code(GUANGZHOU),
        classes: Vec::new(),
        from: "sibling".into(),
        to: vec![("yuekang".into(), 1.0)],
        percent: 60.0,
        step: 1.0,
        every: std::time::Duration::from_secs(3_600),
        start_ms: 0,
        expires_at_ms: i64::MAX,
        back: Default::default(),
        guards: Default::default(),
        held_ms: None,
    };
    table.shifts = vec![Arc::new(Shift { start_ms: 1_800_000_000_000, ..begun })];
    let inputs = &mut ground.inputs;
    let signal = inputs.signals.nodes[&Arc::<str>::from("suikang")].clone();
    inputs.signals.nodes.insert("sibling".into(), signal);
    ground.table = table;
    let preview = preview_of(&ground, scans(1_000.0), 40.0, 0.0);
    // 60 % of 500 and 40 % of 500.
    assert_eq!(load(&preview, "yuekang").rps_after.round(), 500.0);
    assert_eq!(load(&preview, "yuekang").rps_before.round(), 300.0);
    assert_eq!(preview.refusals.len(), 1);
}

#[test]
fn how_much_moves_counts_calls_not_classes() {
    let ground = ground(0, 0, Some(0.3));
    let mut order = complete(&ShiftOrder { percent: 50.0, ..order() }).unwrap();
    order.classes = vec![Class::Show.to_proto().into()];
    let demand = Demand::from([(code(GUANGZHOU), [900.0, 100.0, 0.0, 0.0])]);
    let few = preview((&ground.table, &ground.inputs), demand, &order, code(GUANGZHOU), (0.0, 0.2)).unwrap();
    assert!((few.moves - 0.05).abs() < 1e-9 && !few.needs_approval, "{few:?}");
    let demand = Demand::from([(code(GUANGZHOU), [100.0, 900.0, 0.0, 0.0])]);
    let many = preview((&ground.table, &ground.inputs), demand, &order, code(GUANGZHOU), (0.0, 0.2)).unwrap();
    assert!((many.moves - 0.45).abs() < 1e-9 && many.needs_approval, "{many:?}");
}

#[test]
fn who_cannot_be_judged_or_used_is_warned_of() {
    let mut ground = ground(2_000, 0, None);
    let inputs = &mut ground.inputs;
    inputs.signals.nodes.get_mut("yuekang").unwrap().health = 0.0;
    let preview = preview_of(&ground, scans(100.0), 40.0, 0.0);
    assert_eq!(preview.warnings.len(), 2, "{:?}", preview.warnings);
    assert!(preview.warnings[0].contains("declares no capacity"));
    assert!(preview.warnings[1].contains("cannot be used"));
    assert_eq!(preview.moves, 0.0);
}
