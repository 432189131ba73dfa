//! What does it cost when one of a node's two endpoints is sick?
//!
//! The other one carries on, and nobody else could: there is no second tier here.

use crate::scene::{CALLERS, MANY, Outcome, PATIENT_MS, STEADY, Scene, callers, echo};
use anyhow::ensure;
use std::time::Instant;
use suiyue_proto::v1::Health;
use suiyue_tests::{
    federation::{Builder, Federation},
    process::Signal,
    region::GUANGZHOU,
    v1::Faults,
};
use tonic::Code;

/// Of the federation's nodes the sick endpoint.
const SICK: usize = 1;

fn two_endpoints() -> Builder {
    Federation::builder().node(echo("city", GUANGZHOU)).node(echo("city", GUANGZHOU).endpoint(2))
}

/// How an endpoint becomes sick and well again.
#[derive(Clone, Copy)]
enum Ill {
    Killed,
    Hung,
    Arranged(Faults),
}

/// Makes the second endpoint sick until the gateway thinks so, and well until it thinks that. Also
/// returns when it was left.
async fn suffer(fault: &str, ill: Ill) -> anyhow::Result<(Outcome, Instant)> {
    let mut scene = Scene::open(fault, two_endpoints(), callers()).await?;
    let start = match ill {
        Ill::Killed | Ill::Hung => scene.freezes(SICK).await?,
        Ill::Arranged(_) => scene.happens(),
    };
    let sick = &mut scene.federation.nodes[SICK];
    match ill {
        Ill::Killed => sick.process.kill()?,
        Ill::Hung => {}
        Ill::Arranged(faults) => sick.arrange(faults).await?,
    }
    let left = scene
        .watch
        .until("city", "has a sick endpoint", start, |o| {
            o.endpoints.get("city-2").is_none_or(|(health, _)| *health != Health::Ok)
        })
        .await?;
    if matches!(ill, Ill::Killed | Ill::Hung) {
        scene.load.fails_once(1).await?;
    }
    let before = scene.federation.nodes[SICK].executions().begun();
    scene.load.proceeds(STEADY).await?;
    let during = scene.federation.nodes[SICK].executions().begun() - before;
    // What was on its way, and probes; not its half of the calls.
    ensure!(during <= 2 * CALLERS, "{during} calls went to the sick endpoint after it was left");
    let end = Instant::now();
    scene.ends(end);
    let sick = &mut scene.federation.nodes[SICK];
    match ill {
        Ill::Killed => sick.restart().await?,
        Ill::Hung => sick.process.signal(Signal::CONT)?,
        Ill::Arranged(_) => sick.arrange(Faults::default()).await?,
    }
    let returned = scene.endpoint("city", "city-2", end, Health::Ok).await?;
    let row = scene.row();
    (row.left, row.returned) = (Some(left), Some(returned));
    scene.load.reaches("city", STEADY).await?;
    let outcome = scene.finish().await?;
    let other = outcome.watch.offences("city", |opinion| {
        opinion.endpoints.get("city-1").is_none_or(|(health, _)| *health == Health::Ok)
    });
    // It was not checked yet at the very beginning.
    let blamed: Vec<_> = other.iter().filter(|o| o.endpoints["city-1"].0 == Health::Ejected).collect();
    ensure!(blamed.is_empty(), "the well endpoint was ejected: {blamed:?}");
    Ok((outcome, start + left))
}

#[tokio::test]
async fn one_of_two_endpoints_killed_fails_no_replayable_call() -> anyhow::Result<()> {
    let (outcome, _) = suffer("1 of 2 endpoints killed", Ill::Killed).await?;
    outcome.some_ambiguous()?;
    outcome.replayable_all_answered()
}

#[tokio::test]
async fn one_of_two_endpoints_hung_fails_no_replayable_call() -> anyhow::Result<()> {
    let (outcome, _) = suffer("1 of 2 endpoints hung", Ill::Hung).await?;
    outcome.some_ambiguous()?;
    outcome.replayable_all_answered()
}

/// Its health checks go on to pass: what calls say wins. Of the calls that were there a fifth of those
/// in flight may be tried again, no more; the rest gets the node's answer.
#[tokio::test]
async fn one_of_two_endpoints_failing_all_calls_costs_only_what_was_in_flight() -> anyhow::Result<()> {
    let ill = Faults { fail_percent: 100, fail_code: Code::Unavailable.into(), ..Faults::default() };
    let (outcome, left) = suffer("1 of 2 endpoints fails all", Ill::Arranged(ill)).await?;
    outcome.some_ambiguous()?;
    let failed = outcome.row.failed + outcome.row.failed_once;
    ensure!(failed <= CALLERS, "{failed} calls failed, and {CALLERS} were in flight");
    outcome.nobody_failed_after(left)
}

/// What calls say wins over what health checks say: the endpoint may stay or go.
#[tokio::test]
async fn one_of_two_endpoints_not_serving_costs_no_call() -> anyhow::Result<()> {
    let scene =
        Scene::open("1 of 2 endpoints NOT_SERVING", two_endpoints(), callers().timeout_ms(PATIENT_MS))
            .await?;
    let sick = &scene.federation.nodes[SICK];
    sick.arrange(Faults { not_serving: true, ..Faults::default() }).await?;
    scene.load.proceeds(MANY).await?;
    sick.arrange(Faults::default()).await?;
    scene.load.proceeds(STEADY).await?;
    scene.finish().await?.report.flawless()
}
