//! A city with two endpoints, its province, and strangers, with counters raised by hand.

use super::*;
use crate::{
    health::{Doubt, Outcome},
    table::{Intent, Role},
    telemetry::{
        exposition::{self, Format, Scene},
        histogram::Histogram,
    },
};

const GUANGZHOU: u32 = 440_100;
const GUANGDONG: u32 = 440_000;

fn code(n: u32) -> Code {
    Code::new(n).unwrap()
}

fn node(name: &str, region: u32, scopes: &[u32], endpoints: usize) -> Arc<Node> {
    let ready: Vec<(Code, i64)> = scopes.iter().map(|&scope| (code(scope), 0)).collect();
    let endpoint = |i: usize| Endpoint {
        name: format!("{name}-{i}").into(),
        address: "127.0.0.1:1".into(),
        incarnation: 1,
        ready: ready.clone(),
        draining: false,
        check: Check::None,
        identity: None,
    };
    Arc::new(Node {
        name: name.into(),
        region: code(region),
        role: if region.is_multiple_of(10_000) { Role::Province } else { Role::City },
        scopes: scopes.iter().map(|&scope| code(scope)).collect(),
        rps_max: None,
        ceilings: crate::table::CEILINGS,
        intent: Intent::default(),
        is_static: true,
        endpoints: (1..=endpoints).map(endpoint).collect(),
    })
}

fn table(nodes: &[Arc<Node>]) -> Table {
    let nodes = nodes.iter().map(|node| (node.name.clone(), node.clone())).collect();
    Table { nodes, ..Table::default() }
}

struct World {
    fleet: Fleet,
    table: Table,
    now: Instant,
    signals: BTreeMap<Arc<str>, NodeSignal>,
    demand: BTreeMap<Code, [f64; 4]>,
}

/// Needs a runtime: every endpoint has a checker.
fn world(nodes: &[Arc<Node>]) -> World {
    let table = table(nodes);
    let mut fleet = Fleet::new(1, Duration::from_secs(60), Arc::new(Metrics::new(1)));
    fleet.follow(&table);
    let mut world =
        World { fleet, table, now: Instant::now(), signals: BTreeMap::new(), demand: BTreeMap::new() };
    world.judge();
    world
}

impl World {
    fn judge(&mut self) {
        self.now += Duration::from_millis(250);
        self.signals = self.fleet.judge(&self.table, &self.demand, 1, self.now);
    }

    fn vitals(&self, endpoint: &str) -> Arc<Vitals> {
        self.fleet.vitals().into_iter().find(|vitals| &*vitals.endpoint.name == endpoint).unwrap()
    }

    fn fail(&mut self, endpoint: &str) {
        self.end(endpoint, Outcome::Own, 5);
    }

    fn end(&mut self, endpoint: &str, outcome: Outcome, times: usize) {
        let vitals = self.vitals(endpoint);
        for _ in 0..times {
            vitals.lane(0).begin();
            vitals.lane(0).end(outcome, 1, self.now);
        }
    }

    #[track_caller]
    fn check(&self, expected: &[(&str, State)]) {
        for (endpoint, state) in expected {
            assert_eq!(self.vitals(endpoint).state(), *state, "{endpoint}");
        }
    }

    #[track_caller]
    fn health(&self, node: &str, expected: f64) {
        let health = self.signals[node].health;
        assert!((health - expected).abs() < 1e-9, "{node}: {health}");
    }
}

fn city_and_province() -> World {
    world(&[
        node("city", GUANGZHOU, &[GUANGZHOU], 2),
        node("province", GUANGDONG, &[GUANGZHOU, GUANGDONG], 1),
    ])
}

#[tokio::test]
async fn one_of_two_endpoints_is_ejected_and_the_other_carries_on() {
    let mut world = city_and_province();
    world.fail("city-1");
    world.judge();
    world.check(&[("city-1", State::Ejected), ("city-2", State::Ok), ("province-1", State::Ok)]);
    world.health("city", 0.5);
}

#[tokio::test]
async fn of_a_failing_city_both_go_while_the_province_has_room() {
    let mut world = city_and_province();
    world.fail("city-1");
    world.fail("city-2");
    world.judge();
    world.check(&[("city-1", State::Ejected), ("city-2", State::Ejected)]);
    world.health("city", 0.0);
}

#[tokio::test]
async fn where_everybody_fails_together_the_last_one_is_spared() {
    let mut world = city_and_province();
    for endpoint in ["city-1", "city-2", "province-1"] {
        world.fail(endpoint);
    }
    world.judge();
    world.check(&[("city-1", State::Ejected), ("city-2", State::Ejected), ("province-1", State::Ok)]);
    world.health("province", 0.1);
    // Nobody has room for the city's calls any more: its ejections end, at a tenth of the weight.
    world.judge();
    world.check(&[("city-1", State::Ok), ("city-2", State::Ok)]);
    world.health("city", 0.1);
}

