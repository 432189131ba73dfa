//! Does a hung Xi'an at ten times its rate cost Guangzhou a call?
//!
//! The gateway may have few calls in flight here, far fewer than Xi'an alone would like to have: what
//! keeps Guangzhou's is the ceiling of each region.

use crate::scene::{Felt, STEADY, echo, executions, fill};
use anyhow::ensure;
use std::time::Instant;
use suiyue_tests::{
    federation::Federation,
    history::quantile,
    load::{Mix, Wish},
    process::Signal,
    region::{GUANGZHOU, XIAN},
    table::{Row, remark},
};
use tonic::Code;

/// Guangzhou's calls a second.
const GUANGZHOU_RATE: u32 = 100;
/// Xi'an's usual calls a second; hung, it is asked ten times as often.
const XIAN_RATE: u32 = 50;
/// Calls of Xi'an that end while it hangs.
const HUNG_CALLS: u64 = 4_000;
/// In-flight calls of one of the gateway's two workers: Xi'an would fill them all, for 500 calls a
/// second wait 1.5 s each.
const LIMITS: &str = "[limits]\nin_flight_per_worker = 200";

#[tokio::test]
async fn a_hung_neighbour_at_ten_times_its_rate_costs_no_call() -> anyhow::Result<()> {
    let mut federation = Federation::builder()
        .configure(|gateway| gateway.toml(LIMITS))
        .node(echo("city", GUANGZHOU))
        .node(echo("xian", XIAN))
        .start()
        .await?;
    let data = federation.data();
    let guangzhou = Wish::new(GUANGZHOU, 50, Mix::WithOnce).per_second(GUANGZHOU_RATE).start(&data);
    let usual = Wish::new(XIAN, 50, Mix::WithOnce).per_second(XIAN_RATE).start(&data);
    let start = Instant::now();
    guangzhou.proceeds(STEADY).await?;
    let fault = Instant::now();
    federation.node("xian")?.process.freeze().await?;
    let more = Wish::new(XIAN, 1_000, Mix::WithOnce).per_second(9 * XIAN_RATE).start(&data);
    more.proceeds(HUNG_CALLS).await?;
    let end = Instant::now();
    federation.node("xian")?.process.signal(Signal::CONT)?;
    more.stop().await?;
    usual.reaches("xian", 50).await?;
    let xian = usual.stop().await?;
    let report = guangzhou.stop().await?;

    let felt = Felt { at: "xian", from: Some(fault), until: Some(end) };
    let mut row = Row { fault: "Xi'an hung, Guangzhou's calls".to_owned(), ..Row::default() };
    fill(&mut row, &report, &executions(&federation), felt);
    row.print()?;
    let p99 = |from, until| quantile(&report.calls, 0.99, from, until).as_secs_f64() * 1e3;
    let p50 = |from, until| quantile(&report.calls, 0.50, from, until).as_secs_f64() * 1e3;
    remark(&format!(
        "Guangzhou beside a hung Xi'an at 10 x its rate: p50 {:.1} -> {:.1} ms, p99 {:.1} -> {:.1} ms",
        p50(start, fault),
        p50(fault, end),
        p99(start, fault),
        p99(fault, end),
    ))?;
    ensure!(row.doubled == 0, "{} calls were executed twice", row.doubled);
    ensure!(xian.calls.iter().any(|call| call.code != Some(Code::Ok)), "Xi'an did not hang");
    report.flawless()
}
