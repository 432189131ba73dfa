use super::*;
use crate::verbs::survey::tests::heard;
use std::time::Duration;
use suiyue_proto::v1::{EndpointInfo, ListNodesResponse, RegistryStatusResponse, TableInfo};

fn addresses() -> Vec<String> {
    vec!["a:1".into(), "b:1".into()]
}

fn at(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

/// Two gateways, each asked twice: 100 and 50 calls a second.
fn two(start: Instant) -> Picture {
    let mut picture = Picture::new(&addresses());
    for second in [0, 2] {
        let (first, other) = (100 * second, 50 * second);
        picture.take(0, Ok(heard(at(start, second), 1, 1_000 + first, 10 + second)), at(start, second));
        picture.take(1, Ok(heard(at(start, second), 7, other, 0)), at(start, second));
    }
    picture
}

#[test]
fn calls_of_all_gateways_are_added_up() {
    let picture = two(Instant::now());
    let [row] = &picture.rows()[..] else { panic!("{:?}", picture.rows()) };
    assert_eq!(
        (row.region, row.name.as_str(), row.name_zh, row.node.as_str()),
        (440_100, "Guangzhou", "广州市", "suikang")
    );
    assert_eq!((row.rps, row.share, row.tier), (150.0, Some(1.0), Some(0)));
    // 2 of 300 failed.
    assert!((row.errors.unwrap() - 2.0 / 300.0).abs() < 1e-9);
    assert!(row.p99_ms.is_some_and(|ms| (0.25..=0.5).contains(&ms)), "{row:?}");
    assert_eq!(picture.total().rps, 150.0);
}

#[test]
fn a_gateway_that_dies_is_told_and_no_longer_counted() {
    let start = Instant::now();
    let mut picture = two(start);
    picture.take(0, Err("Connection refused".into()), at(start, 3));
    picture.take(0, Err("Connection refused".into()), at(start, 9));
    assert_eq!(picture.total().rps, 50.0);
    assert_eq!(picture.rows()[0].share, Some(1.0), "the other one's plan is shown");
    let notes = picture.notes(at(start, 10));
    assert_eq!(notes[0], "! a:1: no answer for 7 s: Connection refused");
    let gateways = picture.gateways();
    assert_eq!(
        (gateways[0].error.as_deref(), gateways[1].error.as_deref()),
        (Some("Connection refused"), None)
    );
    picture.take(0, Ok(heard(at(start, 11), 2, 0, 0)), at(start, 11));
    assert!(picture.notes(at(start, 12)).iter().all(|note| !note.contains("no answer")));
}

#[test]
fn it_is_complete_when_everybody_has_a_rate_or_is_silent() {
    let start = Instant::now();
    let mut picture = Picture::new(&addresses());
    picture.take(0, Ok(heard(start, 1, 0, 0)), start);
    picture.take(1, Err("gone".into()), start);
    assert!(!picture.complete());
    picture.take(0, Ok(heard(at(start, 1), 1, 0, 0)), at(start, 1));
    assert!(picture.complete());
}

#[test]
fn utilization_is_the_nodes_of_all_regions_over_what_it_declared() {
    let start = Instant::now();
    let mut picture = Picture::new(&addresses()[..1]);
    for second in [0, 1] {
        let mut heard = heard(at(start, second), 1, 90 * second, 0);
        let mut other = heard.traffic.regions[0].clone();
        (other.region, other.nodes[0].calls) = (440_200, 10 * second);
        heard.traffic.regions.push(other);
        let node = NodeInfo { node: "suikang".into(), rps_max: 200, ..Default::default() };
        heard.nodes = ListNodesResponse { nodes: vec![node], table: None };
        picture.take(0, Ok(heard), at(start, second));
    }
    let rows = picture.rows();
    assert_eq!(rows.iter().map(|row| row.region).collect::<Vec<_>>(), [440_100, 440_200]);
    assert!(rows.iter().all(|row| row.utilization == Some(0.5)), "{rows:?}");
}

#[test]
fn states_are_told_in_few_words_with_their_level() {
    let endpoint = |health: Health| EndpointInfo { health: health.into(), ..Default::default() };
    let check = |reason: &str, ramp: f64, endpoints: &[Health], expected: (Level, &str)| {
        let traffic = NodeTraffic {
            node: "n".into(),
            candidate: true,
            reason: reason.into(),
            ramp,
            ..Default::default()
        };
        let endpoints = endpoints.iter().map(|&health| endpoint(health)).collect();
        let node = NodeInfo { endpoints, ..Default::default() };
        let (level, word) = state(&traffic, Some(&node));
        assert_eq!((level, word.as_str()), expected);
    };
    check("primary", 1.0, &[Health::Ok], (Level::Fine, "ok"));
    check("standby", 1.0, &[Health::Ok], (Level::Fine, "standby"));
    check("primary", 1.0, &[Health::Ok, Health::Ejected], (Level::Doubtful, "1 of 2 ok"));
    check("primary", 0.3, &[Health::Ok], (Level::Doubtful, "returns 30 %"));
    check("unhealthy", 1.0, &[Health::Ejected], (Level::Bad, "no endpoint"));
    check("stale", 1.0, &[Health::Ok], (Level::Bad, "old data"));
    check("fail_open", 1.0, &[Health::Ejected], (Level::Bad, "fail open"));
    check("drained", 1.0, &[Health::Ok], (Level::Off, "drained"));
    let nobody = state(&NodeTraffic::default(), None);
    assert_eq!(nobody, (Level::Bad, "reached nobody".to_owned()));
}

#[test]
fn a_view_of_a_part_of_the_gateways_says_so() {
    let start = Instant::now();
    let mut picture = Picture::new(&addresses()[..1]);
    let mut said = heard(start, 1, 0, 0);
    said.registry = Some(RegistryStatusResponse {
        gateways: vec![Default::default(); 3],
        alarms: vec![suiyue_proto::v1::Alarm { alarm: "frozen".into(), text: "nothing is applied".into() }],
        ..Default::default()
    });
    said.nodes.table = Some(TableInfo { gateway: "gw-1".into(), revision: 42, ..Default::default() });
    picture.take(0, Ok(said), start);
    let notes = picture.notes(start);
    assert!(notes[0].starts_with("gw-1: ") && notes[0].contains("revision 42"), "{notes:?}");
    assert_eq!(notes[1], "! gw-1: frozen: nothing is applied");
    assert_eq!(notes[2], "calls of 1 of 3 present gateways: --gateway takes a list");
}
