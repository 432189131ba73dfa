//! What becomes of a system that is asked ten times as often as it can answer?
//!
//! The real code system, which works on eight calls at a time, 20 ms each: nearly 400 a second. It must go
//! on answering as many, scans before shows before queries; nobody may mistake it for a sick one; and when
//! the surge is over nobody may be sent away any more.

use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::process::Command;
use suiyue_tests::{
    federation::Federation,
    node::{HOLDERS, Node, SEED},
    programs,
    region::GUANGZHOU,
    table::remark,
};

/// Calls a second that the node could answer if its timers were exact.
const NOMINAL: u32 = 400;
/// A node with these places.
const BUSY: &str = "[emulated_work]\nslots = 8\nwork_ms = 20";
/// Of a hundred calls; at ten times the capacity scans are 0.6 of it.
const MIX: &str = "scan=6,show=34,query=60";
/// How long each step lasts.
const SECONDS: u32 = 12;

/// Calls of the load driver; its report.
async fn load(federation: &Federation, rate: u32, mix: &str) -> anyhow::Result<Value> {
    let server = federation.gateway().data.to_string();
    let mut command = Command::new(programs::suiyue());
    command
        .args(["load", "--server", &server, "--rate", &rate.to_string(), "--seconds", &SECONDS.to_string()])
        .args(["--regions", "440100", "--holders", &HOLDERS.to_string(), "--seed", &SEED.to_string()])
        .args(["--mix", mix, "--connections", "16", "-o", "json"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&text).with_context(|| format!("{text} {}", String::from_utf8_lossy(&output.stderr)))
}

/// Calls that were made, and those of them that were answered.
fn answered(line: &Value) -> anyhow::Result<(f64, f64)> {
    let (calls, failed) = (line["calls"].as_f64(), line["failed"].as_f64());
    let calls = calls.context("calls")?;
    Ok((calls, calls - failed.context("failed")?))
}

/// What was refused was refused for one reason.
fn only_shed(report: &Value) -> anyhow::Result<()> {
    for fault in report["faults"].as_array().context("faults")? {
        ensure!(fault["reason"] == "SHED_LOW_PRIORITY", "{fault} in {report:#}");
    }
    Ok(())
}

#[tokio::test]
async fn ten_times_its_capacity_leaves_a_node_at_its_capacity_and_scans_first() -> anyhow::Result<()> {
    let populated =
        format!("[[population]]\nregion = {GUANGZHOU}\nholders = {HOLDERS}\nseed = {SEED}\n{BUSY}");
    let city = Node::codes("city", GUANGZHOU).tables(&populated);
    let federation = Federation::builder().node(city).start().await?;
    let calm = load(&federation, NOMINAL / 2, MIX).await?;
    ensure!(calm["failed"] == 0, "{calm:#}");
    // What it can do here and now.
    let (_, capacity) = answered(&load(&federation, NOMINAL * 3 / 2, "scan=1").await?)?;
    for times in [2, 3, 10] {
        let report = load(&federation, times * NOMINAL, MIX).await?;
        only_shed(&report)?;
        ensure!(report["wrong_verdict"] == 0, "{report:#}");
        let part = |kind| answered(&report["by_class"][kind]).map(|(calls, answered)| answered / calls);
        let (scan, show, query) = (part("scan")?, part("show")?, part("query")?);
        let (_, done) = answered(&report)?;
        remark(&format!(
            "{times} x the capacity: goodput {:.3} of it, scan {scan:.4}, show {show:.3}, query {query:.3}; \
             p99 of scans {} ms",
            done / capacity,
            report["by_class"]["scan"]["p99_ms"],
        ))?;
        ensure!(scan >= show && show >= query, "{times} x: {report:#}");
        ensure!(scan >= 0.95 && query < 1.0, "{times} x: {report:#}");
    }
    // Whoever was sent away is let in again, within two seconds of calm.
    load(&federation, NOMINAL / 2, MIX).await?;
    let after = load(&federation, NOMINAL / 2, MIX).await?;
    ensure!(after["failed"] == 0, "{after:#}");
    let (_, metrics) = federation.gateway().admin("/metrics").await?;
    let shed = metrics.lines().find_map(|line| line.strip_prefix("suiyue_shed_total "));
    ensure!(shed.context("no counter")?.parse::<u64>()? > 0, "{metrics}");
    // It came into rotation when it was started, and that was all.
    let mut events = metrics.lines().filter(|line| line.starts_with("suiyue_health_events_total{"));
    ensure!(events.all(|event| event.contains("\"returned\"")), "it was taken for a sick one: {metrics}");
    Ok(())
}
