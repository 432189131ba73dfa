//! How many calls do the nodes see when they fail all of them?
//!
//! A tenth more than were offered, at most: retries must not multiply an outage. Counted at the nodes.

use crate::scene::{CALLERS, STEADY, city_and_province, executions, fill};
use anyhow::ensure;
use std::time::Instant;
use suiyue_tests::{
    load::{Load, Mix, Report, Wish},
    region::GUANGZHOU,
    table::{Row, remark},
    v1::Faults,
    watch::Watch,
};
use tonic::Code;

/// Calls offered while the nodes fail.
const OFFERED: u64 = 12_000;

/// These nodes fail all calls while so many are offered; returns what became of them.
async fn outage(fault: &str, sick: &[&str]) -> anyhow::Result<Report> {
    let mut federation = city_and_province().start().await?;
    let watch = Watch::start(federation.gateway(), GUANGZHOU).await?;
    let ill = Faults { fail_percent: 100, fail_code: Code::Unavailable.into(), ..Faults::default() };
    for name in sick {
        federation.node(name)?.arrange(ill).await?;
    }
    let start = Instant::now();
    let load: Load = Wish::new(GUANGZHOU, 2 * CALLERS, Mix::Replayable).start(&federation.data());
    load.proceeds(OFFERED).await?;
    let report = load.stop().await?;
    let arrived: usize = federation.nodes.iter().map(|node| node.executions().arrived()).sum();
    let offered = report.calls.len();
    let mut row = Row { fault: fault.to_owned(), ..Row::default() };
    fill(&mut row, &report, &executions(&federation));
    let opinions = watch.of("city");
    row.left = opinions.iter().find(|(at, o)| *at > start && o.share < 0.5).map(|(at, _)| *at - start);
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
    Ok(report)
}

#[tokio::test]
async fn a_city_that_fails_everything_gets_a_tenth_more_calls_at_most() -> anyhow::Result<()> {
    let report = outage("city fails all", &["city"]).await?;
    let failed = report.failed.len();
    ensure!(
        failed == 0,
        "{failed} replayable calls failed with a well province: {:?}",
        report.failed.first()
    );
    Ok(())
}

#[tokio::test]
async fn city_and_province_that_fail_everything_get_a_tenth_more_calls_at_most() -> anyhow::Result<()> {
    outage("city and province fail all", &["city", "province"]).await?;
    Ok(())
}
