use super::*;
use crate::verbs::survey::tests::heard;
use suiyue_proto::v1::{
    self, EndpointInfo, Health, HeldEntry, NodeInfo, NodeIntent, NodeTraffic, RegistryStatusResponse, Stage,
    TableInfo,
};

fn endpoint(health: Health, reason: &str, age_ms: u64) -> EndpointInfo {
    EndpointInfo {
        health: health.into(),
        health_reason: reason.into(),
        health_age_ms: age_ms,
        ..Default::default()
    }
}

/// Suikang answers for Guangzhou; yuekang stands by.
fn well(calls: u64, failed: u64) -> Heard {
    let mut said = heard(Instant::now(), 1, calls, failed);
    let standby = NodeTraffic {
        node: "yuekang".into(),
        candidate: true,
        tier: 1,
        reason: "standby".into(),
        ramp: 1.0,
        ..Default::default()
    };
    said.traffic.regions[0].nodes.push(standby);
    let node = |name: &str, region| NodeInfo {
        node: name.into(),
        region,
        endpoints: vec![endpoint(Health::Ok, "", 0)],
        ..Default::default()
    };
    said.nodes.nodes = vec![node("suikang", 440_100), node("yuekang", 440_000)];
    said.nodes.table = Some(TableInfo { gateway: "gw-1".into(), ..Default::default() });
    said
}

/// The same with suikang gone: yuekang takes over.
fn failed_over() -> Heard {
    let mut said = well(0, 0);
    said.nodes.nodes[0].endpoints = vec![endpoint(Health::Ejected, "connection refused", 12_000)];
    let nodes = &mut said.traffic.regions[0].nodes;
    (nodes[0].share, nodes[0].reason) = (0.0, "unhealthy".into());
    (nodes[1].share, nodes[1].reason) = (1.0, "failover".into());
    said
}

fn told(said: &Heard) -> Vec<(Level, Option<u64>, String, String, String)> {
    let found = findings::merged(findings::of(said, None));
    found.into_iter().map(|f| (f.level, f.since_ms, f.about, f.what, f.doing)).collect()
}

