use super::*;
use crate::{
    config::{Config, Overrides},
    control::{Control, Setup},
    telemetry::{AnswerReason, End, Recent},
};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::atomic::{AtomicI64, AtomicU32, Ordering::Relaxed},
};
use suiyue_proto::{
    method::Class,
    verdict::{Kind, Tally},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const NODES: &str = r#"
[[node]]
name = "suikang"
region = 440100
addresses = ["127.0.0.1:1"]
health = "none"
[[node]]
name = "yuekang"
region = 440000
scopes = [440000, 440100]
addresses = ["127.0.0.1:2"]
health = "none"
"#;

fn end(region: u32, tier: u8, code: u8) -> End {
    let reason = if tier == 0 { AnswerReason::Primary } else { AnswerReason::Failover };
    End { region, class: Class::Scan, tier, reason, code, retried: false }
}

/// A gateway with a city and its province, after some calls.
async fn scene() -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.toml");
    std::fs::write(&file, NODES).unwrap();
    let config = Config::load(Some(&file), &Overrides::default()).unwrap();
    let (_tables, table) = watch::channel(Arc::new(config.table));
    let metrics = Arc::new(Metrics::new(2));
    let (control, snapshots) = Control::new(Setup {
        tables: table,
        ramp: Duration::ZERO,
        workers: 2,
        metrics: metrics.clone(),
        gateways: Arc::new(AtomicU32::new(1)),
        heard_ms: Arc::new(AtomicI64::new(i64::MAX)),
        trust: None,
    });
    // Cancelled: it publishes once and ends.
    let stop = CancellationToken::new();
    stop.cancel();
    control.run(stop).await;
    let (city, province): (Arc<str>, Arc<str>) = ("suikang".into(), "yuekang".into());
    for worker in 0..2 {
        let recent = Recent::default();
        recent.count(&metrics, worker, &city, end(440_100, 0, 0), Duration::from_millis(1));
        recent.count(&metrics, worker, &province, end(440_100, 1, 0), Duration::from_millis(3));
        recent.count(&metrics, worker, &province, end(440_000, 0, 14), Duration::from_millis(3));
        let tally: Tally = [Kind::Pass, Kind::Pass, Kind::SubjectUnknown].into_iter().collect();
        recent.count_verdicts(&metrics, worker, (&city, 440_100), tally);
        recent.count_verdicts(&metrics, worker, (&city, 440_100), tally);
    }
    metrics.traces.overflowed.store(5, Relaxed);
    let rebuilds = snapshots.rebuilds.read();
    let held = vec![Cause::TooMany, Cause::TooMany, Cause::Restored];
    let registry = Following { held, alarms: vec!["entries_held"], gateways: 3 };
    Scene {
        metrics,
        snapshot: snapshots.current(),
        rebuilds,
        expiries: vec![("spiffe://lingnan/gateway/gw-1".to_owned(), 0)],
        age: Some(Duration::from_secs(2)),
        registry: Some(registry),
    }
}

#[tokio::test]
async fn a_page_tells_of_calls_verdicts_table_and_nodes() {
    let text = text(scene().await, Format::Prometheus).unwrap();
    let calls = "suiyue_calls_total{region=\"440100\",node=\"suikang\",tier=\"0\",class=\"scan\",\
                 reason=\"primary\",status=\"0\",retried=\"false\"} 2";
    let outside =
        "suiyue_calls_outside_first_tier_total{region=\"440100\",from=\"suikang\",to=\"yuekang\"} 2";
    let verdicts = |kind: &str, n: u32| {
        format!("suiyue_verdicts_total{{region=\"440100\",node=\"suikang\",verdict=\"{kind}\"}} {n}")
    };
    for line in [
        calls,
        outside,
        &verdicts("pass", 8),
        &verdicts("unknown.subject_unknown", 4),
        "suiyue_call_duration_seconds_count{node=\"yuekang\",class=\"scan\"} 4",
        "suiyue_table_source{source=\"static\"} 1.0",
        "suiyue_table_source{source=\"etcd\"} 0.0",
        "suiyue_table_age_seconds 2.0",
        "suiyue_registry_held_keys{cause=\"too_many\"} 2.0",
        "suiyue_registry_held_keys{cause=\"region_empty\"} 0.0",
        "suiyue_registry_alarm{alarm=\"entries_held\"} 1.0",
        "suiyue_registry_alarm{alarm=\"frozen\"} 0.0",
        "suiyue_registry_gateways 3.0",
        "suiyue_plan_generation 1.0",
        "suiyue_worker_plan{worker=\"0\"} 0.0",
        "suiyue_plan_rebuild_seconds_count 1",
        "suiyue_nodes{health=\"healthy\"} 2.0",
        "suiyue_nodes{health=\"down\"} 0.0",
        "suiyue_endpoints{state=\"ok\"} 2.0",
        "suiyue_trace_lost_total{cause=\"queue\"} 5",
        "suiyue_connections_refused_total 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
    // A province's own region is not outside of its first tier, and classes without verdicts are left out.
    assert!(!text.contains("first_tier_total{region=\"440000\""), "{text}");
    assert!(!text.contains("verdict=\"deny\""), "{text}");
    assert!(!text.contains("# EOF"), "{text}");
}

/// Families by the names of their samples.
fn exposed(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

#[tokio::test]
async fn the_table_of_the_readme_lists_every_family_and_no_other() {
    let text = text(scene().await, Format::Prometheus).unwrap();
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let documented: BTreeSet<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("suiyue_") || name.starts_with("process_"))
        .collect();
    let exposed = exposed(&text);
    let missing: Vec<_> = exposed.difference(&documented).collect();
    let extra: Vec<_> = documented.difference(&exposed).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "not in deploy/README.md: {missing:?}; only there: {extra:?}"
    );
}
