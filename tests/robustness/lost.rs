//! What does it cost when a city's node is gone without a word?
//!
//! Killed, hung, or there and silent: nothing that may be sent again, and never a second execution of
//! what must not be.

use crate::scene::{STEADY, Scene, callers, city_and_province};
use std::time::Instant;
use suiyue_tests::{process::Signal, v1::Faults};

/// Of the federation's nodes the city.
const CITY: usize = 0;

#[tokio::test]
async fn a_killed_city_fails_no_replayable_call() -> anyhow::Result<()> {
    let mut scene = Scene::open("city killed", city_and_province(), callers()).await?;
    let fault = scene.freezes(CITY).await?;
    scene.node("city")?.process.kill()?;
    scene.leaves("city", fault).await?;
    scene.load.reaches("province", STEADY).await?;
    let end = Instant::now();
    scene.node("city")?.restart().await?;
    scene.returns("city", end).await?;
    let outcome = scene.finish().await?;
    outcome.some_ambiguous()?;
    outcome.replayable_all_answered()
}

#[tokio::test]
async fn a_hung_city_fails_no_replayable_call() -> anyhow::Result<()> {
    let mut scene = Scene::open("city hung", city_and_province(), callers()).await?;
    let fault = scene.freezes(CITY).await?;
    scene.leaves("city", fault).await?;
    scene.load.reaches("province", STEADY).await?;
    // It hangs until the last caller who waits for it has given up.
    scene.load.fails_once(1).await?;
    let end = Instant::now();
    scene.node("city")?.process.signal(Signal::CONT)?;
    scene.returns("city", end).await?;
    let outcome = scene.finish().await?;
    outcome.some_ambiguous()?;
    outcome.replayable_all_answered()
}

/// Its old connections are cut; new ones are accepted, and nothing ever comes back on them.
#[tokio::test]
async fn a_city_that_accepts_and_is_silent_fails_no_replayable_call() -> anyhow::Result<()> {
    let mut scene = Scene::open("city accepts, silent", city_and_province(), callers()).await?;
    let fault = scene.arrange("city", Faults { silent: true, ..Faults::default() }).await?;
    scene.leaves("city", fault).await?;
    scene.load.reaches("province", STEADY).await?;
    let end = scene.arrange("city", Faults::default()).await?;
    scene.returns("city", end).await?;
    let outcome = scene.finish().await?;
    outcome.some_ambiguous()?;
    outcome.replayable_all_answered()
}

/// It executes every tenth call and then cuts the connection, before the answer or within it, and with
/// it the calls of others on that connection.
async fn cut(fault: &str, within: bool) -> anyhow::Result<()> {
    let mut scene = Scene::open(fault, city_and_province(), callers()).await?;
    let cut = Faults { cut_percent: 10, cut_in_the_middle: within, ..Faults::default() };
    let fault = scene.arrange("city", cut).await?;
    scene.leaves("city", fault).await?;
    scene.load.reaches("province", STEADY).await?;
    let end = scene.arrange("city", Faults::default()).await?;
    scene.returns("city", end).await?;
    let outcome = scene.finish().await?;
    outcome.some_ambiguous()?;
    outcome.replayable_all_answered()
}

#[tokio::test]
async fn a_city_that_executes_and_cuts_before_the_answer_fails_no_replayable_call() -> anyhow::Result<()> {
    cut("city executes, cuts before answer", false).await
}

#[tokio::test]
async fn a_city_that_executes_and_cuts_within_the_answer_fails_no_replayable_call() -> anyhow::Result<()> {
    cut("city executes, cuts within answer", true).await
}
