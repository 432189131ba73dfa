//! What does the sudden death of a node cost?
//!
//! Nothing that may be sent again, and never a second execution of what must not be.

use anyhow::ensure;
use std::collections::HashMap;
use suiyue_tests::{
    eventually::eventually,
    federation::Federation,
    load::{Load, Mix, Report},
    node::{self, Node},
    region::{GUANGDONG, GUANGZHOU},
};

/// How long a handler takes.
const HANDLER_MS: u32 = 50;
/// Calls in flight all the time.
const CALLERS: usize = 64;
/// How often a node is killed.
const KILLS: usize = 20;
/// Calls that must be in flight when a node is killed.
const IN_FLIGHT: usize = 40;

fn slow(name: &str, region: u32) -> node::Builder {
    Node::echo(name, region).delay_ms(HANDLER_MS)
}

/// Kills the nodes in turn under load, each time with enough calls in flight, and each comes back.
async fn kill_in_turn(federation: &mut Federation) -> anyhow::Result<(Report, Vec<usize>)> {
    let load = Load::start(&federation.data(), GUANGZHOU, CALLERS, Mix::WithOnce);
    let mut taken = Vec::new();
    for kill in 0..KILLS {
        let victim = kill % federation.nodes.len();
        load.proceeds(CALLERS as u64).await?;
        eventually("enough calls are in flight", async || {
            ensure!(load.in_flight() >= IN_FLIGHT, "{}", load.in_flight());
            Ok(())
        })
        .await?;
        let before = federation.nodes[victim].executions().unfinished();
        federation.nodes[victim].process.kill()?;
        assert!(load.in_flight() >= IN_FLIGHT, "kill {kill}: only {} calls were in flight", load.in_flight());
        // What it had begun and will never end; earlier lives left theirs.
        taken.push(federation.nodes[victim].executions().unfinished().saturating_sub(before));
        load.proceeds(CALLERS as u64).await?;
        federation.nodes[victim].restart().await?;
        federation.settled().await?;
    }
    Ok((load.stop().await?, taken))
}

/// What must hold after the deaths.
fn check(federation: &Federation, report: &Report) {
    let some = &report.failed[..report.failed.len().min(5)];
    assert_eq!(report.failed.len(), 0, "replayable calls failed, of {} that did not: {some:#?}", report.ok);
    assert!(report.retried > 0, "no call was retried: {:?}", report.served_by);
    let mut counts = HashMap::new();
    for node in &federation.nodes {
        node.executions().count_into(&mut counts);
    }
    let twice: Vec<_> = report.once.iter().filter(|call| counts.get(*call).is_some_and(|&n| n > 1)).collect();
    assert!(twice.is_empty(), "executed more than once: {twice:?}");
    assert!(report.once.iter().any(|call| counts.contains_key(call)), "no call was to be executed once");
}

#[tokio::test]
async fn twenty_deaths_of_city_and_province_fail_no_replayable_call() -> anyhow::Result<()> {
    let mut federation = Federation::builder()
        .etcd()
        .node(slow("city", GUANGZHOU))
        .node(slow("province", GUANGDONG).scopes(&[GUANGZHOU]))
        .start()
        .await?;
    let (report, _) = kill_in_turn(&mut federation).await?;
    check(&federation, &report);
    assert!(report.served_by.keys().eq(["city", "province"]), "{:?}", report.served_by);
    Ok(())
}

/// Both carry calls all the time, so that every death takes some with it.
#[tokio::test]
async fn twenty_deaths_of_siblings_fail_no_replayable_call() -> anyhow::Result<()> {
    let mut federation = Federation::builder()
        .etcd()
        .node(slow("left", GUANGZHOU))
        .node(slow("right", GUANGZHOU))
        .start()
        .await?;
    let (report, _) = kill_in_turn(&mut federation).await?;
    check(&federation, &report);
    assert!(report.served_by.keys().eq(["left", "right"]), "{:?}", report.served_by);
    Ok(())
}