#[track_caller]
fn one(said: &Heard, level: Level, since_ms: Option<u64>, parts: [&str; 3]) {
    let told = told(said);
    let [(found, since, about, what, doing)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((*found, *since), (level, since_ms), "{told:?}");
    for (text, part) in [about, what, doing].into_iter().zip(parts) {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn nothing_is_wrong_where_nothing_is() {
    assert_eq!(told(&well(100, 0)), []);
    let document = document(&["a:1".into()], &[Ok(well(0, 0))], vec![Ok(well(100, 0))]);
    assert_eq!(document.worst, None);
    assert_eq!(text(&document), "Nothing is wrong: 1 regions, 2 nodes, 1 of 1 gateways answer.");
}

#[test]
fn a_lost_node_is_told_with_its_age_and_who_carries_its_calls() {
    let parts = ["node suikang", "no endpoint in rotation (connection refused)", "yuekang 100 % (failover)"];
    one(&failed_over(), Level::Warning, Some(12_000), parts);
}

#[test]
fn a_region_without_anybody_is_the_worst() {
    let mut said = failed_over();
    said.nodes.nodes[1].endpoints = vec![endpoint(Health::Ejected, "no answer", 3_000)];
    let region = &mut said.traffic.regions[0];
    region.available = false;
    (region.nodes[1].share, region.nodes[1].reason) = (0.0, "unhealthy".into());
    let told = told(&said);
    assert_eq!(told.len(), 3, "{told:?}");
    let (level, since, about, what, doing) = &told[0];
    assert_eq!((*level, *since, about.as_str()), (Level::Critical, Some(3_000), "region 440100 Guangzhou"));
    assert!(what.contains("suikang unhealthy, yuekang unhealthy") && doing.contains("refused"), "{told:?}");
    said.traffic.regions[0].nodes[0].reason = "fail_open".into();
    let told = self::told(&said);
    assert!(told[0].4.contains("tried"), "{told:?}");
}

#[test]
fn part_of_a_node_what_operators_want_and_what_returns_are_less() {
    let mut half = well(0, 0);
    half.nodes.nodes[0].endpoints.push(endpoint(Health::Suspect, "slow", 4_000));
    one(
        &half,
        Level::Warning,
        Some(4_000),
        ["node suikang", "1 of 2 endpoints not in rotation (slow)", "carry on"],
    );
    let mut drained = failed_over();
    drained.nodes.nodes[0].intent = Some(NodeIntent { drained: true, ..Default::default() });
    one(&drained, Level::Notice, None, ["node suikang", "drained by an operator", "undrain suikang"]);
    let mut canary = well(0, 0);
    let intent = NodeIntent { stage: Stage::Canary.into(), canary_percent: 25, ..Default::default() };
    canary.nodes.nodes[0].intent = Some(intent);
    one(&canary, Level::Notice, None, ["node suikang", "canary-25", "promote suikang"]);
    let mut returning = well(0, 0);
    returning.traffic.regions[0].nodes[0].ramp = 0.3;
    one(&returning, Level::Notice, None, ["node suikang", "returns", "suikang 100 %"]);
    let mut gone = well(0, 0);
    gone.nodes.nodes[1].endpoints.clear();
    one(&gone, Level::Warning, None, ["node yuekang", "none of its endpoints is registered", ""]);
}

#[test]
fn what_a_route_says_of_a_node_is_told_once_with_its_regions() {
    let mut said = well(0, 0);
    let rule = "not ready: it has not loaded the region's holders";
    for code in [440_200, 440_300, 440_400, 440_500] {
        let mut region = said.traffic.regions[0].clone();
        region.region = code;
        (region.nodes[1].reason, region.nodes[1].rules) = ("not_ready".into(), vec![rule.into()]);
        said.traffic.regions.push(region);
    }
    one(&said, Level::Warning, None, ["node yuekang", "holders (for 440200, 440300, 440400 and 1 more)", ""]);
    let mut full = well(0, 0);
    let rules = vec![suiyue_gateway::plan::Rule::NobodyHasRoom.to_string()];
    full.traffic.regions[0].nodes[0].rules = rules;
    one(&full, Level::Warning, None, ["node suikang", "nobody else has room (for 440100)", ""]);
}

#[test]
fn the_registry_is_told_with_what_goes_on_without_it() {
    let mut away = well(0, 0);
    away.nodes.table.as_mut().unwrap().age_ms = 9_000;
    away.registry = Some(RegistryStatusResponse { lost: "connection refused".into(), ..Default::default() });
    one(
        &away,
        Level::Warning,
        Some(9_000),
        ["registry", "does not answer: connection refused", "go on without it"],
    );
    let alarm = |word: &str| v1::Alarm { alarm: word.into(), text: "so it is".into() };
    let mut held = well(0, 0);
    held.registry = Some(RegistryStatusResponse {
        alarms: vec![alarm("entries_held")],
        held: vec![HeldEntry { age_ms: 61_000, ..Default::default() }],
        ..Default::default()
    });
    one(&held, Level::Warning, Some(61_000), ["registry", "so it is", "registry accept"]);
    let mut nothing = well(0, 0);
    nothing.registry =
        Some(RegistryStatusResponse { alarms: vec![alarm("nothing_known")], ..Default::default() });
    one(&nothing, Level::Critical, None, ["registry", "so it is", "configuration"]);
    let mut bad = well(0, 0);
    let quarantined = v1::Quarantined { key: "/a".into(), reason: "no policy".into() };
    bad.nodes.table.as_mut().unwrap().quarantined = vec![quarantined];
    one(&bad, Level::Warning, None, ["registry", "/a cannot be used: no policy", "left out"]);
}

#[test]
fn failures_and_fullness_are_counted_over_the_time_between() {
    let found = |failed: u64, change: fn(&mut Heard)| {
        let (mut before, mut now) = (well(0, 0), well(200, failed));
        now.at = before.at + Duration::from_secs(1);
        change(&mut before);
        change(&mut now);
        findings::of(&now, between(&before, &now).as_ref())
    };
    assert_eq!(found(1, |_| ()), []);
    let [failing] = &found(20, |_| ())[..] else { panic!("one finding") };
    assert_eq!((failing.level, failing.about.as_str()), (Level::Warning, "region 440100 Guangzhou"));
    assert_eq!(failing.what, "calls at suikang fail: 20 of 200 in 1 s");
    let nobody = found(20, |said| said.traffic.regions[0].nodes[0].node.clear());
    assert_eq!(nobody[0].level, Level::Critical, "{nobody:?}");
    let [full] = &found(0, |said| said.nodes.nodes[0].rps_max = 200)[..] else { panic!("one finding") };
    assert!(full.level == Level::Notice && full.what.contains("declared 200"), "{full:?}");
}

#[test]
fn gateways_that_are_silent_or_disagree_are_told_and_equal_findings_are_one() {
    let mut other = failed_over();
    other.traffic.gateway = "gw-2".into();
    other.nodes.nodes[0].endpoints[0].health_age_ms = 15_000;
    let hash = |said: &mut Heard, name: &str, hash: &str| {
        let table = said.nodes.table.as_mut().unwrap();
        (table.revision, table.gateway, table.table_hash) = (42, name.into(), hash.into());
    };
    let mut first = failed_over();
    hash(&mut first, "gw-1", "aa");
    hash(&mut other, "gw-2", "bb");
    let addresses = ["a:1".to_owned(), "b:1".to_owned(), "c:1".to_owned()];
    let silent = || Err("Connection refused".to_owned());
    let document =
        document(&addresses, &[silent(), silent(), silent()], vec![Ok(first), Ok(other), silent()]);
    let lines: Vec<_> =
        document.findings.iter().map(|f| (f.about.as_str(), f.since_ms, f.gateways.len())).collect();
    assert_eq!(
        lines,
        [("node suikang", Some(15_000), 2), ("gateway c:1", None, 0), ("registry", None, 0)],
        "{:?}",
        document.findings
    );
    let text = text(&document);
    for part in [
        "3 warnings: 1 regions, 2 nodes, 2 of 3 gateways answer.",
        "WARNING      15 s  node suikang: no endpoint in rotation (connection refused)",
        "calls of 440100 go to yuekang 100 % (failover)",
        "seen by gw-1, gw-2",
        "gateway c:1: it does not answer: Connection refused",
        "gw-1 against gw-2",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let nobody = super::document(&addresses[..1], &[silent()], vec![silent()]);
    assert_eq!(nobody.worst, Some(Level::Critical));
}
