//! What does it cost when a node says that it has enough?
//!
//! A refusal is no failure: the node keeps its place, its calls are not thrown at its equals, and what
//! is refused may go one tier further, within the budget.

use crate::scene::{CALLERS, STEADY, Scene, callers, city_and_province, echo};
use anyhow::ensure;
use suiyue_tests::{
    load::{Mix, Wish},
    region::GUANGZHOU,
    v1::Faults,
};
use tonic::Code;

/// A city of two equal nodes: no call that one refused may come to the other.
#[tokio::test]
async fn a_refusing_city_is_not_ejected_and_its_calls_go_to_another_tier_only() -> anyhow::Result<()> {
    let federation = city_and_province().node(echo("sibling", GUANGZHOU));
    let mut scene = Scene::open("city refuses all", federation, callers()).await?;
    let full = Faults { fail_percent: 100, fail_code: Code::ResourceExhausted.into(), ..Faults::default() };
    scene.arrange("city", full).await?;
    scene.load.reaches("sibling", STEADY).await?;
    scene.load.proceeds(2 * STEADY).await?;
    scene.arrange("city", Faults::default()).await?;
    scene.load.reaches("city", STEADY).await?;
    let mut outcome = scene.finish().await?;
    outcome.never_ejected("city")?;
    outcome.never_ejected("sibling")?;
    let refused = outcome.federation.node("city")?.executions().refused();
    ensure!(!refused.is_empty(), "the city refused nothing");
    // On a busy machine some move for another reason: their time for one try is over.
    let again = outcome.report.calls.iter().filter(|call| call.attempt > 1);
    let moved: Vec<_> = again.filter(|call| refused.contains(&call.call_id)).collect();
    ensure!(!moved.is_empty(), "no refused call was helped by the province");
    let wrong: Vec<_> = moved.iter().filter(|call| call.is_ok() && call.tier != Some(1)).collect();
    ensure!(
        wrong.is_empty(),
        "{} of {} went to the same tier: {:?}",
        wrong.len(),
        moved.len(),
        wrong.first()
    );
    // What came to the nodes is the calls and the budget's tenth.
    let arrived: usize = outcome.federation.nodes.iter().map(|n| n.executions().arrived()).sum();
    let xian = outcome.federation.node("xian")?.executions().arrived();
    let offered = outcome.report.calls.len();
    ensure!(
        (arrived - xian) * 10 <= offered * 11,
        "{} came to the nodes for {offered} calls",
        arrived - xian
    );
    Ok(())
}

/// "Come back in a second" is for the caller: the gateway passes it on and tries nobody else.
#[tokio::test]
async fn unavailable_with_pushback_is_passed_on_and_ejects_nobody() -> anyhow::Result<()> {
    let wish = Wish::new(GUANGZHOU, CALLERS, Mix::Replayable);
    let mut scene = Scene::open("city UNAVAILABLE + pushback", city_and_province(), wish).await?;
    let ill = Faults {
        fail_percent: 50,
        fail_code: Code::Unavailable.into(),
        pushback_ms: Some(1_000),
        ..Faults::default()
    };
    scene.arrange("city", ill).await?;
    scene.load.proceeds(2 * STEADY).await?;
    scene.arrange("city", Faults::default()).await?;
    scene.load.reaches("city", STEADY).await?;
    let outcome = scene.finish().await?;
    outcome.never_ejected("city")?;
    ensure!(outcome.row.failed > 0, "nothing was passed on");
    let again: Vec<_> = outcome.report.calls.iter().filter(|call| call.attempt > 1).collect();
    ensure!(again.is_empty(), "{} calls were tried again: {:?}", again.len(), again.first());
    Ok(())
}
