use super::*;
use crate::table::{CEILINGS, Intent, Policy};
use proptest::prelude::*;

fn code(n: u32) -> Code {
    Code::new(n).unwrap()
}

fn node(name: &str, region: u32, role: Role, scopes: &[u32]) -> Arc<Node> {
    Arc::new(Node {
        name: name.into(),
        region: code(region),
        role,
        scopes: scopes.iter().map(|&s| code(s)).collect(),
        rps_max: None,
        ceilings: CEILINGS,
        intent: Intent::default(),
        is_static: false,
        endpoints: Vec::new(),
    })
}

fn guangzhou() -> Table {
    let mut table = Table::default();
    for n in [
        node("suikang", 440_100, Role::City, &[440_100]),
        node("yuekang", 440_000, Role::Province, &[440_000, 440_100]),
        node("xian", 610_100, Role::City, &[610_100]),
    ] {
        table.nodes.insert(n.name.clone(), n);
    }
    let peers = vec![("xian".into(), vec![Class::Scan])];
    table.policies.insert(code(440_100), Policy { peers, ..Policy::default() });
    table
}

fn signals(health: &[(&str, f64)]) -> Signals {
    let ready: BTreeMap<Code, i64> = [440_100, 440_000, 610_100].map(|n| (code(n), 0)).into();
    let nodes = health
        .iter()
        .map(|&(name, health)| {
            (name.into(), NodeSignal { health, ramp: 1.0, ready: ready.clone(), own_use: 0.0 })
        })
        .collect();
    Signals { nodes, ..Signals::default() }
}

fn plan(table: &Table, signals: &Signals) -> Plans {
    let now = Now { monotonic: Instant::now(), wall_ms: 1_800_000_000_000 };
    super::plan(table, signals, &Previous::default(), now)
}

fn candidate(name: &str, tier: u8, share: f64, reason: Reason) -> Candidate {
    let node = node(name, 440_100, Role::City, &[440_100]);
    Candidate { share, base: share, ..blank(&node, tier, reason, 1.0, 1.0) }
}

