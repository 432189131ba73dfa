//! What is decided without a node: clocks, paces, reports. Nodes are tried in the integration tests.

use super::{
    clock::{self, Ahead},
    pace,
    report::Question,
    *,
};
use std::time::Duration;
use suiyue_proto::v1::{Freshness, Served, ShowCodeResponse};

const NOW_MS: i64 = 1_800_000_000_000;

fn answer(issued_unix_s: i64, freshness: Freshness, as_of_unix_ms: i64) -> ShowCodeResponse {
    let served = Served { freshness: freshness.into(), as_of_unix_ms, ..Default::default() };
    ShowCodeResponse { served: Some(served), issued_unix_s, ..Default::default() }
}

#[test]
fn a_clock_is_judged_with_the_time_that_the_answer_took() {
    let check = |issued_s: i64, freshness, as_of_ms: i64, took_ms: u64, agrees: bool| {
        let answer = answer(NOW_MS / 1000 + issued_s, freshness, NOW_MS + as_of_ms);
        let ahead = clock::of_answer(&answer, NOW_MS, Duration::from_millis(took_ms));
        assert_eq!(clock::agrees(ahead), agrees, "{issued_s} {took_ms}: {ahead:?}");
    };
    use Freshness::{Authoritative, Replica};
    check(0, Authoritative, 0, 5, true);
    check(29, Authoritative, 29_000, 5, true);
    check(32, Authoritative, 32_000, 5, false);
    check(-32, Authoritative, -32_000, 5, false);
    // An answer that took long says less.
    check(32, Authoritative, 32_000, 4_000, true);
    // A copy may be old, its codes may not.
    check(0, Replica, -3_600_000, 5, true);
    check(-3600, Replica, -3_600_000, 5, false);
    assert!(!clock::agrees(Ahead { least: 30_001, most: 40_000 }));
}

#[test]
fn a_pace_is_slow_by_its_slowest_hundredth() {
    let mut took = pace::histogram();
    for _ in 0..98 {
        pace::record(&mut took, Duration::from_millis(10));
    }
    pace::record(&mut took, Duration::from_millis(300));
    assert!(!pace::within(&took, Duration::from_millis(200)));
    assert!(pace::within(&took, Duration::from_millis(310)));
    assert!(pace::shown(&took).starts_with("p50 10.0 ms, p99 300."), "{}", pace::shown(&took));
}

#[test]
fn a_report_names_what_failed() {
    let mut report = Report::new("127.0.0.1:9101");
    let question = |name: &str| Question {
        name: name.to_owned(),
        asked: String::new(),
        expected: String::new(),
        request: String::new(),
    };
    report.note(question("clock"), Err("skewed".to_owned()));
    report.note(question("reflection"), Ok("listed".to_owned()));
    report.skipped("golden", "none");
    assert_eq!(report.failed().map(|point| point.name.as_str()).collect::<Vec<_>>(), ["clock"]);
    assert_eq!((report.count(Outcome::Passed), report.count(Outcome::Skipped)), (1, 1));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["points"][0]["outcome"], "failed");
}

#[tokio::test]
async fn nobody_there_is_no_report() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let trial = Trial {
        own: None,
        address: free.to_string(),
        holders: Vec::new(),
        golden: Vec::new(),
        scan: Duration::from_millis(200),
        calls: 10,
        load: None,
    };
    let error = verify(&trial).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("{free} cannot be reached: ")), "{error}");
}
