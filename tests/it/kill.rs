//! What does the sudden death of a node cost?
//!
//! Nothing that may be sent again, and never a second execution of what must not be.

use anyhow::bail;
use std::collections::HashMap;
use suiyue_tests::{
    eventually::eventually,
    federation::Federation,
    load::{Load, Mix, Report},
    node::{self, Node},
    process::Signal,
    region::{GUANGDONG, GUANGZHOU},
};

/// How long a handler takes.
const HANDLER_MS: u32 = 50;
/// Calls in flight all the time where one node carries them.
const CALLERS: usize = 64;
/// How often a node is killed.
const KILLS: usize = 20;
/// Calls that must be in flight when a node is killed.
const IN_FLIGHT: usize = 40;

fn slow(name: &str, region: u32) -> node::Builder {
    Node::echo(name, region).delay_ms(HANDLER_MS)
}

/// Kills the nodes in turn under load, each time with enough calls in flight, and each comes back.
/// Calls that each victim was executing must be `at_victim` at least.
async fn kill_in_turn(
    federation: &mut Federation,
    callers: usize,
    at_victim: usize,
) -> anyhow::Result<Report> {
    let load = Load::start(&federation.data(), GUANGZHOU, callers, Mix::WithOnce);
    for kill in 0..KILLS {
        let victim = kill % federation.nodes.len();
        load.proceeds(callers as u64).await?;
        let in_flight = caught(&federation.nodes[victim], &load, at_victim).await?;
        federation.nodes[victim].process.kill()?;
        assert!(in_flight >= IN_FLIGHT, "kill {kill}: only {in_flight} calls were in flight");
        federation.nodes[victim].left_behind = federation.nodes[victim].executions().unfinished();
        load.proceeds(callers as u64).await?;
        federation.nodes[victim].restart().await?;
        federation.settled().await?;
    }
    load.stop().await
}

/// Freezes the victim at a moment with enough calls in flight, also at the victim itself. Returns how
/// many were in flight altogether.
async fn caught(victim: &Node, load: &Load, at_victim: usize) -> anyhow::Result<usize> {
    eventually("enough calls are in flight", async || {
        victim.process.freeze().await?;
        let in_flight = load.in_flight();
        // Earlier lives left executions that will never end.
        let executing = victim.executions().unfinished() - victim.left_behind;
        if executing < at_victim || in_flight < IN_FLIGHT {
            victim.process.signal(Signal::CONT)?;
            bail!("{executing} at the victim, {in_flight} in all");
        }
        Ok(in_flight)
    })
    .await
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
    let report = kill_in_turn(&mut federation, CALLERS, 0).await?;
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
    let report = kill_in_turn(&mut federation, 2 * CALLERS, IN_FLIGHT).await?;
    check(&federation, &report);
    assert!(report.served_by.keys().eq(["left", "right"]), "{:?}", report.served_by);
    Ok(())
}