#[tokio::test]
async fn a_province_is_not_ejected_for_its_own_region_that_nobody_else_serves() {
    let mut world = city_and_province();
    world.fail("province-1");
    world.judge();
    world.check(&[("province-1", State::Ok)]);
    world.health("province", 0.1);
}

#[tokio::test]
async fn a_node_that_refuses_has_no_room_for_others() {
    let mut world = city_and_province();
    world.end("province-1", Outcome::Refused, 50);
    world.judge();
    for endpoint in ["city-1", "city-2"] {
        world.fail(endpoint);
    }
    world.judge();
    world.check(&[("city-1", State::Ejected), ("city-2", State::Ok)]);
    world.health("province", 1.0);
}

#[tokio::test]
async fn the_way_back_is_half_open_then_a_ramp() {
    let mut world = city_and_province();
    world.now += Duration::from_secs(20);
    world.fail("city-1");
    world.fail("city-2");
    world.judge();
    world.now += Duration::from_secs(7);
    world.judge();
    world.check(&[("city-1", State::HalfOpen), ("city-2", State::HalfOpen)]);
    let signal = &world.signals["city"];
    assert!(signal.health > 0.9 && signal.ramp <= 0.5, "a small share brings the probes: {signal:?}");
    for endpoint in ["city-1", "city-2"] {
        world.end(endpoint, Outcome::Good, 3);
    }
    world.judge();
    world.check(&[("city-1", State::Ok), ("city-2", State::Ok)]);
    assert!(world.signals["city"].ramp < 0.03, "{:?}", world.signals["city"]);
    assert!(world.vitals("city-1").weight() <= 110);
}

#[tokio::test]
async fn the_share_of_a_half_open_province_counts_the_calls_of_its_cities() {
    let mut world = world(&[
        node("province", GUANGDONG, &[GUANGZHOU, GUANGDONG], 1),
        node("sibling", GUANGDONG, &[GUANGZHOU, GUANGDONG], 1),
    ]);
    world.demand = [(code(GUANGZHOU), [60.0, 0.0, 0.0, 0.0]), (code(GUANGDONG), [0.0, 1.0, 0.0, 0.0])].into();
    world.fail("province-1");
    world.judge();
    world.check(&[("province-1", State::Ejected)]);
    world.now += Duration::from_secs(7);
    world.judge();
    world.check(&[("province-1", State::HalfOpen)]);
    let signal = &world.signals["province"];
    assert!(signal.probing && (signal.ramp - 3.0 / 61.0).abs() < 1e-9, "{signal:?}");
    assert!(!world.signals["sibling"].probing);
}

#[tokio::test]
async fn a_short_doubt_of_the_only_endpoint_does_not_start_a_ramp() {
    let mut world = city_and_province();
    world.now += Duration::from_secs(20);
    world.judge();
    world.vitals("province-1").doubt(Doubt::ConnectionLost);
    world.judge();
    world.check(&[("province-1", State::Suspect)]);
    world.health("province", 0.0);
    let report = check::Report { standing: check::Standing::Up, vouched: Some(1) };
    world.vitals("province-1").report(report);
    world.judge();
    world.check(&[("province-1", State::Ok)]);
    assert!((world.signals["province"].ramp - 1.0).abs() < 1e-9);
}

#[tokio::test]
async fn when_most_nodes_fail_together_nobody_is_ejected() {
    let names = ["a", "b", "c", "d"];
    let mut world = world(&names.map(|name| node(name, GUANGZHOU, &[GUANGZHOU], 1)));
    for name in &names[..3] {
        let endpoint = format!("{name}-1");
        world.vitals(&endpoint).doubt(Doubt::ConnectionLost);
        world.fail(&endpoint);
    }
    world.judge();
    world.check(&[("a-1", State::Suspect), ("b-1", State::Suspect), ("d-1", State::Ok)]);
    for name in names {
        world.health(name, 1.0);
    }
    let scene = Scene {
        metrics: world.fleet.metrics.clone(),
        snapshot: Arc::default(),
        rebuilds: Histogram::default().read(),
        expiries: Vec::new(),
        age: None,
        registry: None,
    };
    let text = exposition::text(scene, Format::OpenMetrics).unwrap();
    assert!(text.contains("suiyue_self_isolation 1") && text.contains("suiyue_self_isolations_total 1"));
    world.now += isolation::FREEZE;
    world.judge();
    assert!(world.vitals("a-1").state() != State::Ok, "afterwards they are judged again");
}

#[tokio::test]
async fn a_new_incarnation_starts_clean_in_the_same_slot() {
    let mut world = city_and_province();
    world.fail("city-1");
    world.judge();
    let slot = world.vitals("city-1").slot;
    let mut fresh = Node::clone(&world.table.nodes["city"]);
    fresh.endpoints[0].incarnation = 2;
    world.table.nodes.insert("city".into(), Arc::new(fresh));
    world.fleet.follow(&world.table);
    world.judge();
    assert_eq!((world.vitals("city-1").slot, world.vitals("city-1").state()), (slot, State::Ok));
    world.health("city", 1.0);
}
