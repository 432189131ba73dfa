//! How many calls do the nodes see when they fail all of them?
//!
//! A tenth more than were offered, at most: retries must not multiply an outage. Counted at the nodes.

use crate::scene::{CALLERS, Felt, STEADY, city_and_province, executions, fill, nobody_failed_after};
use anyhow::{Context as _, ensure};
use std::time::Instant;
use suiyue_tests::{
    load::{Load, Mix, Report, Wish},
    region::GUANGZHOU,
    table::{Row, remark},
    v1::Faults,
    watch::Watch,
};
use tonic::Code;

/// Calls in flight all the time.
const AT_A_TIME: usize = 2 * CALLERS;
/// Calls offered while the nodes fail.
const OFFERED: u64 = 12_000;

/// These nodes fail all calls while so many are offered; returns what became of them, and when the city
/// was left, if it was.
async fn outage(fault: &str, sick: &[&str]) -> anyhow::Result<(Report, Option<Instant>)> {
    let mut federation = city_and_province().start().await?;
    let watch = Watch::start(federation.gateway(), GUANGZHOU).await?;
    let load: Load = Wish::new(GUANGZHOU, AT_A_TIME, Mix::Replayable).start(&federation.data());
    load.proceeds(STEADY).await?;
    let start = Instant::now();
    let ill = Faults { fail_percent: 100, fail_code: Code::Unavailable.into(), ..Faults::default() };
    for name in sick {
        federation.node(name)?.arrange(ill).await?;
    }
    load.proceeds(OFFERED).await?;
    let report = load.stop().await?;
    let arrived: usize = federation.nodes.iter().map(|node| node.executions().arrived()).sum();
    let offered = report.calls.len();
    let felt = Felt { at: "city", from: Some(start), until: None };
    let mut row = Row { fault: fault.to_owned(), ..Row::default() };
    fill(&mut row, &report, &executions(&federation), felt);
    let opinions = watch.of("city");
    let left = opinions.iter().find(|(at, o)| *at > start && o.share < 0.5).map(|(at, _)| *at);
    row.left = left.map(|left| left - start);
    let end = Instant::now();
    for name in sick {
        federation.node(name)?.arrange(Faults::default()).await?;
    }
    // It ends with the fault: the city answers again.
    let load = Wish::new(GUANGZHOU, CALLERS, Mix::Replayable).start(&federation.data());
    load.reaches("city", STEADY).await?;
    row.returned = Some(end.elapsed());
    load.stop().await?;
    row.print()?;
    let ratio = arrived as f64 / offered as f64;
    remark(&format!("{fault}: {arrived} calls came to the nodes for {offered} offered, {ratio:.3}"))?;
    ensure!(arrived * 10 <= offered * 11, "{arrived} calls came to the nodes for {offered} offered");
    Ok((report, left))
}

#[tokio::test]
async fn a_city_that_fails_everything_gets_a_tenth_more_calls_at_most() -> anyhow::Result<()> {
    let (report, left) = outage("city fails all", &["city"]).await?;
    let failed = report.failed.len();
    ensure!(failed <= AT_A_TIME, "{failed} calls failed, and {AT_A_TIME} were in flight");
    nobody_failed_after(&report, left.context("the city was never left")?)
}

#[tokio::test]
async fn city_and_province_that_fail_everything_get_a_tenth_more_calls_at_most() -> anyhow::Result<()> {
    outage("city and province fail all", &["city", "province"]).await.map(drop)
}