#[track_caller]
fn check(table: &Table, health: &[(&str, f64)], class: Class, expected: &[(&str, u8, f64, Reason)]) {
    let plans = plan(table, &signals(health));
    let route = &plans.regions[&code(440_100)][class.index()];
    let found: Vec<_> = route
        .candidates
        .iter()
        .map(|c| (&*c.node, c.tier, (c.share * 1000.0).round() / 1000.0, c.reason))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn the_city_answers_while_it_is_healthy() {
    let all = [("suikang", 1.0), ("yuekang", 1.0), ("xian", 1.0)];
    check(
        &guangzhou(),
        &all,
        Class::Show,
        &[("suikang", 0, 1.0, Reason::Primary), ("yuekang", 1, 0.0, Reason::Standby)],
    );
}

#[test]
fn a_dead_city_fails_over_to_its_province_then_to_peers() {
    check(
        &guangzhou(),
        &[("suikang", 0.0), ("yuekang", 1.0), ("xian", 1.0)],
        Class::Scan,
        &[
            ("suikang", 0, 0.0, Reason::Unhealthy),
            ("yuekang", 1, 1.0, Reason::Failover),
            ("xian", 2, 0.0, Reason::Standby),
        ],
    );
    check(
        &guangzhou(),
        &[("suikang", 0.0), ("yuekang", 0.0), ("xian", 1.0)],
        Class::Scan,
        &[
            ("suikang", 0, 0.0, Reason::Unhealthy),
            ("yuekang", 1, 0.0, Reason::Unhealthy),
            ("xian", 2, 1.0, Reason::Failover),
        ],
    );
}

#[test]
fn a_half_sick_city_keeps_what_its_health_allows() {
    check(
        &guangzhou(),
        &[("suikang", 0.5), ("yuekang", 1.0)],
        Class::Show,
        &[("suikang", 0, 0.7, Reason::Primary), ("yuekang", 1, 0.3, Reason::Failover)],
    );
}

#[test]
fn a_returning_city_takes_its_share_back_step_by_step() {
    let mut signals = signals(&[("suikang", 1.0), ("yuekang", 1.0)]);
    let mut shares = |ramp: f64, province: f64| {
        signals.nodes.get_mut("suikang").unwrap().ramp = ramp;
        signals.nodes.get_mut("yuekang").unwrap().health = province;
        let plans = plan(&guangzhou(), &signals);
        let route = &plans.regions[&code(440_100)][Class::Show.index()];
        [route.candidates[0].share, route.candidates[1].share]
    };
    assert_eq!(shares(0.25, 1.0), [0.25, 0.75]);
    assert_eq!(shares(0.0, 1.0), [MIN_RAMP, 1.0 - MIN_RAMP]);
    assert_eq!(shares(1.0, 1.0), [1.0, 0.0]);
    // Nobody else is there: the ramp gives way.
    assert_eq!(shares(0.25, 0.0), [1.0, 0.0]);
}

#[test]
fn nobody_healthy_fails_open_for_scan_and_show_and_closed_for_the_rest() {
    let none = [("suikang", 0.0), ("yuekang", 0.0), ("xian", 0.0)];
    let third = 0.333;
    check(
        &guangzhou(),
        &none,
        Class::Scan,
        &[
            ("suikang", 0, third, Reason::FailOpen),
            ("yuekang", 1, third, Reason::FailOpen),
            ("xian", 2, third, Reason::FailOpen),
        ],
    );
    check(
        &guangzhou(),
        &none,
        Class::Show,
        &[("suikang", 0, 0.5, Reason::FailOpen), ("yuekang", 1, 0.5, Reason::FailOpen)],
    );
    check(
        &guangzhou(),
        &none,
        Class::Query,
        &[("suikang", 0, 0.0, Reason::Unhealthy), ("yuekang", 1, 0.0, Reason::Unhealthy)],
    );
}

#[test]
fn drained_and_unready_nodes_get_nothing_even_when_nobody_else_is_there() {
    let mut table = guangzhou();
    let mut suikang = (*table.nodes["suikang"]).clone();
    suikang.intent.drained = true;
    table.nodes.insert("suikang".into(), Arc::new(suikang));
    check(
        &table,
        &[("suikang", 1.0)],
        Class::Show,
        &[("suikang", 0, 0.0, Reason::Drained), ("yuekang", 1, 0.0, Reason::NotReady)],
    );
}

#[test]
fn the_province_itself_is_tier_zero_for_its_own_code() {
    let plans = plan(&guangzhou(), &signals(&[("yuekang", 1.0)]));
    let route = &plans.regions[&code(440_000)][0];
    assert_eq!((route.candidates[0].tier, route.candidates[0].reason), (0, Reason::Primary));
}

proptest! {
    #[test]
    fn shares_add_up_and_excluded_candidates_get_nothing(
        city in 0.0..=1.0f64, province in 0.0..=1.0f64, peer in 0.0..=1.0f64, drained: bool, class in 0..4usize,
    ) {
        let mut table = guangzhou();
        if drained {
            let mut node = (*table.nodes["suikang"]).clone();
            node.intent.drained = true;
            table.nodes.insert("suikang".into(), Arc::new(node));
        }
        let plans = plan(&table, &signals(&[("suikang", city), ("yuekang", province), ("xian", peer)]));
        let route = &plans.regions[&code(440_100)][class];
        let sum: f64 = route.candidates.iter().map(|c| c.share).sum();
        prop_assert!((sum - 1.0).abs() < 1e-9 || sum == 0.0);
        for c in &route.candidates {
            prop_assert!(c.share == 0.0 || !c.reason.excludes());
        }
    }

    #[test]
    fn raising_a_share_only_adds_subjects(low in 0.05..0.5f64, more in 0.0..0.4f64, key: u64) {
        let route = |share: f64| Route {
            candidates: vec![
                candidate("a", 0, share, Reason::Primary),
                candidate("b", 1, 1.0 - share, Reason::Failover),
            ],
            ..Route::default()
        };
        let picked = |share: f64| route(share).pick(key).map(|pick| pick.candidate);
        if picked(low) == Some(0) {
            prop_assert_eq!(picked(low + more), Some(0));
        }
    }
}

#[test]
fn picks_follow_the_shares() {
    let shares = [0.5, 0.3, 0.2];
    let candidates =
        shares.iter().enumerate().map(|(i, &share)| candidate(&format!("n{i}"), 0, share, Reason::Primary));
    let route = Route { candidates: candidates.collect(), ..Route::default() };
    let mut seen = [0u32; 3];
    for key in 0..20_000u64 {
        seen[route.pick(mix(key)).unwrap().candidate] += 1;
    }
    for (count, share) in seen.iter().zip(shares) {
        assert!((f64::from(*count) / 20_000.0 - share).abs() < 0.01, "{seen:?}");
    }
}
